"""Memory of a server process: after its start, and as calls go on."""

from pathlib import Path

from mcp import Client

from benchmarks.calls import call, session
from benchmarks.measure import Figure


async def memory_figures(environment: dict[str, str], first: int, then: int) -> list[Figure]:
    """Resident memory after the start, after `first` calls and after `then`. Linux only: none elsewhere."""
    if not Path("/proc/self/status").exists():
        return []
    async with session("mcp_backups", environment) as client:
        process = _newest_child()
        await client.list_tools()
        started = _resident(process)
        await _calls(client, first)
        early = _resident(process)
        await _calls(client, then - first)
        late = _resident(process)
    return [
        Figure("memory after the start", started, "MiB"),
        Figure(f"memory after {first} calls", early, "MiB"),
        Figure(f"memory after {then} calls", late, "MiB"),
        Figure(f"memory from {first} to {then} calls", late - early, "MiB", limit=5.0),
    ]


async def _calls(client: Client, count: int) -> None:
    for _ in range(count):
        await call(client, "list_backups", server_id=12345)


def _newest_child() -> int:
    """The process started last by this one: the server."""
    children = Path("/proc/self/task").glob("*/children")
    return max(int(child) for path in children for child in path.read_text().split())


def _resident(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
