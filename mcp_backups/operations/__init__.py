"""Every write goes through here: plan, consent, intent, outcome."""
