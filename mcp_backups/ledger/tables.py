"""The ledger's tables: what they hold, how their rows are found, and what an event or an operation is read from."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self

from mcp_backups.models import OPERATION_ID

from .events import Event, Fields, unpack

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
