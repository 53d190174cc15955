"""Following an operation: how long it is looked after, and what is recorded of it."""

from typing import Any

import pytest

from mcp_backups.actions.create import LOOKS, _look_for_it
from mcp_backups.actions.deletes import outcome
from mcp_backups.ledger import ledger_for
from mcp_backups.operations import Context, RestoreDetails
from mcp_backups.operations.operation import Operation, PruneItem, new_id
from mcp_backups.operations.reconciliation import follow, settle, supersede
from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.stage import ManualClock, on_both_stores

from .made import as_recorded, backup, operation, record_all

pytestmark = [pytest.mark.anyio, on_both_stores]

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
        (60, [1, 1.5, 2.25, 3.375, 5, 5, 5, 5, 5, 5, 1.875]),
    ],
)
async def test_it_is_looked_less_and_less_often_and_for_40_seconds_at_most(
    context: Context, clock: ManualClock, wait: float, pauses: list[float]
) -> None:
    told = await follow(
        context.for_a_call(), operation(status="unknown", backup_id=501, sent=clock.moment()), wait, no_progress
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
        ("restore_server", "accepted", 501, False, True),
        ("restore_server", "unknown", 501, False, False),
        ("restore_server", "preparing", 501, False, False),
    ],
)
async def test_there_is_waiting_only_for_what_waiting_can_tell(
    context: Context, clock: ManualClock, action: str, status: str, backup_id: int, alive: bool, waits: bool
) -> None:
    other = ledger_for(context.settings, Operation, clock.clock).liveness
    sent: dict[str, Any] = {} if status in {"planned", "preparing"} else {"sent": clock.moment()}
    known = operation(action, status, backup_id=backup_id, created=clock.moment(), **sent)
    async with other.at_work(known.id) as owner:
        known = await context.record(known.updated(owner=owner if alive else "0" * 16))
        await follow(context, known, 2, no_progress)
    other.leave()
    assert bool(clock.slept) is waits


@pytest.mark.parametrize(
    ("held", "status", "waits"), [("in_progress", "accepted", True), ("completed", "succeeded", False)]
)
async def test_a_restore_waits_for_its_safety_backup(
    context: Context, emulator: Emulator, clock: ManualClock, held: str, status: str, waits: bool
) -> None:
    emulator.fleet.backups[501].status = held
    safety = await context.record(operation("create_backup", "accepted", backup_id=501, sent=clock.moment()))
    restore = operation("restore_server", "preparing", safety_operation=safety.id, created=clock.moment())
    told = await follow(context, restore, 2, no_progress)
    assert told.safety is not None
    assert (told.safety.status, bool(clock.slept)) == (status, waits)


async def test_a_plan_that_is_over_is_recorded_as_expired(context: Context, clock: ManualClock) -> None:
    plan = await context.record(operation(created=clock.moment()))
    clock.advance(minutes=10)
    assert (await settle(context, plan)).operation.status == "expired"
    recorded = await context.ledger.read(lambda entries: entries.get(plan.id))
    assert recorded is not None
    assert recorded.status == "expired"


async def test_what_was_recorded_meanwhile_stands(context: Context) -> None:
    before = await context.record(operation(status="unknown"))
    meanwhile = await context.record(before.updated(status="succeeded"))

    async def told(after: Operation) -> Operation:
        return await context.ledger.write(lambda entries: supersede(entries, before, after))

    assert await told(before.updated(status="failed")) == meanwhile
    assert await context.ledger.read(lambda entries: entries.get(before.id)) == meanwhile


async def test_what_is_not_in_the_ledger_yet_is_recorded(context: Context) -> None:
    before = operation(status="unknown")
    after = before.updated(status="failed")
    assert await context.ledger.write(lambda entries: supersede(entries, before, after)) == after
    assert await context.ledger.read(lambda entries: entries.get(before.id)) == after


async def test_a_backup_that_may_have_been_started_is_looked_for_a_few_times(
    context: Context, clock: ManualClock
) -> None:
    asked = operation("create_backup", "sending", sent=clock.moment())
    assert await _look_for_it(context, asked) == asked
    assert clock.slept == list(LOOKS)


async def test_after_a_look_that_failed_it_is_looked_again(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    asked = operation("create_backup", "sending", sent=clock.moment())
    made = Backup(900, 12345, clock.now(), "manual", size_mb=100, description=f"[{asked.id}]")
    emulator.fleet.backups[900] = made
    emulator.fail(Fault.status(401), method="GET")
    found = await _look_for_it(context, asked)
    assert (found.backup_id, found.status) == (900, "succeeded")
    assert emulator.count("GET") == 2


ENDED = "the process that sent it ended before the answer came"


@pytest.mark.parametrize(
    ("action", "backup_id"), [("create_backup", 0), ("delete_backup", 501), ("restore_server", 501)]
)
async def test_what_a_process_sent_that_has_ended_is_unknown_and_the_evidence_says_why(
    context: Context, clock: ManualClock, action: str, backup_id: int
) -> None:
    sending = await context.record(
        operation(action, "sending", backup_id=backup_id, sent=clock.moment(), owner="0" * 16)
    )
    told = await settle(context, sending)
    assert (told.operation.status, told.operation.evidence) == ("unknown", ENDED)
    assert await as_recorded(context, sending) == told.operation


async def test_what_another_call_of_this_process_is_sending_is_left_alone(context: Context, clock: ManualClock) -> None:
    sending = operation(status="sending", backup_id=501, sent=clock.moment())
    async with context.liveness.at_work(sending.id) as owner:
        sending = await context.record(sending.updated(owner=owner))
        assert (await settle(context, sending)).operation == sending
    assert (await settle(context, sending)).operation.status == "unknown"


async def test_a_restore_of_a_server_that_is_no_longer_listed_is_told_without_that_servers_status(
    context: Context, clock: ManualClock
) -> None:
    for server_id, status in ((12345, "active"), (99999, "")):
        told = await settle(context, operation("restore_server", "accepted", server_id=server_id, sent=clock.moment()))
        seen = [each.status for each in told.operation.of(RestoreDetails).statuses]
        assert seen == ([status] if status else [])


NIGHTLY = {"server_id": 12345, "description": "nightly"}
RIVALS: list[tuple[dict[str, Any], int]] = [
    ({"status": "unknown"}, 0),
    ({"status": "sending", "owner": "0" * 16}, 0),
    ({"status": "succeeded", "backup_id": 900}, 0),
    ({"status": "succeeded", "backup_id": 901}, 900),
    ({"status": "failed"}, 900),
    ({"status": "unknown", "arguments": NIGHTLY | {"description": "weekly"}}, 900),
    ({"status": "unknown", "arguments": NIGHTLY | {"server_id": 12346}, "server_id": 12346}, 900),
]


async def unmarked(context: Context, emulator: Emulator, clock: ManualClock) -> Operation:
    """A backup that was asked for without a mark and may have been made; one just like it is there."""
    baseline = tuple(emulator.fleet.backups)
    emulator.fleet.backups[900] = Backup(900, 12345, clock.now(), "manual", size_mb=100, description="nightly")
    asked = operation("create_backup", "unknown", arguments=NIGHTLY, marked=False, baseline=baseline)
    return await context.record(asked.updated(sent=clock.moment()))


async def test_without_marks_a_backup_that_no_other_call_asked_for_is_found(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    told = await settle(context, await unmarked(context, emulator, clock))
    assert (told.operation.backup_id, told.operation.status) == (900, "succeeded")


@pytest.mark.parametrize(("rival", "found"), RIVALS)
async def test_without_marks_only_the_same_request_by_another_call_casts_doubt_on_a_backup(
    context: Context, emulator: Emulator, clock: ManualClock, rival: dict[str, Any], found: int
) -> None:
    asked = await unmarked(context, emulator, clock)
    known: dict[str, Any] = {"arguments": NIGHTLY, "sent": clock.moment()}
    await context.record(operation("create_backup", **known | rival))
    assert (await settle(context, asked)).operation.backup_id == found


async def test_without_marks_the_same_request_casts_doubt_however_many_others_came_after(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    asked = await unmarked(context, emulator, clock)
    await context.record(asked.updated(id=new_id()))
    others = [asked.updated(id=new_id(), arguments=NIGHTLY | {"description": str(number)}) for number in range(100)]
    await record_all(context, others)
    assert (await settle(context, asked)).operation == asked


async def test_a_restore_fails_with_its_safety_backup_for_the_same_reason_and_with_the_same_advice(
    context: Context,
) -> None:
    why = {"error_code": "conflict", "error": "Something else is under way.", "advice": "Wait until it is finished."}
    safety = await context.record(operation("create_backup", "failed", **why))
    restore = await context.record(operation("restore_server", "preparing", safety_operation=safety.id))
    told = await settle(context, restore)
    assert (told.operation.status, told.operation.error_code, told.operation.advice) == (
        "failed",
        "conflict",
        "Wait until it is finished.",
    )
    assert told.operation.error == ("The safety backup failed, so nothing was restored. Something else is under way.")
    assert (told.safety, await as_recorded(context, restore)) == (safety, told.operation)


async def test_a_restore_whose_safety_backup_cannot_be_looked_at_just_now_says_so(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    safety = await context.record(operation("create_backup", "accepted", backup_id=501, sent=clock.moment()))
    restore = await context.record(operation("restore_server", "preparing", safety_operation=safety.id))
    emulator.fail(Fault.status(401), method="GET")
    told = await settle(context, restore)
    assert (told.operation, told.safety, told.unseen) == (restore, safety, "auth_failed")


async def test_a_restore_whose_safety_backup_is_not_in_the_ledger_is_told_as_it_is(context: Context) -> None:
    restore = await context.record(operation("restore_server", "preparing", safety_operation="op_lost"))
    told = await settle(context, restore)
    assert (told.operation, told.safety, told.unseen) == (restore, None, "")


ALL_GONE = "each is absent from the complete list"
DAY = 24 * 60
UNKNOWN, GONE, GOING, NOT_GONE = "unknown", "deleted", "being deleted", "not deleted"
Deletes = list[tuple[str, int, float]]


async def pruned(context: Context, clock: ManualClock, status: str, deletes: Deletes) -> Operation:
    """A prune that came so far: what its deletes are known as, of which backup, sent how many minutes ago."""
    clock.advance(minutes=DAY)
    items = []
    for known, backup_id, minutes in deletes:
        clock.advance(minutes=-minutes)
        sent = clock.moment()
        clock.advance(minutes=minutes)
        each = operation(status=known, backup_id=backup_id, arguments={"backup_id": backup_id}, sent=sent)
        await context.record(each)
        items.append(PruneItem(backup=backup(backup_id), reason="no rule", fate="delete", operation_id=each.id))
    told = {"error": "Before.", "advice": "Look."}
    return await context.record(
        operation("prune_backups", status, items=items, created=clock.moment(), sent=clock.moment(), **told)
    )


@pytest.mark.parametrize(
    ("status", "deletes", "became", "outcomes"),
    [
        ("accepted", [("accepted", 998, 1), ("accepted", 999, 1)], "succeeded", [GONE, GONE]),
        ("accepted", [("accepted", 501, 1), ("accepted", 999, 1)], "accepted", [GOING, GONE]),
        ("accepted", [("accepted", 998, 1), ("accepted", 501, 1)], "accepted", [GONE, GOING]),
        ("accepted", [("accepted", 501, DAY), ("accepted", 999, 1)], "failed", [NOT_GONE, GONE]),
        ("unknown", [("unknown", 999, 1), ("succeeded", 998, 1)], "succeeded", [GONE, GONE]),
        ("unknown", [("unknown", 999, 1), ("failed", 501, 1)], "failed", [GONE, NOT_GONE]),
        ("unknown", [("unknown", 501, DAY)], "failed", [NOT_GONE]),
        ("unknown", [("unknown", 501, DAY - 1)], "unknown", [UNKNOWN]),
        ("unknown", [("unknown", 501, 1), ("unknown", 999, 1)], "unknown", [UNKNOWN, GONE]),
        ("succeeded", [("succeeded", 501, DAY), ("succeeded", 999, 1)], "unknown", [UNKNOWN, GONE]),
        ("succeeded", [("succeeded", 998, DAY), ("succeeded", 999, 1)], "succeeded", [GONE, GONE]),
        ("preparing", [("unknown", 999, 1)], "preparing", [GONE]),
    ],
)
async def test_a_prune_is_known_by_its_deletes_and_is_over_once_none_of_them_is_unknown(
    context: Context, clock: ManualClock, status: str, deletes: Deletes, became: str, outcomes: list[str]
) -> None:
    result = await settle(context, await pruned(context, clock, status, deletes))
    told = result.operation
    assert (told.status, [outcome(each) for each in result.deletes[::-1]]) == (became, outcomes)
    why = ("", "") if status == "unknown" != became else ("Before.", "Look.")
    evidence = {"succeeded": ALL_GONE, "accepted": "VPS.org said yes, and not all have been seen to be gone"}
    assert (told.error, told.advice, told.evidence) == (*why, evidence.get(became, ""))
    assert await as_recorded(context, told) == told


async def test_a_prune_is_told_as_it_was_when_vps_org_cannot_be_asked_and_says_so(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    """All its deletes are judged by one look: at its server's list, and at that of all."""
    prune = await pruned(context, clock, "unknown", [("unknown", 998, 1), ("unknown", 999, 1)])
    emulator.fail(Fault.status(401), method="GET")
    told = await settle(context, prune)
    assert (told.operation, told.unseen, emulator.count("GET")) == (prune, "auth_failed", 1)
    assert (await settle(context, prune)).operation.status == "succeeded"
    assert emulator.count("GET") == 3


async def test_what_a_prune_has_not_sent_yet_is_not_looked_at(context: Context, emulator: Emulator) -> None:
    delete = await context.record(operation(status="approved"))
    item = PruneItem(backup=backup(501), reason="no rule", fate="delete", operation_id=delete.id)
    prune = await context.record(operation("prune_backups", "preparing", items=[item]))
    emulator.fleet.delete_backup(501)
    assert (await settle(context, prune)).operation == prune
    assert await as_recorded(context, delete) == delete
