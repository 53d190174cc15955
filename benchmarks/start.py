"""From the start of a process to its answer to `tools/list`, over standard input and output."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.measure import Figure, figure
from benchmarks.process import HANDSHAKE

_MESSAGES = (*HANDSHAKE, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

PYTHON = [sys.executable]
OURS = [sys.executable, "-m", "mcp_backups"]
HELLO = [sys.executable, "-m", "benchmarks.hello"]


def start_figures(runs: int) -> list[Figure]:
    """Our start against a bare hello server's and bare Python's.

    They are taken in turn, now the one first and now the other, so that all meet the same machine; each turn has its
    ratio.
    """
    times: dict[str, list[float]] = {"ours": [], "hello": [], "bare": []}
    for number in range(runs + 1):
        turns = [("ours", OURS), ("hello", HELLO)]
        for name, command in turns if number % 2 else reversed(turns):
            times[name].append(_milliseconds_to_tools(command))
        times["bare"].append(_milliseconds(lambda: subprocess.run([*PYTHON, "-c", "pass"], check=True)))
    ours, hello, bare = (samples[1:] for samples in times.values())  # the first turn warms the caches
    return [
        figure("start to tools/list: mcp-backups", ours, "ms"),
        figure("start to tools/list: bare hello server", hello, "ms"),
        figure("start and end of bare Python", bare, "ms"),
        figure(
            "start to tools/list: against the hello server",
            [mine / its for mine, its in zip(ours, hello, strict=True)],
            "x",
            limit=1.0,
        ),
    ]


def _milliseconds_to_tools(command: Sequence[str]) -> float:
    with TemporaryDirectory() as state:
        environment = {"PATH": "", "MCP_BACKUPS_STATE_DIR": state, "HOME": state}
        start = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(message) + "\n" for message in _MESSAGES))
        process.stdin.flush()
        process.stdout.readline()
        answer = json.loads(process.stdout.readline())
        milliseconds = (perf_counter() - start) * 1000
        process.stdin.close()
        process.wait(timeout=30)
        if not answer["result"]["tools"]:
            raise ValueError("no tools were listed")
        return milliseconds


def _milliseconds(work: object) -> float:
    start = perf_counter()
    work()  # type: ignore[operator]
    return (perf_counter() - start) * 1000
