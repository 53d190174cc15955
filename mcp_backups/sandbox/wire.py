"""One client's connection at the level of bytes: requests come in through h11, answers go out as they are told.

h11 reads one request and is then replaced, so that no fault on the way out can trip over its rules.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import parse_qsl

import h11

from .faults import End, Fault, Form
from .received import PREFIX, Received
from .refusals import detail, too_large
from .reply import Reply

LARGEST_BODY = 2**20
"""Bytes of a request body, at most; more is refused with 413."""

CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
"""64 KiB of an endless chunked body."""

Sleep = Callable[[float], Awaitable[object]]


class Wire:
    """A connection. Raises OSError when the client has gone, and refuses with 400 when it talks nonsense."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sleep: Sleep) -> None:
        self._reader = reader
        self._writer = writer
        self._sleep = sleep
        self._http = h11.Connection(h11.SERVER)
        self.reusable = True

    @property
    def peer(self) -> str:
        """The client's IP address."""
        return str(self._writer.get_extra_info("peername")[0])

    async def header(self) -> Received | None:
        """The next request, its body not yet read; None when the client has none left."""
        left_over, _ = self._http.trailing_data
        self._http = h11.Connection(h11.SERVER)
        if left_over:
            self._http.receive_data(left_over)
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        received = _received(event)
        closes = received.headers.get("connection", "").lower() == "close"
        self.reusable = not closes and event.http_version == b"1.1"
        return received

    async def body(self) -> bytes:
        """The body of the request whose header was read. Refuses with 413 what is larger than 1 MiB."""
        parts = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            parts += event.data
            if len(parts) > LARGEST_BODY:
                self.reusable = False
                raise too_large()
        return bytes(parts)

    async def say(self, reply: Reply, now: datetime, fault: Fault, *, silent_body: bool = False) -> None:
        """Write a reply in the form a fault wants. silent_body: the answer to a HEAD request."""
        self.reusable = self.reusable and fault.end is End.KEEP
        head = reply.head(now, closing=not self.reusable)
        await self.write(head, b"" if silent_body else reply.body, fault)

    async def write(self, head: bytes, body: bytes, fault: Fault) -> None:
        """Write header and body bytes in the form a fault wants, then end the connection as it wants."""
        match fault.form:
            case Form.WHOLE:
                await self._send(head + body)
            case Form.HALF_HEADER:
                await self._send(head[: len(head) // 2])
            case Form.CUT_BODY:
                await self._send(head + body[: len(body) // 2])
            case Form.DRIP_HEADER:
                await self._drip(head + body, fault.interval)
            case Form.DRIP_BODY:
                await self._send(head)
                await self._drip(body, fault.interval)
            case Form.ENDLESS:
                await self._send(head + b"%x\r\n%b\r\n" % (len(body), body))
                await self._flood()
        await self._end(fault.end)

    async def _end(self, end: End) -> None:
        """Leave the connection open or not."""
        if end is End.HANG:
            while await self._reader.read(65536):
                pass
        if end is End.RESET:
            linger_not = struct.pack("ii", 1, 0)
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
            self._writer.transport.abort()
        self.reusable = self.reusable and end is End.KEEP

    async def _event(self) -> object:
        """The next thing h11 understands, reading as much as it needs."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(65536))
        except h11.RemoteProtocolError as problem:
            self.reusable = False
            raise detail(400, str(problem)) from None
        return event

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _drip(self, data: bytes, interval: float) -> None:
        for byte in data:
            await self._send(bytes([byte]))
            await self._sleep(interval)

    async def _flood(self) -> None:
        while True:
            await self._send(CHUNK)


def _received(request: h11.Request) -> Received:
    """A request's header as we keep it."""
    target = request.target.decode("latin-1")
    path, _, query = target.partition("?")
    if path.startswith(PREFIX + "/"):
        path = path.removeprefix(PREFIX)
    return Received(
        method=request.method.decode("ascii"),
        target=target,
        path=path,
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers},
    )
