"""Following an operation: how long it is looked after, and what is recorded of it."""

from typing import Any

import pytest

from mcp_backups.operations.desk import Desk
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.presence import Presence
from mcp_backups.operations.settle import LOOKS, follow, look_for_created, settle, supersede
from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.stage import ManualClock

from .made import operation

pytestmark = pytest.mark.anyio

DONE_ELSEWHERE = 999
"""A backup that VPS.org does not have."""


async def no_progress(*_: object) -> None:
    pass


@pytest.mark.parametrize(
    ("wait", "pauses"),
    [
        (0, []),
        (1, [1]),
        (10, [1, 1.5, 2.25, 3.375, 1.875]),
        (60, [1, 1.5, 2.25, 3.375, 5, 5, 5, 5, 5, 5, 5, 0.875]),
    ],
)
async def test_it_is_looked_less_and_less_often_and_for_44_seconds_at_most(
    desk: Desk, clock: ManualClock, wait: float, pauses: list[float]
) -> None:
    told = await follow(
        desk.for_a_call(), operation(status="unknown", backup_id=501, sent=clock.moment()), wait, no_progress
    )
    assert told.operation.status == "unknown"
    assert clock.slept == pytest.approx(pauses)


@pytest.mark.parametrize(
    ("action", "status", "backup_id", "alive", "waits"),
    [
        ("delete_backup", "unknown", 501, False, True),
        ("delete_backup", "unknown", DONE_ELSEWHERE, False, False),
        ("delete_backup", "accepted", 501, False, True),
        ("delete_backup", "accepted", DONE_ELSEWHERE, False, False),
        ("delete_backup", "sending", 501, True, True),
        ("delete_backup", "planned", 501, False, False),
        ("restore_server", "sending", 501, True, True),
        ("restore_server", "sending", 501, False, False),
        ("restore_server", "accepted", 501, False, False),
        ("restore_server", "unknown", 501, False, False),
        ("restore_server", "preparing", 501, False, False),
    ],
)
async def test_there_is_waiting_only_for_what_waiting_can_tell(
    desk: Desk, clock: ManualClock, action: str, status: str, backup_id: int, alive: bool, waits: bool
) -> None:
    other = Presence(desk.settings.state_dir)
    sent: dict[str, Any] = {} if status in {"planned", "preparing"} else {"sent": clock.moment()}
    known = operation(action, status, backup_id=backup_id, created=clock.moment(), **sent)
    with other.at_work(known.id) as owner:
        known = await desk.record(known.but(owner=owner if alive else "0" * 16))
        await follow(desk, known, 2, no_progress)
    other.leave()
    assert bool(clock.slept) is waits


@pytest.mark.parametrize(
    ("held", "status", "waits"), [("in_progress", "accepted", True), ("completed", "succeeded", False)]
)
async def test_a_restore_waits_for_its_safety_backup(
    desk: Desk, emulator: Emulator, clock: ManualClock, held: str, status: str, waits: bool
) -> None:
    emulator.fleet.backups[501].status = held
    safety = await desk.record(operation("create_backup", "accepted", backup_id=501, sent=clock.moment()))
    restore = operation("restore_server", "preparing", safety_operation=safety.id, created=clock.moment())
    told = await follow(desk, restore, 2, no_progress)
    assert told.safety is not None
    assert (told.safety.status, bool(clock.slept)) == (status, waits)


async def test_a_plan_that_is_over_is_recorded_as_expired(desk: Desk, clock: ManualClock) -> None:
    plan = await desk.record(operation(created=clock.moment()))
    clock.advance(minutes=10)
    assert (await settle(desk, plan)).operation.status == "expired"
    recorded = await desk.ledger.read(lambda entries: entries.get(plan.id))
    assert recorded is not None
    assert recorded.status == "expired"


async def test_what_was_recorded_meanwhile_stands(desk: Desk) -> None:
    before = await desk.record(operation(status="unknown"))
    meanwhile = await desk.record(before.but(status="succeeded"))

    async def told(after: Operation) -> Operation:
        return await desk.ledger.write(lambda entries: supersede(entries, before, after))

    assert await told(before.but(status="failed")) == meanwhile
    assert await desk.ledger.read(lambda entries: entries.get(before.id)) == meanwhile


async def test_what_is_not_in_the_ledger_yet_is_recorded(desk: Desk) -> None:
    before = operation(status="unknown")
    after = before.but(status="failed")
    assert await desk.ledger.write(lambda entries: supersede(entries, before, after)) == after
    assert await desk.ledger.read(lambda entries: entries.get(before.id)) == after


async def test_a_backup_that_may_have_been_started_is_looked_for_a_few_times(desk: Desk, clock: ManualClock) -> None:
    asked = operation("create_backup", "sending", sent=clock.moment())
    assert await look_for_created(desk, asked) == asked
    assert clock.slept == list(LOOKS)


async def test_after_a_look_that_failed_it_is_looked_again(desk: Desk, emulator: Emulator, clock: ManualClock) -> None:
    asked = operation("create_backup", "sending", sent=clock.moment())
    made = Backup(900, 12345, clock.now(), "manual", size_mb=100, description=f"[{asked.id}]")
    emulator.fleet.backups[900] = made
    emulator.fail(Fault.status(401), method="GET")
    found = await look_for_created(desk, asked)
    assert (found.backup_id, found.status) == (900, "succeeded")
    assert emulator.count("GET") == 2
