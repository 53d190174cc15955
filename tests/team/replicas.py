"""Two replicas of one installation as processes, behind the proxy, on an emulated account."""

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_backups.access import Role, add_token
from mcp_backups.ledger import open_for_audit
from mcp_backups.operations import Operation
from mcp_backups.private import write_whole
from mcp_backups.sandbox import Emulator, large_fleet, serve_in_thread
from mcp_backups.settings import load_settings
from tests.doom import nursery
from tests.histories.truth import WatchedFleet
from tests.process import PATIENCE, environment
from tests.stage import Session
from tests.team.proxy import FreePort, Proxy, proxy

ROLES: dict[str, Role] = {"ada": "destroy", "bob": "destroy", "runbook": "destroy", "ci": "write", "watch": "read"}
"""The principals, and what each may do."""

Version = str
"""A client's `mode`: "2026-07-28", or "legacy" for the protocol before."""

_SERVERS = 60

MODERN, LEGACY = "2026-07-28", "legacy"


class Replica:
    """`mcp-backups serve --http` in a process of its own, forked from one that has everything imported.

    Args:
        unix: The file of the socket that it listens on.
        settings: Its environment.
        log: Where it adds what it writes to standard error.
    """

    def __init__(self, unix: Path, settings: Mapping[str, str], log: Path) -> None:
        self.unix, self.log, self._settings = unix, log, dict(settings)
        self.start()

    def start(self) -> None:
        arguments = (str(self.unix), self._settings, str(self.log))
        self._process = nursery().Process(target=_serve, args=arguments, daemon=True)
        self._process.start()

    def kill(self) -> None:
        """End it as a power cut does: what it was at stays as it was."""
        self._process.kill()
        self._process.join(PATIENCE)

    def end(self) -> int | None:
        """Have it finish what is under way; its exit code."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGTERM)
        self._process.join(PATIENCE)
        return self._process.exitcode

    def is_ready(self) -> bool:
        """Whether it takes calls."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.unix)) == 0

    def wait_until_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.is_ready():
            assert time.monotonic() < end, self.log.read_text(encoding="utf-8")
            time.sleep(0.01)


def _serve(unix: str, settings: dict[str, str], log: str) -> None:
    """The forked process, with an environment and a standard error of its own."""
    from mcp_backups.cli import main

    os.environ.clear()
    os.environ.update(settings)
    sys.stderr = open(log, "a")  # noqa: SIM115, PTH123 - until the process ends
    sys.exit(main(["serve", "--http", "--socket", unix]))


@dataclass(frozen=True)
class Team:
    """What is there: two replicas, who reaches them, and the account.

    Attributes:
        emulator: The account, on a socket.
        fleet: What it holds; every change of it is remembered.
        replicas: The processes.
        proxy: What stands before them.
        tokens: The access token of each principal.
        settings: The environment of a replica.
    """

    emulator: Emulator
    fleet: WatchedFleet
    replicas: tuple[Replica, Replica]
    proxy: Proxy
    tokens: dict[str, str]
    settings: Mapping[str, str]

    def recorded(self) -> list[Operation]:
        """Every operation in the ledger, which is whole."""
        with open_for_audit(load_settings(self.settings), Operation) as entries:
            assert entries
            assert entries.verify() == ""
            return entries.find(limit=100_000)

    @asynccontextmanager
    async def client(
        self, principal: str, version: Version, statuses: list[int], **options: Any
    ) -> AsyncIterator[Session]:
        """An MCP client that shows this principal's token; the status of each answer over HTTP is added."""

        async def note(response: httpx2.Response) -> None:
            statuses.append(response.status_code)

        headers = {"Authorization": f"Bearer {self.tokens[principal]}"}
        hooks = {"response": [note]}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=PATIENCE, verify=self.proxy.trusted, event_hooks=hooks) as http,
            Client(
                streamable_http_client(f"{self.proxy.url}/mcp", http_client=http), mode=version, **options
            ) as client,
        ):
            yield Session(client)


@contextmanager
def team(ledger_url: str = "") -> Iterator[Team]:
    """Two replicas that serve an account of 60 servers, each with four good backups, three days old.

    Args:
        ledger_url: The address of the ledger in PostgreSQL; else they share one in a file.
    """
    now = datetime.now(UTC)
    seeded = large_fleet(_SERVERS, 4 * _SERVERS, now - timedelta(days=3))
    fleet = WatchedFleet(servers=seeded.servers, backups=seeded.backups, tokens=seeded.tokens)
    with ExitStack() as stack:
        root = Path(stack.enter_context(TemporaryDirectory(prefix="team-")))  # short: so is the path of a socket
        emulator = stack.enter_context(serve_in_thread(Emulator(fleet, backup_seconds=0.5, restore_seconds=0.5)))
        folder, port, named = root / "state", FreePort(), dict[str, str]()
        if ledger_url:
            key = root / "key"
            write_whole(key, os.urandom(32))
            named = {"MCP_BACKUPS_LEDGER_URL": ledger_url, "MCP_BACKUPS_KEY_FILE": str(key)}
        tokens = {name: add_token(folder, name, role, now) for name, role in ROLES.items()}
        around = environment(
            folder,
            VPS_API_URL=emulator.base_url,
            VPS_API_TOKEN=emulator.token,
            MCP_BACKUPS_HTTP_URL=f"https://localhost:{port.number}",
            MCP_BACKUPS_LOG_LEVEL="WARNING",
            **dict.fromkeys(
                (
                    "MCP_BACKUPS_CREATES_PER_HOUR",
                    "MCP_BACKUPS_DELETES_PER_HOUR",
                    "MCP_BACKUPS_DELETES_PER_DAY",
                ),
                "100000",
            ),
            **named,
        )
        first, second = (
            stack.enter_context(_running(root / f"{number}.sock", around, root / f"{number}.log")) for number in (1, 2)
        )
        before = stack.enter_context(proxy(root, (first.unix, second.unix), port))
        for each in (first, second):
            each.wait_until_ready()
        yield Team(emulator, fleet, (first, second), before, tokens, around)


@contextmanager
def _running(unix: Path, settings: Mapping[str, str], log: Path) -> Iterator[Replica]:
    replica = Replica(unix, settings, log)
    try:
        yield replica
    finally:
        replica.kill()
