"""A prune in which some backups cannot be deleted: the others are, and at the end it is told which is what."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.stage import AgentWith, Answer, ManualClock, Session

from .conftest import in_turns

pytestmark = pytest.mark.anyio

SERVER = 12360
GO = (1002, 1003, 1004, 1005)
"""What a prune to two of six backups deletes, the oldest last; and in the other order."""
RULES = {"server_id": SERVER, "keep_last": 2}


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    async with Emulator(now=clock.now) as served:
        served.fleet.backups.clear()
        for number in range(1000, 1006):
            made = clock.now() - timedelta(hours=30 + 24 * (number - 1000))
            served.fleet.backups[number] = Backup(number, SERVER, made, "manual", size_mb=100)
        yield served


async def plan(agent: Session) -> dict[str, Any]:
    answer = await agent.call("prune_backups", **RULES)
    assert answer.status == "needs_confirmation", answer.text
    return RULES | {"confirm": True, "operation_id": answer.operation}


def refuse(emulator: Emulator, number: int, status: int) -> None:
    fault = Fault.status(status, {"detail": "Locked by a job."})
    emulator.fail(fault, method="DELETE", path=f"^/backups/{number}/$", times=None)


def rows(answer: Answer) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for row in answer.data["to_delete"]}


def ids(numbers: set[int]) -> str:
    """As they are told: the oldest first."""
    return ", ".join(str(number) for number in sorted(numbers, reverse=True)) or "none"


STUBBORN = {
    "the oldest, 409": {1005: 409},
    "the newest, 403": {1002: 403},
    "in the middle, 422": {1004: 422},
    "the oldest, 400": {1005: 400},
    "the oldest, 404 though it is listed": {1005: 404},
    "in the middle, 410": {1003: 410},
    "the oldest, a redirect": {1005: 301},
    "the oldest, 405": {1005: 405},
    "two": {1005: 409, 1003: 403},
    "three": {1005: 409, 1004: 409, 1002: 422},
    "all": {1002: 409, 1003: 409, 1004: 403, 1005: 422},
}


@in_turns("stubborn", STUBBORN)
async def test_one_that_is_refused_keeps_none_of_the_others(
    agent_with: AgentWith, emulator: Emulator, stubborn: dict[int, int]
) -> None:
    """The oldest was refused each time, and no prune ever deleted anything."""
    async with agent_with() as agent:
        confirmation = await plan(agent)
        for number, status in stubborn.items():
            refuse(emulator, number, status)
        answer = await agent.call("prune_backups", **confirmation)
        deleted = set(GO) - set(stubborn)
        assert (answer.status, answer.data["changed"]) == ("failed", "done" if deleted else "nothing"), answer.text
        assert f"Deleted: {ids(deleted)}. Refused: {ids(set(stubborn))}." in answer.data["summary"]
        for number, row in rows(answer).items():
            assert row["outcome"] == ("not deleted" if number in stubborn else "deleted")
            assert bool(row.get("reason")) is (number in stubborn)
        assert sorted(emulator.fleet.backups) == [1000, 1001, *sorted(stubborn)]
        assert {emulator.count("DELETE", f"/backups/{number}/") for number in GO} == {1}
        again = await agent.call("prune_backups", **confirmation)
        assert (again.status, again.replayed, rows(again)) == ("failed", True, rows(answer))
        assert emulator.count("DELETE") == len(GO)
        emulator.clear_faults()
        done = await agent.call("prune_backups", **await plan(agent))
        assert (done.status, set(rows(done))) == ("succeeded", set(stubborn))
    assert sorted(emulator.fleet.backups) == [1000, 1001]


@in_turns("gone", {"the oldest": {1005}, "the newest": {1002}, "two": {1003, 1004}, "all": set(GO), "none": set()})
async def test_one_that_vanished_meanwhile_is_told_as_gone_already(
    agent_with: AgentWith, emulator: Emulator, gone: set[int]
) -> None:
    async with agent_with() as agent:
        confirmation = await plan(agent)
        for number in gone:
            emulator.fleet.delete_backup(number)
        answer = await agent.call("prune_backups", **confirmation)
    deleted = set(GO) - gone
    assert (answer.status, answer.data["changed"]) == ("succeeded", "done" if deleted else "nothing"), answer.text
    assert (f"Gone already: {ids(gone)}." in answer.data["summary"]) is bool(gone)
    for number, row in rows(answer).items():
        assert row["outcome"] == ("gone" if number in gone else "deleted")
    shown = str(confirmation["operation_id"])
    assert all(shown in row["reason"] for number, row in rows(answer).items() if number in gone)
    assert sorted(emulator.fleet.backups) == [1000, 1001]
    assert emulator.count("DELETE") == len(deleted)


@in_turns(
    "fault",
    {
        "500": Fault.status(500),
        "503": Fault.status(503),
        "reset": Fault.reset_after(apply=False),
        "closed": Fault.close_after(apply=False),
        "garbled": Fault.raw(b"what?\r\n\r\n"),
        "a web page with 404": Fault.status(404, "<html>Not here.</html>"),
        "a web page with 200": Fault.status(200, "<html>Back soon.</html>"),
    },
)
async def test_the_first_that_is_unknown_ends_a_prune_and_what_was_before_is_told(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, fault: Fault
) -> None:
    """One is gone already, one is refused, one is unknown, and one is left."""
    async with agent_with() as agent:
        confirmation = await plan(agent)
        emulator.fleet.delete_backup(1005)
        refuse(emulator, 1004, 409)
        emulator.fail(fault, method="DELETE", path="^/backups/1003/$", times=None)
        answer = await agent.call("prune_backups", **confirmation)
        assert (answer.status, answer.data["changed"]) == ("unknown", "unknown"), answer.text
        assert "stopped at backup 1003." in answer.data["summary"]
        assert "Deleted: none. Gone already: 1005. Refused: 1004. Not known: 1003." in answer.data["summary"]
        assert {number: row.get("outcome", "") for number, row in rows(answer).items()} == {
            1005: "gone",
            1004: "not deleted",
            1003: "unknown",
            1002: "",
        }
        assert emulator.count("DELETE", "/backups/1002/") == 0
        assert sorted(emulator.fleet.backups) == [1000, 1001, 1002, 1003, 1004]
        emulator.clear_faults()
        emulator.fleet.delete_backup(1003)
        clock.advance(hours=1)
        later = await agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert (later.status, later.data["changed"]) == ("failed", "done")
        assert "Deleted: 1003. Gone already: 1005. Refused: 1004." in later.data["summary"]
        done = await agent.call("prune_backups", **await plan(agent))
        assert (done.status, set(rows(done))) == ("succeeded", {1002, 1004})
    assert sorted(emulator.fleet.backups) == [1000, 1001]


@in_turns(
    "case",
    {
        "as many as the budget, 409": ({1004: 409, 1005: 409}, 2),
        "more than the budget, 403": ({1003: 403, 1004: 403, 1005: 403}, 2),
        "the budget is one": ({1005: 422}, 1),
        "one of which it is never known": ({1005: 423}, 10),
        "one of which it is never known, and refused ones": ({1005: 402, 1004: 409, 1003: 405}, 3),
        "in the middle, never known": ({1003: 418}, 10),
    },
)
async def test_those_that_stay_each_time_keep_none_of_the_others_for_ever(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, case: tuple[dict[int, int], int]
) -> None:
    """The oldest came first every night, and used up the budget, or stopped the prune."""
    stubborn, budget = case
    for number, status in stubborn.items():
        refuse(emulator, number, status)
    async with agent_with(deletes_per_hour=budget) as agent:
        for _ in range(5):
            answer = await agent.call("prune_backups", **await plan(agent))
            assert emulator.count("DELETE") <= 5 * budget
            clock.advance(hours=24, minutes=1)
    assert sorted(emulator.fleet.backups) == [1000, 1001, *sorted(stubborn)]
    assert set(rows(answer)) <= set(stubborn)


async def test_it_is_told_what_vps_org_said_of_those_that_it_did_not_delete(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with() as agent:
        confirmation = await plan(agent)
        for number, words in {
            1005: "Locked by a job.",
            1004: "A job needs it.",
            1003: "Locked by a job.",
        }.items():
            emulator.fail(Fault.status(409, {"detail": words}), method="DELETE", path=f"^/backups/{number}/$")
        answer = await agent.call("prune_backups", **confirmation)
        assert answer.data["facts"]["vps_org_said"] == ('of 1005, 1003: "Locked by a job.", of 1004: "A job needs it."')
        assert answer.data["next_step"] == (
            "Tell the user what is not deleted, and why. Call prune_backups again without operation_id for that, once; "
            "then only if something changed."
        )


async def test_what_is_being_deleted_is_not_told_as_deleted(agent_with: AgentWith, emulator: Emulator) -> None:
    """The list cannot be read to its end any more after the second delete."""
    async with agent_with() as agent:
        confirmation = await plan(agent)
        emulator.fail(Fault.rows({"id": True}, backup_id=1000), method="GET", path="^/backups/", skip=3, times=None)
        answer = await agent.call("prune_backups", **confirmation)
        assert (answer.status, answer.data["changed"]) == ("failed", "started")
        assert answer.data["summary"].endswith("Deleted: 1005. Being deleted: 1004. Refused: 1003, 1002.")
        assert f"get_operation(operation_id='{answer.operation}') tells by 2026-11-24T09:3" in answer.data["next_step"]
        emulator.clear_faults()
        later = await agent.call("get_operation", operation_id=answer.operation)
    assert (later.data["changed"], "being deleted" in later.text.lower()) == ("done", False)


@in_turns("status", {"the first": 1005, "in the middle": 1003, "the last": 1002})
async def test_after_an_unknown_outcome_it_is_told_when_the_others_may_go(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, status: int
) -> None:
    async with agent_with() as agent:
        confirmation = await plan(agent)
        refuse(emulator, status, 500)
        answer = await agent.call("prune_backups", **confirmation)
        assert f"do not count on what is not known ({status}): get_operation" in answer.data["next_step"]
        others = "Call prune_backups again without operation_id for the others after 2026-11-23T10:00Z."
        assert (others in answer.data["next_step"]) is (status != 1002)
        clock.advance(minutes=32)
        if status != 1002:
            await agent.call("prune_backups", **await plan(agent))
    assert sorted(emulator.fleet.backups) == [1000, 1001, status]


@in_turns("again", {"one": (1004,), "two": (1005, 1003), "all": GO})
async def test_what_is_listed_again_after_a_prune_is_told_as_that(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, again: tuple[int, ...]
) -> None:
    """It was said that the prune had stopped there, beside "each is absent from the complete list"."""
    async with agent_with() as agent:
        confirmation, before = await plan(agent), dict(emulator.fleet.backups)
        assert (await agent.call("prune_backups", **confirmation)).status == "succeeded"
        emulator.fleet.backups |= {number: before[number] for number in again}
        answer = await agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert (answer.status, answer.data["changed"]) == ("unknown", "unknown")
        assert "has ended, and backups that were seen to be gone are listed again." in answer.data["summary"]
        assert f"Not known: {ids(set(again))}." in answer.data["summary"]
        assert f"what is not known ({ids(set(again))})" in answer.data["next_step"] or len(again) > 3
        assert "evidence" not in answer.data["facts"]
        reasons = {number for number, row in rows(answer).items() if "listed again" in row.get("reason", "")}
        assert reasons == set(again)
        clock.advance(hours=25)
        later = await agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert (later.status, "evidence" in later.data["facts"]) == ("failed", False)
        assert f"No effect within 24 h: {ids(set(again))}." in later.data["summary"]


async def test_one_whose_deletion_was_sent_meanwhile_is_left_alone_and_not_sent_twice(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with() as agent:
        confirmation = await plan(agent)
        emulator.fail(Fault.status(200, {"detail": "Queued."}), method="DELETE", path="^/backups/1004/$")
        other = await agent.call("delete_backup", backup_id=1004)
        await agent.call("delete_backup", backup_id=1004, confirm=True, operation_id=other.operation)
        answer = await agent.call("prune_backups", **confirmation)
        assert "would be left alone by now (its deletion was sent before)" in rows(answer)[1004]["reason"]
        assert answer.data["summary"].endswith("Deleted: 1005, 1003, 1002. Refused: 1004.")
    assert emulator.count("DELETE", "/backups/1004/") == 1
