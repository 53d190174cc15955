"""How many writes are allowed within an hour or a day. Pure: each check passes, or raises the refusal."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from mcp_backups.clock import Moment
from mcp_backups.errors import BudgetExhaustedError, PolicyDeniedError
from mcp_backups.operations.operation import ActionName, Budget, Operation, RestoreDetails
from mcp_backups.settings import Settings
from mcp_backups.text import duration, plural, stamp_after

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

_NOUNS = {"create_backup": "new backup", "delete_backup": "delete", "restore_server": "restore"}


def check_budget(settings: Settings, action: ActionName, sent: Sequence[Moment], now: Moment) -> None:
    """Whether one more is within the budget.

    Args:
        settings: The budgets.
        action: What is about to be done.
        sent: When those that count were sent, newest first; for a restore those of its server.
        now: By both clocks, so that no clock step gives a new budget.

    Raises:
        BudgetExhaustedError: It is not; names the budget that is used up for longest, and says until when.
    """
    noun, limits = _NOUNS[action], _limits(settings, action)
    least, _ = min(limits)
    if not least:
        raise BudgetExhaustedError(f"There is no budget for a {noun} here.", PolicyDeniedError.advice)
    used_up = []
    for most, window in limits:
        recent = [moment for moment in sent if moment.within(window, now)]
        if len(recent) >= most:
            used_up.append((recent[most - 1].left(window, now), most, window))
    if used_up:
        left, most, window = max(used_up)
        wait = max(left, timedelta(minutes=1))
        of_what = f"{plural(most, noun)}{' of a server' if action == 'restore_server' else ''}"
        soon = f"in {duration(wait)}, "
        raise BudgetExhaustedError(
            f"The budget of {of_what} within {'an hour' if window == HOUR else '24 h'} is used up.",
            f"The next is possible {soon}at {stamp_after(now.latest + wait)}; tell the user.",
            fleeting=soon,
        )


def budget_after(settings: Settings, action: ActionName, many: int, sent: Sequence[Moment], now: Moment) -> Budget:
    """What the budget allows once so many more are sent now; as `check_budget`."""
    sent = [*[now] * many, *sent]
    left, waits = [], [timedelta(0)]
    for most, window in _limits(settings, action):
        recent = [moment for moment in sent if moment.within(window, now)]
        left.append(most - len(recent))
        if most and len(recent) >= most:
            waits.append(recent[most - 1].left(window, now))
    is_used_up = min(left) <= 0
    return Budget(left=max(0, min(left)), more_from=now.latest + max(waits) if is_used_up and len(waits) > 1 else None)


def in_words(budget: Budget, noun: str) -> str:
    """What the budget allows after a plan, as a clause; that of restores is each server's own."""
    whose = " of this server" if noun == "restore" else ""
    if budget.left:
        return f"after this, {plural(budget.left, f'more {noun}')}{whose} may be sent now"
    if not budget.more_from:
        return ""
    return f"after this, no more {noun}s{whose} may be sent before {stamp_after(budget.more_from)}"


def _limits(settings: Settings, action: ActionName) -> list[tuple[int, timedelta]]:
    """The most within each window."""
    return {
        "create_backup": [(settings.creates_per_hour, HOUR)],
        "restore_server": [(settings.restores_per_hour, HOUR)],
        "delete_backup": [(settings.deletes_per_hour, HOUR), (settings.deletes_per_day, DAY)],
    }[action]


def taken_back(backup_id: int, before: Sequence[Operation]) -> Operation | None:
    """The restore that restoring this backup takes back, outside the budget; None if it is an ordinary restore.

    That is the server's last one, once: not one that took back another itself.

    Args:
        backup_id: What would be restored.
        before: The server's restores that took effect, or may have, newest first.
    """
    if not before or not _leads_back(backup_id, before[0]):
        return None
    return None if len(before) > 1 and _leads_back(before[0].backup_id, before[1]) else before[0]


def charged(restores: Sequence[Operation]) -> list[Operation]:
    """Those of a server's restores, newest first, that count."""
    return [each for number, each in enumerate(restores) if not taken_back(each.backup_id, restores[number + 1 :])]


def _leads_back(backup_id: int, restore: Operation) -> bool:
    return 0 < backup_id == restore.of(RestoreDetails).undo_backup_id


def undo_allowed_from(settings: Settings, restores: Sequence[Operation], undo: int, now: Moment) -> datetime | None:
    """When the budget allows to take back a server's last restore; None if it does at once.

    Args:
        settings: The budgets.
        restores: The server's restores that took effect, or may have, newest first.
        undo: The backup that takes it back.
        now: By both clocks.
    """
    if taken_back(undo, restores):
        return None
    sent = [each.sent for each in charged(restores) if each.sent]
    return budget_after(settings, "restore_server", 0, sent, now).more_from
