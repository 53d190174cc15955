"""Many clients give up after a minute: whatever VPS.org does, a call is answered before, and says what is known.

Here a call may take a second, less than one request may: where nothing held it to that, `IN_TIME` would be over.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from mcp import Client

from mcp_backups.operations import Context
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.transport import open_context
from tests.stage import PROMPT, Answer, MakeSettings, ManualClock, Session, on_emulator, session

pytestmark = pytest.mark.anyio

ANSWER_SECONDS, IN_TIME = 1.0, 8.0
SILENCE, LOST = Fault.silence(), Fault.reset_after(apply=False)
TARGET = {"backup_id": 499}
SERVER = {"server_id": 12345}


@asynccontextmanager
async def hurried(emulator: Emulator, settings: Settings, clock: ManualClock) -> AsyncIterator[Session]:
    """A session with a server that takes a second for a call."""

    @asynccontextmanager
    async def context() -> AsyncIterator[Context]:
        async with open_context(on_emulator(settings, emulator), clock.clock, PROMPT) as opened:
            yield replace(opened, answer_seconds=ANSWER_SECONDS)

    async with Client(build_server(settings, context)) as client:
        yield Session(client)


@pytest.fixture
async def agent(emulator: Emulator, make_settings: MakeSettings, clock: ManualClock) -> AsyncIterator[Session]:
    async with hurried(emulator, make_settings(), clock) as served:
        yield served


async def in_time(agent: Session, tool: str, **arguments: Any) -> Answer:
    with anyio.fail_after(IN_TIME):
        return await agent.call(tool, **arguments)


async def confirmed(agent: Session, tool: str, **arguments: Any) -> dict[str, Any]:
    planned = await agent.call(tool, **arguments)
    return arguments | {"confirm": True, "operation_id": planned.operation}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("create_backup", SERVER),
        ("delete_backup", TARGET),
        ("restore_server", SERVER | TARGET),
        ("prune_backups", SERVER | {"keep_last": 1}),
        ("check_backups", {}),
    ],
)
async def test_a_list_that_never_comes_ends_the_call_and_nothing_is_sent(
    agent: Session, emulator: Emulator, tool: str, arguments: dict[str, Any]
) -> None:
    emulator.fail(SILENCE, method="GET", times=None)
    answer = await in_time(agent, tool, **arguments)
    assert answer.code == "upstream_timeout"
    assert "Nothing was changed." in answer.text
    assert emulator.count("POST") == emulator.count("DELETE") == 0


async def test_a_plan_outlives_a_confirmation_for_which_there_was_no_time(agent: Session, emulator: Emulator) -> None:
    confirmation = await confirmed(agent, "delete_backup", **TARGET)
    emulator.fail(SILENCE, method="GET")
    assert (await in_time(agent, "delete_backup", **confirmation)).code == "upstream_timeout"
    assert (await in_time(agent, "delete_backup", **confirmation)).status == "succeeded"
    assert emulator.count("DELETE") == 1


@pytest.mark.parametrize(("tool", "arguments"), [("create_backup", SERVER), ("delete_backup", TARGET)])
async def test_where_there_is_no_time_to_look_the_outcome_is_unknown(
    agent: Session, emulator: Emulator, tool: str, arguments: dict[str, Any]
) -> None:
    if tool == "delete_backup":
        arguments = await confirmed(agent, tool, **arguments)
    emulator.fail(LOST, method="POST")
    emulator.fail(LOST, method="DELETE")
    emulator.fail(SILENCE, method="GET", times=None, skip=1)
    answer = await in_time(agent, tool, **arguments)
    assert answer.code == "outcome_unknown"
    assert emulator.count("POST") + emulator.count("DELETE") == 1


async def test_an_operation_that_cannot_be_looked_at_in_time_is_told_as_it_was(
    agent: Session, emulator: Emulator
) -> None:
    started = await agent.call("create_backup", **SERVER)
    emulator.fail(SILENCE, method="GET", times=None)
    answer = await in_time(agent, "get_operation", operation_id=started.operation, wait_seconds=45)
    assert answer.status == "accepted"
    assert "upstream_timeout" in answer.data["facts"]["not_checked_now"]


async def test_no_further_delete_is_sent_when_it_could_not_end_in_time(
    emulator: Emulator, make_settings: MakeSettings, clock: ManualClock
) -> None:
    """After the first one and a look, 19 s of the 45 are left, and a request may take 20."""
    async with session(emulator, make_settings(), clock) as agent:
        confirmation = await confirmed(agent, "delete_backup", **TARGET)
        emulator.fail(LOST, method="DELETE")
        emulator.fail(Fault.edited(lambda _: clock.advance(seconds=13)), method="GET", times=2)
        answer = await agent.call("delete_backup", **confirmation)
    assert answer.code == "outcome_unknown"
    assert emulator.count("DELETE") == 1
