"""Network, token, what it may read, and clock: each by a call that changes nothing."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from mcp_backups.api import Network, VpsClient
from mcp_backups.clock import Clock
from mcp_backups.commands.doctor.finding import Finding, Severity
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    BackupsError,
    ConfigError,
    ForbiddenError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
    UpstreamTimeoutError,
)
from mcp_backups.models import Account, Listing, Row
from mcp_backups.settings import Settings

CLOCK_WARNING, CLOCK_FAILURE = timedelta(seconds=60), timedelta(minutes=5)
"""How far the clock may be off before that is said, and before ages and budgets can no longer be trusted."""

_MOST_PERMISSIONS = 12

_MEND_NETWORK: dict[type[BackupsError], str] = {
    ConfigError: "Check VPS_API_URL and VPS_API_PROXY, and this machine's clock and certificates; a company's own is"
    " named in VPS_API_CA_FILE.",
    ProtocolError: "Check VPS_API_URL, and whether VPS.org is under maintenance.",
    UnavailableError: "Check VPS_API_URL and this machine's network and firewall; a proxy is named in VPS_API_PROXY.",
}

_POINTLESS = (AuthFailedError, ConfigError, RateLimitedError, UnavailableError, UpstreamTimeoutError)
"""After these the lists would say the same, later."""

_T = TypeVar("_T")


async def examine_account(settings: Settings, clock: Clock, connect: Callable[..., VpsClient]) -> list[Finding]:
    """Whether VPS.org can be reached, what the token may read, and whether the clocks agree."""
    if settings.vps_api_token is None:
        return _without_token()
    async with connect(
        settings.vps_api_url,
        settings.vps_api_token,
        clock=clock,
        network=Network(settings.vps_api_ca_file, settings.vps_api_proxy),
    ) as api:
        account = await _asked(api.account)
        if isinstance(account, _POINTLESS):
            return [_network(settings, account), _token(account), _clock(api.clock_offset)]
        backups, servers = await _asked(api.list_backups), await _asked(api.list_servers)
    answer = next((each for each in (account, backups, servers) if not isinstance(each, Exception)), account)
    return [
        _network(settings, answer),
        _token(account, works=isinstance(backups, Listing)),
        _list("backups", backups, "Without them nothing can be told or done."),
        _list("servers", servers, "Without them no server without a backup is seen, and no check is sure."),
        _clock(api.clock_offset),
    ]


async def _asked(call: Callable[[], Awaitable[_T]]) -> _T | ApiError | ConfigError:
    try:
        return await call()
    except (ApiError, ConfigError) as error:
        return error


def _without_token() -> list[Finding]:
    todo = "Make a token on VPS.org's developer page, and set VPS_API_TOKEN or VPS_API_TOKEN_FILE."
    return [
        Finding("network", "warning", "VPS.org was not asked: nothing is sent without a token.", "Set a token first."),
        Finding("token", "failure", "None is set. The server starts without one, but every call fails.", todo),
    ]


def _network(settings: Settings, answer: object) -> Finding:
    if isinstance(answer, RateLimitedError):
        return Finding("network", "warning", answer.what, answer.next_step)
    if isinstance(answer, BackupsError) and not isinstance(answer, AuthFailedError | ForbiddenError):
        todo = _MEND_NETWORK.get(type(answer), "Try again in a few minutes.")
        return Finding("network", "failure", answer.what, todo)
    trusted = ", and its certificate is trusted" if settings.vps_api_url.startswith("https:") else ""
    through = " through the proxy" if trusted and settings.vps_api_proxy else ""
    return Finding("network", "ok", f"{settings.vps_api_url} answers{through}{trusted}.")


def _token(answer: Account | ApiError | ConfigError, *, works: bool = False) -> Finding:
    """The permissions are told as they are: what they cover is known to VPS.org alone."""
    if isinstance(answer, Account):
        named = ", ".join(answer.permissions[:_MOST_PERMISSIONS]) or "none"
        more = len(answer.permissions) - _MOST_PERMISSIONS
        what = f"'{answer.token_name}' is valid; its permissions: {named}{f' and {more} more' if more > 0 else ''}."
        return Finding("token", "ok", what, details=("Whether it may change anything is known once that is tried.",))
    if works:
        return Finding(
            "token", "warning", f"It works, but its permissions are not known. {answer.what}", "None is needed."
        )
    if isinstance(answer, AuthFailedError | ForbiddenError):
        todo = "Make a new token on VPS.org's developer page, and set it."
        return Finding("token", "failure", answer.what, todo, _said(answer))
    return Finding("token", "warning", "It could not be checked.", "Mend the network first.")


def _list(noun: str, answer: Listing[Row] | ApiError | ConfigError, purpose: str) -> Finding:
    if isinstance(answer, RateLimitedError):
        return Finding(noun, "warning", answer.what, answer.next_step)
    if isinstance(answer, ApiError | ConfigError):
        return Finding(noun, "failure", f"{answer.what} {purpose}", answer.next_step, _said(answer))
    if answer.complete:
        return Finding(noun, "ok", f"All {len(answer.rows)} can be read.")
    todo = "Try again; if it stays so, ask VPS.org about them."
    return Finding(noun, "warning", f"{len(answer.rows)} can be read, but not all.", todo, answer.missing)


def _said(error: BackupsError) -> tuple[str, ...]:
    return (f'VPS.org said: "{error.said}"',) if error.said else ()


def _clock(offset: timedelta | None) -> Finding:
    if offset is None:
        return Finding("clock", "warning", "VPS.org told no time to compare it with.", "Mend the network first.")
    seconds = round(abs(offset).total_seconds())
    if abs(offset) <= CLOCK_WARNING:
        return Finding("clock", "ok", f"Within {max(seconds, 1)} s of VPS.org's.")
    what = f"It is {seconds} s {'behind' if offset > timedelta(0) else 'ahead of'} VPS.org's."
    verdict: Severity = "failure" if abs(offset) > CLOCK_FAILURE else "warning"
    return Finding("clock", verdict, what, "Set this machine's clock: ages, plans and budgets are reckoned by it.")
