"""One history's world: an agent, its server, the account behind it, and the truth about all of them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from mcp_backups.operations import Context, Decision, Operation, decide, pending, set_frozen
from mcp_backups.sandbox import Emulator, Received
from mcp_backups.settings import Settings
from mcp_backups.tools import TOOLS
from mcp_backups.transport import open_idle_context
from tests.faults.stage import changed
from tests.histories.faults import FAULTS, USUAL, Trouble
from tests.histories.truth import TOKENS, WatchedFleet, small_fleet
from tests.stage import PATIENCE, PROMPT, Answer, ManualClock, Session, on_emulator, recorded, session

Call = tuple[str, dict[str, Any]]
"""A tool and its arguments."""

DELETES = frozenset({"delete_backup", "prune_backups"})
ONGOING = frozenset({"needs_confirmation", "needs_approval", "approved", "preparing"})
OPEN_END = frozenset({"unknown", "accepted"})
"""Of a delete: it is not known yet whether its backup goes or stays."""
A_DAY_BY_ANY_CLOCK = timedelta(days=10)
"""After it a day has passed even by a clock that was set back again and again."""


@dataclass(frozen=True)
class Truth:
    """What was so when an answer came.

    Attributes:
        there: Every backup, and its server.
        good: Those that can be restored.
        going: Those of which a delete was sent that has yet to take effect.
        gone: Those that were deleted by a request.
        lagged: Whether lists that were sent meanwhile were not of that moment.
        spoiled: Whether something was wrong with an answer to a look.
    """

    there: dict[int, int]
    good: dict[int, int]
    going: frozenset[int]
    gone: frozenset[int]
    lagged: bool
    spoiled: bool


@dataclass
class Said:
    """One call and its answer, with the requests that VPS.org got meanwhile, and what was so then.

    Attributes:
        requests: From which to which, as indices into the emulator's book.
        alone: Whether no other call was under way.
    """

    tool: str
    arguments: dict[str, Any]
    answer: Answer
    requests: tuple[int, int]
    alone: bool
    truth: Truth

    @property
    def claim(self) -> str:
        """What it said that it changed; empty where it was no write, or told of an earlier one."""
        told = self.tool == "get_operation" or self.answer.data.get("replayed")
        return "" if told else changed(self.answer)


@dataclass
class World:
    """What a history happens to. Agent, server and account live in a thread of their own; each method waits for them.

    Attributes:
        running: The server that runs now, to be ended.
        plans: Confirmations that an agent was shown how to give.
        calls: Every write that was asked for, to be asked for again.
        operations: The ids that an agent was told.
        tokens: Those that were used, the one in use last.
        deadline: Seconds after which a request is given up: few as long as some are answered with silence.
        steps: What happened, for the report of a failure.
        ledger: What it tells in the end.
        decisions: What approvers decided last on each operation: whether they approved it.
        frozen: Whether all changes are frozen.
        broken: What was sent although that was forbidden, one sentence each.
    """

    portal: BlockingPortal
    emulator: Emulator
    clock: ManualClock
    settings: Settings
    fleet: WatchedFleet
    running: ExitStack = field(default_factory=ExitStack)
    said: list[Said] = field(default_factory=list)
    plans: list[Call] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=lambda: [next(iter(TOKENS))])
    lag: float = 0.0
    deadline: float = 0.3
    steps: list[str] = field(default_factory=list)
    ledger: list[Operation] = field(default_factory=list)
    decisions: dict[str, bool] = field(default_factory=dict)
    frozen: bool = False
    broken: list[str] = field(default_factory=list)
    started: int = 0
    under_way: int = 0
    cancelling: anyio.CancelScope | None = None

    @property
    def servers(self) -> int:
        """How many there are: on a ledger for several machines two, which are asked in turn."""
        return 2 if self.settings.ledger_url else 1

    def start(self) -> None:
        """Start servers on the ledger as it is, and an agent that talks to them."""
        settings = self.settings.model_copy(update={"vps_api_token": SecretStr(self.tokens[-1])})
        served = [_serve(self.emulator, settings, self.clock, self.deadline) for _ in range(self.servers)]
        self.agents = [self.running.enter_context(self.portal.wrap_async_context_manager(each)) for each in served]

    def restart(self, *, machine: bool = False, token: str = "") -> None:
        """End the server and start another on the same ledger, perhaps with another token."""
        self.steps.append(f"restart{', another token' if token else ''}")
        self.running.close()
        if machine:
            self.clock.boot += " again"
        if token:
            self.tokens = [*(each for each in self.tokens if each != token), token]
        self.start()

    def ask(self, *calls: Call) -> None:
        """Call tools, all of them at once, and keep what was said."""
        self.portal.call(self._ask_all, calls)

    def ask_and_cancel(self, call: Call) -> None:
        """Call a tool, and give the call up as soon as a request of it is held by a fault."""
        self.portal.call(self._ask_and_cancel, call)

    def decide(self, nth: int, *, approve: bool) -> None:
        """Have an approver decide on one of the operations that wait or are approved, in a process of their own."""
        self.portal.call(self._decide, nth, approve)

    def freeze(self, *, freeze: bool) -> None:
        """Freeze all changes, or lift that."""
        self.portal.call(self._freeze, freeze)
        self.frozen = freeze
        self.steps.append("frozen" if freeze else "thawed")

    def fail(self, trouble: Trouble) -> None:
        fault = FAULTS[trouble.name]
        self.emulator.fail(fault, method=trouble.method, times=trouble.times, skip=trouble.skip)
        self.steps.append(str(trouble))

    def behave(self, **values: Any) -> None:
        """From now on VPS.org behaves otherwise."""
        self.emulator.change(**values)
        self.lag = values.get("lag_seconds", self.lag)
        self.steps.append(str(values))

    def end(self) -> None:
        """No more faults; whatever was late arrives; a new server looks at everything that was sent.

        It looks again much later at what is not settled by then, when no delete can be in doubt any more.
        """
        self.emulator.clear_faults()
        self.deadline = PATIENCE
        self.behave(**USUAL)
        self._pass(timedelta(minutes=3))
        last = max((moment for moment, _ in self.emulator.pending), default=self.clock.now())
        self._pass(max(last - self.clock.now(), timedelta(0)) + timedelta(minutes=3))
        self.steps.append("the end")
        for token in self.tokens:
            self.restart(token=token)
            self._look_at([each for each in self.recorded() if each.sent and not self._is_so(each)])
        self.ledger = self.recorded()
        if in_doubt := [each for each in self.ledger if each.action in DELETES and each.status in OPEN_END]:
            self._pass(A_DAY_BY_ANY_CLOCK)
            for token in self.tokens:
                self.restart(token=token)
                self._look_at(in_doubt)
            self.ledger = self.recorded()

    def _is_so(self, operation: Operation) -> bool:
        """Whether it was told to be what it is, so that another look tells nothing."""
        is_delete = operation.action == "delete_backup"
        return operation.status == "succeeded" and (operation.backup_id in self.fleet.backups) is not is_delete

    def _look_at(self, operations: list[Operation]) -> None:
        for operation in operations:
            self.ask(("get_operation", {"operation_id": operation.id}))

    def _pass(self, time: timedelta) -> None:
        self.clock.passed += time.total_seconds()
        self.emulator.settle()

    def recorded(self) -> list[Operation]:
        """What the ledger tells now."""
        folder = self.settings.state_dir
        return recorded(folder) if folder.exists() else []

    def note_wait(self) -> None:
        """The emulator waits: a call that is to be given up is given up now."""
        if self.cancelling is not None:
            self.cancelling.cancel()

    async def _decide(self, nth: int, approve: bool) -> None:
        async with self._approver() as context:
            waiting = [each for each in await pending(context) if not approve or each.operation.status == "waiting"]
            if waiting:
                operation, _, mac = waiting[nth % len(waiting)]
                decision = Decision(by="alice", how="terminal", at=context.moment(), plan=mac)
                self.decisions[operation.id] = approve
                self.steps.append(f"{'approved' if approve else 'declined'}: {operation.id}")
                await decide(context, operation.id, decision, approve=approve)

    async def _freeze(self, freeze: bool) -> None:
        async with self._approver() as context:
            await set_frozen(context.ledger, "alice", "an incident", freeze=freeze)

    def _approver(self) -> AbstractAsyncContextManager[Context]:
        return open_idle_context(on_emulator(self.settings, self.emulator), self.clock.clock, PROMPT)

    async def _ask_all(self, calls: tuple[Call, ...]) -> None:
        async with anyio.create_task_group() as together:
            for call in calls:
                together.start_soon(self._ask, *call)

    async def _ask_and_cancel(self, call: Call) -> None:
        with anyio.CancelScope() as self.cancelling:
            await self._ask(*call)
        self.cancelling = None

    async def _ask(self, tool: str, arguments: dict[str, Any]) -> None:
        self.steps.append(f"{tool} {arguments}")
        before, alone = len(self.emulator.requests), self.under_way == 0
        self.started, self.under_way = self.started + 1, self.under_way + 1
        number = self.started
        try:
            answer = await self.agents[number % self.servers].call(tool, **arguments)
        finally:
            self.under_way -= 1
        after = len(self.emulator.requests)
        sent = [f"{each.method} {each.path}" for each in self.emulator.requests[before:after] if each.method != "GET"]
        if self.frozen and sent:
            self.broken.append(f"FROZEN: {sent} came although all changes were frozen")
        self.steps.append(f"  {answer.text.splitlines()[0][:150]}")
        alone = alone and number == self.started
        self.said.append(Said(tool, arguments, answer, (before, after), alone, self._truth(before)))
        if not answer.is_error and "operation_id" in answer.data:
            self.operations.append(answer.operation)
            if tool != "get_operation" and answer.status in ONGOING:
                own = {name: value for name, value in arguments.items() if name != "operation_id"}
                self.plans.append((tool, own | {"confirm": True, "operation_id": answer.operation}))

    def _truth(self, first_request: int) -> Truth:
        with self.emulator.lock:
            late = (request for _, request in self.emulator.pending if request.method == "DELETE")
            looks = [each for each in self.emulator.requests[first_request:] if each.method == "GET" and each.rule]
            return Truth(
                there={backup.id: backup.server_id for backup in self.fleet.backups.values()},
                good=self.fleet.good(self.clock.now()),
                going=frozenset(backup_of(request) for request in late),
                gone=frozenset(self.fleet.gone),
                lagged=self.lag > 0 or any(each.stale for each in looks),
                spoiled=bool(looks),
            )


def backup_of(delete: Received) -> int:
    """The backup that a DELETE request names."""
    return int(delete.path.split("/")[2])


@asynccontextmanager
async def _serve(emulator: Emulator, settings: Settings, clock: ManualClock, deadline: float) -> AsyncIterator[Session]:
    async with session(emulator, settings, clock, "auto", partial(PROMPT, deadline=deadline)) as agent:
        # Other tests hold the answers to their schemas; to do so here would take half the time.
        agent.client.session._tool_output_schemas = {tool.name: None for tool in TOOLS}
        yield agent


def shared_memory() -> Path | None:
    """Where ledgers are kept, if there is such a place: what a disk does to them is the benchmarks' concern."""
    place = Path("/dev/shm")
    return place if place.is_dir() else None


@contextmanager
def open_world(settings: Settings, kind: str = "plain") -> Iterator[World]:
    """A small account of some kind, a server on it, and an agent."""
    clock = ManualClock()
    fleet = small_fleet(clock.now(), kind)

    async def wait(_seconds: float) -> None:
        world.note_wait()
        await anyio.lowlevel.checkpoint()

    emulator = Emulator(fleet, now=clock.now, sleep=wait)
    with start_blocking_portal() as portal:
        served: AbstractContextManager[Emulator] = portal.wrap_async_context_manager(emulator)
        world = World(portal, emulator, clock, settings, fleet)
        with served, world.running:
            world.start()
            yield world
