"""restore_server: planned, made undoable, sent once, and never said to be finished."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.stage import NOW, AgentWith, Answer, ManualClock, Session, recorded

from .conftest import AgentOn
from .refusals import assert_refused

pytestmark = pytest.mark.anyio

Add = Callable[..., int]
SERVER, TARGET = 12345, 499


def sent(emulator: Emulator) -> dict[str, int]:
    """What was sent that changes anything."""
    return {
        "restores": emulator.count("POST", "/servers/"),
        "backups": emulator.count("POST", "/backups/"),
        "deletes": emulator.count("DELETE"),
    }


def sends(restores: int = 0, backups: int = 0) -> dict[str, int]:
    return {"restores": restores, "backups": backups, "deletes": 0}


async def restore(agent: Session, operation_id: str = "", /, **arguments: Any) -> Answer:
    """Ask for a restore; confirm it when the plan is named."""
    named = {"confirm": True, "operation_id": operation_id} if operation_id else {}
    return await agent.call("restore_server", **{"server_id": SERVER, "backup_id": TARGET} | named | arguments)


async def begin(agent: Session, operation_id: str, **arguments: Any) -> Answer:
    """Confirm it, and wait for nothing."""
    return await restore(agent, operation_id, wait_seconds=0, **arguments)


async def plan(agent: Session, **arguments: Any) -> str:
    answer = await restore(agent, **arguments)
    assert not answer.is_error, answer.text
    assert answer.status == "needs_confirmation"
    return answer.operation


async def finish(agent: Session, operation: str) -> Answer:
    """Wait for the safety backup."""
    return await agent.call("get_operation", operation_id=operation, wait_seconds=45)


# The plan


@pytest.mark.parametrize("arguments", [{}, {"confirm": True}], ids=str)
async def test_the_first_call_changes_nothing_and_shows_a_plan(
    agent: Session, emulator: Emulator, arguments: dict[str, Any]
) -> None:
    answer = await restore(agent, **arguments)
    assert (answer.status, answer.data["changed"]) == ("needs_confirmation", "nothing")
    assert answer.data["server"] == {"id": SERVER, "name": "web-server-01"}
    assert answer.data["backup"]["id"] == TARGET
    assert answer.data["facts"] == {
        "lost": "everything written to the server since 2026-11-21T12:00Z",
        "safety_backup": "one is made first",
        "can_be_undone": True,
        "undo_terms": "restore the safety backup; it does not expire by itself; once, outside the budget of restores",
        "budget": "after this, no more restores of this server may be sent before 2026-11-23T10:30Z",
    }
    assert answer.undo == ""
    named = f"confirm=true, operation_id='{answer.operation}'"
    assert f"restore_server(server_id=12345, backup_id=499, safety_backup=true, {named})" in answer.data["next_step"]
    assert sent(emulator) == sends()
    assert emulator.fleet.servers[SERVER].disk is None


async def test_a_plan_without_a_way_back_says_so(agent: Session) -> None:
    answer = await restore(agent, safety_backup=False)
    assert (answer.data["facts"]["safety_backup"], answer.data["facts"]["can_be_undone"]) == ("none is made", False)


# The safety backup


async def test_one_confirmed_call_makes_a_safety_backup_waits_for_it_and_restores(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """F85."""
    operation = await plan(agent)
    done = await restore(agent, operation)
    assert (done.status, done.data["changed"], done.replayed) == ("accepted", "started", False)
    assert (done.data["made"], done.undo) == ("safety backup 502", "restore_server(server_id=12345, backup_id=502)")
    assert done.data["facts"]["server_status"] == "restoring 09:30Z, active since 09:30Z"
    assert (done.approved_by, clock.passed) == ("plan", 31.25)
    assert sent(emulator) == sends(restores=1, backups=1)
    (applied,) = emulator.fleet.restores
    assert (applied.server_id, applied.backup_id, emulator.fleet.servers[SERVER].disk) == (SERVER, TARGET, TARGET)
    waited = [so_far for so_far, _, _ in done.progress]
    assert waited == sorted(set(waited))
    assert {of for _, of, _ in done.progress} == {35}

    clock.advance(minutes=30)
    again = await restore(agent, operation)
    assert (again.status, again.replayed, again.undo) == ("accepted", True, done.undo)
    assert (sent(emulator), len(emulator.fleet.restores)) == (sends(restores=1, backups=1), 1)


async def test_who_does_not_wait_calls_again_until_the_safety_backup_is_finished(
    agent: Session, emulator: Emulator
) -> None:
    operation = await plan(agent)
    preparing = await begin(agent, operation)
    assert (preparing.status, preparing.data["changed"], preparing.operation) == ("preparing", "nothing", operation)
    assert (preparing.data["made"], preparing.data["facts"]["safety_backup"]) == ("safety backup 502", 502)
    assert f"operation_id='{operation}') to go on, before 2026-11-23T10:30Z: it waits" in preparing.data["next_step"]
    assert sent(emulator) == sends(backups=1)

    impatient = await begin(agent, operation)
    assert (impatient.status, sent(emulator)) == ("preparing", sends(backups=1))

    waited = await finish(agent, operation)
    assert (waited.status, waited.data["facts"]["safety_backup_status"]) == ("preparing", "succeeded")
    assert waited.progress
    assert (sent(emulator), emulator.fleet.servers[SERVER].disk) == (sends(backups=1), None)

    done = await begin(agent, operation)
    assert (done.status, done.data["changed"], done.replayed) == ("accepted", "started", False)
    assert sent(emulator) == sends(restores=1, backups=1)


@pytest.mark.parametrize(
    ("takes", "wait", "status", "passed"),
    [
        (29.9, None, "accepted", 31.25),
        (33, None, "accepted", 34),
        (36, None, "preparing", 34),
        (20, 10, "preparing", 10),
        (20, 0, "preparing", 0),
        (3600, None, "preparing", 34),
    ],
)
async def test_a_call_waits_so_long_for_the_safety_backup_and_goes_on_in_the_next(
    agent_on: AgentOn, clock: ManualClock, takes: float, wait: int | None, status: str, passed: float
) -> None:
    waiting = {} if wait is None else {"wait_seconds": wait}
    async with (
        Emulator(now=clock.now, backup_seconds=takes, restore_seconds=0) as emulator,
        agent_on(emulator) as agent,
    ):
        operation = await plan(agent)
        answer = await restore(agent, operation, **waiting)
        assert answer.status == status
        assert len(emulator.fleet.restores) == (status == "accepted")
        if status == "accepted":
            assert emulator.fleet.restores[0].started_at - NOW <= timedelta(seconds=35)
            return
        assert clock.passed == passed
        clock.advance(seconds=max(0, takes - passed))
        again = await restore(agent, operation)
        expected = "accepted" if takes < 3600 else "policy_denied"
        assert (again.code or again.status) == expected, again.text
        assert (sent(emulator)["backups"], len(emulator.fleet.restores)) == (1, int(takes < 3600))


async def test_a_safety_backup_that_is_older_than_an_hour_is_not_relied_on(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """Neither would any other of that age be: what was written since would be lost for good."""
    operation = await plan(agent)
    await begin(agent, operation)
    clock.advance(minutes=59)
    assert "to go on" in (await agent.call("get_operation", operation_id=operation)).data["next_step"]
    clock.advance(minutes=1)
    looked = await agent.call("get_operation", operation_id=operation)
    assert looked.data["next_step"] == (
        "Its safety backup was asked for over 1 h ago: the restore is not sent any more. Call again without "
        "operation_id for a new plan. If a backup of this server takes that long, no restore comes after it in time: "
        "ask the user whether to restore with safety_backup=false."
    )
    answer = await restore(agent, operation)
    assert (answer.code, sent(emulator)) == ("policy_denied", sends(backups=1))
    assert "ask the user whether to restore with safety_backup=false" in answer.text
    assert "The safety backup 502 is older than 1 h by now" in answer.text
    assert "The server was not changed. Made: safety backup 502. Call again without operation_id" in answer.text


@pytest.mark.parametrize("finished", [True, False])
async def test_a_restore_whose_safety_backup_was_deleted_here_is_not_told_to_be_gone_on_with(
    agent: Session, emulator: Emulator, clock: ManualClock, finished: bool
) -> None:
    """It was told to wait for that, and then to be sent."""
    operation = await plan(agent)
    safety = (await begin(agent, operation)).data["facts"]["safety_backup"]
    if finished:
        clock.advance(minutes=1)
    deletion = (await agent.call("delete_backup", backup_id=safety)).operation
    deleted = await agent.call("delete_backup", backup_id=safety, confirm=True, operation_id=deletion)
    assert deleted.status == "succeeded"
    looked = await agent.call("get_operation", operation_id=operation)
    assert looked.data["next_step"] == (
        f"The deletion of its safety backup was sent, by {deletion}: nothing is restored. Call again without "
        "operation_id for a new plan."
    )
    await begin(agent, operation)
    assert not emulator.fleet.restores


async def test_a_restore_prepared_before_a_restart_goes_on_after_it(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    async with agent_with() as agent:
        operation = await plan(agent)
        await begin(agent, operation)
    clock.advance(minutes=30)
    async with agent_with() as agent:
        assert (await restore(agent, operation)).status == "accepted"
    assert sent(emulator) == sends(restores=1, backups=1)


async def test_a_restore_prepared_two_hours_ago_is_not_sent(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    operation = await plan(agent)
    clock.advance(minutes=9)
    await begin(agent, operation)
    clock.advance(hours=2)
    expired = await restore(agent, operation)
    assert expired.code == "confirmation_expired"
    assert (
        f"The safety backup had been asked for: get_operation(operation_id='{operation}') tells more." in expired.text
    )
    assert sent(emulator) == sends(backups=1)


async def test_a_target_that_changed_while_the_safety_backup_was_made_is_not_restored(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    operation = await plan(agent)
    await begin(agent, operation)
    clock.advance(seconds=20)
    emulator.fleet.backups[TARGET].size_mb = 1
    refused = await restore(agent, operation)
    assert refused.code == "target_changed"
    assert "The server was not changed. Made: safety backup 502." in refused.text
    assert sent(emulator) == sends(backups=1)


async def test_a_safety_backup_that_fails_means_that_nothing_is_restored(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent)
    await begin(agent, operation)
    safety = emulator.fleet.backups[502]
    safety.status, safety.ready_at = "failed", None
    told = await finish(agent, operation)
    assert (told.status, told.data["changed"]) == ("failed", "nothing")
    assert "safety backup failed" in told.data["summary"]
    again = await restore(agent, operation)
    assert (again.status, again.replayed) == ("failed", True)
    assert sent(emulator) == sends(backups=1)


@pytest.mark.parametrize(("status", "code"), [(409, "conflict"), (403, "forbidden"), (400, "invalid_argument")])
async def test_a_safety_backup_that_is_refused_means_that_nothing_is_restored(
    agent: Session, emulator: Emulator, status: int, code: str
) -> None:
    emulator.fail(Fault.status(status, {"detail": "no"}), method="POST", path="^/backups/")
    operation = await plan(agent)
    answer = await restore(agent, operation)
    assert answer.code == code
    assert "Nothing was changed." in answer.text
    assert (await restore(agent, operation)).status == "failed"
    assert sent(emulator) == sends(backups=1)


@pytest.mark.parametrize("minutes", [0, 30, 59])
async def test_a_recent_backup_is_the_way_back_and_none_is_made(
    agent: Session, emulator: Emulator, add: Add, minutes: float
) -> None:
    recent = add(SERVER, hours=minutes / 60)
    planned = await restore(agent)
    assert f"backup {recent} of " in planned.data["facts"]["safety_backup"]
    done = await restore(agent, planned.operation)
    assert (done.status, done.undo) == ("accepted", f"restore_server(server_id=12345, backup_id={recent})")
    assert sent(emulator) == sends(restores=1)


UNFIT: list[dict[str, Any]] = [
    {"hours": 1},
    {"hours": -0.2},
    {"hours": 0.5, "status": "in_progress"},
    {"hours": 0.5, "status": "failed"},
    {"hours": 0.5, "size_mb": None},
    {"hours": 0.5, "size_mb": 0},
    {"hours": 0.5, "expires_at": timedelta(hours=23)},
    {"hours": 0.5, "server_id": 12346},
]


@pytest.mark.parametrize("fields", UNFIT, ids=str)
async def test_a_backup_that_is_no_way_back_does_not_spare_the_safety_backup(
    agent: Session, emulator: Emulator, add: Add, clock: ManualClock, fields: dict[str, Any]
) -> None:
    if "expires_at" in fields:
        fields = fields | {"expires_at": clock.now() + fields["expires_at"]}
    add(**{"server_id": SERVER} | fields)
    assert (await begin(agent, await plan(agent))).status == "preparing"
    assert sent(emulator) == sends(backups=1)


async def test_the_backup_that_is_restored_is_not_its_own_way_back(
    agent: Session, emulator: Emulator, add: Add
) -> None:
    recent = add(SERVER, hours=0.5)
    operation = await plan(agent, backup_id=recent)
    assert (await begin(agent, operation, backup_id=recent)).status == "preparing"
    assert sent(emulator) == sends(backups=1)


async def test_a_backup_made_by_hand_just_before_is_the_way_back(agent: Session, emulator: Emulator) -> None:
    made = await agent.call("create_backup", server_id=SERVER, wait_seconds=45)
    done = await restore(agent, await plan(agent))
    assert done.undo == f"restore_server(server_id=12345, backup_id={made.data['backup']['id']})"
    assert sent(emulator) == sends(restores=1, backups=1)


async def test_without_a_safety_backup_the_restore_is_sent_at_once_and_cannot_be_undone(
    agent: Session, emulator: Emulator
) -> None:
    operation = await plan(agent, safety_backup=False)
    done = await restore(agent, operation, safety_backup=False)
    assert (done.status, done.undo) == ("accepted", "")
    assert sent(emulator) == sends(restores=1)


async def test_a_plan_with_a_safety_backup_is_no_consent_to_do_without(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent)
    assert (await restore(agent, operation, safety_backup=False)).code == "confirmation_invalid"
    assert sent(emulator) == sends()


async def test_where_a_safety_backup_is_required_none_goes_without(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with(require_safety_backup=True) as agent:
        assert_refused(await restore(agent, safety_backup=False), "policy_denied")
        assert_refused(await restore(agent, safety_backup=False, confirm=True), "policy_denied")
        assert sent(emulator) == sends()
        assert (await begin(agent, await plan(agent))).status == "preparing"


async def test_the_undo_is_a_call_that_works_at_once_and_once(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """What a budget forbids is told before: a plan that promises an undo which is refused misleads."""
    done = await restore(agent, await plan(agent))
    assert done.undo == "restore_server(server_id=12345, backup_id=502)"
    back = await restore(agent, backup_id=502)
    assert back.data["facts"]["takes_back"] == f"{done.operation}, outside the budget of restores"
    assert "counts in the budget of restores" in back.data["facts"]["undo_terms"]
    undone = await restore(agent, back.operation, backup_id=502)
    assert (undone.status, emulator.fleet.servers[SERVER].disk) == ("accepted", 502)
    assert undone.data["facts"]["undo_not_before"] == "2026-11-23T10:31Z"
    first = (await agent.call("get_operation", operation_id=done.operation)).data["facts"]
    assert first["undo_terms"].endswith("counts in the budget of restores, since another restore came after it")
    assert first["undo_not_before"] == "2026-11-23T10:31Z"
    for other in (503, TARGET, 502):
        refused = await restore(agent, backup_id=other)
        assert refused.code == "budget_exhausted", other
        assert "at 2026-11-23T10:31Z" in refused.text
    clock.advance(hours=1)
    looked = await agent.call("get_operation", operation_id=done.operation)
    assert looked.data["facts"]["undo_terms"] == first["undo_terms"]
    assert (await restore(agent, backup_id=503)).status == "needs_confirmation"


async def test_while_a_restores_outcome_is_unknown_its_undo_waits_and_the_answer_says_until_when(
    agent: Session, emulator: Emulator, add: Add, clock: ManualClock
) -> None:
    recent = add(SERVER, hours=0.1)
    emulator.fail(Fault.reset_after(), method="POST", path="^/servers/")
    unknown = await restore(agent, await plan(agent))
    assert unknown.code == "outcome_unknown"
    assert "until 2026-11-23T10:00Z nothing else is deleted or restored on this server" in unknown.text
    assert "Ask the user to look at the server itself" in unknown.text
    waiting = await restore(agent, backup_id=recent)
    assert (waiting.code, "at the latest until 2026-11-23T10:00Z" in waiting.text) == ("policy_denied", True)
    clock.advance(minutes=30)
    assert (await restore(agent, backup_id=recent)).data["facts"]["can_be_undone"] is True


class Gone:
    """A caller that goes away once the first progress has come."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        del progress, total, message
        self.scope.cancel()


async def test_a_restore_is_not_sent_once_the_call_is_cancelled_and_the_same_call_goes_on(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    operation = await plan(agent)
    arguments = {"server_id": SERVER, "backup_id": TARGET, "confirm": True, "operation_id": operation}
    gone = Gone()
    with gone.scope:
        await agent.client.call_tool("restore_server", arguments, progress_callback=gone)
    assert gone.scope.cancelled_caught
    clock.advance(minutes=5)
    told = await agent.call("get_operation", operation_id=operation)
    assert (told.status, sent(emulator)) == ("preparing", sends(backups=1))
    assert (await restore(agent, operation)).status == "accepted"
    assert sent(emulator) == sends(restores=1, backups=1)


# What is refused


NOT_TO_RESTORE: list[tuple[dict[str, Any], str]] = [
    ({"server_id": 12346}, "12346"),
    ({"status": "in_progress"}, "not completed"),
    ({"status": "failed"}, "not completed"),
    ({"status": "archived"}, "not completed"),
    ({"expires_at": timedelta(seconds=-1)}, "has expired"),
    ({"expires_at": timedelta(0)}, "has expired"),
    ({"expires_at": timedelta(minutes=59)}, "expires within an hour"),
    ({"size_mb": 0}, "empty or of unknown size"),
    ({"size_mb": None}, "empty or of unknown size"),
]


def spoil(emulator: Emulator, clock: ManualClock, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        told = clock.now() + value if isinstance(value, timedelta) else value
        setattr(emulator.fleet.backups[TARGET], name, told)


@pytest.mark.parametrize(("fields", "reason"), NOT_TO_RESTORE, ids=str)
async def test_a_backup_that_is_not_sure_to_restore_is_refused_with_the_reason(
    agent: Session, emulator: Emulator, clock: ManualClock, fields: dict[str, Any], reason: str
) -> None:
    """F84, F51."""
    spoil(emulator, clock, fields)
    answer = await restore(agent, confirm=True)
    assert_refused(answer, "policy_denied")
    assert reason in answer.text
    assert sent(emulator) == sends()


@pytest.mark.parametrize(("fields", "reason"), NOT_TO_RESTORE, ids=str)
async def test_a_backup_that_became_so_since_the_plan_is_not_restored(
    agent: Session, emulator: Emulator, clock: ManualClock, fields: dict[str, Any], reason: str
) -> None:
    operation = await plan(agent, safety_backup=False)
    spoil(emulator, clock, fields)
    answer = await restore(agent, operation, safety_backup=False)
    assert_refused(answer, "target_changed")
    assert reason not in answer.text
    assert sent(emulator) == sends()


async def test_a_backup_that_begins_to_expire_while_the_plan_waits_is_not_restored(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    spoil(emulator, clock, {"expires_at": timedelta(minutes=65)})
    operation = await plan(agent, safety_backup=False)
    clock.advance(minutes=6)
    assert_refused(await restore(agent, operation, safety_backup=False), "policy_denied")
    assert sent(emulator) == sends()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"backup_id": 999}, "not_found"),
        ({"server_id": 99999, "backup_id": 999}, "not_found"),
        ({"server_id": 99999}, "policy_denied"),
        ({"server_id": 12370, "backup_id": 455}, "policy_denied"),
        ({"server_id": 12371, "backup_id": 439}, "policy_denied"),
    ],
    ids=str,
)
async def test_a_wrong_target_is_refused_and_nothing_is_sent(
    agent: Session, emulator: Emulator, arguments: dict[str, Any], code: str
) -> None:
    assert_refused(await restore(agent, **arguments), code)
    assert sent(emulator) == sends()


async def test_nothing_is_restored_to_a_server_that_vps_org_certainly_does_not_list(
    agent: Session, emulator: Emulator
) -> None:
    def without(listing: dict[str, Any]) -> dict[str, Any]:
        rows = [row for row in listing["results"] if row["id"] != SERVER]
        return {"count": len(rows), "results": rows}

    emulator.fail(Fault.edited(without), path="^/servers/$")
    answer = await restore(agent)
    assert_refused(answer, "not_found")
    assert "VPS.org has no server 12345 any more, to which anything could be restored." in answer.text
    emulator.fail(Fault.status(403), path="^/servers/$")
    assert (await restore(agent)).status == "needs_confirmation"
    assert sent(emulator) == sends()


RULES: list[tuple[dict[str, Any], str]] = [
    ({"protected_servers": {SERVER}}, "policy_denied"),
    ({"servers": {12346}}, "policy_denied"),
    ({"read_only": True}, "read_only"),
    ({"restores_per_hour": 0}, "budget_exhausted"),
]


@pytest.mark.parametrize("approval", ["auto", "flag"])
@pytest.mark.parametrize(("rule", "code"), RULES, ids=str)
async def test_the_operators_rules_hold_whatever_the_consent(
    agent_with: AgentWith, emulator: Emulator, rule: dict[str, Any], code: str, approval: str
) -> None:
    async with agent_with(**rule, approval=approval) as agent:
        assert_refused(await restore(agent, confirm=True, safety_backup=False), code)
        assert_refused(await restore(agent, confirm=True), code)
    assert sent(emulator) == sends()


async def test_a_server_that_may_not_be_changed_is_not_even_looked_at(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with(servers={12346}) as agent:
        assert_refused(await restore(agent), "policy_denied")
    assert emulator.requests == []


async def test_a_plan_that_was_refused_is_recorded_with_the_reason(agent_with: AgentWith, state_dir: Path) -> None:
    async with agent_with(protected_servers={SERVER}) as agent:
        assert_refused(await restore(agent), "policy_denied")
    (operation,) = recorded(state_dir)
    assert (operation.status, operation.error_code) == ("refused", "policy_denied")


@pytest.mark.parametrize(("rule", "code"), RULES, ids=str)
async def test_the_operators_rules_hold_for_a_plan_made_before_they_did(
    agent_with: AgentWith, emulator: Emulator, rule: dict[str, Any], code: str
) -> None:
    async with agent_with() as agent:
        operation = await plan(agent)
    async with agent_with(**rule) as agent:
        expected = "read_only" if "read_only" in rule else "confirmation_expired"
        assert (await restore(agent, operation)).code == expected
        assert_refused(await restore(agent), code)
    assert sent(emulator) == sends()


async def test_a_protected_backup_may_be_restored(agent_with: AgentWith) -> None:
    async with agent_with(protected_backups={TARGET}) as agent:
        assert (await restore(agent)).status == "needs_confirmation"


async def test_one_restore_of_a_server_an_hour_and_another_server_has_its_own(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    async def restore_at_once(agent: Session, **target: int) -> Answer:
        arguments = target | {"safety_backup": False}
        planned = await restore(agent, **arguments)
        return planned if planned.is_error else await restore(agent, planned.operation, **arguments)

    async with agent_with() as agent:
        assert (await restore_at_once(agent)).status == "accepted"
        assert_refused(await restore_at_once(agent), "budget_exhausted")
        assert (await restore_at_once(agent, server_id=12362, backup_id=447)).status == "accepted"
    async with agent_with() as agent:
        for days in (1, -2):
            clock.step(days=days)
            assert_refused(await restore_at_once(agent), "budget_exhausted")
        clock.step(days=1)
        clock.advance(minutes=60)
        assert (await restore_at_once(agent)).status == "accepted"
    assert sent(emulator) == sends(restores=3)


async def test_a_restore_of_many_confirmations_at_once_is_sent_once(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with() as one, agent_with() as other:
        operation = await plan(one)
        await begin(one, operation)
        await finish(one, operation)
        answers: list[Answer] = []

        async def ask(agent: Session) -> None:
            answers.append(await restore(agent, operation))

        async with anyio.create_task_group() as group:
            for agent in (one, other) * 4:
                group.start_soon(ask, agent)
    assert sent(emulator) == sends(restores=1, backups=1)
    assert len(emulator.fleet.restores) == 1
    assert {answer.code for answer in answers} <= {"", "busy"}
    assert [answer.replayed for answer in answers].count(False) == 1


async def test_many_confirmations_at_once_make_one_safety_backup(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with() as one, agent_with() as other:
        operation = await plan(one)
        async with anyio.create_task_group() as group:
            for agent in (one, other) * 4:
                group.start_soon(restore, agent, operation)
    assert sent(emulator) == sends(restores=1, backups=1)


async def test_where_the_flag_consents_the_same_call_many_times_at_once_sends_one_restore(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    rules = {"approval": "flag", "restores_per_hour": 10}
    async with agent_with(**rules) as one, agent_with(**rules) as other, anyio.create_task_group() as group:
        for agent in (one, other) * 2:
            group.start_soon(partial(restore, agent, confirm=True, safety_backup=False))
    assert sent(emulator) == sends(restores=1)


async def test_each_plan_is_a_consent_of_its_own(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with(restores_per_hour=10) as agent:
        plans = [await plan(agent, safety_backup=False) for _ in range(2)]
        answers = [await restore(agent, each, safety_backup=False) for each in plans]
    assert [answer.replayed for answer in answers] == [False, False]
    assert sent(emulator) == sends(restores=2)


async def test_where_the_flag_consents_the_same_call_goes_on_until_it_is_sent_and_is_then_replayed(
    trusted: Session, emulator: Emulator
) -> None:
    first = await restore(trusted, confirm=True, wait_seconds=0)
    assert (first.status, first.approved_by) == ("preparing", "flag")
    await finish(trusted, first.operation)
    second = await restore(trusted, confirm=True)
    third = await restore(trusted, confirm=True)
    assert (second.status, second.operation, second.replayed) == ("accepted", first.operation, False)
    assert (third.status, third.operation, third.replayed) == ("accepted", first.operation, True)
    assert sent(emulator) == sends(restores=1, backups=1)


async def test_where_only_a_person_consents_a_client_that_cannot_ask_waits_for_an_approver(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with(approval="human") as agent:
        operation = await plan(agent)
        assert (await restore(agent, operation)).status == "needs_approval"
    assert sent(emulator) == sends()


async def test_while_a_restore_is_unknown_its_server_is_closed_and_others_are_not(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """F28, F29."""
    emulator.fail(Fault.status(502, "<h1>Bad gateway</h1>"), method="POST", path="restore")
    operation = await plan(agent, safety_backup=False)
    answer = await restore(agent, operation, safety_backup=False)
    assert answer.code == "outcome_unknown"
    assert operation in answer.text
    before = sent(emulator)
    for refused in (await restore(agent), await agent.call("delete_backup", backup_id=495)):
        assert refused.code == "policy_denied"
        assert operation in refused.text
    assert (await agent.call("delete_backup", backup_id=449)).status == "needs_confirmation"
    assert (await restore(agent, operation, safety_backup=False)).data["changed"] == "unknown"
    assert sent(emulator) == before == sends(restores=1)
    clock.advance(minutes=30)
    assert (await agent.call("delete_backup", backup_id=495)).status == "needs_confirmation"


async def test_hours_later_it_is_told_until_when_to_look_and_of_which_day_a_status_is(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    """ "for some 30 minutes more" was told for ever, and a time of the next day without its day."""
    operation = await plan(agent)
    done = await restore(agent, operation)
    assert "which need not be asked for after 2026-11-23T10:01Z." in done.data["next_step"]
    clock.advance(days=1)
    emulator.fleet.servers[12345].status = "stopped"
    later = await agent.call("get_operation", operation_id=done.operation)
    assert later.data["next_step"] == done.data["next_step"]
    assert later.data["facts"]["server_status"] == ("restoring 09:30Z, active 09:30Z, stopped since 2026-11-24T09:30Z")
