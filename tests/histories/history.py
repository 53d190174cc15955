"""A history from its beginning to the end at which all that can be known is known."""

from dataclasses import dataclass
from pathlib import Path
from random import Random

from mcp_backups.operations.operation import UNSETTLED, Operation
from tests.histories.checker import check
from tests.histories.world import World, act, open_world
from tests.stage import recorded


@dataclass(frozen=True)
class Verdict:
    """What came of a history.

    Attributes:
        wrong: What was told that is not so, or done that was not told.
        steps: What happened, one line each.
        calls: How many calls there were.
        writes: How many writes VPS.org got.
        unknown: How many operations could not be settled.
    """

    wrong: list[str]
    steps: list[str]
    calls: int
    writes: int
    operations: int
    unknown: int


async def run(random: Random, state_dir: Path) -> Verdict:
    """Let a history happen and check it."""
    async with open_world(random, state_dir) as world:
        for _ in range(random.randint(4, 14)):
            await act(world)
        await _come_to_an_end(world)
        operations = _recorded(state_dir)
        return Verdict(
            check(world, operations),
            world.steps,
            len(world.said),
            sum(request.method != "GET" for request in world.emulator.requests),
            len(operations),
            sum(each.status in UNSETTLED for each in operations),
        )


async def _come_to_an_end(world: World) -> None:
    """No more faults; whatever was late arrives; a new server looks at everything that is open."""
    world.emulator.clear_faults()
    for _ in range(2):
        world.clock.advance(minutes=3)
        world.emulator.settle()
    await world.restart()
    world.steps.append("the end")
    for operation in _recorded(world.settings.state_dir):
        if operation.sent:
            await world.ask("get_operation", operation_id=operation.id)


def _recorded(state_dir: Path) -> list[Operation]:
    return recorded(state_dir) if state_dir.exists() else []
