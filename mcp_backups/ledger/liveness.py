"""Which processes are alive and what they are at: whose unfinished operations are to be settled by others."""

import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_backups.errors import LedgerUnavailableError

if TYPE_CHECKING:
    from filelock import FileLock

_OWNER = re.compile(r"[0-9a-f]{16}")


class Liveness:
    """A lock file held as long as this process lives; the system lets go of it however the process ends.

    Args:
        folder: Where the ledger lives.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "alive"
        self._owner = secrets.token_hex(8)
        self._lock: FileLock | None = None
        self._work: Counter[str] = Counter()

    @contextmanager
    def at_work(self, operation_id: str) -> Iterator[str]:
        """While inside, this process is at work on an operation; yields the process's id."""
        with _as_ledger_errors():
            self._announce()
        self._work[operation_id] += 1
        try:
            yield self._owner
        finally:
            self._work[operation_id] -= 1
            self._work = +self._work

    def is_here(self, operation_id: str) -> bool:
        """Whether another call in this process is at work on the operation."""
        return self._work[operation_id] > 0

    def is_at_work(self, owner: str, operation_id: str) -> bool:
        """Whether the process of that id may still be at work on the operation."""
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

    def leave(self) -> None:
        """Say that this process does no more."""
        if self._lock is not None:
            self._lock.release()
            self._path(self._owner).unlink(missing_ok=True)
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
