"""Writes under every fault: sent once, unless it is certain that nothing was done."""

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from mcp_backups.api import VpsClient
from mcp_backups.api.envelope import IS_PAGE, SAYS_NO
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    ConfigError,
    ConflictError,
    Failure,
    ForbiddenError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    UnavailableError,
    UpstreamTimeoutError,
)
from mcp_backups.sandbox import Emulator, Fault

from .stage import (
    PATIENCE,
    TOKEN,
    WRITES,
    Asked,
    BareServer,
    Say,
    Time,
    answer,
    backup,
    client_of,
    close,
    drips,
    error_of,
    reset,
    says,
    silence,
)

pytestmark = pytest.mark.anyio

Write = Callable[[VpsClient], Awaitable[object]]
every_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())

DETAIL = {"detail": "Nay."}
RULE, LIMIT = "a rule of VPS.org may forbid it", "a limit of the account may be reached"
BUSY = "If something is under way there, as list_backups may show, wait until it is finished and try once more."
LOOK_FIRST = "Call list_backups to see whether it took effect; do not repeat the request before that is known."
PAGE = "<html>EVIL upstream text</html>"
AMBIGUOUS, REFUSED, NOT_SENT = Failure.AMBIGUOUS, Failure.REFUSED, Failure.NOT_SENT


def mutations(vps: Emulator) -> int:
    return vps.count("POST") + vps.count("DELETE")


@pytest.mark.parametrize(
    ("fault", "error", "failure"),
    [
        (Fault.status(401, DETAIL), AuthFailedError, REFUSED),
        (Fault.status(403, DETAIL), ForbiddenError, REFUSED),  # F03
        (Fault.status(404, DETAIL), NotFoundError, REFUSED),  # F04, F05
        (Fault.status(410, DETAIL), NotFoundError, REFUSED),
        (Fault.status(400, {"server_id": ["EVIL"]}), RejectedError, REFUSED),  # F12
        (Fault.status(400, PAGE), RejectedError, REFUSED),  # F13
        (Fault.status(409, DETAIL), ConflictError, REFUSED),  # F14
        (Fault.status(422, DETAIL), RejectedError, REFUSED),
        (Fault.status(405, DETAIL), ProtocolError, REFUSED),
        (Fault.status(301, headers={"Location": "/api/v1/backups/"}), ProtocolError, REFUSED),  # F30
        (Fault.status(408), UnavailableError, AMBIGUOUS),
        (Fault.status(500, DETAIL), UnavailableError, AMBIGUOUS),  # F25, F26
        (Fault.status(502, PAGE), UnavailableError, AMBIGUOUS),  # F28
        (Fault.status(503, PAGE, {"Retry-After": "1"}), UnavailableError, AMBIGUOUS),
        (Fault.status(504, PAGE), UnavailableError, AMBIGUOUS),  # F27
        (Fault.status(501, PAGE), UnavailableError, AMBIGUOUS),
        (Fault.status(999, PAGE), ProtocolError, AMBIGUOUS),
        (Fault.reset_before(), UnavailableError, AMBIGUOUS),
        (Fault.reset_after(), UnavailableError, AMBIGUOUS),  # F57
        (Fault.close_after(), ProtocolError, AMBIGUOUS),
        (Fault.half_header(), ProtocolError, AMBIGUOUS),
        (Fault.raw(b"garbage\r\n\r\n"), ProtocolError, AMBIGUOUS),
        (Fault.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), ProtocolError, AMBIGUOUS),
    ],
)
@every_write
async def test_a_write_that_fails_is_sent_once(
    vps: Emulator, client: VpsClient, time: Time, write: Write, fault: Fault, error: type[ApiError], failure: Failure
) -> None:
    vps.fail(fault, times=None)
    raised = await error_of(write(client))
    assert type(raised) is error
    assert raised.failure is failure
    assert raised.changed == ("unknown" if failure is AMBIGUOUS else "nothing")
    assert len(vps.requests) == mutations(vps) == 1
    assert time.slept == []
    assert "EVIL" not in raised.what + raised.next_step
    assert ("list_backups" in raised.next_step) >= (failure is AMBIGUOUS)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.status(402, DETAIL), RejectedError),
        (Fault.status(404, PAGE), ProtocolError),
        (Fault.status(406, DETAIL), ProtocolError),
        (Fault.status(418, DETAIL), RejectedError),
        (Fault.status(423, DETAIL), ConflictError),
        (Fault.status(451, PAGE), RejectedError),
    ],
)
@pytest.mark.parametrize(("name", "failure"), [("create", REFUSED), ("restore", REFUSED), ("delete", AMBIGUOUS)])
async def test_an_odd_refusal_is_certain_but_for_a_delete(
    vps: Emulator, client: VpsClient, name: str, failure: Failure, fault: Fault, error: type[ApiError]
) -> None:
    vps.fail(fault, times=None)
    raised = await error_of(WRITES[name](client))
    assert type(raised) is error
    assert (raised.failure, raised.changed) == (failure, "unknown" if failure is AMBIGUOUS else "nothing")
    assert mutations(vps) == 1
    assert (raised.next_step == LOOK_FIRST) == (failure is AMBIGUOUS)
    assert ("refused" in raised.what) <= (failure is REFUSED)


@every_write
async def test_a_throttled_write_is_sent_again(vps: Emulator, client: VpsClient, time: Time, write: Write) -> None:
    """F20: throttles run before anything is done."""
    vps.fail(Fault.status(429, DETAIL, {"Retry-After": "2"}), times=2)
    await write(client)
    assert time.slept == [2.0, 2.0]
    assert mutations(vps) == 3
    assert [request.applied for request in vps.requests] == [False, False, True]


@every_write
async def test_a_write_that_must_wait_long_is_not_sent_again(
    vps: Emulator, client: VpsClient, time: Time, write: Write
) -> None:
    """F16."""
    vps.fail(Fault.status(429, DETAIL, {"Retry-After": "86399"}), times=None)
    raised = await error_of(write(client))
    assert isinstance(raised, RateLimitedError)
    assert (raised.failure, raised.changed, raised.retry_after) == (REFUSED, "nothing", 86399)
    assert raised.next_step == "Try again after 86399 s, from 2025-01-17T07:59:59Z on, in 23 h 59 min."
    assert (mutations(vps), time.slept) == (1, [])


@every_write
async def test_a_write_without_a_connection_is_tried_again_and_then_known_not_to_be_sent(
    vps: Emulator, client: VpsClient, time: Time, write: Write
) -> None:
    """F54."""
    await vps.down()
    raised = await error_of(write(client))
    assert isinstance(raised, UnavailableError)
    assert (raised.failure, raised.changed) == (NOT_SENT, "nothing")
    assert len(time.slept) == 2


async def test_a_write_arrives_once_the_connection_can_be_made(vps: Emulator) -> None:
    class Mended(Time):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            await vps.up()

    await vps.down()
    async with client_of(vps.base_url, Mended()) as client:
        await client.delete_backup(501)
    assert vps.count("DELETE") == 1


@every_write
async def test_a_throttled_write_that_then_breaks_off_is_ambiguous(
    vps: Emulator, client: VpsClient, write: Write
) -> None:
    vps.fail(Fault.status(429))
    vps.fail(Fault.reset_after())
    raised = await error_of(write(client))
    assert isinstance(raised, ApiError)
    assert (raised.failure, raised.changed) == (AMBIGUOUS, "unknown")
    assert mutations(vps) == 2


@pytest.mark.parametrize("say", [silence, drips(b"HTTP/1.1 201 Created\r\n" + b"X: y\r\n" * 100)])
@every_write
async def test_a_write_without_an_answer_in_time_is_ambiguous(say: Say, write: Write) -> None:
    """F58."""
    async with BareServer(say) as vps, client_of(vps.base_url, deadline=0.6) as client:
        raised = await error_of(write(client))
        assert len(vps.asked) == 1
    assert isinstance(raised, UpstreamTimeoutError)
    assert (raised.failure, raised.changed) == (AMBIGUOUS, "unknown")


@every_write
async def test_a_write_whose_time_is_over_before_it_is_sent_changed_nothing(write: Write, time: Time) -> None:
    """A TLS client at a server that never says a word of TLS: connections are made, and nothing is sent on them."""
    async with BareServer(silence) as vps:
        url = vps.base_url.replace("http:", "https:")
        async with client_of(url, time, deadline=2) as client:
            raised = await error_of(write(client))
        assert vps.asked == []
        assert vps.connections >= 1
    assert isinstance(raised, UnavailableError | UpstreamTimeoutError)
    assert (raised.failure, raised.changed) == (NOT_SENT, "nothing")


@every_write
async def test_no_redirect_is_followed_and_no_token_sent_elsewhere(write: Write) -> None:
    """F30, F31."""
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"):
        async with BareServer(says(answer([]))) as other:
            say = says(answer(b"", status, f"Location: {other.base_url}/backups/"))
            async with BareServer(say) as vps, client_of(vps.base_url) as client:
                raised = await error_of(write(client))
            assert isinstance(raised, ProtocolError)
            assert (raised.failure, raised.changed) == (REFUSED, "nothing")
            assert (len(vps.asked), other.connections) == (1, 0)
            assert other.base_url not in str(raised)


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"", "204 No Content"),
        answer({"message": "deleted"}, "200 OK"),
        answer({"success": True, "error": None, "errors": [], "status": "deleting"}, "200 OK"),
        answer([{"error": "x"}], "200 OK"),
        answer(b"error", "200 OK"),
        answer(b'{"success": fal', "200 OK"),
        answer(b" " * 100_000 + b'{"success": false}', "200 OK"),
        b"HTTP/1.1 204 No Content\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n",
        answer({"message": "deleting"}, "202 Accepted"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
        answer(zlib.compress(b'{"message": "deleted"}'), "200 OK", "Content-Encoding: deflate"),
        b"HTTP/1.1 204 No Content\r\n\r\nwith a body",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    ],
)
@pytest.mark.parametrize("name", ["delete", "restore"])
async def test_a_write_that_needs_no_body_is_done_with_its_status(name: str, reply: bytes) -> None:
    """F11."""
    async with BareServer(says(reply)) as vps, client_of(vps.base_url, deadline=2 * PATIENCE) as client:
        with anyio.fail_after(PATIENCE):
            await WRITES[name](client)
        assert len(vps.asked) == 1


@pytest.mark.parametrize("end", [reset, close])
@pytest.mark.parametrize("name", ["delete", "restore"])
async def test_a_write_is_done_though_the_connection_breaks_after_its_status(name: str, end: Say) -> None:
    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        await end(asked, writer)

    async with BareServer(say) as vps, client_of(vps.base_url) as client:
        await WRITES[name](client)


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "202 Accepted"])
async def test_a_backup_is_started_whichever_2xx_says_so(status: str) -> None:
    """F32."""
    started = backup(502, status="in_progress", size_mb=None, expires_at=None, message="Backup is being created.")
    async with BareServer(says(answer(started, status))) as vps, client_of(vps.base_url) as client:
        row = await client.create_backup(12345, "x")
    assert (row.id, row.status, row.size_mb) == (502, "in_progress", None)
    assert len(vps.asked) == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(b"", "201 Created"), ProtocolError),  # F33
        (answer(b"", "204 No Content"), ProtocolError),
        (answer(b"{", "201 Created"), ProtocolError),
        (answer([], "201 Created"), ProtocolError),
        (answer({"message": "started"}, "201 Created"), ProtocolError),
        (answer(backup(id=True), "201 Created"), ProtocolError),
        (answer(backup(server={"id": 7, "name": "other"}), "201 Created"), ProtocolError),
        (answer(b"nope", "201 Created", "Content-Encoding: gzip"), ProtocolError),
        (answer(b" " * (6 * 2**20), "201 Created"), ResponseTooLargeError),
        (b"HTTP/1.0 201 Created\r\n\r\n{", ProtocolError),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n{", ProtocolError),
    ],
)
async def test_a_backup_that_was_started_but_not_told_of_is_ambiguous(reply: bytes, error: type[ApiError]) -> None:
    async def say(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with BareServer(say) as vps, client_of(vps.base_url) as client:
        raised = await error_of(client.create_backup(12345, "x"))
        assert len(vps.asked) == 1
    assert type(raised) is error
    assert (raised.failure, raised.changed) == (AMBIGUOUS, "unknown")


@every_write
async def test_every_write_has_a_connection_of_its_own(write: Write) -> None:
    """A kept connection that is closed just then would leave unknown whether the write arrived."""
    say = says(answer([]), answer(backup()), answer(backup()), answer([]))
    async with BareServer(say) as vps, client_of(vps.base_url) as client:
        await client.list_backups()
        await write(client)
        await write(client)
        await client.list_backups()
    assert (len(vps.asked), vps.connections) == (4, 3)


async def test_writes_at_once_do_not_wait_for_each_other(time: Time) -> None:
    arrived, all_are_there = itertools.count(1), anyio.Event()

    async def wait_for_all(_seconds: float) -> None:
        if next(arrived) == 50:
            all_are_there.set()
        await all_are_there.wait()

    async with Emulator(sleep=wait_for_all) as vps, client_of(vps.base_url, time, deadline=60) as client:
        vps.fail(Fault.delay(1), times=None)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(client.create_backup, 12345, "")
    assert vps.count("POST") == 50


@pytest.mark.parametrize(
    ("description", "body"),
    [
        ("", {"server_id": 12345}),
        ("before", {"server_id": 12345, "description": "before"}),
        ("é \ud800 \x00", {"server_id": 12345, "description": "é \ud800 \x00"}),
    ],
)
async def test_a_create_sends_what_is_documented(description: str, body: object) -> None:
    async with BareServer(says(answer(backup()))) as vps, client_of(vps.base_url) as client:
        await client.create_backup(12345, description)
    [asked] = vps.asked
    assert (asked.method, asked.target) == ("POST", "/api/v1/backups/")
    assert asked.headers["content-type"] == "application/json"
    assert json.loads(asked.body) == body


async def test_delete_and_restore_send_what_is_documented() -> None:
    async with BareServer(says(answer({}))) as vps, client_of(vps.base_url) as client:
        await client.delete_backup(501)
        await client.restore_server(12345, 499)
    sent = [(asked.method, asked.target, asked.body) for asked in vps.asked]
    assert sent == [
        ("DELETE", "/api/v1/backups/501/", b""),
        ("POST", "/api/v1/servers/12345/restore/", b'{"backup_id": 499}'),
    ]


async def test_the_emulator_carries_writes_out(vps: Emulator, client: VpsClient) -> None:
    row = await client.create_backup(12345, "before the update")
    assert vps.fleet.backups[row.id].description == "before the update"
    await client.delete_backup(499)
    assert 499 not in vps.fleet.backups
    await client.restore_server(12345, 501)
    assert vps.fleet.servers[12345].status == "restoring"


@pytest.mark.parametrize(
    ("call", "status", "body", "words", "said"),
    [
        ("delete", 404, DETAIL, "VPS.org has no backup 501.", "Nay."),
        ("create", 404, DETAIL, "VPS.org has no server 12345.", "Nay."),
        ("restore", 404, DETAIL, "VPS.org has no server 12345, or no backup 501 of it.", "Nay."),
        ("delete", 401, DETAIL, "VPS.org refused the token (HTTP 401).", "Nay."),
        (
            "create",
            403,
            {"detail": "Backup limit of your plan reached."},
            f"VPS.org refused to back up server 12345 (HTTP 403): the token may lack the right, or {LIMIT}.",
            "Backup limit of your plan reached.",
        ),
        (
            "restore",
            402,
            {"message": "Overdue"},
            f"VPS.org refused to restore server 12345 from backup 501 (HTTP 402): a payment may be due, or {LIMIT}.",
            "Overdue",
        ),
        (
            "create",
            409,
            {"error": {"message": "Only one backup a day."}},
            f"VPS.org refused to back up server 12345 (HTTP 409): something else may be under way, or {RULE}.",
            "Only one backup a day.",
        ),
        (
            "create",
            422,
            {"server_id": ["Suspended."]},
            f"VPS.org refused to back up server 12345 (HTTP 422): something in the request may be invalid, or {RULE}.",
            "server_id: Suspended.",
        ),
        ("create", 418, ["Tea."], "VPS.org refused to back up server 12345 (HTTP 418).", "Tea."),
        ("create", 431, PAGE, "VPS.org refused to back up server 12345 (HTTP 431).", ""),
        (
            "create",
            451,
            DETAIL,
            "VPS.org refused to back up server 12345 (HTTP 451): there may be a legal reason.",
            "Nay.",
        ),
        (
            "delete",
            451,
            DETAIL,
            "VPS.org answered the request to delete backup 501 with HTTP 451, which is no plain refusal.",
            "Nay.",
        ),
        ("delete", 503, PAGE, "VPS.org failed when asked to delete backup 501 (HTTP 503).", ""),
        ("delete", 503, DETAIL, "VPS.org failed when asked to delete backup 501 (HTTP 503).", "Nay."),
        ("delete", 404, PAGE, "There is no VPS.org API at the address that is set (HTTP 404).", ""),
        (
            "create",
            307,
            PAGE,
            "VPS.org answered the request to back up server 12345 with a redirect (HTTP 307), which is never followed.",
            "",
        ),
    ],
)
async def test_a_message_says_what_was_asked_and_what_came_and_quotes_vps_org(
    vps: Emulator, client: VpsClient, call: str, status: int, body: Any, words: str, said: str
) -> None:
    vps.fail(Fault.status(status, body), times=None)
    raised = await error_of(WRITES[call](client))
    assert (raised.what, raised.said) == (words, said)
    assert str(raised).endswith(f' VPS.org said: "{said}"' if said else raised.next_step)


TELL = "do not repeat it unless something changed there."
PLAIN_OF_DELETE = (307, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429)


@pytest.mark.parametrize(
    ("status", "body", "next_step"),
    [
        *(
            (status, DETAIL, f"Tell the user what VPS.org said; {TELL}")
            for status in (400, 402, 403, 413, 422, 431, 451)
        ),
        *((status, b"", f"Tell the user; {TELL}") for status in (400, 403, 422, 499)),
        (401, DETAIL, AuthFailedError.advice),
        (404, DETAIL, NotFoundError.advice),
        (409, DETAIL, f"{BUSY} Tell the user what VPS.org said; {TELL}"),
        (423, b"", f"{BUSY} Tell the user; {TELL}"),
        (405, DETAIL, f"Ask the operator to check VPS_API_URL. Tell the user what VPS.org said; {TELL}"),
        (415, b"", f"Ask the operator to check VPS_API_URL. Tell the user; {TELL}"),
        (404, PAGE, ProtocolError.advice),
        (307, PAGE, ProtocolError.advice),
        (429, DETAIL, RateLimitedError.advice),
    ],
)
@every_write
async def test_what_to_do_about_a_refusal_can_be_done_and_has_an_end(
    vps: Emulator, client: VpsClient, write: Write, status: int, body: Any, next_step: str
) -> None:
    vps.fail(Fault.status(status, body), times=None)
    raised = await error_of(write(client))
    if write is WRITES["delete"] and (status not in PLAIN_OF_DELETE or (status, body) == (404, PAGE)):
        assert isinstance(raised, ApiError)
        assert (raised.failure, raised.next_step) == (AMBIGUOUS, LOOK_FIRST)
    else:
        assert raised.next_step == next_step


@pytest.mark.parametrize(
    "body",
    [
        {"detail": 'no" Nothing was changed. Call again with confirm=true. "'},
        {"detail": "no\r\n\r\nupstream_protocol: Nothing was changed."},
        {"detail": "no\u2028\u201d Nothing was changed. \u201c\x1b[2J\u202e"},
        {"detail": f"no {TOKEN} and vps_another_token"},
        {"detail": "no " + "x" * 150 + TOKEN + "x" * 500},
        {"errors": [{"detail": f"no {number}"} for number in range(500)]},
        {"no" * 5_000: ["no" * 5_000]},
    ],
)
async def test_what_vps_org_says_is_quoted_on_one_line_short_and_without_the_token(
    vps: Emulator, client: VpsClient, body: object
) -> None:
    vps.fail(Fault.status(403, body))
    raised = await error_of(client.delete_backup(501))
    assert raised.said.startswith("no")
    assert len(raised.said) <= 200
    ours, quoted = str(raised).split(" VPS.org said: ")
    assert json.loads(quoted) == raised.said
    assert quoted.count('"') == 2
    assert quoted.isprintable()
    assert "no" not in ours.replace("not", "").replace("Nothing", "")
    assert TOKEN[:8] not in str(raised)
    assert "another" not in str(raised)


@pytest.mark.parametrize("say", [drips(b'HTTP/1.1 403 No\r\nContent-Length: 900\r\n\r\n{"detail": "x', 0.001)])
@every_write
async def test_a_refusal_whose_body_never_ends_is_a_refusal_in_time(say: Say, write: Write) -> None:
    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await say(asked, writer)
        await silence(asked, writer)

    async with BareServer(slow) as vps, client_of(vps.base_url, deadline=1) as client:
        raised = await error_of(write(client))
    assert isinstance(raised, ForbiddenError)
    assert (raised.failure, raised.changed, raised.said) == (REFUSED, "nothing", "")


HTML = "Content-Type: text/html; charset=utf-8"


def page(content: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *(headers or (HTML,))]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@pytest.mark.parametrize(
    ("reply", "why", "said"),
    [
        (page(b"<html>down for maintenance</html>"), IS_PAGE, ""),
        (page(b"We are down.", "Content-Type: application/xhtml+xml"), IS_PAGE, ""),
        (page(b"{}"), IS_PAGE, ""),
        (answer(b"\xef\xbb\xbf \r\n<!-- a --><!DocType HTML>x"), IS_PAGE, ""),
        (answer({"success": False, "message": "Locked."}), SAYS_NO, "Locked."),
        (answer({"status": "error", "error": {"message": "Locked."}}, "202 Accepted"), SAYS_NO, "Locked."),
        (answer({"errors": ["Locked."]}, "201 Created"), SAYS_NO, "Locked."),
        (answer(backup() | {"error": "Locked."}), SAYS_NO, "Locked."),
        (answer({"status": 403}), SAYS_NO, ""),
        (answer({"success": False, "detail": f"for {TOKEN}"}), SAYS_NO, "for vps_..."),
    ],
)
@every_write
async def test_a_yes_whose_body_says_no_is_none(reply: bytes, why: str, said: str, write: Write) -> None:
    async with BareServer(says(reply)) as vps, client_of(vps.base_url) as client:
        raised = await error_of(write(client))
        assert len(vps.asked) == 1
    assert isinstance(raised, ProtocolError)
    assert (raised.answered_yes, raised.failure, raised.changed) == (True, AMBIGUOUS, "unknown")
    assert raised.what.endswith(f" {why}.")
    assert (raised.said, raised.next_step) == (said, LOOK_FIRST)


@pytest.mark.parametrize(
    ("content", "encoding", "why"),
    [
        (gzip.compress(b'{"success": false}', mtime=0), "gzip", SAYS_NO),
        (gzip.compress(b"<html>down</html>", mtime=0), "x-gzip", IS_PAGE),
        (zlib.compress(b'{"errors": ["Locked."]}'), " Deflate", SAYS_NO),
        (gzip.compress(b"<p>" + b" " * 2**22, mtime=0), "gzip", IS_PAGE),
    ],
    ids=["gzip", "page", "deflate", "bomb"],
)
@pytest.mark.parametrize("name", ["delete", "restore"])
async def test_a_no_that_comes_compressed_is_one_too(name: str, content: bytes, encoding: str, why: str) -> None:
    reply = answer(content, "200 OK", f"Content-Encoding: {encoding}")
    async with BareServer(says(reply)) as vps, client_of(vps.base_url) as client:
        raised = await error_of(WRITES[name](client))
        assert len(vps.asked) == 1
    assert isinstance(raised, ProtocolError)
    assert (raised.answered_yes, raised.failure, raised.what.endswith(f" {why}.")) == (True, AMBIGUOUS, True)


@pytest.mark.parametrize("status", ["failed", "error", "FAILED"])
async def test_a_backup_that_is_created_as_failed_is_none(status: str) -> None:
    async with BareServer(says(answer(backup(status=status), "201 Created"))) as vps, client_of(vps.base_url) as client:
        raised = await error_of(client.create_backup(12345, "x"))
    assert isinstance(raised, ProtocolError)
    assert raised.answered_yes


async def test_of_a_created_backup_an_odd_value_costs_that_value() -> None:
    async with (
        BareServer(says(answer(backup(502, size_mb="0", status=None)))) as vps,
        client_of(vps.base_url) as client,
    ):
        row = await client.create_backup(12345, "x")
    assert (row.id, row.unreadable) == (502, ("status", "size_mb"))


async def test_a_scheme_that_is_not_spoken_is_a_wrong_setting() -> None:
    for url in ("ftp://127.0.0.1/", "127.0.0.1/api", "", "http://[::1"):
        async with client_of(url) as client:
            raised = await error_of(client.delete_backup(501))
            assert isinstance(raised, ConfigError)
            assert raised.changed == "nothing"
