"""One history: an agent, its server, the account behind it, and everything that happens to them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio

from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from mcp_backups.tools import TOOLS
from tests.faults.stage import changed
from tests.histories.faults import FAULTS
from tests.histories.truth import SERVERS, WatchedFleet, small_fleet
from tests.stage import PROMPT, Answer, ManualClock, Session, session

DESCRIPTIONS = ("", "before the update", "nightly")
PASSING = (1, 5, 61, 130, 180, 660, 1801, 7_300, 90_000)
"""Seconds that may pass: around every limit that the product knows."""

Step = Callable[[], Awaitable[None]]


@dataclass
class Said:
    """One call and its answer, with the requests that VPS.org got meanwhile.

    Attributes:
        requests: From which to which, as indices into the emulator's book.
        alone: Whether no other call was under way.
    """

    tool: str
    arguments: dict[str, Any]
    answer: Answer
    requests: tuple[int, int]
    alone: bool


@dataclass
class World:
    """What a history happens to.

    Attributes:
        plans: Confirmations that an agent was shown how to give.
        calls: Every write that was asked for, to be asked for again.
        steps: What happened, for the report of a failure.
    """

    random: Random
    emulator: Emulator
    clock: ManualClock
    settings: Settings
    stack: AsyncExitStack
    agent: Session
    fleet: WatchedFleet
    said: list[Said] = field(default_factory=list)
    plans: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    started: int = 0
    under_way: int = 0
    cancelling: anyio.CancelScope | None = None

    async def ask(self, tool: str, **arguments: Any) -> None:
        """Call a tool, and keep what was said."""
        self.steps.append(f"{tool} {arguments}")
        before, alone = len(self.emulator.requests), self.under_way == 0
        self.started, self.under_way = self.started + 1, self.under_way + 1
        number = self.started
        try:
            answer = await self.agent.call(tool, **arguments)
        finally:
            self.under_way -= 1
        after = len(self.emulator.requests)
        self.steps.append(f"  {answer.text.splitlines()[0][:150]}")
        self.said.append(Said(tool, arguments, answer, (before, after), alone and number == self.started))
        if not answer.is_error and "operation_id" in answer.data:
            self.operations.append(answer.operation)
            if answer.status in ("needs_confirmation", "preparing"):
                own = {name: value for name, value in arguments.items() if name != "operation_id"}
                self.plans.append((tool, own | {"confirm": True, "operation_id": answer.operation}))

    async def ask_and_cancel(self, tool: str, **arguments: Any) -> None:
        """Call a tool, and give the call up as soon as VPS.org has a request of it."""
        with anyio.CancelScope() as self.cancelling:
            await self.ask(tool, **arguments)
        self.cancelling = None

    async def restart(self, *, machine: bool = False) -> None:
        """End the server and start another on the same ledger."""
        self.steps.append("restart")
        await self.stack.aclose()
        if machine:
            self.clock.boot += " again"
        self.agent = await self.stack.enter_async_context(_serve(self.emulator, self.settings, self.clock))


@asynccontextmanager
async def _serve(emulator: Emulator, settings: Settings, clock: ManualClock) -> AsyncIterator[Session]:
    async with session(emulator, settings, clock, "auto", partial(PROMPT, deadline=0.3)) as agent:
        # Other tests hold the answers to their schemas; to do so here would take half the time.
        agent.client.session._tool_output_schemas = {tool.name: None for tool in TOOLS}
        yield agent


@asynccontextmanager
async def open_world(random: Random, state_dir: Path) -> AsyncIterator[World]:
    """A small account, a server on it, and an agent."""
    clock = ManualClock()
    fleet = small_fleet(clock.now())
    worlds: list[World] = []

    async def interrupt(_seconds: float) -> None:
        """How the emulator waits: not at all, but a call that is to be given up is given up now."""
        if worlds and worlds[0].cancelling is not None:
            worlds[0].cancelling.cancel()
        await anyio.lowlevel.checkpoint()

    settings = Settings(
        state_dir=state_dir,
        approval=random.choice(["plan", "plan", "flag"]),
        restores_per_hour=random.choice([1, 5]),
        deletes_per_hour=random.choice([2, 100]),
        mark_backups=random.random() < 0.8,
        protected_backups=frozenset({1}),
    )
    async with Emulator(fleet, now=clock.now, sleep=interrupt) as emulator, AsyncExitStack() as stack:
        agent = await stack.enter_async_context(_serve(emulator, settings, clock))
        worlds.append(World(random, emulator, clock, settings, stack, agent, fleet))
        yield worlds[0]


def backup_of(world: World) -> int:
    """Any backup that is there, and now and then one that is not."""
    there = sorted(world.fleet.backups)
    return world.random.choice([*there, 999]) if there else 999


def write_of(world: World) -> tuple[str, dict[str, Any]]:
    """Something an agent may ask for, new or again."""
    random = world.random
    confirm = {"confirm": True} if world.settings.approval == "flag" and random.random() < 0.5 else {}
    server_id, backup_id = random.choice(SERVERS), backup_of(world)
    known = world.fleet.backups.get(backup_id)
    choices: list[tuple[int, tuple[str, dict[str, Any]]]] = [
        (4, ("create_backup", {"server_id": server_id, "description": random.choice(DESCRIPTIONS)})),
        (1, ("create_backup", {"server_id": server_id, "allow_duplicate": True})),
        (4, ("delete_backup", {"backup_id": backup_id} | confirm)),
        (
            3,
            (
                "restore_server",
                {"server_id": known.server_id if known else server_id, "backup_id": backup_id}
                | {"safety_backup": random.random() < 0.6}
                | confirm,
            ),
        ),
        (1, ("prune_backups", {"server_id": server_id, "keep_last": random.choice([1, 2])})),
        *([(9, random.choice(world.plans))] if world.plans else []),
        *([(3, random.choice(world.calls))] if world.calls else []),
    ]
    weights, calls = zip(*choices, strict=True)
    chosen: tuple[str, dict[str, Any]] = random.choices(calls, weights)[0]
    world.calls.append(chosen)
    return chosen


async def act(world: World) -> None:
    """Let one more thing happen."""
    random = world.random
    kinds: list[tuple[int, Step]] = [
        (12, lambda: _write(world)),
        (3, lambda: _writes_at_once(world)),
        (2, lambda: _cancelled_write(world)),
        (4, lambda: _look(world)),
        (2, lambda: world.restart(machine=random.random() < 0.3)),
        (5, lambda: _time_passes(world)),
        (2, lambda: _others(world)),
        (6, lambda: _fault(world)),
        (3, lambda: _no_faults(world)),
    ]
    weights, steps = zip(*kinds, strict=True)
    await random.choices(steps, weights)[0]()


async def _write(world: World) -> None:
    tool, arguments = write_of(world)
    await world.ask(tool, **arguments)


async def _writes_at_once(world: World) -> None:
    calls = [write_of(world) for _ in range(world.random.choice([2, 3]))]
    if world.random.random() < 0.5:
        calls = calls[:1] * len(calls)
    async with anyio.create_task_group() as together:
        for tool, arguments in calls:
            together.start_soon(partial(world.ask, tool, **arguments))


async def _cancelled_write(world: World) -> None:
    method = world.random.choice(["GET", "POST", "DELETE"])
    world.emulator.fail(FAULTS["held"], method=method, skip=world.random.choice([0, 0, 1]))
    tool, arguments = write_of(world)
    await world.ask_and_cancel(tool, **arguments)


async def _look(world: World) -> None:
    if world.operations:
        await world.ask("get_operation", operation_id=world.random.choice(world.operations))


async def _time_passes(world: World) -> None:
    if world.random.random() < 0.15:
        world.clock.step(seconds=world.random.choice([-90_000, -600, 600, 90_000]))
        world.steps.append(f"the clock is wrong by {world.clock.wrong}")
    else:
        seconds = world.random.choice(PASSING)
        world.clock.advance(seconds=seconds)
        world.steps.append(f"{seconds} s pass")


async def _others(world: World) -> None:
    """Somebody else at the account: makes, deletes or renames."""
    with world.emulator.lock, world.fleet.others():
        backup = world.fleet.backups.get(backup_of(world))
        kind = world.random.choice(["make", "delete", "rename"])
        world.steps.append(f"somebody else: {kind} {backup.id if backup else ''}")
        if kind == "make":
            world.fleet.start_backup(world.random.choice(SERVERS), "by hand", world.clock.now(), 8.0)
        elif backup and kind == "delete":
            world.fleet.delete_backup(backup.id)
        elif backup:
            backup.description = "renamed"


async def _fault(world: World) -> None:
    name = world.random.choice([name for name in FAULTS if name != "held"])
    method = world.random.choice(["GET", "POST", "DELETE", ""])
    times, skip = world.random.choice([1, 1, 2, 3, None]), world.random.choice([0, 0, 1])
    world.emulator.fail(FAULTS[name], method=method, times=times, skip=skip)
    world.steps.append(f"fault: {name} on {method or 'all'}, {times} times after {skip}")


async def _no_faults(world: World) -> None:
    world.emulator.clear_faults()
    world.steps.append("no faults")


def claim(said: Said) -> str:
    """What a call said that it changed; empty where it was no write, or told of an earlier one."""
    if said.tool == "get_operation" or said.answer.data.get("replayed"):
        return ""
    return changed(said.answer)
