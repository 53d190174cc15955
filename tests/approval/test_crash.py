"""A server that is killed while it puts a plan before the approvers, or carries out what they approved."""

import contextlib
import signal
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.operations import Context, Decision, decide, pending
from mcp_backups.sandbox import Emulator, serve_in_thread
from mcp_backups.transport import open_idle_context
from tests.approval.conftest import TARGET
from tests.doom import Forked
from tests.process import server_process
from tests.stage import PROMPT, MakeSettings, RealTime, on_emulator, recorded, session

pytestmark = pytest.mark.anyio

CALL: dict[str, Any] = {"backup_id": TARGET, "confirm": True}


@pytest.fixture
def passing() -> RealTime:
    return RealTime()


@pytest.fixture
def account(passing: RealTime) -> Iterator[Emulator]:
    with serve_in_thread(Emulator(now=passing.now)) as served:
        yield served


def killed(account: Emulator, state_dir: Path, point: int) -> None:
    """A server that dies at that point of the call, of all that it passes."""
    settings = {
        "VPS_API_URL": account.base_url,
        "VPS_API_TOKEN": account.token,
        "MCP_BACKUPS_APPROVAL": "operator",
    }
    with server_process(state_dir, launch=Forked, command=("any", str(point)), **settings) as process:
        process.shake_hands().start_call("delete_backup", **CALL)
        process.wait_for_answer_or_end()
        with contextlib.suppress(ProcessLookupError):
            process.signal(signal.SIGKILL)
        process.wait()


async def approve_all(context: Context) -> int:
    waiting = await pending(context)
    for operation, _, mac in waiting:
        decision = Decision(by="alice", how="terminal", at=context.moment(), plan=mac)
        await decide(context, operation.id, decision, approve=True)
    return len(waiting)


@pytest.mark.parametrize("is_approved", [False, True])
@pytest.mark.parametrize("point", range(1, 9))
async def test_a_killed_server_sends_nothing_without_the_decision_and_nothing_twice(
    account: Emulator, passing: RealTime, make_settings: MakeSettings, state_dir: Path, point: int, is_approved: bool
) -> None:
    settings = make_settings(approval="operator")
    serve = partial(session, account, settings)
    if is_approved:
        async with serve(passing.clock()) as agent:
            assert (await agent.call("delete_backup", **CALL)).status == "needs_approval"
        async with open_idle_context(on_emulator(settings, account), passing.clock(), PROMPT) as context:
            assert await approve_all(context) == 1
    killed(account, state_dir, point)
    if not is_approved:
        assert account.count("DELETE") == 0
        async with serve(passing.clock()) as agent:
            assert (await agent.call("delete_backup", **CALL)).status == "needs_approval"
        assert account.count("DELETE") == 0
        async with open_idle_context(on_emulator(settings, account), passing.clock(), PROMPT) as context:
            assert await approve_all(context) == 1
    operation = next(each for each in recorded(state_dir) if each.decision).id
    passing.ahead += timedelta(minutes=3)
    async with serve(passing.clock()) as agent:
        answer = await agent.call("delete_backup", **CALL, operation_id=operation)
    assert answer.status in {"succeeded", "unknown"}, answer.text
    (sent,) = (each for each in recorded(state_dir) if each.sent)
    assert (sent.id, sent.approved_by, sent.status) == (operation, "approver", answer.status)
    assert account.count("DELETE") == (0 if answer.status == "unknown" else 1)
