"""nginx as a process of its own, with the very file of `examples/team/`."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template

import trustme

from tests.process import PATIENCE, running

CONFIGURATION = Path(__file__).parents[2] / "examples" / "team" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")

_AROUND = """
daemon off;
$user
pid $folder/nginx.pid;
error_log stderr error;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    include $folder/servers.conf;
}
"""


@dataclass(frozen=True)
class Proxy:
    """What stands before the replicas.

    Attributes:
        url: Where clients reach it.
        trusted: The certificates that they trust.
    """

    url: str
    trusted: ssl.SSLContext


class FreePort:
    """A port that is free, and taken until it is let go of."""

    def __init__(self) -> None:
        self._taken = socket.create_server(("127.0.0.1", 0))
        self.number: int = self._taken.getsockname()[1]

    def let_go(self) -> None:
        self._taken.close()


@contextmanager
def proxy(folder: Path, replicas: tuple[Path, Path], port: FreePort) -> Iterator[Proxy]:
    """The proxy before two replicas.

    Args:
        folder: For its own files.
        replicas: The files of their Unix sockets.
        port: Where it listens, at this machine.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    filled = Template(CONFIGURATION.read_text(encoding="utf-8")).safe_substitute(
        REPLICA_1=f"unix:{replicas[0]}",
        REPLICA_2=f"unix:{replicas[1]}",
        LISTEN=f"127.0.0.1:{port.number}",
        NAME="localhost",
        CERTIFICATE=folder / "certificate.pem",
        CERTIFICATE_KEY=folder / "key.pem",
    )  # as the image does: names that nobody gave are nginx's own
    with nginx(folder, filled, port):
        yield Proxy(f"https://localhost:{port.number}", trusted)


@contextmanager
def nginx(folder: Path, servers: str, port: FreePort) -> Iterator[None]:
    """nginx as a process.

    Args:
        folder: For its own files.
        servers: What stands inside of `http { … }`.
        port: One that it listens on, at this machine.

    Raises:
        RuntimeError: It is not installed, or does not listen.
    """
    if not NGINX:
        raise RuntimeError("nginx is not installed")
    (folder / "servers.conf").write_text(servers, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""  # the sockets are for this user alone
    (folder / "nginx.conf").write_text(Template(_AROUND).substitute(folder=folder, user=user), encoding="utf-8")
    port.let_go()
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    with (folder / "nginx.log").open("wb") as log, running(command, stderr=log) as process:
        try:
            _wait_for(port.number, process)
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError("nginx does not listen")
