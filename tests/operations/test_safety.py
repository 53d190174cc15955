"""The way back that a restore waits for: made once, and no restore without it."""

from datetime import timedelta

import pytest

from mcp_backups.errors import PolicyDeniedError
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.operation import Arguments, Operation
from mcp_backups.operations.plan import Sight, look, planned
from mcp_backups.operations.policy import Holdings
from mcp_backups.operations.safety import safety_backup_id, wait_for_safety
from mcp_backups.sandbox import Backup as Held
from mcp_backups.sandbox import Emulator
from tests.stage import NOW, ManualClock

from .made import backup, operation

pytestmark = pytest.mark.anyio

GAP = ("1 row could not be read",)
RESTORE: Arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": True}
MADE = backup(777, hours=0.1)


async def prepared(desk: Desk, clock: ManualClock, status: str = "succeeded", made: Backup | None = MADE) -> Operation:
    """A restore whose safety backup has come so far."""
    safety = operation("create_backup", status, backup_id=777, backup=made, sent=clock.moment())
    await desk.record(safety)
    restore = operation("restore_server", "preparing", arguments=RESTORE, created=clock.moment())
    return await desk.record(restore.but(safety_operation=safety.id))


def sight(*rows: Backup, missing: tuple[str, ...] = ()) -> Sight:
    return Sight(backup(499), Holdings(Listing(rows, missing), (), NOW), None, 0)


@pytest.mark.parametrize(
    ("status", "seen", "goes_on"),
    [
        ("succeeded", sight(backup(499), MADE), True),
        ("succeeded", sight(backup(499), MADE, missing=GAP), True),
        ("succeeded", sight(backup(499), missing=GAP), False),
        ("failed", sight(backup(499), MADE), False),
        ("sending", sight(backup(499), MADE), False),
    ],
)
async def test_a_restore_goes_on_once_its_safety_backup_is_finished_and_seen(
    desk: Desk, clock: ManualClock, status: str, seen: Sight, goes_on: bool
) -> None:
    waits_for = await wait_for_safety(desk, await prepared(desk, clock, status), "plan", seen)
    assert (waits_for is None) is goes_on


@pytest.mark.parametrize(
    ("made", "seen"),
    [
        (MADE, sight(backup(499))),
        (None, sight(MADE)),
        (backup(777, size_mb=0), sight(MADE)),
        (backup(777, size_mb=None), sight(MADE, missing=GAP)),
    ],
)
async def test_no_restore_goes_on_without_its_safety_backup(
    desk: Desk, clock: ManualClock, made: Backup | None, seen: Sight
) -> None:
    restore = await prepared(desk, clock, made=made)
    with pytest.raises(PolicyDeniedError, match="empty or no longer there"):
        await wait_for_safety(desk, restore, "plan", seen)


async def test_a_safety_backup_is_made_by_the_name_of_one_and_every_step_recorded(
    desk: Desk, emulator: Emulator
) -> None:
    seen = await look(desk, RESTORE)
    plan = await desk.record(planned(desk, "restore_server", RESTORE, seen))
    told = await wait_for_safety(desk, plan, "plan", seen)
    assert told is not None
    assert (told.operation.status, told.operation.approved_by) == ("preparing", "plan")
    assert told.safety is not None
    assert emulator.fleet.backups[502].description == f"Safety backup before a restore [{told.safety.id}]"
    events = await desk.ledger.read(lambda entries: [event.status for event in entries.events(plan.id)])
    assert events == ["planned", "approved", "preparing"]
    assert await desk.ledger.read(lambda entries: safety_backup_id(entries, told.operation)) == 502
    assert await desk.ledger.read(lambda entries: safety_backup_id(entries, plan)) == 0


@pytest.mark.parametrize(("wanted", "recent"), [(False, False), (True, True)])
async def test_none_is_made_where_none_is_wanted_or_one_is_there(
    desk: Desk, emulator: Emulator, clock: ManualClock, wanted: bool, recent: bool
) -> None:
    if recent:
        emulator.fleet.backups[900] = Held(900, 12345, clock.now() - timedelta(minutes=5), size_mb=100)
    arguments = RESTORE | {"safety_backup": wanted}
    seen = await look(desk, arguments)
    plan = await desk.record(planned(desk, "restore_server", arguments, seen))
    assert await wait_for_safety(desk, plan, "plan", seen) is None
    assert emulator.count("POST") == 0
