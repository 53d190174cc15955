"""A server process, spoken to in lines of JSON-RPC: what is timed is the server, not a client library."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import IO, Any

HANDSHAKE = (
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)
_ROOT = Path(__file__).parent.parent
_HEAD_BYTES = 100
_ID = re.compile(rb'"id":\s*(\d+)')


class ServerProcess:
    """An MCP server that runs.

    Args:
        process: Has both its ends piped, as bytes.

    Attributes:
        pid: Of the process.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._to: IO[bytes] = process.stdin
        self._from: IO[bytes] = process.stdout
        self._last_id = 0

    def shake_hands(self) -> None:
        for message in HANDSHAKE:
            self._to.write(json.dumps(message).encode() + b"\n")
        self._to.flush()
        self._from.readline()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one request.

        Raises:
            ValueError: There is none, or it is a tool's failure, so that its time would say nothing.
        """
        self._send(_line(method, params))
        return _result(self._from.readline())

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured content of one call of a tool. Raises as `ask`."""
        content: dict[str, Any] = self.ask("tools/call", name=tool, arguments=arguments)["structuredContent"]
        return content

    def timed(self, tool: str, times: int, at_once: int = 1, **arguments: Any) -> list[float]:
        """Milliseconds from the request to the whole answer of each of `times` calls, `at_once` of them under way.

        An answer is only looked at after the clock was read, and only the last of them in full. Raises as `ask`.
        """
        line = _line("tools/call", {"name": tool, "arguments": arguments})
        started: dict[int, float] = {}
        samples, answer = [], b""
        for number in range(times + at_once):
            if number >= at_once:
                answer = self._from.readline()
                samples.append((perf_counter() - started.pop(_id_of(answer))) * 1000)
            if number < times:
                started[self._last_id + 1] = perf_counter()
                self._send(line)
        _result(answer)
        return samples

    def resident(self) -> float:
        """MiB of memory that it holds now. Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def _send(self, line: bytes) -> None:
        self._last_id += 1
        self._to.write(line % self._last_id)
        self._to.flush()


@contextmanager
def server_process(module: str, environment: dict[str, str]) -> Iterator[ServerProcess]:
    """A server run with `python -m`, ready for calls; without a folder for its state it gets one of its own."""
    with TemporaryDirectory() as state:
        around = {"PATH": os.environ["PATH"], "HOME": state, "MCP_BACKUPS_STATE_DIR": state}
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=around | environment,
            cwd=_ROOT,
        )
        with process:
            server = ServerProcess(process)
            server.shake_hands()
            yield server


def _line(method: str, params: dict[str, Any]) -> bytes:
    """A request whose id is still to be put in, with `%`."""
    told = json.dumps({"method": method, "params": params}).encode().replace(b"%", b"%%")
    return b'{"jsonrpc":"2.0","id":%d,' + told[1:] + b"\n"


def _id_of(answer: bytes) -> int:
    # The SDK writes it at the head; what is not found there is found by reading the whole line.
    found = _ID.search(answer, 0, _HEAD_BYTES)
    return int(found[1]) if found else int(json.loads(answer)["id"])


def _result(line: bytes) -> dict[str, Any]:
    answer = json.loads(line)
    result: dict[str, Any] = answer.get("result", {"isError": True})
    if result.get("isError"):
        raise ValueError(json.dumps(answer))
    return result
