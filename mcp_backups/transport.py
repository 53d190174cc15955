"""Serving: what a server works with, standard input and output, signals, and the end."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from pydantic import SecretStr

from mcp_backups.actions import ACTIONS
from mcp_backups.api import Connect, VpsClient, client_for
from mcp_backups.clock import Clock, system_clock
from mcp_backups.errors import BackupsError
from mcp_backups.ledger import installation_key, ledger_for
from mcp_backups.metrics import Meter, Prometheus, Unmetered
from mcp_backups.notify import keep_told, through_apprise
from mcp_backups.operations import AccountName, Context, Operation
from mcp_backups.operations.reconciliation import settle_left_open
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.stdio import Opened, endings, lines_of, serve_lines, take_over

OpenContext = Callable[[], AbstractAsyncContextManager[Context]]
GetKey = Callable[[], bytes | None]

_GRACE_SECONDS = 25.0
"""How long a signal waits for writes under way to be sent and recorded."""


@asynccontextmanager
async def open_idle_context(
    settings: Settings,
    clock: Clock | None = None,
    connect: Connect = VpsClient,
    meter: Meter | None = None,
) -> AsyncIterator[Context]:
    """Everything that operations work with, on the account that the settings name; nothing goes on by itself.

    Args:
        settings: The account and the policy.
        clock: Where time comes from; the machine's if none is given.
        connect: Makes the client, from its address, token and clock.
        meter: Is told of what goes on.
    """
    clock, meter = clock or system_clock(), meter or Unmetered()
    ledger = ledger_for(settings, Operation, clock)
    clock = ledger.common_clock(clock)
    try:
        async with client_for(settings, clock, connect, meter.asked) as api:
            account = AccountName(settings.account)
            yield Context(settings, api, ledger, ledger.liveness, clock, ACTIONS, account, meter=meter)
    finally:
        ledger.liveness.leave()
        ledger.close()


@asynccontextmanager
async def open_context(
    settings: Settings,
    clock: Clock | None = None,
    connect: Connect = VpsClient,
    meter: Meter | None = None,
) -> AsyncIterator[Context]:
    """The same for a server, which looks in the background what was left open before, and tells people what is new."""
    async with (
        open_idle_context(settings, clock, connect, meter) as context,
        anyio.create_task_group() as background,
    ):
        background.start_soon(settle_left_open, context)
        background.start_soon(context.unrecorded.record_all, context.ledger)
        if settings.notify:
            background.start_soon(keep_told, context, through_apprise(settings.notify))
        yield context
        background.cancel_scope.cancel()


@asynccontextmanager
async def open_sandbox_context(
    settings: Settings, backup_seconds: float, meter: Meter | None = None
) -> AsyncIterator[Context]:
    """The same on a sandbox of its own, with a ledger of its own that ends with it: no budget is used up by play."""
    from mcp_backups.sandbox import Emulator  # noqa: PLC0415 - the real server never needs it

    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(
            Emulator(backup_seconds=backup_seconds, restore_seconds=backup_seconds)
        )
        here = {
            "vps_api_url": emulator.base_url,
            "vps_api_token": SecretStr(emulator.token),
            "state_dir": Path(stack.enter_context(TemporaryDirectory(prefix="mcp-backups-"))),
            "key_file": None,
            "accounts": {},
            "ledger_url": None,
            "notify": (),
        }
        yield await stack.enter_async_context(open_context(settings.model_copy(update=here), meter=meter))


async def serve_stdio(context: OpenContext, key: GetKey = lambda: None, opened: Opened | None = None) -> None:
    """Serve one client over standard input and output until the input ends or a signal comes.

    A write under way is finished and recorded first, within a grace of 25 s.

    Args:
        context: What the tools work with.
        key: Gets what seals questions to the user, see `build_server`.
        opened: The client, where its beginning was answered already.
    """
    if opened is None:
        incoming, outgoing = take_over()
        opened = Opened(lines_of(incoming), outgoing.write)
    closed = anyio.Event()
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            tasks.start_soon(_end_on_signal, tasks.cancel_scope, closed)
        try:
            async with context() as served:
                server = build_server(served.settings, lambda: nullcontext(served), sealing_key=key)
                await serve_lines(server, opened)
        finally:
            closed.set()
        tasks.cancel_scope.cancel()


async def _end_on_signal(serving: anyio.CancelScope, closed: anyio.Event) -> None:
    with anyio.open_signal_receiver(*endings()) as signals:
        async for _ in signals:
            serving.cancel()
            with anyio.CancelScope(shield=True), anyio.move_on_after(_GRACE_SECONDS):
                await closed.wait()
            with suppress(OSError):  # of a terminal that was closed
                sys.stderr.flush()
            # A thread that writes to a client which reads nothing cannot be interrupted, and would keep the process.
            os._exit(0)


async def serve_http(
    settings: Settings,
    contexts: Mapping[str, OpenContext],
    host: str,
    port: int,
    unix: Path | None = None,
    key: GetKey = lambda: None,
    metrics: Prometheus | None = None,
) -> None:
    """Serve any number of clients over Streamable HTTP until a signal comes; see `web.serve`.

    Args:
        settings: The policy, who is let in, and how clients reach it.
        contexts: What the tools work with, by the names of several accounts; of the only one under an empty name.
        host: A loopback address or `localhost`; another one behind a proxy.
        port: 0 for a free one; the address is told on standard error.
        unix: The file of a Unix socket to listen on instead, behind a proxy.
        key: Gets what seals questions to the user, see `build_server`.
        metrics: What is told at `/metrics`.

    Raises:
        ConfigError: It cannot be listened there, anybody who reaches it would be let in, or nobody could be.
    """
    from mcp_backups import web  # noqa: PLC0415 - serving over standard input and output never needs it

    servers = {
        name: build_server(settings.for_account(name) if name else settings, context, sealing_key=key)
        for name, context in contexts.items()
    }
    await web.serve(servers, settings, host, port, unix, metrics=metrics)


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
