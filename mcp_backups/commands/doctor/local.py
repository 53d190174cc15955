"""Settings and ledger: what is on this machine."""

import os
from contextlib import closing
from pathlib import Path

from mcp_backups.clock import Clock
from mcp_backups.commands.doctor.finding import Finding
from mcp_backups.commands.terminal import printable
from mcp_backups.errors import BackupsError, BusyError, ConfigError, LedgerLostError, LedgerUnavailableError
from mcp_backups.ledger import Ledger, ledger_for
from mcp_backups.operations.limits import frozen
from mcp_backups.operations.operation import OPEN, UNSETTLED, Operation
from mcp_backups.settings import Settings, config_path, setting_name
from mcp_backups.text import plural, quoted, stamp

_ACCEPT = "Look for the missing part, and put it back if you can; else `mcp-backups ledger accept` goes on without it."
_BEGIN_ANEW = (
    "Keep a copy of it as evidence, move it away, and say `mcp-backups ledger accept` to begin a new one; until then"
    " nothing is changed."
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
        return await _examine(ledger, settings, clock)


async def _examine(ledger: Ledger[Operation], settings: Settings, clock: Clock) -> Finding:
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
