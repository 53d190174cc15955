from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from mcp_backups.operations import (
    Context,
    Decision,
    Operation,
    Pending,
    decide,
    pending,
    pending_one,
    set_frozen,
)
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from tests.stage import PROMPT, Answer, MakeSettings, ManualClock, Session, on_emulator, session

TARGET, SERVER = 499, 12345

Known = TypeVar("Known")


@dataclass
class Scene:
    """An unattended agent whose destructive calls wait for an approver, who works in a process of their own.

    Attributes:
        tool: What the agent asks for, with its arguments.
        operation: The id under which that waits.
        refusals: What an approver was told who could not decide.
    """

    emulator: Emulator
    clock: ManualClock
    settings: Settings
    running: AsyncExitStack
    tool: str = "delete_backup"
    arguments: dict[str, Any] = field(default_factory=lambda: {"backup_id": TARGET})
    operation: str = ""
    refusals: list[str] = field(default_factory=list)
    agent: Session = field(init=False)

    async def start(self, **rules: Any) -> None:
        """Start the agent's server, or another one instead of it, perhaps under other rules."""
        await self.running.aclose()
        self.settings = self.settings.model_copy(update=rules)
        served = session(self.emulator, self.settings, self.clock)
        self.agent = await self.running.enter_async_context(served)

    async def asks(self, **more: Any) -> Answer:
        """The agent calls: without an operation's id at first, later with it."""
        named = {"operation_id": self.operation} if self.operation else {}
        answer = await self.agent.call(self.tool, **self.arguments, confirm=True, **named | more)
        self.operation = self.operation or str(answer.data.get("operation_id", ""))
        return answer

    async def looks(self, wait_seconds: int = 0) -> Answer:
        return await self.agent.call("get_operation", operation_id=self.operation, wait_seconds=wait_seconds)

    async def as_approver(self, work: Callable[[Context], Awaitable[Known]]) -> Known:
        """Do something in another process on the same ledger."""
        settings = on_emulator(self.settings, self.emulator)
        async with open_idle_context(settings, self.clock.clock, PROMPT) as context:
            return await work(context.for_a_call())

    async def pending(self) -> list[Pending]:
        return await self.as_approver(pending)

    async def shown(self, *, approve: bool = True) -> Pending:
        return await self.as_approver(lambda context: pending_one(context, self.operation, approve=approve))

    async def decides(self, mac: str, *, approve: bool, by: str = "alice", reason: str = "") -> Operation:
        def work(context: Context) -> Awaitable[Operation]:
            decision = Decision(by=by, how="terminal", at=context.moment(), plan=mac, reason=reason)
            return decide(context, self.operation, decision, approve=approve)

        return await self.as_approver(work)

    async def approves(self, by: str = "alice") -> Operation:
        return await self.decides((await self.shown()).mac, approve=True, by=by)

    async def declines(self, reason: str = "") -> Operation:
        return await self.decides((await self.shown(approve=False)).mac, approve=False, reason=reason)

    async def freezes(self, *, freeze: bool = True) -> bool:
        return await self.as_approver(lambda context: set_frozen(context.ledger, "alice", "an incident", freeze=freeze))


@pytest.fixture
async def scene(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> AsyncIterator[Scene]:
    """A delete of a backup is asked for under `approval = operator`, and waits."""
    async with AsyncExitStack() as running:
        asked = Scene(emulator, clock, make_settings(approval="operator"), running)
        await asked.start()
        yield asked
