"""`mcp-backups audit` and `operations`: what the ledger holds, shown, verified and exported.

Needs no token, and creates nothing.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcp_backups.commands.terminal import ACCENT, Whole, open_console, printable
from mcp_backups.ledger import LOSS_ACCEPTED, OF_THE_LEDGER, Event, SqliteLedger, open_for_audit, wholes
from mcp_backups.operations import Entries, Operation
from mcp_backups.settings import Settings
from mcp_backups.text import age, plural, quoted, safe_text, stamp, time_told

BAD_NEWS = frozenset({"failed", "refused", "declined", "unknown", "expired"})

_LONGEST_WORD = 40


@dataclass(frozen=True)
class Record:
    """The event log as it was read.

    Attributes:
        events: Oldest first.
        fault: What is wrong with the chain; empty when it is intact.
    """

    events: tuple[Event, ...]
    fault: str

    @property
    def verdict(self) -> str:
        """One line on whether the log can be trusted."""
        return _verdict(len(self.events), self.fault)


def read_record(folder: Path) -> Record | None:
    """Read the whole event log in a folder; None when there is no ledger.

    Raises:
        LedgerUnavailableError: It cannot be read. A broken chain can.
    """
    with SqliteLedger(folder, Operation, lambda: datetime.now(UTC)).audit() as ledger:
        return None if ledger is None else Record(tuple(ledger.events()), ledger.verify())


def show_events(settings: Settings, operation_id: str = "") -> int:
    """Print the event log, operation by operation, and whether its chain is intact. Returns the exit code."""
    with open_for_audit(settings, Operation) as ledger:
        if ledger is None:
            return _nothing_yet(sys.stdout, operation_id)
        console = open_console()
        for each, first, last in [(operation_id, 1, 0)] if operation_id else ledger.spans():
            events = list(ledger.events(each, first - 1, last)) or events_of_plan(ledger.get(each))
            operations = operations_of(events)
            is_shown = not settings.account or settings.account in _accounts(operations)
            if operation_id and not (events and is_shown):
                return _unknown(operation_id)
            if is_shown:
                console.print(_heading(events[0], operations, settings))
                console.print(Padding(Whole(_steps(events, operations)), (0, 0, 0, 2), expand=False))
                console.print()
        if operation_id:
            verdict, is_good = _verdict_on_one(events, ledger)
        else:
            fault = ledger.verify()
            verdict, is_good = _verdict(ledger.last_event(), fault), not fault
    console.print(Text(verdict, style=ACCENT if is_good else "bold red"))
    return 0


def events_of_plan(plan: Operation | None) -> list[Event]:
    """How a plan is now, as an event: it has none, until somebody consents."""
    if plan is None:
        return []
    return [Event(0, plan.created.wall.isoformat(), plan.id, plan.status, plan.model_dump_json(exclude_defaults=True))]


def _verdict_on_one(events: Sequence[Event], ledger: Entries) -> tuple[str, bool]:
    """One line on whether the events of one operation can be trusted, and whether they can."""
    if not events[0].seq:
        return "Nobody consented to it: a plan, which is no event of the chain.", True
    if fault := ledger.fault_of(events):
        return f"{plural(len(events), 'event')}, NOT to be trusted: {fault}", False
    return f"{plural(len(events), 'event')}, as recorded; mcp-backups audit --verify checks the whole chain", True


def export_events(settings: Settings, operation_id: str = "") -> int:
    """Print every event as a JSON line, as it is recorded. Returns the exit code.

    `mac` is the HMAC-SHA256 of `[previous mac, seq, at, operation_id, status, document]` as Python's `json.dumps`
    writes it; the first event's previous one is 64 zeros. The key is the HMAC-SHA256 of `mcp-backups ledger` by the
    installation's. Where version 0.1.0 wrote the event, `hash` is the SHA-256 of the same with the hash before.
    """
    with open_for_audit(settings, Operation) as ledger:
        if ledger is None:
            return _nothing_yet(sys.stderr, operation_id)
        found = not operation_id
        for event in ledger.events(operation_id):
            found = True
            sys.stdout.write(json.dumps(event._asdict()) + "\n")
        if not found:
            return _unknown(operation_id)
        if fault := ledger.verify():
            _say(_verdict(ledger.last_event(), fault), sys.stderr)
    return 0


def verify(settings: Settings) -> int:
    """Print one line on whether the event log is whole. Returns the exit code: 1 when it is not."""
    with open_for_audit(settings, Operation) as ledger:
        if ledger is None:
            return _nothing_yet(sys.stdout)
        fault = ledger.verify()
        _say(_verdict(ledger.last_event(), fault), sys.stdout)
    return 1 if fault else 0


def show_operations(
    settings: Settings,
    limit: int,
    *,
    as_json: bool,
    principal: str | None = None,
    server_id: int = 0,
    since: datetime | None = None,
) -> int:
    """Print the last operations as they are now, newest first. Returns the exit code.

    Args:
        settings: Where the ledger is; of one account, those of that one alone.
        limit: How many at most, 1 or more.
        as_json: Print JSON lines instead of a table.
        principal: Only what this one asked for; None for all.
        server_id: Only those of this server; 0 for all.
        since: Only those that were planned at this time or later; None for all.
    """

    def is_wanted(operation: Operation) -> bool:
        return (
            principal in {None, operation.principal}
            and settings.account in {"", operation.account}
            and (since is None or operation.created.wall >= since)
        )

    with open_for_audit(settings, Operation) as ledger:
        operations = None
        if ledger is not None:
            operations = ledger.find(limit=limit, server_id=server_id, wanted=is_wanted)
    if operations is None:
        return _nothing_yet(sys.stderr if as_json else sys.stdout)
    if as_json:
        for operation in operations:
            sys.stdout.write(json.dumps(_flat(operation, settings)) + "\n")
    else:
        open_console().print(Whole(_operations_table(operations, settings, datetime.now(UTC))))
    return 0


def histories(events: Iterable[Event]) -> Iterator[tuple[str, Operation | None, list[str]]]:
    """Of each operation, in the order in which these began: its id, how it is now, and the states it went through."""
    for operation_id, group in _by_operation(events).items():
        yield operation_id, operations_of(group)[-1], list(dict.fromkeys(printable(event.status) for event in group))


def _by_operation(events: Iterable[Event]) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.operation_id, []).append(event)
    return groups


def _accounts(operations: Sequence[Operation | None]) -> set[str]:
    """The account that an operation is of, as it was after each event."""
    return {operation.account for operation in operations if operation}


def _heading(first: Event, operations: Sequence[Operation | None], settings: Settings) -> Text:
    operation = next((known for known in reversed(operations) if known), None)
    heading = Text.assemble((_short(first.operation_id), "bold"))
    if operation is not None:
        heading.append(f"  {operation.action}", ACCENT)
        heading.append(f"  {printable(operation.server_name)} ({operation.server_id})")
        heading.append(f"  backup {operation.backup_id}" if operation.backup_id else "")
        account = settings.account_of(operation.account)
        heading.append(f"  account {account}" if account else "")
        heading.append(f"  asked for by {printable(operation.principal)}" if operation.principal else "")
    return heading


def _time(at: str) -> str:
    """When an event was, in UTC and, where that differs, by this machine's time."""
    utc = at[:19].replace("T", " ") + "Z"
    moment = time_told(at)
    here = moment.astimezone() if moment else None
    return f"{utc} ({here:%H:%M} here)" if here and here.utcoffset() else utc


def _steps(events: Sequence[Event], operations: Sequence[Operation | None]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", min_width=3, no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(min_width=9, no_wrap=True)
    table.add_column()
    before: Operation | None = None
    for event, operation in zip(events, operations, strict=True):
        told = list(remarks(operation, before)) if operation else [remark_of_ledger(event)]
        before = operation or before
        style = "red" if event.status in BAD_NEWS else ""
        table.add_row(
            str(event.seq or "-"),
            printable(_time(event.at)),
            Text(_short(event.status), style=style),
            printable("; ".join(told)),
        )
    return table


def remarks(operation: Operation, before: Operation | None) -> Iterator[str]:
    """Who decided, where that is new since the event before, and how its outcome is known."""
    decision = operation.decision
    if decision and not (before and before.decision == decision):
        why = f": {quoted(decision.reason)}" if decision.reason else ""
        yield f"decided by {decision.by} ({decision.how}) at {stamp(decision.at.wall)}{why}"
    if operation.approved_by and not (before and before.approved_by == operation.approved_by):
        yield f"approved by: {operation.approved_by}"
    if operation.evidence:
        yield f"evidence: {operation.evidence}"
    if operation.error:
        yield f"{operation.error_code}: {operation.error}"


def remark_of_ledger(event: Event) -> str:
    """What an event tells that is not an operation's."""
    if event.operation_id == OF_THE_LEDGER:
        with suppress(ValueError, KeyError, TypeError):
            told = {name: safe_text(text) for name, text in json.loads(event.document).items()}
            if event.status == LOSS_ACCEPTED:
                return f"the operator accepted: {told['missing']}"
            return f"by {told['by']}" + (f": {quoted(told['reason'])}" if told["reason"] else "")
    return "its document cannot be read"


def _short(word: str) -> str:
    """An id or a status as a ledger holds it that may have been changed."""
    return printable(word[:_LONGEST_WORD])


def operations_of(events: Sequence[Event]) -> list[Operation | None]:
    """One operation as it was after each of its events; None where that cannot be read."""
    return [_operation(fields) for fields in wholes((event.seq, event.document) for event in events)]


def _operation(fields: dict[str, Any] | None) -> Operation | None:
    try:
        return None if fields is None else Operation.model_validate(fields)
    except ValidationError:
        return None


def _operations_table(operations: Sequence[Operation], settings: Settings, now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("age", "operation", "action", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("server", no_wrap=True, overflow="ellipsis")
    table.add_column("backup", justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    has_principals, has_accounts = any(each.principal for each in operations), bool(settings.accounts)
    for name in ["asked for by"] * has_principals + ["account"] * has_accounts:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for operation in operations:
        table.add_row(
            age(operation.created.wall, now),
            printable(operation.id),
            Text(operation.action.split("_")[0], style=ACCENT),
            Text(operation.status, style="red" if operation.status in BAD_NEWS else ""),
            printable(operation.server_name) or str(operation.server_id),
            str(operation.backup_id or ""),
            operation.approved_by.replace("not_required", "-"),
            *([printable(operation.principal)] if has_principals else []),
            *([settings.account_of(operation.account) or "-"] if has_accounts else []),
        )
    return table


def _flat(operation: Operation, settings: Settings) -> dict[str, str | int | None]:
    return {
        **({"account": settings.account_of(operation.account)} if settings.accounts else {}),
        "operation_id": operation.id,
        "action": operation.action,
        "status": operation.status,
        "changed": operation.changed,
        "server_id": operation.server_id,
        "server": operation.server_name,
        "backup_id": operation.backup_id or None,
        "approved_by": operation.approved_by,
        "principal": operation.principal,
        "planned_at": operation.created.wall.isoformat(),
        "sent_at": operation.sent.wall.isoformat() if operation.sent else None,
        "evidence": operation.evidence,
        "error_code": operation.error_code,
        "error": operation.error,
    }


def _nothing_yet(stream: TextIO, operation_id: str = "") -> int:
    """Without a ledger there is no operation of any id either."""
    _say("There is no ledger yet: nothing has been recorded.", sys.stderr if operation_id else stream)
    return 1 if operation_id else 0


def _verdict(events: int, fault: str) -> str:
    return f"{plural(events, 'event')}, " + (f"chain BROKEN: {fault}" if fault else "chain intact")


def _unknown(operation_id: str) -> int:
    _say(f"The ledger has no events of {printable(operation_id)}.", sys.stderr)
    return 1


def _say(line: str, stream: TextIO) -> None:
    stream.write(line + "\n")
