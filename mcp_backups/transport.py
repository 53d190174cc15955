"""Serving: what a server works with, standard input and output, signals, and the end."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from mcp.server.stdio import stdio_server
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.clock import system_clock
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.ledger import Ledger
from mcp_backups.operations.presence import Presence
from mcp_backups.server import build_server
from mcp_backups.settings import Settings

OpenDesk = Callable[[], AbstractAsyncContextManager[Desk]]

_GRACE_SECONDS = 25.0
"""How long a signal waits for writes under way to be sent and recorded."""


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncIterator[Desk]:
    """Everything that the tools work with, on the account that the settings name."""
    clock = system_clock()
    ledger, presence = Ledger(settings.state_dir, clock.wall), Presence(settings.state_dir)
    try:
        async with VpsClient(settings.vps_api_url, settings.vps_api_token, clock=clock) as api:
            yield Desk(settings, api, ledger, presence, clock)
    finally:
        presence.leave()
        ledger.close()


@asynccontextmanager
async def open_sandbox_desk(settings: Settings, backup_seconds: float) -> AsyncIterator[Desk]:
    """The same on a sandbox of its own, with a ledger that ends with it unless a folder is set for it."""
    from mcp_backups.sandbox import Emulator  # noqa: PLC0415 - the real server never needs it

    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(backup_seconds=backup_seconds))
        here = {"vps_api_url": emulator.base_url, "vps_api_token": SecretStr(emulator.token)}
        if "state_dir" not in settings.model_fields_set:
            here["state_dir"] = Path(stack.enter_context(TemporaryDirectory(prefix="mcp-backups-")))
        yield await stack.enter_async_context(open_desk(settings.model_copy(update=here)))


async def serve_stdio(desk: OpenDesk) -> None:
    """Serve one client over standard input and output until the input ends or a signal comes.

    A write under way is finished and recorded first, within a grace of 25 s.
    """
    closed = anyio.Event()

    @asynccontextmanager
    async def watched_desk() -> AsyncIterator[Desk]:
        try:
            async with desk() as opened:
                yield opened
        finally:
            closed.set()

    server = build_server(watched_desk)
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            tasks.start_soon(_end_on_signal, tasks.cancel_scope, closed)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
        tasks.cancel_scope.cancel()


async def _end_on_signal(serving: anyio.CancelScope, closed: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            serving.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_SECONDS):
                await closed.wait()
            sys.stderr.flush()
            # The thread that reads standard input cannot be interrupted, and would keep the process waiting for a line.
            os._exit(0)
