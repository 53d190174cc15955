"""The beginning of a session is answered as the SDK answers it, before the SDK is there, and it learns of all of it."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_backups import opening
from mcp_backups.errors import InternalError
from mcp_backups.opening import LISTS, TABLE, Opening
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.stdio import Opened, serve_lines
from tests.opening_table import ENVELOPE, INFO, Message, _no_context, asked, handshake, make_table, request
from tests.process import COMMAND, PATIENCE, environment, running, server_process

FRONT = opening._table(Settings())


def fresh() -> Opening:
    assert FRONT is not None
    return Opening(FRONT)


def by_front(messages: Sequence[Message]) -> tuple[list[Message], Opening, list[Message]]:
    """What the front answers, and the messages that it leaves to the SDK."""
    front = fresh()
    answers: list[Message] = []
    for number, message in enumerate(messages):
        answer = front.answer(json.dumps(message, ensure_ascii=False).encode())
        if answer is None:
            return answers, front, list(messages[number:])
        answers += [json.loads(answer)] if answer else []
    return answers, front, []


def with_front(messages: Sequence[Message]) -> list[Message]:
    """What a client is told in all, when the front answers the beginning."""
    answers, front, rest = by_front(messages)
    return answers + asked(rest, front=front)


def test_the_table_is_what_the_sdk_says() -> None:
    """If not: `python -m tests.opening_table`."""
    assert json.loads(TABLE.read_bytes()) == make_table()


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
def test_the_front_says_field_by_field_what_the_sdk_says_in_each_version(version: str) -> None:
    messages = handshake(version, "first") + [request(name, number=name) for name in LISTS]
    answers, _, rest = by_front(messages)
    assert rest == []
    assert answers == asked(messages)


def test_the_front_says_field_by_field_what_the_sdk_says_on_2026_07_28() -> None:
    messages = [request(name, ENVELOPE, name) for name in ("server/discover", *LISTS)]
    answers, _, rest = by_front(messages)
    assert rest == []
    assert answers == asked(messages)


STEPS: list[Message] = [
    *handshake("2025-11-25"),
    *handshake("2025-06-18"),
    *handshake("2024-11-05"),
    *handshake("1999-01-01"),
    *(request(name) for name in LISTS),
    *(request(name, {}) for name in LISTS),
    *(request(name, ENVELOPE) for name in LISTS),
    request("server/discover", ENVELOPE),
    request("server/discover"),
    request("ping"),
    request("tools/list", {"cursor": "x"}),
    request("tools/list", {"_meta": {"progressToken": 7}}),
    request("tools/call", {"name": "no_such_tool", "arguments": {}}),
    request("tools/call", {"name": "list_backups", "arguments": {"no": 1}}),
    request("resources/read", {"uri": "backups://nothing"}),
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
]


def sequence(seed: int) -> list[Message]:
    """Some messages: most begin as clients do, and go on with anything."""
    choice = random.Random(seed)
    begin = choice.choice([STEPS[:2], STEPS[2:4], STEPS[4:6], [request("server/discover", ENVELOPE)], []])
    messages = begin + choice.choices(STEPS, k=choice.randrange(1, 7))
    return [message | {"id": number} if "id" in message else message for number, message in enumerate(messages)]


@pytest.mark.parametrize("tens", range(10))
def test_a_hundred_sequences_are_answered_alike_with_and_without_the_front(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        messages = sequence(seed)
        assert with_front(messages) == asked(messages), messages


# What the front says yes to


NESTED: list[tuple[bool, Message]] = [
    (True, {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}, "url": {}}}),
    (True, {"elicitation": {"form": {"applyDefaults": True}}}),
    (True, {"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html"]}}, "experimental": {"x": {}}}),
    (True, {"tasks": {"list": {}, "requests": {"elicitation": {"create": {}}}}}),
    (True, {"unheard": {}}),
    (False, {"roots": {"listChanged": 1}}),
    (False, {"roots": True}),
    (False, {"roots": None}),
    (False, {"roots": {"listChanged": None}}),
    (False, {"sampling": []}),
    (False, {"tasks": {"requests": {"elicitation": True}}}),
    (False, {"experimental": {"x": "y"}}),
]


@pytest.mark.parametrize(("taken", "capabilities"), NESTED)
def test_capabilities_that_are_objects_in_objects_are_taken(taken: bool, capabilities: Message) -> None:
    first = handshake("2025-11-25")[0]
    message = first | {"params": first["params"] | {"capabilities": capabilities}}
    answer = fresh().answer(json.dumps(message).encode())
    assert (answer is not None) is taken
    if answer is not None:
        assert [json.loads(answer)] == asked([message])


FIRST = json.dumps(handshake("2025-11-25")[0]).encode()


@pytest.mark.parametrize(
    "line",
    [
        FIRST.replace(b"test", b"te\\u0073t"),
        FIRST.replace(b"test", b"te\xffst"),
        FIRST.replace(b"test", b"x" * 20_000),
        FIRST.replace(b'"id": 0', b'"id": 0.0'),
        FIRST.replace(b'"id": 0', b'"id": true'),
        FIRST.replace(b'"id": 0, ', b""),
        FIRST.replace(b'"id": 0', b'"id": 0, "more": 1'),
        FIRST.replace(b'"capabilities"', b'"_meta": {}, "capabilities"'),
        FIRST.replace(b"2025-11-25", b"2026-07-28"),
        b"[" + FIRST + b"]",
        FIRST[:-1],
        b"",
        json.dumps(request("tools/list")).encode(),
        json.dumps(handshake("2025-11-25")[1]).encode(),
        json.dumps(request("server/discover")).encode(),
        json.dumps(request("ping")).encode(),
    ],
)
def test_what_is_not_exactly_a_beginning_is_for_the_sdk(line: bytes) -> None:
    assert fresh().answer(line) is None


def test_a_second_handshake_and_a_list_before_its_end_are_for_the_sdk() -> None:
    first, then = handshake("2025-11-25")
    listed = request("tools/list", number=5)
    for messages in ([first, first], [first, listed], [first, then, then], [first, then, first]):
        assert by_front(messages)[2] == messages[-1:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(["_meta", "cursor", "name", "version", "title", "icons", "progressToken", "listChanged", "x"])


@st.composite
def beginnings(draw: st.DrawFn) -> list[Message]:
    """A beginning, of which one message had something in it replaced, taken out or added."""
    listed = request(draw(st.sampled_from(LISTS)), {"_meta": {"progressToken": 1}}, 2)
    discovered = request("server/discover", ENVELOPE, 3)
    messages = json.loads(json.dumps([*handshake("2025-06-18"), listed, discovered]))
    if draw(st.booleans()):
        messages = messages[-1:]
    place: Any = messages[draw(st.integers(0, len(messages) - 1))]
    while True:
        deeper = [each for each in place.values() if isinstance(each, dict)]
        if not deeper or draw(st.booleans()):
            break
        place = draw(st.sampled_from(deeper))
    name = draw(st.sampled_from(sorted(place)) | NAMES) if place else draw(NAMES)
    if draw(st.booleans()) or name not in place:
        place[name] = draw(JSON)
    else:
        del place[name]
    return list(messages)


@settings(max_examples=150, deadline=None)
@given(beginnings())
def test_no_mutated_beginning_gets_a_yes_that_the_sdk_refuses(messages: list[Message]) -> None:
    answers, _, rest = by_front(messages)
    taken = messages[: len(messages) - len(rest)]
    if taken:
        assert answers == asked(taken)


@pytest.mark.parametrize("rules", [{"read_only": True}, {"keep_min": 3}, {"protected_servers": {12345}}], ids=str)
def test_the_front_tells_of_the_policy_in_force_what_the_sdk_tells(rules: dict[str, Any]) -> None:
    policy = Settings(**rules)
    messages = [*handshake("2025-11-25"), request("tools/list", number=7)]
    table = opening._table(policy)
    assert table is not None
    front = Opening(table)
    said = [json.loads(answer) for each in messages if (answer := front.answer(json.dumps(each).encode()))]
    assert said == asked(messages, policy)


# Around it


def test_a_table_that_was_made_with_another_sdk_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / "opening.json"
    table.write_text(json.dumps(make_table() | {"sdk": "2.2.9"}))
    monkeypatch.setattr(opening, "TABLE", table)
    assert opening._table(Settings()) is None


@pytest.mark.parametrize(
    "untrue",
    [{"protocolVersion": "2025-06-18"}, {"instructions": "Others."}, {"capabilities": {}}, {"serverInfo": INFO}],
)
def test_a_server_that_says_something_else_than_the_client_was_told_ends(untrue: Message) -> None:
    _, front, _ = by_front(handshake("2025-11-25"))
    (first, said), then = front.kept
    assert said is not None
    kept = [(first, said | {"result": said["result"] | untrue}), then]
    opened = Opened(iter(()), lambda _: pytest.fail("nothing is to be said twice"), kept, front.eras)
    with pytest.RaisesGroup(InternalError, flatten_subgroups=True):
        anyio.run(serve_lines, build_server(Settings(), _no_context), opened)


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_session_goes_on_behind_its_beginning_whether_or_not_it_was_answered_at_once(
    state_dir: Path, fast: str
) -> None:
    with server_process(state_dir, command=(*COMMAND, "--sandbox"), MCP_BACKUPS_FAST_START=fast) as server:
        server.shake_hands()
        assert len(server.request("tools/list")["tools"]) == 7
        assert server.call("list_backups")["structuredContent"]["total"] > 0


@pytest.mark.parametrize("fast", ["true", "false"])
def test_an_answer_that_cannot_be_read_right_behind_the_beginning_is_logged_once(state_dir: Path, fast: str) -> None:
    with server_process(state_dir, command=(*COMMAND, "--sandbox"), MCP_BACKUPS_FAST_START=fast) as server:
        server.shake_hands()
        before = server.stderr
        server.write(b'{"jsonrpc":"2.0","id":7,"result":[]}')
        assert len(server.request("tools/list")["tools"]) == 7
        assert server.stderr.removeprefix(before).count("an answer cannot be read") == 1


@pytest.mark.parametrize("sent", [b"", FIRST + b"\n"])
def test_a_client_that_leaves_before_anything_was_asked_ends_it(state_dir: Path, sent: bytes) -> None:
    done = subprocess.run(
        COMMAND, input=sent, capture_output=True, env=dict(environment(state_dir)), timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", sent.count(b"\n"))
    assert not state_dir.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_beginning_ends_it(state_dir: Path, number: signal.Signals) -> None:
    with running(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment(state_dir))) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(FIRST + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0


def test_a_program_that_cannot_be_loaded_ends_with_the_reason(state_dir: Path) -> None:
    broken = "import sys; sys.modules['mcp_backups.server'] = None; from mcp_backups.cli import main; main([])"
    with running(
        (sys.executable, "-c", broken),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment(state_dir)),
    ) as process:
        assert process.stderr is not None
        assert process.wait(PATIENCE) == 1
        assert "the rest of the program cannot be imported" in process.stderr.read().decode()
