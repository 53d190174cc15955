"""The ledger in PostgreSQL, which processes on several machines share.

SQLite lets one writer in at a time by itself. Here a lock does, and each rule that keeps it so stands where it is kept:
how a transaction begins and ends, and who is alive (`postgres_session.py`), what the tables are
and who may do what with them (`postgres_tables.py`).
"""

import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic

import anyio.to_thread
import psycopg
from psycopg.conninfo import conninfo_to_dict

from mcp_backups.clock import Clock
from mcp_backups.errors import BusyError, LedgerLostError, LedgerUnavailableError, UnconfirmedError
from mcp_backups.text import visible

from .interface import LOCK_WAIT_SECONDS, Value
from .key import BEGINNING, End, Remembered, end_file, installation_key, ledger_key
from .postgres_session import (
    BUSY,
    READING,
    WRITING,
    PostgresSession,
    SessionLiveness,
    Snapshot,
    UnansweredError,
    as_ledger_errors,
    is_away,
)
from .postgres_tables import PostgresRows
from .tables import LOSS_ACCEPTED, Kept
from .transaction import Known, Transaction

_READERS = 3
"""Connections for reading; for writing there is one, so that many callers are not many sessions that wait."""

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.1


@dataclass
class _Seat(Generic[Kept]):
    """A place for one call at a time.

    Attributes:
        session: Its connection, made when it is first needed.
        known: What was read and checked through it.
    """

    session: PostgresSession | None = None
    known: Known[Kept] = field(default_factory=dict)

    def clear(self) -> None:
        if self.session:
            self.session.close()
        self.session = None


Seats = queue.LifoQueue[_Seat[Kept]]
"""Those that are free; the one that was used last is used next."""


@dataclass
class _Unanswered(Generic[Value]):
    """What was to be committed when the connection was lost."""

    result: Value
    marks: list[str]
    end: End | None


class PostgresLedger(Generic[Kept]):
    """The ledger in a database; see `Ledger`.

    Args:
        url: Of the database, with what the server logs in as.
        kind: What it keeps.
        clock: This process's.
        folder: Of this installation's state.
        key_file: Holds the installation's key, the same for all processes on the ledger.
    """

    def __init__(self, url: str, kind: type[Kept], clock: Clock, folder: Path, key_file: Path) -> None:
        self._url = url
        self._kind = kind
        self._clock = clock
        self._folder, self._key_file = folder, key_file
        self.place = f"PostgreSQL, {address_of(url)}"
        self.liveness = SessionLiveness(url)
        self._key = b""
        self._memory: Remembered | None = None
        self._end: End | None = None
        self._snapshot = ""
        self._told = clock.wall(), clock.ticks()  # the database's time, once it has told it
        self._lock = threading.Lock()
        self._writing: Seats[Kept] = _seats(1)
        self._reading: Seats[Kept] = _seats(_READERS)

    async def write(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        return await anyio.to_thread.run_sync(self._write, work)

    async def write_plan(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        def plan(entries: Transaction[Kept]) -> Value:
            before, result = entries.end, work(entries)
            if entries.end != before:
                raise TypeError("more was recorded than a plan")
            return result

        return await anyio.to_thread.run_sync(lambda: self._write(plan, waits_for_disk=False))

    async def read(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        return await anyio.to_thread.run_sync(self._read, work)

    async def accept(self) -> str:
        return await anyio.to_thread.run_sync(self._accept)

    def exists(self) -> bool:
        return True

    def common_clock(self, clock: Clock) -> Clock:
        # Another process may run on another machine that bears the same name, as a copy of a virtual one does.
        return replace(clock, wall=self._wall, boot=f"{clock.boot} {secrets.token_hex(8)}")

    def close(self) -> None:
        for seats in (self._writing, self._reading):
            with suppress(queue.Empty):
                while True:
                    seats.get_nowait().clear()
        self._writing, self._reading = _seats(1), _seats(_READERS)

    @contextmanager
    def audit(self) -> Iterator[Transaction[Kept] | None]:
        with as_ledger_errors():
            memory = self._remembered()
            try:
                seen = memory.read() or BEGINNING
            except LedgerLostError:
                seen = None
            session = PostgresSession(self._url)
            try:
                session.examine()
                session.connection.execute("SET default_transaction_read_only = on")
                yield Transaction(PostgresRows(session.connection), self._kind, self._wall, self._key, seen)
            finally:
                session.close()

    def _write(self, work: Callable[[Transaction[Kept]], Value], *, waits_for_disk: bool = True) -> Value:
        with as_ledger_errors(), _seat_of(self._writing) as seat:
            return self._insist(seat, work, WRITING, waits_for_disk=waits_for_disk)

    def _read(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        with as_ledger_errors(), _seat_of(self._reading) as seat:
            return self._insist(seat, work, READING)

    def _insist(
        self,
        seat: _Seat[Kept],
        work: Callable[[Transaction[Kept]], Value],
        begin: str,
        *,
        waits_for_disk: bool = True,
    ) -> Value:
        """Do the work; the whole of it again where another process, or a connection that was cut, came in between."""
        end, tries = time.monotonic() + LOCK_WAIT_SECONDS, 0
        unanswered: _Unanswered[Value] | None = None
        while True:
            is_connected = False
            try:
                session = self._connected(seat)
                is_connected = True
                if unanswered and _took_place(session, unanswered):
                    self._note(unanswered.end, "")
                    return unanswered.result
                tries, unanswered = tries + 1, None
                outcome = self._transact(seat, session, work, begin, waits_for_disk=waits_for_disk)
                if not isinstance(outcome, _Unanswered):
                    return outcome
                unanswered = outcome if outcome.marks else None
            except psycopg.Error as error:
                may_go_on = isinstance(error, BUSY) or (is_connected and is_away(error))
                if not isinstance(error, BUSY):
                    seat.clear()
                is_late = time.monotonic() >= end
                if unanswered and is_late:
                    raise UnconfirmedError("The ledger's database did not say whether it was recorded.") from error
                if not unanswered and (is_late or tries >= _ATTEMPTS or not may_go_on):
                    raise
            if unanswered:
                seat.clear()
                time.sleep(_PAUSE_SECONDS)

    def _transact(
        self,
        seat: _Seat[Kept],
        session: PostgresSession,
        work: Callable[[Transaction[Kept]], Value],
        begin: str,
        *,
        waits_for_disk: bool,
    ) -> Value | _Unanswered[Value]:
        rows = PostgresRows(session.connection)
        # What is remembered is read first, and the ledger as it is after that: the other way round, an event that
        # is recorded between the two would seem to be missing.
        with self._lock:
            known, snapshot = self._end, self._snapshot
        remembered = self._remembered().read()
        began = self._clock.ticks()
        try:
            state = session.begin(begin, waits_for_disk=waits_for_disk)
            self._take_note(state, began)
            is_as_known = known is not None and state.transactions == snapshot
            entries = Transaction(rows, self._kind, self._wall, self._key, known if is_as_known else None, seat.known)
            if not is_as_known:
                entries.check(max(each for each in (remembered, known, BEGINNING) if each))
            result = work(entries)
        except BaseException:
            session.roll_back()
            raise
        try:
            session.commit()
        except UnansweredError:
            return _Unanswered(result, rows.marks, entries.end)
        self._note(entries.end, state.after or state.transactions)
        return result

    def _take_note(self, state: Snapshot, began: float) -> None:
        self._told = state.at, self._clock.ticks()
        self.liveness.note(began, state.owners)

    def _wall(self) -> datetime:
        """The database's time, as far as it has told it."""
        at, ticks = self._told
        return at + timedelta(seconds=self._clock.ticks() - ticks)

    def _note(self, end: End | None, snapshot: str) -> None:
        """Only once it is committed: a process that is killed before leaves what is remembered behind the ledger."""
        with self._lock:
            if end and (self._end is None or end >= self._end):
                if end != self._end:
                    try:
                        self._remembered().note(end)
                    except OSError as error:
                        raise UnconfirmedError("The ledger's end cannot be remembered outside of it.") from error
                self._end, self._snapshot = end, snapshot

    def _connected(self, seat: _Seat[Kept]) -> PostgresSession:
        if seat.session is None:
            session = PostgresSession(self._url)
            try:
                session.examine()
            except BaseException:
                session.close()
                raise
            seat.session = session
        return seat.session

    def _remembered(self) -> Remembered:
        if self._memory is None:
            key = installation_key(self._folder, self._key_file)
            self._key = ledger_key(key)
            ledger = address_of(self._url)
            otherwise = self._folder / f"{re.sub('[^A-Za-z0-9.-]', '_', ledger)}.end"
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            memory = Remembered(end_file(ledger, self._key_file, otherwise), self._key)
            if not memory.path.exists():
                memory.begin_once()  # as on every machine that joins: nothing of this ledger was seen from here
            self._memory = memory
        return self._memory

    def _accept(self) -> str:
        memory, trouble, known = self._remembered(), "", BEGINNING
        try:
            known = memory.read() or BEGINNING
        except LedgerLostError as error:
            trouble = error.what.removesuffix(".")
        with self.audit() as entries:
            if entries and (damage := entries.damage()):
                raise LedgerUnavailableError(
                    f"The ledger cannot be trusted: {damage}.",
                    "Keep a copy of the database as evidence, then put one back that is whole, or begin a new one.",
                )
            missing = trouble or (entries.lacks(known) if entries else "")
        if missing:
            if trouble:
                memory.path.replace(memory.path.with_name(f"{memory.path.name}.lost"))
            with self._lock:
                self._end, self._snapshot = known.accepted(), ""
            self._write(lambda entries: entries.note(LOSS_ACCEPTED, {"missing": missing}))
        return missing


def address_of(url: str) -> str:
    """Which database that is, for people and for the name of a file: without who logs in, and with which password."""
    known = conninfo_to_dict(url)
    parts = (known.get("host") or known.get("hostaddr") or known.get("service"), known.get("port"))
    return visible(f"{':'.join(str(each) for each in parts if each)}/{known.get('dbname', '')}")


def _seats(count: int) -> Seats[Kept]:
    seats: Seats[Kept] = queue.LifoQueue()
    for _ in range(count):
        seats.put(_Seat())
    return seats


@contextmanager
def _seat_of(seats: Seats[Kept]) -> Iterator[_Seat[Kept]]:
    try:
        seat = seats.get(timeout=LOCK_WAIT_SECONDS)
    except queue.Empty:
        raise BusyError("Other calls are waiting for the ledger.") from None
    try:
        yield seat
    finally:
        seats.put(seat)


def _took_place(session: PostgresSession, unanswered: _Unanswered[Value]) -> bool:
    """Whether it was committed: once the lock is ours, the transaction that held it is over."""
    try:
        session.begin(WRITING)
        found = session.connection.execute("SELECT 1 FROM events WHERE id = %s", unanswered.marks[:1]).fetchone()
    finally:
        session.roll_back()
    return found is not None
