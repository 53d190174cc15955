"""Network, token and clock, all from one request that any live token may make."""

from collections.abc import Callable
from datetime import timedelta

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock
from mcp_backups.doctor.finding import Finding, Verdict
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    BackupsError,
    ConfigError,
    ForbiddenError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
)
from mcp_backups.models import Account
from mcp_backups.settings import Settings

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=60), timedelta(minutes=5)
"""How far the clock may be off before that is said, and before ages and budgets can no longer be trusted."""

_MOST_PERMISSIONS = 12

_NEEDS = (
    ("backups", ("read",), "list and check backups", False),
    ("backups", ("write",), "create, delete or prune backups", True),
    ("servers", ("read",), "see servers that have no backup at all", False),
    ("servers", ("restore", "write"), "restore a server", True),
)
"""Resource, the actions of which one is needed, what for, and whether that changes something."""

_MEND_NETWORK: dict[type[BackupsError], str] = {
    ConfigError: "Check VPS_API_URL, and the certificates and the clock of this machine.",
    ProtocolError: "Check VPS_API_URL, and whether VPS.org is under maintenance.",
    UnavailableError: "Check VPS_API_URL and this machine's network and firewall; proxy variables are not followed.",
}

Answer = Account | ApiError | ConfigError


async def examine_account(settings: Settings, clock: Clock, connect: Callable[..., VpsClient]) -> list[Finding]:
    """Whether VPS.org can be reached, what the token may do, and whether the clocks agree."""
    if settings.vps_api_token is None:
        return _without_token()
    async with connect(settings.vps_api_url, settings.vps_api_token, clock=clock) as api:
        try:
            answer: Answer = await api.account()
        except (ApiError, ConfigError) as error:
            answer = error
    return [_network(settings, answer), _token(answer, read_only=settings.read_only), _clock(api.clock_offset)]


def _without_token() -> list[Finding]:
    todo = "Make a token on VPS.org's developer page, and set VPS_API_TOKEN or VPS_API_TOKEN_FILE."
    return [
        Finding("network", "warning", "VPS.org was not asked: nothing is sent without a token.", "Set a token first."),
        Finding("token", "failure", "None is set. The server starts without one, but every call fails.", todo),
    ]


def _network(settings: Settings, answer: Answer) -> Finding:
    if isinstance(answer, RateLimitedError):
        return Finding("network", "warning", answer.what, answer.next_step)
    if isinstance(answer, Account | AuthFailedError | ForbiddenError):
        trusted = ", and its certificate is trusted" if settings.vps_api_url.startswith("https:") else ""
        return Finding("network", "ok", f"{settings.vps_api_url} answers{trusted}.")
    return Finding("network", "failure", answer.what, _MEND_NETWORK.get(type(answer), "Try again in a few minutes."))


def _token(answer: Answer, *, read_only: bool) -> Finding:
    if isinstance(answer, AuthFailedError | ForbiddenError):
        return Finding("token", "failure", answer.what, "Make a new token on VPS.org's developer page, and set it.")
    if not isinstance(answer, Account):
        return Finding("token", "warning", "It could not be checked.", "Mend the network first.")
    named = ", ".join(answer.permissions[:_MOST_PERMISSIONS]) or "none"
    more = len(answer.permissions) - _MOST_PERMISSIONS
    what = f"'{answer.token_name}' is valid; its permissions: {named}{f' and {more} more' if more > 0 else ''}."
    lacks = [need for need in _NEEDS if not (need[3] and read_only) and not _may(answer.permissions, *need[:2])]
    details = tuple(f"lacks {resource}:{actions[0]}, to {purpose}" for resource, actions, purpose, _ in lacks)
    if not lacks:
        return Finding("token", "ok", what)
    verdict: Verdict = "failure" if lacks[0] is _NEEDS[0] else "warning"
    return Finding("token", verdict, what, "Give the token what it lacks, if that is wanted of it.", details)


def _may(permissions: tuple[str, ...], resource: str, actions: tuple[str, ...]) -> bool:
    """Whether one of the permissions (`resource:action`, either may be `*`) covers one of the actions."""
    pairs = [permission.partition(":") for permission in permissions]
    return any(kind in {"*", resource} and action in {"*", *actions} for kind, _, action in pairs)


def _clock(offset: timedelta | None) -> Finding:
    if offset is None:
        return Finding("clock", "warning", "VPS.org told no time to compare it with.", "Mend the network first.")
    seconds = round(abs(offset).total_seconds())
    if abs(offset) <= CLOCK_WARNING:
        return Finding("clock", "ok", f"Within {max(seconds, 1)} s of VPS.org's.")
    what = f"It is {seconds} s {'behind' if offset > timedelta(0) else 'ahead of'} VPS.org's."
    verdict: Verdict = "failure" if abs(offset) > CLOCK_FAILURE else "warning"
    return Finding("clock", verdict, what, "Set this machine's clock: ages, plans and budgets are reckoned by it.")
