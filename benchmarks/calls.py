"""What a tool call takes: over a server process and an emulator process, against the bare request and a bare tool."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from benchmarks.measure import Figure, figure, timed

_AT_ONCE = (1, 10, 50)


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
            }
        finally:
            process.terminate()


@asynccontextmanager
async def session(module: str, environment: dict[str, str]) -> AsyncIterator[Client]:
    """A client of a server process over standard input and output."""
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", module],
        env=environment | {"PATH": os.environ["PATH"]},
        cwd=Path(__file__).parent.parent,
    )
    with Path(os.devnull).open("w") as nowhere:
        async with Client(stdio_client(parameters, errlog=nowhere)) as client:
            yield client


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured answer of one call.

    Raises:
        ValueError: The tool failed, so that its time would say nothing.
    """
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise ValueError(str(result.content))
    answer: dict[str, Any] = result.structured_content
    return answer


async def call_figures(environment: dict[str, str], times: int) -> list[Figure]:
    """Each tool's time; for those with a bare counterpart also against it."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {environment['VPS_API_TOKEN']}"}) as http,
        session("mcp_backups", environment) as ours,
        session("benchmarks.bare", environment) as bare,
    ):
        figures: list[Figure] = []
        for at_once in _AT_ONCE:
            count = at_once * max(2, times // at_once)
            figures += await _against_bare(http, ours, bare, environment["VPS_API_URL"], count, at_once)
        return figures + await _alone(ours, times)


async def _against_bare(
    http: httpx2.AsyncClient, ours: Client, bare: Client, url: str, count: int, at_once: int
) -> list[Figure]:
    async def request() -> None:
        (await http.get(f"{url}/backups/")).raise_for_status()

    await timed(request, at_once, at_once)
    await timed(lambda: call(bare, "list_backups"), at_once, at_once)
    await timed(lambda: call(ours, "list_backups"), at_once, at_once)
    alone = await timed(request, count, at_once)
    its = await timed(lambda: call(bare, "list_backups"), count, at_once)
    mine = await timed(lambda: call(ours, "list_backups"), count, at_once)
    name = f"{at_once} at once"
    request_ms, bare_ms, ours_ms = (figure("", samples, "ms").value for samples in (alone, its, mine))
    return [
        figure(f"bare HTTP request, {name}", alone, "ms"),
        figure(f"bare tool, {name}", its, "ms"),
        figure(f"list_backups, {name}", mine, "ms"),
        Figure(
            f"list_backups above the request, against the bare tool, {name}",
            (ours_ms - request_ms) / (bare_ms - request_ms),
            "x",
            limit=1.15,
        ),
    ]


async def _alone(ours: Client, times: int) -> list[Figure]:
    operation = await call(ours, "create_backup", server_id=12345, description="benchmark")
    known = operation["operation_id"]
    calls: Sequence[tuple[str, dict[str, Any]]] = [
        ("list_backups, one server", {"tool": "list_backups", "server_id": 12345}),
        ("check_backups", {"tool": "check_backups"}),
        ("get_operation", {"tool": "get_operation", "operation_id": known}),
        ("create_backup", {"tool": "create_backup", "server_id": 12345, "allow_duplicate": True}),
        ("delete_backup, plan", {"tool": "delete_backup", "backup_id": 501}),
        ("restore_server, plan", {"tool": "restore_server", "server_id": 12345, "backup_id": 501}),
        ("prune_backups, plan", {"tool": "prune_backups", "server_id": 12345, "keep_last": 1}),
    ]
    return [
        figure(name, await timed(lambda arguments=arguments: call(ours, **arguments), times), "ms")  # type: ignore[misc]
        for name, arguments in calls
    ]
