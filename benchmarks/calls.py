"""What a tool call takes: over a server process and an emulator process, against the bare request and a bare tool.

All three ask the same account for the same page. Both servers are spoken to in JSON-RPC by the same code, which
reads no more of an answer than its id: what a client library does with it is no server's time. The three are measured
in turn, in many short rounds, so that whatever else the machine does falls on all alike; each round has its ratio.
"""

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from benchmarks.measure import Figure, figure, timed
from benchmarks.process import ServerProcess, server_process

_AT_ONCE = (1, 10, 50)
_PAGE_SIZE = 100
_MOST_ABOVE = 1.15
_MOST_ABOVE_ALONE = 1.10
_MOST_OF_A_LIST = 3.0
_IN_A_ROUND = 5
_WRITES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("delete_backup, plan", "delete_backup", {"backup_id": 501}),
    ("restore_server, plan", "restore_server", {"server_id": 12345, "backup_id": 501}),
    ("prune_backups, plan", "prune_backups", {"server_id": 12345, "keep_last": 1}),
    ("create_backup", "create_backup", {"server_id": 12351, "allow_duplicate": True}),
)


@contextmanager
def emulated_account() -> Iterator[dict[str, str]]:
    """The sandbox in a process of its own; yields the environment that names it."""
    command = [sys.executable, "-m", "mcp_backups", "sandbox", "--backup-seconds", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, TemporaryDirectory() as state:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield dict(re.findall(r"(VPS_API_\w+)=(\S+)", line)) | {
                "MCP_BACKUPS_STATE_DIR": state,
                "MCP_BACKUPS_APPROVAL": "plan",
                "MCP_BACKUPS_DELETES_PER_HOUR": "100000",
                "MCP_BACKUPS_DELETES_PER_DAY": "100000",
                "MCP_BACKUPS_RESTORES_PER_HOUR": "1000",
                "MCP_BACKUPS_CREATES_PER_HOUR": "100000",
            }
        finally:
            process.terminate()


async def call_figures(environment: dict[str, str], times: int) -> list[Figure]:
    """Each tool's time, and that of `list_backups` also against a bare tool's; `times` calls of each."""
    figures: list[Figure] = []
    with (
        server_process("mcp_backups", environment) as ours,
        server_process("benchmarks.bare", environment) as bare,
    ):
        if ours.call("list_backups")["total"] != len(bare.call("list_backups")["results"]):
            raise ValueError("the two servers do not ask for the same page")
        for at_once in _AT_ONCE:
            figures += await _against_bare(environment, ours, bare, times, at_once)
        return figures + _alone(ours, times) + _through_bare(bare, times)


async def _against_bare(
    environment: dict[str, str], ours: ServerProcess, bare: ServerProcess, times: int, at_once: int
) -> list[Figure]:
    rounds = max(2, times // 5)
    count = max(10, at_once)
    url, headers = environment["VPS_API_URL"], {"Authorization": f"Bearer {environment['VPS_API_TOKEN']}"}
    requests: list[float] = []
    its: list[float] = []
    mine: list[float] = []
    async with httpx2.AsyncClient(headers=headers) as http:

        async def request() -> None:
            (await http.get(f"{url}/backups/", params={"page_size": _PAGE_SIZE})).raise_for_status()

        for number in range(rounds + 1):
            requests.append(statistics.median(await timed(request, count, at_once)))
            turns = [(its, bare), (mine, ours)]
            for samples, server in turns if number % 2 else reversed(turns):
                samples.append(statistics.median(server.timed("list_backups", count, at_once)))
    # The first round opens the connections.
    limit = _MOST_ABOVE_ALONE if at_once == 1 else _MOST_ABOVE
    return _comparison(f"{at_once} at once", requests[1:], its[1:], mine[1:], limit)


def _comparison(name: str, requests: list[float], its: list[float], mine: list[float], limit: float) -> list[Figure]:
    above = [(ours - request) / (bare - request) for request, bare, ours in zip(requests, its, mine, strict=True)]
    return [
        figure(f"bare HTTP request, {name}", requests, "ms"),
        figure(f"bare tool, {name}", its, "ms"),
        figure(f"list_backups, {name}", mine, "ms"),
        figure(f"list_backups above the request, against the bare tool, {name}", above, "x", limit=limit),
    ]


def plan_figures(environment: dict[str, str], times: int, ledger: str = "an empty ledger") -> list[Figure]:
    """A plan, and a backup made, against `list_backups` of the same server process, in turn."""
    with server_process("mcp_backups", environment) as ours:
        rounds = max(3, times // _IN_A_ROUND)
        samples: dict[str, list[float]] = {"list_backups": [], **{name: [] for name, _, _ in _WRITES}}
        for _ in range(rounds + 1):
            samples["list_backups"].append(statistics.median(ours.timed("list_backups", _IN_A_ROUND)))
            for name, tool, arguments in _WRITES:
                samples[name].append(statistics.median(ours.timed(tool, _IN_A_ROUND, **arguments)))
    listed = samples["list_backups"][1:]
    figures = [figure(f"list_backups, {ledger}", listed, "ms")]
    for name, _, _ in _WRITES:
        found = samples[name][1:]  # the first round asks which account it is, and opens the ledger
        ratios = [one / other for one, other in zip(found, listed, strict=True)]
        figures += [
            figure(f"{name}, {ledger}", found, "ms"),
            figure(f"{name}, {ledger}: against list_backups", ratios, "x", limit=_MOST_OF_A_LIST),
        ]
    return figures


def _alone(ours: ServerProcess, times: int) -> list[Figure]:
    """Each of the other tools by itself."""
    operation = ours.call("create_backup", server_id=12345, description="benchmark")
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("list_backups, one server", "list_backups", {"server_id": 12345}),
        ("check_backups", "check_backups", {}),
        ("get_operation", "get_operation", {"operation_id": operation["operation_id"]}),
    ]
    return [figure(name, ours.timed(tool, times, **arguments), "ms") for name, tool, arguments in calls]


def _through_bare(bare: ServerProcess, times: int) -> list[Figure]:
    return [figure("bare tool that makes the two requests of check_backups", bare.timed("check_backups", times), "ms")]
