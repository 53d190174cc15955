"""Whatever comes in over HTTP is answered as it is over standard input: by its id, where that can be read."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.consent.conftest import House
from tests.consent.test_http import HEADERS
from tests.process import LEGACY
from tests.test_stdio import CALL, ENVELOPE, ROWS, SERVED, UNREAD, Row

MOST = 256 * 2**10

Post = Callable[[bytes], httpx2.Response]


@pytest.fixture(params=["legacy", "modern"])
def post(request: pytest.FixtureRequest, house: House) -> Post:
    """Sends a body in a session of the handshake, or as 2026-07-28 does."""
    url, headers, envelope = house.url("auto"), HEADERS, b'"_meta":' + json.dumps(ENVELOPE).encode()
    if request.param == "legacy":
        headers, envelope = {name: HEADERS[name] for name in ("Accept", "Content-Type")}, b'"_meta":{}'
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": LEGACY}
        session = house.http.post(url, json=hello, headers=headers).headers["mcp-session-id"]
        headers = headers | {"Mcp-Session-Id": session}
        begun = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        assert house.http.post(url, content=begun, headers=headers).status_code == 202

    def send(body: bytes) -> httpx2.Response:
        calls = {"Mcp-Method": "tools/call", "Mcp-Name": "list_backups"} if b"tools/call" in body else {}
        filled = body.replace(b"%", envelope).replace(b"#", b"")
        return house.http.post(url, content=filled, headers=headers | (calls if request.param == "modern" else {}))

    return send


def answers(response: httpx2.Response) -> list[dict[str, Any]]:
    """What came back, be it an object, a list of them or an event stream."""
    events = re.findall(r"^data: (.+)$", response.text, re.MULTILINE)
    told = [json.loads(each) for each in events] or (response.json() if response.content else [])
    return told if isinstance(told, list) else [told]


def is_as_told(row: Row, response: httpx2.Response) -> bool:
    if len(row.sent) > MOST:
        return response.status_code == 413
    codes = [(json.dumps(each["id"]), each.get("error", {"code": SERVED})["code"]) for each in answers(response)]
    if row.answered and row.logged:  # by us, before the SDK
        return response.status_code == 400 and sorted(codes) == sorted(row.answered)
    if row.answered:  # a few are none that the SDK takes over HTTP: nested over 200 times, or without the envelope
        return sorted(each for each, _ in codes) == sorted(each for each, _ in row.answered)
    return response.status_code in {202, 400} and all(each == "null" for each, _ in codes)


def test_a_body_is_taken_as_a_line_is(post: Post) -> None:
    wrong = [row.name for row in ROWS if not is_as_told(row, post(row.sent))]
    assert wrong == []


def test_the_words_are_ours(post: Post) -> None:
    (told,) = answers(post(b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[]}'))
    assert told["error"]["message"] == "Invalid params: params must be an object; got a list."
    (told,) = answers(post(b""))
    assert told["error"]["message"] == "Invalid request: there is no message."


def test_half_an_emoji_is_no_reason_to_be_left_without_an_answer(post: Post) -> None:
    (told,) = answers(post(CALL.replace(b"#", b'"server_name":"party \\ud83d"')))
    assert told["id"] == 7
    assert "not_found" in told["result"]["content"][0]["text"]


def test_a_message_over_several_lines_is_one(post: Post) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": "no/such"}, indent=2).encode()
    assert [each["id"] for each in answers(post(body))] == [7]
    assert answers(post(body[:-2]))[0]["error"]["code"] == UNREAD
