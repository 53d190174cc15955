"""The ledger: what was planned, sent and became of it, durable before anybody is told.

SQLite, so that several processes share it. `operations` holds each operation as it is now;
`events` is append-only, each row carrying the SHA-256 of itself and the row before.
Behind `Ledger` and `Transaction` another database can take its place.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import anyio.to_thread
from pydantic import ValidationError

from mcp_backups.errors import BusyError, LedgerUnavailableError

from .events import GENESIS, Event

Value = TypeVar("Value")


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

    def model_dump_json(self, *, exclude_defaults: bool = ...) -> str: ...

    @classmethod
    def model_validate_json(cls, json_data: str, /) -> Self: ...


Kept = TypeVar("Kept", bound=Document)

LOCK_WAIT_SECONDS = 3.0
"""How long a call waits for another, and a write for another process's."""

_FILE = "ledger.sqlite3"
_OPENING, _POLL_SECONDS = "ledger.lock", 0.01

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    server_id INTEGER NOT NULL,
    sent INTEGER NOT NULL,          -- the event that recorded the intent to send, 0 before
    event INTEGER NOT NULL,         -- its last event
    document TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS operations_by_server ON operations (server_id, status);
CREATE INDEX IF NOT EXISTS operations_by_intent ON operations (action, sent);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    operation_id TEXT NOT NULL,
    status TEXT NOT NULL,
    document TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
"""


class Transaction(Generic[Kept]):
    """Reads and writes that happen together or not at all."""

    def __init__(self, connection: sqlite3.Connection, kind: type[Kept], wall: Callable[[], datetime]) -> None:
        self._connection = connection
        self._kind = kind
        self._wall = wall

    def get(self, operation_id: str) -> Kept | None:
        row = self._connection.execute("SELECT document FROM operations WHERE id = ?", (operation_id,)).fetchone()
        return self._kind.model_validate_json(row[0]) if row else None

    def find(
        self,
        *,
        action: str | None = None,
        server_id: int = 0,
        statuses: Collection[str] = (),
        limit: int = 100,
        sent_only: bool = False,
    ) -> list[Kept]:
        """Operations that fit all that is given: newest first, by intent if `sent_only`, else by plan."""
        terms: list[tuple[str, list[Any]]] = []
        if action:
            terms.append(("action = ?", [action]))
        if server_id:
            terms.append(("server_id = ?", [server_id]))
        if statuses:
            terms.append((f"status IN ({','.join('?' * len(statuses))})", list(statuses)))
        if sent_only:
            terms.append(("sent > 0", []))
        where = " AND ".join(term for term, _ in terms) or "1"
        order = "sent" if sent_only else "seq"
        rows = self._connection.execute(
            f"SELECT document FROM operations WHERE {where} ORDER BY {order} DESC LIMIT ?",  # noqa: S608 - our words only
            [*(value for _, values in terms for value in values), limit],
        )
        return [self._kind.model_validate_json(row[0]) for row in rows]

    def last_event(self) -> int:
        """The number of the last event, 0 before the first."""
        return int(self._connection.execute("SELECT COALESCE(MAX(seq), 0) FROM events").fetchone()[0])

    def last_write(self, server_id: int) -> int:
        """The number of the last event of anything that was sent for a server, 0 if nothing was."""
        row = self._connection.execute(
            "SELECT COALESCE(MAX(event), 0) FROM operations WHERE server_id = ? AND sent > 0", (server_id,)
        ).fetchone()
        return int(row[0])

    def save(self, operation: Kept) -> Kept:
        """Record an operation as it is now, and that it came to be so."""
        document = operation.model_dump_json(exclude_defaults=True)
        event = self._append(operation, document)
        self._connection.execute(
            "INSERT INTO operations (id, action, status, server_id, sent, event, document) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, event = excluded.event,"
            " sent = CASE WHEN sent > 0 THEN sent ELSE excluded.sent END, document = excluded.document",
            (
                operation.id,
                operation.action,
                operation.status,
                operation.server_id,
                event if operation.sent else 0,
                event,
                document,
            ),
        )
        return operation

    def events(self, operation_id: str = "") -> Iterator[Event]:
        """The event log, oldest first; of one operation when its id is given."""
        where, values = ("WHERE operation_id = ?", [operation_id]) if operation_id else ("", [])
        rows = self._connection.execute(
            f"SELECT seq, at, operation_id, status, document, hash FROM events {where} ORDER BY seq",  # noqa: S608
            values,
        )
        return (Event(*row) for row in rows)

    def verify(self) -> str:
        """Check the whole hash chain, and that every operation is as its last event says.

        Returns:
            What is wrong with it, or an empty string.
        """
        previous = GENESIS
        last: dict[str, tuple[int, str, str]] = {}
        for seq, event in enumerate(self.events(), start=1):
            if event.seq != seq or event.hash != event.expected_hash(previous):
                return f"event {seq} was changed or taken out"
            previous = event.hash
            last[event.operation_id] = (event.seq, event.status, event.document)
        for operation_id, *recorded in self._connection.execute("SELECT id, event, status, document FROM operations"):
            if last.pop(operation_id, None) != tuple(recorded):
                return f"operation {operation_id} is not as its last event says"
        return f"operation {min(last)} was taken out" if last else ""

    def _append(self, operation: Kept, document: str) -> int:
        row = self._connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = row or (0, GENESIS)
        event = Event(seq + 1, self._wall().isoformat(), operation.id, operation.status, document, "")
        self._connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (event.seq, event.at, event.operation_id, event.status, document, event.expected_hash(previous)),
        )
        return event.seq


class Ledger(Generic[Kept]):
    """The ledger in one folder; opened at its first use, so that reading backups never needs it.

    Args:
        folder: Where it lives; made, for its owner only, when it is not there.
        kind: What it keeps.
        wall: UTC, for the events' times.
    """

    def __init__(self, folder: Path, kind: type[Kept], wall: Callable[[], datetime]) -> None:
        self.path = folder / _FILE
        self._kind = kind
        self._wall = wall
        self._connection: sqlite3.Connection | None = None
        self._opened = (0, 0)
        self._lock = threading.Lock()

    async def write(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Do `work` in one transaction, durable when this returns; undone if `work` raises.

        Raises:
            BusyError: Another process kept it locked for too long.
            LedgerUnavailableError: It cannot be opened, written, or trusted.
        """
        return await anyio.to_thread.run_sync(self._run, work, "BEGIN IMMEDIATE")

    async def read(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Do `work` that only reads, on one consistent state. Raises as `write` does."""
        return await anyio.to_thread.run_sync(self._run, work, "BEGIN")

    def exists(self) -> bool:
        """Whether anything was ever recorded."""
        return self.path.exists()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self, work: Callable[[Transaction[Kept]], Value], begin: str) -> Value:
        with self._turn(), _as_ledger_errors():
            connection = self._connection = self._connection or self._open()
            if _identity(self.path) != self._opened:
                raise LedgerUnavailableError("The ledger was moved or replaced while this server ran.")
            connection.execute(begin)
            try:
                result = work(Transaction(connection, self._kind, self._wall))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One of this process's calls at a time; where another process holds the ledger, they do not wait in a row."""
        if not self._lock.acquire(timeout=LOCK_WAIT_SECONDS):
            raise BusyError("Other calls are waiting for the ledger.")
        try:
            yield
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        from filelock import FileLock  # noqa: PLC0415 - a server that only reads never needs it, and starts sooner

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # SQLite does not wait for its own lock while a new file becomes a write-ahead log.
            with FileLock(
                self.path.with_name(_OPENING), timeout=LOCK_WAIT_SECONDS, mode=0o600, poll_interval=_POLL_SECONDS
            ):
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
            _require_whole(connection, self._kind)
            self._opened = _identity(self.path)
        except BaseException:
            connection.close()
            raise
        return connection


def _identity(path: Path) -> tuple[int, int]:
    """Which file stands under that name; none if there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return status.st_dev, status.st_ino


@contextmanager
def open_for_audit(folder: Path, kind: type[Kept]) -> Iterator[Transaction[Kept] | None]:
    """The ledger in a folder as it is, for reading only, even where its chain is broken; None when there is none yet.

    Raises:
        LedgerUnavailableError: It cannot be read at all.
    """
    path = folder.absolute() / _FILE
    with _as_ledger_errors():
        exists = path.exists()
    if not exists:
        yield None
        return
    # Not mode=ro: a connection that may not write leaves the log's auxiliary files behind when it is the last to close.
    with _as_ledger_errors(), closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        yield Transaction(connection, kind, lambda: datetime.now(UTC))


def _require_whole(connection: sqlite3.Connection, kind: type[Kept]) -> None:
    connection.execute("BEGIN")  # one state for the whole check, whatever others write meanwhile
    fault = Transaction(connection, kind, lambda: datetime.now(UTC)).verify()
    connection.execute("COMMIT")
    if fault:
        raise LedgerUnavailableError(f"The ledger cannot be trusted: {fault}.")


@contextmanager
def _as_ledger_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BusyError("Another process holds the ledger.") from error
        raise LedgerUnavailableError("The ledger cannot be read or written.") from error
    except TimeoutError as error:  # filelock's
        raise BusyError("Another process is opening the ledger.") from error
    except (sqlite3.Error, OSError, NotImplementedError, ValidationError) as error:
        raise LedgerUnavailableError("The ledger cannot be opened, or is damaged.") from error
