"""What only happens when several calls or processes meet at the wrong moment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.ledger import SqliteLedger
from mcp_backups.ledger.liveness import FileLiveness
from mcp_backups.operations import execution
from mcp_backups.operations.execution import StaleError
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    LOST,
    MAIL,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    a_create,
    a_restore,
    changed,
    on_get,
    on_post,
)
from tests.stage import NOW, ManualClock, on_file, recorded

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def another_process(state_dir: Path) -> AsyncIterator[tuple[SqliteLedger[Operation], FileLiveness]]:
    """The ledger and the liveness of a second server on the same folder."""
    ledger, liveness = SqliteLedger(state_dir, Operation, lambda: NOW), FileLiveness(state_dir)
    try:
        yield ledger, liveness
    finally:
        liveness.leave()
        ledger.close()


def _damage(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "ledger.sqlite3").write_bytes(b"no database" * 1000)


async def save(ledger: SqliteLedger[Operation], operation: Operation) -> None:
    await ledger.write(lambda entries: entries.save(operation))


@on_file
@pytest.mark.parametrize("alive", [True, False])
async def test_a_call_waits_for_another_process_only_as_long_as_that_lives(bench: Bench, alive: bool) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    (planned,) = bench.operations()
    async with another_process(bench.state_dir) as (ledger, liveness), liveness.at_work(planned.id) as owner:
        await save(ledger, planned.updated(status="sending", sent=bench.clock.moment(), owner=owner))
        if not alive:
            liveness.leave()
        bench.spoil()
        answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.code or answer.status) == ("busy" if alive else "unknown")
    assert sum(bench.clock.slept) == pytest.approx(20 if alive else 0)
    assert bench.requests()[2] == 0


@on_file
async def test_the_next_start_leaves_alone_what_a_living_process_is_at(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bench_on(emulator) as bench:
        await bench.plan("delete_backup", backup_id=TARGET)
    (planned,) = recorded(state_dir)
    async with another_process(state_dir) as (ledger, liveness), liveness.at_work(planned.id) as owner:
        sending = planned.updated(status="sending", sent=bench.clock.moment(), owner=owner)
        await save(ledger, sending)
        async with bench_on(emulator) as bench:
            for _ in range(3):
                await bench.agent.call("list_backups")
        assert recorded(state_dir) == [sending]
    assert "was left open" not in caplog.text


@on_file
async def test_the_next_start_says_so_where_it_cannot_look_into_what_was_left_open(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _damage(state_dir)
    async with bench_on(emulator) as bench:
        for _ in range(3):
            assert not (await bench.agent.call("list_backups")).is_error
    assert "What was left open could not be looked into: ledger_unavailable" in caplog.text


async def test_a_call_that_came_second_to_one_that_failed_may_be_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found under way when it was to be sent, and failed when it was looked at: there is nothing to return."""
    found = iter([None, object(), None])  # before, when it was to be sent, and afterwards
    monkeypatch.setattr("mcp_backups.actions.create.find_repeat", lambda *_: next(found))
    answer = await a_create(bench, ())
    assert (answer.code, changed(answer)) == ("busy", "nothing")
    assert (bench.requests()[1], bench.operations()) == (0, [])


async def test_a_target_that_never_stands_still_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_fresh(*_: Any) -> None:
        raise StaleError

    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    monkeypatch.setattr(execution, "check_fresh", never_fresh)
    bench.spoil()
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.code, changed(answer)) == ("busy", "nothing")
    assert bench.requests() == (5, 0, 0)


async def test_without_marks_a_backup_that_another_call_may_have_made_is_nobodys(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    """Two of the same were asked for, one was made: neither can claim it while the other is unknown."""
    async with bench_on(emulator, mark_backups=False) as bench:
        asked = {"server_id": WEB, "description": "nightly", "allow_duplicate": True}
        bench.spoil(on_post(Fault.status(500)), on_post(LOST))
        answers = [await bench.agent.call("create_backup", **asked) for _ in range(2)]
        assert [answer.code for answer in answers] == ["outcome_unknown"] * 2


async def test_without_marks_a_backup_that_another_call_has_made_is_not_found_twice(
    emulator: Emulator, bench_on: OpenBench
) -> None:
    async with bench_on(emulator, mark_backups=False) as bench:
        asked = {"server_id": WEB, "description": "nightly", "allow_duplicate": True}
        first = await bench.agent.call("create_backup", **asked)
        bench.spoil(on_post(Fault.status(500)))
        second = await bench.agent.call("create_backup", **asked)
        assert (first.status, second.code) == ("accepted", "outcome_unknown")


async def test_a_plan_that_expires_while_its_target_is_read_is_not_carried_out(
    clock: ManualClock, bench_on: OpenBench
) -> None:
    async def time_flies(_seconds: float) -> None:
        clock.advance(minutes=11)

    async with Emulator(now=clock.now, sleep=time_flies) as api, bench_on(api) as bench:
        confirmation = await bench.plan("delete_backup", backup_id=TARGET)
        bench.spoil(on_get(Fault.delay(1)))
        answer = await bench.agent.call("delete_backup", **confirmation)
        assert answer.code == "confirmation_expired"
        assert bench.requests()[2] == 0


async def test_a_backup_that_an_incomplete_list_does_not_show_is_not_said_to_be_gone(bench: Bench) -> None:
    bench.spoil(on_get(Fault.edited(lambda page: page | {"results": page["results"][:1]}), None))
    answer = await bench.agent.call("delete_backup", backup_id=SOURCE)
    assert (answer.code, "so it may exist" in answer.text) == ("upstream_protocol", True)


async def test_a_restore_waits_for_a_safety_backup_of_which_nothing_is_known(bench: Bench) -> None:
    oldest = min(bench.emulator.fleet.backups_of(MAIL), key=lambda backup: backup.created_at).id
    confirmation = await bench.plan("restore_server", server_id=MAIL, backup_id=oldest)
    bench.spoil(on_post(Fault.status(500).late(30)))
    preparing = await bench.agent.call("restore_server", **confirmation)
    assert (preparing.status, preparing.data["facts"]["safety_backup_status"]) == ("preparing", "unknown")
    assert (await bench.agent.call("restore_server", **confirmation)).status == "preparing"
    bench.clock.advance(minutes=1)
    assert (await bench.agent.call("restore_server", **confirmation)).status == "accepted"
    assert (len(bench.emulator.fleet.restores), bench.emulator.count("POST", "/backups/")) == (1, 1)


@pytest.mark.parametrize("is_made", [True, False])
async def test_of_a_restore_that_expired_only_a_safety_backup_that_is_known_is_told_as_made(
    bench: Bench, is_made: bool
) -> None:
    oldest = min(bench.emulator.fleet.backups_of(MAIL), key=lambda backup: backup.created_at).id
    confirmation = await bench.plan("restore_server", server_id=MAIL, backup_id=oldest)
    bench.spoil(*[] if is_made else [on_post(Fault.status(500))])
    assert (await bench.agent.call("restore_server", **confirmation)).status == "preparing"
    bench.clock.advance(hours=2, minutes=1)
    told = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
    made = f"safety backup {max(bench.emulator.fleet.backups)}" if is_made else "perhaps a safety backup, by op_"
    assert told.status == "expired"
    assert str(told.data["made"]).startswith(made)


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_a_restore_that_vps_org_refuses_has_failed_and_leaves_the_server_open(bench: Bench, status: int) -> None:
    answer = await a_restore(bench, (on_post(Fault.status(status, {"detail": "No."})),))
    assert changed(answer) == "nothing"
    (operation,) = bench.operations()
    assert operation.status == "failed"
    assert (await bench.agent.call("delete_backup", backup_id=TARGET)).status == "needs_confirmation"
