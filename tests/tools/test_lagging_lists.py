"""Lists that are behind: a new backup that they do not show yet, or whose size they do not tell yet.

For 30 minutes that says nothing; after that nothing is so final that a later look does not correct it.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.stage import AgentWith, Answer, ManualClock, Session

from .conftest import in_turns

pytestmark = pytest.mark.anyio

SERVERS = {12345: 2.5, 12346: 10, 12351: 29, 12360: 31, 12362: 10**6}
"""For how many minutes the list hides a server's new backup, or its size."""


@dataclass
class Lag:
    """How the list is behind: until when it hides what, in seconds since the test began."""

    clock: ManualClock
    rows: dict[int, float] = field(default_factory=dict)
    values: dict[int, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def __call__(self, page: dict[str, Any]) -> dict[str, Any]:
        now = self.clock.passed
        shown = [row for row in page["results"] if self.rows.get(row["id"], 0) <= now]
        for row in shown:
            until, other = self.values.get(row["id"], (0, {}))
            row.update(other if until > now else {})
        return page | {"count": len(shown), "results": shown}


@pytest.fixture
def lag(emulator: Emulator, clock: ManualClock) -> Lag:
    lag = Lag(clock)
    emulator.fail(Fault.edited(lag), method="GET", path="^/backups/$", times=None)
    return lag


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    """Each server has one backup, of two days ago."""
    async with Emulator(now=clock.now) as served:
        served.fleet.backups.clear()
        for server_id in SERVERS:
            made = clock.now() - timedelta(hours=48)
            served.fleet.backups[server_id] = Backup(server_id, server_id, made, "manual", size_mb=9)
        yield served


async def look(agent: Session, operation: str) -> Answer:
    return await agent.call("get_operation", operation_id=operation)


async def test_a_new_backup_that_the_list_hides_is_started_and_not_made_twice_nor_failed_for_half_an_hour(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, lag: Lag
) -> None:
    started: dict[int, str] = {}
    async with agent_with() as agent:
        for server_id, minutes in SERVERS.items():
            answer = await agent.call("create_backup", server_id=server_id, description="nightly")
            assert answer.status == "accepted"
            lag.rows[answer.data["backup"]["id"]] = clock.passed + 60 * minutes
            started[server_id] = answer.operation
        for now in (2, 5, 9, 29.5, 30.5, 32):
            clock.advance(seconds=60 * now - clock.passed)
            for server_id, minutes in SERVERS.items():
                told = await look(agent, started[server_id])
                hidden, is_old = minutes > now, now > 30
                expected = "succeeded" if not hidden else "failed" if is_old else "accepted"
                assert told.status == expected, (now, told.text)
                assert told.data["changed"] in {"done", "started"}
                assert ("is no longer listed" in told.text) is (expected == "failed")
                if now < 10:
                    again = await agent.call("create_backup", server_id=server_id, description="nightly")
                    assert (again.operation, again.replayed) == (started[server_id], True)
    assert emulator.count("POST") == len(SERVERS)
    assert len(emulator.fleet.backups) == 2 * len(SERVERS)


SIZES = {12345: (25 / 60, None), 12346: (10, None), 12351: (10, 0), 12360: (31, None), 12362: (31, 0)}
"""For how many minutes the size of a server's new backup is told to be so."""


async def test_a_size_that_is_told_later_is_waited_for(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, lag: Lag
) -> None:
    started: dict[int, str] = {}
    async with agent_with() as agent:
        for server_id, (minutes, size) in SIZES.items():
            answer = await agent.call("create_backup", server_id=server_id)
            odd = {"status": "completed", "size_mb": size}
            lag.values[answer.data["backup"]["id"]] = (clock.passed + 60 * minutes, odd)
            started[server_id] = answer.operation
        for now in (0.3, 1, 9, 11, 29.9, 30.5, 32):
            clock.advance(seconds=60 * now - clock.passed)
            for server_id, (minutes, size) in SIZES.items():
                told = await look(agent, started[server_id])
                untold, is_old = minutes > now, now > 30
                late = "failed" if size == 0 else "succeeded"
                expected = "succeeded" if not untold else late if is_old else "accepted"
                assert told.status == expected, (now, told.text)
                assert told.data["changed"] in {"done", "started"}
                assert ("empty" in told.data["summary"]) is (expected == "failed")
    assert emulator.count("POST") == len(SIZES)


@in_turns("what", {what: what for what in ("hidden", "without a size", "empty")})
async def test_a_restore_waits_for_its_safety_backup_as_long_as_the_list_may_be_behind(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, lag: Lag, what: str
) -> None:
    waiting: dict[int, dict[str, Any]] = {}
    async with agent_with() as agent:
        for server_id, minutes in SERVERS.items():
            arguments = {"server_id": server_id, "backup_id": server_id}
            plan = await agent.call("restore_server", **arguments)
            waiting[server_id] = arguments | {
                "confirm": True,
                "operation_id": plan.operation,
                "wait_seconds": 0,
            }
            until = clock.passed + 60 * minutes
            number = max(emulator.fleet.backups) + 1
            if what == "hidden":
                lag.rows[number] = until
            else:
                size = None if what == "without a size" else 0
                lag.values[number] = (until, {"status": "completed", "size_mb": size})
            first = await agent.call("restore_server", **waiting[server_id])
            assert (first.status, first.data["facts"]["safety_backup"]) == ("preparing", number)
        for now in (2, 5, 28, 29.5):
            clock.advance(seconds=60 * now - clock.passed)
            for server_id, minutes in SERVERS.items():
                told = await agent.call("restore_server", **waiting[server_id])
                assert told.status == ("accepted" if minutes <= now else "preparing"), (now, told.text)
        sent = {12345, 12346, 12351}
        assert {restore.server_id for restore in emulator.fleet.restores} == sent
        clock.advance(minutes=1)
        for server_id in set(SERVERS) - sent:
            told = await agent.call("restore_server", **waiting[server_id])
            assert (told.code or told.status) in {"policy_denied", "failed"}, told.text
            assert "othing was restored" in told.text or "nothing is restored" in told.text
    assert {restore.server_id for restore in emulator.fleet.restores} == sent
    assert emulator.count("POST", "/backups/") == len(SERVERS)


@in_turns("first", {first: first for first in ("failed", "error", "queued", "", "FAILED", "unknown to us")})
async def test_a_status_that_a_later_look_contradicts_is_corrected(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, lag: Lag, first: str
) -> None:
    async with agent_with() as agent:
        started = await agent.call("create_backup", server_id=12345, description="nightly")
        number = started.data["backup"]["id"]
        lag.values[number] = (clock.passed + 3600, {"status": first, "size_mb": None})
        clock.advance(minutes=5)
        early = await look(agent, started.operation)
        assert early.status == ("failed" if first == "failed" else "accepted")
        clock.advance(minutes=59)
        late = await look(agent, started.operation)
        assert (late.status, late.data["changed"]) == ("succeeded", "done")
        assert late.data["summary"] == f"Backup {number} of server 12345 is finished."
        assert late.data["next_step"] == "None."
    assert emulator.count("POST") == 1
