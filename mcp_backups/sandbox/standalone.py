"""The emulator on its own: in this process until it is told to stop, or in a thread beside the caller."""

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .emulator import Emulator

PATIENCE = 30.0
"""Seconds that starting and stopping may take."""

GREETING = "VPS.org sandbox at {url} - try it: VPS_API_URL={url} VPS_API_TOKEN={token} mcp-backups\n"


def run(
    port: int,
    host: str = "127.0.0.1",
    *,
    backup_seconds: float = 8.0,
    restore_seconds: float = 20.0,
    page_size: int | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. Prints one line to stdout: where, and with which token. Port 0 = any free one."""
    emulator = Emulator(
        host=host,
        port=port,
        backup_seconds=backup_seconds,
        restore_seconds=restore_seconds,
        page_size=page_size,
    )
    asyncio.run(_serve(emulator))


@contextmanager
def serve_in_thread(emulator: Emulator | None = None) -> Iterator[Emulator]:
    """Serve an emulator (a seeded one if none is given) from a thread of its own, for callers that block.

    Its methods may be called from here; its coroutines through `emulator.run`.
    """
    served = emulator or Emulator()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandbox", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(served.up(), loop).result(PATIENCE)
        try:
            yield served
        finally:
            served.run(served.down(), PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def _serve(emulator: Emulator) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        await emulator.up()
    except OSError:
        raise SystemExit(f"mcp-backups: --port {emulator.port} cannot be listened on; take another one.") from None
    try:
        sys.stdout.write(GREETING.format(url=emulator.base_url, token=emulator.token))
        sys.stdout.flush()
        await stop.wait()
    finally:
        await emulator.down()
