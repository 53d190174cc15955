import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx2
import pytest

from mcp_backups.access import local_token
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import Operation
from mcp_backups.sandbox import Emulator, serve_in_thread
from mcp_backups.sandbox.fleet import Backup
from tests.consent.wire import MODERN, Caller, Line, Message, Transport, Web, process
from tests.process import COMMAND, environment
from tests.stage import PATIENCE


class House:
    """Server processes on one emulated account, each started when it is first needed.

    Args:
        emulator: The account.
        folder: Below it those of one installation keep their ledger and key.
        stack: Ends what was started.
    """

    def __init__(self, emulator: Emulator, folder: Path, stack: ExitStack) -> None:
        self.emulator = emulator
        self._root, self._stack = folder, stack
        self.http = stack.enter_context(httpx2.Client(timeout=PATIENCE, auth=self.let_in))
        self._tokens: dict[int | None, str] = {}
        self._lines: dict[tuple[str, bool], Line] = {}
        self._urls: dict[str, str] = {}
        self._ids = count(max(emulator.fleet.backups) + 1)

    def caller(self, approval: str, transport: str, version: str, capabilities: Message) -> Caller:
        """A client of a server where consent is given as `approval` says."""
        over: Transport = (
            Web(self.url(approval), self.http) if transport == "HTTP" else self.line(approval, version == MODERN)
        )
        return Caller(over, version, capabilities)

    def line(self, approval: str, modern: bool) -> Line:
        """A process over standard input and output, whose first request decides for an era."""
        if (approval, modern) not in self._lines:
            self._lines[approval, modern] = Line(self._stack.enter_context(self._process(approval)))
        return self._lines[approval, modern]

    def url(self, approval: str) -> str:
        """A process over HTTP."""
        if approval not in self._urls:
            self._urls[approval] = self.serve(approval)
        return self._urls[approval]

    def serve(self, approval: str, *arguments: str, installation: str = "") -> str:
        """One more process over HTTP; its address."""
        return self._stack.enter_context(self.serving(approval, *arguments, installation=installation))[1]

    @contextmanager
    def serving(
        self, approval: str, *arguments: str, installation: str = ""
    ) -> "Iterator[tuple[subprocess.Popen[str], str]]":
        """A process over HTTP, and its address; with a ledger and key of its own for another installation."""
        with self._process(
            approval, "serve", "--http", "--port", "0", *arguments, installation=installation
        ) as started:
            assert started.stderr
            told = re.search(r"http://\S+", started.stderr.readline())
            assert told
            self._tokens[httpx2.URL(told[0]).port] = local_token(self.folder(installation or approval))
            yield started, told[0]

    def token(self, url: str) -> str:
        """The access token of the process at an address."""
        return self._tokens[httpx2.URL(url).port]

    def let_in(self, request: httpx2.Request) -> httpx2.Request:
        """A request with the access token of the process that it is for."""
        request.headers.setdefault("Authorization", f"Bearer {self.token(str(request.url))}")
        return request

    def folder(self, installation: str) -> Path:
        """Where an installation keeps its ledger and key; each approval is one."""
        return self._root / installation

    def environment(self, approval: str, installation: str = "") -> dict[str, str]:
        """The settings of a process."""
        return environment(
            self.folder(installation or approval),
            VPS_API_URL=self.emulator.base_url,
            VPS_API_TOKEN=self.emulator.token,
            MCP_BACKUPS_APPROVAL=approval,
            MCP_BACKUPS_DELETES_PER_HOUR="100000",
            MCP_BACKUPS_DELETES_PER_DAY="100000",
            MCP_BACKUPS_RESTORES_PER_HOUR="1000",
            MCP_BACKUPS_LOG_LEVEL="ERROR",
        )

    def _process(
        self, approval: str, *arguments: str, installation: str = ""
    ) -> "AbstractContextManager[subprocess.Popen[str]]":
        return process((*COMMAND, *arguments), self.environment(approval, installation))

    def decide_what_waits(self, approval: str) -> None:
        """Have approvers decline all that waits, so that more may."""
        ledger = SqliteLedger(self.folder(approval), Operation, lambda: datetime.now(UTC))
        with closing(ledger):
            ledger._run(
                lambda entries: [
                    entries.save(each.updated(status="declined")) for each in entries.find(statuses={"waiting"})
                ],
                "BEGIN IMMEDIATE",
            )

    def new_backup(self) -> int:
        """One more good backup of web-server-01 (12345); its id."""
        made = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=30)
        with self.emulator.lock:
            number = next(self._ids)
            self.emulator.fleet.backups[number] = Backup(number, 12345, made, "manual", size_mb=4000, description="")
        return number

    def deletes(self, backup_id: int) -> int:
        """How many requests came to delete it."""
        return self.emulator.count("DELETE", f"/backups/{backup_id}/")

    def restores(self, backup_id: int) -> int:
        """How many times it was restored."""
        return sum(restore.backup_id == backup_id for restore in self.emulator.fleet.restores)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let other threads go on until something is so, within bounds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        emulator = stack.enter_context(serve_in_thread(Emulator(restore_seconds=0)))
        yield House(emulator, tmp_path_factory.mktemp("house"), stack)
