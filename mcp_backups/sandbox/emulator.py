"""The emulator: a listening socket, a fleet behind it, and a book of what was asked and how it was spoiled.

It serves inside a program's event loop, in a thread beside a caller that blocks, or alone until it is told to stop.
"""

import asyncio
import copy
import json
import signal
import ssl as tls
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from . import api, control
from .access import Throttle, Turnstile
from .faults import Fault, FaultRule, FaultRules, Form
from .fleet import END_OF_TIME, SANDBOX_TOKEN, Fleet, utc_now
from .received import PREFIX, Received
from .refusals import RefusalError
from .reply import SUCCESS, Reply
from .seed import seeded_fleet
from .shapes import Pages
from .wire import Sleep, Wire

Result = TypeVar("Result")

ORDINARY = Fault()
"""Nothing goes wrong."""

PATIENCE = 30.0
"""Seconds that starting and stopping may take."""

GREETING = "VPS.org sandbox at {url} - try it: VPS_API_URL={url} VPS_API_TOKEN={token} mcp-backups\n"


class Emulator:
    """The VPS.org API over a real socket, on this machine. Serves inside `async with`; its port stays the same.

    fleet: the account's state; seeded with a believable one if none is given.
    now: the clock, in UTC. sleep: how delays and drips wait.
    backup_seconds, restore_seconds: how long those take, by `now`.
    statuses: the words for a new backup under way, and for one that is finished.
    size_seconds: by how much later than finished a backup's size is told; until then it is null.
    lag_seconds: how far lists of backups lag behind what is there.
    page_size: rows on a page, 1 to `max_page_size`; None = the documented lists, whole.
    throttle: how many requests a token may make; None = any number.
    honour_filters: False = list filters are ignored, as unknown ones are.
    ssl: serves https with this context. host, port: where; port 0 = any free one.

    `requests` holds every request it got, in order; `connections` counts what was accepted, though the handshake may
    have failed after; `faults` holds the rules in force; `pending` the late requests and when they will be applied.
    State is guarded by `lock`: it may be told and asked things from any thread.
    """

    def __init__(
        self,
        fleet: Fleet | None = None,
        *,
        now: Callable[[], datetime] = utc_now,
        sleep: Sleep = asyncio.sleep,
        backup_seconds: float = 8.0,
        restore_seconds: float = 20.0,
        statuses: tuple[str, str] = ("in_progress", "completed"),
        size_seconds: float = 0.0,
        lag_seconds: float = 0.0,
        page_size: int | None = None,
        max_page_size: int = 100,
        throttle: Throttle | None = None,
        honour_filters: bool = True,
        ssl: tls.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.fleet = seeded_fleet(now()) if fleet is None else fleet
        self.faults = FaultRules()
        self.requests: list[Received] = []
        self.connections = 0
        self.lock = threading.RLock()
        self.token = SANDBOX_TOKEN
        self.host, self.port = host, port
        self._now, self._sleep, self._ssl = now, sleep, ssl
        scheme = "http" if ssl is None else "https"
        turnstile = None if throttle is None else Turnstile(throttle)
        pages = Pages(page_size, max_page_size, scheme)
        self.pending: list[tuple[datetime, Received]] = []
        self._site = api.Site(
            backup_seconds, restore_seconds, statuses, size_seconds, lag_seconds, honour_filters, pages, turnstile
        )
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    @property
    def base_url(self) -> str:
        """Where the API is: http(s)://127.0.0.1:PORT/api/v1. The port is known once it serves."""
        return f"{self._site.pages.scheme}://{self.host}:{self.port}{PREFIX}"

    def count(self, method: str, path_prefix: str = "") -> int:
        """How many requests of a method came so far, for paths (below /api/v1) that begin so."""
        with self.lock:
            return sum(r.method == method and r.path.startswith(path_prefix) for r in self.requests)

    def fail(self, fault: Fault, *, method: str = "", path: str = "", times: int | None = 1, skip: int = 0) -> None:
        """Spoil requests of a method whose path (below /api/v1) matches the expression; see `FaultRule`."""
        with self.lock:
            self.faults.add(FaultRule(fault, method, path, times, skip))

    def change(self, **values: Any) -> None:
        """From now on it behaves otherwise: `change(lag_seconds=30, honour_filters=False)`. See `control.BEHAVIOUR`."""
        with self.lock:
            self._site = replace(self._site, **values)

    def clear_faults(self) -> None:
        """From now on nothing goes wrong any more."""
        with self.lock:
            self.faults.clear()

    def settle(self) -> None:
        """Let what is due by now have happened. Every request does this first; call it before you look at `fleet`."""
        with self.lock:
            self._settle(self._now())

    def finish_all(self) -> None:
        """Late requests arrive, every backup in progress that is not stuck completes, and every restore ends, now."""
        with self.lock:
            self._settle(END_OF_TIME)

    async def up(self) -> None:
        """Listen, on the same port as before if there was one."""
        if self._listener is None:
            self._loop = asyncio.get_running_loop()
            self._listener = await asyncio.start_server(self._connected, self.host, self.port, start_serving=False)
            self.port = self._listener.sockets[0].getsockname()[1]
            await self._listener.start_serving()

    async def down(self) -> None:
        """Refuse connections and drop those that are open, until `up`."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.close()
            conversations = tuple(self._conversations)
            for conversation in conversations:
                conversation.cancel()
            await asyncio.gather(*conversations, return_exceptions=True)
            await listener.wait_closed()

    def run(self, coroutine: Coroutine[Any, Any, Result], timeout: float = 30.0) -> Result:
        """From another thread than the emulator's: `emulator.run(emulator.down())`. timeout: seconds."""
        if self._loop is None:
            raise RuntimeError("The emulator has not served yet.")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout)

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listener is None:  # it went down in the meantime
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end, whoever ends it."""
        try:
            if self._ssl is not None:
                await writer.start_tls(self._ssl)
            await self._serve(Wire(reader, writer, self._sleep))
            writer.close()
            await writer.wait_closed()
        except OSError:
            pass  # the client has gone, as clients may
        finally:
            writer.transport.abort()

    async def _serve(self, wire: Wire) -> None:
        """One request after the other, until either side wants no more or the client talks nonsense."""
        try:
            while wire.reusable and (received := await wire.header()) is not None:
                if received.path.startswith(control.PREFIX):
                    await self._obey(wire, received)
                else:
                    await self._exchange(wire, received)
        except RefusalError as refusal:
            await wire.say(refusal.reply, self._now(), ORDINARY)

    async def _obey(self, wire: Wire, received: Received) -> None:
        """One request to the control surface: no fault touches it, and no book remembers it."""
        received.body = await wire.body()
        with self.lock:
            reply = control.answer(self, received, wire.peer)
        await wire.say(reply, self._now(), ORDINARY)

    async def _exchange(self, wire: Wire, received: Received) -> None:
        """One request to the API, through the stations of its fault (see faults.py)."""
        with self.lock:
            self.requests.append(received)
            received.rule = self.faults.choose(received.method, received.path)
        fault = received.rule.fault if received.rule else ORDINARY
        if not fault.early:
            received.body = await wire.body()
        if fault.pause:
            await self._sleep(fault.pause)
        answer = self._answer(received, fault)
        if isinstance(answer, bytes):
            await wire.write(b"", answer, fault)
        else:
            received.status = None if fault.form is Form.NOTHING else answer.status
            await wire.say(answer, self._now(), fault, silent_body=received.method == "HEAD")

    def _answer(self, received: Received, fault: Fault) -> Reply | bytes:
        """Apply a request as far as its fault lets it, and choose the words."""
        with self.lock:
            now = self._now()
            self._settle(now)
            is_now = fault.apply and not fault.apply_after
            own = self._apply(received, now) if is_now else self._rehearse(received, now)
            if fault.apply_after and (fault.answer is not None or own.status in SUCCESS):  # what is refused never comes
                self.pending.append((now + timedelta(seconds=fault.apply_after), received))
            if fault.answer is not None:
                return fault.answer
            return own if fault.edit is None else _edited(own, fault.edit)

    def _apply(self, received: Received, now: datetime) -> Reply:
        """Have the API carry a request out."""
        reply = api.answer(self._site, self.fleet, received, now)
        received.applied = reply.status in SUCCESS
        return reply

    def _rehearse(self, received: Received, now: datetime) -> Reply:
        """What the API would say, if it carried a request out."""
        return api.answer(self._site, copy.deepcopy(self.fleet), received, now)

    def _settle(self, now: datetime) -> None:
        """Apply the late requests that are due, each at its own time, then let the fleet's time pass."""
        due = [late for late in self.pending if late[0] <= now]
        self.pending = [late for late in self.pending if late[0] > now]
        for moment, received in sorted(due, key=lambda late: late[0]):
            self._apply(received, moment)
        self.fleet.settle(now)


def _edited(reply: Reply, edit: Callable[[Any], object]) -> Reply:
    """A JSON reply with its content changed; one without content stays as it is."""
    if not reply.body:
        return reply
    content = json.loads(reply.body)
    changed = edit(content)
    return replace(reply, body=json.dumps(content if changed is None else changed).encode())


# Ways to run it


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
