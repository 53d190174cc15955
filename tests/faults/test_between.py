"""What comes in between a plan and its confirmation, a request and its record, two clocks, or two tokens."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_backups.ledger import sqlite as ledger_module
from mcp_backups.sandbox import Backup, Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    DOWN,
    LOST,
    NEVER_ARRIVED,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    a_delete,
    on_delete,
    on_get,
    on_post,
)
from tests.stage import ManualClock, on_file, stays

pytestmark = pytest.mark.anyio

PAGE = Fault.status(200, "<html>maintenance</html>")
NEXT = 502
"""The id of the next backup that is made."""

NEW_TOKEN = "vps_rotated"
OLDEST_MANUAL = 307
"""The web server's oldest manual backup, which a prune deletes first."""


async def restored(bench: Bench, backup_id: int = SOURCE, **arguments: Any) -> str:
    """Restore the web server, with a safety backup if one is needed; the operation."""
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=backup_id, **arguments)
    answer = await bench.agent.call("restore_server", **confirmation)
    if answer.status == "preparing":
        bench.clock.advance(minutes=3)
        answer = await bench.agent.call("restore_server", **confirmation)
    assert answer.status == "accepted", answer.text
    return answer.operation


# A delete or a prune, and a restore that needs the backup


@pytest.mark.parametrize("needed_as", ["way back", "source"])
async def test_a_delete_planned_before_a_restore_that_needs_the_backup_is_not_sent(
    bench: Bench, needed_as: str
) -> None:
    made = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    backup_id = int(made.data["backup"]["id"])
    confirmation = await bench.plan("delete_backup", backup_id=backup_id)
    restore = await restored(bench, SOURCE if needed_as == "way back" else backup_id)
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.code, bench.requests()[2]) == ("target_changed", 0)
    told = await bench.agent.call("delete_backup", backup_id=backup_id)
    assert restore in (told.data["facts"].get("way_back_of"), told.data["facts"].get("being_restored_by"))
    answer = await bench.agent.call("delete_backup", backup_id=backup_id, confirm=True, operation_id=told.operation)
    assert answer.status == "succeeded"


@pytest.mark.parametrize("planned", ["before", "after"])
async def test_a_prune_leaves_alone_what_a_restore_needs(bench: Bench, planned: str) -> None:
    await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    bench.clock.advance(minutes=30)
    if planned == "before":
        confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)
    restore = await restored(bench, OLDEST_MANUAL)
    if planned == "after":
        confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)
        plan = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
        reasons = {row["id"]: row["reason"] for row in stays(plan)}
        assert reasons[OLDEST_MANUAL] == f"{restore} puts it back"
        assert reasons[NEXT] == f"the way back from {restore}, keep-last 1"
    await bench.agent.call("prune_backups", **confirmation)
    assert {OLDEST_MANUAL, NEXT} <= set(bench.emulator.fleet.backups)


async def test_what_a_waiting_restore_needs_is_told_to_be_needed_and_left_alone_by_prunes(bench: Bench) -> None:
    before = await bench.plan("delete_backup", backup_id=OLDEST_MANUAL)
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=OLDEST_MANUAL)
    restore = (await bench.agent.call("restore_server", **confirmation)).operation
    assert (await bench.agent.call("delete_backup", **before)).code == "target_changed"
    source = await bench.agent.call("delete_backup", backup_id=OLDEST_MANUAL)
    assert source.data["facts"]["being_restored_by"] == restore
    safety = await bench.agent.call("delete_backup", backup_id=NEXT)
    assert safety.data["facts"]["way_back_of"] == restore
    assert f"It is the way back from the restore {restore}, which" in safety.data["summary"]
    assert f"The restore {restore} puts it back on the server" in source.data["summary"]
    plan = await bench.agent.call("prune_backups", server_id=WEB, keep_last=1)
    kept = {row["id"]: row["reason"] for row in stays(plan)}
    assert kept[OLDEST_MANUAL] == f"{restore} puts it back"
    bench.clock.advance(hours=2)
    late = await bench.agent.call("delete_backup", backup_id=OLDEST_MANUAL)
    assert "being_restored_by" not in late.data["facts"]


async def test_a_backup_from_before_another_restore_is_no_way_back(bench: Bench) -> None:
    """It does not hold what that made of the server, and what was written since."""
    one = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE)
    other = await bench.plan("restore_server", server_id=WEB, backup_id=TARGET)
    for confirmation in (one, other):
        assert (await bench.agent.call("restore_server", **confirmation)).status == "preparing"
    bench.clock.advance(minutes=3)
    assert (await bench.agent.call("restore_server", **one)).status == "accepted"
    bench.clock.advance(minutes=61)
    late = await bench.agent.call("restore_server", **other)
    assert (late.code, "Another restore was sent since the safety backup" in late.text) == ("policy_denied", True)
    assert bench.emulator.count("POST", f"/servers/{WEB}/restore/") == 1


async def test_a_plan_to_restore_takes_nothing_from_before_another_restore_for_its_way_back(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    async with bench_on(emulator, restores_per_hour=5) as bench:
        await restored(bench)
        bench.clock.advance(minutes=30)
        plan = await bench.agent.call("restore_server", server_id=WEB, backup_id=TARGET)
        assert plan.data["facts"]["safety_backup"] == "one is made first"


async def test_the_same_request_after_a_restore_is_for_a_backup_of_what_that_made(bench: Bench) -> None:
    first = await bench.agent.call("create_backup", server_id=WEB, description="state", wait_seconds=45)
    await restored(bench, TARGET)
    bench.clock.advance(minutes=2)
    again = await bench.agent.call("create_backup", server_id=WEB, description="state")
    assert (again.replayed, again.operation == first.operation) == (False, False)


async def test_what_can_be_undone_is_told_as_it_came_to_be(bench: Bench) -> None:
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE, safety_backup=False)
    await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
    answer = await bench.agent.call("restore_server", **confirmation)
    assert answer.undo == f"restore_server(server_id={WEB}, backup_id={NEXT})"
    assert answer.data["facts"]["can_be_undone"] is True


# A way back, and what became of it


async def test_a_way_back_of_which_nothing_certain_is_known_is_not_told_to_be_one_nor_given_up(bench: Bench) -> None:
    restore = await restored(bench)
    confirmation = await bench.plan("delete_backup", backup_id=NEXT)
    bench.spoil(on_delete(NEVER_ARRIVED), on_get(DOWN, None, 1))
    assert (await bench.agent.call("delete_backup", **confirmation)).code == "outcome_unknown"
    bench.emulator.clear_faults()
    assert (await bench.agent.call("get_operation", operation_id=restore)).undo == ""
    bench.clock.advance(minutes=31)
    plan = await bench.agent.call("delete_backup", backup_id=NEXT)
    assert plan.data["facts"]["way_back_of"] == restore
    bench.clock.advance(hours=23)
    assert (await bench.agent.call("get_operation", operation_id=restore)).undo == ""
    bench.clock.advance(minutes=29)
    failed = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    assert failed.status == "failed"
    assert (await bench.agent.call("get_operation", operation_id=restore)).data["undo"]


@pytest.mark.parametrize("lost", ["gone", "expired", "empty"])
@pytest.mark.parametrize("may_list_servers", [True, False])
async def test_a_way_back_that_is_gone_or_of_no_use_is_told_no_more(
    bench: Bench, lost: str, may_list_servers: bool
) -> None:
    restore = await restored(bench)
    way_back = bench.emulator.fleet.backups[NEXT]
    if lost == "gone":
        bench.emulator.fleet.delete_backup(NEXT)
    elif lost == "expired":
        way_back.expires_at = bench.clock.now()
    else:
        way_back.size_mb = 0
    if not may_list_servers:
        bench.spoil(on_get(Fault.status(403, {"detail": "No."}), None, 1))
    told = await bench.agent.call("get_operation", operation_id=restore)
    assert (told.undo, told.data["facts"]["can_be_undone"]) == ("", False)
    assert ("not_checked_now" in told.data["facts"]) is not may_list_servers


async def test_a_way_back_that_a_list_lacked_is_told_again_once_it_is_listed(bench: Bench) -> None:
    """The backup had just been made, and one list was behind: then the restore was told for good not to be undone."""
    restore = await restored(bench)
    bench.spoil(on_get(Fault.lagging(25 * 60)))
    assert (await bench.agent.call("get_operation", operation_id=restore)).undo == ""
    bench.emulator.clear_faults()
    told = await bench.agent.call("get_operation", operation_id=restore)
    assert told.undo == f"restore_server(server_id={WEB}, backup_id={NEXT})"
    assert told.data["facts"]["can_be_undone"] is True


async def test_a_way_back_that_only_an_incomplete_list_lacks_is_told_as_before(bench: Bench) -> None:
    restore = await restored(bench)

    def without_it(content: dict[str, Any]) -> None:
        content["results"] = [row for row in content["results"] if row["id"] != NEXT]

    bench.spoil(on_get(Fault.edited(without_it)))  # the count still has it
    told = await bench.agent.call("get_operation", operation_id=restore)
    assert told.undo == f"restore_server(server_id={WEB}, backup_id={NEXT})"


# A deletion that was sent, and the backup is still there


@pytest.mark.parametrize(
    ("sent", "minutes", "code"),
    [
        ("accepted", 24 * 60 - 1, "policy_denied"),
        ("accepted", 24 * 60, ""),
        ("unknown", 31, "policy_denied"),
        ("unknown", 24 * 60 - 1, "policy_denied"),
        ("unknown", 24 * 60, ""),
    ],
)
async def test_a_backup_whose_deletion_may_still_come_is_not_restored_but_for_no_longer_than_that(
    bench: Bench, sent: str, minutes: float, code: str
) -> None:
    if sent == "accepted":
        await a_delete(bench, (on_delete(Fault.status(202)),))
    else:
        await a_delete(bench, (on_delete(NEVER_ARRIVED), on_get(DOWN, None, 1)))
        bench.emulator.clear_faults()
    bench.clock.advance(minutes=minutes)
    assert (await bench.agent.call("restore_server", server_id=WEB, backup_id=TARGET)).code == code


# A request, and the ledger that goes away before it is recorded


@pytest.fixture
def quick_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_WAIT_SECONDS", 0.05)


def lose_ledger(bench: Bench) -> None:
    for path in bench.state_dir.glob("ledger.sqlite3*"):
        path.unlink()


@on_file
@pytest.mark.parametrize("certain", [True, False])
async def test_a_prune_that_loses_its_ledger_tells_what_it_did_before(bench: Bench, certain: bool) -> None:
    confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)

    def lose(page: dict[str, Any]) -> dict[str, Any]:
        lose_ledger(bench)
        return page if certain else page | {"count": 999}

    bench.spoil(on_get(Fault.edited(lose), 1, 1), *(() if certain else (on_delete(LOST),)))
    answer = await bench.agent.call("prune_backups", **confirmation)
    assert (answer.data["status"], answer.data["changed"]) == ("unknown", "unknown")
    assert f"(delete_backup) came to be '{'succeeded' if certain else 'unknown'}'" in answer.text
    assert f"stopped at backup {OLDEST_MANUAL}." in answer.text
    assert OLDEST_MANUAL not in bench.emulator.fleet.backups


@on_file
async def test_a_prune_that_loses_its_ledger_before_anything_was_sent_says_so(bench: Bench) -> None:
    confirmation = await bench.plan("prune_backups", server_id=WEB, keep_last=1)

    def lose(page: dict[str, Any]) -> dict[str, Any]:
        lose_ledger(bench)
        return page | {"count": 999}

    bench.spoil(on_get(Fault.edited(lose)))
    answer = await bench.agent.call("prune_backups", **confirmation)
    assert (answer.code, bench.requests()[2]) == ("ledger_unavailable", 0)
    assert "Nothing was changed." in answer.text
    assert OLDEST_MANUAL in bench.emulator.fleet.backups


@on_file
async def test_a_restore_that_loses_its_ledger_tells_that_its_safety_backup_was_started(bench: Bench) -> None:
    confirmation = await bench.plan("restore_server", server_id=WEB, backup_id=SOURCE)
    bench.spoil(on_post(Fault.edited(lambda _: lose_ledger(bench))))
    answer = await bench.agent.call("restore_server", **confirmation)
    assert (answer.code, "The change was started." in answer.text) == ("ledger_unavailable", True)
    assert NEXT in bench.emulator.fleet.backups


@contextmanager
def holding(bench: Bench) -> Iterator[list[sqlite3.Connection]]:
    """Another process that takes the ledger and keeps it, from the next list on."""
    held: list[sqlite3.Connection] = []

    def hold(_: Any) -> None:
        connection = sqlite3.connect(bench.state_dir / "ledger.sqlite3", isolation_level=None, check_same_thread=False)
        connection.execute("BEGIN IMMEDIATE")
        held.append(connection)

    bench.spoil(on_get(Fault.edited(hold), 1, 1))
    try:
        yield held
    finally:
        for connection in held:
            connection.close()


@on_file
@pytest.mark.usefixtures("quick_lock")
async def test_what_is_seen_while_another_process_holds_the_ledger_is_told_and_recorded_later(bench: Bench) -> None:
    with holding(bench) as held:
        answer = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=45)
        assert held
        assert (answer.status, answer.data["changed"]) == ("succeeded", "done")
        assert "Another process holds the ledger." in answer.data["facts"]["problem"]
    assert [each.status for each in bench.operations()] == ["accepted"]
    assert (await bench.agent.call("get_operation", operation_id=answer.operation)).status == "succeeded"
    assert [each.status for each in bench.operations()] == ["succeeded"]


# Two tokens, and what was half done with the first


@pytest.fixture
async def half_pruned(emulator: Emulator, bench_on: OpenBench) -> dict[str, Any]:
    """A prune that has deleted one of two backups before VPS.org failed; the token was replaced since."""
    async with bench_on(emulator) as before:
        confirmation = await before.plan("prune_backups", server_id=WEB, keep_last=1)
        before.spoil(on_get(DOWN, None, 2))
        answer = await before.agent.call("prune_backups", **confirmation)
        assert (answer.status, answer.data["changed"]) == ("preparing", "done")
    emulator.clear_faults()
    emulator.fleet.tokens[NEW_TOKEN] = ["*:*"]
    return confirmation


@pytest.mark.parametrize("minutes", [0, 180])
async def test_a_prune_begun_with_another_token_tells_what_it_did(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench, half_pruned: dict[str, Any], minutes: float
) -> None:
    clock.advance(minutes=minutes)
    async with bench_on(emulator, vps_api_token=SecretStr(NEW_TOKEN)) as bench:
        refused = await bench.agent.call("prune_backups", **half_pruned)
        assert refused.code == "confirmation_invalid"
        assert "It had deleted some of its backups, or may have" in refused.text
        told = await bench.agent.call("get_operation", operation_id=half_pruned["operation_id"])
        assert told.data["changed"] == "done"
        assert str(OLDEST_MANUAL) in told.data["summary"] or "1 of 2" in told.data["summary"]
        assert told.data["next_step"] == "Call prune_backups again without operation_id if it is still wanted."


async def test_a_plan_made_with_another_token_says_to_plan_anew(emulator: Emulator, bench_on: OpenBench) -> None:
    async with bench_on(emulator) as before:
        confirmation = await before.plan("delete_backup", backup_id=TARGET)
    emulator.fleet.tokens[NEW_TOKEN] = ["*:*"]
    async with bench_on(emulator, vps_api_token=SecretStr(NEW_TOKEN)) as bench:
        told = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert told.data["next_step"] == "Call delete_backup again without operation_id if it is still wanted."


# Two clocks


async def test_a_late_deletion_is_judged_by_vps_orgs_clock_from_the_first_look_on(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench
) -> None:
    async with bench_on(emulator) as before:
        answer = await a_delete(before, (on_delete(LOST.late(100)), on_get(DOWN, None, 1)))
        assert answer.code == "outcome_unknown"
    emulator.clear_faults()
    clock.boot = "second boot"
    clock.step(hours=1)
    clock.advance(seconds=10)
    async with bench_on(emulator) as bench:
        (operation,) = bench.operations()
        assert (await bench.agent.call("get_operation", operation_id=operation.id)).status == "unknown"


@pytest.mark.parametrize("ahead", ["ours", "vps.org's"])
async def test_no_clock_that_is_ahead_makes_old_what_may_be_under_way(bench: Bench, ahead: str) -> None:
    queued = bench.emulator.fleet.start_backup(WEB, "by hand", bench.clock.now(), 3600)

    def edit(page: dict[str, Any]) -> dict[str, Any]:
        for row in page["results"]:
            row["status"] = row["status"].replace("in_progress", "queued")
        return page

    bench.spoil(on_get(Fault.edited(edit), None))
    bench.clock.step(hours=25 if ahead == "ours" else -25)
    if ahead != "ours":
        queued.created_at -= timedelta(hours=25)
    plan = await bench.agent.call("prune_backups", server_id=WEB, keep_last=1)
    kept = {row["id"]: row["reason"] for row in stays(plan)}
    assert kept[queued.id] == "it is not known what its status means"


async def test_a_backup_dated_in_the_future_is_neither_relied_on_nor_deleted(bench: Bench) -> None:
    made = bench.clock.now() + timedelta(days=400)
    bench.emulator.fleet.backups[9001] = Backup(9001, WEB, made, size_mb=9, backup_type="manual")
    plan = await bench.agent.call("prune_backups", server_id=WEB, keep_last=1)
    kept = {row["id"]: row["reason"] for row in stays(plan)}
    assert kept == {9001: "dated in the future", TARGET: "keep-last 1"}


async def test_a_clock_that_was_ahead_for_one_restore_does_not_forbid_the_next(bench: Bench) -> None:
    bench.clock.step(days=20)
    await restored(bench, TARGET, safety_backup=False)
    bench.clock.step(days=-20)
    bench.clock.advance(hours=2)
    answer = await bench.agent.call("restore_server", server_id=WEB, backup_id=TARGET, safety_backup=False)
    assert answer.status == "needs_confirmation"


async def test_without_marks_no_clock_step_makes_one_requests_backup_anothers(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench
) -> None:
    async with bench_on(emulator, mark_backups=False) as bench:
        bench.spoil(on_post(LOST.late(25)))
        first = await bench.agent.call("create_backup", server_id=WEB, description="nightly")
        clock.step(hours=1)
        bench.spoil(on_post(NEVER_ARRIVED))
        other = await bench.agent.call("create_backup", server_id=WEB, description="nightly", allow_duplicate=True)
        assert (first.code, other.code) == ("outcome_unknown", "outcome_unknown")
