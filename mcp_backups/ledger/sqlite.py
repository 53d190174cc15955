"""The ledger in a file of SQLite's, which the processes of one machine share."""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, NamedTuple

import anyio.to_thread
from pydantic import ValidationError

from mcp_backups.clock import Clock
from mcp_backups.errors import BackupsError, BusyError, LedgerLostError, LedgerUnavailableError, UnconfirmedError

from .checkpoint import Checkpoint
from .interface import LOCK_WAIT_SECONDS, Value
from .key import (
    BEGINNING,
    LOCK,
    End,
    Remembered,
    existing_key,
    installation_key,
    known_memory,
    ledger_key,
    put_aside,
    remembered,
)
from .liveness import FileLiveness
from .sqlite_tables import SqliteRows, check_version, prepare_file
from .tables import LOSS_ACCEPTED, Kept
from .transaction import Known, Transaction

__all__ = ["LOCK", "SqliteLedger", "open_file_for_audit"]

_READ_WAIT_SECONDS = 0.05
"""How long a read waits for a write of this process; each of them takes a millisecond, unless it waits itself."""

_FILE = "ledger.sqlite3"
_POLL_SECONDS = 0.01
_LEAST_SHM_BYTES = 32 * 2**10

_FORGOTTEN = "What was remembered of the ledger's end is gone."
_RESTART = "The operator of mcp-backups must restart it. Reading still works."


class _Files(NamedTuple):
    """Which files stand under the ledger's names, and what shows that the database was written to."""

    database: tuple[int, int]
    side_files: tuple[tuple[int, int], tuple[int, int]]
    state: tuple[int, int]


@dataclass(repr=False)  # the key is for no log
class _Opened:
    """What one opening of the ledger made, and uses until the files are others.

    Attributes:
        connection: To the database.
        checkpoint: Moves what was committed into the database itself.
        memory: What is remembered of the ledger's end.
        key: Of the ledger's MACs.
        files: As they were after the last use.
        version: SQLite's, of the data that were looked at last; at first no such version, so that they are looked at.
        is_behind: Whether something is in the log alone; at first its tables are.
        is_unnoted: Whether something was recorded and could not be remembered.
    """

    connection: sqlite3.Connection
    checkpoint: Checkpoint
    memory: Remembered
    key: bytes
    files: _Files
    version: int = -1
    is_behind: bool = True
    is_unnoted: bool = False

    def close(self) -> None:
        self.checkpoint.close()
        self.connection.close()
        self.checkpoint.let_go_of_file()


class SqliteLedger(Generic[Kept]):
    """The ledger in one folder; see `Ledger`.

    Args:
        folder: Where it lives; made, for its owner only, when it is not there.
        kind: What it keeps.
        wall: UTC, for the events' times.
        key_file: Holds the installation's key; None for one that is made in the folder.
    """

    def __init__(
        self, folder: Path, kind: type[Kept], wall: Callable[[], datetime], key_file: Path | None = None
    ) -> None:
        self.path = file_in(folder)
        self.place = str(folder)
        self.liveness = FileLiveness(folder)
        self._kind = kind
        self._wall = wall
        self._key_file = key_file
        self._opened: _Opened | None = None
        self._stopped: Remembered | None = None
        self._end: End | None = None
        self._known: Known[Kept] = {}
        self._is_writing = False
        self._lock = threading.Lock()

    async def write(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        return await anyio.to_thread.run_sync(self._run, work, "BEGIN IMMEDIATE")

    async def write_plan(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        return await anyio.to_thread.run_sync(self._run_planning, work)

    async def read(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        return await anyio.to_thread.run_sync(self._run_reading, work)

    async def accept(self) -> str:
        return await anyio.to_thread.run_sync(self._accept)

    def exists(self) -> bool:
        try:
            return _is_there(self.path) or _seen(self.path.parent, self._key_file).seq > 0
        except (BackupsError, OSError):
            return True

    def audit(self) -> AbstractContextManager[Transaction[Kept] | None]:
        return open_file_for_audit(self.path.parent, self._kind, self._key_file)

    def common_clock(self, clock: Clock) -> Clock:
        return clock  # of the one machine on which all its processes are

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened:
            opened.close()

    def _run(self, work: Callable[[Transaction[Kept]], Value], begin: str) -> Value:
        with self._turn(is_writing=begin != "BEGIN"), as_sqlite_errors():
            return self._transact(self._usable(), work, begin)

    def _run_planning(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        def plan(entries: Transaction[Kept]) -> Value:
            result = work(entries)
            if entries.end != self._end:
                raise TypeError("more was recorded than a plan")
            return result

        with self._turn(is_writing=True), as_sqlite_errors():
            opened = self._usable()
            opened.connection.execute("PRAGMA synchronous = NORMAL")
            try:
                return self._transact(opened, plan, "BEGIN IMMEDIATE")
            finally:
                opened.connection.execute("PRAGMA synchronous = FULL")

    def _run_reading(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        if not self._lock.acquire(timeout=_READ_WAIT_SECONDS):
            return self._read_beside(work) if self._is_writing else self._run(work, "BEGIN")
        try:
            with as_sqlite_errors():
                return self._transact(self._usable(), work, "BEGIN")
        finally:
            self._lock.release()

    def _read_beside(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Read while another call waits to write, which another process may keep it from for seconds."""
        opened, end = self._opened, self._end
        with as_sqlite_errors():
            if opened is None or end is None or self._stand()[:2] != opened.files[:2]:
                return self._run(work, "BEGIN")  # it is being opened
            with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                entries = Transaction(SqliteRows(connection), self._kind, self._wall, opened.key, end)
                check_version(connection)
                entries.check(end)
                return work(entries)

    def _transact(self, opened: _Opened, work: Callable[[Transaction[Kept]], Value], begin: str) -> Value:
        connection = opened.connection
        try:
            entries = self._begun(opened, begin)
            result = work(entries)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if entries.end and entries.end != self._end:
            # Only now: a process that is killed before leaves what is remembered behind the ledger, never ahead of it.
            opened.is_behind = opened.is_unnoted = True
            try:
                self._note(opened, entries.end)
            except OSError as error:
                raise UnconfirmedError("The ledger's end cannot be remembered outside of it.") from error
        if opened.is_behind:
            with suppress(sqlite3.OperationalError):  # the next one moves it too
                opened.is_behind = not opened.checkpoint.move()
        opened.files = opened.files._replace(state=_status(str(self.path))[2:])
        return result

    def _begun(self, opened: _Opened, begin: str) -> Transaction[Kept]:
        """A transaction on a ledger that holds what is remembered; looked at again once somebody else has written."""
        connection, known = opened.connection, None
        if begin != "BEGIN" and opened.is_unnoted and self._end:
            self._note(opened, self._end)  # before anything more is recorded
        while True:
            connection.execute(begin)
            version = int(connection.execute("PRAGMA data_version").fetchone()[0])
            entries = Transaction(SqliteRows(connection), self._kind, self._wall, opened.key, self._end, self._known)
            if version == opened.version and self._end is not None:
                return entries
            if known is not None:
                break
            # What is remembered is read first, and the ledger as it is after that. The other way round, an event that
            # another process records between the two would seem to be missing.
            connection.execute("ROLLBACK")
            known = max(filter(None, (opened.memory.read(), self._end, BEGINNING)))
        check_version(connection)
        entries.check(known)
        opened.version = version
        self._note(opened, entries.known_end)
        return entries

    def _note(self, opened: _Opened, end: End) -> None:
        self._end = end
        opened.memory.note(end)
        opened.is_unnoted = False

    def _usable(self) -> _Opened:
        """What is open, if the files are still those that it was opened with; else opened anew."""
        if self._stopped:
            seen = self._stopped.read()
            if not (seen and self._end and seen.term > self._end.term):  # unless the operator has accepted that since
                raise LedgerUnavailableError(
                    "A side file of the ledger was removed or replaced while this server ran. Nothing that was recorded"
                    " is lost, but nothing more can be recorded.",
                    _RESTART,
                )
            self._stopped = None
        opened = self._opened
        if opened is None:
            return self._open()
        files = self._stand()
        if files.database != opened.files.database:
            return self._open()  # another file, or none: what is remembered tells whether it will do
        if files.side_files != opened.files.side_files:
            # Another process may by now write to new ones, and no lock would keep the two apart.
            self._stopped = opened.memory
            self._close()
            return self._usable()
        if files.state != opened.files.state:
            # By another process, which the version tells too, or past SQLite, whose cache must not hide that.
            version = int(opened.connection.execute("PRAGMA data_version").fetchone()[0])
            if version == opened.version:
                return self._open()
        return opened

    def _stand(self) -> _Files:
        database, wal, shm = (_status(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm"))
        is_cut = shm[1] > 0 and shm[2] < _LEAST_SHM_BYTES
        if is_cut:
            os.truncate(f"{self.path}-shm", _LEAST_SHM_BYTES)  # else the next look at it would end the process
        return _Files(database[:2], (wal[:2], (0, 0) if is_cut else shm[:2]), database[2:])

    @contextmanager
    def _turn(self, *, is_writing: bool) -> Iterator[None]:
        """One of this process's calls at a time; where another process holds the ledger, they do not wait in a row."""
        begun = time.monotonic()
        if not self._lock.acquire(timeout=LOCK_WAIT_SECONDS):
            raise BusyError("Other calls are waiting for the ledger.")
        waited = time.monotonic() - begun
        try:
            self._is_writing = is_writing
            if self._opened and waited > _POLL_SECONDS:  # what it waited here it does not wait again
                left = max(0, int(1000 * (LOCK_WAIT_SECONDS - waited)))
                self._opened.connection.execute(f"PRAGMA busy_timeout = {left}")
            yield
        finally:
            self._is_writing = False
            if self._opened and waited > _POLL_SECONDS:
                self._opened.connection.execute(f"PRAGMA busy_timeout = {int(1000 * LOCK_WAIT_SECONDS)}")
            self._lock.release()

    def _open(self, term: End | None = None) -> _Opened:
        """Open it, or make it where none has been seen yet, or in a `term` that the operator begins."""
        from filelock import FileLock  # noqa: PLC0415 - a server that only reads never needs it, and starts sooner

        self._close()
        folder = self.path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = installation_key(folder, self._key_file)
        memory = remembered(folder, self._key_file, key)
        # SQLite does not wait for its own lock while a new file becomes a write-ahead log.
        with FileLock(self.path.with_name(LOCK), timeout=LOCK_WAIT_SECONDS, mode=0o600, poll_interval=_POLL_SECONDS):
            known = term or max(filter(None, (memory.read(), self._end)), default=None)
            if known is None and not _is_sealed_file(self.path) and self._key_file:
                memory.begin()  # the first use of a key that was made before
                known = BEGINNING
            if known is None:
                raise LedgerLostError(_FORGOTTEN)
            if known.seq and not _is_there(self.path):
                raise LedgerLostError(f"The ledger cannot be trusted: {_gone(known)}.")
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                self.path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                prepare_file(connection, self._kind, self._wall, ledger_key(key), known)
                checkpoint = Checkpoint(self.path)
            except BaseException:
                connection.close()
                raise
        if term or self._end is None:
            self._end = term
        self._opened = _Opened(connection, checkpoint, memory, ledger_key(key), self._stand())
        return self._opened

    def _accept(self) -> str:
        folder, known, trouble = self.path.parent, BEGINNING, ""
        with self._turn(is_writing=True), as_sqlite_errors():
            try:
                known = _seen(folder, self._key_file)
            except LedgerUnavailableError as error:
                trouble = error.what.removesuffix(".")
            with open_file_for_audit(folder, self._kind, self._key_file, anyway=True) as entries:
                if entries and (damage := entries.damage()):
                    raise LedgerUnavailableError(
                        f"The ledger cannot be trusted: {damage}.",
                        f"Keep a copy of {_FILE} as evidence, move it away, and accept that: a new one is begun.",
                    )
                lacking = entries.lacks(known) if entries else _gone(known) if known.seq else ""
            missing = trouble or lacking
            if missing:
                if trouble:
                    put_aside(folder, self._key_file)
                opened, about = self._open(known.accepted()), {"missing": missing}
                self._transact(opened, lambda entries: entries.note(LOSS_ACCEPTED, about), "BEGIN IMMEDIATE")
            return missing


def file_in(folder: Path) -> Path:
    return folder / _FILE


def _seen(folder: Path, key_file: Path | None) -> End:
    """Where the ledger in a folder ended when it was last seen; asking makes nothing.

    Raises:
        LedgerUnavailableError: That cannot be told, though something may have been seen.
    """
    memory = known_memory(folder, key_file)
    end = memory.read() if memory else BEGINNING
    if end is None and (not key_file or _is_sealed_file(folder / _FILE)):
        raise LedgerLostError(_FORGOTTEN)
    return end or BEGINNING


def _gone(known: End) -> str:
    return f"it is gone, though event {known.seq} was recorded here"


@contextmanager
def open_file_for_audit(
    folder: Path, kind: type[Kept], key_file: Path | None = None, *, anyway: bool = False
) -> Iterator[Transaction[Kept] | None]:
    """The ledger in a folder as it is; see `Ledger.audit`.

    Args:
        folder: Where it lives.
        kind: What it keeps.
        key_file: Holds the installation's key; None for one that was made in the folder.
        anyway: None too where there is none any more.
    """
    path, key, seen = file_in(folder.absolute()), None, None
    with as_sqlite_errors():
        is_there = _is_there(path)
        try:
            key = existing_key(folder, key_file)
            seen = _seen(folder, key_file)
        except LedgerUnavailableError:
            if not is_there and not anyway:
                raise
        if not is_there and not anyway and seen and seen.seq:
            raise LedgerLostError(f"The ledger cannot be trusted: {_gone(seen)}.")
    if not is_there:
        yield None
        return
    # Not mode=ro: a connection that may not write leaves the log's auxiliary files behind when it is the last to close.
    with (
        as_sqlite_errors(),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA query_only = ON")
        rows = SqliteRows(connection)
        is_readable = key is not None and rows.is_sealed
        yield Transaction(rows, kind, lambda: datetime.now(UTC), ledger_key(key) if key and is_readable else None, seen)


def _status(path: str) -> tuple[int, int, int, int]:
    """Which file stands under that name, its size, and when it was last written to; zeros if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - several times in every transaction, and twice as fast
    except FileNotFoundError:
        return (0, 0, 0, 0)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_there(path: Path) -> bool:
    """Whether there is a ledger: an empty file is none."""
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_sealed_file(path: Path) -> bool:
    """Whether the file bears the version that a ledger of 0.1.0 lacks, which SQLite keeps in these bytes."""
    if not _is_there(path):
        return False
    with path.open("rb") as file:
        return file.read(64)[60:] > bytes(4)


@contextmanager
def as_sqlite_errors() -> Iterator[None]:
    """SQLite's errors, and the file system's, as ours."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise BusyError("Another process holds the ledger.") from error
        is_full = error.sqlite_errorcode in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
        raise (_full() if is_full else LedgerUnavailableError("The ledger cannot be read or written.")) from error
    except TimeoutError as error:  # filelock's
        raise BusyError("Another process is opening the ledger.") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full() from error
        name = Path(error.filename).name if isinstance(error.filename, str) else ""
        if name and error.errno == errno.EISDIR:  # no damage: to begin a new ledger would lose this one for nothing
            what = f"A folder stands where the ledger's file {name} must be."
            todo = "Reading still works. The operator must move that folder away, and put back the file that was there."
            raise LedgerUnavailableError(what, todo) from error
        which = f" (its file {name})" if name else ""
        raise LedgerUnavailableError(f"The ledger cannot be opened{which}, or is damaged.") from error
    except (sqlite3.Error, NotImplementedError, ValidationError) as error:
        raise LedgerUnavailableError("The ledger cannot be opened, or is damaged.") from error


def _full() -> LedgerUnavailableError:
    return LedgerUnavailableError(
        "The disk of the ledger is full.",
        "Reading still works. The operator must free space on it; then call again as before.",
    )
