"""A call over HTTP, on a connection that is kept, against the same call over standard input and output.

Both are spoken to by a few lines of code here: what a client library does with an answer is no server's time.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import IO, Any
from urllib.parse import urlsplit

from benchmarks.measure import Figure, figure
from benchmarks.process import server_process
from mcp_backups.access import local_token

_MOST = 1.5
_IN_A_ROUND = 10
_VERSION = "2026-07-28"
_CALL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "list_backups",
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": _VERSION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
        },
    },
}
_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": _VERSION,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "list_backups",
}


@contextmanager
def _served(environment: Mapping[str, str]) -> Iterator[str]:
    """Our server over HTTP; yields its address."""
    command = (sys.executable, "-m", "mcp_backups", "serve", "--http", "--port", "0")
    root = Path(__file__).parent.parent
    around = {"PATH": os.environ["PATH"], "HOME": environment["MCP_BACKUPS_STATE_DIR"], **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=around, cwd=root) as process:
        assert process.stderr is not None
        try:
            yield re.findall(r"http://\S+", process.stderr.readline())[0]
        finally:
            process.terminate()


@contextmanager
def _connected(address: str) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    """A connection, and what comes from it."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as answers:
            yield connection, answers


def call_request(address: str, token: str, **arguments: Any) -> bytes:
    """One call of `list_backups` as it stands on the wire."""
    call = _CALL | {"params": _CALL["params"] | {"arguments": arguments}}
    parts, body = urlsplit(address), json.dumps(call).encode()
    told = _HEADERS | {"Host": parts.netloc, "Content-Length": str(len(body)), "Authorization": f"Bearer {token}"}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def _answer(answers: IO[bytes]) -> bytes:
    """The body of the next answer."""
    length = 0
    while line := answers.readline().strip():
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return answers.read(length)


def http_figures(environment: dict[str, str], times: int) -> list[Figure]:
    """`times` calls of each, in turn; each round has its ratio."""
    ours: list[float] = []
    its: list[float] = []
    with _served(environment) as address, server_process("mcp_backups", environment) as stdio:
        stdio.call("list_backups")  # by then all is loaded; a connection is kept for 5 s without a request
        request = call_request(address, local_token(Path(environment["MCP_BACKUPS_STATE_DIR"])), server_id=12345)
        with _connected(address) as (connection, answers):
            for _ in range(max(3, times // _IN_A_ROUND)):
                samples = []
                for _ in range(_IN_A_ROUND):
                    start = perf_counter()
                    connection.sendall(request)
                    answer = _answer(answers)
                    samples.append((perf_counter() - start) * 1000)
                if b"structuredContent" not in answer:
                    raise ValueError(answer.decode())
                ours.append(statistics.median(samples))
                its.append(statistics.median(stdio.timed("list_backups", _IN_A_ROUND, server_id=12345)))
    ratios = [one / other for one, other in zip(ours[1:], its[1:], strict=True)]
    return [
        figure("list_backups over HTTP, connection kept", ours[1:], "ms"),
        figure("list_backups over standard input and output", its[1:], "ms"),
        figure("HTTP against standard input and output", ratios, "x", limit=_MOST),
    ]
