"""The ledger's tables: what they hold, how their rows are found, and what an event or an operation is read from."""

from collections.abc import Collection
from typing import Any, NamedTuple, Protocol, Self

from mcp_backups.models import OPERATION_ID

from .events import OF_THE_LEDGER, Event, Fields, unpack

WAITING = "waiting"
"""The status of what an approver was asked about: nobody has consented to it, and it has to last as if somebody had."""

UNDER_WAY = f"'{WAITING}', 'approved', 'preparing', 'sending', 'unknown'"
"""The statuses of what is not over, of which there is an index."""

_ROW = "o.seq, o.id, o.action, o.status, o.server_id"
COLUMNS = f"{_ROW}, o.sent, o.event, o.document, o.backup_id, o.account, o.credential, lower(hex(o.mac))"
COLUMNS_OF_0_1_0 = f"{_ROW}, o.sent, o.event, o.document"
COLUMNS_OF_PLANS = f"{_ROW}, 0, 0, o.packed, o.backup_id, o.account, o.credential, lower(hex(o.mac))"

_EVENT = "e.seq, e.at, e.operation_id, e.status"
EVENT_COLUMNS = f"{_EVENT}, iif(e.packed = x'', e.document, e.packed), e.hash, lower(hex(e.mac))"
EVENT_COLUMNS_OF_0_1_0 = f"{_EVENT}, e.document, e.hash, ''"


SCHEMA = (
    """CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    server_id INTEGER NOT NULL,
    sent INTEGER NOT NULL,          -- the event that recorded the intent to send, 0 before
    event INTEGER NOT NULL,         -- its last event
    document TEXT NOT NULL          -- of version 0.1.0 alone
) STRICT""",
    "CREATE INDEX IF NOT EXISTS operations_by_server ON operations (server_id, status)",
    "CREATE INDEX IF NOT EXISTS operations_by_intent ON operations (action, sent)",
    """CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    status TEXT NOT NULL,
    document TEXT NOT NULL,         -- of version 0.1.0 alone
    hash TEXT NOT NULL              -- likewise
) STRICT""",
)
"""As 0.1.0 made it."""

# More columns: 0.1.0, should it still be running, can append no event any more.
SEALED = (
    "ALTER TABLE events ADD COLUMN mac BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE events ADD COLUMN packed BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE operations ADD COLUMN mac BLOB NOT NULL DEFAULT x''",
    "ALTER TABLE operations ADD COLUMN backup_id INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE operations ADD COLUMN account TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE operations ADD COLUMN credential TEXT NOT NULL DEFAULT ''",
    "DROP INDEX operations_by_server",
    "CREATE INDEX operations_by_server ON operations (server_id, action, sent)",
    "CREATE INDEX operations_by_backup ON operations (backup_id) WHERE sent > 0",
    f"CREATE INDEX events_of_ledger ON events (seq) WHERE operation_id = '{OF_THE_LEDGER}'",
    f"CREATE INDEX operations_under_way ON operations (server_id) WHERE status IN ({UNDER_WAY})",
    """CREATE TABLE plans (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    server_id INTEGER NOT NULL,
    backup_id INTEGER NOT NULL,
    account TEXT NOT NULL,
    credential TEXT NOT NULL,
    at TEXT NOT NULL,               -- when it was planned, by which it is dropped
    packed BLOB NOT NULL,
    mac BLOB NOT NULL
) STRICT""",
)


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
    backup_id: int = 0
    account: str = ""
    credential: str = ""
    mac: str = ""

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

    @classmethod
    def model_validate(cls, obj: Any, /) -> Self: ...


_PLANNED_BEFORE = (
    "o.seq < (SELECT seq FROM (SELECT seq, id FROM operations UNION ALL SELECT seq, id FROM plans) WHERE id = ?)"
)


def terms(action: str | None, server_id: int, statuses: Collection[str], before: str = "") -> tuple[str, list[object]]:
    """A condition by which rows are found, and its values; `before` is the id of what was planned after them."""
    found: list[tuple[str, list[object]]] = [("1", [])]
    if action:
        found.append(("o.action = ?", [action]))
    if server_id:
        found.append(("o.server_id = ?", [server_id]))
    if statuses:
        found.append((f"o.status IN ({','.join('?' * len(statuses))})", list(statuses)))
    if before:
        found.append((_PLANNED_BEFORE, [before]))
    return " AND ".join(term for term, _ in found), [value for _, values in found for value in values]


def event_of(seq: int, at: str, operation_id: str, status: str, document: str | bytes, hash_: str, mac: str) -> Event:
    """An event as it was recorded; one that cannot be unpacked has a document that fits no MAC."""
    if isinstance(document, bytes):
        try:
            document = unpack(document)
        except ValueError:
            document = ""
    return Event(seq, at, operation_id, status, document, hash_, mac)


def found_by(operation: Document) -> tuple[str, str, int, str, str]:
    """What of an operation stays as it is, and is there to be found by."""
    return operation.id, operation.action, operation.server_id, operation.account, operation.credential


def named(operation_id: str, number: int) -> str:
    """An operation's id, for a sentence, where it is one; whatever else stands in its place is not repeated."""
    return operation_id if OPERATION_ID.fullmatch(operation_id) else f"number {number}"
