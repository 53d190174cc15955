"""What the ledger holds, for people: shown, verified, exported. Needs no token, and creates nothing."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcp_backups.ledger import Event, open_for_audit
from mcp_backups.operations import Operation
from mcp_backups.settings import Settings
from mcp_backups.terminal import ACCENT, open_console, printable
from mcp_backups.text import age, plural

BAD_NEWS = frozenset({"failed", "refused", "declined", "unknown", "expired"})

_NOTHING_YET = "There is no ledger yet: nothing has been recorded."


@dataclass(frozen=True)
class Record:
    """The event log as it was read.

    Attributes:
        events: Oldest first.
        total: How many there are of all operations.
        fault: What is wrong with the chain; empty when it is intact.
    """

    events: tuple[Event, ...]
    total: int
    fault: str

    @property
    def verdict(self) -> str:
        """One line on whether the log can be trusted."""
        return f"{plural(self.total, 'event')}, " + (f"chain BROKEN: {self.fault}" if self.fault else "chain intact")


def read_record(folder: Path, operation_id: str = "") -> Record | None:
    """Read the event log in a folder, of one operation when its id is given; None when there is no ledger.

    Raises:
        LedgerUnavailableError: It cannot be read. A broken chain can.
    """
    with open_for_audit(folder, Operation) as ledger:
        if ledger is None:
            return None
        events = tuple(ledger.events())
        of_one = tuple(event for event in events if event.operation_id == operation_id)
        return Record(of_one if operation_id else events, len(events), ledger.verify())


def show_events(settings: Settings, operation_id: str = "") -> int:
    """Print the event log, operation by operation, and whether its chain is intact. Returns the exit code."""
    record = read_record(settings.state_dir, operation_id)
    if record is None:
        _say(_NOTHING_YET, sys.stdout)
        return 0
    if operation_id and not record.events:
        return _unknown(operation_id)
    console = open_console()
    console.print(events_view(record.events))
    console.print()
    console.print(Text(record.verdict, style="bold red" if record.fault else ACCENT))
    return 0


def export_events(settings: Settings, operation_id: str = "") -> int:
    """Print every event as a JSON line, as it is recorded. Returns the exit code.

    `hash` is the SHA-256 of `[previous hash, seq, at, operation_id, status, document]` as Python's `json.dumps`
    writes it; the first event's previous hash is 64 zeros.
    """
    record = read_record(settings.state_dir, operation_id)
    if record is None:
        _say(_NOTHING_YET, sys.stderr)
        return 0
    if operation_id and not record.events:
        return _unknown(operation_id)
    for event in record.events:
        sys.stdout.write(json.dumps(event._asdict()) + "\n")
    if record.fault:
        _say(record.verdict, sys.stderr)
    return 0


def verify(settings: Settings) -> int:
    """Print one line on whether the event log is whole. Returns the exit code: 1 when it is not."""
    record = read_record(settings.state_dir)
    if record is None:
        _say(_NOTHING_YET, sys.stdout)
        return 0
    _say(record.verdict, sys.stdout)
    return 1 if record.fault else 0


def show_operations(settings: Settings, limit: int, *, as_json: bool) -> int:
    """Print the last operations as they are now, newest first. Returns the exit code.

    Args:
        settings: Where the ledger is.
        limit: How many at most, 1 or more.
        as_json: Print JSON lines instead of a table.
    """
    with open_for_audit(settings.state_dir, Operation) as ledger:
        operations = None if ledger is None else ledger.find(limit=limit)
    if operations is None:
        _say(_NOTHING_YET, sys.stderr if as_json else sys.stdout)
        return 0
    if as_json:
        for operation in operations:
            sys.stdout.write(json.dumps(_flat(operation)) + "\n")
    else:
        open_console().print(_operations_table(operations, datetime.now(UTC)))
    return 0


def histories(events: Iterable[Event]) -> Iterator[tuple[str, Operation | None, list[str]]]:
    """Of each operation, in the order in which these began: its id, how it is now, and the states it went through."""
    for operation_id, group in _by_operation(events).items():
        yield operation_id, _operation(group[-1]), list(dict.fromkeys(printable(event.status) for event in group))


def _by_operation(events: Iterable[Event]) -> dict[str, list[Event]]:
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.operation_id, []).append(event)
    return groups


def events_view(events: Iterable[Event]) -> RenderableType:
    """Events told operation by operation, in the order in which these began."""
    parts: list[RenderableType] = []
    for group in _by_operation(events).values():
        parts += [Text(), _heading(group), Padding(_steps(group), (0, 0, 0, 2), expand=False)]
    return Group(*parts[1:])


def _heading(events: list[Event]) -> Text:
    operation = next((known for event in reversed(events) if (known := _operation(event))), None)
    heading = Text.assemble((printable(events[0].operation_id), "bold"))
    if operation is not None:
        heading.append(f"  {operation.action}", ACCENT)
        heading.append(f"  {printable(operation.server_name)} ({operation.server_id})")
        heading.append(f"  backup {operation.backup_id}" if operation.backup_id else "")
    return heading


def _steps(events: list[Event]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", min_width=3, no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(min_width=9, no_wrap=True)
    table.add_column()
    approved_by = ""
    for event in events:
        operation = _operation(event)
        remarks = list(_remarks(operation, approved_by)) if operation else ["its document cannot be read"]
        approved_by = operation.approved_by if operation else approved_by
        style = "red" if event.status in BAD_NEWS else ""
        table.add_row(
            str(event.seq),
            printable(event.at[:19].replace("T", " ") + "Z"),
            Text(printable(event.status), style=style),
            printable("; ".join(remarks)),
        )
    return table


def _remarks(operation: Operation, known_approval: str) -> Iterator[str]:
    """Who approved it, where that is new, and how its outcome is known."""
    if operation.approved_by and operation.approved_by != known_approval:
        yield f"approved by: {operation.approved_by}"
    if operation.evidence:
        yield f"evidence: {operation.evidence}"
    if operation.error:
        yield f"{operation.error_code}: {operation.error}"


def _operation(event: Event) -> Operation | None:
    try:
        return Operation.model_validate_json(event.document)
    except ValidationError:
        return None


def _operations_table(operations: Iterable[Operation], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("age", "operation", "action", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("server", no_wrap=True, overflow="ellipsis")
    table.add_column("backup", justify="right", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for operation in operations:
        table.add_row(
            age(operation.created.wall, now),
            printable(operation.id),
            Text(operation.action.split("_")[0], style=ACCENT),
            Text(operation.status, style="red" if operation.status in BAD_NEWS else ""),
            printable(operation.server_name) or str(operation.server_id),
            str(operation.backup_id or ""),
            operation.approved_by.replace("not_required", "-"),
        )
    return table


def _flat(operation: Operation) -> dict[str, str | int | None]:
    return {
        "operation_id": operation.id,
        "action": operation.action,
        "status": operation.status,
        "changed": operation.changed,
        "server_id": operation.server_id,
        "server": operation.server_name,
        "backup_id": operation.backup_id or None,
        "approved_by": operation.approved_by,
        "planned_at": operation.created.wall.isoformat(),
        "sent_at": operation.sent.wall.isoformat() if operation.sent else None,
        "evidence": operation.evidence,
        "error_code": operation.error_code,
        "error": operation.error,
    }


def _unknown(operation_id: str) -> int:
    _say(f"The ledger has no events of {printable(operation_id)}.", sys.stderr)
    return 1


def _say(line: str, stream: TextIO) -> None:
    stream.write(line + "\n")
