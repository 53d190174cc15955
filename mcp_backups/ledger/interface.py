"""What every store of the ledger offers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

from mcp_backups.clock import Clock

from .tables import Kept
from .transaction import Transaction

Value = TypeVar("Value")

LOCK_WAIT_SECONDS = 3.0
"""How long a call waits for another, and a write for another process's."""


class Liveness(Protocol):
    """Which processes on a ledger are alive and what they are at: whose unfinished operations are to be settled."""

    def at_work(self, operation_id: str) -> AbstractAsyncContextManager[str]:
        """While inside, this process is at work on an operation; yields the process's id.

        Raises:
            LedgerUnavailableError: Others could not be shown that; nothing is to be begun.
        """
        ...

    def is_here(self, operation_id: str) -> bool:
        """Whether another call in this process is at work on the operation."""
        ...

    def is_at_work(self, owner: str, operation_id: str) -> bool:
        """Whether the process of that id may still be at work on the operation, as of the ledger's last transaction."""
        ...

    async def has_turn(self, task: str) -> bool:
        """Whether it is this process that does what one of all the processes on the ledger does, as long as it lives.

        Raises:
            LedgerUnavailableError: It cannot be told.
        """
        ...

    def leave(self) -> None:
        """Say that this process does no more."""
        ...


class Ledger(Protocol[Kept]):
    """The ledger; opened at its first use, so that reading backups never needs it.

    Attributes:
        liveness: Of this process and the others on it.
        place: Where it is, for people; nothing in it is a secret.
    """

    @property
    def liveness(self) -> Liveness: ...
    @property
    def place(self) -> str: ...

    async def write(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Do `work` in one transaction, durable when this returns; undone if `work` raises.

        `work` does nothing but read and record: it may be done again from the start.

        Raises:
            BusyError: Another process kept it locked for too long.
            LedgerUnavailableError: It cannot be opened, written, or trusted.
            UnconfirmedError: It is not known whether it was recorded.
            ConfigError: The file that is set for the key holds none.
        """
        ...

    async def write_plan(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Do `work` that records nothing but plans, without waiting for the disk: one that is lost is made again.

        Raises as `write` does, and TypeError where more was recorded, which is undone.
        """
        ...

    async def read(self, work: Callable[[Transaction[Kept]], Value]) -> Value:
        """Do `work` that only reads, on one consistent state, whoever is writing. Raises as `write` does."""
        ...

    async def accept(self) -> str:
        """Go on, on the operator's word, although something is missing that was recorded; that is recorded too.

        Returns:
            What was missing, as a clause; empty if nothing was, and then nothing is recorded.

        Raises:
            BusyError: Another process kept it locked for too long.
            LedgerUnavailableError: What is there was changed, so that nothing can be built on it.
            ConfigError: The file that is set for the key holds none.
        """
        ...

    def audit(self) -> AbstractContextManager[Transaction[Kept] | None]:
        """The ledger as it is, for reading only, even where its chain is broken; None when there is none yet.

        Each read is a transaction of its own, so that none is open while something is printed.

        Raises:
            LedgerUnavailableError: It cannot be read at all, or is gone.
        """
        ...

    def exists(self) -> bool:
        """Whether anything may have been recorded; asking makes no ledger."""
        ...

    def common_clock(self, clock: Clock) -> Clock:
        """The clock by which all processes on the ledger live, made of this process's."""
        ...

    def close(self) -> None: ...
