"""What this process knows of operations and could not record: the ledger may be away for longer than a call takes."""

from contextlib import suppress

import anyio

from mcp_backups.errors import BusyError, LedgerUnavailableError
from mcp_backups.ledger import Ledger, Transaction
from mcp_backups.operations.operation import UNSETTLED, Operation

_AGAIN_SECONDS = 1.0


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
