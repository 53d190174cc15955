"""A plan that was carried out in vain has ended: the answer says that another try needs a new one, and it does."""

from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.stage import AgentWith, ManualClock

from .conftest import in_turns

pytestmark = pytest.mark.anyio

CALLS: dict[str, dict[str, Any]] = {
    "delete_backup": {"backup_id": 499},
    "restore_server": {"server_id": 12345, "backup_id": 499, "safety_backup": False},
    "restore_server with a safety backup": {"server_id": 12345, "backup_id": 499},
    "prune_backups": {"server_id": 12362, "older_than_days": 1},
}


@in_turns(
    "case",
    {
        f"{call}, {status}": (call, Fault.status(status, {"detail": "No."}))
        for call, statuses in {
            "delete_backup": (429, 409, 403, 401, 422, 405),
            "restore_server": (429, 409, 403, 400),
            "restore_server with a safety backup": (429, 409, 403),
            "prune_backups": (429, 401),
        }.items()
        for status in statuses
    },
)
async def test_after_a_refusal_the_same_call_sends_nothing_and_a_new_plan_is_told_of_and_works(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, case: tuple[str, Fault]
) -> None:
    """ "Try once more" was told, and whoever did so with the same call was told of the old refusal, for ever."""
    call, fault = case
    tool, arguments = call.partition(" ")[0], CALLS[call]
    emulator.fleet.backups[447].backup_type = "manual"
    emulator.fleet.backups[448] = type(emulator.fleet.backups[447])(448, 12362, clock.now(), size_mb=7)
    async with agent_with() as agent:
        confirmation = arguments | {"confirm": True, "operation_id": (await agent.call(tool, **arguments)).operation}
        for method in ("DELETE", "POST"):
            emulator.fail(fault, method=method, times=None)
        first = await agent.call(tool, **confirmation)
        step = f"Another try needs a new plan: call {tool} without operation_id."
        assert first.is_error
        assert step in first.text
        emulator.clear_faults()
        clock.advance(minutes=1)
        sent = emulator.count("DELETE") + emulator.count("POST")
        again = await agent.call(tool, **confirmation)
        assert (again.replayed, again.status, again.data["changed"]) == (True, "failed", "nothing")
        assert step in again.data["next_step"]
        told = again.data.get("facts", {}).keys()
        assert not told & {"lost", "safety_backup", "undo_terms", "proven_backups_left", "newest_proven_left"}
        assert emulator.count("DELETE") + emulator.count("POST") == sent
        anew = await agent.call(tool, **arguments)
        done = await agent.call(tool, **confirmation | {"operation_id": anew.operation})
        assert done.data["changed"] in {"done", "started"}


@in_turns(
    "case",
    {
        "the list cannot be read to its end": ("delete_backup", {"id": True}, 501, "incomplete"),
        "the backup to restore has failed": ("restore_server", {"status": "failed"}, 499, "no longer as the plan"),
        "the backup is another": ("delete_backup", {"size_mb": 1}, 499, "no longer as the plan"),
        "the backup to restore is another": ("restore_server", {"description": "x"}, 499, "no longer as the plan"),
    },
)
async def test_what_is_refused_at_execution_ends_the_plan_and_says_so(
    agent_with: AgentWith, emulator: Emulator, case: tuple[str, dict[str, Any], int, str]
) -> None:
    tool, values, backup_id, told = case
    async with agent_with() as agent:
        confirmation = CALLS[tool] | {
            "confirm": True,
            "operation_id": (await agent.call(tool, **CALLS[tool])).operation,
        }
        emulator.fail(Fault.rows(values, backup_id=backup_id), method="GET", path="^/backups/", times=None)
        answer = await agent.call(tool, **confirmation)
        assert told in answer.text
        emulator.clear_faults()
        assert emulator.count("DELETE") + emulator.count("POST") == 0
        again = await agent.call(tool, **confirmation)
        assert (again.replayed, again.data["changed"]) == (True, "nothing")
        assert "without operation_id" in again.data["next_step"]
        assert (await agent.call(tool, **CALLS[tool])).status == "needs_confirmation"


async def test_a_restore_that_waited_too_long_tells_of_what_was_asked_for_and_not_of_what_was_planned(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    """ "one is made first" and how to undo it still stood there when it was over."""
    emulator.change(backup_seconds=1e6)
    arguments = CALLS["restore_server with a safety backup"]
    async with agent_with() as agent:
        plan = await agent.call("restore_server", **arguments)
        await agent.call("restore_server", **arguments, confirm=True, operation_id=plan.operation)
        clock.advance(hours=3)
        answer = await agent.call("get_operation", operation_id=plan.operation)
        assert answer.status == "expired"
        facts = answer.data["facts"]
        assert set(facts) == {"safety_backup", "safety_backup_status", "safety_backup_operation"}
        assert facts["safety_backup_status"] == "accepted", "it is still being made"
        safety = await agent.call("get_operation", operation_id=facts["safety_backup_operation"])
    assert safety.data["backup"]["id"] == facts["safety_backup"]
    assert safety.data["backup"]["status"] == "in_progress"
    assert emulator.count("POST", "/servers/") == 0
