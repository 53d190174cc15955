"""Serving: what a server works with, standard input and output, signals, and the end."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock, system_clock
from mcp_backups.errors import BackupsError, ConfigError
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.key import installation_key
from mcp_backups.operations.ledger import Ledger
from mcp_backups.operations.presence import Presence
from mcp_backups.operations.unsettled import settle_left_open
from mcp_backups.server import build_server
from mcp_backups.settings import Settings, is_loopback

OpenDesk = Callable[[], AbstractAsyncContextManager[Desk]]
GetKey = Callable[[], bytes | None]

_GRACE_SECONDS = 25.0
"""How long a signal waits for writes under way to be sent and recorded."""

_HTTP_GRACE_SECONDS = 25
_MAX_BODY = 256 * 2**10


@asynccontextmanager
async def open_desk(
    settings: Settings, clock: Clock | None = None, connect: Callable[..., VpsClient] = VpsClient
) -> AsyncIterator[Desk]:
    """Everything that the tools work with, on the account that the settings name.

    Args:
        settings: The account and the policy.
        clock: Where time comes from; the machine's if none is given.
        connect: Makes the client, from its address, token and clock.
    """
    clock = clock or system_clock()
    ledger = Ledger(settings.state_dir, clock.wall, settings.key_file)
    presence = Presence(settings.state_dir)
    try:
        async with (
            connect(settings.vps_api_url, settings.vps_api_token, clock=clock) as api,
            anyio.create_task_group() as background,
        ):
            desk = Desk(settings, api, ledger, presence, clock)
            background.start_soon(settle_left_open, desk)
            yield desk
            background.cancel_scope.cancel()
    finally:
        presence.leave()
        ledger.close()


@asynccontextmanager
async def open_sandbox_desk(settings: Settings, backup_seconds: float) -> AsyncIterator[Desk]:
    """The same on a sandbox of its own, with a ledger of its own that ends with it: no budget is used up by play."""
    from mcp_backups.sandbox import Emulator  # noqa: PLC0415 - the real server never needs it

    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(Emulator(backup_seconds=backup_seconds))
        here = {
            "vps_api_url": emulator.base_url,
            "vps_api_token": SecretStr(emulator.token),
            "state_dir": Path(stack.enter_context(TemporaryDirectory(prefix="mcp-backups-"))),
            "key_file": None,
        }
        yield await stack.enter_async_context(open_desk(settings.model_copy(update=here)))


async def serve_stdio(desk: OpenDesk, key: GetKey = lambda: None) -> None:
    """Serve one client over standard input and output until the input ends or a signal comes.

    A write under way is finished and recorded first, within a grace of 25 s.

    Args:
        desk: What the tools work with.
        key: Gets what seals questions to the user, see `build_server`.
    """
    closed = anyio.Event()

    @asynccontextmanager
    async def watched_desk() -> AsyncIterator[Desk]:
        try:
            async with desk() as opened:
                yield opened
        finally:
            closed.set()

    server = build_server(watched_desk, sealing_key=key)
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


async def serve_http(desk: OpenDesk, host: str, port: int, key: GetKey = lambda: None) -> None:
    """Serve any number of clients over Streamable HTTP on this machine, until a signal comes.

    Requests that name another host or come from another origin are refused (421, 403), and bodies over 256 KiB (413).

    Args:
        desk: What the tools work with.
        host: A loopback address or `localhost`.
        port: 0 for a free one; the address is told on standard error.
        key: Gets what seals questions to the user, see `build_server`.

    Raises:
        ConfigError: The host is not on this machine, or the port is taken.
    """
    import uvicorn  # noqa: PLC0415 - serving over standard input and output never needs it

    if not is_loopback(host):
        raise ConfigError("--host must be an address of this machine: anyone who reaches the server can use the token.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError:
        raise ConfigError(f"--port {port} cannot be listened on; take another one.") from None
    port = listening.getsockname()[1]
    here = f"[{host}]" if ":" in host else host
    named = [f"{name}:{port}" for name in {"127.0.0.1", "localhost", "[::1]", here}]
    app = build_server(desk, sealing_key=key).streamable_http_app(
        max_request_body_size=_MAX_BODY,
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=True,
            allowed_hosts=named,
            allowed_origins=[f"http://{name}" for name in named],
        ),
    )
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=_HTTP_GRACE_SECONDS)
    sys.stderr.write(f"mcp-backups serves http://{here}:{port}/mcp\n")
    # uvicorn raises the signal that stopped it once more when it has stopped; by then all is done.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await uvicorn.Server(config).serve(sockets=[listening])


def sealing_key(folder: Path, key_file: Path | None = None) -> bytes | None:
    """The key that all processes of this installation share, made at its first use; None if it cannot be kept.

    Args:
        folder: Where the ledger lives.
        key_file: A file that holds the key; None for one of its own in that folder.
    """
    try:
        return installation_key(folder, key_file)
    except (BackupsError, OSError, NotImplementedError):
        return None
