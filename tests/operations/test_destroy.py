"""Carrying out a plan: not twice, not on what has changed, and a restore with the way back that it has."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.actions.delete import delete
from mcp_backups.actions.restore import restore
from mcp_backups.errors import (
    BackupsError,
    BusyError,
    NotFoundError,
    PolicyDeniedError,
    TargetChangedError,
    UnavailableError,
)
from mcp_backups.operations import Context, Result, settle
from mcp_backups.operations.operation import ApprovedBy, Operation, RestoreDetails
from mcp_backups.sandbox import Backup, Emulator, Fault
from mcp_backups.tools.answers import operation_answer
from tests.stage import ManualClock, recorded, write_now

from .made import AT_ONCE, Nobody, ago, as_recorded, execute_plan, facts_of, operation, record_all, under

pytestmark = pytest.mark.anyio

WEB, DB, TARGET = 12345, 12346, 499


async def a_delete(context: Context, backup_id: int = TARGET) -> Operation:
    told = await delete(context, backup_id, confirm=False, operation_id="", person=Nobody())
    return told.operation


async def a_restore(context: Context, *, safety_backup: bool = False) -> Operation:
    told = await restore(
        context,
        WEB,
        TARGET,
        safety_backup=safety_backup,
        waiting=AT_ONCE,
        confirm=False,
        operation_id="",
        person=Nobody(),
    )
    return told.operation


@pytest.mark.parametrize(
    ("fields", "is_repeat"),
    [
        ({}, True),
        ({"status": "accepted"}, True),
        ({"status": "unknown"}, True),
        ({"status": "failed"}, False),
        ({"status": "planned", "sent": None}, False),
        ({"arguments": {"backup_id": 495}}, False),
        ({"server_id": DB}, False),
        ({"action": "restore_server"}, False),
        ({"sent": ago(minutes=9.9, ticking=594)}, True),
        ({"sent": ago(minutes=10, ticking=600)}, False),
        ({"sent": ago(days=1, ticking=599)}, True),
        ({"sent": ago(minutes=9, ticking=600)}, False),
    ],
)
async def test_what_another_flagged_call_sent_in_the_last_ten_minutes_by_the_clock_nobody_sets_is_not_done_again(
    context: Context, emulator: Emulator, clock: ManualClock, fields: dict[str, Any], is_repeat: bool
) -> None:
    """Both calls may have made their plans before either was sent."""
    plan = await a_delete(context)
    known: dict[str, Any] = {"status": "succeeded", "arguments": {"backup_id": TARGET}, "sent": clock.moment()}
    before = await context.record(operation(**known | fields))
    told = await execute_plan(context, plan, "flag")
    assert (told.operation.id, told.replayed) == ((before if is_repeat else plan).id, is_repeat)
    assert emulator.count("DELETE") == (0 if is_repeat else 1)
    assert (await as_recorded(context, plan)).status == ("planned" if is_repeat else "succeeded")


@pytest.mark.parametrize(
    ("approved_by", "granted", "is_repeat"),
    [("flag", "", True), ("plan", "flag", True), ("plan", "", False), ("person", "plan", False)],
)
async def test_each_plan_that_was_shown_is_a_consent_of_its_own_and_a_flag_is_none(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    approved_by: ApprovedBy,
    granted: ApprovedBy,
    is_repeat: bool,
) -> None:
    plan = await context.record((await a_delete(context)).updated(approved_by=granted))
    await context.record(operation(status="succeeded", arguments={"backup_id": TARGET}, sent=clock.moment()))
    told = await execute_plan(context, plan, approved_by)
    assert (told.replayed, emulator.count("DELETE")) == (is_repeat, 0 if is_repeat else 1)
    assert is_repeat or told.operation.approved_by == approved_by


@pytest.mark.parametrize(
    "others", [{"action": "create_backup"}, {"server_id": DB, "server_name": "db-primary"}, {"status": "failed"}]
)
async def test_a_flagged_call_is_known_again_behind_however_much_else_was_sent(
    context: Context, emulator: Emulator, clock: ManualClock, others: dict[str, Any]
) -> None:
    plan = await a_delete(context)
    known: dict[str, Any] = {"status": "succeeded", "arguments": {"backup_id": TARGET}, "sent": clock.moment()}
    before = await context.record(operation(**known))
    other: dict[str, Any] = {"status": "succeeded", "sent": clock.moment()}
    await record_all(context, [operation(**other | others) for _ in range(100)])
    assert await execute_plan(context, plan, "flag") == Result(before, replayed=True)
    assert emulator.count("DELETE") == 0


async def test_of_several_flagged_calls_the_last_that_was_sent_is_told_whenever_it_was_planned(
    context: Context, clock: ManualClock
) -> None:
    plan = await a_delete(context)
    first, second = (operation(arguments={"backup_id": TARGET}) for _ in range(2))
    sent: dict[str, Any] = {"status": "succeeded", "sent": clock.moment()}
    await record_all(context, [first, second, second.updated(**sent), first.updated(**sent)])
    assert await execute_plan(context, plan, "flag") == Result(first.updated(**sent), replayed=True)


async def refusal_of(context: Context, plan: Operation) -> BackupsError:
    """Why it was refused; the ledger says the same."""
    with pytest.raises(BackupsError) as raised:
        await execute_plan(context, plan, "plan")
    error, refused = raised.value, await as_recorded(context, plan)
    assert refused.status == "refused"
    assert (refused.error_code, refused.error, refused.advice) == (error.code, error.what, error.next_step)
    return error


async def test_a_target_that_is_gone_since_the_plan_is_not_found(context: Context, emulator: Emulator) -> None:
    plan = await a_delete(context)
    del emulator.fleet.backups[TARGET]
    error = await refusal_of(context, plan)
    assert isinstance(error, NotFoundError)
    assert error.what == f"Backup 499 is gone since the plan {plan.id} was made."
    assert error.next_step == NotFoundError.advice


async def test_a_target_that_is_not_as_the_plan_showed_it_is_left_alone(context: Context, emulator: Emulator) -> None:
    plan = await a_delete(context)
    emulator.fleet.backups[TARGET].description = "the only good one"
    error = await refusal_of(context, plan)
    assert isinstance(error, TargetChangedError)
    assert error.what == f"Backup 499 is no longer as the plan {plan.id} showed it."
    assert emulator.count("DELETE") == 0


async def test_a_plan_that_a_rule_now_forbids_is_refused(context: Context, emulator: Emulator) -> None:
    plan = await a_delete(context)
    error = await refusal_of(under(context, protected_backups=frozenset({TARGET})), plan)
    assert (type(error), error.what) == (PolicyDeniedError, "Backup 499 is protected.")
    assert emulator.count("DELETE") == 0


async def test_a_plan_that_the_ledger_now_forbids_is_refused(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    plan = await a_delete(context)
    unknown = await context.record(operation("restore_server", "unknown", sent=clock.moment()))
    error = await refusal_of(context, plan)
    assert error.what.startswith(f"The outcome of {unknown.id} (restore_server) on server 12345 is not known yet")
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize("status", ["succeeded", "accepted", "failed", "declined"])
async def test_a_call_that_finds_its_target_gone_is_told_what_another_call_has_made_of_the_plan(
    context: Context, emulator: Emulator, clock: ManualClock, status: str
) -> None:
    """Two calls with one plan: the one that comes second is not to say that there is no such backup."""
    plan = await a_delete(context)
    done = await context.record(plan.updated(status=status, sent=clock.moment()))
    del emulator.fleet.backups[TARGET]
    assert await execute_plan(context, plan, "plan") == Result(done, replayed=True)
    assert await as_recorded(context, plan) == done


@pytest.mark.parametrize("status", ["succeeded", "accepted", "failed", "declined"])
async def test_a_call_that_finds_its_plan_carried_out_is_told_what_became_of_it_and_sends_nothing(
    context: Context, emulator: Emulator, clock: ManualClock, status: str
) -> None:
    plan = await a_delete(context)
    done = await context.record(plan.updated(status=status, sent=None if status == "declined" else clock.moment()))
    told = await execute_plan(context, plan, "plan")
    # One that was seen to be gone, and is listed: that is seen in passing, and recorded.
    expected = await as_recorded(context, plan) if status == "succeeded" else done
    assert told == Result(expected, replayed=True)
    assert (expected.id, expected.status) == (plan.id, "unknown" if status == "succeeded" else status)
    assert emulator.count("DELETE") == 0


async def test_a_server_on_which_something_is_sent_again_and_again_is_left_alone(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    plan = await a_delete(context)
    other = operation("create_backup", "succeeded", sent=clock.moment())

    def send_something(_: object) -> None:
        write_now(context.ledger, lambda entries: entries.save(other))

    emulator.fail(Fault.edited(send_something), method="GET", times=None)
    before = emulator.count("GET")
    with pytest.raises(BusyError) as busy:
        await execute_plan(context, plan, "plan")
    assert busy.value.what == "Other operations on server 12345 came in between, again and again."
    assert (emulator.count("GET") - before, emulator.count("DELETE")) == (5, 0)
    assert await as_recorded(context, plan) == plan


async def test_where_something_was_sent_meanwhile_it_is_looked_again_and_then_carried_out(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    plan = await a_delete(context)
    other = operation("create_backup", "succeeded", sent=clock.moment())

    def send_something(_: object) -> None:
        write_now(context.ledger, lambda entries: entries.save(other))

    emulator.fail(Fault.edited(send_something), method="GET", times=4)
    assert (await execute_plan(context, plan, "plan")).operation.status == "succeeded"


async def test_every_step_of_what_is_carried_out_is_recorded_with_who_consented(
    context: Context, clock: ManualClock
) -> None:
    plan = await a_delete(context)
    clock.advance(minutes=1)
    told = await execute_plan(context, plan, "plan")
    events = await context.ledger.read(lambda entries: [event.status for event in entries.events(plan.id)])
    assert events == ["approved", "sending", "succeeded"]
    assert (told.operation.approved_by, told.operation.sent, told.operation.created) == (
        "plan",
        clock.clock.moment(timedelta(0)),
        plan.created,
    )


def recent(emulator: Emulator, clock: ManualClock) -> int:
    """A backup of a minute ago, which would take a restore back."""
    emulator.fleet.backups[900] = Backup(900, WEB, clock.now(), size_mb=100)
    return 900


async def restored_before(context: Context, clock: ManualClock, **fields: Any) -> None:
    """A restore of a server that was sent at this moment."""
    known: dict[str, Any] = {"action": "restore_server", "status": "accepted", "sent": clock.moment()}
    await context.record(operation(**known | fields))


async def test_a_restore_without_a_way_back_and_a_delete_know_none(context: Context) -> None:
    restored = (await execute_plan(context, await a_restore(context), "plan")).operation
    assert (restored.of(RestoreDetails).undo_backup_id, operation_answer(Result(restored), context).undo) == (0, None)
    deleted = (await execute_plan(context, await a_delete(context), "plan")).operation
    assert operation_answer(Result(deleted), context).undo is None


async def test_a_restore_is_taken_back_by_the_safety_backup_that_was_made_for_it(
    context: Context, clock: ManualClock
) -> None:
    plan = await a_restore(context, safety_backup=True)
    preparing = (await execute_plan(context, plan, "plan")).operation
    assert (preparing.status, preparing.of(RestoreDetails).undo_backup_id) == ("preparing", 0)
    clock.advance(hours=0.5)
    restored = (await execute_plan(context, preparing, "plan")).operation
    assert (restored.status, restored.of(RestoreDetails).undo_backup_id) == ("accepted", 502)
    assert facts_of(await a_delete(context, 502))["way_back_of"] == restored.id


@pytest.mark.parametrize(
    ("seconds", "later", "told"),
    [
        (0, 0, "2026-11-23T10:30Z"),
        (1, 0, "2026-11-23T10:31Z"),
        (59, 0, "2026-11-23T10:31Z"),
        (0, 59, "2026-11-23T10:30Z"),
        (0, 60, ""),
        (0, 120, ""),
    ],
)
async def test_an_answer_tells_before_when_a_restore_cannot_be_taken_back_never_a_minute_too_soon(
    context: Context, emulator: Emulator, clock: ManualClock, seconds: float, later: float, told: str
) -> None:
    """The last restore can be taken back at once; what takes back another counts in the budget itself."""
    clock.advance(seconds=seconds)
    await context.record(operation("restore_server", "accepted", undo_backup_id=TARGET, sent=clock.moment()))
    clock.advance(seconds=0.5)
    way_back = recent(emulator, clock)
    restored = await execute_plan(context, await a_restore(context), "plan")
    clock.advance(minutes=later)
    answer = operation_answer(await settle(context, restored.operation), context)
    assert answer.undo == f"restore_server(server_id=12345, backup_id={way_back})"
    assert answer.facts["safety_backup"] == way_back
    assert answer.facts.get("undo_not_before", "") == told


async def test_a_restore_that_may_be_running_can_be_taken_back_like_one_that_is(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    way_back = recent(emulator, clock)
    plan = await a_restore(context)
    emulator.fail(Fault.reset_after(), method="POST")
    with pytest.raises(BackupsError, match="outcome_unknown") as unknown:
        await execute_plan(context, plan, "plan")
    assert isinstance(unknown.value.__cause__, UnavailableError)
    answer = operation_answer(Result(await as_recorded(context, plan)), context)
    assert answer.undo == f"restore_server(server_id=12345, backup_id={way_back})"
    assert "outside the budget" in str(answer.facts["undo_terms"])


async def test_a_plan_for_a_server_that_may_not_be_changed_is_refused_before_anything_is_read(
    context: Context, emulator: Emulator
) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        await a_restore(under(context, servers=frozenset({DB})))
    assert refusal.value.what == "Server 12345 is not among those that may be changed here."
    assert emulator.requests == []


async def test_a_plan_that_a_rule_forbids_is_on_record_with_the_reason(context: Context) -> None:
    with pytest.raises(PolicyDeniedError) as refusal:
        await a_delete(under(context, protected_backups=frozenset({TARGET})))
    (refused,) = recorded(context.settings.state_dir)
    assert (refused.status, refused.backup_id) == ("refused", TARGET)
    assert (refused.error_code, refused.error) == ("policy_denied", refusal.value.what)
    assert refused.advice == refusal.value.next_step


async def test_while_a_plan_is_carried_out_the_process_is_known_to_be_at_it(
    context: Context, emulator: Emulator
) -> None:
    """Else another call would take it for left behind, and judge it while it is only being sent."""
    plan = await a_restore(context)
    at_it: list[bool] = []
    emulator.fail(Fault.edited(lambda _: at_it.append(context.liveness.is_here(plan.id))), method="POST")
    await execute_plan(context, plan, "plan")
    assert at_it == [True]


async def test_a_restore_is_not_sent_once_the_way_back_that_its_plan_showed_is_gone(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    made = recent(emulator, clock)
    plan = await a_restore(context)
    assert facts_of(plan)["can_be_undone"] is True
    emulator.fleet.delete_backup(made)
    with pytest.raises(TargetChangedError) as refusal:
        await execute_plan(context, plan, "plan")
    assert refusal.value.what == f"The way back that the plan {plan.id} showed is no longer recent, or gone."
    assert ((await as_recorded(context, plan)).status, emulator.count("POST")) == ("refused", 0)
