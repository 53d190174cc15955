"""The ledger's tables: the events, what chains each to the one before, and the rows by which operations are found.

Each fact is kept once, and small, since a ledger is kept for years. The first event of an operation holds it whole; a
later one holds what is different then, and names the first. Either is packed with a dictionary of the words that all
have in common.
"""

import hashlib
import hmac
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

from mcp_backups.errors import LedgerLostError, LedgerUnavailableError
from mcp_backups.models import OPERATION_ID

# Events

GENESIS = "0" * 64
"""What the first event is chained to."""

OF_THE_LEDGER = "ledger"
"""Stands in place of an operation's id where an event is about the ledger itself."""

LOSS_ACCEPTED = "loss_accepted"
"""The status of an event that says that the operator went on although something was missing."""


class Event(NamedTuple):
    """One step of one operation, as it was recorded.

    Attributes:
        seq: Its number, from 1 without gaps.
        at: UTC, ISO 8601.
        document: The operation as it then was, JSON.
        hash: What version 0.1.0 chained it by: SHA-256 over the hash before and this event, hexadecimal; else empty.
        mac: HMAC-SHA256 over the MAC before and this event, hexadecimal; empty in a ledger that only 0.1.0 wrote to.
    """

    seq: int
    at: str
    operation_id: str
    status: str
    document: str
    hash: str = ""
    mac: str = ""

    def expected_hash(self, previous: str) -> str:
        return hashlib.sha256(self._content(previous)).hexdigest()

    def expected_mac(self, key: bytes, previous: str) -> str:
        return hmac.digest(key, self._content(previous), "sha256").hex()

    def _content(self, previous: str) -> bytes:
        content = [previous, self.seq, self.at, self.operation_id, self.status, self.document]
        return json.dumps(content).encode()


Fields = dict[str, Any]

WHOLE = "whole"
"""In a later event's document: the number of the event that holds the operation whole."""

_MOST_BYTES = 2**24
"""Far more than any document has: what unpacks to more was not written by us."""

# Part of the format: what was written with it can only be read with it. What is most common stands last.
_WORDS = (
    b'"kind":"restore_server","safety_operation":"op_","undo_backup_id":"undo_from":"kind":"prune_backups","room":'
    b'"items":[{"reason":"keep-last keep-daily keep-weekly no rule","fate":"delete","later","operation_id":"op_'
    b'"error_code":"upstream_unavailable","error":"","advice":"","said":"","listed_again":{"lapsed":true,"part_of":"op_'
    b'"action":"restore_server","arguments":{"server_id":,"backup_id":,"safety_backup":true},"way_back":{"id":'
    b'"action":"prune_backups","arguments":{"server_id":,"keep_last":,"keep_daily":0,"keep_weekly":0,"keep_monthly":0}'
    b'"action":"create_backup","status":"sending","arguments":{"server_id":,"description":""},"baseline":['
    b'"kind":"create_backup","marked":false,"baseline_complete":false,"approved_by":"not_required","status":"refused",'
    b'{"whole":,"status":"accepted","status":"succeeded","status":"failed","status":"unknown",'
    b'"evidence":"its row in the list of backups","evidence":"VPS.org\'s answer","in_progress","size_mb":null,'
    b'"evidence":"absent from the complete list","approved_by":"person","approved_by":"flag","approved_by":"plan",'
    b'{"id":"op_","action":"delete_backup","status":"planned","status":"approved","arguments":{"backup_id":},'
    b'"server_id":,"server_name":"","backup_id":,"backup":{"id":,"server_id":,"server_name":'
    b'","type":"automatic","status":"completed","size_mb":.0,"created_at":"20-T:00Z","expires_at":null,'
    b'"description":" [op_","mark":"op_"},"type":"manual","details":{"kind":"delete_backup","good_left":,"newest_left":'
    b'"all_left_expire_by":"20-","created":{"wall":"20-Z","ticks":,"boot":"","upstream":"20-Z"},"sent":{"wall":'
    b'"owner":"","address":"","credential":"","account":""}'
)


def pack(document: str) -> bytes:
    """A document as it is kept."""
    packer = zlib.compressobj(level=3, wbits=-zlib.MAX_WBITS, memLevel=5, zdict=_WORDS)
    return packer.compress(document.encode()) + packer.flush()


def unpack(packed: bytes) -> str:
    """The document again.

    Raises:
        ValueError: It is none that was packed.
    """
    unpacker = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_WORDS)
    try:
        document = unpacker.decompress(packed, _MOST_BYTES)
    except zlib.error:
        document = b""
    if not unpacker.eof:
        raise ValueError("not a packed document")
    return document.decode()


def difference(whole: Fields, now: Fields) -> Fields:
    """What is different now; None for what is no longer said."""
    gone = dict.fromkeys(whole.keys() - now.keys())
    return {name: value for name, value in now.items() if name not in whole or whole[name] != value} | gone


def changed(whole: Fields, difference: Fields) -> Fields:
    """The fields with what is different now."""
    fields = whole | difference
    return {name: value for name, value in fields.items() if value is not None and name != WHOLE}


def wholes(documents: Iterable[tuple[int, str]]) -> Iterator[Fields | None]:
    """The fields of one operation after each of its events, given by their numbers; None where they cannot be read."""
    known: dict[int, Fields] = {}
    for number, document in documents:
        try:
            fields = fields_of(document)
            if WHOLE in fields:
                fields = changed(known[fields[WHOLE]], fields)
        except (ValueError, KeyError, TypeError):
            yield None
        else:
            known[number] = fields
            yield fields


def fields_of(document: str) -> Fields:
    """The fields of a document.

    Raises:
        ValueError: It is no JSON object.
    """
    fields = json.loads(document)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - for the reader it is one kind of fault
    return fields


def whole_of(document: str) -> int:
    """The number of the event to which a document says what is different; 0 for a whole one, and for none at all."""
    try:
        number = fields_of(document).get(WHOLE)
    except ValueError:
        return 0
    return number if isinstance(number, int) else 0


# Rows

WAITING = "waiting"
"""The status of what an approver was asked about: nobody has consented to it, and it has to last as if somebody had."""

UPGRADE = "The operator must upgrade mcp-backups here too. Reading still works."
"""What to do where tables are of a newer version than this program."""

UNDER_WAY = f"'{WAITING}', 'approved', 'preparing', 'sending', 'unknown'"
"""The statuses of what is not over, of which there is an index."""


class Columns(NamedTuple):
    """What a row is read from, in the order of `OperationRow`, and of `event_of`."""

    operations: str
    plans: str
    events: str


class Rows(Protocol):
    """The tables of one store, within a transaction; SQL is what all stores speak, with `?` for a value.

    Attributes:
        columns: By which names rows are read.
        is_sealed: Whether events bear MACs; version 0.1.0 knew of none, and of no plans.
    """

    @property
    def columns(self) -> Columns: ...
    @property
    def is_sealed(self) -> bool: ...

    def execute(self, query: str, values: Sequence[object] = ()) -> "Found": ...

    def newest(self, query: str, by: Literal["seq", "sent"], values: Sequence[object]) -> Iterator[Sequence[Any]]:
        """Rows of operations or plans, those with the highest numbers first; each is got only when it is asked for."""
        ...

    def among(self, column: str, numbers: Collection[int]) -> tuple[str, object]:
        """A condition that a column is one of these, however many they are, and its value."""
        ...

    def by_index(self, name: str) -> str:
        """What a table's name is followed by so that rows are found by that index."""
        ...

    def add(self, table: Literal["events", "operations", "plans"], row: Mapping[str, object]) -> None: ...


class Found(Protocol):
    """What a query found."""

    def fetchone(self) -> Sequence[Any] | None: ...
    def fetchall(self) -> Sequence[Sequence[Any]]: ...


class OperationRow(NamedTuple):
    """By which an operation is found. Its document stands in events; that of a plan, and of 0.1.0, here."""

    seq: int
    id: str
    action: str
    status: str
    server_id: int
    sent: int
    event: int
    document: str | bytes
    backup_id: int
    account: str
    credential: str
    mac: str

    def fits(self, fields: Fields) -> bool:
        """Whether it can be found by what its document says."""
        return (
            (self.id, self.action, self.status, self.server_id)
            == tuple(fields[name] for name in ("id", "action", "status", "server_id"))
            and self.backup_id == fields.get("backup_id", 0)
            and (self.account, self.credential) == (fields.get("account", ""), fields.get("credential", ""))
            and bool(self.sent) == bool(fields.get("sent"))
            and self.sent <= self.event
            and bool(OPERATION_ID.fullmatch(self.id))
        )


class Document(Protocol):
    """What the ledger keeps, which is an operation. It knows of it only what it indexes, and who consented."""

    @property
    def id(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def server_id(self) -> int: ...
    @property
    def backup_id(self) -> int: ...
    @property
    def sent(self) -> object | None: ...
    @property
    def account(self) -> str: ...
    @property
    def credential(self) -> str: ...
    @property
    def approved_by(self) -> str: ...

    def model_dump_json(self, *, exclude_defaults: bool = ...) -> str: ...

    def revised(self) -> Self:
        """What is to be recorded now of what 0.1.0 recorded; itself where that holds."""

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self: ...


Kept = TypeVar("Kept", bound=Document)


_PLANNED_BEFORE = (
    "o.seq < (SELECT seq FROM (SELECT seq, id FROM operations UNION ALL SELECT seq, id FROM plans) AS planned"
    " WHERE id = ?)"
)


def terms(action: str | None, server_id: int, statuses: Collection[str], before: str = "") -> tuple[str, list[object]]:
    """A condition by which rows are found, and its values; `before` is the id of what was planned after them."""
    found: list[tuple[str, list[object]]] = [("TRUE", [])]
    if action:
        found.append(("o.action = ?", [action]))
    if server_id:
        found.append(("o.server_id = ?", [server_id]))
    if statuses:
        found.append((f"o.status IN ({','.join('?' * len(statuses))})", list(statuses)))
    if before:
        found.append((_PLANNED_BEFORE, [before]))
    return " AND ".join(term for term, _ in found), [value for _, values in found for value in values]


def event_of(
    seq: int, at: str, operation_id: str, status: str, document: str, packed: bytes, hash_: str, mac: bytes
) -> Event:
    """An event as it was recorded; one that cannot be unpacked has a document that fits no MAC."""
    if packed:
        try:
            document = unpack(packed)
        except ValueError:
            document = ""
    return Event(seq, at, operation_id, status, document, hash_, mac.hex())


def row_of(columns: Sequence[Any]) -> OperationRow:
    """A row as it was read; its MAC in hexadecimal, as an event's."""
    mac = columns[-1]
    return OperationRow(*columns)._replace(mac=mac.hex() if mac else "")


def found_by(operation: Document) -> dict[str, object]:
    """What of an operation stays as it is, and is there to be found by."""
    return {name: getattr(operation, name) for name in ("id", "action", "server_id", "account", "credential")}


def named(operation_id: str, number: int) -> str:
    """An operation's id, for a sentence, where it is one; whatever else stands in its place is not repeated."""
    return operation_id if OPERATION_ID.fullmatch(operation_id) else f"number {number}"


def distrust(fault: str) -> LedgerUnavailableError:
    """What is there was changed by somebody without the key."""
    return LedgerUnavailableError(f"The ledger cannot be trusted: {fault}.", LedgerLostError.advice)
