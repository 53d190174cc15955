"""SQLite's tables, and those of 0.1.0, sealed with the key once they are seen to be whole."""

import json
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from mcp_backups.errors import LedgerUnavailableError

from .key import End
from .tables import GENESIS, OF_THE_LEDGER, UNDER_WAY, UPGRADE, Columns, Kept, distrust
from .transaction import Transaction

_VERSION = 1
"""Of the tables; 0.1.0 knew of none, and chained events by hashes alone."""

_MOVED = 1_000_000
"""Stands in the version's place once the ledger was copied elsewhere."""

_FOLLOW = "The operator must set MCP_BACKUPS_LEDGER_URL here too. Reading backups still works."

_ROW = "o.seq, o.id, o.action, o.status, o.server_id"
_EVENT = "e.seq, e.at, e.operation_id, e.status"
_SEALED_COLUMNS = Columns(
    operations=f"{_ROW}, o.sent, o.event, o.document, o.backup_id, o.account, o.credential, o.mac",
    plans=f"{_ROW}, 0, 0, o.packed, o.backup_id, o.account, o.credential, o.mac",
    events=f"{_EVENT}, e.document, e.packed, e.hash, e.mac",
)
_COLUMNS_OF_0_1_0 = Columns(
    operations=f"{_ROW}, o.sent, o.event, o.document, 0, '', '', x''",
    plans="",
    events=f"{_EVENT}, e.document, x'', e.hash, x''",
)

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


_EMPTY = {"events": {"document": "", "hash": ""}, "operations": {"document": ""}, "plans": {}}
"""What only rows of 0.1.0 hold."""


class SqliteRows:
    """The tables of an SQLite database, by a connection to it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @cached_property
    def is_sealed(self) -> bool:
        return bool(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @property
    def columns(self) -> Columns:
        return _SEALED_COLUMNS if self.is_sealed else _COLUMNS_OF_0_1_0

    def execute(self, query: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._connection.execute(query, values)

    def newest(self, query: str, by: Literal["seq", "sent"], values: Sequence[object]) -> Iterator[Sequence[Any]]:
        return self._connection.execute(f"{query} ORDER BY o.{by} DESC", values)

    def among(self, column: str, numbers: Collection[int]) -> tuple[str, object]:
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(numbers))  # noqa: S608

    def by_index(self, name: str) -> str:
        return f"INDEXED BY {name}"

    def add(self, table: Literal["events", "operations", "plans"], row: Mapping[str, object]) -> None:
        row = {**row, **_EMPTY[table]}
        names, places = ", ".join(row), ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row.values()))  # noqa: S608


def prepare_file(
    connection: sqlite3.Connection, kind: type[Kept], wall: Callable[[], datetime], key: bytes, known: End
) -> None:
    """Make the tables, or have those of 0.1.0 sealed with the key, once they are seen to be whole.

    Raises:
        LedgerUnavailableError: They cannot be trusted, or are not for this version to write to.
    """
    if check_version(connection) == _VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in SCHEMA:
            connection.execute(statement)
        is_open = not connection.execute("PRAGMA user_version").fetchone()[0]  # unless another process has just done it
        if is_open and _seal(connection, Transaction(SqliteRows(connection), kind, wall, None, known), key):
            _revise(Transaction(SqliteRows(connection), kind, wall, key, known), known)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_version(connection: sqlite3.Connection) -> int:
    """The version of the tables.

    Raises:
        LedgerUnavailableError: They are not for this version to write to, or for nobody any more.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version == _MOVED:
        raise LedgerUnavailableError("The ledger was moved to PostgreSQL.", _FOLLOW)
    if version > _VERSION:
        raise LedgerUnavailableError("A newer version of mcp-backups has written to the ledger.", UPGRADE)
    return version


def mark_as_moved(connection: sqlite3.Connection) -> None:
    """From now on a process that was forgotten writes nothing more here."""
    connection.execute(f"PRAGMA user_version = {_MOVED}")


def _seal(connection: sqlite3.Connection, entries: Transaction[Kept], key: bytes) -> bool:
    """Seal the tables of 0.1.0; whether anything was in them: those of a new ledger are of this form too."""
    if fault := entries.verify():
        raise distrust(fault)
    for statement in SEALED:
        connection.execute(statement)
    previous = GENESIS
    for event in entries.events():
        previous = event.expected_mac(key, previous)
        connection.execute("UPDATE events SET mac = ? WHERE seq = ?", (bytes.fromhex(previous), event.seq))
    connection.execute(
        "UPDATE operations SET mac = (SELECT mac FROM events WHERE seq = event),"
        " backup_id = COALESCE(json_extract(document, '$.backup_id'), 0),"
        " account = COALESCE(json_extract(document, '$.account'), ''),"
        " credential = COALESCE(json_extract(document, '$.credential'), ''), document = ''"
    )
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    return previous != GENESIS


def _revise(entries: Transaction[Kept], known: End) -> None:
    """Record what this version makes of what 0.1.0 said had failed."""
    failed = entries.find(statuses=["failed"], limit=sys.maxsize)
    revised = [now for before in failed if (now := before.revised()) is not before]
    if revised:
        entries.check(known)
    for operation in revised:
        entries.save(operation)
