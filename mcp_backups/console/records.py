"""What the ledger holds, for the pages: operations by filters, and its events."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlencode

from mcp_backups.clock import Moment
from mcp_backups.commands.audit import events_of_plan, operations_of, remark_of_ledger, remarks
from mcp_backups.ledger import OF_THE_LEDGER, Event, Ledger
from mcp_backups.models import MAX_ID, OPERATION_ID
from mcp_backups.operations import OPEN, Context, Entries, Operation, Status
from mcp_backups.text import safe_text

_ON_A_PAGE = 50
_EVENTS_ON_A_PAGE = 100
_CHECKED_AT_ONCE = 10_000
"""Events of a chain that is checked unasked, which takes up to half a second."""

_BATCH = 200
_DAY = timedelta(days=1)


class Filters(NamedTuple):
    """Which operations are asked for.

    Attributes:
        server: An id, or a part of a name; empty for every server.
        status: Empty for every one.
        since: The first day, UTC.
        until: The last.
        before: Only those that were planned before this operation.
    """

    server: str = ""
    status: Status | None = None
    since: date | None = None
    until: date | None = None
    before: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> "Filters":
        """Out of an address; what cannot be read filters nothing, and the page shows that it does not."""
        before, status = given.get("before", ""), given.get("status", "")
        return cls(
            server=safe_text(given.get("server", "")),
            status=Status(status) if status in set(Status) else None,
            since=_day(given.get("since", "")),
            until=_day(given.get("until", "")),
            before=before if OPERATION_ID.fullmatch(before) else "",
        )

    def query(self, before: str) -> str:
        """The same, for what was planned before an operation, as the end of an address."""
        told = {"server": self.server, "status": self.status, "since": self.since, "until": self.until}
        return urlencode({name: value for name, value in (told | {"before": before}).items() if value})

    @property
    def server_id(self) -> int:
        """The server, where it is given by its id; else 0."""
        is_id = self.server.isascii() and self.server.isdecimal() and len(self.server) <= len(str(MAX_ID))
        return int(self.server) if is_id else 0

    def fit(self, operation: Operation, now: Moment) -> bool:
        made = _day_of(operation)
        return (
            (bool(self.server_id) or self.server.casefold() in operation.server_name.casefold())
            and self.status in {None, shown_status(operation, now)}
            and (self.since is None or made >= self.since)
            and (self.until is None or made <= self.until)
        )


def shown_status(operation: Operation, now: Moment) -> Status:
    """How far it has come; that a plan has expired is recorded only once somebody asks for it."""
    return Status.EXPIRED if operation.is_expired(now) else operation.status


async def chosen_operations(context: Context, filters: Filters) -> tuple[list[Operation], str]:
    """A page of the operations that fit, newest first, and the rest of the address of the next; empty for none."""
    now = context.moment()
    statuses = frozenset({filters.status} if filters.status else ()) | (
        OPEN if filters.status is Status.EXPIRED else frozenset()
    )

    def read(entries: Entries) -> list[Operation]:
        fitting = (each for each in _newest_first(entries, filters, statuses) if filters.fit(each, now))
        return list(islice(fitting, _ON_A_PAGE + 1))

    found = await context.ledger.read(read) if context.ledger.exists() else []
    page = found[:_ON_A_PAGE]
    return page, filters.query(page[-1].id) if len(found) > len(page) else ""


def _newest_first(entries: Entries, filters: Filters, statuses: frozenset[Status]) -> Iterator[Operation]:
    before = filters.before
    while batch := entries.find(server_id=filters.server_id, statuses=statuses, limit=_BATCH, before=before):
        yield from batch
        before = batch[-1].id
        # A day, for clocks that were set back in between.
        if filters.since and _day_of(batch[-1]) + _DAY < filters.since:
            return


class LogEntry(NamedTuple):
    """An event, as people read it.

    Attributes:
        operation: As it then was; None for what is not of one, or cannot be read.
        remarks: What is new with it.
    """

    event: Event
    operation: Operation | None
    remarks: tuple[str, ...]

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.event.at)

    @property
    def is_of_ledger(self) -> bool:
        return self.event.operation_id == OF_THE_LEDGER


class LogPage(NamedTuple):
    """A page of the event log.

    Attributes:
        entries: Newest first.
        total: Events that there are.
        fault: What is wrong with the chain, empty when it is intact; None when it was not checked.
        older: The number of the event that the next page ends before; 0 if there is none.
    """

    entries: tuple[LogEntry, ...] = ()
    total: int = 0
    fault: str | None = None
    older: int = 0


async def history_of(context: Context, operation: Operation) -> list[LogEntry]:
    """The events of one operation, oldest first; of a plan how it is now."""

    def read(entries: Entries) -> list[LogEntry]:
        return list(_told(entries, list(entries.events(operation.id)) or events_of_plan(operation)))

    return await context.ledger.read(read)


def read_log(ledger: Ledger[Operation], before: int = 0, *, verify: bool = False) -> LogPage:
    """The last events, also where the chain is broken.

    Args:
        ledger: As it is.
        before: Only events before this number; 0 for the last ones.
        verify: Check the whole chain, however long it is; one that takes no time is checked anyway.

    Raises:
        LedgerUnavailableError, BusyError: It cannot be read at all.
    """
    with ledger.audit() as entries:
        if entries is None:
            return LogPage()
        total = entries.last_event()
        end = min(before or total + 1, total + 1)
        first = max(1, end - _EVENTS_ON_A_PAGE)
        events = list(islice(entries.events(after=first - 1), end - first))
        told = tuple(_told(entries, events))[::-1]
        fault = entries.verify() if verify or total <= _CHECKED_AT_ONCE else None
        return LogPage(told, total, fault, first if first > 1 else 0)


def _told(entries: Entries, events: Sequence[Event]) -> Iterator[LogEntry]:
    """A part of the log, each event with its operation as it then was."""
    of_one: dict[str, list[Event]] = {}
    for event in events:
        of_one.setdefault(event.operation_id, []).append(event)
    states = {
        event.seq: (operation, before)
        for group in of_one.values()
        for event, operation, before in _states(entries, group)
    }
    for event in events:
        operation, before = states[event.seq]
        yield LogEntry(event, operation, tuple(remarks(operation, before) if operation else [remark_of_ledger(event)]))


def _states(entries: Entries, events: Sequence[Event]) -> Iterator[tuple[Event, Operation | None, Operation | None]]:
    """Events of one operation, which need not be all, with how it was after each, and after the one before."""
    whole = entries.whole_before(events[0])
    lead = [whole] if whole else []
    operations = operations_of([*lead, *events])
    yield from zip(events, operations[len(lead) :], [*([] if lead else [None]), *operations], strict=False)


def _day(raw: str) -> date | None:
    try:
        return date.fromisoformat(raw)
    except ValueError:
        return None


def _day_of(operation: Operation) -> date:
    return operation.created.wall.astimezone(UTC).date()
