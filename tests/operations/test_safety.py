"""The way back that a restore waits for: made once, and no restore without it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest

from mcp_backups.actions import restore as restoring
from mcp_backups.actions.safety import prepare
from mcp_backups.errors import BusyError, ConflictError, PolicyDeniedError
from mcp_backups.ledger import Ledger
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations import Context, Entries, Observation, RestoreDetails, observe
from mcp_backups.operations import Result as Told
from mcp_backups.operations.operation import Arguments, Operation
from mcp_backups.operations.policy import Inventory
from mcp_backups.sandbox import Backup as Held
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import NOW, ManualClock

from .made import AT_ONCE, MOMENT, as_recorded, backup, operation, under

pytestmark = pytest.mark.anyio

Result = TypeVar("Result")

GAP = (Gap("1 row could not be read"),)
RESTORE: Arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": True}
MADE = backup(777, hours=0.1)
NORMAL: dict[str, Any] = {}


async def prepared(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    status: str = "succeeded",
    held: dict[str, Any] | None = NORMAL,
) -> Operation:
    """A restore whose safety backup has come so far; `held` is what VPS.org lists of that, None for nothing."""
    if held is not None:
        emulator.fleet.backups[777] = Held(777, 12345, clock.now(), "manual", **{"size_mb": 100} | held)
    safety = operation("create_backup", status, backup_id=777, backup=MADE, sent=clock.moment())
    await context.record(safety)
    restore = operation("restore_server", "preparing", arguments=RESTORE, created=clock.moment())
    return await context.record(restore.updated(safety_operation=safety.id))


def sight(*rows: Backup, missing: tuple[Gap, ...] = ()) -> Observation:
    return Observation(backup(499), Inventory(Listing(rows, missing), (), NOW), 0)


@pytest.mark.parametrize(
    ("status", "seen", "goes_on"),
    [
        ("succeeded", sight(backup(499), MADE), True),
        ("succeeded", sight(backup(499), MADE, missing=GAP), True),
        ("succeeded", sight(backup(499), missing=GAP), False),
        ("accepted", sight(backup(499), MADE), True),
        ("failed", sight(backup(499), MADE), True),
        ("sending", sight(backup(499), MADE), True),
    ],
)
async def test_a_restore_goes_on_once_its_safety_backup_is_finished_and_seen(
    context: Context, emulator: Emulator, clock: ManualClock, status: str, seen: Observation, goes_on: bool
) -> None:
    """Whatever it was known as before: what the list shows by now counts."""
    waits_for = await prepare(AT_ONCE, 0.0, context, await prepared(context, emulator, clock, status), "plan", seen)
    assert (waits_for is None) is goes_on


UNSIZED: dict[str, Any] = {"size_mb": None}
EMPTY: dict[str, Any] = {"size_mb": 0}


@pytest.mark.parametrize(
    ("status", "held", "minutes", "became"),
    [
        ("accepted", None, 29.9, "waits"),
        ("accepted", None, 30, "failed"),
        ("succeeded", None, 29.9, "waits"),
        ("succeeded", None, 30, "refused"),
        ("accepted", UNSIZED, 29.9, "waits"),
        ("accepted", UNSIZED, 30, "refused"),
        ("accepted", EMPTY, 29.9, "waits"),
        ("accepted", EMPTY, 30, "failed"),
        ("accepted", {"expires_at": NOW}, 0, "refused"),
        ("accepted", {"status": "failed"}, 0, "failed"),
        ("accepted", {"status": "queued"}, 60, "waits"),
    ],
)
async def test_no_restore_goes_on_without_its_safety_backup_nor_dies_while_the_list_may_lag_behind(
    context: Context, emulator: Emulator, clock: ManualClock, status: str, held: dict[str, Any] | None, minutes: float,
    became: str,
) -> None:  # fmt: skip
    restore = await prepared(context, emulator, clock, status, held)
    clock.advance(minutes=minutes)
    seen = await observe(context, RESTORE)
    if became == "refused":
        with pytest.raises(PolicyDeniedError) as refusal:
            await prepare(AT_ONCE, 0.0, context, restore, "plan", seen)
        assert refusal.value.what == (
            "The safety backup 777 is empty, expired, no longer there or just being deleted, so nothing is restored."
        )
        assert refusal.value.next_step == "Call again without operation_id for a new plan."
        return
    told = await prepare(AT_ONCE, 0.0, context, restore, "plan", seen)
    assert told is not None
    assert told.safety is not None
    expected = ("preparing", "accepted") if became == "waits" else ("failed", "failed")
    assert (told.operation.status, told.safety.status) == expected


async def test_no_restore_goes_on_with_a_safety_backup_that_is_dated_in_the_future(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    restore = await prepared(context, emulator, clock, "accepted")
    emulator.fleet.backups[777].created_at += timedelta(days=2)
    with pytest.raises(PolicyDeniedError, match="777 is dated in the future, so nobody knows what it holds"):
        await prepare(AT_ONCE, 0.0, context, restore, "plan", await observe(context, RESTORE))
    assert emulator.count("POST") == 0


async def test_a_list_that_lags_between_two_looks_makes_a_restore_wait(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    restore = await prepared(context, emulator, clock)
    assert await prepare(AT_ONCE, 0.0, context, restore, "plan", sight(backup(499))) is not None
    clock.advance(minutes=30)
    with pytest.raises(PolicyDeniedError):
        await prepare(AT_ONCE, 0.0, context, restore, "plan", sight(backup(499)))


async def test_a_safety_backup_is_made_by_the_name_of_one_and_every_step_recorded(
    context: Context, emulator: Emulator
) -> None:
    seen = await observe(context, RESTORE)
    plan = await context.record(restoring.draft(context, RESTORE, seen))
    told = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert told is not None
    assert (told.operation.status, told.operation.approved_by) == ("preparing", "plan")
    assert told.safety is not None
    assert emulator.fleet.backups[502].description == f"Safety backup before a restore [{told.safety.id}]"
    events = await context.ledger.read(lambda entries: [event.status for event in entries.events(plan.id)])
    assert events == ["approved", "preparing"]
    assert (told.safety.backup_id, told.operation.of(RestoreDetails).safety_operation) == (502, told.safety.id)


@pytest.mark.parametrize(("wanted", "recent"), [(False, False), (True, True)])
async def test_none_is_made_where_none_is_wanted_or_one_is_there(
    context: Context, emulator: Emulator, clock: ManualClock, wanted: bool, recent: bool
) -> None:
    if recent:
        emulator.fleet.backups[900] = Held(900, 12345, clock.now() - timedelta(minutes=5), size_mb=100)
    arguments = RESTORE | {"safety_backup": wanted}
    seen = await observe(context, arguments)
    plan = await context.record(restoring.draft(context, arguments, seen))
    assert await prepare(AT_ONCE, 0.0, context, plan, "plan", seen) is None
    assert emulator.count("POST") == 0


SAFETY: Arguments = {"server_id": 12345, "description": "Safety backup before a restore"}


async def a_plan(context: Context) -> tuple[Operation, Observation]:
    seen = await observe(context, RESTORE)
    return await context.record(restoring.draft(context, RESTORE, seen)), seen


async def test_a_safety_backup_that_another_restore_has_asked_for_is_waited_for_and_none_is_made(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.fleet.backups[501].status = "in_progress"
    under_way = operation("create_backup", "accepted", arguments=SAFETY, backup_id=501, sent=clock.moment())
    await context.record(under_way)
    plan, seen = await a_plan(context)
    told = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert told is not None
    assert told.safety is not None
    assert (told.operation.status, told.operation.of(RestoreDetails).safety_operation) == ("preparing", under_way.id)
    assert (told.safety.id, emulator.count("POST")) == (under_way.id, 0)


async def test_where_another_call_has_begun_with_the_same_plan_its_safety_backup_is_waited_for(
    context: Context, emulator: Emulator
) -> None:
    plan, seen = await a_plan(context)
    first = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    second = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert first is not None
    assert second is not None
    assert second.operation == first.operation == await as_recorded(context, plan)
    assert emulator.count("POST") == 1


@pytest.mark.parametrize("status", ["declined", "refused", "sending", "failed"])
async def test_where_the_plan_is_no_longer_open_no_safety_backup_is_made(
    context: Context, emulator: Emulator, status: str
) -> None:
    plan, seen = await a_plan(context)
    async with context.liveness.at_work(plan.id) as owner:
        over = await context.record(plan.updated(status=status, owner=owner))
        told = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert told is not None
    assert (told.operation, told.safety, emulator.count("POST")) == (over, None, 0)


async def test_while_a_safety_backup_is_asked_for_the_process_is_known_to_be_at_it(
    context: Context, emulator: Emulator
) -> None:
    """Else another call would take it for left behind, and look for it while it is only being sent."""
    plan, seen = await a_plan(context)
    at_it: list[bool] = []

    def note(started: dict[str, str]) -> None:
        operation_id = started["description"].rpartition("[")[2].rstrip("]")
        at_it.append(context.liveness.is_here(operation_id))

    emulator.fail(Fault.edited(note), method="POST")
    await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert at_it == [True]


async def test_a_restore_whose_safety_backup_is_refused_has_failed_with_the_reason_on_record(
    context: Context, emulator: Emulator
) -> None:
    plan, seen = await a_plan(context)
    emulator.fail(Fault.status(409, {"detail": "No."}), method="POST")
    with pytest.raises(ConflictError) as refusal:
        await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    failed = await as_recorded(context, plan)
    why = refusal.value
    assert failed.status == "failed"
    assert (failed.error_code, failed.error, failed.advice) == (why.code, why.what, why.next_step)


async def test_a_restore_that_may_not_begin_because_its_server_is_closed_is_still_only_a_plan(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    plan, seen = await a_plan(context)
    await context.record(operation(status="unknown", sent=clock.moment()))
    with pytest.raises(PolicyDeniedError, match="not known yet"):
        await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert (await as_recorded(context, plan), emulator.count("POST")) == (plan, 0)


async def test_a_safety_backup_of_which_nothing_is_known_is_waited_for(context: Context, emulator: Emulator) -> None:
    plan, seen = await a_plan(context)
    emulator.fail(Fault.reset_after(apply=False), method="POST")
    told = await prepare(AT_ONCE, 0.0, context, plan, "plan", seen)
    assert told is not None
    assert told.safety is not None
    assert (told.operation.status, told.safety.status) == ("preparing", "unknown")


SENT: dict[str, Any] = {"action": "restore_server", "status": "accepted", "arguments": RESTORE}


@pytest.mark.parametrize(
    ("made", "restored", "is_shared"),
    [
        ({}, None, True),
        ({"status": "succeeded"}, None, False),
        ({"backup_id": 499}, None, False),
        ({}, {"minutes": -1}, False),
        ({}, {"minutes": 0}, True),
        ({}, {"minutes": 1}, True),
        ({}, {"minutes": -1, "server_id": 12346}, True),
        ({}, {"minutes": -1, "action": "delete_backup"}, True),
        ({}, {"minutes": -1, "status": "failed"}, True),
        ({}, {"sent": None}, True),
    ],
)
async def test_a_safety_backup_is_shared_unless_it_is_over_or_older_than_another_restore(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    made: dict[str, Any],
    restored: dict[str, Any] | None,
    is_shared: bool,
) -> None:
    """`minutes`: how long before the safety backup the other restore was sent."""
    emulator.fleet.backups[501].status = "in_progress"
    clock.advance(minutes=5)
    known: dict[str, Any] = {"status": "accepted", "arguments": SAFETY, "backup_id": 501, "sent": clock.moment()}
    known |= {"created": clock.moment()}
    await context.record(operation("create_backup", **known | made))
    if restored is not None:
        minutes = restored.get("minutes", 0)
        sent = MOMENT.model_copy(
            update={"wall": clock.now() - timedelta(minutes=minutes), "ticks": clock.ticks() - 60 * minutes}
        )
        fields = {name: value for name, value in restored.items() if name != "minutes"}
        await context.record(operation(**SENT | {"sent": sent} | fields))
    clock.advance(minutes=2)
    freely = under(context, restores_per_hour=9)
    plan, seen = await a_plan(freely)
    told = await prepare(AT_ONCE, 0.0, freely, plan, "plan", seen)
    assert told is not None
    assert emulator.count("POST") == (0 if is_shared else 1)


@pytest.mark.parametrize(("minutes", "is_late"), [(-1, False), (0, False), (1, True)])
async def test_a_restore_that_was_sent_since_its_safety_backup_forbids_another(
    context: Context, emulator: Emulator, clock: ManualClock, minutes: float, is_late: bool
) -> None:
    clock.advance(minutes=5)
    restore = await prepared(context, emulator, clock)
    other = MOMENT.model_copy(
        update={"wall": clock.now() + timedelta(minutes=minutes), "ticks": clock.ticks() + 60 * minutes}
    )
    clock.advance(minutes=2)
    seen = sight(backup(499), MADE)
    seen = seen._replace(inventory=replace(seen.inventory, restored=other))
    if not is_late:
        assert await prepare(AT_ONCE, 0.0, context, restore, "plan", seen) is None
        return
    with pytest.raises(PolicyDeniedError) as refusal:
        await prepare(AT_ONCE, 0.0, context, restore, "plan", seen)
    assert refusal.value.what == (
        "Another restore was sent since the safety backup 777 was asked for, which does not hold what that made of the "
        "server."
    )
    assert refusal.value.next_step == "Call again without operation_id for a new plan."


class DeafLedger:
    """The ledger, which can be written, and no longer read once something was accepted."""

    def __init__(self, ledger: Ledger[Operation]) -> None:
        self._ledger, self._is_deaf = ledger, False

    async def write(self, work: Callable[[Entries], Result]) -> Result:
        result = await self._ledger.write(work)
        self._is_deaf = isinstance(result, Operation) and result.status == "accepted"
        return result

    async def read(self, work: Callable[[Entries], Result]) -> Result:
        if self._is_deaf:
            raise BusyError("Other calls are waiting for the ledger.", "Wait.")
        return await self._ledger.read(work)


async def test_a_safety_backup_that_was_started_is_told_of_though_the_ledger_cannot_be_read_afterwards(
    context: Context, emulator: Emulator
) -> None:
    plan, seen = await a_plan(context)
    deaf = replace(context, ledger=cast("Ledger[Operation]", DeafLedger(context.ledger)))
    with pytest.raises(BusyError) as told:
        await prepare(AT_ONCE, 0.0, deaf, plan, "plan", seen)
    error = told.value
    assert (error.what, error.next_step, error.changed) == (
        "Other calls are waiting for the ledger.",
        "Wait.",
        "nothing",
    )
    assert "The server was not changed. Made: safety backup, by op_" in str(error)
    assert emulator.count("POST") == 1


@pytest.mark.parametrize(
    ("status", "backup_id", "told"),
    [("failed", 0, ""), ("failed", 777, "safety backup 777"), ("accepted", 777, "safety backup 777")],
)
async def test_only_a_safety_backup_that_was_made_is_told_as_made(
    clock: ManualClock, status: str, backup_id: int, told: str
) -> None:
    safety = operation("create_backup", status, backup_id=backup_id, sent=clock.moment())
    restore = operation("restore_server", "preparing", arguments=RESTORE, created=clock.moment())
    restore = restore.updated(safety_operation=safety.id)
    assert restoring.made(Told(restore, safety=safety)) == told
    assert restoring.made(Told(restore)) == f"a safety backup, by {safety.id}"


@pytest.mark.parametrize(("status", "perhaps", "until"), [("unknown", "perhaps ", "10:00"), ("accepted", "", "10:30")])
async def test_what_to_do_about_a_safety_backup_that_is_not_known_yet_has_an_end(
    clock: ManualClock, status: str, perhaps: str, until: str
) -> None:
    safety = operation("create_backup", status, backup_id=0, sent=clock.moment())
    restore = operation("restore_server", "preparing", arguments=RESTORE, created=clock.moment())
    told = Told(restore.updated(safety_operation=safety.id), safety=safety)
    assert restoring.made(told) == f"{perhaps}a safety backup, by {safety.id}"
    assert f"2026-11-23T{until}Z" in restoring.next_step(told, NOW)
    assert ("tell the user" in restoring.next_step(told, NOW)) is bool(perhaps)


async def test_a_restore_that_was_begun_long_ago_ends_before_its_safety_backup_is_too_old(clock: ManualClock) -> None:
    restore = operation("restore_server", "preparing", arguments=RESTORE, created=clock.moment())
    clock.advance(minutes=90)
    safety = operation("create_backup", "accepted", backup_id=777, sent=clock.moment())
    told = Told(restore.updated(safety_operation=safety.id), safety=safety)
    assert "before 2026-11-23T11:30Z" in restoring.next_step(told, clock.now())
