"""Serving the console: what it listens on, who is let in there, and its end."""

import os
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from types import FrameType

import anyio
import uvicorn
from starlette.types import ASGIApp

from mcp_backups.commands.approvals import system_user
from mcp_backups.console.access import Login, OneTimeAddress
from mcp_backups.console.app import build_app
from mcp_backups.errors import ConfigError
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from mcp_backups.values import is_loopback
from mcp_backups.web import listen, listen_unix, loopback_names, read_shared_secret
from mcp_backups.web.limits import LIMITS, Config, close_silent

_CLOSING_SECONDS = 5
_MOST_AT_ONCE = 100
"""Connections, for a new one of which the one that has waited longest for a request gives way."""

_TICKS_OF_A_SECOND = 10


def serve_console(
    settings: Settings, host: str, port: int, socket_path: Path | None = None, *, browser: bool = True
) -> None:
    """Serve the console until a signal comes.

    Args:
        settings: The account, the ledger, and the login in front of the console if there is one.
        host: What to listen on.
        port: 0 for a free one.
        socket_path: A Unix socket to listen on instead.
        browser: Whether to open it in this user's browser, where there is one.

    Raises:
        ConfigError: The address cannot be listened on, or anybody who reaches it would be let in.
    """
    _check(settings, host, socket_path)
    with _listening(host, port, socket_path) as listening:
        port = 0 if socket_path else listening[0].getsockname()[1]
        anyio.run(partial(_serve, settings, host, port, listening, browser=browser))


def _check(settings: Settings, host: str, socket_path: Path | None) -> None:
    """That whoever reaches it still has to be let in."""
    if not settings.console_login_header:
        if socket_path:
            raise ConfigError("--socket is for a login in front of the console: set MCP_BACKUPS_CONSOLE_LOGIN_HEADER.")
        if not is_loopback(host):
            raise ConfigError(
                "--host must be an address of this machine, unless MCP_BACKUPS_CONSOLE_LOGIN_HEADER names a login."
            )
    elif not settings.console_url:
        raise ConfigError("MCP_BACKUPS_CONSOLE_LOGIN_HEADER needs MCP_BACKUPS_CONSOLE_URL, which people reach it by.")
    elif not socket_path and not settings.console_secret_file:
        raise ConfigError(
            "MCP_BACKUPS_CONSOLE_LOGIN_HEADER needs --socket or MCP_BACKUPS_CONSOLE_SECRET_FILE: whoever reaches a port"
            " could send that header."
        )


@contextmanager
def _listening(host: str, port: int, socket_path: Path | None) -> Iterator[list[socket.socket]]:
    sockets = [listen_unix(socket_path)] if socket_path else listen(host, port)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()
        if socket_path:
            socket_path.unlink(missing_ok=True)


async def _serve(settings: Settings, host: str, port: int, listening: list[socket.socket], *, browser: bool) -> None:
    async with open_idle_context(settings) as context:
        if settings.console_login_header and settings.console_url:
            secret = ""
            if settings.console_secret_file:
                secret = read_shared_secret(settings.console_secret_file, "MCP_BACKUPS_CONSOLE_SECRET_FILE")
            sys.stderr.write(f"mcp-backups serves the console for {settings.console_url}\n")
            login = Login(settings.console_login_header, secret)
            app = build_app(context, login, frozenset({settings.console_url}))
            await ConsoleServer(app).serve(sockets=listening)
            return
        here = f"[{host}]" if ":" in host else host
        origins = frozenset(f"http://{name}" for name in loopback_names(here, port))
        once = OneTimeAddress(system_user(), port, context.clock.ticks)
        with once.written(settings.state_dir, here) as page:
            sys.stderr.write(f"mcp-backups serves the console. Within 60 seconds, open {page.as_uri()}\n")
            if browser and _has_screen():
                # One that does not return before it is closed must keep nobody waiting.
                Thread(target=webbrowser.open, args=[page.as_uri()], daemon=True).start()
            await ConsoleServer(build_app(context, once, origins)).serve(sockets=listening)


class ConsoleServer(uvicorn.Server):
    """Serves the console on sockets that listen, until a signal comes or it is told that it `should_exit`."""

    def __init__(self, app: ASGIApp) -> None:
        config = Config(
            app,
            LIMITS._replace(connections=_MOST_AT_ONCE),
            log_config=None,
            access_log=False,  # it would hold the one-time address
            proxy_headers=False,  # nobody is let in by an address, so none need be believed
            server_header=False,
            timeout_graceful_shutdown=_CLOSING_SECONDS,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and let what is around it be put away: uvicorn's own way raises the signal once more."""
        del sig, frame
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_OF_A_SECOND == 0:
            close_silent(self)
        return await super().on_tick(counter)


def _has_screen() -> bool:
    """Whether a browser has somewhere to open; else one for the terminal might, and take that."""
    return sys.platform in {"darwin", "win32"} or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
