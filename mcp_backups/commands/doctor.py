"""`mcp-backups doctor`: what is set, whether it works, and what to do where it does not. Changes nothing."""

import json
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar, get_args

import anyio

from mcp_backups import __version__
from mcp_backups.api import Connect, VpsClient, client_for
from mcp_backups.clock import Clock, system_clock
from mcp_backups.commands.demo.script import server_session
from mcp_backups.commands.demo.step import DemoError
from mcp_backups.commands.terminal import ACCENT, open_console, printable
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    BackupsError,
    BusyError,
    ConfigError,
    ForbiddenError,
    LedgerLostError,
    LedgerUnavailableError,
    ProtocolError,
    RateLimitedError,
    UnavailableError,
    UpstreamTimeoutError,
)
from mcp_backups.ledger import Ledger, ledger_for
from mcp_backups.models import Account, Listing, Row
from mcp_backups.notify import check_addresses
from mcp_backups.operations.limits import frozen
from mcp_backups.operations.operation import OPEN, UNSETTLED, Operation
from mcp_backups.settings import Approval, Settings, config_path, load_settings, setting_name
from mcp_backups.text import plural, quoted, stamp
from mcp_backups.tools import TOOLS

Severity = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        todo: What to do about it; empty when it is ok.
        details: More lines about it.
    """

    part: str
    verdict: Severity
    what: str
    todo: str = ""
    details: tuple[str, ...] = ()


_WRONG_SETTINGS = 2
_STYLES: dict[Severity, str] = {"ok": "", "warning": ACCENT, "failure": "bold red"}
_INDENT = " " * 19


def doctor(
    *,
    as_json: bool,
    account: str = "",
    clock: Clock | None = None,
    connect: Connect = VpsClient,
    command: tuple[str, ...] = (),
) -> int:
    """Print what was found. Returns the exit code: 0 nothing is broken, 1 something is, 2 wrong settings.

    Args:
        as_json: Print one JSON object.
        account: Which of several.
        clock: Where time comes from; the machine's if none is given.
        connect: Makes the API's client, from its address, token and clock.
        command: The MCP server to test; by default this program on its sandbox.
    """
    try:
        settings = load_settings().for_account(account)
    except ConfigError as error:
        _report([Finding("settings", "failure", error.what, "Correct it; nothing else was checked.")], as_json=as_json)
        return _WRONG_SETTINGS
    findings = anyio.run(_examine, settings, clock or system_clock(), connect, command)
    _report(findings, as_json=as_json)
    return 1 if any(finding.verdict == "failure" for finding in findings) else 0


async def _examine(settings: Settings, clock: Clock, connect: Connect, command: tuple[str, ...]) -> list[Finding]:
    return [
        examine_settings(settings),
        examine_approval(settings),
        *await examine_account(settings, clock, connect),
        await examine_ledger(settings, clock),
        await examine_server(command),
    ]


def _report(findings: list[Finding], *, as_json: bool) -> None:
    about = {"mcp-backups": __version__, "python": platform.python_version(), "system": platform.system()}
    if as_json:
        worst = max((finding.verdict for finding in findings), key=list(_STYLES).index)
        told = {"verdict": worst, "about": about, "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    console = open_console()
    console.print(", ".join(f"{name} {version}" for name, version in about.items()), soft_wrap=True)
    for finding in findings:
        for line in _lines(finding):
            console.print(line, style=_STYLES[finding.verdict], soft_wrap=True)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.verdict:<8} {finding.part:<9} {finding.what}"
    yield from (_INDENT + detail for detail in finding.details)
    if finding.todo:
        yield f"{_INDENT}-> {finding.todo}"


# Settings and ledger: what is on this machine

_ACCEPT = "Look for the missing part, and put it back if you can; else `mcp-backups ledger accept` goes on without it."

_BEGIN_ANEW = (
    "If a file of it was lost or exchanged, put that back. Else keep a copy of it as evidence, move it away, and say"
    " `mcp-backups ledger accept` to begin a new one; until then nothing is changed."
)

_OPEN_IT = (
    "See to it that this user may write there, and that the disk is not full. If it still cannot be opened, it is"
    " damaged: keep a copy of it as evidence, move it away, and say `mcp-backups ledger accept` to begin a new one."
)


def examine_settings(settings: Settings) -> Finding:
    """Each setting that is not at its default, with where it comes from; a secret is only said to be set."""
    sources = {name: _source(settings, name) for name in Settings.model_fields}
    details = tuple(
        f"{setting_name((name,))} = {_shown(getattr(settings, name))} ({source})"
        for name, source in sources.items()
        if source != "default"
    )
    file = config_path()
    origin = f"settings file {printable(str(file))}" if file else "no settings file"
    return Finding("settings", "ok", f"{len(details)} of {len(sources)} set; {origin}.", details=details)


def _source(settings: Settings, name: str) -> str:
    if name == "vps_api_token" and (settings.vps_api_token_file or settings.account):
        return "token file"
    if setting_name((name,)) in {each.upper() for each, value in os.environ.items() if value}:
        return "environment"
    return "settings file" if name in settings.model_fields_set else "default"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} set"  # each is a secret
    if isinstance(value, frozenset | dict):
        return ", ".join(str(each) for each in sorted(value))
    return printable(str(value).lower() if isinstance(value, bool) else str(value))


async def examine_ledger(settings: Settings, clock: Clock) -> Finding:
    """Whether the ledger is whole and can be written to, which a transaction that writes nothing tells."""
    with closing(ledger_for(settings, Operation, clock)) as ledger:
        return await _examine_opened(ledger, settings, clock)


async def _examine_opened(ledger: Ledger[Operation], settings: Settings, clock: Clock) -> Finding:
    here = printable(ledger.place)
    try:
        with ledger.audit() as entries:
            if entries is None:
                return _no_ledger(settings.state_dir)
            damage = entries.damage()
            if fault := damage or entries.missing():
                todo = _BEGIN_ANEW if damage else _ACCEPT
                return Finding("ledger", "failure", f"That in {here} cannot be trusted: {fault}.", todo)
            events = entries.last_event()
            waiting, freeze = entries.find(statuses=OPEN | UNSETTLED), frozen(entries)
        await ledger.write(lambda _entries: None)
    except (LedgerUnavailableError, BusyError, ConfigError) as error:
        busy = isinstance(error, BusyError)
        todo = "Try again." if busy else _OPEN_IT
        todo = _ACCEPT if isinstance(error, LedgerLostError) else error.next_step if _is_its_own(error) else todo
        return Finding("ledger", "warning" if busy else "failure", f"{error.what} It is in {here}.", todo)
    now = ledger.common_clock(clock).moment()
    live = [operation for operation in waiting if not operation.is_expired(now)]
    unsettled = [operation for operation in live if operation.status in UNSETTLED]
    what = (
        f"In {here}: {plural(events, 'event')}, chain intact, can be written to; {plural(len(live), 'operation')} open."
    )
    todo = (
        "Have an agent call get_operation, which looks; `mcp-backups operations settle` records what you found out."
        if unsettled
        else ""
    )
    if freeze:
        what += f" Frozen since {stamp(freeze.since)} by {freeze.by}: {quoted(freeze.reason)}."
        todo = f"Nothing is sent until `mcp-backups thaw`. {todo}".rstrip()
    details = tuple(_line(each) for each in live)
    return Finding("ledger", "warning" if unsettled or freeze else "ok", what, todo, details)


def _is_its_own(error: BackupsError) -> bool:
    """Whether what to do about it is told by the error itself."""
    is_of_ledger = isinstance(error, LedgerUnavailableError)
    return isinstance(error, ConfigError) or (is_of_ledger and error.next_step != error.advice)


def _no_ledger(folder: Path) -> Finding:
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding("ledger", "ok", f"None yet; it will be made in {printable(str(folder))}.")
    todo = "Set MCP_BACKUPS_STATE_DIR to a folder that can; without a ledger nothing is changed."
    return Finding("ledger", "failure", f"It cannot be made in {printable(str(folder))}.", todo)


def _line(operation: Operation) -> str:
    return f"{printable(operation.id)}: {operation.action} on server {operation.server_id} is {operation.status}"


# Who consents to what destroys something, and whether they hear of it

_CONSENTS: dict[Approval, str] = {
    "auto": "The client's user consents; where the client cannot ask, the agent confirms the plan that it was shown.",
    "plan": "The agent confirms the plan that it was shown.",
    "human": "The client's user consents; where the client cannot ask, an approver decides outside the chat.",
    "operator": "An approver decides outside the chat; `mcp-backups approvals` lists what waits.",
    "flag": "The agent consents, even without a plan.",
}

_UNATTENDED = (
    "Where the agent is unattended, MCP_BACKUPS_APPROVAL=operator is what has a person decide: its client answers"
    " questions by itself, or cannot ask any."
)


def examine_approval(settings: Settings) -> Finding:
    """Who consents under the operator's setting; for unattended agents it should be an approver."""
    what = f"{settings.approval}: {_CONSENTS[settings.approval]}"
    details = () if settings.approval == "operator" else (_UNATTENDED,)
    if settings.notify:
        try:
            check_addresses(settings.notify)
        except ConfigError as error:
            return Finding("approval", "failure", error.what, "Correct it: nobody would be told.", details)
        details = (*details, f"MCP_BACKUPS_NOTIFY: {plural(len(settings.notify), 'place')} told of what waits.")
    elif settings.approval in {"human", "operator"}:
        details = (*details, "Nobody is told of what waits: MCP_BACKUPS_NOTIFY names no address.")
    return Finding("approval", "ok", what, details=details)


# Network, token, what it may read, and clock: each by a call that changes nothing

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


async def examine_account(settings: Settings, clock: Clock, connect: Connect) -> list[Finding]:
    """Whether VPS.org can be reached, what the token may read, and whether the clocks agree."""
    if settings.vps_api_token is None:
        return _without_token()
    async with client_for(settings, clock, connect) as api:
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
            "token",
            "warning",
            f"It works, but its permissions are not known. {answer.what}",
            "Nothing needs to be done.",
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


# The MCP server: started as a client starts it, and spoken to in both protocol eras

_PATIENCE = 40.0
"""Seconds for both eras."""

_Mode = Literal["auto", "legacy"]


async def examine_server(command: tuple[str, ...] = ()) -> Finding:
    """Whether a server can be started, and lists its tools.

    Args:
        command: The server; by default this program on its sandbox.
    """
    expected = [tool.name for tool in TOOLS]
    spoken = []
    mode: _Mode
    try:
        with anyio.fail_after(_PATIENCE):
            for mode in get_args(_Mode):
                version, listed = await _listed(command, mode)
                if listed != expected:
                    what = f"It lists {plural(len(listed), 'tool')} instead of its {len(expected)}."
                    return Finding("server", "failure", what, "Install mcp-backups again.")
                spoken.append(version)
    except (DemoError, TimeoutError) as error:
        what = str(error) or f"It did not answer within {_PATIENCE:.0f} s."
        return Finding("server", "failure", what, "Start `mcp-backups --sandbox` by hand to see what it says.")
    return Finding("server", "ok", f"Starts and lists its {len(expected)} tools; protocol {' and '.join(spoken)}.")


async def _listed(command: tuple[str, ...], mode: _Mode) -> tuple[str, list[str]]:
    """The protocol spoken with a client of this era, and the tools it is told of."""
    with TemporaryDirectory(prefix="mcp-backups-doctor-") as folder:
        async with server_session(Path(folder), command, mode) as client:
            tools = (await client.list_tools()).tools
            return str(client.protocol_version), [tool.name for tool in tools]
