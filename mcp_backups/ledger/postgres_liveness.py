"""Which processes on a database are alive: a lock of each, held by a connection of its own as long as both live."""

import re
import secrets
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
import psycopg

from .liveness import Work
from .postgres_session import PostgresSession, as_ledger_errors
from .postgres_tables import TURNS

_OWNER = re.compile(r"[0-9a-f]{16}")


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
