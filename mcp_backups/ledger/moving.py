"""The ledger of a file copied to PostgreSQL, whole, and the file marked so that nobody writes to it any more."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from mcp_backups.clock import system_clock
from mcp_backups.errors import ConfigError, LedgerUnavailableError

from .interface import LOCK_WAIT_SECONDS
from .key import existing_key, installation_key, known_memory, ledger_key
from .postgres_session import WRITING, PostgresSession, UnansweredError, as_ledger_errors
from .postgres_tables import PostgresRows
from .sqlite import as_sqlite_errors, file_in
from .sqlite_tables import SqliteRows, mark_as_moved
from .tables import Kept, distrust, pack
from .transaction import Transaction

_FOUND_BY = "seq, id, action, status, server_id, backup_id, account, credential"
_TABLES = {
    "operations": f"{_FOUND_BY}, sent, event, mac",
    "plans": f"{_FOUND_BY}, at, packed, mac",
}
_EVENTS = "SELECT seq, at, operation_id, status, document, packed, mac FROM events ORDER BY seq"
_AGAIN = "Run `mcp-backups ledger copy` again: it goes on from there."


class Copied(NamedTuple):
    """How much the database holds now."""

    events: int
    operations: int
    plans: int


def copy_to_postgres(folder: Path, key_file: Path, url: str, kind: type[Kept]) -> Copied:
    """Copy the ledger in a folder; done again after it was ended anywhere on its way, it goes on.

    The file is held meanwhile, so that nothing is written to it. It is marked before the copy is committed: one that
    is lost then is made again from the marked file, and nobody has written to either.

    Raises:
        ConfigError: There is none, or it was written with another key.
        LedgerUnavailableError: It cannot be trusted, or the database is not empty, or not to be relied on.
        BusyError: Another process holds one of the two for too long.
    """
    path = file_in(folder)
    if not path.is_file():
        raise ConfigError("There is no ledger in the state folder: nothing is to be copied.")
    (key, seen), wall = _key_of(folder, key_file), system_clock().wall
    with as_ledger_errors(), as_sqlite_errors(), _held(path) as file, closing(PostgresSession(url)) as session:
        session.examine()
        source = Transaction(SqliteRows(file), kind, wall, key, seen)
        if fault := source.verify():
            raise distrust(fault)
        session.begin(WRITING)
        session.connection.execute("SET LOCAL statement_timeout = 0")
        session.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if not _is_empty(session.connection):
            if _counts(session.connection) != _counts(file) or not _ends_alike(session.connection, file):
                raise LedgerUnavailableError(
                    "The database holds a ledger already, and not a copy of this one.", "Name a database without one."
                )
        else:
            _copy(file, session.connection)
            if fault := Transaction(PostgresRows(session.connection), kind, wall, key, seen).verify():
                raise distrust(fault)
        copied = _counts(session.connection)
        mark_as_moved(file)
        file.execute("COMMIT")
        try:
            session.commit()
        except UnansweredError as error:
            raise LedgerUnavailableError(
                "The ledger's database did not say whether it has the copy.", _AGAIN
            ) from error
    return copied


def _key_of(folder: Path, key_file: Path) -> tuple[bytes, Any]:
    own = existing_key(folder, None)
    key = installation_key(folder, key_file)
    if own not in {None, key}:
        raise ConfigError(
            "MCP_BACKUPS_KEY_FILE holds another key than the ledger was written with: copy installation.key of the"
            " state folder to where it names."
        )
    memory = known_memory(folder, None if own else key_file)
    return ledger_key(key), memory.read() if memory else None


@contextmanager
def _held(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, which nobody writes to meanwhile."""
    with closing(sqlite3.connect(path, timeout=LOCK_WAIT_SECONDS, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if not SqliteRows(connection).is_sealed:
            raise LedgerUnavailableError(
                "The ledger is one of version 0.1.0.", "Start mcp-backups on it once, without MCP_BACKUPS_LEDGER_URL."
            )
        yield connection


def _copy(file: sqlite3.Connection, database: psycopg.Connection) -> None:
    for table, columns in _TABLES.items():
        _fill(database, table, columns, file.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608
    ids = "seq, id, at, operation_id, status, packed, mac"
    events = (
        (seq, f"copied {seq}", at, operation_id, status, packed or pack(document), mac)
        for seq, at, operation_id, status, document, packed, mac in file.execute(_EVENTS)
    )
    _fill(database, "events", ids, events)


def _fill(
    database: psycopg.Connection, table: str, columns: str, rows: Iterator[Sequence[Any]] | sqlite3.Cursor
) -> None:
    with database.cursor().copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _counts(connection: sqlite3.Connection | psycopg.Connection) -> Copied:
    query = "SELECT (SELECT COUNT(*) FROM events), (SELECT COUNT(*) FROM operations), (SELECT COUNT(*) FROM plans)"
    return Copied(*(connection.execute(query).fetchone() or ()))


def _is_empty(connection: psycopg.Connection) -> bool:
    return _counts(connection) == Copied(0, 0, 0)


def _ends_alike(one: psycopg.Connection, other: sqlite3.Connection) -> bool:
    query = "SELECT mac FROM events ORDER BY seq DESC LIMIT 1"
    last, same = one.execute(query).fetchone(), other.execute(query).fetchone()
    return bool(last == same)
