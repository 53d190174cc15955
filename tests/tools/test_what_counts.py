"""Which backups count: by their status, by when they were made, and by when they expire."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from mcp_types import ElicitRequestParams, ElicitResult

from mcp_backups.sandbox import Backup, Emulator, Fault
from mcp_backups.text import stamp
from tests.stage import Answer, Era, MakeSettings, ManualClock, Session, session, stays

from .conftest import in_turns

pytestmark = pytest.mark.anyio

SERVER, LASTING, ENDING = 12345, 10, 11
Put = Callable[..., None]


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    async with Emulator(now=clock.now) as served:
        served.fleet.backups.clear()
        yield served


@pytest.fixture
def put(emulator: Emulator, clock: ManualClock) -> Put:
    """`put(7, hours=48)`: a good manual backup so old; `ends` is in how many hours it expires."""

    def into_fleet(number: int, hours: float = 48, ends: float | None = None, **fields: Any) -> None:
        made, expires = clock.now() - timedelta(hours=hours), None
        if ends is not None:
            expires = clock.now() + timedelta(hours=ends)
        known: dict[str, Any] = {
            "backup_type": "manual",
            "size_mb": 100,
            "expires_at": expires,
            "description": "By hand",
        }
        emulator.fleet.backups[number] = Backup(number, SERVER, made, **known | fields)

    return into_fleet


async def confirmed(agent: Session, tool: str, answer: Answer, **arguments: Any) -> Answer:
    return await agent.call(tool, **arguments, confirm=True, operation_id=answer.operation)


# By status

UNKNOWN_WORDS = (
    "available",
    "queued",
    "creating",
    "archived",
    "error",
    "",
    "Completed",
    "COMPLETED",
    "FAILED",
    "deleted",
)


@in_turns("hours", {f"{hours} h": hours for hours in (0.1, 25, 24 * 400)})
async def test_no_prune_takes_what_is_not_known_to_be_completed_or_failed_however_old_it_is(
    agent: Session, emulator: Emulator, put: Put, hours: float
) -> None:
    """`available` may be somebody's word for completed: taken for junk, it was the only backup of its server."""
    for number, word in enumerate(UNKNOWN_WORDS, start=100):
        put(number, hours, status=word, size_mb=7, description=f"Word {number}")
    put(1, hours=48)
    put(2, hours=72)
    put(3, hours=48, status="failed", size_mb=None)
    rules = {"server_id": SERVER, "keep_last": 1}
    plan = await agent.call("prune_backups", **rules)
    assert sorted(row["id"] for row in plan.data["to_delete"]) == [2, 3]
    left = {row["id"]: row for row in stays(plan) if row["id"] >= 100}
    assert len(left) == len(UNKNOWN_WORDS)
    for number, word in enumerate(UNKNOWN_WORDS, start=100):
        row = left[number]
        assert row["reason"] == "it is not known what its status means"
        assert (row["status"], row["size_mb"], row["description"]) == (word or row["status"], 7, f"Word {number}")
        assert row["age"] in plan.text
    done = await confirmed(agent, "prune_backups", plan, **rules)
    assert (done.status, done.data["changed"]) == ("succeeded", "done")
    assert emulator.count("DELETE") == 2
    assert sorted(emulator.fleet.backups) == [1, *range(100, 100 + len(UNKNOWN_WORDS))]


async def test_where_nothing_is_known_to_be_completed_nothing_is_pruned_and_nothing_is_the_last_good_one(
    agent: Session, emulator: Emulator, put: Put
) -> None:
    """One automatic backup, and one by hand of another word: every keep rule at its most once deleted that."""
    put(1, backup_type="automatic", ends=24 * 20)
    put(2, hours=25, status="available")
    most = {"keep_last": 1000, "keep_daily": 1000, "keep_weekly": 1000, "keep_monthly": 1000}
    plan = await agent.call("prune_backups", server_id=SERVER, **most)
    assert (plan.status, plan.data["to_delete"], plan.data["changed"]) == ("succeeded", [], "nothing")
    assert (await agent.call("delete_backup", backup_id=1)).code == "policy_denied"
    assert {request.method for request in emulator.requests} == {"GET"}
    assert sorted(emulator.fleet.backups) == [1, 2]


@in_turns("size", {"nothing": 0, "not told": None})
async def test_no_prune_takes_what_may_not_have_been_measured_yet(
    agent: Session, emulator: Emulator, put: Put, size: int | None
) -> None:
    """Just finished and of 0 MB, the newest backup went as an empty one, before its size was told."""
    put(1, hours=48)
    ages = {10: 0.0, 11: 0.5, 12: 2, 13: 5.9, 14: 6.1, 15: 30}
    for number, hours in ages.items():
        put(number, hours=hours, size_mb=size)
    plan = await agent.call("prune_backups", server_id=SERVER, keep_last=1000)
    assert [row["id"] for row in plan.data["to_delete"]] == ([] if size is None else [14, 15])
    reason = "size unknown" if size is None else "its size may not be told yet"
    assert {row["id"]: row["reason"] for row in stays(plan) if row["id"] in {10, 11, 12, 13}} == dict.fromkeys(
        (10, 11, 12, 13), reason
    )
    if size == 0:
        assert (await confirmed(agent, "prune_backups", plan, server_id=SERVER, keep_last=1000)).status == "succeeded"
    assert sorted(emulator.fleet.backups) == [1, 10, 11, 12, 13, *([] if size == 0 else [14, 15])]


# By when they were made


@in_turns("minutes", {f"{minutes} min": minutes for minutes in (6, 120, 24 * 60, 2 * 24 * 60, 400 * 24 * 60)})
async def test_a_backup_dated_in_the_future_is_not_restored_and_not_relied_on(
    agent: Session, emulator: Emulator, put: Put, minutes: int
) -> None:
    """`Lost: everything written since` a time in the future says that nothing is lost."""
    put(1, hours=-minutes / 60)
    put(2, hours=48)
    refused = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    assert (refused.code, "dated in the future" in refused.text) == ("policy_denied", True)
    assert (await agent.call("delete_backup", backup_id=2)).code == "policy_denied"
    plan = await agent.call("prune_backups", server_id=SERVER, keep_last=1)
    assert {row["id"]: row["reason"] for row in stays(plan)} == {
        1: "dated in the future",
        2: "keep-last 1",
    }
    other = await agent.call("restore_server", server_id=SERVER, backup_id=2)
    assert other.data["facts"]["safety_backup"] == "one is made first"
    (server,) = (await agent.call("check_backups", server_id=SERVER)).data["servers"]
    assert server["restore_to"] == 2
    assert {request.method for request in emulator.requests} == {"GET"}


@in_turns("minutes", {f"{minutes} min": minutes for minutes in (0, 1, 4, 5)})
async def test_no_loss_is_told_that_lies_in_the_future(
    agent: Session, clock: ManualClock, put: Put, minutes: int
) -> None:
    """Clocks differ by minutes."""
    put(1, hours=-minutes / 60)
    plan = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    assert plan.data["facts"]["lost"] == f"everything written to the server since {stamp(clock.now())}"


# By when they expire

NO_EXPIRIES = (
    "never",
    "",
    "0000-00-00",
    0,
    False,
    "2026-12-24T00:00:00",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
)


@in_turns("told", {repr(told): told for told in NO_EXPIRIES})
async def test_nothing_relies_on_a_backup_whose_expiry_cannot_be_read_and_no_prune_takes_it(
    agent: Session, emulator: Emulator, put: Put, told: object
) -> None:
    """It may end tonight, and may be the one that lasts: a prune took the newest backup for an odd word in it."""
    put(1, hours=48)
    put(2, hours=0.3)
    emulator.fail(Fault.rows({"expires_at": told}, backup_id=2), path="^/backups/$", times=None)
    plan = await agent.call("prune_backups", server_id=SERVER, keep_last=1)
    assert {row["id"]: row["reason"] for row in stays(plan)} == {
        1: "keep-last 1",
        2: "it cannot be read when it expires",
    }
    restore = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    assert restore.data["facts"]["safety_backup"] == "one is made first"
    assert (await agent.call("delete_backup", backup_id=1)).code == "policy_denied"
    newest, _ = (await agent.call("list_backups")).data["backups"]
    assert (newest["id"], newest["expires_at"]) == (2, "unreadable")
    (server,) = (await agent.call("check_backups", server_id=SERVER)).data["servers"]
    assert (server["restore_to"], "2 is newer but of unreadable expiry" in server["reason"]) == (1, True)


SAFETY_EXPIRIES = {
    "tonight": ("2026-11-23T22:00:00Z", "until it expires at 2026-11-23T22:00Z"),
    "next year": ("2027-01-01T00:00:00+02:00", "until it expires at 2026-12-31T22:00Z"),
    "odd": ("soon", "when it expires cannot be read"),
    "never": (None, "it does not expire by itself"),
}


@in_turns("expiry", SAFETY_EXPIRIES)
async def test_until_when_a_restore_can_be_undone_is_told_by_the_safety_backup_that_was_made(
    agent: Session, emulator: Emulator, put: Put, expiry: tuple[str | None, str]
) -> None:
    put(1, hours=48)
    emulator.fail(Fault.rows({"expires_at": expiry[0]}, backup_id=2), path="^/backups/$", times=None)
    plan = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    done = await confirmed(agent, "restore_server", plan, server_id=SERVER, backup_id=1)
    assert (done.status, done.data["made"]) == ("accepted", "safety backup 2")
    assert f"restore that backup; {expiry[1]}; once" in done.data["facts"]["undo_terms"]
    looked = await agent.call("get_operation", operation_id=plan.operation)
    assert looked.data["facts"]["undo_terms"] == done.data["facts"]["undo_terms"]


@in_turns("day", {"the day before": "2026-11-20", "two days ahead": "2026-11-25"})
async def test_a_safety_backup_is_refused_with_the_true_reason_for_its_date(
    agent: Session, emulator: Emulator, put: Put, day: str
) -> None:
    put(1, hours=48)
    emulator.fail(Fault.rows({"created_at": f"{day}T00:00:00Z"}, backup_id=2), path="^/backups/$", times=None)
    plan = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    refused = await confirmed(agent, "restore_server", plan, server_id=SERVER, backup_id=1)
    assert (refused.code, "Made: safety backup 2." in refused.text) == ("policy_denied", True)
    assert ("dated in the future" if day > "2026-11-23" else "older than 1 h by now") in refused.text
    assert not emulator.fleet.restores


@in_turns("hours", {f"{hours} h": hours for hours in (2, 30, 24 * 300, -2, -24 * 300)})
async def test_a_wall_clock_that_is_wrong_makes_no_safety_backup_old(
    agent: Session, emulator: Emulator, clock: ManualClock, put: Put, hours: int
) -> None:
    """With ours ahead every restore was refused, and left one more backup behind."""
    put(1, hours=48)
    clock.step(hours=hours)
    plan = await agent.call("restore_server", server_id=SERVER, backup_id=1)
    done = await confirmed(agent, "restore_server", plan, server_id=SERVER, backup_id=1)
    assert (done.status, done.data["made"]) == ("accepted", "safety backup 2")
    assert (len(emulator.fleet.restores), sorted(emulator.fleet.backups)) == (1, [1, 2])


async def test_a_delete_says_in_plan_and_question_when_all_that_is_left_expires(
    emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings, put: Put
) -> None:
    """The only backup that lasts may go, if somebody is told what that means."""
    put(LASTING)
    put(ENDING, ends=25)
    asked: list[str] = []

    async def person(_: object, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    by = stamp(clock.now() + timedelta(hours=25))
    async with session(emulator, make_settings(), clock, era, elicitation_callback=person) as agent:
        plan = await agent.call("delete_backup", backup_id=LASTING)
        facts = plan.data["facts"]
        assert (facts["proven_backups_left"], facts["newest_proven_left"]) == (1, ENDING)
        assert facts["all_left_expire_by"] == by
        assert (await confirmed(agent, "delete_backup", plan, backup_id=LASTING)).code == "declined"
        other = await agent.call("delete_backup", backup_id=ENDING)
        assert "all_left_expire_by" not in other.data["facts"]
    (question,) = asked
    assert by in question
    assert emulator.count("DELETE") == 0


EXPIRIES: dict[str, tuple[int | None, int, int | None, bool]] = {
    "equals, one ends tomorrow": (25, 0, ENDING, False),
    "equals, one ends next year": (24 * 300, 0, ENDING, False),
    "the newer ends tomorrow": (25, 1, LASTING, True),
    "the newer ends next year": (24 * 300, 1, LASTING, True),
    "both last": (None, 1, LASTING, False),
    "the newer ends today": (23, 1, None, False),
}
"""In how many hours the newer ends, how many hours older the other is, which of them goes, and what is told."""


@in_turns("expiry", EXPIRIES)
async def test_a_prune_keeps_of_equals_what_lasts_and_says_when_all_that_is_left_expires(
    emulator: Emulator,
    clock: ManualClock,
    era: Era,
    make_settings: MakeSettings,
    put: Put,
    expiry: tuple[int | None, int, int | None, bool],
) -> None:
    newest_ends, hours_apart, goes, told = expiry
    put(LASTING, hours=48 + hours_apart)
    put(ENDING, hours=48, ends=newest_ends)
    asked: list[str] = []

    async def person(_: object, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"count": 1})

    rules = {"server_id": SERVER, "keep_last": 1}
    by = stamp(clock.now() + timedelta(hours=newest_ends or 0))
    async with session(emulator, make_settings(), clock, era, elicitation_callback=person) as agent:
        plan = await agent.call("prune_backups", **rules)
        assert [row["id"] for row in plan.data["to_delete"]] == ([goes] if goes else [])
        assert plan.data["facts"].get("all_left_expire_by") == (by if told else None)
        if goes:
            done = await confirmed(agent, "prune_backups", plan, **rules)
            assert (done.status, done.approved_by) == ("succeeded", "person")
            assert any(f"expire by {by}" in question for question in asked) is told
    assert set(emulator.fleet.backups) == {LASTING, ENDING} - {goes}


@in_turns(
    "goes",
    {
        "the newest of several that last": (2, False),
        "an older one": (3, False),
        "the last one that lasts": (2, True),
    },
)
async def test_a_delete_keeps_to_what_its_plan_told_of_what_is_left(
    agent: Session, emulator: Emulator, put: Put, goes: tuple[int, bool]
) -> None:
    """Its outcome told of a backup that was gone by then; and what somebody agreed to left one that lasts."""
    number, is_last = goes
    put(1, hours=40)
    put(2, hours=48)
    put(3, hours=60, ends=25 if is_last else None)
    plan = await agent.call("delete_backup", backup_id=1)
    assert plan.data["facts"]["newest_proven_left"] == 2
    del emulator.fleet.backups[number]
    done = await confirmed(agent, "delete_backup", plan, backup_id=1)
    left = 5 - number
    if is_last:
        assert done.code == "target_changed", done.text
        assert f"left expire by 2026-11-24T10:30Z, sooner than the plan {plan.operation}" in done.text
    else:
        assert (done.data["facts"]["proven_backups_left"], done.data["facts"]["newest_proven_left"]) == (1, left)
    assert sorted(emulator.fleet.backups) == ([1, 3] if is_last else [left])
    assert emulator.count("DELETE") == (0 if is_last else 1)


async def test_an_outcome_tells_when_all_that_is_left_expires(agent: Session, clock: ManualClock, put: Put) -> None:
    put(1, hours=40)
    put(2, hours=48, ends=30)
    put(3, hours=60, ends=35)
    plan = await agent.call("delete_backup", backup_id=1)
    done = await confirmed(agent, "delete_backup", plan, backup_id=1)
    told = {"all_left_expire_by": stamp(clock.now() + timedelta(hours=35)), "proven_backups_left": 2}
    assert plan.data["facts"].items() >= told.items()
    assert done.data["facts"].items() >= told.items()


async def test_a_prune_stops_where_what_is_left_lasts_no_longer(agent: Session, emulator: Emulator, put: Put) -> None:
    """The automatic one that lasts was told as left; without it all that is left expires."""
    rules = {"server_id": SERVER, "older_than_days": 1}
    put(1, hours=48)
    put(2, hours=72)
    put(3, hours=80, backup_type="automatic")
    put(4, hours=80, backup_type="automatic", ends=26)
    plan = await agent.call("prune_backups", **rules)
    assert [row["id"] for row in plan.data["to_delete"]] == [1, 2]
    assert "all_left_expire_by" not in plan.data["facts"]
    del emulator.fleet.backups[3]
    done = await confirmed(agent, "prune_backups", plan, **rules)
    assert (done.status, done.data["changed"]) == ("failed", "done")
    assert sorted(emulator.fleet.backups) == [1, 4]
    assert "sooner than the plan" in done.text
