"""get_operation: what is known of an operation, found out by looking and never by sending."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.ledger import SqliteLedger
from mcp_backups.ledger.liveness import FileLiveness
from mcp_backups.operations import Entries
from mcp_backups.operations.operation import Operation, new_id
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import AgentWith, MakeSettings, ManualClock, Session, recorded

pytestmark = pytest.mark.anyio

Put = Callable[..., Any]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "create_backup": {"server_id": 12345},
    "delete_backup": {"backup_id": 501},
    "restore_server": {"server_id": 12345, "backup_id": 501, "safety_backup": True},
}


@pytest.fixture
def put(make_settings: MakeSettings, clock: ManualClock) -> Put:
    """`await put("create_backup", "sending")`: an operation that the ledger holds; returns its id."""

    async def into_ledger(action: str, status: str, **fields: Any) -> str:
        arguments = ARGUMENTS[action]
        known: dict[str, Any] = {"server_id": 12345, "created": clock.moment(), "arguments": arguments}
        if status in {"accepted", "unknown", "succeeded"}:
            known["sent"] = clock.moment()
        known |= fields
        operation = Operation.model_validate({"id": new_id(), "action": action, "status": status} | known)

        def save(entries: Entries) -> Operation:
            return entries.save(operation)

        ledger = SqliteLedger(make_settings().state_dir, Operation, clock.wall)
        try:
            return (await ledger.write(save)).id
        finally:
            ledger.close()

    return into_ledger


async def look(agent: Session, operation: str, **arguments: Any) -> Any:
    answer = await agent.call("get_operation", operation_id=operation, **arguments)
    assert not answer.is_error, answer.text
    assert answer.operation == operation
    return answer


def assert_only_looked(emulator: Emulator) -> None:
    assert {request.method for request in emulator.requests} <= {"GET"}


@pytest.mark.parametrize("operation", ["op_aaaaaaaaaaaaaaaa", "", "501", "x" * 40])
async def test_an_operation_that_does_not_exist_is_an_error(agent: Session, emulator: Emulator, operation: str) -> None:
    answer = await agent.call("get_operation", operation_id=operation)
    assert answer.code == "confirmation_invalid"
    assert "Nothing was changed." in answer.text
    assert emulator.requests == []


WAITING: dict[str, Any] = {"backup_id": 501, "safety_operation": "op_aaaaaaaaaaaaaaaa"}
"""A restore for which a safety backup was asked for."""

STATUSES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("delete_backup", "planned", {"backup_id": 501}, "needs_confirmation", "nothing"),
    ("restore_server", "preparing", WAITING, "preparing", "nothing"),
    ("restore_server", "expired", WAITING, "expired", "nothing"),
    ("restore_server", "failed", WAITING | {"error": "The safety backup failed."}, "failed", "nothing"),
    ("restore_server", "expired", {"backup_id": 501}, "expired", "nothing"),
    ("create_backup", "accepted", {"backup_id": 501}, "succeeded", "done"),
    ("create_backup", "succeeded", {"backup_id": 501}, "succeeded", "done"),
    ("create_backup", "failed", {"error": "It broke."}, "failed", "nothing"),
    ("delete_backup", "declined", {"error": "No."}, "declined", "nothing"),
    ("delete_backup", "expired", {}, "expired", "nothing"),
    ("delete_backup", "refused", {"error": "Not allowed."}, "refused", "nothing"),
    ("delete_backup", "unknown", {"backup_id": 999}, "succeeded", "done"),
    ("delete_backup", "unknown", {"backup_id": 501}, "unknown", "unknown"),
    ("delete_backup", "accepted", {"backup_id": 501}, "accepted", "started"),
    ("delete_backup", "accepted", {"backup_id": 999}, "succeeded", "done"),
    ("create_backup", "unknown", {}, "unknown", "unknown"),
    ("restore_server", "unknown", {"backup_id": 501}, "unknown", "unknown"),
    ("restore_server", "accepted", {"backup_id": 501}, "accepted", "started"),
]


@pytest.mark.parametrize(("action", "status", "fields", "told", "changed"), STATUSES)
async def test_every_status_is_told_with_what_it_changed_and_the_next_step(
    agent: Session,
    emulator: Emulator,
    put: Put,
    action: str,
    status: str,
    fields: dict[str, Any],
    told: str,
    changed: str,
) -> None:
    answer = await look(agent, await put(action, status, **fields))
    assert (answer.status, answer.data["changed"], answer.data["action"]) == (told, changed, action)
    assert answer.data["summary"].endswith(".")
    # A restore that had a safety backup made has changed nothing itself, but that is something.
    waited = "safety_operation" in fields
    assert ("Nothing was changed." in answer.data["summary"]) == (changed == "nothing" and not waited)
    assert ("The server itself was not changed." in answer.data["summary"]) == waited
    assert answer.data["facts"].get("safety_backup_operation") == fields.get("safety_operation")
    assert answer.data["next_step"]
    assert ("without operation_id" in answer.data["next_step"]) <= (action != "create_backup")
    assert_only_looked(emulator)


async def test_one_that_a_living_process_is_sending_is_told_as_under_way(
    agent: Session, emulator: Emulator, put: Put, clock: ManualClock, make_settings: MakeSettings
) -> None:
    other = FileLiveness(make_settings().state_dir)
    async with other.at_work("its operation") as owner:
        operation = await put("delete_backup", "sending", backup_id=501, sent=clock.moment(), owner=owner)
        assert (await look(agent, operation)).status == "sending"
    other.leave()
    assert (await look(agent, operation)).status == "unknown"
    assert_only_looked(emulator)


@pytest.mark.parametrize(("backup_id", "status"), [(501, "unknown"), (999, "succeeded")])
async def test_one_whose_process_has_ended_is_settled_by_looking(
    agent: Session, emulator: Emulator, put: Put, clock: ManualClock, backup_id: int, status: str
) -> None:
    operation = await put("delete_backup", "sending", backup_id=backup_id, sent=clock.moment(), owner="0" * 16)
    assert (await look(agent, operation)).status == status
    assert_only_looked(emulator)


async def test_a_plan_is_told_as_expired_after_10_minutes(agent: Session, clock: ManualClock) -> None:
    operation = (await agent.call("delete_backup", backup_id=501)).operation
    clock.advance(minutes=9)
    assert (await look(agent, operation)).status == "needs_confirmation"
    clock.advance(minutes=1)
    answer = await look(agent, operation)
    assert (answer.status, answer.data["changed"]) == ("expired", "nothing")
    assert "Call delete_backup again without operation_id" in answer.data["next_step"]


async def test_a_backup_that_arrives_late_is_found(
    agent: Session, emulator: Emulator, clock: ManualClock, state_dir: Path
) -> None:
    """A lost request may still take effect: the operation waits for it, and it is never sent again."""
    emulator.fail(Fault.reset_after().late(60), method="POST")
    answer = await agent.call("create_backup", server_id=12345, description="Late")
    assert answer.code == "outcome_unknown"
    (operation,) = recorded(state_dir)
    assert operation.id in answer.text
    assert (await look(agent, operation.id)).status == "unknown"
    repeated = await agent.call("create_backup", server_id=12345, description="Late")
    assert (repeated.operation, repeated.replayed, repeated.status) == (operation.id, True, "unknown")
    clock.advance(seconds=60)
    found = await look(agent, operation.id, wait_seconds=45)
    assert (found.status, found.data["backup"]["id"], found.data["changed"]) == ("succeeded", 502, "done")
    assert emulator.count("POST") == 1


async def test_an_unknown_delete_that_took_effect_is_settled(agent: Session, emulator: Emulator) -> None:
    """F10."""
    operation = (await agent.call("delete_backup", backup_id=501)).operation
    emulator.fail(Fault.reset_after(), method="DELETE")
    emulator.fail(Fault.status(503), method="GET", skip=1, times=None)
    answer = await agent.call("delete_backup", backup_id=501, confirm=True, operation_id=operation)
    assert answer.code == "outcome_unknown"
    assert (await look(agent, operation)).data["facts"]["not_checked_now"].startswith("VPS.org could not be asked")
    emulator.clear_faults()
    settled = await look(agent, operation)
    assert (settled.status, settled.data["changed"]) == ("succeeded", "done")
    assert "not_checked_now" not in settled.data["facts"]
    assert emulator.count("DELETE") == 1


async def test_an_unknown_delete_that_did_not_take_effect_is_settled_once_it_cannot_any_more(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    operation = (await agent.call("delete_backup", backup_id=501)).operation
    emulator.fail(Fault.reset_after(apply=False), method="DELETE")
    emulator.fail(Fault.status(503), method="GET", skip=1, times=None)
    await agent.call("delete_backup", backup_id=501, confirm=True, operation_id=operation)
    emulator.clear_faults()
    assert (await look(agent, operation)).status == "unknown"
    assert (await agent.call("delete_backup", backup_id=499)).code == "policy_denied"
    clock.advance(hours=23.9)
    waiting = await look(agent, operation)
    assert (waiting.status, waiting.data["changed"]) == ("unknown", "unknown")
    assert waiting.data["next_step"].startswith("Do not count on backup 501. Call get_operation(")
    clock.advance(hours=0.1)
    settled = await look(agent, operation)
    assert (settled.status, settled.data["changed"]) == ("failed", "nothing")
    assert (await agent.call("delete_backup", backup_id=499)).status == "needs_confirmation"
    assert emulator.count("DELETE") == 1


async def test_waiting_tells_progress_until_the_backup_is_finished(agent: Session, clock: ManualClock) -> None:
    operation = (await agent.call("create_backup", server_id=12345)).operation
    answer = await look(agent, operation, wait_seconds=45)
    told = [so_far for so_far, _, _ in answer.progress]
    assert answer.status == "succeeded"
    assert told
    assert told == sorted(set(told))
    assert 8 <= clock.passed < 15


async def test_waiting_ends_in_time_and_says_that_it_is_not_finished(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    operation = (await agent.call("create_backup", server_id=12345)).operation
    emulator.fleet.backups[502].ready_at = clock.now() + timedelta(hours=1)
    answer = await look(agent, operation, wait_seconds=45)
    assert (answer.status, answer.data["backup"]["status"]) == ("accepted", "in_progress")
    assert clock.passed <= 45


@pytest.mark.parametrize("action", ["planned", "restore"])
async def test_there_is_no_waiting_for_what_waiting_cannot_tell(
    agent: Session, clock: ManualClock, action: str
) -> None:
    arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": False}
    operation = (await agent.call("restore_server", **arguments)).operation
    if action == "restore":
        await agent.call("restore_server", **arguments, confirm=True, operation_id=operation)
    slept = len(clock.slept)
    await look(agent, operation, wait_seconds=45)
    assert len(clock.slept) == slept


async def test_a_restore_is_told_with_the_status_of_its_server(agent: Session, clock: ManualClock) -> None:
    """It is evidence, not proof: a restore is never said to have succeeded."""
    arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": False}
    operation = (await agent.call("restore_server", **arguments)).operation
    await agent.call("restore_server", **arguments, wait_seconds=0, confirm=True, operation_id=operation)
    for statuses in ("restoring since 09:30Z", "restoring 09:30Z, active since 09:31Z"):
        answer = await look(agent, operation)
        assert (answer.status, answer.data["facts"]["server_status"]) == ("accepted", statuses)
        clock.advance(seconds=60)
    waited = await look(agent, operation, wait_seconds=45)
    assert (waited.status, clock.slept) == ("accepted", [])


async def test_a_restored_server_that_is_gone_is_not_told_as_what_it_was_before(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """It was "active since" then, for as long as anybody asked; a list that is not whole says nothing of it."""
    arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": False}
    operation = (await agent.call("restore_server", **arguments)).operation
    await agent.call("restore_server", **arguments, wait_seconds=0, confirm=True, operation_id=operation)
    clock.advance(minutes=1)
    cut, gone = (Fault.status(200, {"count": count, "results": list[object]()}) for count in (8, 0))
    emulator.fail(cut, method="GET", path="^/servers/$", skip=1)
    emulator.fail(gone, method="GET", path="^/servers/$", skip=1, times=None)
    for statuses in ("active since 09:31Z", "active since 09:31Z", "active 09:31Z, not listed since 09:33Z"):
        answer = await look(agent, operation)
        told = answer.data["facts"]["server_status"].removeprefix("restoring 09:30Z, ")
        assert (answer.status, told) == ("accepted", statuses)
        clock.advance(minutes=1)


async def test_a_way_back_that_is_dated_otherwise_than_before_is_still_one(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """It was taken for a later backup of the same id, and the restore could never be undone again."""
    arguments = {"server_id": 12345, "backup_id": 499}
    operation = (await agent.call("restore_server", **arguments)).operation
    sent = await agent.call("restore_server", **arguments, confirm=True, operation_id=operation)
    assert sent.undo
    safety = emulator.fleet.backups[sent.data["facts"]["safety_backup"]]
    safety.created_at += timedelta(microseconds=7)
    assert (await look(agent, operation)).undo == sent.undo
    clock.advance(minutes=1)
    safety.created_at = clock.now()
    assert not (await look(agent, operation)).undo


async def test_a_restored_server_is_watched_until_it_is_back(agent: Session, clock: ManualClock) -> None:
    arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": False}
    operation = (await agent.call("restore_server", **arguments)).operation
    await agent.call("restore_server", **arguments, wait_seconds=0, confirm=True, operation_id=operation)
    answer = await look(agent, operation, wait_seconds=45)
    assert answer.data["facts"]["server_status"] == "restoring 09:30Z, active since 09:30Z"
    assert 20 <= clock.passed <= 25


async def test_operations_are_shared_by_the_processes_of_one_state_folder(agent_with: AgentWith) -> None:
    async with agent_with() as one, agent_with() as other:
        operation = (await one.call("create_backup", server_id=12345)).operation
        assert (await look(other, operation, wait_seconds=30)).status == "succeeded"


@pytest.mark.parametrize("minutes", [0, 29, 30, 31, 600])
@pytest.mark.parametrize(
    ("action", "while_it_may_show", "always"),
    [
        ("create_backup", "in 5 minutes, and once more after 2026-11-23T10:00Z", "VPS.org's panel shows a new backup"),
        ("restore_server", "until 2026-11-23T10:00Z nothing else is deleted or restored", "look at the server itself"),
    ],
)
async def test_what_to_do_about_an_unknown_outcome_names_no_time_that_is_over(
    agent: Session, put: Put, clock: ManualClock, action: str, while_it_may_show: str, always: str, minutes: int
) -> None:
    """An agent that was told "in 5 minutes, and once more" each time it looks would look for ever."""
    operation = await put(action, "unknown")
    clock.advance(minutes=minutes)
    seen = await look(agent, operation)
    assert (seen.status, always in seen.data["next_step"]) == ("unknown", True)
    assert (while_it_may_show in seen.data["next_step"], "10:00Z" in seen.data["next_step"]) == (minutes < 30,) * 2


@pytest.mark.parametrize("approval", ["plan", "operator"])
async def test_a_plan_made_under_rules_that_have_changed_since_is_told_to_count_no_more(
    agent_with: AgentWith, approval: str
) -> None:
    """What it says to do then leads on: the confirmed call would be refused, and an approver's yes come to nothing."""
    async with agent_with(approval=approval) as agent:
        plan = await agent.call("delete_backup", backup_id=501, confirm=True)
    async with agent_with(approval=approval, keep_min=2) as agent:
        seen = await look(agent, plan.operation)
        assert seen.data["next_step"] == (
            "The rules here have changed since it was planned, so this plan counts no more. "
            "Call delete_backup again without operation_id if it is still wanted."
        )
        again = await agent.call("delete_backup", backup_id=501, confirm=True)
        assert (again.status, again.operation == plan.operation) == (plan.status, False)
