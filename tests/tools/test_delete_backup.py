"""delete_backup: planned first, consented to, looked at again, and then done once."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.fleet import Backup
from tests.stage import AgentWith, Answer, Era, MakeSettings, ManualClock, Session, recorded, session, until

from .conftest import AgentOn
from .refusals import assert_refused

pytestmark = pytest.mark.anyio

Add = Callable[..., int]


def assert_nothing_was_deleted(emulator: Emulator, backups: int = 81) -> None:
    assert emulator.count("DELETE") == 0
    assert len(emulator.fleet.backups) == backups


async def plan(agent: Session, backup_id: int) -> str:
    """The id of a plan to delete a backup."""
    answer = await agent.call("delete_backup", backup_id=backup_id)
    assert not answer.is_error, answer.text
    assert answer.status == "needs_confirmation"
    return answer.operation


async def confirm(agent: Session, backup_id: int, operation_id: str) -> Answer:
    return await agent.call("delete_backup", backup_id=backup_id, confirm=True, operation_id=operation_id)


async def delete(agent: Session, backup_id: int) -> Answer:
    return await confirm(agent, backup_id, await plan(agent, backup_id))


# Plan and consent


@pytest.mark.parametrize("arguments", [{}, {"confirm": False}, {"confirm": True}, {"confirm": None}], ids=str)
async def test_the_first_call_changes_nothing_and_shows_a_plan(
    agent: Session, emulator: Emulator, arguments: dict[str, Any]
) -> None:
    """F69: confirm=true counts only for a plan that the caller was shown."""
    answer = await agent.call("delete_backup", backup_id=501, **arguments)
    assert (answer.status, answer.data["changed"]) == ("needs_confirmation", "nothing")
    assert (answer.data["action"], answer.approved_by, answer.undo) == ("delete_backup", "", "")
    assert answer.data["server"] == {"id": 12345, "name": "web-server-01"}
    assert (answer.data["backup"]["id"], answer.data["backup"]["age"]) == (501, "5 h")
    assert answer.data["facts"] == {
        "can_be_undone": False,
        "proven_backups_left": 17,
        "newest_proven_left": 495,
        "newest_proven_left_created_at": "2026-11-22T04:30Z",
        "budget": "after this, 9 more deletes may be sent now",
    }
    call = f"delete_backup(backup_id=501, confirm=true, operation_id='{answer.operation}')"
    assert call in answer.data["next_step"]
    assert "Nothing was changed." in answer.data["summary"]
    assert_nothing_was_deleted(emulator)


async def test_a_confirmed_plan_is_carried_out_and_seen_to_be(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent, 501)
    answer = await confirm(agent, 501, operation)
    assert (answer.status, answer.data["changed"], answer.replayed) == ("succeeded", "done", False)
    assert (answer.operation, answer.approved_by, answer.undo) == (operation, "plan", "")
    assert answer.data["facts"]["evidence"] == "absent from the complete list"
    assert 501 not in emulator.fleet.backups
    assert len(emulator.fleet.backups) == 80
    assert emulator.count("DELETE") == emulator.count("DELETE", "/backups/501/") == 1


async def test_the_same_confirmed_call_again_returns_the_outcome_and_sends_nothing(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    """F72."""
    async with agent_with() as agent:
        operation = await plan(agent, 501)
        first = await confirm(agent, 501, operation)
        second = await confirm(agent, 501, operation)
    clock.advance(hours=20)
    async with agent_with() as agent:
        third = await confirm(agent, 501, operation)
    for again in (second, third):
        assert (again.replayed, again.operation) == (True, operation)
        assert (again.status, again.data["changed"]) == (first.status, "done")
    assert emulator.count("DELETE") == 1


async def test_a_plan_named_without_confirm_is_shown_again(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent, 501)
    again = await agent.call("delete_backup", backup_id=501, operation_id=operation)
    assert (again.operation, again.status) == (operation, "needs_confirmation")
    assert_nothing_was_deleted(emulator)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("delete_backup", {"backup_id": 499}),
        ("restore_server", {"server_id": 12345, "backup_id": 501}),
    ],
)
async def test_a_plan_counts_for_no_other_tool_and_no_other_arguments(
    agent: Session, emulator: Emulator, tool: str, arguments: dict[str, Any]
) -> None:
    """F70. The plan itself still holds."""
    operation = await plan(agent, 501)
    before = len(emulator.requests)
    answer = await agent.call(tool, **arguments, confirm=True, operation_id=operation)
    assert_refused_confirmation(answer, "confirmation_invalid")
    assert len(emulator.requests) == before
    assert_nothing_was_deleted(emulator)
    assert (await confirm(agent, 501, operation)).status == "succeeded"


def assert_refused_confirmation(answer: Answer, code: str) -> None:
    assert answer.code == code
    assert "Nothing was changed. Call again without operation_id" in answer.text


async def test_the_operation_of_a_backup_made_confirms_nothing(agent: Session, emulator: Emulator) -> None:
    made = await agent.call("create_backup", server_id=12345)
    assert_refused_confirmation(await confirm(agent, 501, made.operation), "confirmation_invalid")
    assert_nothing_was_deleted(emulator, 82)


@pytest.mark.parametrize("operation", ["op_aaaaaaaaaaaaaaaa", "501", "op_", "' OR 1=1 --", "x" * 40])
async def test_an_operation_that_does_not_exist_confirms_nothing(
    agent: Session, emulator: Emulator, operation: str
) -> None:
    answer = await confirm(agent, 501, operation)
    assert_refused_confirmation(answer, "confirmation_invalid")
    assert operation not in answer.text.partition("Call again")[0]
    assert emulator.requests == []


def ten_minutes_pass(clock: ManualClock) -> None:
    clock.advance(minutes=10)


def clock_is_set_back_a_day(clock: ManualClock) -> None:
    clock.step(days=-1)


def clock_is_set_back_a_minute(clock: ManualClock) -> None:
    clock.step(minutes=-1)


def clock_is_set_forward(clock: ManualClock) -> None:
    clock.step(minutes=11)


def time_passes_and_the_clock_is_set_back(clock: ManualClock) -> None:
    clock.advance(minutes=11)
    clock.step(minutes=-11)


@pytest.mark.parametrize(
    "happens",
    [
        ten_minutes_pass,
        clock_is_set_back_a_day,
        clock_is_set_back_a_minute,
        clock_is_set_forward,
        time_passes_and_the_clock_is_set_back,
    ],
)
async def test_a_plan_lives_10_minutes_and_no_clock_step_prolongs_it(
    agent: Session, emulator: Emulator, clock: ManualClock, state_dir: Path, happens: Callable[[ManualClock], None]
) -> None:
    """F71."""
    operation = await plan(agent, 501)
    happens(clock)
    for _ in range(2):
        assert_refused_confirmation(await confirm(agent, 501, operation), "confirmation_expired")
        assert [each.status for each in recorded(state_dir)] == ["expired"]
    assert (await agent.call("get_operation", operation_id=operation)).status == "expired"
    assert_nothing_was_deleted(emulator)


async def test_a_plan_is_good_until_its_last_second_and_through_a_restart(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    async with agent_with() as agent:
        operation = await plan(agent, 501)
    clock.advance(minutes=9, seconds=59)
    async with agent_with() as agent:
        assert (await confirm(agent, 501, operation)).status == "succeeded"
    assert emulator.count("DELETE") == 1


@pytest.mark.parametrize(
    "change",
    [{"status": "in_progress"}, {"description": "Other"}, {"size_mb": 1}, {"size_mb": None}, {"server_id": 12346}],
    ids=str,
)
async def test_a_target_that_changed_since_the_plan_is_left_alone(
    agent: Session, emulator: Emulator, change: dict[str, Any]
) -> None:
    """F75."""
    operation = await plan(agent, 501)
    for name, value in change.items():
        setattr(emulator.fleet.backups[501], name, value)
    answer = await confirm(agent, 501, operation)
    assert_refused(answer, "target_changed")
    assert_nothing_was_deleted(emulator)
    again = await confirm(agent, 501, operation)
    assert (again.status, again.data["changed"]) == ("refused", "nothing")
    assert_nothing_was_deleted(emulator)


async def test_a_server_renamed_since_the_plan_is_a_change(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent, 501)
    emulator.fleet.servers[12345].name = "another"
    assert_refused(await confirm(agent, 501, operation), "target_changed")
    assert_nothing_was_deleted(emulator)


async def test_a_target_that_is_gone_since_the_plan_is_not_found(agent: Session, emulator: Emulator) -> None:
    operation = await plan(agent, 501)
    emulator.fleet.delete_backup(501)
    assert_refused(await confirm(agent, 501, operation), "not_found")
    assert_nothing_was_deleted(emulator, 80)


async def test_a_backup_that_does_not_exist_is_not_found(agent: Session, emulator: Emulator) -> None:
    assert_refused(await agent.call("delete_backup", backup_id=999), "not_found")
    assert_nothing_was_deleted(emulator)


@pytest.mark.parametrize("real", ["one server", "two servers"])
async def test_of_64_confirmations_at_once_one_is_carried_out(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings, real: str
) -> None:
    """F73. They wait for each other in real time."""

    time = replace(clock.clock, sleep=anyio.sleep)
    settings, answers = make_settings(), list[Answer]()
    async with session(emulator, settings, time, era) as one, session(emulator, settings, time, era) as other:
        operation = await plan(one, 501)

        async def ask(agent: Session) -> None:
            answers.append(await confirm(agent, 501, operation))

        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(ask, other if real == "two servers" and number % 2 else one)
    assert emulator.count("DELETE") == 1
    assert len(emulator.fleet.backups) == 80
    assert {answer.status for answer in answers} == {"succeeded"}
    assert [answer.replayed for answer in answers].count(False) == 1


# Who consents


async def test_where_the_flag_consents_confirm_alone_deletes_once(
    trusted: Session, emulator: Emulator, clock: ManualClock
) -> None:
    first = await trusted.call("delete_backup", backup_id=501, confirm=True)
    clock.advance(minutes=9)
    again = await trusted.call("delete_backup", backup_id=501, confirm=True)
    assert (first.status, first.approved_by, first.replayed) == ("succeeded", "flag", False)
    assert (again.status, again.operation, again.replayed) == ("succeeded", first.operation, True)
    assert emulator.count("DELETE") == 1
    clock.advance(minutes=2)
    assert (await trusted.call("delete_backup", backup_id=501, confirm=True)).code == "not_found"


async def test_where_the_flag_consents_a_call_without_it_is_still_a_plan(trusted: Session, emulator: Emulator) -> None:
    operation = await plan(trusted, 501)
    assert_nothing_was_deleted(emulator)
    assert (await confirm(trusted, 501, operation)).status == "succeeded"


async def test_where_a_plan_consents_confirm_alone_does_not(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with(approval="plan") as agent:
        answer = await agent.call("delete_backup", backup_id=501, confirm=True)
        assert answer.status == "needs_confirmation"
        assert_nothing_was_deleted(emulator)
        assert (await confirm(agent, 501, answer.operation)).status == "succeeded"


async def test_where_only_a_person_consents_a_client_that_cannot_ask_waits_for_an_approver(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with(approval="human") as agent:
        operation = await plan(agent, 501)
        assert (await confirm(agent, 501, operation)).status == "needs_approval"
        again = await agent.call("delete_backup", backup_id=501, confirm=True)
        assert (again.status, again.operation) == ("needs_approval", operation)
    assert_nothing_was_deleted(emulator)


# What must stay


async def test_the_last_good_backup_stays(agent: Session, emulator: Emulator) -> None:
    """F81."""
    answer = await agent.call("delete_backup", backup_id=447)
    assert_refused(answer, "policy_denied")
    assert "12362" in answer.text
    assert_nothing_was_deleted(emulator)


NO_GOOD: list[dict[str, Any]] = [
    {"status": "failed"},
    {"status": "in_progress"},
    {"status": "archived"},
    {"size_mb": None},
    {"size_mb": 0},
    {"expires_at": timedelta(hours=23, minutes=59)},
    {"expires_at": timedelta(hours=-1)},
    {"server_id": 12345},
]


@pytest.mark.parametrize("fields", NO_GOOD, ids=str)
async def test_a_backup_that_cannot_be_relied_on_does_not_count(
    agent: Session, emulator: Emulator, add: Add, clock: ManualClock, fields: dict[str, Any]
) -> None:
    if "expires_at" in fields:
        fields = {"expires_at": clock.now() + fields["expires_at"]}
    junk = add(**{"server_id": 12362} | fields)
    assert_refused(await agent.call("delete_backup", backup_id=447), "policy_denied")
    assert_nothing_was_deleted(emulator, 82)
    if "server_id" not in fields:
        assert (await delete(agent, junk)).status == "succeeded"


@pytest.mark.parametrize("fields", [{}, {"expires_at": timedelta(hours=24, minutes=1)}, {"hours": 0.1}], ids=str)
async def test_one_that_can_be_relied_on_counts(
    agent: Session, emulator: Emulator, add: Add, clock: ManualClock, fields: dict[str, Any]
) -> None:
    if "expires_at" in fields:
        fields = {"expires_at": clock.now() + fields["expires_at"]}
    add(12362, **fields)
    assert (await delete(agent, 447)).status == "succeeded"
    assert emulator.count("DELETE") == 1


async def test_a_backup_made_here_does_not_count_until_it_is_a_day_old(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    await agent.call("create_backup", server_id=12362, wait_seconds=45)
    assert_refused(await agent.call("delete_backup", backup_id=447), "policy_denied")
    clock.advance(hours=23)
    assert_refused(await agent.call("delete_backup", backup_id=447), "policy_denied")
    clock.step(days=7)
    assert_refused(await agent.call("delete_backup", backup_id=447), "policy_denied")
    clock.step(days=-7)
    clock.advance(hours=2)
    assert (await delete(agent, 447)).status == "succeeded"
    assert emulator.count("DELETE") == 1


@pytest.mark.parametrize(("keep_min", "deleted"), [(0, 3), (1, 2), (2, 1), (3, 0)])
async def test_a_delete_never_leaves_fewer_good_backups_than_must_stay(
    agent_with: AgentWith, emulator: Emulator, add: Add, keep_min: int, deleted: int
) -> None:
    backups = [add(12360) for _ in range(3)]
    async with agent_with(keep_min=keep_min) as agent:
        outcomes = [await agent.call("delete_backup", backup_id=number, confirm=True) for number in backups]
        assert [each.is_error for each in outcomes] == [keep_min > 2] * 3
        for each in outcomes:
            if not each.is_error:
                await confirm(agent, each.data["backup"]["id"], each.operation)
    assert emulator.count("DELETE") == deleted
    assert len(list(emulator.fleet.backups_of(12360))) == 3 - deleted


@pytest.mark.parametrize("description", ["[keep]", "Year end [keep]", "[keep] for the audit"])
async def test_a_backup_marked_to_be_kept_stays(agent: Session, emulator: Emulator, description: str) -> None:
    emulator.fleet.backups[501].description = description
    assert_refused(await agent.call("delete_backup", backup_id=501), "policy_denied")
    assert_nothing_was_deleted(emulator)


async def test_the_mark_is_honoured_beyond_the_part_of_a_description_that_is_shown(
    agent: Session, emulator: Emulator
) -> None:
    emulator.fleet.backups[501].description = "x" * 300 + "[keep]"
    assert_refused(await agent.call("delete_backup", backup_id=501), "policy_denied")
    assert_nothing_was_deleted(emulator)


RULES: list[tuple[dict[str, Any], str]] = [
    ({"protected_backups": {501}}, "policy_denied"),
    ({"protected_servers": {12345}}, "policy_denied"),
    ({"servers": {12346}}, "policy_denied"),
    ({"read_only": True}, "read_only"),
    ({"deletes_per_hour": 0}, "budget_exhausted"),
    ({"deletes_per_day": 0}, "budget_exhausted"),
    ({"keep_min": 18}, "policy_denied"),
]


@pytest.mark.parametrize("approval", ["auto", "plan", "flag"])
@pytest.mark.parametrize(("rule", "code"), RULES, ids=str)
async def test_the_operators_rules_hold_whatever_the_consent(
    agent_with: AgentWith, emulator: Emulator, rule: dict[str, Any], code: str, approval: str
) -> None:
    async with agent_with(**rule, approval=approval) as agent:
        assert_refused(await agent.call("delete_backup", backup_id=501), code)
        assert_refused(await agent.call("delete_backup", backup_id=501, confirm=True), code)
    assert_nothing_was_deleted(emulator)


@pytest.mark.parametrize(("rule", "code"), RULES, ids=str)
async def test_the_operators_rules_hold_for_a_plan_made_before_they_did(
    agent_with: AgentWith, emulator: Emulator, rule: dict[str, Any], code: str
) -> None:
    async with agent_with() as agent:
        operation = await plan(agent, 501)
    async with agent_with(**rule) as agent:
        expected = "read_only" if "read_only" in rule else "confirmation_expired"
        assert (await confirm(agent, 501, operation)).code == expected
        assert_refused(await agent.call("delete_backup", backup_id=501), code)
    assert_nothing_was_deleted(emulator)


@pytest.mark.parametrize("skip", [0, 1])
async def test_an_incomplete_list_proves_nothing(agent: Session, emulator: Emulator, skip: int) -> None:
    """F46, when planning and when carrying out: the row is of the same server."""

    def spoil(content: Any) -> None:
        row = next(row for row in content["results"] if row["id"] == 495)
        row["id"] = True

    emulator.fail(Fault.edited(spoil), method="GET", skip=skip, times=None)
    answer = await agent.call("delete_backup", backup_id=501)
    if skip:
        answer = await confirm(agent, 501, answer.operation)
    assert_refused(answer, "policy_denied")
    assert "incomplete" in answer.text
    assert_nothing_was_deleted(emulator)


# Budgets


async def test_one_delete_more_than_an_hours_budget_is_refused_however_the_clock_is_set(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    """F83."""
    async with agent_with(deletes_per_hour=2) as agent:
        for number in (501, 499):
            assert (await delete(agent, number)).status == "succeeded"
        answer = await agent.call("delete_backup", backup_id=495)
        assert_refused(answer, "budget_exhausted")
        assert "in 1 h, at 2026-11-23T10:30Z" in answer.text
    async with agent_with(deletes_per_hour=2) as agent:
        for days in (0, 1, -2):
            clock.step(days=days)
            assert_refused(await agent.call("delete_backup", backup_id=495), "budget_exhausted")
        clock.step(days=1)
        clock.advance(minutes=59)
        assert_refused(await agent.call("delete_backup", backup_id=495), "budget_exhausted")
        clock.advance(minutes=1)
        assert (await delete(agent, 495)).status == "succeeded"
    assert emulator.count("DELETE") == 3


async def test_a_refusal_by_a_budget_that_is_told_later_says_when_and_not_in_how_long(
    agent_with: AgentWith, clock: ManualClock
) -> None:
    async with agent_with(deletes_per_hour=1) as agent:
        plans = [await agent.call("delete_backup", backup_id=number) for number in (501, 499)]
        assert (await confirm(agent, 501, plans[0].operation)).status == "succeeded"
        assert "in 1 h, at 2026-11-23T10:30Z" in (await confirm(agent, 499, plans[1].operation)).text
        clock.advance(minutes=55)
        told = (await agent.call("get_operation", operation_id=plans[1].operation)).text
        assert ("The next is possible at 2026-11-23T10:30Z; tell the user." in told, "in 1 h" in told) == (True, False)


async def test_one_delete_more_than_a_days_budget_is_refused(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock
) -> None:
    async with agent_with(deletes_per_day=2) as agent:
        for number in (501, 499):
            assert (await delete(agent, number)).status == "succeeded"
            clock.advance(hours=6)
        answer = await agent.call("delete_backup", backup_id=495)
        assert_refused(answer, "budget_exhausted")
        assert "12 h" in answer.text
        clock.advance(hours=12)
        assert (await delete(agent, 495)).status == "succeeded"
    assert emulator.count("DELETE") == 3


async def test_a_budget_holds_after_the_machine_was_started_again(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings
) -> None:
    settings = make_settings(deletes_per_hour=1)
    async with session(emulator, settings, clock, era) as agent:
        await delete(agent, 501)
    rebooted = clock.restart()
    rebooted.step(minutes=-30)
    async with session(emulator, settings, rebooted, era) as agent:
        assert_refused(await agent.call("delete_backup", backup_id=499), "budget_exhausted")
    assert emulator.count("DELETE") == 1


async def test_plans_made_within_the_budget_do_not_exceed_it_when_confirmed(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with(deletes_per_hour=1) as agent:
        plans = {number: await plan(agent, number) for number in (501, 499, 495)}
        answers = [await confirm(agent, number, operation) for number, operation in plans.items()]
    assert [answer.code for answer in answers] == ["", "budget_exhausted", "budget_exhausted"]
    assert emulator.count("DELETE") == 1


async def test_plans_confirmed_at_once_do_not_leave_too_few_good_backups(
    agent_with: AgentWith, emulator: Emulator, add: Add
) -> None:
    """Each is looked at before the other is sent, so only the ledger can tell them apart."""
    backups = [add(12360) for _ in range(4)]
    async with agent_with() as one, agent_with() as other:
        plans = {number: await plan(one, number) for number in backups}
        async with anyio.create_task_group() as group:
            for index, (number, operation) in enumerate(plans.items()):
                group.start_soon(confirm, (one, other)[index % 2], number, operation)
    assert len(list(emulator.fleet.backups_of(12360))) >= 1


async def test_what_failed_or_was_refused_costs_no_budget(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with(deletes_per_hour=1) as agent:
        emulator.fail(Fault.status(403, {"detail": "no"}), method="DELETE")
        assert (await delete(agent, 501)).code == "forbidden"
        assert_refused(await agent.call("delete_backup", backup_id=447), "policy_denied")
        assert (await delete(agent, 501)).status == "succeeded"
        assert_refused(await agent.call("delete_backup", backup_id=499), "budget_exhausted")


async def test_a_list_read_before_another_delete_was_sent_proves_nothing(clock: ManualClock, agent_on: AgentOn) -> None:
    """Two right deletes must not take the last good backups together."""
    released, stored = asyncio.Event(), {}
    async with Emulator(now=clock.now, sleep=lambda _: released.wait()) as emulator, agent_on(emulator) as agent:
        for number in (1, 2):
            stored[number] = Backup(number, 12360, clock.now() - timedelta(days=2), size_mb=100)
        emulator.fleet.backups |= stored
        plans = {number: await plan(agent, number) for number in stored}
        emulator.fail(Fault.drip(0), method="GET")
        answers: list[Answer] = []

        async def confirm_the_first() -> None:
            answers.append(await confirm(agent, 1, plans[1]))

        async with anyio.create_task_group() as group:
            group.start_soon(confirm_the_first)
            await until(lambda: any(request.rule for request in emulator.requests))
            assert (await confirm(agent, 2, plans[2])).status == "succeeded"
            released.set()
        assert_refused(answers[0], "policy_denied")
        assert [backup.id for backup in emulator.fleet.backups_of(12360)] == [1]
        assert emulator.count("DELETE") == 1


async def test_a_backup_that_belongs_to_no_server_is_never_deleted_or_restored(
    trusted: Session, emulator: Emulator
) -> None:
    emulator.fail(Fault.rows({"server": None}, backup_id=499), method="GET", path="^/backups/$", times=None)
    answer = await trusted.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.code, emulator.count("DELETE"), 499 in emulator.fleet.backups) == ("policy_denied", 0, True)
    assert "Backup 499 belongs to no server any more" in answer.text
    answer = await trusted.call("restore_server", server_id=12345, backup_id=499, confirm=True)
    assert (answer.code, emulator.count("POST")) == ("policy_denied", 0)
    assert "Backup 499 is of no server any more, not of server 12345." in answer.text
