"""What an agent must be able to trust where several things come together, each of them harmless by itself."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    DB,
    DOWN,
    NEVER_ARRIVED,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    a_create,
    a_delete,
    on_delete,
    on_get,
    on_post,
)
from tests.stage import ManualClock, on_file

pytestmark = pytest.mark.anyio

QUEUED = Fault.edited(lambda backup: backup | {"status": "queued"})
PAGE = Fault.status(200, "<html>maintenance</html>")


def only_target(bench: Bench) -> None:
    """The target is the server's only backup, and a good one."""
    for each in list(bench.emulator.fleet.backups_of(WEB)):
        if each.id != TARGET:
            bench.emulator.fleet.delete_backup(each.id)


async def restore_with_safety_backup(bench: Bench) -> tuple[dict[str, Any], int]:
    """Confirm a restore until its safety backup is finished: the confirmation, and that backup."""
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE)
    preparing = await bench.agent.call("restore_server", **confirmation)
    bench.clock.advance(minutes=3)
    await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    return confirmation, int(preparing.data["facts"]["safety_backup"])


@pytest.mark.parametrize("spoil", [Fault.reset_after().late(90), QUEUED, Fault.status(500, apply=True)])
@pytest.mark.parametrize("minutes", [5, 31])
@pytest.mark.parametrize("mark", ["kept", "cut off", "never set"])
async def test_what_was_made_here_is_not_good_for_a_day_whatever_is_known_of_it(
    emulator: Emulator, bench_on: OpenBench, spoil: Fault, minutes: int, mark: str
) -> None:
    """Nobody has had time to find it bad, and it may be the only one left."""
    async with bench_on(emulator, mark_backups=mark != "never set") as bench:
        only_target(bench)
        await a_create(bench, (on_post(spoil),))
        bench.clock.advance(minutes=minutes)
        if mark == "cut off":
            emulator.settle()
            for backup in emulator.fleet.backups_of(WEB):
                backup.description = backup.description[:7]
        assert (await bench.agent.call("delete_backup", backup_id=TARGET)).code == "policy_denied"


async def test_a_status_that_is_not_documented_neither_fails_a_backup_nor_has_it_made_twice(bench: Bench) -> None:
    bench.emulator.fail(QUEUED, method="POST")
    first = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
    again = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
    assert (first.status, again.replayed) == ("accepted", True)
    bench.clock.advance(minutes=3)
    assert (await bench.agent.call("get_operation", operation_id=first.operation)).status == "succeeded"


@pytest.mark.parametrize("by", ["this server", "somebody else"])
async def test_a_prune_does_not_delete_what_its_rules_would_keep_by_now(bench: Bench, by: str) -> None:
    """The plan kept the newest; that is gone, so that the next is the newest."""
    confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)
    if by == "this server":
        await bench.agent.call("delete_backup", **await bench.plan("delete_backup", backup_id=TARGET))
    else:
        bench.emulator.fleet.delete_backup(TARGET)
    answer = await bench.agent.call("prune_backups", **confirmation)
    manual = [backup for backup in bench.emulator.fleet.backups_of(WEB) if backup.backup_type == "manual"]
    assert len(manual) == 1
    assert "would be kept by now (keep-last 1)" in answer.text


async def test_a_safety_backup_that_is_restored_gets_a_safety_backup_of_its_own(bench: Bench) -> None:
    first, safety = await restore_with_safety_backup(bench)
    bench.emulator.fail(Fault.status(409, {"detail": "busy"}), method="POST", path="restore")
    await bench.agent.call("restore_server", **first)
    second = await bench.plan("restore_server", server_id=WEB, backup_id=safety)
    answer = await bench.agent.call("restore_server", **second)
    assert answer.status == "preparing"
    assert answer.data["facts"]["safety_backup"] != safety


async def test_a_safety_backup_that_is_gone_is_made_anew(bench: Bench) -> None:
    first, safety = await restore_with_safety_backup(bench)
    bench.emulator.fleet.delete_backup(safety)
    waiting = await bench.agent.call("restore_server", **first)
    assert (waiting.status, bench.emulator.fleet.restores) == ("preparing", [])  # the list may lag behind
    bench.clock.advance(minutes=30)
    assert (await bench.agent.call("restore_server", **first)).code == "policy_denied"
    answer = await bench.agent.call(
        "restore_server", **await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE)
    )
    assert answer.data["facts"]["safety_backup"] in bench.emulator.fleet.backups


@pytest.mark.parametrize("minutes", [3, 7])
async def test_a_restore_that_was_shown_as_undoable_is_not_sent_without_a_way_back(bench: Bench, minutes: int) -> None:
    made = await bench.agent.call("create_backup", server_id=WEB, description="now")
    bench.clock.advance(minutes=55)
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE, safety_backup=False)
    if minutes == 3:
        number = made.data["backup"]["id"]
        await bench.agent.call("delete_backup", **await bench.plan("delete_backup", backup_id=number))
    bench.clock.advance(minutes=minutes)
    answer = await bench.agent.call("restore_server", **confirmation)
    assert (answer.code, bench.emulator.fleet.restores) == ("target_changed", [])


@pytest.mark.parametrize("approval", ["plan", "flag"])
async def test_where_only_a_person_consents_what_another_process_took_for_consent_is_none(
    emulator: Emulator, bench_on: OpenBench, approval: str
) -> None:
    async with bench_on(emulator, approval=approval) as one, bench_on(emulator, approval="human") as two:
        confirmation = await one.plan("restore_server", server_id=WEB, backup_id=SOURCE)
        await one.agent.call("restore_server", **confirmation)
        one.clock.advance(minutes=5)
        answer = await two.agent.call("restore_server", **confirmation)
        assert (answer.code, emulator.fleet.restores) == ("confirmation_expired", [])


@pytest.mark.parametrize("tool", ["list_backups", "check_backups"])
@pytest.mark.parametrize("count", [10**9 + 1, 10**400])
async def test_a_count_that_cannot_be_makes_the_list_incomplete_and_nothing_else(
    bench: Bench, tool: str, count: int
) -> None:
    more = {"count": count, "next": "/backups/?page=2"}
    bench.emulator.fail(Fault.edited(lambda page: page | more if "results" in page else page), method="GET", times=None)
    answer = await bench.agent.call(tool)
    assert (answer.is_error, answer.data["complete"]) == (False, False)


@pytest.mark.parametrize(("size", "complete"), [(2.0**40, True), (2.0**40 * 2, True), (1e308, True)])
async def test_a_size_that_cannot_be_costs_no_more_than_itself(bench: Bench, size: float, complete: bool) -> None:
    def spoilt(page: dict[str, Any]) -> dict[str, Any]:
        first, *rest = page["results"]
        return page | {"results": [first | {"size_mb": size}, *rest]}

    bench.emulator.fail(Fault.edited(spoilt), method="GET", path="backups", times=None)
    answer = await bench.agent.call("check_backups")
    assert (answer.is_error, answer.data["complete"]) == (False, complete)


async def test_a_repeat_is_not_answered_by_a_backup_that_was_deleted_here(bench: Bench) -> None:
    made = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    await bench.agent.call("delete_backup", **await bench.plan("delete_backup", backup_id=made.data["backup"]["id"]))
    answer = await bench.agent.call("create_backup", server_id=WEB)
    assert answer.replayed is False
    assert answer.data["backup"]["id"] in bench.emulator.fleet.backups


@pytest.mark.parametrize("hidden", [False, True])
async def test_a_repeat_whose_backup_the_list_lacks_makes_no_second_and_says_so(bench: Bench, hidden: bool) -> None:
    """A list that showed it and is behind again looks like one from which somebody else has deleted it."""
    made = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    number = made.data["backup"]["id"]
    row = bench.emulator.fleet.backups.pop(number)
    again = await bench.agent.call("create_backup", server_id=WEB)
    assert (again.operation, again.replayed, bench.emulator.count("POST")) == (made.operation, True, 1)
    assert "It is not in the complete list now" in again.text
    assert "For another one, call create_backup with allow_duplicate=true." in again.text
    if hidden:
        bench.emulator.fleet.backups[number] = row
    other = await bench.agent.call("create_backup", server_id=WEB, allow_duplicate=not hidden)
    assert (other.operation == made.operation, bench.emulator.count("POST")) == (hidden, 1 if hidden else 2)
    assert ("not in the complete list" in other.text) is False


async def test_a_repeat_is_answered_as_recorded_where_the_list_cannot_be_read(bench: Bench) -> None:
    made = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    bench.emulator.fail(Fault.status(503), method="GET", times=None)
    answer = await bench.agent.call("create_backup", server_id=WEB)
    assert (answer.operation, answer.replayed) == (made.operation, True)


@on_file
async def test_a_ledger_that_was_taken_away_is_not_written_to_any_more(bench: Bench) -> None:
    await bench.agent.call("create_backup", server_id=DB)
    for path in bench.state_dir.glob("ledger*"):
        path.unlink()
    answer = await bench.agent.call("create_backup", server_id=WEB)
    assert (answer.code, bench.requests()[1]) == ("ledger_unavailable", 1)
    assert not (await bench.agent.call("list_backups")).is_error


@pytest.mark.parametrize("hours", [-24, 24])
async def test_ten_minutes_are_ten_minutes_whatever_the_wall_clock_does(bench: Bench, hours: int) -> None:
    first = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
    bench.clock.step(hours=hours)
    bench.clock.advance(minutes=9)
    again = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
    bench.clock.advance(minutes=2)
    later = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
    assert [again.operation == first.operation, later.operation == first.operation] == [True, False]


@on_file
async def test_what_a_living_process_has_not_recorded_for_ten_minutes_is_settled_by_looking(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    """It may have lost the outcome, and nothing else on the server could go on."""
    async with bench_on(emulator) as one, bench_on(emulator) as two:
        made = await one.agent.call("create_backup", server_id=WEB)
        (known,) = one.operations()
        await _left_sending(one, known)
        one.clock.advance(minutes=9)
        assert (await two.agent.call("get_operation", operation_id=made.operation)).status == "sending"
        one.clock.advance(minutes=1)
        assert (await two.agent.call("get_operation", operation_id=made.operation)).status == "succeeded"


async def _left_sending(bench: Bench, known: Operation) -> None:
    ledger = SqliteLedger(bench.state_dir, Operation, bench.clock.now)
    await ledger.write(lambda entries: entries.save(known.updated(status="sending", backup_id=0, backup=None)))
    ledger.close()


async def test_a_backup_that_is_completed_and_empty_is_told_as_such(bench: Bench) -> None:
    made = await bench.agent.call("create_backup", server_id=WEB)
    bench.clock.advance(minutes=29)
    bench.emulator.settle()
    bench.emulator.fleet.backups[made.data["backup"]["id"]].size_mb = 0
    assert (await bench.agent.call("get_operation", operation_id=made.operation)).status == "accepted"
    bench.clock.advance(minutes=1)
    answer = await bench.agent.call("get_operation", operation_id=made.operation)
    assert answer.status == "failed"
    assert "empty" in answer.data["summary"]


async def test_what_is_listed_days_after_it_was_said_to_be_deleted_was_not(bench: Bench) -> None:
    told = await a_delete(bench, (on_delete(Fault.status(202)),))
    bench.clock.advance(days=3)
    later = await bench.agent.call("get_operation", operation_id=told.operation)
    assert (told.status, later.status, later.data["changed"]) == ("accepted", "failed", "nothing")


async def test_what_another_account_shows_says_nothing_of_what_was_sent(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    """Both keep one ledger, being of one user; there the backup is gone, here its deletion never arrived."""
    async with bench_on(emulator) as here:
        unknown = await a_delete(here, (on_delete(NEVER_ARRIVED), on_get(DOWN, None, 1)))
    assert unknown.code == "outcome_unknown"
    (operation,) = here.operations()
    async with Emulator(now=here.clock.now) as other, bench_on(other) as there:
        other.fleet.delete_backup(TARGET)
        before = there.clock.passed
        told = await there.agent.call("get_operation", operation_id=operation.id, wait_seconds=45)
        assert (told.status, told.data["changed"]) == ("unknown", "unknown")
        assert "it was made for another account or another address" in told.data["facts"]["not_checked_now"]
        assert there.clock.passed == before  # waiting could tell nothing
    emulator.clear_faults()
    here.clock.advance(hours=24)
    async with bench_on(emulator) as here:
        assert (await here.agent.call("get_operation", operation_id=operation.id)).status == "failed"


Where = Callable[[], AbstractAsyncContextManager[Bench]]


@pytest.fixture(params=["away", "another account"])
def unseen(request: pytest.FixtureRequest, emulator: Emulator, clock: ManualClock, bench_on: OpenBench) -> Where:
    """A later session of one who cannot look: VPS.org does not answer, or it is another account's."""

    @asynccontextmanager
    async def come_again() -> AsyncIterator[Bench]:
        async with AsyncExitStack() as stack:
            account = emulator
            if request.param == "another account":
                account = await stack.enter_async_context(Emulator(now=clock.now))
            later = await stack.enter_async_context(bench_on(account))
            later.spoil(on_get(DOWN, None))
            yield later

    return come_again


@pytest.mark.parametrize("by", ["us", "others"])
async def test_of_a_backup_that_cannot_be_looked_for_it_is_told_that_it_was_finished(
    emulator: Emulator, bench_on: OpenBench, unseen: Where, by: str
) -> None:
    """It may be gone; that it was deleted here is known all the same."""
    async with bench_on(emulator) as here:
        made = await here.agent.call("create_backup", server_id=WEB)
        here.clock.advance(minutes=30)
        assert (await here.agent.call("get_operation", operation_id=made.operation)).status == "succeeded"
        backup_id, deleted = made.data["backup"]["id"], ""
        if by == "us":
            confirmation = await here.plan("delete_backup", backup_id=backup_id)
            deleted = f" Its deletion was sent since, by {confirmation['operation_id']}."
            await here.agent.call("delete_backup", **confirmation)
        else:
            emulator.fleet.delete_backup(backup_id)
    async with unseen() as there:
        told = await there.agent.call("get_operation", operation_id=made.operation)
    assert told.data["summary"] == f"Backup {backup_id} of server {WEB} was finished.{deleted}"
    assert "this is what was known before" in told.data["facts"]["not_checked_now"]
    assert told.data["next_step"].startswith("Do not count on it")


async def test_a_restore_that_cannot_be_looked_at_is_undone_by_no_backup_that_was_deleted(
    emulator: Emulator, bench_on: OpenBench, unseen: Where
) -> None:
    async with bench_on(emulator) as here:
        confirmation = await here.plan("restore_server", server_id=WEB, backup_id=SOURCE)
        await here.agent.call("restore_server", **confirmation)
        emulator.finish_all()
        restored = await here.agent.call("restore_server", **confirmation)
        way_back = restored.data["made"]
        assert (restored.status, "undo" in restored.data) == ("accepted", True)
        here.clock.advance(hours=1)
        made = next(each.backup_id for each in here.operations() if each.action == "create_backup")
        assert str(made) in way_back
        await here.agent.call("delete_backup", **await here.plan("delete_backup", backup_id=made))
    async with unseen() as there:
        told = await there.agent.call("get_operation", operation_id=restored.operation)
    assert (told.status, "undo" in told.data) == ("accepted", False)


async def test_what_was_planned_or_made_with_another_account_is_not_confirmed_or_repeated_here(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    async with bench_on(emulator) as here:
        confirmation = await here.plan("delete_backup", backup_id=TARGET)
        made = await here.agent.call("create_backup", server_id=WEB, description="nightly")
    async with Emulator(now=here.clock.now) as other, bench_on(other) as there:
        assert (await there.agent.call("delete_backup", **confirmation)).code == "confirmation_invalid"
        again = await there.agent.call("create_backup", server_id=WEB, description="nightly")
        assert (again.replayed, again.operation == made.operation) == (False, False)
        assert there.requests()[1:] == (1, 0)


async def test_with_a_flag_what_another_account_did_is_not_taken_for_done_here(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    async with bench_on(emulator, approval="flag") as here:
        assert (await here.agent.call("delete_backup", backup_id=TARGET, confirm=True)).status == "succeeded"
    async with Emulator(now=here.clock.now) as other, bench_on(other, approval="flag") as there:
        told = await there.agent.call("delete_backup", backup_id=TARGET, confirm=True)
        assert (told.status, told.replayed, there.requests()[2]) == ("succeeded", False, 1)


@pytest.mark.parametrize("by", ["this server", "somebody else", "a later one of its id", "nobody"])
async def test_no_way_back_is_told_once_it_is_gone(bench: Bench, by: str) -> None:
    confirmation, safety = await restore_with_safety_backup(bench)
    restored = await bench.agent.call("restore_server", **confirmation)
    assert restored.undo == f"restore_server(server_id={WEB}, backup_id={safety})"
    if by == "this server":
        await bench.agent.call("delete_backup", **await bench.plan("delete_backup", backup_id=safety))
    if by == "somebody else":
        bench.emulator.fleet.delete_backup(safety)
    if by == "a later one of its id":
        bench.emulator.fleet.backups[safety].created_at += timedelta(minutes=1)
    for tool, arguments in (("get_operation", {"operation_id": restored.operation}), ("restore_server", confirmation)):
        told = await bench.agent.call(tool, **arguments)
        assert (told.undo == "") is (by != "nobody")
        assert told.data["facts"]["can_be_undone"] is (by == "nobody")
