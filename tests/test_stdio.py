"""Whatever comes in on standard input: what has a readable id is answered, the rest is told of, the server lives on."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcp_backups.sandbox import Emulator, serve_in_thread
from mcp_backups.stdio import MAX_LINE, Refusal, endings, read_line
from tests.process import COMMAND, LEGACY, PATIENCE, ServerProcess, environment, running, server_process

ENVELOPE: dict[str, Any] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
LIST = b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{%}}'
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{%,"name":"list_backups","arguments":{#}}}'
"""Requests, with % for the envelope of 2026-07-28 and # for arguments."""

UNREAD, INVALID, BAD_PARAMS, NO_METHOD, SERVED = -32700, -32600, -32602, -32601, 0


class Row(NamedTuple):
    """What is sent, and what is answered: the code for each id, as JSON. `logged`: whether a line tells of it."""

    name: str
    sent: bytes
    answered: list[tuple[str, int]]
    logged: bool = True


def unread(name: str, sent: bytes, *ids: str) -> Row:
    return Row(name, sent, [(each, UNREAD) for each in ids or ("7",)])


def invalid(name: str, sent: bytes, *ids: str) -> Row:
    return Row(name, sent, [(each, INVALID) for each in ids or ("7",)])


def bad_params(name: str, sent: bytes, *, logged: bool = True) -> Row:
    return Row(name, sent, [("7", BAD_PARAMS)], logged)


def served(name: str, sent: bytes, number: str = "7", code: int = SERVED) -> Row:
    return Row(name, sent, [(number, code)], logged=False)


def dropped(name: str, sent: bytes) -> Row:
    return Row(name, sent, [])


def silent(name: str, sent: bytes) -> Row:
    return Row(name, sent, [], logged=False)


def with_id(number: bytes) -> bytes:
    return LIST.replace(b":7,", b":" + number + b",", 1)


def id_last(inner: bytes) -> bytes:
    """As TypeScript's SDK orders the fields."""
    return b'{"method":"tools/call","params":{' + inner + b'},"jsonrpc":"2.0","id":7}'


DEEP = b"[" * 50_000 + b"]" * 50_000
LONG = b"y" * 10_000_000
DIGITS = b"9" * 5_000
HEAD = b'{"jsonrpc":"2.0","id":7,"method":"tools/call"'

ROWS = [
    unread("cut after the id", b'{"jsonrpc":"2.0","id":7'),
    unread("cut in a text", HEAD + b',"params":{"name":"list_b'),
    unread("cut in the arguments", HEAD + b',"params":{"name":"x","arguments":{"a":1'),
    unread("a brace too few", LIST[:-1]),
    unread("a brace too many", LIST + b"}"),
    unread("a comma too many", LIST[:-1] + b",}"),
    unread("a comma too few", LIST.replace(b'7,"', b'7 "')),
    unread("a comment", LIST.replace(b"7,", b"7, /* seven */")),
    unread("garbage behind it", LIST + b" and more"),
    unread("garbage before it", b"data: " + LIST),
    unread("a zero byte behind it", LIST + b"\0"),
    unread("a zero byte in a text", LIST.replace(b"list", b"li\0st")),
    unread("a raw tab in a text", LIST.replace(b"list", b"li\tst")),
    unread("an escape that is none", LIST.replace(b"list", b"li\\xst")),
    unread("a word that is no value", LIST.replace(b"{%}", b"undefined")),
    unread("two messages on a line", LIST + with_id(b"8"), "7", "8"),
    unread("two messages and a blank", LIST + b" " + with_id(b'"x"'), "7", '"x"'),
    unread("a broken batch", b"[" + LIST + b"," + with_id(b"8")[:-2], "7", "8"),
    unread("id last", id_last(b'"name":"x",')),
    unread("id last, behind a quote too few", id_last(b'"name":"x')),
    unread("the end of a message", b'x"}},"jsonrpc":"2.0","id":7}'),
    unread("a text as id", with_id(b'"abc"')[:-1], '"abc"'),
    unread("a text with quotes as id", with_id(b'"a\\"b"')[:-1], '"a\\"b"'),
    unread("an id below 0", with_id(b"-7")[:-1], "-7"),
    unread("a number of 5,000 digits", CALL.replace(b"#", b'"limit":' + DIGITS)),
    unread("nested deeply", CALL.replace(b"#", b'"a":' + DEEP)),
    unread("nested deeply, id last", id_last(b'"arguments":' + DEEP)),
    unread("brackets", b"[" * 100_000, "null"),
    unread("no JSON", b"not json", "null"),
    unread("an open brace", b"{", "null"),
    unread("a closed bracket", b"]", "null"),
    unread("an open quote", b'"', "null"),
    unread("single quotes", b"{'jsonrpc':'2.0','id':7,'method':'ping'}", "null"),
    unread("names without quotes", b'{jsonrpc:"2.0",id:7,method:"ping"}', "null"),
    unread("UTF-16", b"\xff\xfe" + LIST.decode().encode("utf-16-le"), "null"),
    unread("a header of another protocol", b"Content-Length: 52\r", "null"),
    unread("an id that is not the message's", b'{"jsonrpc":"2.0","method":"x","params":{"id":5}', "null"),
    unread("bytes", b"\xff\xfe\x00\x80\x1b[31m", "null"),
    invalid("10 MB", CALL.replace(b"list_backups", LONG)),
    invalid("10 MB, id last", id_last(b'"name":"' + LONG + b'"')),
    invalid("10 MB of brackets", HEAD + b"[" * 10_000_000),
    invalid("10 MB of nothing", LONG, "null"),
    invalid("null", b"null", "null"),
    invalid("a number", b"7", "null"),
    invalid("a text", b'"text"', "null"),
    invalid("a flag", b"true", "null"),
    invalid("an empty object", b"{}", "null"),
    invalid("an empty batch", b"[]", "null"),
    invalid("a batch", b"[" + LIST + b"," + with_id(b'"x"') + b"]", "7", '"x"'),
    invalid("a batch with others in it", b'[1,{"jsonrpc":"2.0","method":"x"},' + LIST + b"]"),
    invalid("a batch of notifications", b'[{"jsonrpc":"2.0","method":"notifications/initialized"}]', "null"),
    invalid("a batch in a batch", b"[[" + LIST + b"]]", "null"),
    invalid("no method", b'{"jsonrpc":"2.0","id":7}'),
    invalid("a number as method", LIST.replace(b'"tools/list"', b"7")),
    invalid("null as method", LIST.replace(b'"tools/list"', b"null")),
    invalid("a list as method", LIST.replace(b'"tools/list"', b'["tools/list"]')),
    invalid("no jsonrpc", LIST.replace(b'"jsonrpc":"2.0",', b"")),
    invalid("jsonrpc 1.0", LIST.replace(b"2.0", b"1.0")),
    invalid("jsonrpc as a number", LIST.replace(b'"2.0"', b"2.0")),
    invalid("null as id", with_id(b"null"), "null"),
    invalid("a flag as id", with_id(b"true"), "null"),
    invalid("an object as id", with_id(b"{}"), "null"),
    invalid("a list as id", with_id(b"[7]"), "null"),
    invalid("a fraction as id", with_id(b"7.5"), "7.5"),
    invalid("7.0 as id", with_id(b"7.0"), "7.0"),
    invalid("an id too large for a number", with_id(b"1e400"), "null"),
    invalid("no number as id", with_id(b"NaN"), "null"),
    invalid("an id without end in a batch", b"[" + with_id(b"-Infinity") + b"]", "null"),
    invalid("half an emoji as id", with_id(b'"\\ud83d"'), '"\\ud83d"'),
    bad_params("an empty list as params", LIST.replace(b"{%}", b"[]")),
    bad_params("a list as params", LIST.replace(b"{%}", b'["x"]')),
    bad_params("a text as params", LIST.replace(b"{%}", b'"x"')),
    bad_params("a number as params", LIST.replace(b"{%}", b"0")),
    bad_params("a flag as params", LIST.replace(b"{%}", b"false")),
    bad_params("a list as arguments", CALL.replace(b"{#}", b"[]"), logged=False),
    bad_params("a text as arguments", CALL.replace(b"{#}", b'"{}"'), logged=False),
    bad_params("no name", CALL.replace(b',"name":"list_backups"', b"").replace(b"#", b""), logged=False),
    served("a carriage return", LIST + b"\r"),
    served("blanks around it", b" \t" + LIST + b"  "),
    served("a byte order mark", b"\xef\xbb\xbf" + LIST),
    served("two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf" + LIST),
    served("null as params", b'{"jsonrpc":"2.0","id":7,"method":"ping","params":null}'),
    served("no params", b'{"jsonrpc":"2.0","id":7,"method":"ping"}'),
    served("a field that is not known", LIST[:-1] + b',"extra":[1]}'),
    served("the id twice", LIST[:-1] + b',"id":8}', "8"),
    served("0 as id", with_id(b"0"), "0"),
    served("-1 as id", with_id(b"-1"), "-1"),
    served("4,000 digits as id", with_id(b"9" * 4_000), "9" * 4_000),
    served("an empty text as id", with_id(b'""'), '""'),
    served("an emoji as id", with_id(b'"\\ud83d\\ude00"'), '"\\ud83d\\ude00"'),
    served("half an emoji", CALL.replace(b"#", b'"server_name":"party \\ud83d"')),
    served("the other half", CALL.replace(b"#", b'"server_name":"\\uDE00 party"')),
    served("half an emoji as a name", CALL.replace(b"#", b'"\\ud83d":1')),
    served("half an emoji as method", LIST.replace(b"list", b"\\ud83d"), code=NO_METHOD),
    served("a byte that is no UTF-8", LIST.replace(b"list", b"\xc3\x28"), code=NO_METHOD),
    served("half an emoji in UTF-8", CALL.replace(b"#", b'"server_name":"\xed\xa0\xbd"')),
    served("an escaped zero", CALL.replace(b"#", b'"server_name":"a\\u0000b"')),
    served("no number", CALL.replace(b"#", b'"limit":NaN')),
    served("no end", CALL.replace(b"#", b'"limit":-Infinity')),
    served("too large a number", CALL.replace(b"#", b'"limit":1e400')),
    served("nested somewhat", CALL.replace(b"#", b'"a":' + b"[" * 300 + b"]" * 300)),
    dropped("a notification with a list as params", b'{"jsonrpc":"2.0","method":"notifications/x","params":[]}'),
    dropped("a notification without jsonrpc", b'{"method":"notifications/\\u001b[31mx\\n"}'),
    dropped("a notification with a number as method", b'{"jsonrpc":"2.0","method":7}'),
    dropped("a list as result", b'{"jsonrpc":"2.0","id":7,"result":[]}'),
    dropped("a text as error", b'{"jsonrpc":"2.0","id":7,"error":"no"}'),
    dropped("a result whose id is a fraction", b'{"jsonrpc":"2.0","id":7.5,"result":{}}'),
    dropped("a result that is cut", b'{"jsonrpc":"2.0","id":7,"result":{"action":"acc'),
    dropped("an error that is cut, id last", b'{"error":{"code":1,"message":"x"},"jsonrpc":"2.0","id":7}}'),
    silent("a blank line", b""),
    silent("blanks", b" \t \r"),
    silent("a byte order mark alone", b"\xef\xbb\xbf"),
    silent("a notification that nobody waits for", b'{"jsonrpc":"2.0","method":"notifications/x"}'),
    silent("a result that nobody waits for", b'{"jsonrpc":"2.0","id":7,"result":{}}'),
]


@pytest.fixture(scope="module")
def vps() -> Iterator[Emulator]:
    with serve_in_thread() as emulator:
        yield emulator


def settings(vps: Emulator) -> dict[str, Any]:
    return {"VPS_API_URL": vps.base_url, "VPS_API_TOKEN": vps.token}


class Wire:
    """A server that is spoken to in one era, and how it is asked whether it still lives."""

    def __init__(self, server: ServerProcess, era: str) -> None:
        self.server, self.era = server, era
        self._probes = 0
        if era == "legacy":
            server.shake_hands()

    def exchange(self, sent: bytes, answers: int) -> list[dict[str, Any]]:
        """The answers to what is sent, in the end the one to a request that is as it should be."""
        envelope = b'"_meta":' + json.dumps(ENVELOPE).encode()
        if self.era == "legacy":
            sent = sent.replace(b"%,", b"").replace(b"%", b"")
        self._probes += 1
        probe = with_id(b'"probe %d"' % self._probes)
        self.server.write(sent.replace(b"%", envelope).replace(b"#", b""))
        self.server.write(probe.replace(b"%", envelope if self.era == "modern" else b""))
        got = [self.server._answers.get(timeout=PATIENCE) for _ in range(answers + 1)]
        (lived,) = [each for each in got if each["id"] == f"probe {self._probes}"]
        assert lived["result"]["tools"]
        return [each for each in got if each is not lived]


@pytest.fixture(scope="module", params=["legacy", "modern"])
def wire(request: pytest.FixtureRequest, vps: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp(request.param)
    with server_process(folder / "state", **settings(vps)) as server:
        yield Wire(server, request.param)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_has_a_readable_id_is_answered_and_the_server_lives_on(wire: Wire, row: Row) -> None:
    before = wire.server.stderr
    told = wire.exchange(row.sent, len(row.answered))
    codes = [(json.dumps(each["id"]), each.get("error", {"code": SERVED})["code"]) for each in told]
    assert sorted(codes) == sorted(row.answered)
    assert all(each["error"]["message"].isprintable() for each in told if "error" in each)
    lines = wire.server.stderr.removeprefix(before).splitlines()
    assert len(lines) == (max(len(row.answered), 1) if row.logged else 0)
    assert all(line.isprintable() and "WARNING mcp_backups.stdio: " in line for line in lines)


def test_half_an_emoji_reaches_vps_org_as_a_sign_that_something_is_missing(wire: Wire, vps: Emulator) -> None:
    call = CALL.replace(b"list_backups", b"create_backup")
    (told,) = wire.exchange(call.replace(b"#", b'"server_id":12345,"description":"%s \\ud83d"' % wire.era.encode()), 1)
    assert told["result"]["structuredContent"]["status"] == "accepted"
    made = max(vps.fleet.backups.values(), key=lambda backup: backup.id)
    assert made.description.startswith(f"{wire.era} \ufffd")


@pytest.mark.parametrize("first", ["discover", "initialize"])
def test_both_eras_are_served_in_one_session(vps: Emulator, tmp_path: Path, first: str) -> None:
    """Well-known hosts ask `server/discover`, and then shake hands all the same."""
    with server_process(tmp_path / "state", **settings(vps)) as server:
        if first == "discover":
            found = server.request("server/discover", {"_meta": ENVELOPE})
            assert found["supportedVersions"] == ["2026-07-28"]
        server.shake_hands()
        for _ in range(2):
            assert server.request("tools/list")["tools"]
            assert server.request("tools/list", {"_meta": ENVELOPE})["resultType"] == "complete"
        call = {"name": "list_backups", "arguments": {"limit": 1, "order": "oldest"}}
        texts = [server.request("tools/call", call | more)["content"] for more in ({}, {"_meta": ENVELOPE})]
        assert texts[0] == texts[1]
        server.close_input()
        assert server.wait() == 0
        assert server.stderr == ""


def test_a_byte_order_mark_before_the_first_message_does_not_matter(vps: Emulator, tmp_path: Path) -> None:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": LEGACY}
    with server_process(tmp_path / "state", **settings(vps)) as server:
        server.write(b"\xef\xbb\xbf" + json.dumps(hello).encode())
        assert server.answer(1)["result"]["serverInfo"]["name"] == "mcp-backups"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({}, "the session has not begun. Send initialize first"),
        ({"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}, "clientCapabilities"),
        ({"_meta": ENVELOPE | {"io.modelcontextprotocol/clientCapabilities": []}}, "clientCapabilities must be an obj"),
        ({"_meta": ENVELOPE | {"io.modelcontextprotocol/clientInfo": "me"}}, "clientInfo must be an object"),
        ({"_meta": ENVELOPE, "cursor": 4}, "params.cursor must be text"),
    ],
)
def test_the_field_that_is_wrong_is_named(vps: Emulator, tmp_path: Path, params: dict[str, Any], named: str) -> None:
    with server_process(tmp_path / "state", **settings(vps)) as server:
        error = server.answer(server.send("tools/list", params))["error"]
        assert error["code"] == BAD_PARAMS
        assert named in error["message"]


def test_a_cancellation_reaches_the_call_in_either_era(wire: Wire, vps: Emulator) -> None:
    """It is not answered, and nothing else is held up by it."""
    del vps
    waiting = CALL.replace(b"list_backups", b"create_backup").replace(
        b"#", b'"server_id":12346,"wait_seconds":45,"description":"%s"' % wire.era.encode()
    )
    wire.exchange(waiting, 0)
    began = time.monotonic()
    wire.exchange(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}', 0)
    (told,) = wire.exchange(CALL, 1)
    assert told["result"]["structuredContent"]["returned"]
    assert time.monotonic() - began < PATIENCE


@pytest.mark.parametrize("closes_input", [False, True])
def test_a_client_that_reads_no_more_ends_the_server_quietly(vps: Emulator, tmp_path: Path, closes_input: bool) -> None:
    reading, writing = os.pipe()
    with running(
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        env=environment(tmp_path / "state", **settings(vps)),
    ) as process:
        os.close(writing)
        os.close(reading)
        assert process.stdin
        assert process.stderr
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        process.stdin.flush()
        if closes_input:
            process.stdin.close()
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is none on Windows")
@pytest.mark.parametrize(("handler", "ends"), [(signal.SIG_DFL, True), (signal.SIG_IGN, False), (print, True)])
def test_a_terminal_that_is_closed_ends_a_server_unless_that_is_ignored(handler: Any, ends: bool) -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert (signal.SIGHUP in endings()) is ends
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("extra", "is_read"), [(0, True), (1, False)])
def test_a_line_of_1_mib_is_read_and_none_above(extra: int, is_read: bool) -> None:
    line = b'{"jsonrpc":"2.0","id":7,"method":"' + b"x" * (MAX_LINE + extra - 36) + b'"}'
    (told,) = read_line(line)
    assert (len(line) - extra, isinstance(told, dict)) == (MAX_LINE, is_read)


def test_an_id_that_no_number_holds_is_answered_as_it_came() -> None:
    (told,) = read_line(with_id(DIGITS))
    assert isinstance(told, Refusal)
    assert told.line.startswith(b'{"jsonrpc":"2.0","id":' + DIGITS + b',"error":')
