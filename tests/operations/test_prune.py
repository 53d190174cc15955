"""What a prune makes of each backup: the keep rules first, then the operator's rules, then the budget."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest

from mcp_backups.actions.deletes import execute_prune, outcome
from mcp_backups.actions.prune import facts, prune
from mcp_backups.errors import BudgetExhaustedError, BusyError, NotFoundError, PolicyDeniedError
from mcp_backups.ledger import ledger_for
from mcp_backups.models import Backup, Listing
from mcp_backups.operations import Context, Entries, Result
from mcp_backups.operations.operation import DeleteDetails, Operation, PruneDetails, PruneItem, new_id
from mcp_backups.operations.policy import Doubt, Inventory, judge_all
from mcp_backups.retention import Keep
from mcp_backups.sandbox import Backup as Held
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from tests.stage import PROMPT, ManualClock

from .made import Nobody, facts_of, operation, spoil_a_row, under

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def made(number: int, **fields: Any) -> Backup:
    """A good manual backup; the higher its number, the older."""
    known: dict[str, Any] = {
        "server_id": 1,
        "server_name": "web",
        "type": "manual",
        "status": "completed",
        "size_mb": 10.0,
        "created_at": NOW - timedelta(days=number),
        "expires_at": None,
        "description": "",
    }
    return Backup(id=number, **known | fields)


def judged(
    *backups: Backup,
    keep: Keep | None = None,
    made_here: tuple[int, ...] = (),
    doubtful: Mapping[int, Doubt] = MappingProxyType({}),
    **rules: Any,
) -> tuple[PruneItem, ...]:
    inventory = Inventory(Listing(backups), made_here, NOW, doubtful)
    return judge_all(Settings(**rules), inventory, 1, keep or Keep(last=1))


def fates(items: tuple[PruneItem, ...]) -> str:
    """`k` for each that is kept, `d` deleted, `a` left alone; newest first."""
    return "".join("a" if item.fate == "leave" else item.fate[0] for item in items)


FIVE = tuple(made(number) for number in range(1, 6))

TABLE: list[tuple[dict[str, Any], str]] = [
    ({}, "kdddd"),
    ({"keep": Keep(last=3)}, "kkkdd"),
    ({"keep": Keep(last=1, daily=2)}, "kkddd"),
    ({"keep": Keep(last=9)}, "kkkkk"),
    ({"keep": Keep(older_than_days=3)}, "kkddd"),
    ({"keep": Keep(last=4, older_than_days=3)}, "kkkkd"),
    ({"keep": Keep(older_than_days=1), "keep_min": 2}, "kkddd"),
    ({"keep_min": 0}, "kdddd"),
    ({"keep_min": 3}, "kkkdd"),
    ({"keep_min": 5}, "kkkkk"),
    ({"keep_min": 9}, "kkkkk"),
    ({"protected_backups": {3}}, "kdkdd"),
    ({"protected_servers": {1}}, "kkkkk"),
    ({"made_here": (1,)}, "kkddd"),
    ({"made_here": (1, 2, 3, 4, 5), "keep_min": 1}, "kkkkk"),
]


@pytest.mark.parametrize(("given", "expected"), TABLE, ids=lambda each: str(each)[:50])
def test_of_five_backups_a_day_apart(given: dict[str, Any], expected: str) -> None:
    assert fates(judged(*FIVE, **given)) == expected


ONE_OF_FIVE: list[tuple[dict[str, Any], str, str]] = [
    ({"keep": True}, "keep", "Backup 3 is marked to be kept."),
    ({"status": "in_progress", "size_mb": None}, "leave", "in progress"),
    ({"size_mb": None}, "leave", "size unknown"),
    ({"expires_at": NOW + timedelta(hours=1)}, "leave", "expires by itself"),
    ({"status": "failed", "size_mb": None}, "delete", ""),
    ({"size_mb": 0.0}, "delete", ""),
    ({}, "delete", ""),
]


@pytest.mark.parametrize(("fields", "fate", "reason"), ONE_OF_FIVE, ids=str)
def test_what_is_special_about_one_decides_about_that_one(fields: dict[str, Any], fate: str, reason: str) -> None:
    items = judged(*FIVE[:2], made(3, **fields), *FIVE[3:])
    (item,) = [item for item in items if item.backup.id == 3]
    assert (item.fate, item.reason) == (fate, reason)


def test_automatic_backups_and_those_of_other_servers_are_not_in_a_plan() -> None:
    items = judged(made(1), made(2, type="automatic"), made(3, server_id=2), made(4, type="imported"), made(5))
    assert [item.backup.id for item in items] == [1, 5]


def test_an_automatic_backup_counts_as_one_that_stays() -> None:
    """What must stay on a server is good backups, whoever made them; no keep rule looks at them."""
    unsure = made(1, status="failed")
    assert fates(judged(unsure, made(2), made(3), keep=Keep(last=1), keep_min=2)) == "dkk"
    assert fates(judged(unsure, made(2), made(3), made(4, type="automatic"), keep=Keep(last=1), keep_min=2)) == "dkd"


def test_the_plan_is_newest_first_in_whatever_order_the_list_comes() -> None:
    items = judged(*(FIVE[index] for index in (3, 0, 4, 2, 1)))
    assert [item.backup.id for item in items] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("doubt", ["being_deleted", "doubtful"])
def test_one_whose_deletion_may_still_come_takes_up_no_place_and_is_left_alone(doubt: Doubt) -> None:
    """Else it would be kept by the rule, and the one that is there would go."""
    items = judged(*FIVE, doubtful={1: doubt})
    assert fates(items) == "akddd"
    assert [item.reason for item in items[:2]] == ["its deletion was sent before", "keep-last 1"]
    assert fates(judged(*FIVE, doubtful={5: doubt})) == "kddda"
    assert fates(judged(*FIVE, doubtful={5: doubt}, keep_min=4)) == "kkkka"


def test_there_is_nothing_to_judge_on_a_server_without_manual_backups() -> None:
    assert judged(made(1, type="automatic")) == ()


WEB = 12345
MADE_BY_HAND = (499, 497, 496)
"""Manual backups of the web server that the emulator is seeded with here, the newest first."""


@pytest.fixture
def three(emulator: Emulator, clock: ManualClock) -> None:
    """The web server has three manual backups, a day apart, beside its automatic ones."""
    for each in list(emulator.fleet.backups_of(WEB)):
        if each.backup_type == "manual":
            emulator.fleet.delete_backup(each.id)
    for days, number in enumerate(MADE_BY_HAND, start=2):
        emulator.fleet.backups[number] = Held(
            number, WEB, clock.now() - timedelta(days=days), backup_type="manual", size_mb=100
        )


class Reports:
    """What a waiting caller was told."""

    def __init__(self) -> None:
        self.progress: list[tuple[float, float, str]] = []

    async def __call__(self, so_far: float, of: float, what: str) -> None:
        self.progress.append((so_far, of, what))


ASKED: dict[str, Any] = {
    "can_show": lambda _context, _plan: True,
    "confirm": False,
    "operation_id": "",
    "person": Nobody(),
    "report": Reports(),
}


async def pruned(context: Context, plan: str = "", told: Reports | None = None) -> Operation:
    keep = Keep(last=1)
    answer = await prune(
        context, WEB, keep, **ASKED | {"confirm": bool(plan), "operation_id": plan, "report": told or Reports()}
    )
    return answer.operation


async def test_a_plan_that_may_not_be_is_recorded_as_refused_with_the_reason(
    context: Context, emulator: Emulator
) -> None:
    emulator.fail(Fault.edited(spoil_a_row), method="GET")
    with pytest.raises(PolicyDeniedError) as refusal:
        await pruned(context)
    assert "it cannot be shown that server 12345 would keep" in refusal.value.what
    (refused,) = await context.ledger.read(lambda entries: entries.find())
    assert (refused.action, refused.status, refused.server_id) == ("prune_backups", "refused", WEB)
    assert (refused.error_code, refused.error) == ("policy_denied", refusal.value.what)
    assert facts(Result(refused), context.now) == {}


async def test_a_server_that_there_is_not_is_not_pruned(context: Context) -> None:
    with pytest.raises(NotFoundError) as refusal:
        await prune(context, 4711, Keep(last=1), **ASKED)
    assert refusal.value.what == "VPS.org has no server 4711."
    assert refusal.value.next_step == "Call check_backups to see every server."


@pytest.mark.parametrize("where", [WEB, 12346])
async def test_only_its_own_server_must_be_open_for_a_prune_to_be_planned(
    context: Context, clock: ManualClock, where: int
) -> None:
    unknown = operation("create_backup", "unknown", server_id=where, sent=clock.moment())
    await context.record(unknown)
    if where == WEB:
        with pytest.raises(PolicyDeniedError, match=unknown.id):
            await pruned(context)
    else:
        assert (await pruned(context)).status == "planned"


@pytest.mark.usefixtures("three")
async def test_only_deletes_count_against_the_budget_and_a_used_one_leaves_no_plan(
    context: Context, clock: ManualClock
) -> None:
    tight = under(context, deletes_per_hour=1)
    await context.record(operation("restore_server", "succeeded", server_id=12346, sent=clock.moment()))
    plan = await pruned(tight)
    assert [item.fate for item in plan.of(PruneDetails).items] == ["keep", "later", "delete"]
    await context.record(operation(status="succeeded", server_id=12346, sent=clock.moment()))
    with pytest.raises(BudgetExhaustedError, match="1 delete within an hour is used up"):
        await pruned(tight)


async def test_where_there_is_nothing_to_delete_no_budget_is_asked_for(context: Context) -> None:
    told = await prune(under(context, deletes_per_hour=0), 12360, Keep(last=1), **ASKED)
    assert (told.operation.status, told.operation.server_name) == ("succeeded", "staging-01")


@pytest.mark.usefixtures("three")
async def test_every_step_of_a_prune_and_of_its_deletes_is_recorded_and_told(context: Context) -> None:
    told = Reports()
    plan = await pruned(context)
    done = await pruned(context, plan.id, told)
    assert (done.status, done.evidence) == ("succeeded", "each is absent from the complete list")
    assert told.progress == [
        (1, 2, f"{plan.id}: 1 of 2 backups tried"),
        (2, 2, f"{plan.id}: 2 of 2 backups tried"),
    ]

    def read(entries: Entries) -> tuple[list[str], list[Operation]]:
        return [event.status for event in entries.events(plan.id)], entries.find(action="delete_backup")

    events, deletes = await context.ledger.read(read)
    assert events == ["approved", "preparing", "succeeded"]
    kept, *gone = done.of(PruneDetails).items
    assert kept.operation_id == ""
    assert [each.id for each in deletes] == [item.operation_id for item in gone]
    for each, number in zip(deletes, MADE_BY_HAND[1:], strict=True):
        assert each.arguments == {"server_id": WEB, "backup_id": number}
        assert (each.server_name, facts_of(each)) == ("web-server-01", {"part_of": plan.id})
        assert (each.approved_by, each.credential) == ("plan", context.api.credential)


@pytest.mark.usefixtures("three")
async def test_a_prune_whose_deletes_are_not_seen_to_be_done_is_only_accepted(
    context: Context, emulator: Emulator
) -> None:
    plan = await pruned(context)
    emulator.fail(Fault.status(202, {"detail": "Later."}), method="DELETE", times=None)
    done = await pruned(context, plan.id)
    assert (done.status, done.evidence) == ("accepted", "VPS.org said yes, and not all have been seen to be gone")


@pytest.mark.usefixtures("three")
async def test_a_prune_keeps_what_its_rules_would_keep_by_then_and_tells_what_was_gone_already(
    context: Context, emulator: Emulator
) -> None:
    plan = await pruned(context)
    for number in MADE_BY_HAND[:2]:
        emulator.fleet.delete_backup(number)
    done = await pruned(context, plan.id)
    assert (done.status, done.changed) == ("failed", "nothing")
    found = [await context.find(item.operation_id) for item in done.of(PruneDetails).items[1:]]
    deletes = [each for each in found if each]
    assert [(each.backup_id, outcome(each), each.error) for each in deletes] == [
        (497, "gone", f"Backup 497 is gone since the plan {plan.id} was made."),
        (496, "not deleted", "Backup 496 would be kept by now (keep-last 1), unlike when the plan was made."),
    ]
    assert deletes[1].advice == "Call again without operation_id for a new plan."
    assert {(each.policy, each.principal, each.of(DeleteDetails).part_of) for each in deletes} == {
        (plan.policy, plan.principal, plan.id)
    }
    assert emulator.count("DELETE") == 0


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("seconds", "status", "deletes"), [(15, "succeeded", 2), (15.1, "preparing", 0)])
async def test_a_delete_is_begun_only_where_a_call_has_time_for_all_of_it(
    context: Context, emulator: Emulator, clock: ManualClock, seconds: float, status: str, deletes: int
) -> None:
    plan, call = await pruned(context), context.for_a_call()
    clock.advance(seconds=seconds)
    assert ((await pruned(call, plan.id)).status, emulator.count("DELETE")) == (status, deletes)


@pytest.mark.usefixtures("three")
async def test_a_prune_that_a_living_process_is_at_is_busy_and_one_of_a_dead_process_is_taken_up(
    context: Context, clock: ManualClock
) -> None:
    plan = await pruned(context)
    other = ledger_for(context.settings, Operation, clock.clock).liveness
    async with other.at_work(plan.id) as owner:
        items = tuple(
            item.model_copy(update={"operation_id": new_id() if item.fate == "delete" else ""})
            for item in plan.of(PruneDetails).items
        )
        begun = plan.updated(status="preparing", approved_by="plan", owner=owner, sent=clock.moment(), items=items)
        await context.record(begun)
        with pytest.raises(BusyError) as busy:
            await pruned(context, plan.id)
    other.leave()
    assert busy.value.what == f"Another call is carrying out {plan.id}."
    assert busy.value.next_step == f"Call get_operation(operation_id={plan.id!r})."
    assert (await pruned(context, plan.id)).status == "succeeded"


@pytest.mark.usefixtures("three")
async def test_a_prune_that_waits_for_its_next_call_is_gone_on_with_by_any_process(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    plan, call = await pruned(context), context.for_a_call()
    clock.advance(seconds=15.1)
    assert (await pruned(call, plan.id)).status == "preparing"
    async with open_idle_context(context.settings, clock.clock, PROMPT) as other:
        assert (await pruned(other, plan.id)).status == "succeeded"
    assert emulator.count("DELETE") == 2


async def test_a_prune_that_another_call_has_ended_meanwhile_is_not_taken_up(
    context: Context, clock: ManualClock
) -> None:
    before = operation("prune_backups", "preparing", created=clock.moment())
    ended = await context.record(before.updated(status="succeeded", evidence="each is absent"))
    told = await execute_prune(Reports(), context, before, "plan")
    assert (told.operation, told.replayed) == (ended, True)
