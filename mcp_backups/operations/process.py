"""What this process alone knows of operations: which its calls wait for, and what it could not record."""

import math
from contextlib import suppress

import anyio

from mcp_backups.errors import BusyError, LedgerUnavailableError
from mcp_backups.ledger import Ledger, Transaction
from mcp_backups.operations.operation import UNSETTLED, Operation

LOOKOUT_SECONDS = 1.0
"""How soon an approver's decision is seen; many who wait for one ask no more often than one does."""

_FORGET_SECONDS = 5.0
_AGAIN_SECONDS = 1.0


class Lookout:
    """Who waits for which operation, and how these were at the last look."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._found: dict[str, Operation | None] = {}
        self._looked = -math.inf
        self._lock = anyio.Lock()

    async def find(self, ledger: Ledger[Operation], ticks: float, operation_id: str) -> Operation | None:
        """An operation as it was less than a second ago; None where it was not looked at yet, or is not there.

        Raises:
            BusyError, LedgerUnavailableError: The ledger cannot be read.
        """
        self._asked[operation_id] = ticks
        async with self._lock:
            if ticks - self._looked >= LOOKOUT_SECONDS:
                self._asked = {each: at for each, at in self._asked.items() if ticks - at < _FORGET_SECONDS}
                ids = tuple(self._asked)
                self._found = await ledger.read(lambda entries: {each: entries.get(each) for each in ids})
                self._looked = ticks
            return self._found.get(operation_id)


class Unrecorded:
    """Outcomes, and intents of which the ledger did not say that they are recorded, and which were not sent then.

    Others hold such an operation for being sent, as long as this process lives; only this one knows better.
    """

    def __init__(self) -> None:
        self._known: dict[str, Operation] = {}
        self._news = anyio.Event()

    def keep(self, operation: Operation) -> None:
        """Keep how an operation came to be, until that is recorded."""
        self._known[operation.id] = operation
        self._news.set()

    def better(self, operation: Operation) -> Operation:
        """How an operation came to be, as far as this process knows better than the ledger."""
        known = self._known.get(operation.id)
        return known if known and operation.status in UNSETTLED and operation.owner == known.owner else operation

    async def record_all(self, ledger: Ledger[Operation]) -> None:
        """Record each as soon as that can be done, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._known:
                for known in list(self._known.values()):
                    with suppress(BusyError, LedgerUnavailableError):
                        await self._record(ledger, known)
                await anyio.sleep(_AGAIN_SECONDS)

    async def _record(self, ledger: Ledger[Operation], known: Operation) -> None:
        def record(entries: Transaction[Operation]) -> None:
            current = entries.get(known.id)
            if current and self.better(current) != current:
                entries.save(known)

        await ledger.write(record)
        del self._known[known.id]
