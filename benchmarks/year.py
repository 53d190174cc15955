"""The ledger after a year: its size, and what it costs a first write, a plan and the commands that read it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import anyio

from benchmarks.measure import Figure, figure
from mcp_backups.clock import Moment, system_clock
from mcp_backups.ledger import SqliteLedger, Transaction
from mcp_backups.models import Backup
from mcp_backups.operations import DeleteDetails, Operation, Status, new_id

_YEAR = timedelta(days=365)
_OLD = timedelta(hours=2)
_BATCH = 500
_SERVERS = 100

_TOLD = """
import sys
from pathlib import Path
from mcp_backups.cli import main
code, status = main(sys.argv[1:]), Path("/proc/self/status")
if status.exists():
    sys.stderr.write(status.read_text())
sys.exit(code)
"""
"""A command that tells of its own memory: what the system tells of a child includes that of its parent."""

_OF_50_000_MB = 60.0
_FIRST_WRITE_MS, _COMMAND_MS, _MEMORY_MB = 50.0, 300.0, 20.0


def make_year(folder: Path, operations: int) -> None:
    """A ledger of so many deletes, evenly over the year that ended two hours ago; each was planned and carried out."""
    ledger = SqliteLedger(folder, Operation, lambda: datetime.now(UTC))
    clock = system_clock()
    now = clock.moment()

    def fill(first: int) -> Callable[[Transaction[Operation]], None]:
        def save(entries: Transaction[Operation]) -> None:
            for number in range(first, min(first + _BATCH, operations)):
                _carry_out(entries, number, _moment(now, _YEAR * (1 - number / operations) + _OLD))

        return save

    async def fill_all() -> None:
        for first in range(0, operations, _BATCH):
            await ledger.write(fill(first))

    anyio.run(fill_all)
    ledger.close()
    os.sync()


def _moment(now: Moment, ago: timedelta) -> Moment:
    return Moment(wall=now.wall - ago, ticks=0.0, boot="before", upstream=now.wall - ago)


def _carry_out(entries: Transaction[Operation], number: int, moment: Moment) -> None:
    server = 20_000 + number % _SERVERS
    backup = Backup(
        id=1_000_000 + number,
        server_id=server,
        server_name=f"web-{server}.example.com",
        type="manual",
        status="completed",
        size_mb=4000.0 + number % 1000,
        created_at=moment.wall - timedelta(days=30),
        expires_at=None,
        description=f"Before the change {number}",
    )
    newest = replace(backup, id=backup.id + 5000, type="automatic", description="Automatic daily backup")
    plan = entries.save(
        Operation(
            id=new_id(),
            action="delete_backup",
            status=Status.PLANNED,
            arguments={"backup_id": backup.id},
            server_id=server,
            server_name=backup.server_name,
            backup_id=backup.id,
            backup=backup,
            details=DeleteDetails(good_left=7, newest_left=newest),
            created=moment,
            address="0123456789abcdef",
            credential="fedcba9876543210",
            account="00112233aabbccdd",
        )
    )
    approved = entries.save(plan.updated(status="approved", approved_by="plan"))
    sending = entries.save(approved.updated(status="sending", sent=moment, owner=f"{number:016x}"))
    entries.save(sending.updated(status="succeeded", evidence="absent from the complete list"))


def year_figures(folder: Path, operations: int, times: int) -> list[Figure]:
    """What a year of so many operations costs, against a ledger of one.

    Args:
        folder: Holds the year's ledger already; another is made beside it.
        operations: In it.
        times: How often each is measured.
    """
    young = folder.with_name(f"{folder.name}-young")
    make_year(young, 1)
    named = f"ledger of {operations} operations"
    size = sum(each.stat().st_size for each in folder.iterdir()) / 1e6
    figures = [
        Figure(f"{named}: size", size, "MB", limit=_OF_50_000_MB * max(operations, 5_000) / 50_000),
        _difference(f"{named}: first write after the start, more than on an empty one", "ms", _FIRST_WRITE_MS,
                    [_first_write(folder) for _ in range(times)], [_first_write(young) for _ in range(times)]),
    ]  # fmt: skip
    found = _an_id(folder), _an_id(young)
    for name, commands in (
        ("audit ID", (("audit", found[0]), ("audit", found[1]))),
        ("operations", (("operations",), ("operations",))),
    ):
        old = [_command(folder, *commands[0]) for _ in range(times)]
        new = [_command(young, *commands[1]) for _ in range(times)]
        told = f"{named}: {name}, more than of one operation"
        figures += [
            _difference(told, "ms", _COMMAND_MS, [each[0] for each in old], [each[0] for each in new]),
            _difference(f"{told}: memory", "MB", _MEMORY_MB, [each[1] for each in old], [each[1] for each in new]),
        ]
    return figures


def _difference(name: str, unit: str, limit: float, old: list[float], new: list[float]) -> Figure:
    """Of the least of each: what else the machine does only adds."""
    spread = figure(name, old, unit).spread
    return Figure(name, min(old) - min(new), unit, spread, limit)


def _first_write(folder: Path) -> float:
    ledger = SqliteLedger(folder, Operation, lambda: datetime.now(UTC))
    saved = Operation(
        id=new_id(),
        action="delete_backup",
        status=Status.APPROVED,
        approved_by="plan",
        arguments={},
        details=DeleteDetails(),
        server_id=1,
        created=system_clock().moment(),
    )
    start = perf_counter()
    anyio.run(ledger.write, lambda entries: entries.save(saved))
    milliseconds = (perf_counter() - start) * 1000
    ledger.close()
    return milliseconds


def _an_id(folder: Path) -> str:
    ledger = SqliteLedger(folder, Operation, lambda: datetime.now(UTC))
    [operation] = anyio.run(ledger.read, lambda entries: entries.find(limit=1))
    ledger.close()
    return str(operation.id)


def _command(folder: Path, *arguments: str) -> tuple[float, float]:
    """Milliseconds and, on Linux, MB of a command on a ledger."""
    around = {"PATH": "", "HOME": str(folder.parent), "MCP_BACKUPS_STATE_DIR": str(folder)}
    start = perf_counter()
    done = subprocess.run(
        (sys.executable, "-c", _TOLD, *arguments), capture_output=True, text=True, env=around, check=True
    )
    milliseconds = (perf_counter() - start) * 1000
    most = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    return milliseconds, int(most[1]) / 1000 if most else 0.0
