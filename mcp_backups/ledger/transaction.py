"""One transaction on the ledger: its rows and events, each checked by a MAC with the installation's key.

`events` is append-only, each chained to the one before, and begins with consent, or when an approver is asked for it.
`operations` has a row for each operation that has events, by which it is found: it names its last event and bears that
event's MAC. `plans` holds the others.
"""

import heapq
import hmac
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Generic, Literal

from mcp_backups.errors import LedgerLostError, LedgerUnavailableError
from mcp_backups.models import OPERATION_ID
from mcp_backups.text import plural

from .key import End
from .tables import (
    GENESIS,
    OF_THE_LEDGER,
    UNDER_WAY,
    WAITING,
    WHOLE,
    Event,
    Fields,
    Kept,
    OperationRow,
    Rows,
    changed,
    difference,
    distrust,
    event_of,
    fields_of,
    found_by,
    named,
    pack,
    row_of,
    terms,
    unpack,
    whole_of,
)

_PAGE = 500
_RECENT_EVENTS = 500
"""So many of the last events, and the rows of their operations, are looked over whenever another process has written.

That is more than what budgets and other guards look back to, and takes some 10 ms.
"""

PLANS_LAST = timedelta(days=30)
"""How long a plan is kept to which nobody consented."""

_MOST_PLANS = 10_000
"""And how many of them, the latest."""

_PLANS_DROPPED = 8
"""How many old plans each new one may replace."""

_MOST_KNOWN = 1000
"""How many operations are kept in memory, so that none is read and checked again as long as it stays the same."""

Known = dict[OperationRow, Kept]
"""Operations that were read and checked, by their rows."""


class Transaction(Generic[Kept]):
    """Reads and writes that happen together or not at all.

    Args:
        rows: The tables.
        kind: What is kept in them.
        wall: UTC, for the events' times.
        key: Of the MACs; None where they are not looked at: in a ledger that only 0.1.0 wrote to, or without the key.
        end: Where the chain ended when this installation last saw it; None if that cannot be told.
        known: What was read and checked before.

    Attributes:
        end: Where the chain ends, once that was checked or something was written.
    """

    def __init__(
        self,
        rows: Rows,
        kind: type[Kept],
        wall: Callable[[], datetime],
        key: bytes | None,
        end: End | None,
        known: Known[Kept] | None = None,
    ) -> None:
        self._rows = rows
        self._kind = kind
        self._wall = wall
        self._key = key
        self._known: Known[Kept] = {} if known is None else known
        self.end = end

    def get(self, operation_id: str) -> Kept | None:
        row = self._row("operations", operation_id) or self._row("plans", operation_id)
        return self._read(row) if row else None

    def find(
        self,
        *,
        action: str | None = None,
        server_id: int = 0,
        statuses: Collection[str] = (),
        limit: int = 100,
        before: str = "",
        wanted: Callable[[Kept], bool] = lambda _: True,
    ) -> list[Kept]:
        """Operations and plans that fit all that is given: newest first, by when they were planned.

        `wanted` tells of each plan or operation whether it counts.
        """
        condition, values = terms(action, server_id, statuses, before)
        found = [self._found(table, f"WHERE {condition}", values) for table in ("operations", "plans")]
        every = map(self._read, heapq.merge(*found, reverse=True))
        return list(islice(filter(wanted, every), limit))

    def sent(self, action: str, *, server_id: int = 0, statuses: Collection[str] = ()) -> Iterator[Kept]:
        """What was sent and fits all that is given, newest first; each is read only when it is asked for."""
        condition, values = terms(action, server_id, statuses)
        return map(self._read, self._found("operations", f"WHERE {condition} AND o.sent > 0", values, by="sent"))

    def sent_for_backups(
        self, action: str, backup_ids: Collection[int], statuses: Collection[str], server_id: int = 0
    ) -> Iterator[Kept]:
        """What was sent for these backups, newest first."""
        if not self._rows.is_sealed:  # 0.1.0 kept no index of that
            every = self.sent(action, server_id=server_id, statuses=statuses)
            return (each for each in every if each.backup_id in backup_ids)
        condition, values = terms(action, server_id, statuses)
        is_one, among = self._rows.among("o.backup_id", backup_ids)
        where = f"{self._rows.by_index('operations_by_backup')} WHERE {is_one} AND o.sent > 0 AND {condition}"
        return map(self._read, self._found("operations", where, [among, *values], by="sent"))

    def under_way(self, statuses: Collection[str], *, action: str | None = None, server_id: int = 0) -> list[Kept]:
        """What is in one of these statuses, all of which are in `UNDER_WAY`, newest first."""
        condition, values = terms(action, server_id, statuses)
        where = f"{self._rows.by_index('operations_under_way')} WHERE o.status IN ({UNDER_WAY}) AND {condition}"
        return [self._read(row) for row in self._found("operations", where, values)]

    def last_event(self) -> int:
        """The number of the last event, 0 before the first."""
        return self._number("SELECT COALESCE(MAX(seq), 0) FROM events")

    def has_written(self, server_id: int, after: int) -> bool:
        """Whether anything that was sent for a server has an event after that one."""
        return bool(
            self._number(
                "SELECT EXISTS (SELECT 1 FROM events e JOIN operations o ON o.id = e.operation_id"
                " WHERE e.seq > ? AND o.server_id = ? AND o.sent > 0)",
                after,
                server_id,
            )
        )

    def save(self, operation: Kept) -> Kept:
        """Record an operation as it is now, and that it came to be so; one that nobody has consented to as a plan."""
        document = operation.model_dump_json(exclude_defaults=True)
        row = self._row("operations", operation.id)
        if row is None and not (operation.approved_by or operation.sent or operation.status == WAITING):
            self._save_plan(operation, document)
            return operation
        event = self._append(operation.id, operation.status, self._difference(row, document) if row else document)
        sent = event.seq if operation.sent else 0
        told = {
            "status": operation.status,
            "backup_id": operation.backup_id,
            "event": event.seq,
            "mac": bytes.fromhex(event.mac),
        }
        if row:
            self._rows.execute(
                "UPDATE operations SET status = ?, backup_id = ?, event = ?, mac = ?,"
                " sent = CASE WHEN sent > 0 THEN sent ELSE ? END WHERE seq = ?",
                (*told.values(), sent, row.seq),
            )
            return operation
        plan = self._row("plans", operation.id)
        if plan:
            self._rows.execute("DELETE FROM plans WHERE seq = ?", (plan.seq,))
        seq = plan.seq if plan else self._next()
        self._rows.add("operations", {"seq": seq, **found_by(operation), **told, "sent": sent})
        self.end = self.known_end._replace(operations=self.known_end.operations + 1)
        return operation

    def note(self, status: str, about: Mapping[str, str]) -> None:
        """Record something that is not of one operation."""
        self._append(OF_THE_LEDGER, status, json.dumps(about))

    def last_note(self, *statuses: str) -> Event | None:
        """The last of the notes of these statuses; None if there is none, as before anything was sealed."""
        if not self._rows.is_sealed:
            return None
        ours = f"operation_id = '{OF_THE_LEDGER}' AND status IN ({','.join('?' * len(statuses))})"
        last = f"seq = (SELECT seq FROM events WHERE {ours} ORDER BY seq DESC LIMIT 1)"  # noqa: S608
        found = self._events(last, *statuses)
        if self._key is not None and self.fault_of(found):
            raise distrust(f"event {found[0].seq} was changed")
        return found[0] if found else None

    def seal(self, text: str) -> str:
        """The MAC of a text that is no event."""
        return hmac.digest(self._sealing_key, f"text {text}".encode(), "sha256").hex()

    def _difference(self, row: OperationRow, document: str) -> str:
        """What to record of an operation that has events."""
        whole = int(self._parsed(row, self._checked(row, row.event)).get(WHOLE, row.event))
        said = {WHOLE: whole} | difference(self._document(row, whole), fields_of(document))
        return json.dumps(said, ensure_ascii=False, separators=(",", ":"))

    def _save_plan(self, plan: Kept, document: str) -> None:
        mac = bytes.fromhex(self._mac_of_plan(plan.id, document))
        told = {"status": plan.status, "backup_id": plan.backup_id, "packed": pack(document), "mac": mac}
        before = self._row("plans", plan.id)
        if before:
            self._rows.execute(
                "UPDATE plans SET status = ?, backup_id = ?, packed = ?, mac = ? WHERE seq = ?",
                (*told.values(), before.seq),
            )
            return
        now = self._wall()
        self._rows.add("plans", {"seq": self._next(), **found_by(plan), "at": now.isoformat(), **told})
        self._rows.execute(
            "DELETE FROM plans WHERE seq IN (SELECT seq FROM plans ORDER BY seq LIMIT ?)"
            " AND (at < ? OR (SELECT COUNT(*) FROM plans) > ?)",
            (_PLANS_DROPPED, (now - PLANS_LAST).isoformat(), _MOST_PLANS),
        )

    def events(self, operation_id: str = "", after: int = 0, until: int = 0) -> Iterator[Event]:
        """The event log, oldest first, got in pages; of one operation when its id is given, by a look at each event.

        None before `after` is looked at, nor one behind `until` unless that is 0.
        """
        condition, values = "seq > ?", [until] * bool(until) + [operation_id] * bool(operation_id)
        condition += " AND seq <= ?" * bool(until) + " AND operation_id = ?" * bool(operation_id)
        while page := self._events(condition, after, *values):
            yield from page
            after = page[-1].seq

    def whole_before(self, event: Event) -> Event | None:
        """The event that holds the operation whole to which this one says what is different; None if it is itself."""
        number = whole_of(event.document)
        return next(iter(self._events("seq = ?", number)), None) if 0 < number < event.seq else None

    def spans(self) -> list[tuple[str, int, int]]:
        """The ids that have events, in the order in which these began, with the first and the last of each."""
        query = "SELECT operation_id, MIN(seq), MAX(seq) FROM events GROUP BY operation_id ORDER BY MIN(seq)"
        return [(str(each), int(first), int(last)) for each, first, last in self._rows.execute(query).fetchall()]

    def _events(self, condition: str, *values: object) -> list[Event]:
        query = f"SELECT {self._rows.columns.events} FROM events e WHERE {condition}"  # noqa: S608
        rows = self._rows.execute(f"{query} ORDER BY seq LIMIT ?", [*values, _PAGE])
        return [event_of(*row) for row in rows.fetchall()]

    def verify(self) -> str:
        """Check the whole chain, and that every operation is as its last event says; in pages, so in little memory.

        Returns:
            What is wrong with it, or an empty string.
        """
        return self.damage() or self.missing()

    def missing(self) -> str:
        """What is missing of what was seen before; empty if nothing is."""
        return self.lacks(self.end) if self.end else "what was remembered of its end is gone"

    def damage(self) -> str:
        """What of that which is there was changed; empty if nothing was."""
        if self._rows.is_sealed and self._key is None:
            return "its key, the file installation.key, cannot be read"
        fault, _ = self._walk(0)
        return fault or self._fault_of_rows()

    def check(self, known: End) -> None:
        """That the chain holds what is known of it, that what came after was written with the key, and the last rows.

        Raises:
            LedgerUnavailableError: It cannot be trusted.
        """
        if missing := self.lacks(known):
            raise LedgerLostError(f"The ledger cannot be trusted: {missing}.")
        fault, end = self._walk(max(0, min(known.seq, self.last_event() - _RECENT_EVENTS)))
        if fault:
            raise distrust(fault)
        self.end = End(known.term, end.seq, end.mac, self._count())

    def lacks(self, known: End) -> str:
        """What is missing of what is known to have been recorded, as a clause; empty if nothing is."""
        last = self.last_event()
        if known.seq > last:
            ended = f"it ends at event {last}" if last else "it is empty"
            return f"{ended}, but event {known.seq} was recorded here"
        if known.seq and not self._rows.is_sealed:
            return "it is one of version 0.1.0, and not the one that was written to here"
        if known.seq and self._mac_of(known.seq) != known.mac:
            return f"its event {known.seq} is not the one that was recorded here"
        gone = known.operations - self._count()
        return (
            f"{plural(gone, 'operation')} of those recorded here {'is' if gone == 1 else 'are'} gone"
            if gone > 0
            else ""
        )

    def _walk(self, after: int) -> tuple[str, Event]:
        """Follow the chain from an event on to its end.

        Returns:
            What is wrong with it or with the rows of its operations, or an empty string; and the last event.
        """
        before = next(self.events(after=after - 1), None) if after else Event(0, "", "", "", "", GENESIS, GENESIS)
        if before is None or before.seq != after:
            return f"event {after} was changed or taken out", Event(after, "", "", "", "")
        while page := self._rows.execute(
            f"SELECT {self._rows.columns.events}, {self._rows.columns.operations} FROM events e"  # noqa: S608
            " LEFT JOIN operations o ON o.id = e.operation_id WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
            (before.seq, _PAGE),
        ).fetchall():
            for columns_of_both in page:
                event, row = event_of(*columns_of_both[:8]), row_of(columns_of_both[8:])
                if not self._follows(event, before):
                    return f"event {before.seq + 1} was changed or taken out", before
                if event.operation_id != OF_THE_LEDGER and (fault := self._fault_of(row, event)):
                    return fault, before
                before = event
        return "", before

    def _follows(self, event: Event, before: Event) -> bool:
        """Whether an event is the next one: by its MAC, by the hash that 0.1.0 gave it, or by both."""
        if event.seq != before.seq + 1 or not (event.mac or event.hash):
            return False
        if event.hash and event.hash != event.expected_hash(before.hash):
            return False
        return self._key is None or event.mac == event.expected_mac(self._key, before.mac)

    def _fault_of(self, row: OperationRow, event: Event) -> str:
        """What is wrong with the row of an event's operation, or an empty string."""
        if row.id is None:
            return f"operation {named(event.operation_id, event.seq)} was taken out"
        if row.event > event.seq:
            return ""  # a later event tells
        try:
            is_so = (row.event, row.status, row.mac) == (event.seq, event.status, event.mac)
            is_same = row.fits(self._whole(row, event)) if self._rows.is_sealed else row.document == event.document
            is_so = is_so and is_same
        except (ValueError, KeyError, TypeError, LedgerUnavailableError):
            is_so = False
        return "" if is_so else f"operation {named(event.operation_id, event.seq)} is not as its last event says"

    def _fault_of_rows(self) -> str:
        """The rows that no event tells of."""
        seq = 0
        while page := self._rows.execute(
            "SELECT o.seq, o.id, e.operation_id FROM operations o LEFT JOIN events e ON e.seq = o.event"
            " WHERE o.seq > ? ORDER BY o.seq LIMIT ?",
            (seq, _PAGE),
        ).fetchall():
            for seq, operation_id, recorded_id in page:
                if operation_id != recorded_id:
                    return f"operation {named(operation_id, seq)} is not as its last event says"
        return ""

    def _found(
        self, table: str, where: str, values: Sequence[object], *, by: Literal["seq", "sent"] = "seq"
    ) -> Iterator[OperationRow]:
        if table == "plans" and not self._rows.is_sealed:
            return iter(())
        return map(row_of, self._rows.newest(self._select(table, where), by, values))

    def _row(self, table: str, operation_id: str) -> OperationRow | None:
        if table == "plans" and not self._rows.is_sealed:
            return None
        found = self._rows.execute(self._select(table, "WHERE o.id = ?"), [operation_id]).fetchone()
        return row_of(found) if found else None

    def _select(self, table: str, where: str) -> str:
        columns = self._rows.columns.plans if table == "plans" else self._rows.columns.operations
        return f"SELECT {columns} FROM {table} o {where}"  # noqa: S608

    def _next(self) -> int:
        """The number of the next operation or plan: together they are in the order in which they were planned."""
        return 1 + self._number(
            "SELECT COALESCE(MAX(seq), 0) FROM"
            " (SELECT MAX(seq) AS seq FROM operations UNION ALL SELECT MAX(seq) FROM plans) AS planned"
        )

    def _read(self, row: OperationRow) -> Kept:
        """The operation of a row, checked by the MACs of what holds its document."""
        if row in self._known:
            return self._known[row]
        operation = self._kind.model_validate(self._fields(row))
        if not (OPERATION_ID.fullmatch(operation.id) if self._key is None else row.fits(vars(operation))):
            raise _damaged(row)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[row] = operation
        return operation

    def _fields(self, row: OperationRow) -> Fields:
        if not row.event:
            return self._fields_of_plan(row)
        event = self._checked(row, row.event)
        if self._key is not None and event.mac != row.mac:
            raise _damaged(row)
        return self._whole(row, event)

    def _whole(self, row: OperationRow, event: Event) -> Fields:
        """The fields of an operation as they were after an event of it."""
        fields = self._parsed(row, event)
        return changed(self._document(row, fields[WHOLE]), fields) if WHOLE in fields else fields

    def _fields_of_plan(self, row: OperationRow) -> Fields:
        try:
            document = unpack(row.document) if isinstance(row.document, bytes) else ""
        except ValueError:
            raise _damaged(row) from None
        if self._key is not None and self._mac_of_plan(row.id, document) != row.mac:
            raise _damaged(row)
        return fields_of(document)

    def _document(self, row: OperationRow, seq: int) -> Fields:
        return self._parsed(row, self._checked(row, seq))

    def _parsed(self, row: OperationRow, event: Event) -> Fields:
        try:
            return fields_of(event.document)
        except ValueError:
            raise _damaged(row) from None

    def _checked(self, row: OperationRow, seq: int) -> Event:
        """One event of an operation, if it is as it was recorded."""
        event = next(iter(self._events("seq = ?", seq)), None)
        if event is None or event.operation_id != row.id or not self._is_as_recorded(event):
            raise _damaged(row)
        return event

    def _mac_of_plan(self, operation_id: str, document: str) -> str:
        return hmac.digest(self._sealing_key, json.dumps(["plan", operation_id, document]).encode(), "sha256").hex()

    def _append(self, operation_id: str, status: str, document: str) -> Event:
        end = self.known_end
        event = Event(end.seq + 1, self._wall().isoformat(), operation_id, status, document)
        event = event._replace(mac=event.expected_mac(self._sealing_key, end.mac))
        self._rows.add(
            "events",
            {
                "seq": event.seq,
                "at": event.at,
                "operation_id": operation_id,
                "status": status,
                "packed": pack(document),
                "mac": bytes.fromhex(event.mac),
            },
        )
        self.end = end._replace(seq=event.seq, mac=event.mac)
        return event

    @property
    def known_end(self) -> End:
        if self.end is None:
            raise LedgerUnavailableError("The ledger can only be read here.")
        return self.end

    @property
    def _sealing_key(self) -> bytes:
        if self._key is None:
            raise LedgerUnavailableError("The ledger can only be read here.")
        return self._key

    def fault_of(self, events: Iterable[Event]) -> str:
        """What is wrong with these events, as a clause; empty if nothing is. The rest of the chain is not looked at."""
        if self._key is None and self._rows.is_sealed:
            return "the ledger's key cannot be read"
        return "" if all(map(self._is_as_recorded, events)) else "changed since they were recorded"

    def _is_as_recorded(self, event: Event) -> bool:
        if self._key is None:
            return True
        return event.mac == event.expected_mac(self._key, self._mac_of(event.seq - 1) if event.seq > 1 else GENESIS)

    def _mac_of(self, seq: int) -> str:
        row = self._rows.execute("SELECT mac FROM events WHERE seq = ?", (seq,)).fetchone()
        return str(row[0].hex()) if row else ""

    def _count(self) -> int:
        return self._number("SELECT COUNT(*) FROM operations")

    def _number(self, query: str, *values: object) -> int:
        (number,) = self._rows.execute(query, values).fetchone() or (0,)
        return int(number)


def _damaged(row: OperationRow) -> LedgerUnavailableError:
    return distrust(f"operation {named(row.id, row.event)} was changed")
