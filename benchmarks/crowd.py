"""What a call over HTTP takes while silent, slow and forgotten clients crowd the server, and what its end takes."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio
import httpx2

from benchmarks.measure import Figure, figure, timed
from mcp_backups.access import Role, add_token
from mcp_backups.web.limits import LIMITS, within_open_files

_MOST_SECONDS_TO_END = 10.0
_MOST_LOGGED = 10_000
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
}
_CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "list_backups", "arguments": {}, "_meta": _META},
}
_CALL_HEADERS = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "list_backups"}
_BEGIN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "benchmark", "version": "1"},
    },
}


@dataclass
class _Crowded:
    """A server over HTTP, and those who crowd it."""

    url: str
    folder: Path
    crowd: ExitStack

    def headers(self, name: str, role: Role = "read") -> dict[str, str]:
        token = add_token(self.folder, name, role, datetime.now(UTC))
        return {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}

    def connect(self, count: int, sent: bytes = b"") -> None:
        """Connections on which this is sent, and nothing more."""
        address = httpx2.URL(self.url)
        for _ in range(count):
            each = self.crowd.enter_context(socket.create_connection((address.host, address.port or 80)))
            each.sendall(sent)

    def send_half(self, count: int) -> None:
        """Requests of which half of the body never comes."""
        host = httpx2.URL(self.url).netloc.decode()
        head = {"Host": host, "Content-Length": "1000", "Content-Type": "application/json"} | self.headers("slow")
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        self.connect(count, f"POST /mcp HTTP/1.1\r\n{lines}\r\n{{".encode())

    async def forget_sessions(self, count: int) -> None:
        """Sessions of which nothing is heard again, each with a stream that waits for what the server has to say."""
        headers = self.headers("forgetful")
        host = httpx2.URL(self.url).netloc.decode()
        async with httpx2.AsyncClient(headers=headers) as http:

            async def begin() -> None:
                session = (await http.post(self.url, json=_BEGIN)).raise_for_status().headers["mcp-session-id"]
                lines = f"Host: {host}\r\nAuthorization: {headers['Authorization']}\r\nMcp-Session-Id: {session}\r\n"
                self.connect(1, f"GET /mcp HTTP/1.1\r\n{lines}Accept: text/event-stream\r\n\r\n".encode())

            await timed(begin, count, min(10, count))


@asynccontextmanager
async def _server(environment: dict[str, str], figures: list[Figure]) -> AsyncIterator[_Crowded]:
    with TemporaryDirectory() as state, ExitStack() as crowd, Path(state, "log").open("w+b") as log:
        around = {"PATH": os.environ["PATH"], "HOME": state} | environment | {"MCP_BACKUPS_STATE_DIR": state}
        command = [sys.executable, "-m", "mcp_backups", "serve", "--http", "--port", "0"]
        async with await anyio.open_process(command, stdin=None, stdout=None, stderr=log, env=around) as process:
            while not (told := re.search(rb"http://\S+", Path(log.name).read_bytes())):  # noqa: ASYNC110 - its process
                await anyio.sleep(0.05)
            yield _Crowded(told[0].decode(), Path(state), crowd)
            began = perf_counter()
            process.send_signal(signal.SIGTERM)
            await process.wait()
            figures.append(Figure("its end among all these", perf_counter() - began, "s", limit=_MOST_SECONDS_TO_END))
        figures.append(Figure("logged meanwhile", Path(log.name).stat().st_size, "bytes", limit=_MOST_LOGGED))


async def crowd_figures(environment: dict[str, str], silent: int, slow: int, sessions: int, times: int) -> list[Figure]:
    """The time of `list_backups` over HTTP, one after the other and alone, and then among each crowd."""
    within_open_files(LIMITS._replace(connections=2 * (silent + slow + sessions)))  # these are open here too
    figures: list[Figure] = []
    async with _server(environment, figures) as server:
        headers = server.headers("caller") | _CALL_HEADERS

        async def call() -> None:
            async with httpx2.AsyncClient(headers=headers, timeout=30) as anew:
                answer = (await anew.post(server.url, json=_CALL)).raise_for_status()
            if json.loads(answer.content)["result"].get("isError"):
                raise ValueError(answer.text)

        async def nobody() -> None:
            pass

        crowds: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("by itself", nobody),
            (f"among {silent} silent connections", partial(anyio.to_thread.run_sync, server.connect, silent)),
            (f"and {slow} half bodies", partial(anyio.to_thread.run_sync, server.send_half, slow)),
            (f"and {sessions} idle sessions", partial(server.forget_sessions, sessions)),
        ]
        for name, gather in crowds:
            await gather()
            figures.append(figure(f"list_backups over HTTP, {name}", await timed(call, times), "ms"))
    return figures
