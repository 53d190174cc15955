"""One transaction on the ledger: its rows and events, each checked by a MAC with the installation's key.

`operations` holds each operation as it is now, and bears the MAC of its last event; `events` is append-only, each
chained to the one before.
"""

import hmac
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from mcp_backups.errors import LedgerLostError, LedgerUnavailableError
from mcp_backups.models import OPERATION_ID, Identity
from mcp_backups.text import plural

from .events import GENESIS, OF_THE_LEDGER, Event
from .key import End

LOSS_ACCEPTED = "loss_accepted"
"""The status of an event that says that the operator went on although something was missing."""

_PAGE = 500
_RECENT_EVENTS = 1000
"""So many of the last events, and the rows of their operations, are looked over whenever another process has written.

That is far more than what budgets and other guards look back to, and takes some 10 ms.
"""

_COLUMNS = "o.id, o.action, o.status, o.server_id, o.sent, o.event, o.document"
_SEALED_COLUMNS = f"{_COLUMNS}, o.mac, o.account, o.credential"


class _Row(NamedTuple):
    """An operation's row; what does not follow from its document is there to be found by."""

    id: str
    action: str
    status: str
    server_id: int
    sent: int
    event: int
    document: str
    mac: str = ""
    account: str = ""
    credential: str = ""

    def fits(self, fields: dict[str, Any]) -> bool:
        """Whether it can be found by what its document says."""
        return (
            (self.id, self.action, self.status, self.server_id)
            == tuple(fields[name] for name in ("id", "action", "status", "server_id"))
            and (self.account, self.credential) == (fields.get("account", ""), fields.get("credential", ""))
            and bool(self.sent) == bool(fields.get("sent"))
            and self.sent <= self.event
            and bool(OPERATION_ID.fullmatch(self.id))
        )


class Document(Protocol):
    """What the ledger keeps, which is an operation. It knows of it only what it indexes."""

    @property
    def id(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def server_id(self) -> int: ...
    @property
    def sent(self) -> object | None: ...
    @property
    def account(self) -> str: ...
    @property
    def credential(self) -> str: ...

    def model_dump_json(self, *, exclude_defaults: bool = ...) -> str: ...

    @classmethod
    def model_validate_json(cls, json_data: str, /) -> Self: ...


Kept = TypeVar("Kept", bound=Document)


class Transaction(Generic[Kept]):
    """Reads and writes that happen together or not at all.

    Args:
        connection: To the tables.
        kind: What is kept in them.
        wall: UTC, for the events' times.
        key: Of the MACs; None where they are not looked at: in a ledger that only 0.1.0 wrote to, or without the key.
        end: Where the chain ended when this installation last saw it; None if that cannot be told.

    Attributes:
        end: Where the chain ends, once that was checked or something was written.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        kind: type[Kept],
        wall: Callable[[], datetime],
        key: bytes | None,
        end: End | None,
    ) -> None:
        self._connection = connection
        self._kind = kind
        self._wall = wall
        self._key = key
        self.end = end

    def get(self, operation_id: str) -> Kept | None:
        return next(self._operations("WHERE o.id = ?", [operation_id]), None)

    def find(
        self,
        *,
        action: str | None = None,
        server_id: int = 0,
        statuses: Collection[str] = (),
        limit: int = 100,
        sent_only: bool = False,
        owner: Identity | None = None,
        before: str = "",
    ) -> list[Kept]:
        """Operations that fit all that is given: newest first, by intent if `sent_only`, else by plan.

        With `before` only those that were planned before the operation of that id.
        """
        terms: list[tuple[str, list[Any]]] = []
        if action:
            terms.append(("o.action = ?", [action]))
        if server_id:
            terms.append(("o.server_id = ?", [server_id]))
        if statuses:
            terms.append((f"o.status IN ({','.join('?' * len(statuses))})", list(statuses)))
        if sent_only:
            terms.append(("o.sent > 0", []))
        if owner:  # as `Identity.owns` says
            ours = "(o.credential IN ('', ?) OR (o.account = ? AND o.account != ''))"
            terms.append((ours, [owner.credential, owner.account]))
        if before:
            terms.append(("o.seq < (SELECT seq FROM operations WHERE id = ?)", [before]))
        where = " AND ".join(term for term, _ in terms) or "1"
        order = "sent" if sent_only else "seq"
        values = [*(value for _, values in terms for value in values), limit]
        return list(self._operations(f"WHERE {where} ORDER BY o.{order} DESC LIMIT ?", values))

    def last_event(self) -> int:
        """The number of the last event, 0 before the first."""
        return self._number("SELECT COALESCE(MAX(seq), 0) FROM events")

    def last_write(self, server_id: int) -> int:
        """The number of the last event of anything that was sent for a server, 0 if nothing was."""
        return self._number(
            "SELECT COALESCE(MAX(event), 0) FROM operations WHERE server_id = ? AND sent > 0", server_id
        )

    def save(self, operation: Kept) -> Kept:
        """Record an operation as it is now, and that it came to be so."""
        document = operation.model_dump_json(exclude_defaults=True)
        event = self._append(operation.id, operation.status, document)
        sent = event.seq if operation.sent else 0
        updated = self._connection.execute(
            "UPDATE operations SET status = ?, event = ?, sent = CASE WHEN sent > 0 THEN sent ELSE ? END,"
            " document = ?, mac = ? WHERE id = ?",
            (operation.status, event.seq, sent, document, event.mac, operation.id),
        )
        if not updated.rowcount:
            self._connection.execute(
                "INSERT INTO operations (id, action, status, server_id, sent, event, document, mac, account,"
                " credential) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    operation.id,
                    operation.action,
                    operation.status,
                    operation.server_id,
                    sent,
                    event.seq,
                    document,
                    event.mac,
                    operation.account,
                    operation.credential,
                ),
            )
            self.end = self._end._replace(operations=self._end.operations + 1)
        return operation

    def note(self, status: str, about: Mapping[str, str]) -> None:
        """Record something that is not of one operation."""
        self._append(OF_THE_LEDGER, status, json.dumps(about))

    def last_note(self, *statuses: str) -> Event | None:
        """The last of the notes of these statuses; None if there is none, as before anything was sealed."""
        if self._key is None and not self._is_sealed():
            return None
        ours = f"e.operation_id = '{OF_THE_LEDGER}' AND e.status IN ({','.join('?' * len(statuses))})"
        row = self._connection.execute(
            "SELECT e.seq, e.at, e.operation_id, e.status, e.document, e.hash, e.mac, p.mac FROM events e"  # noqa: S608
            f" LEFT JOIN events p ON p.seq = e.seq - 1 WHERE {ours} ORDER BY e.seq DESC LIMIT 1",
            statuses,
        ).fetchone()
        if row is None:
            return None
        event = Event(*row[:7])
        if self._key is not None and event.mac != event.expected_mac(self._key, row[7] or GENESIS):
            raise distrust(f"event {event.seq} was changed")
        return event

    def seal(self, text: str) -> str:
        """The MAC of a text that is no event; only who has the key can make it."""
        return hmac.digest(self._sealing_key, f"text {text}".encode(), "sha256").hex()

    def events(self, operation_id: str = "", after: int = 0) -> Iterator[Event]:
        """The event log, oldest first, got in pages; of one operation when its id is given."""
        while page := self._events("seq > ? AND ? IN ('', operation_id)", after, operation_id):
            yield from page
            after = page[-1].seq

    def events_at(self, numbers: Sequence[int]) -> list[Event]:
        """The events of these numbers, oldest first, but no more than a page of them."""
        return self._events("seq IN (SELECT value FROM json_each(?))", json.dumps(numbers))

    def _events(self, condition: str, *values: object) -> list[Event]:
        mac = "mac" if self._is_sealed() else "''"
        query = f"SELECT seq, at, operation_id, status, document, hash, {mac} FROM events WHERE {condition}"  # noqa: S608
        rows = self._connection.execute(f"{query} ORDER BY seq LIMIT ?", [*values, _PAGE])
        return [Event(*row) for row in rows.fetchall()]

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
        if self._is_sealed() and self._key is None:
            return "its key cannot be read"
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
        if known.seq and not self._is_sealed():
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
        rows = "e.mac, " + _SEALED_COLUMNS if self._is_sealed() else "'', " + _COLUMNS
        while page := self._connection.execute(
            f"SELECT e.seq, e.at, e.operation_id, e.status, e.document, e.hash, {rows} FROM events e"  # noqa: S608
            " LEFT JOIN operations o ON o.id = e.operation_id WHERE e.seq > ? ORDER BY e.seq LIMIT ?",
            (before.seq, _PAGE),
        ).fetchall():
            for columns_of_both in page:
                event, row = Event(*columns_of_both[:7]), _Row(*columns_of_both[7:])
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

    def _fault_of(self, row: _Row, event: Event) -> str:
        """What is wrong with the row of an event's operation, or an empty string."""
        name = _named(event.operation_id, event.seq)
        if row.id is None:
            return f"operation {name} was taken out"
        if row.event > event.seq:
            return ""  # a later event tells
        try:
            is_so = (row.id, row.event, row.status, row.document, row.mac) == (
                event.operation_id,
                event.seq,
                event.status,
                event.document,
                event.mac,
            ) and (self._key is None or row.fits(json.loads(row.document)))
        except (ValueError, KeyError, TypeError):
            is_so = False
        return "" if is_so else f"operation {name} is not as its last event says"

    def _fault_of_rows(self) -> str:
        """The rows that no event tells of."""
        seq = 0
        while page := self._connection.execute(
            "SELECT o.seq, o.id, e.operation_id FROM operations o LEFT JOIN events e ON e.seq = o.event"
            " WHERE o.seq > ? ORDER BY o.seq LIMIT ?",
            (seq, _PAGE),
        ).fetchall():
            for seq, operation_id, recorded_id in page:
                if operation_id != recorded_id:
                    return f"operation {_named(operation_id, seq)} is not as its last event says"
        return ""

    def _operations(self, condition: str, values: list[Any]) -> Iterator[Kept]:
        """The operations that a condition names, each checked by the MAC of its last event."""
        if self._key is None:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM operations o {condition}", values)  # noqa: S608
            yield from (self._read(_Row(*row)) for row in rows.fetchall())
            return
        rows = self._connection.execute(
            f"SELECT {_SEALED_COLUMNS}, e.at, e.mac, p.mac FROM operations o LEFT JOIN events e ON e.seq = o.event"  # noqa: S608
            f" LEFT JOIN events p ON p.seq = o.event - 1 {condition}",
            values,
        )
        for *columns, at, mac, previous in rows.fetchall():
            row = _Row(*columns)
            event = Event(row.event, at, row.id, row.status, row.document)
            if row.mac != mac or mac != event.expected_mac(self._key, previous or GENESIS):
                raise _damaged(row)
            yield self._read(row)

    def _read(self, row: _Row) -> Kept:
        operation = self._kind.model_validate_json(row.document)
        if not (OPERATION_ID.fullmatch(operation.id) if self._key is None else row.fits(vars(operation))):
            raise _damaged(row)
        return operation

    def _append(self, operation_id: str, status: str, document: str) -> Event:
        end = self._end
        event = Event(end.seq + 1, self._wall().isoformat(), operation_id, status, document)
        event = event._replace(mac=event.expected_mac(self._sealing_key, end.mac))
        self._connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", event)
        self.end = end._replace(seq=event.seq, mac=event.mac)
        return event

    @property
    def _end(self) -> End:
        if self.end is None:
            raise LedgerUnavailableError("The ledger can only be read here.")
        return self.end

    @property
    def _sealing_key(self) -> bytes:
        if self._key is None:
            raise LedgerUnavailableError("The ledger can only be read here.")
        return self._key

    def _mac_of(self, seq: int) -> str:
        row = self._connection.execute("SELECT mac FROM events WHERE seq = ?", (seq,)).fetchone()
        return str(row[0]) if row else ""

    def _count(self) -> int:
        return self._number("SELECT COUNT(*) FROM operations")

    def _is_sealed(self) -> bool:
        return bool(self._number("PRAGMA user_version"))

    def _number(self, query: str, *values: object) -> int:
        return int(self._connection.execute(query, values).fetchone()[0])


def _damaged(row: _Row) -> LedgerUnavailableError:
    return distrust(f"operation {_named(row.id, row.event)} was changed")


def _named(operation_id: str, number: int) -> str:
    """An operation's id, for a sentence, where it is one; whatever else stands in its place is not repeated."""
    return operation_id if OPERATION_ID.fullmatch(operation_id) else f"number {number}"


def distrust(fault: str) -> LedgerUnavailableError:
    """What is there was changed by somebody without the key."""
    return LedgerUnavailableError(f"The ledger cannot be trusted: {fault}.", LedgerLostError.advice)
