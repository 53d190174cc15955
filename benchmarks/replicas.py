"""How many calls over HTTP are answered in a time: by one process against a bare tool, and by two against one.

All are called on connections that are kept, and make the same request. On two cores whatever else computes is missing
to the two processes. So VPS.org is a file here, which nginx hands out, and the clients are one loop that reads no more
of an answer than its length.
"""

import os
import re
import selectors
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from benchmarks.http import call_request
from benchmarks.measure import Figure, figure
from mcp_backups.access import add_token
from tests.team.proxy import FreePort, nginx, proxy

_MOST_OF_A_BARE_TOOL = 1 / 0.9
_MOST_OF_ONE = 1 / 1.7
_AT_ONCE = 16
_PATHS = ("backups", "servers", "account/me")
_ROOT = Path(__file__).parent.parent

_Round = tuple[str, bytes, ssl.SSLContext | None]
"""Where is called, with which bytes, and whom the client trusts."""


class _Line:
    """A connection on which one call follows the other."""

    def __init__(self, address: str, request: bytes, trusted: ssl.SSLContext | None) -> None:
        parts = urlsplit(address)
        connected = socket.create_connection((parts.hostname, parts.port or 443))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = trusted.wrap_socket(connected, server_hostname=parts.hostname) if trusted else connected
        self.socket.setblocking(False)
        self._request, self._answer = request, b""

    def ask(self) -> None:
        self._answer = b""
        self.socket.sendall(self._request)

    def is_answered(self) -> bool:
        """Read what has come; whether that is all of an answer.

        Raises:
            ValueError: It is not one that its time would tell something of.
        """
        with suppress(ssl.SSLWantReadError, BlockingIOError):
            while chunk := self.socket.recv(65536):
                self._answer += chunk
        head, _, body = self._answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if head and not (head.startswith(b"HTTP/1.1 200") and length):
            raise ValueError(self._answer.decode())
        return bool(length) and len(body) == int(length[1] if length else 0)


def _milliseconds_a_call(address: str, request: bytes, calls: int, trusted: ssl.SSLContext | None = None) -> float:
    """The time that so many calls take in all, `_AT_ONCE` under way, for each of them."""
    with ExitStack() as stack, selectors.DefaultSelector() as waiting:
        for _ in range(_AT_ONCE):
            line = _Line(address, request, trusted)
            stack.enter_context(line.socket)
            waiting.register(line.socket, selectors.EVENT_READ, line)
        began, asked, answered = perf_counter(), 0, 0
        for key in waiting.get_map().values():
            key.data.ask()
            asked += 1
        while answered < asked:
            for key, _ in waiting.select():
                if key.data.is_answered():
                    answered += 1
                    if asked < calls:
                        key.data.ask()
                        asked += 1
        return (perf_counter() - began) * 1000 / answered


@contextmanager
def _account_of_files(environment: Mapping[str, str], folder: Path) -> Iterator[dict[str, str]]:
    """An account that stays as it is: what the emulator answers, handed out by nginx."""
    headers = {"Authorization": f"Bearer {environment['VPS_API_TOKEN']}"}
    for path in _PATHS:
        asked = Request(f"{environment['VPS_API_URL']}/{path}/", headers=headers)  # noqa: S310 - our emulator
        with urlopen(asked) as answer:  # noqa: S310
            file = folder / "account" / path / "index.json"
            file.parent.mkdir(parents=True)
            file.write_bytes(answer.read())
    port = FreePort()
    site = f"""
        server {{
            listen 127.0.0.1:{port.number};
            keepalive_requests 1000000;
            default_type application/json;
            location /api/v1/ {{ alias {folder}/account/; index index.json; }}
        }}
    """
    with nginx(folder, site, port):
        yield {**environment, "VPS_API_URL": f"http://127.0.0.1:{port.number}/api/v1"}


@contextmanager
def _process(environment: Mapping[str, str], *arguments: str, listens: Path | int) -> Iterator[None]:
    """A Python process that has begun to listen."""
    around = {"PATH": os.environ["PATH"], "HOME": environment["MCP_BACKUPS_STATE_DIR"], **environment}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments], stderr=subprocess.DEVNULL, env=around, cwd=_ROOT
    ) as started:
        try:
            while not _is_listening(listens):
                if started.poll() is not None:
                    raise ValueError(f"{arguments} has ended")
                sleep(0.05)
            yield
        finally:
            started.terminate()


def _is_listening(listens: Path | int) -> bool:
    family = socket.AF_INET if isinstance(listens, int) else socket.AF_UNIX
    with socket.socket(family) as probe:
        return probe.connect_ex(("127.0.0.1", listens) if isinstance(listens, int) else str(listens)) == 0


def replica_figures(environment: Mapping[str, str], calls: int) -> list[Figure]:
    """Of each round of so many calls of each kind."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="replicas-")))
        for name in ("files", "one", "two", "state"):
            (folder / name).mkdir(mode=0o700)
        around = stack.enter_context(_account_of_files(environment, folder / "files"))
        around["MCP_BACKUPS_STATE_DIR"] = str(folder / "state")
        token = add_token(folder / "state", "caller", "read", datetime.now(UTC))
        return _against_bare(around, token, calls) + _two_against_one(around, folder, token, calls)


def _in_turn(rounds: Mapping[str, _Round], calls: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in rounds}
    for number in range(6):
        for name in sorted(rounds, reverse=bool(number % 2)):
            address, request, trusted = rounds[name]
            samples[name].append(_milliseconds_a_call(address, request, calls, trusted))
    return {name: each[1:] for name, each in samples.items()}  # the first round warms the caches


def _against_bare(environment: Mapping[str, str], token: str, calls: int) -> list[Figure]:
    ports = FreePort(), FreePort()
    for each in ports:
        each.let_go()
    ours, its = (each.number for each in ports)
    serve = ("mcp_backups", "serve", "--http", "--port", str(ours))
    with (
        _process(environment, *serve, listens=ours),
        _process(environment, "benchmarks.bare", str(its), listens=its),
    ):
        addresses = {"ours": f"http://127.0.0.1:{ours}/mcp", "bare": f"http://127.0.0.1:{its}/mcp"}
        samples = _in_turn({name: (each, call_request(each, token), None) for name, each in addresses.items()}, calls)
    return _comparison(
        "one process over HTTP", "a bare tool over HTTP", samples["ours"], samples["bare"], _MOST_OF_A_BARE_TOOL
    )


def _two_against_one(environment: Mapping[str, str], folder: Path, token: str, calls: int) -> list[Figure]:
    ports = {"one": FreePort(), "two": FreePort()}
    names = ",".join(f"localhost:{each.number}" for each in ports.values())
    around = {
        **environment,
        "MCP_BACKUPS_HTTP_URL": f"https://localhost:{ports['one'].number}",
        "MCP_BACKUPS_HTTP_HOSTS": names,
    }
    sockets = [folder / "1.sock", folder / "2.sock"]
    with ExitStack() as stack:
        for each in sockets:
            serve = ("mcp_backups", "serve", "--http", "--socket", str(each))
            stack.enter_context(_process(around, *serve, listens=each))
        rounds: dict[str, _Round] = {}
        for name, replicas in (("one", (sockets[0], sockets[0])), ("two", (sockets[0], sockets[1]))):
            before = stack.enter_context(proxy(folder / name, replicas, ports[name]))
            address = f"{before.url}/mcp"
            rounds[name] = address, call_request(address, token), before.trusted
        samples = _in_turn(rounds, calls)
    return _comparison("two replicas behind nginx", "one behind nginx", samples["two"], samples["one"], _MOST_OF_ONE)


def _comparison(name: str, other: str, mine: list[float], its: list[float], limit: float) -> list[Figure]:
    ratios = [one / another for one, another in zip(mine, its, strict=True)]
    return [
        figure(f"{name}, {_AT_ONCE} at once: for each call", mine, "ms"),
        figure(f"{other}, {_AT_ONCE} at once: for each call", its, "ms"),
        figure(f"{name} against {other}", ratios, "x", limit=round(limit, 2)),
    ]
