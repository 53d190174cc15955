"""Where a server is reached: its sockets, the names that requests call it by, and the proxy that stands in front."""

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mcp_backups.errors import ConfigError
from mcp_backups.private import read_secret_text
from mcp_backups.settings import Settings
from mcp_backups.values import is_loopback

_HTTP_PORT, _HTTPS_PORT = 80, 443
_SOCKET_MASK = 0o117
_SECRET = re.compile(r"[\x21-\x7e]{16,512}")


@dataclass(frozen=True)
class Place:
    """Where a server listens, and how its clients reach it.

    Attributes:
        sockets: What listens.
        url: What clients put before the path.
        names: What the Host header of a request may be.
        origins: What its Origin header may be, where there is one.
        secret: What the proxy in front sends with every request; empty where none has to.
        is_public: Whether clients reach it from other machines.
        file: Of a Unix socket, and its number, which tells it from that of a later process.
    """

    sockets: list[socket.socket]
    url: str
    names: frozenset[str]
    origins: frozenset[str]
    secret: str = ""
    is_public: bool = False
    file: tuple[Path, int] | None = None

    def leave(self) -> None:
        """Take away the file of a Unix socket: the proxy then asks another server, and a new process takes its place.

        Who came before is still served. A port cannot be left so: to close it would cut off who has just come.
        """
        if self.file and self.file[0].is_socket() and self.file[0].stat().st_ino == self.file[1]:
            self.file[0].unlink()


@contextmanager
def listening(settings: Settings, host: str, port: int, unix: Path | None) -> Iterator[Place]:
    """Listen on this machine alone or, where the settings say how clients reach it, behind a proxy.

    Args:
        settings: How clients from other machines reach it.
        host: An address, or `localhost`.
        port: 0 for a free one.
        unix: The file of a Unix socket to listen on instead.

    Raises:
        ConfigError: The address cannot be listened on, or anybody could leave out the proxy.
    """
    if not settings.http_url and (unix or not is_loopback(host)):
        raise ConfigError(
            "--host must be an address of this machine, and --socket is for a proxy: where there is one that does TLS,"
            " set MCP_BACKUPS_HTTP_URL to the https address at which clients reach it."
        )
    if settings.http_url and not unix and not settings.http_secret_file:
        raise ConfigError(
            "MCP_BACKUPS_HTTP_URL needs --socket or MCP_BACKUPS_HTTP_SECRET_FILE: whoever reaches a port could leave"
            " out the proxy."
        )
    secret = ""
    if settings.http_secret_file:
        secret = read_shared_secret(settings.http_secret_file, "MCP_BACKUPS_HTTP_SECRET_FILE")
    sockets = [listen_unix(unix)] if unix else listen(host, port)
    place = _behind_proxy(sockets, settings, secret, unix) if settings.http_url else _on_this_machine(sockets, host)
    try:
        yield place
    finally:
        place.leave()
        for each in sockets:
            each.close()


def _on_this_machine(sockets: list[socket.socket], host: str) -> Place:
    port = sockets[0].getsockname()[1]
    here = f"[{host}]" if ":" in host else host
    names = loopback_names(here, port)
    return Place(sockets, f"http://{here}:{port}", names, frozenset(f"http://{name}" for name in names))


def _behind_proxy(sockets: list[socket.socket], settings: Settings, secret: str, unix: Path | None) -> Place:
    parts = urlsplit(settings.http_url)
    names = {parts.netloc, *settings.http_hosts}
    if parts.port in {None, _HTTPS_PORT}:  # which a client may leave out, or not
        names |= {str(parts.hostname), f"{parts.hostname}:{_HTTPS_PORT}"}
    origins = {settings.http_url, *settings.http_origins}
    return Place(
        sockets,
        settings.http_url,
        frozenset(name.lower() for name in names),
        frozenset(origin.lower() for origin in origins),
        secret,
        is_public=True,
        file=(unix, unix.stat().st_ino) if unix else None,
    )


def read_shared_secret(path: Path, name: str) -> str:
    """What a proxy shows that it is the one: 16 to 512 visible ASCII characters.

    Args:
        path: The file that holds it.
        name: Of the setting that names it.

    Raises:
        ConfigError: It holds none, or others may read it.
    """
    secret = read_secret_text(path, name)
    if not _SECRET.fullmatch(secret):
        raise ConfigError(f"{name} names a file that holds no secret: 16 to 512 visible ASCII characters.")
    return secret


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen there: of `localhost` one for each of IPv4 and IPv6.

    Args:
        host: An address, or `localhost`.
        port: 0 for a free one.

    Raises:
        ConfigError: The port is taken or not for this user, or the address is none of this machine's.
    """
    listening: list[socket.socket] = []
    for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.create_server((address, port), family=family)
        except OSError as error:
            if listening and error.errno != errno.EADDRINUSE:
                continue  # a machine without IPv6
            for each in listening:
                each.close()
            raise ConfigError(_why_not(error.errno, port)) from None
        # Connections inherit it. asyncio sets it only where a socket names its protocol, which this one does not, and
        # without it the second packet of each answer waits 40 ms for the first to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.append(listener)
        port = listener.getsockname()[1]
    return listening


def _why_not(number: int | None, port: int) -> str:
    if number == errno.EADDRINUSE:
        return f"--port {port} cannot be listened on; take another one."
    if number in {errno.EACCES, errno.EPERM}:
        return f"--port {port} may not be listened on by this user; take one above 1023."
    return "--host cannot be listened on; take an address that this machine has."


def listen_unix(path: Path) -> socket.socket:
    """A Unix socket, whose file is for its owner and group: whom it lets in is believed what a proxy says.

    Raises:
        ConfigError: It cannot be listened on, or is served by a process that lives.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("--socket needs a system that has Unix sockets.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(_SOCKET_MASK)
    try:
        if path.is_socket() and not _is_served(path):
            path.unlink()  # its process was killed
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise ConfigError("--socket cannot be listened on; name another file in a folder of this user's.") from None
    finally:
        os.umask(before)
    return listener


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def loopback_names(here: str, port: int) -> frozenset[str]:
    """What the Host header of a request may be. Clients leave out the port that http has anyway."""
    hosts = {"127.0.0.1", "localhost", "[::1]", here.lower()}
    return frozenset(f"{host}:{port}" for host in hosts) | (hosts if port == _HTTP_PORT else frozenset())
