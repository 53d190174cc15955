"""A session with PostgreSQL: how it is opened, what is refused there, what its errors mean; and which processes live.

A process shows that it lives by a lock of its own, held by a session as long as both live.
"""

import re
import secrets
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import anyio.to_thread
import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo

from mcp_backups.errors import BusyError, LedgerUnavailableError

from .liveness import Work
from .postgres_tables import SCHEMA_NAME, TURNS, VERSION, WRITE_LOCK, migrate_tables
from .tables import UPGRADE

_OWNER = re.compile(r"[0-9a-f]{16}")

_CONNECT: dict[str, str | int] = {
    "client_encoding": "UTF8",  # of SQL_ASCII, a role's default or the database's, texts come as bytes
    "connect_timeout": 3,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "mcp-backups",
}
_SETTINGS = {
    "synchronous_commit": "on",  # a role's default may be off
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",  # a process that was stopped would keep all others from writing
    "idle_session_timeout": "0",  # the connection that shows that a process lives is idle for days
    "client_connection_check_interval": "2s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",  # of another, times cannot be read
    "search_path": f"{SCHEMA_NAME}, pg_temp",  # named last, so that no temporary table stands before ours
}
BUSY = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
"""55P03, 40001, 40P01, 23505: the whole work may be done again."""

_AWAY = ("08", "57P0", "53300")
_MIGRATE = "The operator must run `mcp-backups ledger migrate`. Reading backups still works."
_MEND = "Reading backups still works. The operator must see to the database; `mcp-backups doctor` shows its state."

_EXAMINED = f"""SELECT current_setting('fsync') = 'on', NOT pg_is_in_recovery(), pg_backend_pid(),
    to_regclass('{SCHEMA_NAME}.ledger') IS NOT NULL"""
_RIGHTS = "SELECT NOT has_table_privilege('events', 'UPDATE, DELETE, TRUNCATE')"
_STATE = """SELECT clock_timestamp(), pg_current_snapshot()::text, coalesce((SELECT version FROM ledger), 0),
    ARRAY(SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
_STATE_OF_WRITE = _STATE.replace("SELECT clock", "SELECT pg_current_xact_id()::text, clock", 1)

WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class UnansweredError(Exception):
    """The connection was lost in a COMMIT: it took place, or it did not."""


class Snapshot(NamedTuple):
    """What a transaction finds.

    Attributes:
        at: The database's time, UTC: of a write after it got the lock, and not when it began.
        transactions: Which of them it sees: the same text, the same rows.
        version: Of the tables.
        owners: The keys of the processes that are alive.
        after: What `transactions` will be once it is committed, if nobody else writes to the database; of a write.
    """

    at: datetime
    transactions: str
    version: int
    owners: frozenset[int]
    after: str = ""


class PostgresSession:
    """One connection, with the settings and the checks that the ledger relies on.

    Raises:
        LedgerUnavailableError: The database is none that a ledger may be kept in.
        psycopg.Error: It cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.connection: psycopg.Connection = psycopg.connect(make_conninfo(url, **_CONNECT), autocommit=True)
        try:
            changes = ", ".join("set_config(%s, %s, false)" for _ in _SETTINGS)
            self.connection.execute(f"SELECT {changes}".encode(), [each for pair in _SETTINGS.items() for each in pair])
        except BaseException:
            self.close()
            raise

    def examine(self) -> None:
        """Refuse a database in which what was committed could be lost, or changed by whoever serves."""
        is_durable, is_primary, process, is_there = _row(self.connection, _EXAMINED)
        refusals = {
            "it runs with fsync off, so that what was recorded could be lost": not is_durable,
            "it is a standby, or is being restored": not is_primary,
            # Behind a pooler, a lock that shows that a process lives belongs to whoever is given the connection next.
            "a connection pooler stands before it; name the database itself": process
            != self.connection.info.backend_pid,
        }
        for why, is_so in refusals.items():
            if is_so:
                raise LedgerUnavailableError(f"The ledger's database is not one to rely on: {why}.", _MEND)
        if not is_there:
            raise LedgerUnavailableError("The database holds no ledger yet.", _MIGRATE)
        if not _row(self.connection, _RIGHTS)[0]:
            raise LedgerUnavailableError(
                "The role of MCP_BACKUPS_LEDGER_URL may change or remove events, and a server's must not be able to.",
                "The operator must let it log in as another role, and say `mcp-backups ledger migrate` for that one.",
            )

    def begin(self, begin: str, *, waits_for_disk: bool = True) -> Snapshot:
        """Begin a transaction. A write holds the lock before it looks at anything: what it sees is never older."""
        self.connection.execute(begin.encode())
        if begin == READING:
            return self._checked(Snapshot(*_row(self.connection, _STATE)), is_writing=False)
        self.connection.execute(f"SELECT {WRITE_LOCK}".encode())
        if not waits_for_disk:
            self.connection.execute("SET LOCAL synchronous_commit = off")
        xid, at, snapshot, version, owners = _row(self.connection, _STATE_OF_WRITE)
        end = int(xid) + 1
        return self._checked(Snapshot(at, snapshot, version, owners, f"{end}:{end}:"), is_writing=True)

    def _checked(self, state: Snapshot, *, is_writing: bool) -> Snapshot:
        if state.version < VERSION:
            raise LedgerUnavailableError("The ledger's tables are of an older version.", _MIGRATE)
        if state.version > VERSION and is_writing:
            raise LedgerUnavailableError("A newer version of mcp-backups has migrated the ledger.", UPGRADE)
        return state._replace(at=state.at.astimezone(UTC), owners=frozenset(state.owners))

    def commit(self) -> None:
        """Raises UnansweredError where it is not known whether it took place."""
        try:
            done = self.connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if self.connection.closed or is_away(error):
                raise UnansweredError from error
            raise
        if done != "COMMIT":
            raise LedgerUnavailableError("The ledger's database undid what was to be recorded.", _MEND)

    def roll_back(self) -> None:
        """As far as there still is a connection."""
        with suppress(psycopg.Error):
            self.connection.execute("ROLLBACK")

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.connection.close()


def migrate_database(url: str, serving_role: str) -> tuple[int, int]:
    """Bring the tables to this version; see `migrate_tables`.

    Raises:
        ConfigError: The serving role is none that can be.
        LedgerUnavailableError: The database cannot be reached, or whoever logs in there may not do that.
    """
    with as_ledger_errors(), closing(PostgresSession(url)) as session:
        return migrate_tables(session.connection, serving_role)


def is_away(error: psycopg.Error) -> bool:
    """Whether the database cannot be reached, or ends the connection: 08, 57P0, 53300, or no word at all."""
    return error.sqlstate is None or error.sqlstate.startswith(_AWAY)


def _row(connection: psycopg.Connection, query: str) -> tuple[Any, ...]:
    return connection.execute(query.encode()).fetchone() or ()


@contextmanager
def as_ledger_errors() -> Iterator[None]:
    """PostgreSQL's errors as ours, without its words: they may hold what stands in the address."""
    try:
        yield
    except BUSY as error:
        raise BusyError("Another process holds the ledger.") from error
    except errors.UndefinedObject as error:  # a setting that an older one does not have
        raise LedgerUnavailableError("The ledger needs PostgreSQL 14 or later.", _MEND) from error
    except (errors.UndefinedTable, errors.InsufficientPrivilege) as error:
        raise LedgerUnavailableError("The role of MCP_BACKUPS_LEDGER_URL may not use the ledger.", _MIGRATE) from error
    except psycopg.Error as error:
        what = "cannot be reached" if is_away(error) else "could not do what it was asked"
        raise LedgerUnavailableError(f"The ledger's database {what}.", _MEND) from error


# Who lives


class SessionLiveness:
    """A session lock held as long as this process lives; see `Liveness`.

    When its connection breaks, others hold this process for dead. What it was at is then looked for, and never sent
    again; what it begins from now on it begins under another id.

    Args:
        url: Of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: PostgresSession | None = None
        self._owners: list[str] = []
        self._turns: set[str] = set()
        self._work = Work()
        self._lock = threading.Lock()
        self._alive: tuple[float, frozenset[int]] = 0.0, frozenset()

    @asynccontextmanager
    async def at_work(self, operation_id: str) -> AsyncIterator[str]:
        with self._work.on(operation_id):
            yield await anyio.to_thread.run_sync(self._announced)

    def is_here(self, operation_id: str) -> bool:
        return self._work.is_on(operation_id)

    def is_at_work(self, owner: str, operation_id: str) -> bool:
        if owner in self._owners:
            return self.is_here(operation_id)
        return bool(_OWNER.fullmatch(owner)) and _key_of(owner) in self._alive[1]

    def note(self, began: float, alive: frozenset[int]) -> None:
        """What a transaction saw that began so many ticks after some moment: the keys of those that are alive."""
        if began >= self._alive[0]:
            self._alive = began, alive

    async def has_turn(self, task: str) -> bool:
        return await anyio.to_thread.run_sync(self._has_turn, task)

    def leave(self) -> None:
        with self._lock:
            self._let_go()

    def _has_turn(self, task: str) -> bool:
        with as_ledger_errors(), self._lock:
            session = self._connected()
            if task not in self._turns and _locks(session, f"{TURNS}, %s", zlib.crc32(task.encode()) >> 1):
                self._turns.add(task)
            return task in self._turns

    def _announced(self) -> str:
        with as_ledger_errors(), self._lock:
            self._connected()
            return self._owners[-1]

    def _connected(self) -> PostgresSession:
        """The connection that holds the lock, which has just answered."""
        if self._session:
            try:
                self._session.connection.execute("SELECT 1")
            except psycopg.Error:
                self._let_go()
            else:
                return self._session
        session, owner = PostgresSession(self._url), secrets.token_hex(8)
        try:
            session.examine()
            _locks(session, "%s::bigint", _key_of(owner))  # a new number, which nobody else can have locked
        except BaseException:
            session.close()
            raise
        self._session = session
        self._owners.append(owner)
        return session

    def _let_go(self) -> None:
        if self._session:
            self._session.close()
        self._session = None
        self._turns.clear()


def _key_of(owner: str) -> int:
    return int.from_bytes(bytes.fromhex(owner), signed=True)


def _locks(session: PostgresSession, keys: str, *values: int) -> bool:
    found = session.connection.execute(f"SELECT pg_try_advisory_lock({keys})".encode(), values).fetchone()
    return bool(found and found[0])
