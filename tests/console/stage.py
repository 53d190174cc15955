"""A console on an emulated account, with an agent whose deletes, restores and prunes wait for an approver."""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx2

from mcp_backups.console import build_app
from mcp_backups.console.access import Access, OneTimeAddress
from mcp_backups.console.serving import ConsoleServer
from mcp_backups.operations import Context
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from mcp_backups.web import listen
from tests.stage import PROMPT, ManualClock, Session, on_emulator, session

PORT = 8766
ORIGIN = f"http://127.0.0.1:{PORT}"
USER = "ada"

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} \u202egro.live\u202c https://evil.example "
    + "W" * 80
)
"""What others may write, and must stand as text."""


@dataclass
class Desk:
    """A console, and what is around it.

    Attributes:
        context: The console's own.
        agent: Whose writes wait for an approver.
    """

    emulator: Emulator
    clock: ManualClock
    context: Context
    access: Access
    agent: Session

    async def ask(self, tool: str, /, **arguments: object) -> str:
        """Have the agent ask for what then waits; returns the operation's id."""
        planned = await self.agent.call(tool, **arguments)
        waiting = await self.agent.call(tool, **arguments, confirm=True, operation_id=planned.operation)
        assert waiting.status == "needs_approval", waiting.text
        return waiting.operation


@asynccontextmanager
async def desk(
    emulator: Emulator, settings: Settings, clock: ManualClock, access: Access | None = None
) -> AsyncIterator[Desk]:
    """A console for `USER`, unless other access is given."""
    settings = on_emulator(settings, emulator).model_copy(update={"approval": "operator"})
    async with (
        session(emulator, settings, clock) as agent,
        open_idle_context(settings, clock.clock, PROMPT) as context,
    ):
        yield Desk(emulator, clock, context, access or OneTimeAddress(USER, PORT, clock.ticks), agent)


@asynccontextmanager
async def served(stage: Desk) -> AsyncIterator[str]:
    """The same on a real socket; its address."""
    listening = listen("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listening[0].getsockname()[1]}"
    server = ConsoleServer(build_app(stage.context, stage.access, frozenset({address})))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, listening)
        yield address
        server.should_exit = True


def client(stage: Desk, **headers: str) -> httpx2.AsyncClient:
    """One that talks to the app itself, and follows nothing."""
    app = build_app(stage.context, stage.access, frozenset({ORIGIN}))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=ORIGIN, headers=headers)


def let_in(stage: Desk) -> dict[str, str]:
    """The cookie of somebody who has opened the one-time address."""
    assert isinstance(stage.access, OneTimeAddress)
    return {stage.access.cookie: stage.access.enter(stage.access._once)}


def stay(stage: Desk) -> None:
    """Let whoever was let in stay for ever: another test is about how long that is."""
    assert isinstance(stage.access, OneTimeAddress)
    stage.access._session_until = math.inf


FIELD = re.compile(r'action="(?P<action>[^"]+)"|name="(?P<name>form_token|plan)" value="(?P<value>[^"]*)"')


def form(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form that leads to an address."""
    found: dict[str, dict[str, str]] = {}
    for each in FIELD.finditer(page):
        if each["action"]:
            fields = found.setdefault(each["action"], {})
        else:
            fields[each["name"]] = each["value"]
    return found[action]


async def send(browser: httpx2.AsyncClient, operation_id: str, verb: str, **fields: str) -> httpx2.Response:
    """Load what waits, fill in a form and send it, as a browser does; fields that are given stand in for its own."""
    action = f"/operations/{operation_id}/{verb}"
    own = form((await browser.get("/")).text, action)
    return await browser.post(action, data=own | fields, headers={"Origin": ORIGIN})
