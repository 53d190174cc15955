"""From the start of a process to its answers, over standard input and output, on both eras of the protocol."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.measure import Figure, figure
from benchmarks.process import HANDSHAKE

_TOOLS, _FIRST_CALL = 0.30, 1.10
_ENVELOPE = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    }
}
Messages = Sequence[Mapping[str, Any]]

PYTHON = [sys.executable]
OURS = [sys.executable, "-m", "mcp_backups"]
HELLO = [sys.executable, "-m", "benchmarks.hello"]


def _request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


LEGACY = (*HANDSHAKE, _request("tools/list"))
MODERN = (_request("server/discover", **_ENVELOPE) | {"id": 0}, _request("tools/list", **_ENVELOPE))


def start_figures(runs: int, environment: Mapping[str, str]) -> list[Figure]:
    """Our start against a bare hello server's and bare Python's.

    They are taken in turn, now the one first and now the other, so that all meet the same machine; each turn has its
    ratio.

    Args:
        runs: How many starts of each.
        environment: Names an account, for the first call.
    """
    bare = [_milliseconds(PYTHON) for _ in range(runs + 1)][1:]
    our_call = (*HANDSHAKE, _request("tools/call", name="list_backups", arguments={}))
    its_call = (*HANDSHAKE, _request("tools/call", name="hello", arguments={"name": "you"}))
    return [
        figure("start and end of bare Python", bare, "ms"),
        *_against_hello("start to tools/list", LEGACY, LEGACY, runs, environment, _TOOLS),
        *_against_hello("start to tools/list, 2026-07-28", MODERN, MODERN, runs, environment, _TOOLS),
        *_against_hello("start to the first call", our_call, its_call, runs, environment, _FIRST_CALL),
    ]


def _against_hello(
    name: str, ours: Messages, its: Messages, runs: int, environment: Mapping[str, str], limit: float
) -> list[Figure]:
    times: dict[str, list[float]] = {"ours": [], "hello": []}
    for number in range(runs + 1):
        turns = [("ours", OURS, ours), ("hello", HELLO, its)]
        for whose, command, messages in turns if number % 2 else reversed(turns):
            times[whose].append(_milliseconds_to_answer(command, messages, environment))
    mine, hello = (samples[1:] for samples in times.values())  # the first turn warms the caches
    ratios = [one / other for one, other in zip(mine, hello, strict=True)]
    return [
        figure(f"{name}: mcp-backups", mine, "ms"),
        figure(f"{name}: bare hello server", hello, "ms"),
        figure(f"{name}: against the hello server", ratios, "x", limit=limit),
    ]


def _milliseconds_to_answer(command: Sequence[str], messages: Messages, environment: Mapping[str, str]) -> float:
    """Until the last of these messages, which are sent at once, is answered."""
    with TemporaryDirectory() as state:
        start = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": "", **environment, "MCP_BACKUPS_STATE_DIR": state, "HOME": state},
            cwd=Path(__file__).parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
        process.stdin.flush()
        for _ in range(sum("id" in message for message in messages)):
            answer = json.loads(process.stdout.readline())
        milliseconds = (perf_counter() - start) * 1000
        process.stdin.close()
        process.wait(timeout=30)
        if "error" in answer or answer["result"].get("isError"):
            raise ValueError(json.dumps(answer))
        return milliseconds


def _milliseconds(command: Sequence[str]) -> float:
    start = perf_counter()
    subprocess.run([*command, "-c", "pass"], check=True)
    return (perf_counter() - start) * 1000
