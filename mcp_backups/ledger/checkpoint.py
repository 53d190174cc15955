"""What is recorded goes into the database itself at once, and so survives the loss of the log beside it.

A checkpoint as SQLite does it waits for the disk three times more than the commit did. Here the pages are written
without waiting, so that a process may be killed at any time, and waited for in the background. Until they are on the
disk, a reader keeps the log, which is, from being begun anew: so the machine may stop at any time too.
"""

import os
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

_MOST_PAGES = 2000
"""A log that has become so long is waited for, and then begun anew."""

_PAUSE_SECONDS = 0.02
"""Writes within this time are waited for together, and none is slowed down by the wait for the one before."""

_READ = "SELECT 1 FROM sqlite_schema LIMIT 1"
"""Begins to read, with no page but the first."""

_sync = getattr(os, "fdatasync", os.fsync)

_open_files: dict[tuple[int, int], tuple[int, int]] = {}
"""Of each database its descriptor in this process, and how many use it.

One for all: on POSIX, closing any descriptor of a file lets go of every lock that the process has on it.
"""
_opening = threading.Lock()


class Checkpoint:
    """Moves what was committed to a database.

    Args:
        path: The database, which is a write-ahead log's.
    """

    def __init__(self, path: Path) -> None:
        self._key, self._file = _open(path)
        self._readers = [sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(2)]
        for reader in self._readers:
            reader.execute("PRAGMA synchronous = OFF")
            reader.execute(_READ).fetchone()  # opens it now: later another file might stand there
        self._reading: sqlite3.Connection | None = None
        self._moves = 0
        self._lock = threading.Lock()
        self._moved, self._closing = threading.Event(), threading.Event()
        self._waiter: threading.Thread | None = None
        _sync(self._file)  # for a process that was killed before it could

    def move(self) -> bool:
        """Move what was committed; whether all was: a reader elsewhere may still need what was there.

        Raises:
            sqlite3.OperationalError: It could not be moved now. It is on the disk all the same.
        """
        with self._lock:
            which = self._readers[0] is self._reading
            reader, idle = self._readers[which], self._readers[not which]
            reader.execute("BEGIN")
            reader.execute(_READ).fetchone()
            self._let_go()
            self._reading = reader
            self._moves += 1
            _, written, moved = idle.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if written > _MOST_PAGES:
                _sync(self._file)
                self._let_go()
        if self._waiter is None:
            self._waiter = threading.Thread(target=self._wait_for_disk, daemon=True)
            self._waiter.start()
        self._moved.set()
        return bool(moved == written)

    def close(self) -> None:
        """Wait for the disk. The database's connections are to be closed before `let_go_of_file`."""
        if self._waiter is not None:
            self._closing.set()
            self._moved.set()
            self._waiter.join()
        with suppress(OSError):
            _sync(self._file)
        for reader in self._readers:
            reader.close()

    def let_go_of_file(self) -> None:
        """When no connection of this process to the database is open any more."""
        with _opening:
            file, users = _open_files.pop(self._key)
            if users > 1:
                _open_files[self._key] = file, users - 1
            else:
                os.close(file)

    def _wait_for_disk(self) -> None:
        while True:
            self._moved.wait()
            self._moved.clear()
            if self._closing.wait(_PAUSE_SECONDS):
                return
            moves = self._moves
            try:
                _sync(self._file)
            except OSError:
                continue  # the log is kept until the next succeeds
            with self._lock:
                if moves == self._moves:
                    self._let_go()

    def _let_go(self) -> None:
        if self._reading is not None:
            self._reading.execute("COMMIT")
            self._reading = None


def _open(path: Path) -> tuple[tuple[int, int], int]:
    with _opening:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        file, users = _open_files.get(key) or (os.open(path, os.O_RDWR), 0)
        _open_files[key] = file, users + 1
        return key, file
