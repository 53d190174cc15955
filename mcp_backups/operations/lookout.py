"""One look at the ledger for all calls of this process that wait for what another process records in it."""

import math

import anyio

from mcp_backups.ledger import Ledger
from mcp_backups.operations.operation import Operation

LOOKOUT_SECONDS = 1.0
"""How soon an approver's decision is seen; many who wait for one ask no more often than one does."""

_FORGET_SECONDS = 5.0


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
