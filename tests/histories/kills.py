"""A server process killed with SIGKILL at any point of a write, and what the next one makes of what it left."""

import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mcp_backups.sandbox import Emulator
from tests.doom import Forked
from tests.histories.checker import Verdict, check_operations, verdict_on
from tests.histories.faults import FAULTS
from tests.histories.truth import SERVERS, WatchedFleet, small_fleet
from tests.process import server_process
from tests.stage import PROMPT, RealTime, Session, place_of, recorded, session

LAST_POINT = 9
DONE_FAULTS = ("answer lost", "500, done", "cut body", "closed", "web page, done")
UNDONE_FAULTS = ("never arrived", "503", "lost, 40 s late", "502, late", "web page")

WRITES: dict[str, dict[str, Any]] = {
    "create_backup": {"description": "before the update"},
    "delete_backup": {},
    "restore_server": {"safety_backup": False, "wait_seconds": 0},
}


async def kill_one(random: Random, state_dir: Path, emulator: Emulator, time: RealTime) -> Verdict:
    """Kill a server in the middle of a write, look what is left, ask for the same again, and check."""
    time.ahead = timedelta(0)
    fleet = _fresh(emulator)
    tool, point = random.choice(list(WRITES)), random.randint(1, LAST_POINT)
    arguments = _arguments(random, tool, fleet)
    steps = [f"{tool} {arguments}, killed at point {point}"]
    if tool != "create_backup":
        async with _successor(emulator, time, state_dir) as agent:
            planned = await agent.call(tool, **arguments)
        arguments |= {"confirm": True, "operation_id": planned.operation}
    if random.random() < 0.4:
        # A backup that was not made is looked for in vain for 15 s, by a process's own clock.
        fault = random.choice(DONE_FAULTS if tool == "create_backup" else DONE_FAULTS + UNDONE_FAULTS)
        emulator.fail(FAULTS[fault], method="DELETE" if tool == "delete_backup" else "POST")
        steps.append(f"fault: {fault}")
    _kill(emulator, state_dir, point, tool, arguments)
    emulator.clear_faults()
    wrong = await _again(emulator, time, state_dir, tool, arguments, steps)
    operations = recorded(state_dir)
    wrong += check_operations(fleet, emulator.requests, operations, time.now(), marked=True)
    return verdict_on(wrong, steps, 2, emulator.requests, operations)


def _fresh(emulator: Emulator) -> WatchedFleet:
    fleet = small_fleet(datetime.now(UTC))
    with emulator.lock:
        emulator.fleet = fleet
        emulator.requests.clear()
        emulator.pending.clear()
        emulator.clear_faults()
    return fleet


def _arguments(random: Random, tool: str, fleet: WatchedFleet) -> dict[str, Any]:
    backup = random.choice(sorted(fleet.backups.values(), key=lambda backup: backup.id))
    if tool == "create_backup":
        return {"server_id": random.choice(SERVERS), **WRITES[tool]}
    target = {"backup_id": backup.id, **WRITES[tool]}
    return target if tool == "delete_backup" else {"server_id": backup.server_id, **target}


def _kill(emulator: Emulator, state_dir: Path, point: int, tool: str, arguments: dict[str, Any]) -> None:
    settings = {"VPS_API_URL": emulator.base_url, "VPS_API_TOKEN": emulator.token}
    with server_process(state_dir, launch=Forked, command=("any", str(point)), **settings) as process:
        process.shake_hands().start_call(tool, **arguments)
        process.wait_for_answer_or_end()
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGKILL)
        process.wait()


@asynccontextmanager
async def _successor(emulator: Emulator, time: RealTime, state_dir: Path, **later: float) -> AsyncIterator[Session]:
    """Another server on the same ledger, so much later."""
    time.ahead += timedelta(**later)
    settings = place_of(state_dir).model_copy(update={"restores_per_hour": 9})
    async with session(emulator, settings, time.clock(), "auto", partial(PROMPT, deadline=5.0)) as agent:
        yield agent


async def _again(
    emulator: Emulator, time: RealTime, state_dir: Path, tool: str, arguments: dict[str, Any], steps: list[str]
) -> list[str]:
    """The same call to a successor: it may carry out what was never sent, and nothing else."""
    sent_before = any(request.method != "GET" for request in emulator.requests)
    async with _successor(emulator, time, state_dir) as agent:
        answer = await agent.call(tool, **arguments)
        steps.append(f"again: {answer.text.splitlines()[0]}")
    for minutes in (4, 25 * 60):
        async with _successor(emulator, time, state_dir, minutes=minutes) as agent:
            for operation in recorded(state_dir):
                told = await agent.call("get_operation", operation_id=operation.id)
                steps.append(f"{minutes} minutes later: {told.text.splitlines()[0]}")
    if sent_before and not answer.is_error and not answer.replayed:
        return [f"DOUBLED: {tool} was carried out again after it had been sent"]
    return []
