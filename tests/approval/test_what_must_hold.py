"""No effect without a decision on this very plan, whatever the order, the restart, the time, the second process."""

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from mcp_backups.errors import BackupsError
from tests.approval.conftest import SERVER, TARGET, Scene
from tests.stage import ManualClock, recorded, session

pytestmark = pytest.mark.anyio

Step = Callable[[Scene], Awaitable[object]]


async def approve(scene: Scene) -> None:
    await refused_or_not(scene, scene.approves)


async def decline(scene: Scene) -> None:
    await refused_or_not(scene, scene.declines)


async def refused_or_not(scene: Scene, decision: Callable[[], Awaitable[object]]) -> None:
    try:
        await decision()
    except BackupsError as error:
        scene.refusals.append(error.code)


async def approve_another_plan(scene: Scene) -> None:
    """With what was shown of another operation that waits."""
    ours = scene.operation
    scene.operation, scene.arguments = "", {"backup_id": 495}
    await scene.asks()
    mac = (await scene.shown()).mac
    scene.operation, scene.arguments = ours, {"backup_id": TARGET}
    await refused_or_not(scene, lambda: scene.decides(mac, approve=True))


async def approve_by_a_made_up_seal(scene: Scene) -> None:
    await refused_or_not(scene, lambda: scene.decides("0" * 64, approve=True))


async def approve_as_somebody_else(scene: Scene) -> None:
    await scene.start(approvers=frozenset({"bob"}))
    await approve(scene)


async def approve_as_one_of_them(scene: Scene) -> None:
    await scene.start(approvers=frozenset({"bob", "alice"}))
    await approve(scene)


async def both_at_once(scene: Scene) -> None:
    """Two approvers are shown the same, and one says yes and one no: a no holds, whichever is the first."""
    mac = (await scene.shown()).mac
    async with anyio.create_task_group() as together:
        for yes in (True, False):
            together.start_soon(refused_or_not, scene, partial(scene.decides, mac, approve=yes))
    assert scene.refusals in ([], ["confirmation_invalid"])
    scene.refusals.clear()


async def two_say_yes(scene: Scene) -> None:
    mac = (await scene.shown()).mac
    for who in ("alice", "bob"):
        await refused_or_not(scene, partial(scene.decides, mac, approve=True, by=who))


async def replay_the_approval(scene: Scene) -> None:
    """It is approved and carried out; the same approval comes once more."""
    mac = (await scene.shown()).mac
    await scene.decides(mac, approve=True)
    assert (await scene.asks()).status == "succeeded"
    await refused_or_not(scene, lambda: scene.decides(mac, approve=True))


async def restart(scene: Scene) -> None:
    await scene.start()


async def restart_machine(scene: Scene) -> None:
    scene.clock.boot += ", again"
    await scene.start()


async def change_target(scene: Scene) -> None:
    scene.emulator.fleet.backups[TARGET].description = "renamed since"


async def take_target_away(scene: Scene) -> None:
    scene.emulator.fleet.delete_backup(TARGET)


async def protect(scene: Scene) -> None:
    await scene.start(protected_backups=frozenset({TARGET}))


async def read_only(scene: Scene) -> None:
    await scene.start(read_only=True)


async def use_up_budget(scene: Scene) -> None:
    await scene.start(deletes_per_hour=0)


async def freeze(scene: Scene) -> None:
    await scene.freezes()


async def thaw(scene: Scene) -> None:
    await scene.freezes(freeze=False)


async def preview(scene: Scene) -> None:
    """It asks nobody, and shows what waits already."""
    told = await scene.agent.call(scene.tool, **scene.arguments)
    assert told.operation == scene.operation


async def set_clock_back(scene: Scene) -> None:
    scene.clock.step(days=-1)


async def ask_in_two_processes(scene: Scene) -> None:
    """Another process is asked for the same at the same time."""
    named = {"operation_id": scene.operation, "confirm": True, **scene.arguments}
    async with (
        session(scene.emulator, scene.settings, scene.clock) as other,
        anyio.create_task_group() as together,
    ):
        together.start_soon(lambda: other.call(scene.tool, **named))
        together.start_soon(lambda: scene.agent.call(scene.tool, **named))


def passes(**span: float) -> Step:
    async def wait(scene: Scene) -> None:
        scene.clock.advance(**span)

    return wait


Case = tuple[list[Step], str, int, list[str]]
"""What happens while it waits, the code or status of the same call then, how many deletes were sent in the end, and
the codes of refused decisions."""

CASES: dict[str, Case] = {
    "nobody decides": ([], "needs_approval", 0, []),
    "a preview": ([preview], "needs_approval", 0, []),
    "approved": ([approve], "succeeded", 1, []),
    "approved, a preview": ([approve, preview], "succeeded", 1, []),
    "declined": ([decline], "declined", 0, []),
    "taken back": ([approve, decline], "declined", 0, []),
    "declined, then approved": ([decline, approve], "declined", 0, ["confirmation_invalid"]),
    "approved twice": ([approve, approve], "succeeded", 1, ["confirmation_invalid"]),
    "two say yes": ([two_say_yes], "succeeded", 1, ["confirmation_invalid"]),
    "yes and no at once": ([both_at_once], "declined", 0, []),
    "replayed": ([replay_the_approval], "succeeded", 1, ["confirmation_invalid"]),
    "declined once done": ([approve, ask_in_two_processes, decline], "succeeded", 1, ["confirmation_invalid"]),
    "for another plan": ([approve_another_plan], "needs_approval", 0, ["target_changed"]),
    "made up": ([approve_by_a_made_up_seal], "needs_approval", 0, ["target_changed"]),
    "by nobody who may": ([approve_as_somebody_else], "needs_approval", 0, ["policy_denied"]),
    "by one who may": ([approve_as_one_of_them], "succeeded", 1, []),
    "late": ([passes(hours=23, minutes=59), approve], "succeeded", 1, []),
    "too late": ([passes(hours=24), approve], "confirmation_expired", 0, ["confirmation_expired"]),
    "nobody in time": ([passes(hours=24)], "confirmation_expired", 0, []),
    "carried out late": ([approve, passes(minutes=59)], "succeeded", 1, []),
    "carried out too late": ([approve, passes(hours=1)], "confirmation_expired", 0, []),
    "taken back too late": ([approve, passes(hours=1), decline], "confirmation_expired", 0, ["confirmation_expired"]),
    "clock set back": ([approve, set_clock_back], "confirmation_expired", 0, []),
    "target changed": ([approve, change_target], "target_changed", 0, []),
    "target changed before": ([change_target, approve], "target_changed", 0, []),
    "target gone": ([approve, take_target_away], "not_found", 0, []),
    "protected since": ([approve, protect], "policy_denied", 0, []),
    "read-only since": ([approve, read_only], "read_only", 0, []),
    "no budget": ([approve, use_up_budget], "budget_exhausted", 0, []),
    "frozen": ([approve, freeze], "policy_denied", 0, []),
    "frozen before": ([freeze, approve], "policy_denied", 0, []),
    "thawed": ([freeze, approve, thaw], "succeeded", 1, []),
    "restart": ([restart, approve, restart], "succeeded", 1, []),
    "restart of the machine": ([restart_machine, approve, restart_machine], "succeeded", 1, []),
    "restart, declined": ([approve, restart, decline, restart], "declined", 0, []),
    "two processes": ([approve, ask_in_two_processes], "succeeded", 1, []),
    "two processes, no decision": ([ask_in_two_processes], "needs_approval", 0, []),
}


@pytest.mark.parametrize("name", CASES)
async def test_nothing_is_sent_without_the_decision_on_this_plan_that_still_holds(name: str, scene: Scene) -> None:
    steps, outcome, deletes, refusals = CASES[name]
    assert (await scene.asks()).status == "needs_approval"
    for step in steps:
        await step(scene)
    answer = await scene.asks()
    assert (answer.code or answer.status) == outcome, answer.text
    assert (scene.emulator.count("DELETE"), scene.refusals) == (deletes, refusals)
    assert (await scene.asks()).data.get("changed", "nothing") == ("done" if deletes else "nothing")
    assert scene.emulator.count("DELETE") == deletes
    (operation,) = (each for each in recorded(scene.settings.state_dir) if each.id == scene.operation)
    if operation.sent:
        assert (operation.approved_by, operation.decision and operation.decision.plan != "") == ("approver", True)


RESTORE = {"server_id": SERVER, "backup_id": TARGET, "safety_backup": False}
PRUNE = {"server_id": SERVER, "keep_last": 1}


@pytest.mark.parametrize(("tool", "arguments"), [("restore_server", RESTORE), ("prune_backups", PRUNE)])
@pytest.mark.parametrize(
    ("steps", "does_it"), [([approve], True), ([decline], False), ([approve, decline], False), ([], False)]
)
async def test_a_restore_and_a_prune_wait_alike(
    scene: Scene, tool: str, arguments: dict[str, int], steps: list[Step], does_it: bool
) -> None:
    scene.tool, scene.arguments = tool, arguments
    assert (await scene.asks()).status == "needs_approval"
    for step in steps:
        await step(scene)
    answer = await scene.asks()
    sent = scene.emulator.count("DELETE") + len(scene.emulator.fleet.restores)
    assert (sent > 0) is does_it is (answer.data["changed"] == "done"), answer.text
    assert answer.data["approved_by"] == ("approver" if does_it else "")


async def test_each_state_is_counted_from_its_own_event(scene: Scene) -> None:
    """Plan 10 minutes, waiting 24 h, approved 1 h from the decision, preparing 2 h from the confirmed call."""
    scene.tool, scene.arguments = "restore_server", {**RESTORE, "safety_backup": True}
    scene.emulator.change(backup_seconds=100_000)
    scene.operation = (await scene.agent.call(scene.tool, **scene.arguments)).operation
    steps = (("planned", None, 10), ("waiting", scene.asks, 1440), ("approved", scene.approves, 60))
    for status, step, minutes in (*steps, ("preparing", scene.asks, 120)):
        if step:
            await step()
        (operation,) = (each for each in recorded(scene.settings.state_dir) if each.id == scene.operation)
        assert operation.status == status
        scene.clock.advance(minutes=minutes - 1)
        assert not operation.is_expired(scene.clock.moment())
        assert operation.is_expired(ManualClock(scene.clock.passed + 60).moment())


async def test_while_a_safety_backup_is_made_an_approval_can_be_taken_back(scene: Scene) -> None:
    scene.tool, scene.arguments = "restore_server", {**RESTORE, "safety_backup": True}
    await scene.asks()
    await approve(scene)
    assert (await scene.asks()).status == "preparing"
    await scene.declines()
    scene.clock.advance(minutes=5)
    answer = await scene.asks()
    assert (answer.status, scene.emulator.fleet.restores) == ("declined", [])
    assert "The server itself was not changed." in answer.text
