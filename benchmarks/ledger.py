"""What a write to the ledger costs: one step of one operation, on disk when it returns."""

import sqlite3
import statistics
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from benchmarks.measure import Figure, figure, timed
from mcp_backups.clock import system_clock
from mcp_backups.ledger import Event, SqliteLedger
from mcp_backups.ledger.tables import GENESIS
from mcp_backups.operations import DeleteDetails, Operation, Status, new_id

_P99_MS = 25.0
_WRITE_MS = 1.0
_TIMES_OF_BARE = 3.0
_BATCH = 10

_BARE = """
CREATE TABLE operations (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, action TEXT, status TEXT,
    server_id INTEGER, sent INTEGER, event INTEGER, document TEXT) STRICT;
CREATE INDEX operations_by_server ON operations (server_id, status);
CREATE INDEX operations_by_intent ON operations (action, sent);
CREATE TABLE events (seq INTEGER PRIMARY KEY, at TEXT, operation_id TEXT, status TEXT, document TEXT, hash TEXT) STRICT;
"""


async def ledger_figures(folder: Path, writes: int) -> list[Figure]:
    """One write, of `writes` in a row, beside one as 0.1.0 made it; and a plan, which waits for no disk."""
    ledger = SqliteLedger(folder, Operation, lambda: datetime.now(UTC))
    bare = _bare(folder.with_suffix(".bare.sqlite3"))

    async def write() -> None:
        operation = _operation()
        await ledger.write(lambda entries: entries.save(operation))

    async def plan() -> None:
        operation = _operation().updated(status=Status.PLANNED, approved_by="")
        await ledger.write_plan(lambda entries: entries.save(operation))

    try:
        ours, theirs = await _in_turn(write, bare, writes)
        plans = await timed(plan, writes)
    finally:
        ledger.close()
    return [
        figure("ledger: a write", ours, "ms", limit=_WRITE_MS),
        Figure("ledger: a write, 99th percentile", statistics.quantiles(ours, n=100)[-1], "ms", limit=_P99_MS),
        figure("ledger: a write as 0.1.0 made it", theirs, "ms"),
        figure("ledger: a plan", plans, "ms"),
        Figure(
            "ledger: a write, times that of 0.1.0",
            statistics.median(ours) / statistics.median(theirs),
            "times",
            limit=_TIMES_OF_BARE,
        ),
    ]


async def _in_turn(
    one: Callable[[], Awaitable[None]], other: Callable[[], Awaitable[None]], times: int
) -> tuple[list[float], list[float]]:
    """Some of one, then some of the other: what else the machine does meanwhile slows down both."""
    samples: tuple[list[float], list[float]] = [], []
    for _ in range(max(2, times // _BATCH)):
        for found, work in zip(samples, (one, other), strict=True):
            found.extend((await timed(work, _BATCH))[1:])  # the first of a batch finds the caches cold
    return samples


def _bare(path: Path) -> Callable[[], Awaitable[None]]:
    """A write as 0.1.0 made it: one commit, and a hash instead of a MAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_BARE)

    def save(operation: Operation) -> None:
        document = operation.model_dump_json(exclude_defaults=True)
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = row or (0, GENESIS)
        event = Event(seq + 1, datetime.now(UTC).isoformat(), operation.id, operation.status, document)
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*event[:5], event.expected_hash(previous)))
        connection.execute(
            "INSERT INTO operations (id, action, status, server_id, sent, event, document) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, event = excluded.event",
            (operation.id, operation.action, operation.status, operation.server_id, 0, event.seq, document),
        )
        connection.execute("COMMIT")

    async def write() -> None:
        await anyio.to_thread.run_sync(save, _operation())

    return write


def _operation() -> Operation:
    return Operation(
        id=new_id(),
        action="delete_backup",
        status=Status.APPROVED,
        approved_by="plan",
        details=DeleteDetails(good_left=17),
        arguments={"backup_id": 501},
        server_id=12345,
        server_name="web-server-01",
        backup_id=501,
        created=system_clock().moment(),
    )
