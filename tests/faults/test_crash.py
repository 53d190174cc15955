"""F88, F78, F79: the server process dies, is told to end, or is fed nonsense, at every point of a write.

Real processes, real signals. What they leave behind is then looked at by another server on the same ledger.
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault, serve_in_thread
from tests.doom import Forked, Point
from tests.faults.stage import LOST, SOURCE, TARGET, WEB, row, times_applied
from tests.process import PATIENCE, server_process
from tests.stage import MakeSettings, RealTime, Session, on_both_stores, on_file, recorded, session

pytestmark = pytest.mark.anyio

OTHER = 501
"""Another backup of the same server, whose deletion shows whether that is open."""

TOOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "create": ("create_backup", {"server_id": WEB, "description": "before the update"}),
    "delete": ("delete_backup", {"backup_id": TARGET}),
    "restore": ("restore_server", {"server_id": WEB, "backup_id": SOURCE, "safety_backup": False, "wait_seconds": 0}),
}
METHODS = {"create": "POST", "delete": "DELETE", "restore": "POST"}


class Gate:
    """Holds what the emulator delays until it is let go: the emulator's `sleep`."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    async def __call__(self, _seconds: float) -> None:
        self.reached.set()
        await _until(self.opened.is_set)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def passing() -> RealTime:
    return RealTime()


@pytest.fixture
def emulator(gate: Gate, passing: RealTime) -> Iterator[Emulator]:
    """In a thread."""
    with serve_in_thread(Emulator(now=passing.now, sleep=gate, backup_seconds=3600)) as served:
        yield served


OpenSuccessor = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def successor(emulator: Emulator, make_settings: MakeSettings, passing: RealTime) -> OpenSuccessor:
    """`async with successor(minutes=3) as agent`: another server on the same ledger, so much later."""

    @asynccontextmanager
    async def open_successor(**later: float) -> AsyncIterator[Session]:
        passing.ahead += timedelta(**later)
        async with session(emulator, make_settings(restores_per_hour=9), passing.clock()) as agent:
            yield agent

    return open_successor


def doomed(emulator: Emulator, state_dir: Path, point: Point | str = "any", number: int = 0) -> Any:
    """A real server process, which kills itself at that point; 0 = never."""
    return server_process(
        state_dir,
        launch=Forked,
        command=(point, str(number)),
        VPS_API_URL=emulator.base_url,
        VPS_API_TOKEN=emulator.token,
        MCP_BACKUPS_RESTORES_PER_HOUR="9",
    )


async def confirmation(successor: OpenSuccessor, tool: str) -> tuple[str, dict[str, Any]]:
    """The call that is to be killed; what must be planned before it is."""
    name, arguments = TOOLS[tool]
    if tool == "create":
        return name, arguments
    async with successor() as agent:
        planned = await agent.call(name, **arguments)
    return name, arguments | {"confirm": True, "operation_id": planned.operation}


def written(state_dir: Path, tool: str) -> Operation:
    (operation,) = (each for each in recorded(state_dir) if each.action == TOOLS[tool][0])
    return operation


def expected(tool: str, *, applied: bool, outcome_recorded: bool) -> str:
    """The status in which a successor finds an operation whose intent was recorded."""
    if outcome_recorded:
        return "succeeded" if tool == "delete" else "accepted"
    if tool == "restore" or not applied:
        return "unknown"  # of a restore no list tells
    return "succeeded" if tool == "delete" else "accepted"


async def assert_settled(emulator: Emulator, state_dir: Path, successor: OpenSuccessor, tool: str, status: str) -> None:
    """A successor tells what is true, keeps the server closed while it cannot, and sends nothing again."""
    name, arguments = TOOLS[tool]
    writes = emulator.count("POST") + emulator.count("DELETE")
    operation = written(state_dir, tool)
    async with successor() as agent:
        told = await agent.call("get_operation", operation_id=operation.id)
        assert told.status == status, told.text
        if tool == "create":
            again = await agent.call(name, **arguments)
        else:
            again = await agent.call(name, **arguments, confirm=True, operation_id=operation.id)
        assert (again.operation, again.status, again.replayed) == (operation.id, status, True)
        other = await agent.call("delete_backup", backup_id=OTHER)
        assert (other.code or other.status) == ("policy_denied" if status == "unknown" else "needs_confirmation")
    assert emulator.count("POST") + emulator.count("DELETE") == writes
    assert writes <= 1
    assert times_applied(emulator, METHODS[tool]) <= 1


NOTHING_SENT: list[tuple[str, Point, int]] = [("before intent", "write begins", 1), ("in intent", "write inside", 1)]
AFTER_INTENT: list[tuple[str, Point, int, bool]] = [
    ("after intent", "write ended", 1, False),
    ("before send", "request begins", 1, False),
    ("after response", "request ended", 1, False),
    ("before outcome", "write begins", 2, False),
    ("after outcome", "write ended", 2, True),
]


@row("F88")
@on_both_stores
@pytest.mark.parametrize("tool", ["create", "delete"])
@pytest.mark.parametrize(("where", "point", "number"), NOTHING_SENT)
async def test_a_process_killed_before_its_intent_has_done_nothing(
    emulator: Emulator,
    state_dir: Path,
    successor: OpenSuccessor,
    row: str,
    tool: str,
    where: str,
    point: Point,
    number: int,
) -> None:
    name, arguments = await confirmation(successor, tool)
    with doomed(emulator, state_dir, point, number) as process:
        process.shake_hands().start_call(name, **arguments)
        assert process.wait() == -signal.SIGKILL, (row, where)
    assert times_applied(emulator, METHODS[tool]) == emulator.count(METHODS[tool]) == 0
    left = [each.status for each in recorded(state_dir)]
    assert left == (["planned"] if tool == "delete" else [])
    async with successor() as agent:
        done = await agent.call(name, **arguments)
        assert (done.data["changed"], done.replayed) == ("done" if tool == "delete" else "started", False)
    assert times_applied(emulator, METHODS[tool]) == 1


@row("F88")
@on_both_stores
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("where", "point", "number", "outcome_recorded"), AFTER_INTENT)
async def test_a_process_killed_after_its_intent_leaves_what_can_be_settled(
    emulator: Emulator,
    state_dir: Path,
    successor: OpenSuccessor,
    row: str,
    tool: str,
    where: str,
    point: Point,
    number: int,
    outcome_recorded: bool,
) -> None:
    name, arguments = await confirmation(successor, tool)
    with doomed(emulator, state_dir, point, number) as process:
        process.shake_hands().start_call(name, **arguments)
        assert process.wait() == -signal.SIGKILL, (row, where)
    applied = times_applied(emulator, METHODS[tool]) == 1
    assert applied == (where not in ("after intent", "before send"))
    status = expected(tool, applied=applied, outcome_recorded=outcome_recorded)
    await assert_settled(emulator, state_dir, successor, tool, status)


@row("F88")
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("applied", [True, False])
async def test_a_process_killed_while_vps_org_has_its_request_leaves_what_can_be_settled(
    emulator: Emulator, gate: Gate, state_dir: Path, successor: OpenSuccessor, row: str, tool: str, applied: bool
) -> None:
    name, arguments = await confirmation(successor, tool)
    emulator.fail(Fault(pause=1, apply=applied), method=METHODS[tool])
    with doomed(emulator, state_dir) as process:
        process.shake_hands().start_call(name, **arguments)
        assert gate.reached.wait(PATIENCE), row
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    gate.opened.set()
    emulator.run(_until(lambda: emulator.requests[-1].status is not None))
    status = expected(tool, applied=applied, outcome_recorded=False)
    await assert_settled(emulator, state_dir, successor, tool, status)


@row("F88")
@pytest.mark.parametrize("tool", ["create", "delete"])
async def test_a_process_killed_while_it_looks_for_the_outcome_leaves_what_can_be_settled(
    emulator: Emulator, gate: Gate, state_dir: Path, successor: OpenSuccessor, row: str, tool: str
) -> None:
    name, arguments = await confirmation(successor, tool)
    emulator.fail(LOST, method=METHODS[tool])
    emulator.fail(Fault.delay(1), method="GET", path="backups", skip=1)
    with doomed(emulator, state_dir) as process:
        process.shake_hands().start_call(name, **arguments)
        assert gate.reached.wait(PATIENCE), row
        process.signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    gate.opened.set()
    await assert_settled(emulator, state_dir, successor, tool, expected(tool, applied=True, outcome_recorded=False))


async def _until(holds: Callable[[], bool]) -> None:
    """For what another thread or process does, which no event of this loop can tell."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


@row("F88")
@pytest.mark.parametrize("online", [True, False])
async def test_the_next_start_settles_what_was_left_open_and_says_so(
    emulator: Emulator, state_dir: Path, successor: OpenSuccessor, row: str, online: bool
) -> None:
    name, arguments = await confirmation(successor, "delete")
    with doomed(emulator, state_dir, "request ended", 1) as process:
        process.shake_hands().start_call(name, **arguments)
        assert process.wait() == -signal.SIGKILL, row
    operation = written(state_dir, "delete")
    assert operation.status == "sending"
    if not online:
        emulator.run(emulator.down())
    with doomed(emulator, state_dir) as process:
        process.shake_hands().start_call("list_backups")  # the handshake alone is answered from a table
        said = f"{operation.id} (delete_backup on server {WEB}) was left open; it is now"
        await asyncio.wait_for(_until(lambda: said in process.stderr), PATIENCE)
        process.close_input()
        assert process.wait() == 0
        (line,) = (line for line in process.stderr.splitlines() if said in line)
    assert "WARNING" in line
    assert ("is now succeeded" if online else "VPS.org could not be asked (upstream_unavailable)") in line
    assert written(state_dir, "delete").status == ("succeeded" if online else "unknown")


@on_file
@row("F88")
@pytest.mark.parametrize("applied", [True, False])
async def test_a_day_later_a_delete_left_open_is_known_either_way(
    emulator: Emulator, gate: Gate, state_dir: Path, successor: OpenSuccessor, row: str, applied: bool
) -> None:
    name, arguments = await confirmation(successor, "delete")
    emulator.fail(Fault(pause=1, apply=applied), method="DELETE")
    with doomed(emulator, state_dir) as process:
        process.shake_hands().start_call(name, **arguments)
        assert gate.reached.wait(PATIENCE), row
        process.signal(signal.SIGKILL)
        process.wait()
    gate.opened.set()
    emulator.run(_until(lambda: emulator.requests[-1].status is not None))
    async with successor(hours=24) as agent:
        told = await agent.call("get_operation", operation_id=arguments["operation_id"])
        assert (told.status, told.data["changed"]) == (("succeeded", "done") if applied else ("failed", "nothing"))
        assert (await agent.call("delete_backup", backup_id=OTHER)).status == "needs_confirmation"


@row("F78", "F88")
@pytest.mark.parametrize("end", ["input ends", "SIGTERM"])
@pytest.mark.parametrize("tool", TOOLS)
async def test_a_process_told_to_end_finishes_and_records_what_it_has_sent(
    emulator: Emulator, gate: Gate, state_dir: Path, successor: OpenSuccessor, row: str, end: str, tool: str
) -> None:
    name, arguments = await confirmation(successor, tool)
    emulator.fail(Fault.delay(1), method=METHODS[tool])
    with doomed(emulator, state_dir) as process:
        process.shake_hands().start_call(name, **arguments)
        assert gate.reached.wait(PATIENCE), row
        if end == "SIGTERM":
            process.signal(signal.SIGTERM)
        else:
            process.close_input()
        gate.opened.set()
        assert process.wait() == 0
    assert written(state_dir, tool).status == expected(tool, applied=True, outcome_recorded=True)
    assert times_applied(emulator, METHODS[tool]) == 1


@row("F79")
async def test_nonsense_on_the_wire_leaves_the_server_serving(emulator: Emulator, state_dir: Path, row: str) -> None:
    nonsense = [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"jsonrpc":"2.0","id":77,"method":"tools/call","params":[]}',
        b'{"jsonrpc":"2.0","id":78,"method":"no/such"}',
        json.dumps({"jsonrpc": "2.0", "id": 79, "method": "x" * 10_000_000}).encode(),
    ]
    with doomed(emulator, state_dir) as process:
        process.shake_hands()
        for line in nonsense:
            process.write(line)
        answer = process.call("list_backups", limit=1)
        assert answer["structuredContent"]["returned"] == 1, row
        process.close_input()
        assert process.wait() == 0
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in process.lines)
    assert [request.path for request in emulator.requests] == ["/backups/", "/servers/"]
