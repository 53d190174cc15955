"""Streamable HTTP: what is listened on, whose requests are taken, and an end that lets calls finish."""

import errno
import json
import logging
import socket
import sys
import time
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_backups.errors import ConfigError
from mcp_backups.settings import is_loopback
from mcp_backups.stdio import INVALID_REQUEST, PARSE_ERROR, Refusal, read_line
from mcp_backups.text import safe_text, visible

log = logging.getLogger(__name__)

PATH = "/mcp"

_GRACE_SECONDS = 25.0
"""How long a signal waits for the calls under way."""

_CLOSING_SECONDS = 5
"""How long connections are waited for after that."""

_MAX_BODY = 256 * 2**10
_HTTP_PORT = 80
_QUESTION = b'"elicitation/create"'


async def serve(server: Server[Any], host: str, port: int) -> None:
    """Serve any number of clients on this machine until a signal comes.

    Requests that name another host or come from another origin are refused on every path (421, 403), and bodies over
    256 KiB (413). A signal lets calls under way finish within 25 s, but not those that wait for a person.

    Args:
        server: What is served at `/mcp`.
        host: A loopback address or `localhost`, which is both of IPv4 and IPv6.
        port: 0 for a free one; the address is told on standard error.

    Raises:
        ConfigError: The host is not on this machine, or the port is taken.
    """
    if not is_loopback(host):
        raise ConfigError("--host must be an address of this machine: anyone who reaches the server can use the token.")
    listening = listen(host, port)
    port = listening[0].getsockname()[1]
    here = f"[{host}]" if ":" in host else host
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=_MAX_BODY,
        # Checked by `Gate`, on every path.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.router.redirect_slashes = False  # it would redirect to whatever host the request names
    gate = Gate(app, loopback_names(here, port))
    config = uvicorn.Config(gate, log_config=None, ws="none", timeout_graceful_shutdown=_CLOSING_SECONDS)
    sys.stderr.write(f"mcp-backups serves http://{here}:{port}{PATH}\n")
    await _Server(config, gate).serve(sockets=listening)


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen there: of `localhost` one for each of IPv4 and IPv6.

    Raises:
        ConfigError: The port is taken.
    """
    listening: list[socket.socket] = []
    for address in ("127.0.0.1", "::1") if host.lower() == "localhost" else (host,):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.create_server((address, port), family=family)
        except OSError as error:
            if listening and error.errno != errno.EADDRINUSE:
                continue  # a machine without IPv6
            for each in listening:
                each.close()
            raise ConfigError(f"--port {port} cannot be listened on; take another one.") from None
        # Connections inherit it. asyncio sets it only where a socket names its protocol, which this one does not, and
        # without it the second packet of each answer waits 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.append(listener)
        port = listener.getsockname()[1]
    return listening


def loopback_names(here: str, port: int) -> frozenset[str]:
    """What the Host header of a request may be. Clients leave out the port that http has anyway."""
    hosts = {"127.0.0.1", "localhost", "[::1]", here.lower()}
    return frozenset(f"{host}:{port}" for host in hosts) | (hosts if port == _HTTP_PORT else frozenset())


class Gate:
    """Takes what clients on this machine send, and refuses what a web page could make a browser send.

    Args:
        app: What is behind it.
        names: What the Host header may be.

    Attributes:
        calls: A token for each request that came whole and is not answered yet, unless it waits for a person.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app, self._names = app, names
        self._origins = frozenset(f"http://{name}" for name in names)
        self.calls: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            await refusal(scope, receive, send)
        else:
            await self._pass(_mended(scope), receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0] not in self._names:
            log.warning("refused a request to host %s", safe_text(", ".join(hosts)))
            return Response("Invalid Host header", status_code=421)
        if not self._origins.issuperset(origins):
            log.warning("refused a request from origin %s", safe_text(", ".join(origins)))
            return Response("Invalid Origin header", status_code=403)
        return None

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        call, body = object(), b""
        if scope["method"] == "POST":
            whole = await _body(receive)
            if whole is None:
                return
            read = _read(whole)
            if isinstance(read, Response):
                await read(scope, receive, send)
                return
            body = read
            self.calls.add(call)
        unread = [body]

        async def received() -> Message:
            return {"type": "http.request", "body": unread.pop(), "more_body": False} if unread else await receive()

        async def sent(message: Message) -> None:
            if _QUESTION in message.get("body", b""):
                self.calls.discard(call)
            await send(message)

        try:
            await self._app(scope, received, sent)
        finally:
            self.calls.discard(call)


async def _body(receive: Receive) -> bytes | None:
    """All that a client sends, and of what is too large a little more than is taken; None if it left before the end."""
    body, more = b"", True
    while more and len(body) <= _MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _read(body: bytes) -> Response | bytes:
    """A message for the SDK, or the answer to what is none: by its id, where that can be read, and in our words."""
    if len(body) > _MAX_BODY:
        return Response("Request body too large", status_code=413)
    messages = read_line(body) or [Refusal("null", INVALID_REQUEST, "there is no message")]
    if isinstance(messages[0], dict):
        whole = json.dumps(messages[0]).encode()
        try:
            from_json(whole)
        except ValueError:  # by which the SDK reads it, and to a smaller depth than we do
            number = json.dumps(messages[0]["id"]) if "id" in messages[0] else None
            messages = [Refusal(number, PARSE_ERROR, "the message is nested too deeply")]
        else:
            return whole
    refusals = [each for each in messages if isinstance(each, Refusal)]
    for each in refusals:
        log.warning("refused a request: %s", visible(each.why))
    lines = [each._replace(id=each.id or "null").line.strip() for each in refusals]
    answer = lines[0] if len(lines) == 1 else b"[%s]" % b",".join(lines)
    return Response(answer, status_code=400, media_type="application/json")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip().lower() for key, value in scope["headers"] if key == name]


def _mended(scope: Scope) -> Scope:
    """The request as the SDK can take it."""
    if scope["path"] == f"{PATH}/":
        scope = {**scope, "path": PATH, "raw_path": PATH.encode()}
    # No stream is kept to be resumed, and the SDK fails where a client asks for that: it gets a new one.
    return {**scope, "headers": [each for each in scope["headers"] if each[0] != b"last-event-id"]}


class _Server(uvicorn.Server):
    """Stops once no call is under way or the grace is over: uvicorn's own stop cuts every event stream at once.

    A second signal does not wait.
    """

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        super().__init__(config)
        self._gate = gate
        self._stop_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        now = time.monotonic()
        self._stop_at = now if self._stop_at else now + _GRACE_SECONDS

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at and (not self._gate.calls or time.monotonic() >= self._stop_at):
            self.should_exit = True
        return await super().on_tick(counter)
