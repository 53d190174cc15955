"""Where histories have their ledger: in a file, or each in a database of its own on one PostgreSQL."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from mcp_backups.settings import Settings
from tests.postgres.cluster import Cluster, running_cluster
from tests.stage import ledger_of

_PORT = "TESTS_POSTGRES_PORT"
"""In the environment, so that every process that runs histories finds the same server."""


@contextmanager
def store(name: str) -> Iterator[None]:
    """While inside, histories of this process, and of those that it starts, have their ledgers there."""
    if name == "sqlite":
        yield
        return
    with running_cluster() as cluster:
        os.environ[_PORT] = str(cluster.port)
        try:
            yield
        finally:
            del os.environ[_PORT]


@contextmanager
def ledger_for_history(state_dir: Path) -> Iterator[dict[str, Any]]:
    """The settings by which the ledger of a state folder is found, if that is not in it."""
    if _PORT not in os.environ:
        yield {}
        return
    from mcp_backups.ledger.postgres import PostgresLedger

    # Time is turned by hand in histories, and the database's cannot be.
    PostgresLedger.common_clock = lambda _ledger, clock: clock  # type: ignore[method-assign, assignment]
    key_file = state_dir.parent / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    with Cluster(Path(), int(os.environ[_PORT])).database() as database:
        elsewhere = {"ledger_url": SecretStr(database.url), "key_file": key_file}
        with ledger_of(state_dir, Settings(state_dir=state_dir, **elsewhere)):
            yield elsewhere
