"""Frozen: no process on this ledger sends anything, and no answer tells how that is lifted."""

from typing import Any

import pytest

from mcp_backups.errors import LedgerUnavailableError
from mcp_backups.ledger.sqlite import open_file_for_audit
from mcp_backups.operations import Entries, Operation, frozen
from mcp_backups.sandbox import Fault
from tests.approval.conftest import SERVER, TARGET, Scene
from tests.operations.made import operation
from tests.operations.tampering import write_as_0_1_0
from tests.stage import recorded, session
from tests.tools.refusals import assert_refused

pytestmark = pytest.mark.anyio

WRITES: dict[str, dict[str, Any]] = {
    "create_backup": {"server_id": SERVER},
    "delete_backup": {"backup_id": TARGET},
    "restore_server": {"server_id": SERVER, "backup_id": TARGET},
    "prune_backups": {"server_id": SERVER, "keep_last": 1},
}


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("tool", WRITES)
@pytest.mark.parametrize("approval", ["auto", "flag", "operator"])
async def test_nothing_that_changes_the_account_is_planned_or_sent(
    scene: Scene, tool: str, approval: str, confirm: bool
) -> None:
    await scene.start(approval=approval)
    assert await scene.freezes()
    arguments = WRITES[tool] if tool == "create_backup" else {**WRITES[tool], "confirm": confirm}
    answer = await scene.agent.call(tool, **arguments)
    assert_refused(answer, "policy_denied")
    assert answer.text == (
        'policy_denied: The operator has frozen all changes since 2026-11-23T09:30Z; the reason given: "an incident". '
        "Nothing was changed. Tell the user, and do not try again before they say that it is lifted."
    )
    assert {request.method for request in scene.emulator.requests} <= {"GET"}
    assert recorded(scene.settings.state_dir) == []


@pytest.mark.parametrize("tool", [tool for tool in WRITES if tool != "create_backup"])
async def test_a_plan_that_was_shown_before_is_not_sent_and_goes_on_afterwards(scene: Scene, tool: str) -> None:
    await scene.start(approval="plan")
    planned = await scene.agent.call(tool, **WRITES[tool])
    await scene.freezes()
    confirmed = {**WRITES[tool], "confirm": True, "operation_id": planned.operation}
    assert_refused(await scene.agent.call(tool, **confirmed), "policy_denied")
    assert (await scene.agent.call("get_operation", operation_id=planned.operation)).data["changed"] == "nothing"
    assert scene.emulator.count("DELETE") + scene.emulator.count("POST") == 0
    await scene.freezes(freeze=False)
    assert (await scene.agent.call(tool, **confirmed)).data["changed"] in {"done", "started"}
    assert scene.emulator.count("DELETE") + scene.emulator.count("POST") > 0


@pytest.mark.parametrize("approves", [True, False])
async def test_while_it_is_frozen_an_operation_is_not_told_to_be_carried_out(scene: Scene, approves: bool) -> None:
    await scene.asks()
    if approves:
        await scene.approves()
    await scene.freezes()
    told = await scene.looks()
    assert told.status == ("approved" if approves else "needs_approval")
    assert "has frozen all changes" in told.data["facts"]["problem"]
    assert told.data["next_step"] == "Tell the user, and do not try again before they say that it is lifted."
    await scene.freezes(freeze=False)
    again = await scene.looks()
    assert "problem" not in again.data["facts"]
    assert ("to have it done" in again.data["next_step"]) is approves


async def test_a_prune_that_is_under_way_stops_and_goes_on_afterwards(scene: Scene) -> None:
    """It is frozen while the first of its deletes is being sent, which is finished and recorded."""
    await scene.start(approval="plan", deletes_per_hour=100)
    scene.tool, scene.arguments = "prune_backups", WRITES["prune_backups"]
    planned = await scene.agent.call(scene.tool, **scene.arguments)
    due, scene.operation = planned.data["facts"]["to_delete"], planned.operation
    assert due > 1

    async def freeze_meanwhile(_seconds: float) -> None:
        assert await scene.freezes()

    scene.emulator._sleep = freeze_meanwhile
    scene.emulator.fail(Fault.delay(1), method="DELETE", times=1)
    answer = await scene.asks()
    assert (answer.status, answer.data["changed"], scene.emulator.count("DELETE")) == ("preparing", "done", 1)
    assert "has frozen all changes" in answer.data["facts"]["problem"]
    await scene.freezes(freeze=False)
    assert (await scene.asks()).data["changed"] == "done"
    assert scene.emulator.count("DELETE") == due


async def test_reading_and_what_was_done_before_are_told_all_the_same(scene: Scene) -> None:
    await scene.start(approval="plan")
    made = await scene.agent.call("create_backup", server_id=SERVER)
    await scene.freezes()
    assert not (await scene.agent.call("list_backups")).is_error
    assert not (await scene.agent.call("check_backups")).is_error
    assert (await scene.agent.call("get_operation", operation_id=made.operation)).data["changed"] == made.data[
        "changed"
    ]
    again = await scene.agent.call("create_backup", server_id=SERVER)
    assert (again.operation, again.data["replayed"]) == (made.operation, True)


async def test_it_holds_for_every_process_and_over_restarts(scene: Scene) -> None:
    await scene.start(approval="flag")
    await scene.freezes()
    async with session(scene.emulator, scene.settings, scene.clock.restart()) as other:
        assert (await other.call("delete_backup", backup_id=TARGET, confirm=True)).code == "policy_denied"
    await scene.start()
    assert (await scene.asks()).code == "policy_denied"


async def test_only_the_last_word_counts_and_each_is_recorded_once(scene: Scene) -> None:
    words = [False, True, True, False, False, True]
    assert [await scene.freezes(freeze=word) for word in words] == [False, True, False, True, False, True]
    freeze = await scene.as_approver(lambda context: context.ledger.read(frozen))
    assert freeze is not None
    assert (freeze.by, freeze.reason, freeze.since) == ("alice", "an incident", scene.clock.now())
    events = await scene.as_approver(lambda context: context.ledger.read(lambda entries: list(entries.events())))
    assert [event.status for event in events] == ["frozen", "thawed", "frozen"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET at = '2020-01-01T00:00:00+00:00'",
        "UPDATE events SET status = 'thawed'",
        "UPDATE events SET mac = x''",
    ],
)
async def test_a_freeze_that_was_changed_is_not_believed(scene: Scene, change: str) -> None:
    """However long ago it was recorded: only the last events are looked over whenever somebody else has written."""
    await scene.freezes()

    def look(entries: Entries) -> object:
        entries._rows.execute(change)
        return frozen(entries)

    with pytest.raises(LedgerUnavailableError, match=r"The ledger cannot be trusted: event 1 was changed\."):
        await scene.as_approver(lambda context: context.ledger.write(look))


async def test_a_ledger_from_before_there_was_a_freeze_is_not_frozen(scene: Scene) -> None:
    scene.settings.state_dir.mkdir(exist_ok=True)
    write_as_0_1_0(scene.settings.state_dir / "ledger.sqlite3", [operation(status="declined")])
    with open_file_for_audit(scene.settings.state_dir, Operation) as entries:
        assert entries is not None
        assert frozen(entries) is None
