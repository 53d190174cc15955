"""prune_backups: planned by keep rules, consented to once, then one delete after another, each under every guard."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import ElicitRequestParams, ElicitResult

from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import Entries
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.fleet import Backup
from tests.stage import NOW, AgentWith, Answer, Era, MakeSettings, ManualClock, Session, recorded, session, until

from .refusals import assert_refused

pytestmark = pytest.mark.anyio

STAGING = 12360
"""A server without any backup of its own."""

RULES = {"server_id": STAGING, "keep_daily": 7, "keep_weekly": 6, "keep_monthly": 3}
KEEP_TWO = {"server_id": STAGING, "keep_last": 2}
ROOM = {"deletes_per_hour": 1000, "deletes_per_day": 1000}
BUSY_SECONDS = 6

Put = Callable[..., list[int]]


@pytest.fixture
def gate() -> asyncio.Event:
    """What a request that is delayed waits for."""
    return asyncio.Event()


@pytest.fixture
async def emulator(clock: ManualClock, gate: asyncio.Event) -> AsyncIterator[Emulator]:
    async with Emulator(now=clock.now, sleep=lambda _: gate.wait()) as served:
        yield served


@pytest.fixture
def put(emulator: Emulator, clock: ManualClock) -> Put:
    """`put(5)`: so many manual backups of staging-01, a day apart; their ids, 1000 the newest."""

    def nightly(many: int, **fields: Any) -> list[int]:
        for number in range(many):
            made = clock.now() - timedelta(hours=30 + 24 * number)
            known: dict[str, Any] = {"backup_type": "manual", "size_mb": 100, "description": "Nightly"}
            emulator.fleet.backups[1000 + number] = Backup(1000 + number, STAGING, made, **known | fields)
        return [1000 + number for number in range(many)]

    return nightly


def held(emulator: Emulator) -> list[int]:
    """The backups that staging-01 has now, the newest first."""
    return sorted(backup.id for backup in emulator.fleet.backups_of(STAGING))


def rows(answer: Answer, name: str) -> list[int]:
    return [row["id"] for row in answer.data[name]]


def outcomes(answer: Answer) -> dict[int, str]:
    return {row["id"]: row["outcome"] for row in answer.data["to_delete"] if "outcome" in row}


async def plan(agent: Session, **arguments: Any) -> str:
    answer = await agent.call("prune_backups", **arguments or KEEP_TWO)
    assert not answer.is_error, answer.text
    assert answer.status == "needs_confirmation"
    return answer.operation


async def confirm(agent: Session, operation_id: str, **arguments: Any) -> Answer:
    return await agent.call("prune_backups", **arguments or KEEP_TWO, confirm=True, operation_id=operation_id)


async def pruned(agent: Session, **arguments: Any) -> Answer:
    return await confirm(agent, await plan(agent, **arguments), **arguments)


# The plan


async def test_a_plan_tells_of_each_backup_and_changes_nothing(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(60)
    async with agent_with(**ROOM) as agent:
        answer = await agent.call("prune_backups", **RULES)
    assert (answer.status, answer.data["changed"], answer.undo) == ("needs_confirmation", "nothing", "")
    goes = rows(answer, "to_delete")
    assert answer.data["summary"] == (
        f"{len(goes)} of 60 manual backups of server 12360 would be deleted for good. Nothing was changed."
    )
    facts = answer.data["facts"]
    assert (facts["manual_backups"], facts["to_keep"], facts["to_delete"]) == (60, 14, len(goes))
    assert facts["left_for_later"] == 46 - len(goes)
    assert facts["size_to_delete"] == f"{len(goes) * 100 / 1024:.1f} GB"
    assert goes == sorted(goes)
    assert goes[-1] == 1059
    backup = {"age": "1 d 6 h", "size_mb": 100, "status": "completed", "description": "Nightly"}
    assert answer.data["kept"][0] == backup | {
        "id": 1000,
        "created_at": "2026-11-22T03:30Z",
        "reason": "keep-daily 2026-11-22, keep-weekly 2026-W47, keep-monthly 2026-11",
    }
    assert all(set(row) == {"id", "created_at", *backup} for row in answer.data["to_delete"])
    call = (
        "prune_backups(server_id=12360, keep_last=0, keep_daily=7, keep_weekly=6, keep_monthly=3, older_than_days=0, "
        f"confirm=true, operation_id='{answer.operation}')"
    )
    assert call in answer.data["next_step"]
    assert {request.method for request in emulator.requests} == {"GET"}


async def test_two_prunes_bring_a_server_from_60_backups_to_14(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    """Each deletes as many as its plan can show."""
    put(60)
    async with agent_with(**ROOM) as agent:
        planned = await agent.call("prune_backups", **RULES)
        first = await confirm(agent, planned.operation, **RULES)
        again = await agent.call("prune_backups", **RULES)
        answer = await confirm(agent, again.operation, **RULES)
    assert "as soon as this prune has ended" in first.data["next_step"]
    assert (answer.status, answer.data["changed"], answer.approved_by) == ("succeeded", "done", "plan")
    assert answer.data["facts"]["evidence"] == "each is absent from the complete list"
    assert set(outcomes(answer).values()) == {"deleted"}
    assert set(rows(again, "kept")) <= set(held(emulator))
    assert len(held(emulator)) == 14
    assert emulator.count("DELETE") == 46
    assert len(emulator.fleet.backups) == 81 + 14
    for told in (planned, first, again, answer):
        assert len(told.text) + len(json.dumps(told.data)) < 8_000
    many = again.data["facts"]["to_delete"]
    assert [told[0] for told in answer.progress] == list(range(1, many + 1))


async def test_the_text_tells_the_same_as_the_structure(agent_with: AgentWith, put: Put) -> None:
    put(4)
    async with agent_with() as agent:
        planned = await agent.call("prune_backups", **KEEP_TWO)
        answer = await confirm(agent, planned.operation)
    kept = "  1000|2026-11-22T03:30Z|1 d 6 h|100|completed|Nightly|keep-last 2\n"
    goes = [
        "  1002|2026-11-20T03:30Z|3 d 6 h|100|completed|Nightly",
        "  1003|2026-11-19T03:30Z|4 d 6 h|100|completed|Nightly",
    ]
    columns = "id|created_at|age|size_mb|status|description"
    assert f"\nkept, newest first:\n  {columns}|reason\n{kept}" in planned.text
    assert f"\nto_delete, newest first:\n  {columns}\n{goes[0]}\n{goes[1]}\n" in planned.text
    assert f"\n  {columns}|outcome\n{goes[0]}|deleted\n{goes[1]}|deleted\n" in answer.text


async def test_of_many_backups_as_many_are_shown_as_fit_and_the_rest_is_counted(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(95)
    rules = {"server_id": STAGING, "keep_last": 60}
    async with agent_with(**ROOM) as agent:
        planned = await agent.call("prune_backups", **rules)
        emulator.fail(Fault.reset_after(apply=False), method="DELETE", skip=20, times=3)
        stopped = await confirm(agent, planned.operation, **rules)
    goes = rows(planned, "to_delete")
    facts = planned.data["facts"]
    assert (facts["to_keep"], facts["to_delete"]) == (60, len(goes))
    assert goes == list(range(1095 - len(goes), 1095))
    for name, many in (("kept", 60), ("later", 35 - len(goes))):
        shown = len(rows(planned, name))
        assert facts[f"{name}_not_shown"] == f"{many - shown} backups, all older; list_backups shows them"
    for told in (planned, stopped):
        assert len(told.text) + len(json.dumps(told.data)) < 8_000
    assert len(held(emulator)) == 75
    assert rows(stopped, "to_delete")[0] == 1074
    assert "stopped at backup 1074." in stopped.data["summary"]
    assert "the 20 oldest of the plan, the last being backup 1075 of " in stopped.data["summary"]


async def test_automatic_backups_and_other_servers_are_left_alone(
    agent_with: AgentWith, emulator: Emulator, put: Put, add: Callable[..., int]
) -> None:
    put(3)
    automatic, other = add(STAGING, hours=900), add(12384, hours=900, backup_type="manual")
    async with agent_with() as agent:
        answer = await pruned(agent, server_id=STAGING, keep_last=1)
    assert outcomes(answer) == {1001: "deleted", 1002: "deleted"}
    assert {automatic, other, 1000} <= set(emulator.fleet.backups)
    assert len(emulator.fleet.backups) == 81 + 3


NO_RULE: list[dict[str, Any]] = [{}, {"keep_last": 0, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}]


@pytest.mark.parametrize("rules", [*NO_RULE, {"keep_last": -1}, {"keep_last": True}, {"keep_daily": 1001}], ids=str)
async def test_without_a_rule_above_0_nothing_is_even_read(
    agent: Session, emulator: Emulator, rules: dict[str, Any]
) -> None:
    assert (await agent.call("prune_backups", server_id=STAGING, **rules)).code == "invalid_argument"
    assert (await agent.call("prune_backups", server_id=STAGING, **rules, confirm=True)).code == "invalid_argument"
    assert emulator.requests == []


async def test_where_there_is_nothing_to_delete_nothing_is_to_be_approved(
    trusted: Session, emulator: Emulator, put: Put
) -> None:
    put(2)
    for _ in range(2):
        answer = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
        assert (answer.status, answer.data["changed"], answer.replayed) == ("succeeded", "nothing", False)
        assert answer.data["summary"].startswith("0 of 2 manual backups of server 12360 are deleted.")
    put(3)
    pruned = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
    assert outcomes(pruned) == {1002: "deleted"}
    assert pruned.data["summary"] == "1 of 3 manual backups of server 12360 is deleted."
    assert emulator.count("DELETE") == 1


async def test_what_the_operators_rules_protect_is_kept_and_the_reason_told(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(7)
    emulator.fleet.backups[1003].description = "Year end [keep]"
    emulator.fleet.backups[1004].status = "in_progress"
    async with agent_with(protected_backups={1005}) as agent:
        planned = await agent.call("prune_backups", **KEEP_TWO)
        answer = await confirm(agent, planned.operation)
    reasons = {row["id"]: row["reason"] for row in planned.data["kept"]}
    assert reasons[1003] == "Backup 1003 is marked to be kept."
    assert {row["id"]: row["reason"] for row in planned.data["left_alone"]} == {1004: "in progress"}
    assert reasons[1005] == "Backup 1005 is protected."
    assert outcomes(answer) == {1002: "deleted", 1006: "deleted"}
    assert held(emulator) == [1000, 1001, 1003, 1004, 1005]


async def test_as_many_good_backups_stay_as_must(agent_with: AgentWith, emulator: Emulator, put: Put) -> None:
    put(6)
    async with agent_with(keep_min=4) as agent:
        planned = await agent.call("prune_backups", **KEEP_TWO)
        answer = await confirm(agent, planned.operation)
    kept = {row["id"]: row["reason"] for row in planned.data["kept"]}
    assert kept[1003] == ("Deleting backup 1003 would leave server 12360 with 3 proven backups; at least 4 must stay.")
    assert outcomes(answer) == {1004: "deleted", 1005: "deleted"}
    assert held(emulator) == [1000, 1001, 1002, 1003]


async def test_a_backup_made_here_within_a_day_is_not_counted_on(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    """It takes up the one place; the only other good backup stays all the same."""
    put(1)
    async with agent_with() as agent:
        await agent.call("create_backup", server_id=STAGING, wait_seconds=45)
        answer = await agent.call("prune_backups", server_id=STAGING, keep_last=1)
    assert (answer.status, answer.data["to_delete"]) == ("succeeded", [])
    assert 1000 in held(emulator)
    assert len(held(emulator)) == 2


@pytest.mark.parametrize("approval", ["auto", "plan", "flag"])
@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"read_only": True}, "read_only"),
        ({"servers": {12346}}, "policy_denied"),
        ({"protected_servers": {STAGING}}, "policy_denied"),
    ],
    ids=str,
)
async def test_where_a_server_must_not_be_touched_not_even_its_list_is_read(
    agent_with: AgentWith, emulator: Emulator, put: Put, rule: dict[str, Any], code: str, approval: str
) -> None:
    put(4)
    async with agent_with(**rule, approval=approval) as agent:
        assert_refused(await agent.call("prune_backups", **KEEP_TWO), code)
        assert_refused(await agent.call("prune_backups", **KEEP_TWO, confirm=True), code)
    assert emulator.requests == []
    assert len(held(emulator)) == 4


async def test_an_incomplete_list_is_pruned_by_no_rule(agent: Session, emulator: Emulator, put: Put) -> None:
    put(4)
    emulator.fail(Fault.edited(lambda content: content["results"][0].update(id=True)), method="GET")
    answer = await agent.call("prune_backups", **KEEP_TWO)
    assert_refused(answer, "policy_denied")
    assert "incomplete" in answer.text
    assert emulator.count("DELETE") == 0


# Budgets


async def test_a_prune_stays_within_the_budgets_and_says_so_before_it_starts(
    agent_with: AgentWith, emulator: Emulator, put: Put, clock: ManualClock
) -> None:
    put(17)
    async with agent_with() as agent:
        planned = await agent.call("prune_backups", **KEEP_TWO)
        facts = planned.data["facts"]
        assert (facts["to_delete"], facts["left_for_later"]) == (10, 5)
        assert facts["later_from"] == "2026-11-23T10:30Z"
        assert len(planned.data["later"]) == 5
        answer = await confirm(agent, planned.operation)
        for told in (planned, answer):
            assert len(told.text) + len(json.dumps(told.data)) < 8_000
        assert "possible from: 2026-11-23T10:30Z" in answer.data["next_step"]
        assert (answer.status, emulator.count("DELETE")) == ("succeeded", 10)
        assert sorted(outcomes(answer)) == rows(planned, "to_delete")
        assert_refused(await agent.call("prune_backups", **KEEP_TWO), "budget_exhausted")
        clock.advance(hours=1)
        again = await pruned(agent)
    assert (again.status, emulator.count("DELETE")) == ("succeeded", 15)


async def test_deletes_made_since_the_plan_count(agent_with: AgentWith, emulator: Emulator, put: Put) -> None:
    put(6)
    async with agent_with(deletes_per_hour=4) as agent:
        operation = await plan(agent)
        other = await agent.call("delete_backup", backup_id=501)
        await agent.call("delete_backup", backup_id=501, confirm=True, operation_id=other.operation)
        answer = await confirm(agent, operation)
    assert (answer.status, answer.data["changed"], emulator.count("DELETE")) == ("failed", "done", 4)
    assert outcomes(answer) == {1002: "not deleted", 1003: "deleted", 1004: "deleted", 1005: "deleted"}
    assert (
        "The budget of 4 deletes within an hour is used up. Deleted: 1005, 1004, 1003. Refused: 1002."
        in (answer.data["summary"])
    )


# Each delete under the guards of delete_backup


def changes(backup: Backup) -> None:
    backup.description = "Other"


def begins_anew(backup: Backup) -> None:
    backup.status = "in_progress"


def is_marked(backup: Backup) -> None:
    backup.description = "[keep]"


@pytest.mark.parametrize("happens", [changes, begins_anew, is_marked])
async def test_a_target_that_changed_since_the_plan_stays_and_keeps_none_of_the_others(
    agent: Session, emulator: Emulator, put: Put, happens: Callable[[Backup], None]
) -> None:
    put(6)
    operation = await plan(agent)
    happens(emulator.fleet.backups[1003])
    answer = await confirm(agent, operation)
    assert (answer.status, answer.data["changed"]) == ("failed", "done")
    assert outcomes(answer) == {1002: "deleted", 1003: "not deleted", 1004: "deleted", 1005: "deleted"}
    assert answer.data["summary"] == (
        "The prune of server 12360 has ended, and not all backups are deleted. Deleted: 1005, 1004, 1002. "
        "Refused: 1003."
    )
    (stays,) = [row for row in answer.data["to_delete"] if row["id"] == 1003]
    assert stays["reason"] == f"Backup 1003 is no longer as the plan {operation} showed it."
    assert answer.data["next_step"] == "Call prune_backups again without operation_id if it is still wanted."
    assert held(emulator) == [1000, 1001, 1003]
    assert emulator.count("DELETE") == 3


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"read_only": True}, "read_only"),
        ({"servers": {12346}}, "policy_denied"),
        ({"protected_servers": {STAGING}}, "policy_denied"),
        ({"deletes_per_day": 0}, "budget_exhausted"),
    ],
    ids=str,
)
async def test_the_operators_rules_hold_for_a_plan_made_before_they_did(
    agent_with: AgentWith, emulator: Emulator, put: Put, rule: dict[str, Any], code: str
) -> None:
    put(6)
    async with agent_with() as agent:
        operation = await plan(agent)
    async with agent_with(**rule) as agent:
        expected = "read_only" if "read_only" in rule else "confirmation_expired"
        assert (await confirm(agent, operation)).code == expected
        assert_refused(await agent.call("prune_backups", **KEEP_TWO), code)
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize(
    ("rule", "stay"),
    [
        ({"protected_backups": {1005}}, {1005}),
        ({"protected_backups": {1002, 1004}}, {1002, 1004}),
        ({"keep_min": 6}, {1002, 1003, 1004, 1005}),
        ({"keep_min": 4}, {1002, 1003}),
    ],
    ids=str,
)
async def test_a_plan_made_under_other_rules_is_made_again(
    agent_with: AgentWith, emulator: Emulator, put: Put, rule: dict[str, Any], stay: set[int]
) -> None:
    """What somebody agreed to was shown under the rules of then."""
    put(6)
    async with agent_with() as agent:
        operation = await plan(agent)
    async with agent_with(**rule) as agent:
        assert (await confirm(agent, operation)).code == "confirmation_expired"
        answer = await agent.call("prune_backups", **KEEP_TWO)
    assert set(rows(answer, "kept")) == {1000, 1001} | stay
    assert set(rows(answer, "to_delete")) == {1002, 1003, 1004, 1005} - stay
    assert emulator.count("DELETE") == 0


# Stopping


STOPS = [
    (Fault.status(401, {"detail": "no"}), 1, "failed", "done", "not deleted", "auth_failed"),
    (Fault.status(429, headers={"Retry-After": "86399"}), 1, "failed", "done", "not deleted", "rate_limited"),
    (Fault.status(500, b""), 3, "unknown", "unknown", "unknown", "outcome_unknown"),
    (Fault.status(503, b""), 3, "unknown", "unknown", "unknown", "outcome_unknown"),
    (Fault.reset_after(apply=False), 3, "unknown", "unknown", "unknown", "outcome_unknown"),
]
"""What is about every further delete as well, or leaves unknown what became of this one."""


@pytest.mark.parametrize(
    ("fault", "times", "status", "changed", "outcome", "code"), STOPS, ids=lambda each: str(each)[:20]
)
async def test_a_prune_stops_where_no_other_would_fare_better_or_one_is_unknown_and_tells_which_are_gone(
    agent: Session,
    emulator: Emulator,
    put: Put,
    state_dir: Path,
    fault: Fault,
    times: int,
    status: str,
    changed: str,
    outcome: str,
    code: str,
) -> None:
    put(8)
    operation = await plan(agent)
    emulator.fail(fault, method="DELETE", skip=2, times=times)
    answer = await confirm(agent, operation)
    assert (answer.status, answer.data["changed"]) == (status, changed)
    assert outcomes(answer) == {1005: outcome, 1006: "deleted", 1007: "deleted"}
    assert ("stopped at backup 1005." in answer.text) == (status == "unknown")
    assert answer.data["summary"].endswith(
        f"Deleted: 1007, 1006. {'Not known' if status == 'unknown' else 'Refused'}: 1005. Left: 1002, 1003, 1004."
    )
    assert "Deleted: 1007, 1006." in answer.text
    assert held(emulator) == [1000, 1001, 1002, 1003, 1004, 1005]
    assert emulator.count("DELETE") == 2 + times
    (prune,) = [each for each in recorded(state_dir) if each.action == "prune_backups"]
    assert prune.error_code == code
    again = await confirm(agent, operation)
    assert (again.replayed, again.operation) == (True, operation)
    assert emulator.count("DELETE") == 2 + times
    assert outcomes(again) == outcomes(answer)


async def test_where_the_first_delete_fails_as_any_other_would_it_is_the_error_that_is_told(
    agent: Session, emulator: Emulator, put: Put
) -> None:
    put(4)
    operation = await plan(agent)
    emulator.fail(Fault.status(401, {"detail": "no"}), method="DELETE")
    answer = await confirm(agent, operation)
    assert answer.code == "auth_failed"
    assert emulator.count("DELETE") == 1
    assert "Nothing was changed." in answer.text
    assert len(held(emulator)) == 4


async def test_an_unknown_delete_is_looked_for_and_then_the_prune_has_only_stopped(
    agent: Session, emulator: Emulator, put: Put, clock: ManualClock
) -> None:
    put(6)
    operation = await plan(agent)
    emulator.fail(Fault.reset_after(apply=False).late(30), method="DELETE", skip=1, times=1)
    emulator.fail(Fault.reset_after(apply=False), method="DELETE", skip=2, times=2)
    stopped = await confirm(agent, operation)
    assert (stopped.status, outcomes(stopped)) == ("unknown", {1004: "unknown", 1005: "deleted"})
    assert f"get_operation(operation_id={operation!r})" in stopped.data["next_step"]
    clock.advance(seconds=40)
    looked = await agent.call("get_operation", operation_id=operation)
    assert (looked.status, looked.data["changed"]) == ("failed", "done")
    assert outcomes(looked) == {1004: "deleted", 1005: "deleted"}
    assert "Deleted: 1005, 1004." in looked.data["summary"]
    assert "Call prune_backups again without operation_id" in looked.data["next_step"]
    assert outcomes(await pruned(agent)) == {1002: "deleted", 1003: "deleted"}
    assert held(emulator) == [1000, 1001]


async def test_an_unknown_delete_closes_the_server_until_it_is_settled(
    agent: Session, emulator: Emulator, put: Put, clock: ManualClock
) -> None:
    put(6)
    operation = await plan(agent)
    emulator.fail(Fault.reset_after(apply=False), method="DELETE", skip=1, times=3)
    assert (await confirm(agent, operation)).status == "unknown"
    assert_refused(await agent.call("prune_backups", **KEEP_TWO), "policy_denied")
    clock.advance(minutes=31)
    looked = await agent.call("get_operation", operation_id=operation)
    assert (looked.status, outcomes(looked)) == ("unknown", {1004: "unknown", 1005: "deleted"})
    again = await agent.call("prune_backups", **KEEP_TWO)
    assert again.data["left_alone"][-1]["reason"] == "its deletion was sent before"
    assert outcomes(await confirm(agent, again.operation)) == {1002: "deleted", 1003: "deleted"}
    clock.advance(hours=24)
    lapsed = await agent.call("get_operation", operation_id=operation)
    assert (lapsed.status, outcomes(lapsed)) == ("failed", {1004: "not deleted", 1005: "deleted"})
    assert "did not take effect within 24 h" in lapsed.text
    assert "Deleted: 1005. No effect within 24 h: 1004." in lapsed.data["summary"]
    assert "no certain answer" not in lapsed.text
    assert outcomes(await pruned(agent)) == {1004: "deleted"}


async def test_a_delete_that_was_not_seen_to_be_gone_is_accepted_until_it_is(
    agent: Session, emulator: Emulator, put: Put
) -> None:
    put(3)
    operation = await plan(agent)
    emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", skip=1)
    answer = await confirm(agent, operation)
    assert (answer.status, answer.data["changed"]) == ("accepted", "started")
    assert "not all have been seen to be gone" in answer.text
    looked = await agent.call("get_operation", operation_id=operation)
    assert (looked.status, looked.data["facts"]["evidence"]) == ("succeeded", "each is absent from the complete list")


# Replay, two at once, cancel, restart, the time of a call


async def test_a_finished_prune_is_replayed_and_nothing_sent(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(4)
    async with agent_with() as agent:
        operation = await plan(agent)
        first = await confirm(agent, operation)
    sent = len(emulator.requests)
    async with agent_with() as agent:
        second = await confirm(agent, operation)
    assert (first.replayed, second.replayed) == (False, True)
    assert outcomes(second) == outcomes(first)
    assert [request.method for request in emulator.requests[sent:]] == ["GET"]


@pytest.mark.parametrize("desks", ["one server", "two servers"])
async def test_of_two_calls_at_once_one_works_and_the_other_is_told(
    emulator: Emulator,
    clock: ManualClock,
    era: Era,
    make_settings: MakeSettings,
    put: Put,
    gate: asyncio.Event,
    desks: str,
) -> None:
    put(8)
    settings = make_settings()
    emulator.fail(Fault.delay(1), method="DELETE")
    async with session(emulator, settings, clock, era) as one, session(emulator, settings, clock, era) as other:
        operation = await plan(one)
        answers: list[Answer] = []

        async def work() -> None:
            answers.append(await confirm(one, operation))

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await until(lambda: emulator.count("DELETE") == 1)
            busy = await confirm(other if desks == "two servers" else one, operation)
            gate.set()
        after = await confirm(other, operation)
    assert busy.code == "busy"
    assert f"get_operation(operation_id={operation!r})" in busy.text
    assert (answers[0].status, answers[0].replayed) == ("succeeded", False)
    assert (after.status, after.replayed) == ("succeeded", True)
    assert emulator.count("DELETE") == 6
    assert held(emulator) == [1000, 1001]


async def test_of_many_calls_at_once_one_is_carried_out(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings, put: Put
) -> None:
    """They wait for each other in real time."""
    put(6)
    time = replace(clock.clock, sleep=anyio.sleep)
    answers: list[Answer] = []
    async with (
        session(emulator, make_settings(), time, era) as one,
        session(emulator, make_settings(), time, era) as two,
    ):
        operation = await plan(one)

        async def ask(agent: Session) -> None:
            answers.append(await confirm(agent, operation))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(ask, (one, two)[number % 2])
    worked = [answer for answer in answers if not answer.is_error and not answer.replayed]
    assert len(worked) == 1
    assert {answer.code for answer in answers if answer.is_error} <= {"busy"}
    assert emulator.count("DELETE") == 4


async def test_a_call_that_is_cancelled_in_the_middle_is_gone_on_with(
    agent_with: AgentWith, emulator: Emulator, put: Put, gate: asyncio.Event
) -> None:
    put(6)
    emulator.fail(Fault.delay(1), method="DELETE", skip=1)
    async with agent_with() as agent:
        operation = await plan(agent)
        async with anyio.create_task_group() as group:
            group.start_soon(confirm, agent, operation)
            await until(lambda: emulator.count("DELETE") == 2)
            group.cancel_scope.cancel()
            gate.set()
        looked = await went_on(agent, operation)
        assert looked.status == "succeeded"
    assert sorted(outcomes(looked)) == [1002, 1003, 1004, 1005]
    assert emulator.count("DELETE") == 4
    assert {emulator.count("DELETE", f"/backups/{number}/") for number in range(1002, 1006)} == {1}


async def went_on(agent: Session, operation: str) -> Answer:
    """The same call again, until the one before has let go of it."""
    answer = await confirm(agent, operation)
    for _ in range(200):
        if answer.code != "busy":
            break
        await anyio.sleep(0.01)
        answer = await confirm(agent, operation)
    return answer


@pytest.mark.parametrize("applied", [True, False])
async def test_after_the_process_was_killed_the_same_call_goes_on_and_deletes_nothing_twice(
    agent_with: AgentWith, emulator: Emulator, put: Put, state_dir: Path, clock: ManualClock, applied: bool
) -> None:
    """A killed process leaves its delete as `sending`; what became of that is seen, not tried again."""
    put(6)
    async with agent_with() as agent:
        operation = await plan(agent)
        emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", path="^/backups/$", skip=4)
        paused = await confirm(agent, operation)
        assert (paused.status, paused.data["changed"]) == ("preparing", "done")
        assert outcomes(paused) == {1004: "deleted", 1005: "deleted"}
        assert "(HTTP 403)" in paused.data["facts"]["problem"]
        assert "to go on" in paused.data["next_step"]
    killed_while_sending(state_dir, 1003)
    if applied:
        emulator.fleet.delete_backup(1003)
    async with agent_with() as agent:
        answer = await confirm(agent, operation)
        if applied:
            assert (answer.status, held(emulator)) == ("succeeded", [1000, 1001])
            assert emulator.count("DELETE", "/backups/1003/") == 0
            assert emulator.count("DELETE") == 3
        else:
            assert (answer.status, outcomes(answer)[1003]) == ("unknown", "unknown")
            clock.advance(hours=24)
            assert (await agent.call("get_operation", operation_id=operation)).status == "failed"
            assert outcomes(await pruned(agent)) == {1002: "deleted", 1003: "deleted"}


def killed_while_sending(state_dir: Path, backup_id: int) -> None:
    """Leave the delete of a backup in the ledger as a process does that dies after the intent was recorded."""
    (delete,) = [each for each in recorded(state_dir) if each.backup_id == backup_id]
    prune = next(each for each in recorded(state_dir) if each.action == "prune_backups")
    assert delete.status == "planned"

    def save(entries: Entries) -> Operation:
        entries.save(delete.updated(status="approved", approved_by="plan"))
        return entries.save(delete.updated(status="sending", sent=prune.sent, owner="0123456789abcdef"))

    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    try:
        ledger._run(save, "BEGIN IMMEDIATE")
    finally:
        ledger.close()


async def test_a_call_ends_in_time_and_the_same_call_again_finishes(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings, put: Put
) -> None:
    put(10)

    def takes_long(_: object) -> None:
        clock.advance(seconds=BUSY_SECONDS)

    emulator.fail(Fault.edited(takes_long), method="GET", times=None, skip=1)
    async with session(emulator, make_settings(), clock, era) as agent:
        operation = await plan(agent)
        answers = [await confirm(agent, operation)]
        while answers[-1].status == "preparing":
            answers.append(await confirm(agent, operation))
    first = answers[0]
    assert (first.status, first.data["changed"]) == ("preparing", "done")
    assert first.data["summary"] == "The prune of server 12360 is under way: 2 of 8 backups are deleted."
    assert outcomes(first) == {1008: "deleted", 1009: "deleted"}
    assert f"confirm=true, operation_id='{operation}') to go on, before 2026-11-23T" in first.data["next_step"]
    assert [len(outcomes(each)) for each in answers] == [2, 4, 6, 8]
    assert (answers[-1].status, answers[-1].replayed) == ("succeeded", False)
    assert emulator.count("DELETE") == 8


@pytest.mark.parametrize(
    ("server_id", "fault", "told"),
    [
        (4711, None, "not_found"),
        (4711, Fault.status(403, {"detail": "no"}), "succeeded"),
        (4711, Fault.edited(lambda page: page | {"count": 99}), "succeeded"),
        (STAGING, None, "succeeded"),
    ],
)
async def test_a_server_that_vps_org_certainly_does_not_have_cannot_be_pruned(
    agent: Session, emulator: Emulator, server_id: int, fault: Fault | None, told: str
) -> None:
    if fault:
        emulator.fail(fault, method="GET", path="/servers/")
    answer = await agent.call("prune_backups", **KEEP_TWO | {"server_id": server_id})
    assert (answer.code or answer.status) == told
    assert ("VPS.org has no server 4711." in answer.text) == (told == "not_found")


async def test_a_prune_that_nobody_went_on_with_for_2_hours_is_over_and_tells_what_it_did(
    agent_with: AgentWith, emulator: Emulator, put: Put, clock: ManualClock
) -> None:
    put(6)
    async with agent_with() as agent:
        operation = await plan(agent)
        emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", skip=4)
        assert (await confirm(agent, operation)).status == "preparing"
        clock.advance(hours=2)
        expired = await confirm(agent, operation)
        assert expired.code == "confirmation_expired"
        assert (
            f"It had deleted some of its backups, or may have: get_operation(operation_id='{operation}')"
            in expired.text
        )
        looked = await agent.call("get_operation", operation_id=operation)
    assert (looked.status, looked.data["changed"]) == ("expired", "done")
    assert looked.data["summary"] == "The plan is no longer valid. Deleted: 1005, 1004. Left: 1002, 1003."
    assert emulator.count("DELETE") == 2


async def test_a_prune_taken_up_again_long_after_its_last_delete_was_planned_goes_on(
    agent_with: AgentWith, emulator: Emulator, put: Put, clock: ManualClock
) -> None:
    put(6)
    async with agent_with() as agent:
        operation = await plan(agent)
        emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", skip=4)
        assert (await confirm(agent, operation)).status == "preparing"
        clock.advance(minutes=30)
        assert (await confirm(agent, operation)).status == "succeeded"
    assert held(emulator) == [1000, 1001]


async def test_a_prunes_own_deletes_can_be_confirmed_by_no_other_call(
    agent: Session, emulator: Emulator, put: Put, state_dir: Path
) -> None:
    put(4)
    operation = await plan(agent)
    emulator.fail(Fault.status(403, {"detail": "no"}), method="GET")
    assert (await confirm(agent, operation)).code == "forbidden"
    (delete,) = [each for each in recorded(state_dir) if each.action == "delete_backup"]
    answer = await agent.call("delete_backup", backup_id=1003, confirm=True, operation_id=delete.id)
    assert answer.code == "confirmation_invalid"
    assert emulator.count("DELETE") == 0


async def test_a_ledger_that_fails_in_the_middle_ends_a_call_that_tells_what_is_gone(
    agent: Session, emulator: Emulator, put: Put, state_dir: Path
) -> None:
    put(6)
    operation = await plan(agent)

    def lock_up(_: object) -> None:
        with sqlite3.connect(state_dir / "ledger.sqlite3") as connection:
            connection.execute("ALTER TABLE events RENAME TO elsewhere")
        connection.close()

    emulator.fail(Fault.edited(lock_up), method="GET", skip=3)
    answer = await confirm(agent, operation)
    assert not answer.is_error, answer.text
    assert emulator.count("DELETE") == 2
    assert (answer.status, outcomes(answer)) == ("unknown", {1004: "unknown", 1005: "deleted"})
    assert "came to be 'succeeded', but that could not be recorded." in answer.data["summary"]
    assert "The ledger cannot be read or written." in answer.data["facts"]["problem"]
    assert held(emulator) == [1000, 1001, 1002, 1003]


# Who consents


async def test_where_a_plan_consents_confirm_alone_does_not(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(4)
    async with agent_with(approval="plan") as agent:
        answer = await agent.call("prune_backups", **KEEP_TWO, confirm=True)
        assert (answer.status, emulator.count("DELETE")) == ("needs_confirmation", 0)
        other = await agent.call(
            "prune_backups", **KEEP_TWO | {"keep_last": 1}, confirm=True, operation_id=answer.operation
        )
        assert (other.code, emulator.count("DELETE")) == ("confirmation_invalid", 0)
        assert (await confirm(agent, answer.operation)).data["approved_by"] == "plan"
    assert held(emulator) == [1000, 1001]


async def test_where_the_flag_consents_one_call_prunes_once(trusted: Session, emulator: Emulator, put: Put) -> None:
    put(4)
    first = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
    again = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
    assert (first.status, first.approved_by, first.replayed) == ("succeeded", "flag", False)
    assert (again.operation, again.replayed) == (first.operation, True)
    assert emulator.count("DELETE") == 2


async def test_where_the_flag_consents_the_same_call_without_an_id_goes_on(
    trusted: Session, emulator: Emulator, put: Put
) -> None:
    put(6)
    emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", skip=5)
    first = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
    again = await trusted.call("prune_backups", **KEEP_TWO, confirm=True)
    assert (first.status, again.status, again.operation) == ("preparing", "succeeded", first.operation)
    assert emulator.count("DELETE") == 4


async def test_where_only_a_person_consents_a_client_that_cannot_ask_waits_for_an_approver(
    agent_with: AgentWith, emulator: Emulator, put: Put
) -> None:
    put(4)
    async with agent_with(approval="human") as agent:
        operation = await plan(agent)
        assert (await confirm(agent, operation)).status == "needs_approval"
    assert emulator.count("DELETE") == 0


ANSWERS: list[tuple[object, bool]] = [
    (4, True),
    (3, False),
    (5, False),
    ("4", False),
    (True, False),
    (4.5, False),
    (None, False),
]


@pytest.mark.parametrize("approval", ["auto", "human"])
@pytest.mark.parametrize(("typed", "agreed"), ANSWERS, ids=str)
async def test_a_person_types_how_many_backups_are_to_go(
    emulator: Emulator,
    clock: ManualClock,
    era: Era,
    make_settings: MakeSettings,
    put: Put,
    approval: str,
    typed: object,
    agreed: bool,
) -> None:
    put(6)
    asked: list[str] = []

    async def person(context: object, params: ElicitRequestParams) -> ElicitResult:
        del context
        asked.append(params.message)
        typed_in: Any = {"count": typed}
        return ElicitResult.model_construct(action="accept", content=typed_in)

    settings = make_settings(approval=approval)
    async with session(emulator, settings, clock, era, elicitation_callback=person) as agent:
        answer = await agent.call("prune_backups", **KEEP_TWO, confirm=True)
        if agreed:
            again = await confirm(agent, answer.operation)
            assert (again.replayed, len(asked)) == (True, 1)
    (question,) = asked
    assert question == (
        'Delete 4 of 6 manual backups of server 12360 "staging-01" for good?\n'
        "This cannot be undone. They are of 2026-11-17T03:30Z to 2026-11-20T03:30Z, 400 MB in all.\n"
        "Left: 2 manual backups, and all automatic ones.\n"
        "Backups: 1002, 1003, 1004, 1005"
    )
    if agreed:
        assert (answer.status, answer.approved_by) == ("succeeded", "person")
        assert held(emulator) == [1000, 1001]
    else:
        assert answer.code == "declined"
        assert ("did not confirm it" if typed is not None else "passed on nothing") in answer.text
        assert "Nothing was changed." in answer.text
        assert emulator.count("DELETE") == 0


async def test_a_person_who_agreed_is_not_asked_again_when_the_call_goes_on(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings, put: Put
) -> None:
    put(6)
    asked: list[str] = []

    async def person(context: object, params: ElicitRequestParams) -> ElicitResult:
        del context
        asked.append(params.message)
        return ElicitResult(action="accept", content={"count": 4})

    emulator.fail(Fault.status(403, {"detail": "no"}), method="GET", skip=5)
    async with session(emulator, make_settings(approval="human"), clock, era, elicitation_callback=person) as agent:
        operation = await plan(agent)
        first = await confirm(agent, operation)
        second = await confirm(agent, operation)
    assert (first.status, second.status, len(asked)) == ("preparing", "succeeded", 1)
    assert second.approved_by == "person"


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ((100, 50, 7), "157 MB"),
        ((100, None, 7), "at least 107 MB"),
        ((None, None, None), "unknown size"),
        ((None, 0, 0), "at least 0 MB"),
    ],
    ids=str,
)
async def test_a_size_that_is_not_known_is_not_told_as_0(
    agent: Session, emulator: Emulator, put: Put, sizes: tuple[int | None, ...], told: str
) -> None:
    put(5)
    for number, size in enumerate(sizes, start=1002):
        emulator.fleet.backups[number].status = "failed"
        emulator.fleet.backups[number].size_mb = size
    answer = await agent.call("prune_backups", **KEEP_TWO)
    assert answer.data["facts"]["size_to_delete"] == told


async def test_a_server_without_backups_is_named_all_the_same(agent: Session) -> None:
    answer = await agent.call("prune_backups", **KEEP_TWO)
    assert (answer.status, answer.data["server"]) == ("succeeded", {"id": STAGING, "name": "staging-01"})
