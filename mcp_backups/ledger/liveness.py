"""Which processes of one machine are alive: a lock file of each, which the system lets go of however it ends."""

import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_backups.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from filelock import FileLock

_OWNER = re.compile(r"[0-9a-f]{16}")


class Work:
    """What the calls in this process are at work on."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    @contextmanager
    def on(self, operation_id: str) -> Iterator[None]:
        self._calls[operation_id] += 1
        try:
            yield
        finally:
            self._calls[operation_id] -= 1
            self._calls = +self._calls

    def is_on(self, operation_id: str) -> bool:
        return self._calls[operation_id] > 0


class FileLiveness:
    """A lock file held as long as this process lives; see `Liveness`.

    Args:
        folder: Where the ledger lives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "alive"
        self._owner = secrets.token_hex(8)
        self._lock: FileLock | None = None
        self._turns: dict[str, FileLock] = {}
        self._work = Work()

    @asynccontextmanager
    async def at_work(self, operation_id: str) -> AsyncIterator[str]:
        with _as_ledger_errors():
            self._announce()
        with self._work.on(operation_id):
            yield self._owner

    def is_here(self, operation_id: str) -> bool:
        return self._work.is_on(operation_id)

    def is_at_work(self, owner: str, operation_id: str) -> bool:
        if owner == self._owner:
            return self.is_here(operation_id)
        if not _OWNER.fullmatch(owner):
            return False  # whatever stands there becomes part of a path
        from filelock import FileLock, Timeout  # noqa: PLC0415 - as below

        path = self._path(owner)
        with _as_ledger_errors():
            if not path.exists():
                return False
            try:
                with FileLock(path).acquire(timeout=0):
                    pass
            except Timeout:
                return True
            path.unlink(missing_ok=True)
            return False

    async def has_turn(self, task: str) -> bool:
        from filelock import FileLock, Timeout  # noqa: PLC0415 - as below

        path = self._folder.with_name(f"{task}.lock")
        lock = self._turns.setdefault(task, FileLock(path, timeout=0, mode=0o600, thread_local=False))
        with _as_ledger_errors():
            try:
                lock.acquire() if not lock.is_locked else None
            except Timeout:
                return False
        return True

    def leave(self) -> None:
        for turn in self._turns.values():
            turn.release()
        if self._lock is not None:
            self._lock.release()
            with suppress(OSError):  # the folder may be gone, or its disk be read-only by now
                self._path(self._owner).unlink()
            self._lock = None

    def _announce(self) -> None:
        # Reading needs no lock, and importing them takes a fortieth of the time in which a server starts.
        from filelock import FileLock  # noqa: PLC0415

        if self._lock is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(self._path(self._owner), thread_local=False)
            lock.acquire()
            self._lock = lock

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"


@contextmanager
def _as_ledger_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the latter where the file system knows no locks
        raise LedgerUnavailableError("It cannot be marked beside the ledger who is at work.") from error
