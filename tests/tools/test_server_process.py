"""The server as a process: standard output for the protocol alone, an end that loses nothing, and one shared ledger."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_backups.sandbox import Emulator, Fault, serve_in_thread
from mcp_backups.tools import TOOLS
from tests.process import PATIENCE, ServerProcess, environment, server_process
from tests.stage import AgentWith, Era, recorded, until

TOKEN = "vps_canary_5f0c7a1b9d3e"
"""What must never be seen outside the Authorization header."""

Start = Callable[..., ServerProcess]


@pytest.fixture
def vps() -> Iterator[Emulator]:
    with serve_in_thread() as emulator:
        emulator.fleet.tokens[TOKEN] = ["*:*"]
        yield emulator


@pytest.fixture
def start(vps: Emulator, state_dir: Path) -> Iterator[Start]:
    """Starts servers on one account and one ledger; all are ended with the test."""
    with ExitStack() as running:

        def begin(**settings: str) -> ServerProcess:
            known: dict[str, Any] = {"VPS_API_URL": vps.base_url, "VPS_API_TOKEN": TOKEN}
            return running.enter_context(server_process(state_dir, **known | settings))

        yield begin


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def plan(server: ServerProcess, backup_id: int = 501) -> str:
    return str(server.call("delete_backup", backup_id=backup_id)["structuredContent"]["operation_id"])


def start_delete(server: ServerProcess, operation: str, backup_id: int = 501) -> int:
    return server.start_call("delete_backup", backup_id=backup_id, confirm=True, operation_id=operation)


def assert_only_protocol(server: ServerProcess) -> None:
    assert server.lines
    for line in server.lines:
        message = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        assert "method" in message or ("result" in message) != ("error" in message)


def assert_token_is_nowhere(state_dir: Path, *servers: ServerProcess) -> None:
    for server in servers:
        assert TOKEN not in server.stderr
        assert TOKEN.encode() not in b"".join(server.lines)
    for file in state_dir.rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file


@pytest.mark.anyio
async def test_a_client_of_either_era_lists_and_calls_tools(vps: Emulator, state_dir: Path, era: Era) -> None:
    settings = {"VPS_API_URL": vps.base_url, "VPS_API_TOKEN": TOKEN}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_backups"], env=environment(state_dir, **settings)
    )
    with anyio.fail_after(PATIENCE), (state_dir.parent / "log").open("w") as log:
        async with Client(stdio_client(command, errlog=log), mode=era) as client:
            listed = await client.list_tools()
            answer = await client.call_tool("list_backups", {"limit": 1})
    assert [tool.name for tool in listed.tools] == [tool.name for tool in TOOLS]
    assert answer.structured_content is not None
    assert answer.structured_content["backups"][0]["id"] == 453
    assert vps.count("GET", "/backups/") == 1


def test_standard_output_carries_only_the_protocol_and_the_token_is_nowhere(
    vps: Emulator, start: Start, state_dir: Path
) -> None:
    """At the most talkative, through success, refusal, failure and an upstream that answers with the token."""
    server = start(MCP_BACKUPS_LOG_LEVEL="DEBUG").shake_hands()
    server.call("list_backups")
    server.call("create_backup", server_id=12345, wait_seconds=1)
    server.call("delete_backup", backup_id=True)
    vps.fail(Fault.reset_after(), method="DELETE")
    assert server.answer(start_delete(server, plan(server)))["result"]["structuredContent"]["status"] == "succeeded"
    vps.fail(Fault.status(401, {"detail": f"Bearer {TOKEN}"}), method="GET")
    assert server.call("list_backups")["content"][0]["text"].startswith("auth_failed: ")
    vps.fail(Fault.status(400, {"server_id": [TOKEN]}), method="POST")
    assert server.call("create_backup", server_id=12346)["content"][0]["text"].startswith("invalid_argument: ")
    server.close_input()
    assert server.wait() == 0
    assert "mcp_backups" in server.stderr
    assert_only_protocol(server)
    assert_token_is_nowhere(state_dir, server)
    assert all(request.authorization == f"Bearer {TOKEN}" for request in vps.requests)


def test_without_a_token_the_tools_are_listed_and_a_call_says_what_is_missing(vps: Emulator, start: Start) -> None:
    server = start(VPS_API_TOKEN="").shake_hands()
    listed = server.request("tools/list")
    assert [tool["name"] for tool in listed["tools"]] == [tool.name for tool in TOOLS]
    calls: dict[str, dict[str, int]] = {
        "list_backups": {},
        "create_backup": {"server_id": 12345},
        "delete_backup": {"backup_id": 501},
    }
    for tool, arguments in calls.items():
        answer = server.call(tool, **arguments)
        assert answer["isError"] is True
        assert answer["content"][0]["text"].startswith("auth_failed: ")
        assert "VPS_API_TOKEN" in answer["content"][0]["text"]
    assert (vps.requests, vps.connections) == ([], 0)


def end_of_input(server: ServerProcess) -> None:
    server.close_input()


def sigterm(server: ServerProcess) -> None:
    server.signal(signal.SIGTERM)


def sigint(server: ServerProcess) -> None:
    server.signal(signal.SIGINT)


def sighup(server: ServerProcess) -> None:
    """As when the terminal is closed in which a host runs."""
    server.signal(signal.SIGHUP)


ENDINGS = [
    end_of_input,
    sigterm,
    sigint,
    pytest.param(sighup, marks=pytest.mark.skipif(os.name == "nt", reason="none")),
]


@pytest.mark.parametrize("end", ENDINGS)
def test_it_ends_cleanly_when_it_is_told_to(start: Start, end: Callable[[ServerProcess], None]) -> None:
    server = start().shake_hands()
    end(server)
    assert server.wait() == 0
    assert_only_protocol(server)
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("end", ENDINGS)
def test_a_write_under_way_is_finished_and_recorded_first(
    vps: Emulator, start: Start, state_dir: Path, end: Callable[[ServerProcess], None]
) -> None:
    """F78."""
    server = start().shake_hands()
    operation = plan(server)
    vps.fail(Fault.delay(0.7), method="DELETE")
    start_delete(server, operation)
    wait_for(lambda: vps.count("DELETE") == 1)
    end(server)
    assert server.wait() == 0
    (known,) = recorded(state_dir)
    assert (known.id, known.status, known.changed) == (operation, "succeeded", "done")
    assert 501 not in vps.fleet.backups
    assert vps.count("DELETE") == 1
    assert_only_protocol(server)


def test_nonsense_on_its_input_leaves_it_alive(vps: Emulator, start: Start) -> None:
    """F79."""
    server = start().shake_hands()
    nonsense = [
        b"not json",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"jsonrpc":"2.0","id":"x"}',
        b'{"jsonrpc":"1.0","id":1000,"method":"tools/list"}',
        b'{"jsonrpc":"2.0","id":1001,"method":7}',
        b'{"jsonrpc":"2.0","id":1002,"method":"tools/call","params":[]}',
        b'{"jsonrpc":"2.0","id":1003,"method":"no/such"}',
        b"\xff\xfe\x00\x80",
        b'{"jsonrpc":"2.0","id":1004,"method":"\xc3\x28"}',
        b"[" * 100_000,
        b'{"a":"' + b"x" * 10_000_000,
        b'{"jsonrpc":"2.0","id":1005,"method":"tools/call","params":{"name":"' + b"y" * 10_000_000 + b'"}}',
        b"",
    ]
    for line in nonsense:
        server.write(line)
        assert server.call("list_backups", limit=1)["structuredContent"]["total"] == 81
    assert_only_protocol(server)
    servers = 1  # asked for once in the life of a process
    assert vps.count("GET") == len(vps.requests) == len(nonsense) + servers


def test_a_plan_made_by_one_process_is_confirmed_through_another_once(
    vps: Emulator, start: Start, state_dir: Path
) -> None:
    one, other = start(), start()
    for server in (one, other):
        server.shake_hands()
    operation = plan(one)
    calls = [(server, start_delete(server, operation)) for server in (other, one, other)]
    answers = [server.answer(number)["result"]["structuredContent"] for server, number in calls]
    assert [answer["status"] for answer in answers] == ["succeeded"] * 3
    assert sorted(answer.get("replayed", False) for answer in answers) == [False, True, True]
    assert vps.count("DELETE") == 1
    (known,) = recorded(state_dir)
    assert (known.id, known.status, known.approved_by) == (operation, "succeeded", "plan")
    assert_token_is_nowhere(state_dir, one, other)


@pytest.mark.parametrize(("applied", "status"), [(True, "succeeded"), (False, "unknown")])
def test_what_a_killed_process_left_unknown_is_settled_by_looking_and_its_server_stays_closed_until_then(
    vps: Emulator, start: Start, applied: bool, status: str
) -> None:
    """F88: killed after the request was sent."""
    first, second = start().shake_hands(), start().shake_hands()
    operation = plan(first)
    vps.fail(Fault.silence(apply=applied), method="DELETE")
    start_delete(first, operation)
    wait_for(lambda: vps.count("DELETE") == 1)
    under_way = second.call("get_operation", operation_id=operation)["structuredContent"]
    assert under_way["status"] == "sending"
    first.signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    refused = second.call("delete_backup", backup_id=499)
    assert refused["content"][0]["text"].startswith("policy_denied: ")
    assert operation in refused["content"][0]["text"]
    settled = second.call("get_operation", operation_id=operation)["structuredContent"]
    assert (settled["status"], settled["operation_id"]) == (status, operation)
    again = second.call("delete_backup", backup_id=499)
    assert again["isError"] is (not applied)
    repeated = second.answer(start_delete(second, operation))["result"]["structuredContent"]
    assert (repeated["replayed"], repeated["status"]) == (True, status)
    assert vps.count("DELETE") == 1
    assert (501 in vps.fleet.backups) is (not applied)


@pytest.mark.anyio
@pytest.mark.parametrize("tool", ["create_backup", "delete_backup"])
async def test_a_call_cancelled_in_mid_request_is_recorded_and_repeating_it_sends_nothing(
    agent_with: AgentWith, emulator: Emulator, state_dir: Path, tool: str
) -> None:
    """F77: whatever becomes of the caller, what was sent is known."""
    method = {"create_backup": "POST", "delete_backup": "DELETE"}[tool]
    async with agent_with() as agent:
        arguments: dict[str, Any] = {"server_id": 12345}
        if tool == "delete_backup":
            operation = (await agent.call("delete_backup", backup_id=501)).operation
            arguments = {"backup_id": 501, "confirm": True, "operation_id": operation}
        emulator.fail(Fault.delay(0.3), method=method)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.call(tool, **arguments))
            await until(lambda: emulator.count(method) == 1)
            group.cancel_scope.cancel()
        await until(lambda: recorded(state_dir)[0].changed in {"started", "done"})
        again = await agent.call(tool, **arguments)
    (known,) = recorded(state_dir)
    assert again.operation == known.id
    assert again.replayed is True
    assert known.changed == again.data["changed"] != "nothing"
    assert emulator.count(method) == 1
