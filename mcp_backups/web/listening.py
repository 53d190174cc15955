"""Where a server on this machine is reached: its sockets, and the names that requests call it by."""

import errno
import socket

from mcp_backups.errors import ConfigError

_HTTP_PORT = 80


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen there: of `localhost` one for each of IPv4 and IPv6.

    Args:
        host: An address, or `localhost`.
        port: 0 for a free one.

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
