"""What these tests share: a clock that only notes its sleeps, a client on it, and a server that says any bytes."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
from pydantic import SecretStr

from mcp_backups.api import Network, VpsClient
from mcp_backups.clock import Clock
from mcp_backups.errors import BackupsError
from mcp_backups.sandbox import SANDBOX_TOKEN

NOW = datetime(2025, 1, 16, 8, 0, tzinfo=UTC)
TOKEN = SANDBOX_TOKEN
STRAIGHT = Network()
DEADLINE = 5.0
PATIENCE = 10.0
"""Seconds after which a test gives up waiting."""


@dataclass
class Time:
    """Stands still; a sleep only moves it on."""

    slept: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    def clock(self) -> Clock:
        return Clock(wall=lambda: NOW, ticks=lambda: sum(self.slept), boot="boot", sleep=self.sleep)


def client_of(
    base_url: str,
    time: Time | None = None,
    *,
    token: str | None = TOKEN,
    deadline: float = DEADLINE,
    network: Network = STRAIGHT,
) -> VpsClient:
    secret = None if token is None else SecretStr(token)
    clock = (time or Time()).clock()
    return VpsClient(base_url, secret, clock=clock, jitter=lambda: 1.0, deadline=deadline, network=network)


async def error_of(call: Awaitable[Any]) -> BackupsError:
    """What a call raises, within bounds."""
    with anyio.fail_after(PATIENCE), pytest.raises(BackupsError) as caught:
        await call
    return caught.value


WRITES: dict[str, Callable[[VpsClient], Awaitable[object]]] = {
    "create": lambda client: client.create_backup(12345, "before the update"),
    "delete": lambda client: client.delete_backup(501),
    "restore": lambda client: client.restore_server(12345, 501),
}
READS: dict[str, Callable[[VpsClient], Awaitable[object]]] = {
    "list": lambda client: client.list_backups(),
    "servers": lambda client: client.list_servers(),
    "account": lambda client: client.account(),
}
ALL = READS | WRITES


def backup(number: int = 501, /, **changes: Any) -> dict[str, Any]:
    """A row as documented, but for the changes."""
    return {
        "id": number,
        "server": {"id": 12345, "name": "web-server-01"},
        "backup_type": "automatic",
        "status": "completed",
        "size_mb": 4523,
        "created_at": "2025-01-16T03:00:00Z",
        "expires_at": "2025-02-16T03:00:00Z",
        "description": "Automatic daily backup",
    } | changes


def answer(content: object, status: str = "200 OK", *headers: str) -> bytes:
    """A whole answer; bytes go out as they are, anything else as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Say = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def says(*answers: bytes) -> Say:
    """One answer after the other; the last again and again. The connection stays open."""
    left = list(answers)

    async def say(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    return say


class BareServer:
    """A socket that says whatever it is told to, and remembers what it was asked."""

    def __init__(self, say: Say, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self._say, self._tls = say, tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        scheme, host = ("https", "localhost") if self._tls else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self._server.sockets[0].getsockname()[1]}/api/v1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                asked = await _read(reader)
                self.asked.append(asked)
                await self._say(asked, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


async def _read(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, target, headers, body)


async def reset(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """RST."""
    writer.transport.abort()


async def close(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """FIN."""
    writer.close()


async def silence(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
    """Nothing, until the client leaves."""
    await asyncio.sleep(PATIENCE)


def drips(data: bytes, interval: float = 0.02) -> Say:
    """A byte at a time."""

    async def say(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(interval)

    return say
