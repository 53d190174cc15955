"""What a write to the ledger costs: one step of one operation, on disk when it returns."""

import statistics
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measure import Figure, figure, timed
from mcp_backups.clock import system_clock
from mcp_backups.ledger import Ledger
from mcp_backups.operations import DeleteDetails, Status
from mcp_backups.operations.operation import Operation, new_id

_P99_MS = 25.0


async def ledger_figures(folder: Path, writes: int) -> list[Figure]:
    """The median and the 99th percentile of one write, of `writes` in a row in a ledger that grows with them."""
    ledger, moment = Ledger(folder, Operation, lambda: datetime.now(UTC)), system_clock().moment()

    async def write() -> None:
        operation = Operation(
            id=new_id(),
            action="delete_backup",
            status=Status.PLANNED,
            details=DeleteDetails(good_left=17),
            arguments={"backup_id": 501},
            server_id=12345,
            server_name="web-server-01",
            backup_id=501,
            created=moment,
        )
        await ledger.write(lambda entries: entries.save(operation))

    try:
        await write()  # opens it
        samples = await timed(write, writes)
    finally:
        ledger.close()
    slowest = statistics.quantiles(samples, n=100)[-1]
    return [
        figure("ledger: a write", samples, "ms"),
        Figure("ledger: a write, 99th percentile", slowest, "ms", limit=_P99_MS),
    ]
