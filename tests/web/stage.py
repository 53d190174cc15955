"""What the tests of serving over HTTP share: a server in this process, and clients that each show a token."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from mcp_backups.access import Role, add_token, local_token
from mcp_backups.metrics import Prometheus
from mcp_backups.sandbox import Emulator
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.transport import open_context
from mcp_backups.web import Place, serve
from tests.stage import PATIENCE, PROMPT, Era, ManualClock, Session, on_emulator

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        url: Where its clients reach it.
        folder: Its state folder.
        stop: Has it end.
        http: Reaches it, by whatever name, with no token of its own.
    """

    url: str
    folder: Path
    stop: Callable[[], None]
    http: httpx2.AsyncClient

    def token(self, name: str, role: Role) -> str:
        """An access token of a new principal; that of this machine's user for an empty name."""
        return add_token(self.folder, name, role, datetime.now(UTC)) if name else local_token(self.folder)

    def let_in(self, name: str, role: Role) -> dict[str, str]:
        """The header with the access token of a new principal, as `token`."""
        return {"Authorization": f"Bearer {self.token(name, role)}"}

    async def post(self, body: dict[str, Any], path: str = "/mcp", **headers: str) -> httpx2.Response:
        """One request as it stands on the wire."""
        return await self.http.post(httpx2.URL(self.url).join(path), json=body, headers=ACCEPT | headers)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        return await self.http.get(httpx2.URL(self.url).join(path), headers=headers)

    @asynccontextmanager
    async def client(self, token: str, era: Era = "auto", path: str = "/mcp", **options: Any) -> AsyncIterator[Session]:
        """An MCP client that shows this token."""
        headers = {"Authorization": f"Bearer {token}"}
        transport = self.http._transport
        async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE, transport=_Shared(transport)) as http:
            over = streamable_http_client(str(httpx2.URL(self.url).join(path)), http_client=http)
            async with Client(over, mode=era, **options) as client:
                yield Session(client)


class _Shared(httpx2.AsyncBaseTransport):
    """Another client's transport, which that one closes."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self._transport.handle_async_request(request)


@asynccontextmanager
async def serving(
    emulator: Emulator, settings: Settings, clock: ManualClock, unix: Path | None = None, **options: Any
) -> AsyncIterator[Served]:
    """A server on the emulator, in this process, on a real socket.

    Args:
        emulator: What it looks after, unless the settings name several accounts.
        settings: The account, the policy, and how clients reach it.
        clock: Where it takes its time from.
        unix: The file of a Unix socket to listen on.
        options: More for `serve`.
    """
    settings = settings if settings.accounts else on_emulator(settings, emulator)
    metrics: Prometheus | None = options.get("metrics")
    servers = {}
    for each in settings.for_each_account():
        meter = metrics.of(each.account) if metrics else None
        servers[each.account] = build_server(each, partial(open_context, each, clock.clock, PROMPT, meter))
    async with anyio.create_task_group() as tasks:
        run = partial(serve, servers, settings, "127.0.0.1", 0, unix, **options)
        place, stop = await tasks.start(run)
        transport = httpx2.AsyncHTTPTransport(uds=str(unix) if unix else None)
        async with httpx2.AsyncClient(transport=transport, timeout=PATIENCE) as http:
            yield Served(f"{_behind_proxy(place, unix)}/mcp", settings.state_dir, stop, http)
        stop()


def _behind_proxy(place: Place, unix: Path | None) -> str:
    """The address as a proxy reaches it, where there is no TLS."""
    if unix:
        return place.url.replace("https://", "http://", 1)
    return f"http://127.0.0.1:{place.sockets[0].getsockname()[1]}"
