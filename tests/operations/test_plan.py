"""What is looked at before a destructive call, and what a plan says of it."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.actions import delete, restore
from mcp_backups.actions.safety import way_back
from mcp_backups.errors import (
    BackupsError,
    BusyError,
    ConfirmationExpiredError,
    NotFoundError,
    PolicyDeniedError,
    ProtocolError,
)
from mcp_backups.operations import Context
from mcp_backups.operations.context import Result
from mcp_backups.operations.execution import StaleError, check_fresh, observe
from mcp_backups.operations.limits import check_open, counted, still_open
from mcp_backups.operations.operation import Arguments, Operation
from mcp_backups.sandbox import Backup, Emulator, Fault
from mcp_backups.text import stamp
from tests.stage import ManualClock

from .made import ago, as_recorded, facts_of, operation, question_of, record_all, spoil_a_row, under

pytestmark = pytest.mark.anyio

RESTORE: Arguments = {"server_id": 12345, "backup_id": 499, "safety_backup": True}


def asked(emulator: Emulator) -> list[bool]:
    """For each list that was asked for, whether it was that of one server."""
    return ["server_id=12345" in request.target for request in emulator.requests]


async def test_a_restore_looks_at_its_servers_backups_and_a_delete_at_all(context: Context, emulator: Emulator) -> None:
    assert (await observe(context, RESTORE)).target.id == 499
    assert asked(emulator) == [True]
    assert (await observe(context, {"backup_id": 499})).target.id == 499
    assert asked(emulator) == [True, False]


async def test_a_delete_of_the_way_back_of_a_restore_says_so_and_so_does_the_question(
    context: Context, clock: ManualClock
) -> None:
    restored = operation("restore_server", "accepted", undo_backup_id=499, sent=clock.moment(), created=clock.moment())
    await context.record(restored)
    plan = delete.draft(context, {"backup_id": 499}, await observe(context, {"backup_id": 499}))
    assert facts_of(plan)["way_back_of"] == restored.id
    assert f"\nThis cannot be undone. It is the way back of the restore {restored.id}.\n" in question_of(plan).text
    other = delete.draft(context, {"backup_id": 501}, await observe(context, {"backup_id": 501}))
    assert "way_back_of" not in facts_of(other)


async def test_the_way_back_of_an_earlier_restore_is_not_told_as_that_of_the_last(context: Context) -> None:
    ways = {499: 2, 501: 1}  # hours since
    restores = {
        backup: operation(
            "restore_server", "accepted", undo_backup_id=backup, sent=ago(hours=hours), created=ago(hours=hours)
        )
        for backup, hours in ways.items()
    }
    await record_all(context, list(restores.values()))
    plan = delete.draft(context, {"backup_id": 499}, await observe(context, {"backup_id": 499}))
    assert f"It is the way back from the restore {restores[499].id}, which then" in delete.summary(Result(plan))
    assert "last restore" not in delete.summary(Result(plan))


@pytest.mark.parametrize(
    ("fields", "hours", "is_way_back"),
    [
        ({}, 0, True),
        ({}, 23.9, True),
        ({}, 24, False),
        ({"status": "unknown"}, 0, True),
        ({"status": "sending"}, 0, True),
        ({"status": "failed"}, 0, False),
        ({"status": "planned"}, 0, False),
        ({"server_id": 12346}, 0, False),
        ({"undo_backup_id": 501}, 0, False),
        ({"undo_backup_id": 0}, 0, False),
        ({"action": "delete_backup"}, 0, False),
    ],
)
async def test_a_backup_is_a_way_back_for_a_day_and_only_of_a_restore_of_its_server_that_may_have_been_done(
    context: Context, clock: ManualClock, fields: dict[str, Any], hours: float, is_way_back: bool
) -> None:
    known: dict[str, Any] = {
        "action": "restore_server",
        "status": "accepted",
        "undo_backup_id": 499,
        "created": clock.moment(),
    }
    restored = await context.record(operation(**known | fields))
    clock.advance(hours=hours)
    plan = delete.draft(context, {"backup_id": 499}, await observe(context, {"backup_id": 499}))
    assert facts_of(plan).get("way_back_of", "") == (restored.id if is_way_back else "")


@pytest.mark.parametrize(
    ("fields", "minutes", "is_source"),
    [
        ({}, 0, True),
        ({}, 59.9, True),
        ({}, 60, False),
        ({"status": "unknown"}, 0, True),
        ({"status": "failed"}, 0, False),
        ({"server_id": 12346}, 0, False),
        ({"backup_id": 501}, 0, False),
        ({"action": "delete_backup"}, 0, False),
        ({"sent": None}, 0, False),
    ],
)
async def test_a_backup_that_may_just_be_restored_is_told_to_be_so_for_an_hour(
    context: Context, clock: ManualClock, fields: dict[str, Any], minutes: float, is_source: bool
) -> None:
    known: dict[str, Any] = {"action": "restore_server", "status": "accepted", "backup_id": 499, "sent": clock.moment()}
    restored = await context.record(operation(**known | fields))
    clock.advance(minutes=minutes)
    plan = delete.draft(context, {"backup_id": 499}, await observe(context, {"backup_id": 499}))
    assert facts_of(plan).get("being_restored_by", "") == (restored.id if is_source else "")


async def test_of_several_restores_with_one_way_back_the_last_is_named(context: Context, clock: ManualClock) -> None:
    restores = [operation("restore_server", "accepted", undo_backup_id=499, created=clock.moment()) for _ in range(3)]
    await record_all(context, restores)
    assert (await observe(context, {"backup_id": 499})).inventory.ways_back == {499: restores[-1].id}


@pytest.mark.parametrize(
    ("fields", "hours", "made"),
    [
        ({}, 23.9, {499}),
        ({}, 24, set()),
        ({"status": "accepted"}, 0, {499}),
        ({"status": "failed"}, 0, {499}),
        ({"server_id": 12346}, 0, set()),
        ({"action": "restore_server"}, 0, set()),
    ],
)
async def test_what_was_made_here_for_the_server_within_a_day_is_known(
    context: Context, clock: ManualClock, fields: dict[str, Any], hours: float, made: set[int]
) -> None:
    known: dict[str, Any] = {
        "action": "create_backup",
        "status": "succeeded",
        "backup_id": 499,
        "created": clock.moment(),
        "sent": clock.moment(),
    }
    await context.record(operation(**known | fields))
    clock.advance(hours=hours)
    assert (await observe(context, RESTORE)).inventory.made_here == made


A_DAY = timedelta(hours=24).total_seconds()


@pytest.mark.parametrize(
    ("fields", "seconds", "doubt"),
    [
        ({}, A_DAY - 1, "being_deleted"),
        ({}, A_DAY, ""),
        ({"status": "unknown"}, A_DAY - 1, "doubtful"),
        ({"status": "unknown"}, A_DAY, ""),
        ({"status": "sending"}, 0, "doubtful"),
        ({"status": "failed"}, 0, ""),
        ({"status": "planned"}, 0, ""),
        ({"status": "unknown", "server_id": 12346}, 0, "doubtful"),
        ({"status": "unknown", "backup_id": 998}, 0, ""),
        ({"action": "restore_server"}, 0, ""),
    ],
)
async def test_a_backup_whose_deletion_was_sent_is_not_counted_on_as_long_as_that_may_still_come(
    context: Context, clock: ManualClock, fields: dict[str, Any], seconds: float, doubt: str
) -> None:
    known: dict[str, Any] = {"status": "accepted", "backup_id": 499, "created": clock.moment(), "sent": clock.moment()}
    await context.record(operation(**known | fields))
    clock.advance(seconds=seconds)
    sight = await observe(context, RESTORE)
    assert sight.inventory.doubtful == ({499: doubt} if doubt else {})
    assert sight.inventory.proven_on(12345, without={row.id for row in sight.inventory.backups.rows} - {499}) == (
        [] if doubt else [sight.target]
    )


async def test_what_was_seen_gone_and_is_listed_again_is_doubtful_for_a_day_more(
    context: Context, clock: ManualClock
) -> None:
    """One of the two lists was behind: the record says so, and it counts from the moment it is listed again."""
    gone = await context.record(
        operation(status="succeeded", backup_id=499, created=clock.moment(), sent=clock.moment())
    )
    clock.advance(days=30)
    for hours in (0, 23.9):
        clock.advance(hours=hours)
        assert (await observe(context, RESTORE)).inventory.doubtful == {499: "doubtful"}
        assert (await as_recorded(context, gone)).status == "unknown"
    clock.advance(hours=0.1)
    assert (await observe(context, RESTORE)).inventory.doubtful == {}


async def test_a_target_that_its_server_lacks_is_looked_for_elsewhere(context: Context, emulator: Emulator) -> None:
    sight = await observe(context, RESTORE | {"backup_id": 447})
    assert (sight.target.id, sight.target.server_id) == (447, 12362)
    assert asked(emulator) == [True, False]
    assert restore.draft(context, RESTORE, sight).server_id == 12345
    with pytest.raises(NotFoundError, match="no backup 999"):
        await observe(context, RESTORE | {"backup_id": 999})


async def test_an_incomplete_list_of_all_does_not_prove_that_a_target_is_absent(
    context: Context, emulator: Emulator
) -> None:
    emulator.fail(Fault.edited(spoil_a_row), method="GET")
    with pytest.raises(ProtocolError) as unsure:
        await observe(context, {"backup_id": 999})
    assert unsure.value.what == (
        "Backup 999 is not in what could be read of the list of backups, but the list is incomplete "
        "(1 row of server 12384 could not be read (id)), so it may exist."
    )
    assert unsure.value.next_step == "Try once more in a few minutes; if it says the same then, tell the user."


async def test_a_row_of_another_server_that_cannot_be_read_leaves_open_nothing_about_this_one(
    context: Context, emulator: Emulator
) -> None:
    emulator.fail(Fault.edited(spoil_a_row), method="GET", skip=1)
    with pytest.raises(NotFoundError) as absent:
        await observe(context, RESTORE | {"backup_id": 999})
    assert absent.value.what == "Server 12345 has no backup 999."
    assert len(asked(emulator)) == 2


def fewer_rows_than_counted(content: Any) -> None:
    """One row unreadable, and one more that never came."""
    spoil_a_row(content)
    content["count"] += 1


async def test_all_that_is_missing_of_a_list_is_named(context: Context, emulator: Emulator) -> None:
    emulator.fail(Fault.edited(fewer_rows_than_counted), method="GET")
    missing = (await context.api.list_backups()).missing
    assert len(missing) == 2
    emulator.fail(Fault.edited(fewer_rows_than_counted), method="GET")
    with pytest.raises(ProtocolError) as unsure:
        await observe(context, {"backup_id": 999})
    assert f"({missing[0]}; {missing[1]})" in unsure.value.what


@pytest.mark.parametrize(
    ("minutes", "lasts", "is_way_back"),
    [
        (59, None, True),
        (60, None, False),
        (-5, None, True),
        (-6, None, False),
        (30, timedelta(hours=24), False),
        (30, timedelta(hours=24, seconds=1), True),
    ],
)
async def test_a_way_back_is_younger_than_an_hour_and_lasts_more_than_a_day(
    context: Context, emulator: Emulator, clock: ManualClock, minutes: float, lasts: timedelta | None, is_way_back: bool
) -> None:
    expires = clock.now() + lasts if lasts else None
    made = clock.now() - timedelta(minutes=minutes)
    emulator.fleet.backups[900] = Backup(900, 12345, made, size_mb=100, expires_at=expires)
    sight = await observe(context, RESTORE)
    assert (way_back(sight.inventory, sight.target) is not None) is is_way_back
    facts = facts_of(restore.draft(context, RESTORE, sight))
    assert str(facts["safety_backup"]).startswith("backup 900 of" if is_way_back else "one is made first")


async def test_what_is_being_deleted_here_is_no_way_back(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.fleet.backups[900] = Backup(900, 12345, clock.now() - timedelta(minutes=1), size_mb=100)
    await context.record(operation(status="unknown", backup_id=900, sent=clock.moment()))
    seen = await observe(context, RESTORE)
    assert way_back(seen.inventory, seen.target) is None


@pytest.mark.parametrize(
    ("safety", "fact", "undone"), [(True, "one is made first", True), (False, "none is made", False)]
)
async def test_a_plan_says_what_is_lost_and_whether_it_can_be_undone(
    context: Context, safety: bool, fact: str, undone: bool
) -> None:
    arguments = RESTORE | {"safety_backup": safety}
    plan = restore.draft(context, arguments, await observe(context, arguments))
    assert (plan.status, plan.server_id, plan.server_name, plan.backup_id) == ("planned", 12345, "web-server-01", 499)
    assert plan.arguments == arguments
    facts = facts_of(plan)
    assert ("undo_terms" in facts) is undone
    assert {name: facts[name] for name in facts.keys() - {"undo_terms"}} == {
        "lost": "everything written to the server since 2026-11-21T12:00Z",
        "safety_backup": fact,
        "can_be_undone": undone,
    }


@pytest.mark.parametrize("safety", [True, False])
async def test_a_restore_can_be_undone_where_a_recent_backup_is_there_whether_or_not_one_is_to_be_made(
    context: Context, emulator: Emulator, clock: ManualClock, safety: bool
) -> None:
    emulator.fleet.backups[900] = Backup(900, 12345, clock.now(), size_mb=100)
    arguments = RESTORE | {"safety_backup": safety}
    facts = facts_of(restore.draft(context, arguments, await observe(context, arguments)))
    assert facts["safety_backup"] == "backup 900 of 2026-11-23T09:30Z is recent enough"
    assert facts["can_be_undone"] is True


@pytest.mark.parametrize(
    ("status", "alive", "error"),
    [
        ("sending", True, BusyError),
        ("sending", False, PolicyDeniedError),
        ("unknown", True, PolicyDeniedError),
        ("accepted", True, None),
    ],
)
@pytest.mark.parametrize("server_id", [12345, 12346])
async def test_a_server_is_busy_while_something_is_sent_for_it_and_closed_once_nobody_is_at_that_any_more(
    context: Context, clock: ManualClock, status: str, alive: bool, error: type[BackupsError] | None, server_id: int
) -> None:
    other = operation("restore_server", status, server_id=server_id, sent=clock.moment())
    async with context.liveness.at_work(other.id if alive else "op_something_else") as owner:
        await context.record(other.updated(owner=owner))
        if error is None or server_id != 12345:
            await context.ledger.read(lambda entries: check_open(context, entries, 12345))
            return
        with pytest.raises(error) as refusal:
            await context.ledger.read(lambda entries: check_open(context, entries, 12345))
    if error is BusyError:
        assert refusal.value.what == f"{other.id} (restore_server) on server 12345 is just being carried out."
        assert refusal.value.next_step == (
            f"Call get_operation(operation_id={other.id!r}); once it is no longer sending, call again as before."
        )


@pytest.mark.parametrize(
    ("ends", "by"),
    [
        ((25, 30), 30),
        ((30, 25), 30),
        ((25, 24 * 300), 24 * 300),
        ((25, None), 0),
        ((None, None), 0),
        ((25, 24), 25),
    ],
)
async def test_a_plan_to_delete_says_when_all_that_is_left_expires(
    context: Context, emulator: Emulator, clock: ManualClock, ends: tuple[int | None, int | None], by: int
) -> None:
    """The last backup that lasts is not given away for some that will be gone tomorrow, unless somebody is told."""
    made = clock.now() - timedelta(days=2)
    for number, hours in zip((901, 902), ends, strict=True):
        expires = clock.now() + timedelta(hours=hours) if hours else None
        emulator.fleet.backups[number] = Backup(number, 12360, made, size_mb=100, expires_at=expires)
    emulator.fleet.backups[900] = Backup(900, 12360, made, size_mb=100)
    plan = delete.draft(context, {"backup_id": 900}, await observe(context, {"backup_id": 900}))
    told = stamp(clock.now() + timedelta(hours=by)) if by else None
    assert facts_of(plan).get("all_left_expire_by") == told
    assert (f"; all expire by {told}." in question_of(plan).text) is bool(told)


async def test_a_plan_to_delete_says_what_is_left(context: Context) -> None:
    only = delete.draft(context, {"backup_id": 447}, await observe(context, {"backup_id": 447}))
    assert (only.server_id, facts_of(only)) == (12362, {"can_be_undone": False, "proven_backups_left": 0})


async def test_what_was_seen_before_something_was_sent_for_the_server_is_stale(
    context: Context, clock: ManualClock
) -> None:
    sight = await observe(context, RESTORE)
    await context.record(operation(server_id=12346, status="sending", sent=clock.moment()))
    plan = await context.record(operation())
    await context.ledger.read(lambda entries: check_fresh(entries, plan, sight))
    await context.record(operation(status="sending", sent=clock.moment()))
    with pytest.raises(StaleError):
        await context.ledger.read(lambda entries: check_fresh(entries, plan, sight))
    again = await observe(context, RESTORE)
    await context.ledger.read(lambda entries: check_fresh(entries, plan, again))


async def test_a_budget_counts_what_was_sent_by_when_it_was(context: Context, clock: ManualClock) -> None:
    first, second = operation(), operation()
    for each in (first, second, operation("restore_server"), operation(status="failed", sent=clock.moment())):
        await context.record(each)
    for each in (second, first):
        clock.advance(seconds=1)
        await context.record(each.updated(status="sending", sent=clock.moment()))
    count = await context.ledger.read(lambda entries: counted(context, entries, "delete_backup", 0))
    now = clock.moment()
    assert [each.ago(now).total_seconds() for each in count] == [0, 1]


async def test_a_budget_counts_however_many_were_sent(context: Context, clock: ManualClock) -> None:
    rich = under(context, deletes_per_day=101)
    await record_all(context, [operation(status="succeeded", sent=clock.moment()) for _ in range(101)])
    assert len(await context.ledger.read(lambda entries: counted(rich, entries, "delete_backup", 0))) == 101


@pytest.mark.parametrize(
    ("status", "open_still"),
    [("planned", True), ("approved", True), ("preparing", True), ("sending", False), ("refused", False)],
)
async def test_a_plan_is_open_until_it_is_sent_or_over(
    context: Context, clock: ManualClock, status: str, open_still: bool
) -> None:
    plan: Operation = operation(status=status, created=clock.moment())
    assert await context.ledger.read(lambda entries: still_open(context, entries, plan)) is None
    await context.record(plan)
    assert await context.ledger.read(lambda entries: still_open(context, entries, plan)) == (
        plan if open_still else None
    )


async def test_an_open_plan_that_is_over_is_expired(context: Context) -> None:
    plan = await context.record(operation(created=ago(minutes=10, ticking=600)))
    with pytest.raises(ConfirmationExpiredError):
        await context.ledger.read(lambda entries: still_open(context, entries, plan))
