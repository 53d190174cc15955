"""Memory of a server process: after its start, and as calls go on."""

from pathlib import Path

from benchmarks.measure import Figure
from benchmarks.process import server_process

_AFTER_START_MIB = 72.8
"""What version 0.1.0 held."""


def memory_figures(environment: dict[str, str], first: int, then: int) -> list[Figure]:
    """Resident memory after the start, after `first` and after `then`. Linux only: none elsewhere."""
    if not Path("/proc/self/status").exists():
        return []
    with server_process("mcp_backups", environment) as server:
        server.ask("ping")  # which the SDK answers, so that all is loaded
        server.ask("tools/list")
        started = server.resident()
        server.timed("list_backups", first, server_id=12345)
        early = server.resident()
        server.timed("list_backups", then - first, server_id=12345)
        late = server.resident()
    return [
        Figure("memory after the start", started, "MiB", limit=_AFTER_START_MIB),
        Figure(f"memory after {first} calls", early, "MiB"),
        Figure(f"memory after {then} calls", late, "MiB"),
        Figure(f"memory from {first} to {then} calls", late - early, "MiB", limit=5.0),
    ]
