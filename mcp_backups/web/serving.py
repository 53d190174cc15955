"""Serving over HTTP until a signal comes, and an end that lets calls finish."""

import sys
import time
from types import FrameType
from typing import Any

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.transport_security import TransportSecuritySettings

from mcp_backups.access import AccessTokens
from mcp_backups.errors import ConfigError
from mcp_backups.settings import is_loopback

from .gate import PATH, Gate
from .listening import listen, loopback_names

_GRACE_SECONDS = 25.0
"""How long a signal waits for the calls under way."""

_CLOSING_SECONDS = 5
"""How long connections are waited for after that."""

_MAX_BODY = 256 * 2**10


async def serve(server: Server[Any], host: str, port: int, tokens: AccessTokens) -> None:
    """Serve any number of clients on this machine until a signal comes.

    Requests that name another host or come from another origin are refused on every path (421, 403), requests without
    an access token (401), and bodies over 256 KiB (413). A signal lets calls under way finish within 25 s, but not
    those that wait for a person.

    Args:
        server: What is served at `/mcp`.
        host: A loopback address or `localhost`, which is both of IPv4 and IPv6.
        port: 0 for a free one; the address is told on standard error.
        tokens: What lets a client in.

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
    gate = Gate(app, loopback_names(here, port), tokens)
    config = uvicorn.Config(gate, log_config=None, ws="none", timeout_graceful_shutdown=_CLOSING_SECONDS)
    sys.stderr.write(f"mcp-backups serves http://{here}:{port}{PATH}\nClients send {tokens.told}.\n")
    await _Server(config, gate).serve(sockets=listening)


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
