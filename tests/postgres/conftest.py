import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcp_backups.clock import Clock, system_clock
from mcp_backups.ledger.postgres import PostgresLedger
from mcp_backups.operations import Operation
from tests.postgres.cluster import Database
from tests.stage import let_go_at_the_end

OpenLedger = Callable[..., PostgresLedger[Operation]]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def open_ledger(database: Database, key_file: Path, state_dir: Path) -> Iterator[OpenLedger]:
    """Each is one that a process of its own would have: `open_ledger(url=…, clock=…)`."""

    def open_one(url: str = "", clock: Clock | None = None) -> PostgresLedger[Operation]:
        return PostgresLedger(url or database.url, Operation, clock or system_clock(), state_dir, key_file)

    with let_go_at_the_end(open_one) as opened:
        yield opened


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> PostgresLedger[Operation]:
    return open_ledger()


@pytest.fixture
def other(open_ledger: OpenLedger) -> PostgresLedger[Operation]:
    """That of another process."""
    return open_ledger()
