"""Serving over HTTP until a signal comes, and an end that lets calls finish."""

import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any

import uvicorn
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.server import HANDLED_SIGNALS

from mcp_backups.access import AccessTokens, local_token_file
from mcp_backups.errors import ConfigError
from mcp_backups.metrics import Prometheus
from mcp_backups.settings import Settings
from mcp_backups.stdio import endings
from mcp_backups.text import visible

from .gate import MAX_BODY, Gate, Paths, path_of
from .limits import LIMITS, Config, Limits, close_all, close_silent, within_open_files
from .listening import Place, listening
from .oauth import Issuer

_GRACE_SECONDS = 25.0
"""How long a signal waits for the calls under way."""

_CLOSING_SECONDS = 5
"""How long connections are waited for after that."""

_TICKS_OF_A_SECOND = 10
_TICKS_FOR_WHO_CAME_BEFORE = 3
"""Until then who came before a Unix socket's file was gone has been accepted, and has sent a request."""

Running = tuple[Place, Callable[[], None]]
"""Where a server runs, and what stops it."""


async def serve(
    servers: Mapping[str, Server[Any]],
    settings: Settings,
    host: str,
    port: int,
    unix: Path | None = None,
    *,
    limits: Limits = LIMITS,
    metrics: Prometheus | None = None,
    task_status: TaskStatus[Running] = TASK_STATUS_IGNORED,
) -> None:
    """Serve any number of clients until a signal comes.

    Requests that name another host or come from another origin are refused on every path (421, 403), requests without
    an access token (401), bodies over 256 KiB (413) or that do not come in time (408), and more at once than the limits
    allow (429). A signal lets calls under way finish within 25 s, but not
    those that wait for a person.

    Args:
        servers: What is served at `/mcp/NAME`, by the names of several accounts; under an empty one at `/mcp`.
        settings: How clients from other machines reach it, where access tokens are kept, and who may use an account.
        host: A loopback address or `localhost`, which is both of IPv4 and IPv6; another one behind a proxy.
        port: 0 for a free one; the address is told on standard error.
        unix: The file of a Unix socket to listen on instead, behind a proxy.
        limits: How much clients may ask at once.
        metrics: What is told at `/metrics` to whom is let in.
        task_status: Is told when clients can connect.

    Raises:
        ConfigError: It cannot be listened there, anybody who reaches it would be let in, or nobody could be.
        OSError, TimeoutError: The access tokens cannot be read or kept.
    """
    with listening(settings, host, port, unix) as place:
        tokens, issuer = _let_in(place, settings)
        addresses = ", ".join(f"{place.url}{path_of(account)}" for account in servers)
        sys.stderr.write(f"mcp-backups serves {addresses}\n{_told(place, settings)}\n")
        limits = within_open_files(limits)
        paths = Paths({name: account.principals for name, account in settings.accounts.items()})
        gate = Gate(_app(servers), place, tokens, issuer, limits, metrics, paths)
        await _Server(gate, limits, task_status, place).serve(sockets=place.sockets)


def _app(servers: Mapping[str, Server[Any]]) -> ASGIApp:
    """Each server at its path; all begin and end together."""
    apps = [
        server.streamable_http_app(
            streamable_http_path=path_of(account),
            max_request_body_size=MAX_BODY,
            # Checked by `Gate`, on every path.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        for account, server in servers.items()
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for app in apps:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return Starlette(routes=[route for app in apps for route in app.routes], lifespan=lifespan)


def _let_in(place: Place, settings: Settings) -> tuple[AccessTokens, Issuer | None]:
    """Whose access tokens count: those that were added, on this machine its user's, and an issuer's if one is set."""
    tokens = AccessTokens(settings.state_dir, local=not place.is_public)
    issuer = None
    if settings.oauth_issuer:
        issuer = Issuer(settings.oauth_issuer, settings.oauth_audience, settings.principal_claim)
    if tokens.is_empty and not issuer:
        raise ConfigError(
            "Each client from another machine needs an access token of its own: `mcp-backups tokens add NAME"
            " --role read` makes one. Or set MCP_BACKUPS_OAUTH_ISSUER."
        )
    for name, account in settings.accounts.items():
        if not any(tokens.has(each) or (issuer and issuer.names(each)) for each in account.principals):
            raise ConfigError(
                f"accounts.{name}.principals names nobody who could be let in: no access token that `mcp-backups tokens"
                " list` shows, and nobody who logs in at MCP_BACKUPS_OAUTH_ISSUER (ISSUER#SUBJECT)."
            )
    return tokens, issuer


def _told(place: Place, settings: Settings) -> str:
    how = "`mcp-backups config CLIENT --http` tells how."
    if place.is_public:
        return f"Each client sends an access token of its own; {how}"
    return f"Clients send the access token in {visible(str(local_token_file(settings.state_dir)))}; {how}"


class _Server(uvicorn.Server):
    """Stops once no call is under way or the grace is over: uvicorn's own stop cuts every event stream at once.

    A second signal does not wait.
    """

    def __init__(self, gate: Gate, limits: Limits, task_status: TaskStatus[Running], place: Place) -> None:
        config = Config(
            gate,
            limits,
            log_config=None,
            proxy_headers=False,  # nobody is let in by an address, so none need be believed
            server_header=False,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        )
        super().__init__(config)
        self._gate = gate
        self._task_status, self._place = task_status, place
        self._stop_at = 0.0
        self._ticks_left = _TICKS_FOR_WHO_CAME_BEFORE

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._task_status.started((self._place, self.stop))

    def stop(self) -> None:
        """Stop once no call is under way; called again, at once."""
        now = time.monotonic()
        self._stop_at = now if self._stop_at else now + _GRACE_SECONDS
        self._place.leave()
        self._gate.is_stopping = not self._place.file

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """With those that uvicorn does not look for."""
        with super().capture_signals():
            is_main = threading.current_thread() is threading.main_thread()
            more = set(endings()) - set(HANDLED_SIGNALS) if is_main else set()
            before = {each: signal.signal(each, self.handle_exit) for each in more}
            try:
                yield
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self.stop()

    async def on_tick(self, counter: int) -> bool:
        if self._stop_at and not self._gate.is_stopping:
            self._ticks_left -= 1
            self._gate.is_stopping = self._ticks_left <= 0
        is_idle = self._gate.is_stopping and not self._gate.calls
        if self._stop_at and (is_idle or time.monotonic() >= self._stop_at):
            self.should_exit = True
            close_all(self)  # what is left are streams, which would be waited for
        elif counter % _TICKS_OF_A_SECOND == 0:
            close_silent(self)
        return await super().on_tick(counter)
