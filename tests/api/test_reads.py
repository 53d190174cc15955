"""Reads under every fault: retried where that helps, bounded always, and never a word of VPS.org's in the message."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from mcp_backups.api import VpsClient
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    ForbiddenError,
    ProtocolError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    UnavailableError,
    UpstreamTimeoutError,
)
from mcp_backups.sandbox import Emulator, Fault

from .stage import (
    NOW,
    READS,
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

PAGE = "<html>EVIL upstream text</html>"
DETAIL = {"detail": "EVIL upstream text"}


@pytest.mark.parametrize(
    ("fault", "error", "count"),
    [
        (Fault.status(401, DETAIL), AuthFailedError, 1),  # F01
        (Fault.status(403, DETAIL), ForbiddenError, 1),
        (Fault.status(404, DETAIL), ProtocolError, 1),
        (Fault.status(404, PAGE), ProtocolError, 1),
        (Fault.status(400, PAGE), RejectedError, 1),
        (Fault.status(418, DETAIL), RejectedError, 1),
        (Fault.status(503, PAGE), UnavailableError, 3),  # F22
        (Fault.status(500, DETAIL), UnavailableError, 3),
        (Fault.status(524, PAGE), UnavailableError, 3),
        (Fault.status(408), UnavailableError, 3),
        (Fault.status(501, DETAIL), UnavailableError, 1),
        (Fault.status(999, DETAIL), ProtocolError, 1),
        (Fault.status(204), ProtocolError, 1),  # F35
        (Fault.status(200, PAGE), ProtocolError, 1),  # F37
        (Fault.status(200, DETAIL), ProtocolError, 1),  # F38
        (Fault.status(200, b""), ProtocolError, 3),
        (Fault.status(200, b'{"count": 1, "results": [{"id": 50'), ProtocolError, 3),  # F39
        (Fault.status(200, b"[" * 100_000), ProtocolError, 3),  # F44
        (Fault.status(200, b'{"results": [' + b"9" * 5_000 + b"}"), ProtocolError, 1),
        (Fault.status(200, b"NaN"), ProtocolError, 1),
        (Fault.status(200, b'\xef\xbb\xbf{"detail": ""}'), ProtocolError, 1),
        (Fault.status(200, b'"\xff"'), ProtocolError, 1),
        (Fault.status(301, headers={"Location": "/api/v1/backups/"}), ProtocolError, 1),
        (Fault.status(304), ProtocolError, 1),
        (Fault.reset_before(), UnavailableError, 3),
        (Fault.reset_after(), UnavailableError, 3),
        (Fault.close_after(), ProtocolError, 3),
        (Fault.half_header(), ProtocolError, 3),
        (Fault.cut_body(), ProtocolError, 3),
        (Fault.raw(b"\x16\x03\x01 garbage \r\n\r\n"), ProtocolError, 3),
        (Fault.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\n"), ProtocolError, 3),
        (Fault.raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"), ProtocolError, 3),
        (Fault.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), ProtocolError, 3),
        (Fault.raw(b"HTTP/1.0 200 OK\r\n\r\n{"), ProtocolError, 3),
        (Fault.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), ProtocolError, 3),
        (Fault.gzip_bomb(), ProtocolError, 1),
    ],
)
async def test_a_list_that_fails_is_asked_for_as_often_as_it_may(
    vps: Emulator, client: VpsClient, fault: Fault, error: type[ApiError], count: int
) -> None:
    vps.fail(fault, times=None)
    raised = await error_of(client.list_backups())
    assert type(raised) is error
    assert raised.changed == "nothing"
    assert vps.count("GET") == count == len(vps.requests)
    assert "EVIL" not in raised.what + raised.next_step
    assert "EVIL" not in str(raised).removesuffix('VPS.org said: "EVIL upstream text"')
    assert raised.__cause__ is None
    assert raised.__suppress_context__ or raised.__context__ is None


@pytest.mark.parametrize("fault", [Fault.status(503), Fault.reset_after(), Fault.cut_body(), Fault.status(429)])
async def test_a_list_that_fails_twice_succeeds_the_third_time(
    vps: Emulator, client: VpsClient, time: Time, fault: Fault
) -> None:
    """F17, F21: with full jitter at its most, half a second and then one."""
    vps.fail(fault, times=2)
    assert (await client.list_backups()).complete
    assert vps.count("GET") == 3
    assert time.slept == [0.5, 1.0]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_every_read_is_retried(
    vps: Emulator, client: VpsClient, read: Callable[[VpsClient], Awaitable[object]]
) -> None:
    vps.fail(Fault.status(502), times=2)
    await read(client)
    assert vps.count("GET") == 3


async def test_a_list_waits_as_long_as_it_is_told(vps: Emulator, client: VpsClient, time: Time) -> None:
    """F15."""
    vps.fail(Fault.status(429, DETAIL, {"Retry-After": "2"}))
    assert (await client.list_backups()).complete
    assert time.slept == [2.0]
    assert vps.count("GET") == 2


async def test_a_list_waits_until_the_date_it_is_told(vps: Emulator, client: VpsClient, time: Time) -> None:
    vps.fail(Fault.status(503, DETAIL, {"Retry-After": "Thu, 16 Jan 2025 08:00:03 GMT"}))
    assert (await client.list_backups()).complete
    assert time.slept == [3.0]


async def test_the_date_it_is_told_is_one_by_vps_orgs_clock(time: Time) -> None:
    """Ours is two hours slow."""
    date, until = "Date: Thu, 16 Jan 2025 10:00:00 GMT", "Retry-After: Thu, 16 Jan 2025 10:00:03 GMT"
    throttled = answer({}, "429 Too Many Requests", date, until)
    async with BareServer(says(throttled, answer([]))) as vps, client_of(vps.base_url, time) as client:
        await client.list_backups()
    assert time.slept == [3.0]


@pytest.mark.parametrize(
    ("date", "offset"),
    [
        ("Thu, 16 Jan 2025 09:30:00 GMT", timedelta(minutes=90)),
        ("Wed, 15 Jan 2025 08:00:00 GMT", timedelta(days=-1)),
        ("Thu, 16 Jan 2025 08:00:00", None),
        ("soon", None),
        ("", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
    ],
)
async def test_vps_orgs_time_is_what_its_answer_tells_if_it_can_be_one(date: str, offset: timedelta | None) -> None:
    async with BareServer(says(answer([], "200 OK", f"Date: {date}"))) as vps, client_of(vps.base_url) as client:
        assert client.moment().upstream is None
        await client.list_backups()
        assert client.clock_offset == offset
        assert client.moment().upstream == (None if offset is None else NOW + offset)


@pytest.mark.parametrize(
    ("header", "is_fresh"),
    [
        *((f"Age: {age}", age in ("0", "")) for age in ("0", "", "1", "3600", "soon")),
        ("X-Cache: HIT", False),
        ("X-Cache: MISS from edge", True),
        ("CF-Cache-Status: DYNAMIC", True),
        ("CF-Cache-Status: STALE", False),
        ("Cache-Status: edge; hit; ttl=30", False),
        ('Warning: 110 - "Response is Stale"', False),
        ('Warning: 199 - "Miscellaneous"', True),
    ],
)
async def test_an_answer_that_was_kept_on_the_way_tells_no_time(header: str, is_fresh: bool) -> None:
    """Its date is of when it was made: by that a plan would seem to have expired, or not to."""
    kept = answer([], "200 OK", "Date: Thu, 16 Jan 2025 07:00:00 GMT", header)
    async with BareServer(says(kept)) as vps, client_of(vps.base_url) as client:
        await client.list_backups()
        assert client.clock_offset == (timedelta(hours=-1) if is_fresh else None)


async def test_the_same_bytes_are_read_once_and_what_comes_with_them_each_time() -> None:
    held = {"count": 1, "results": [backup()]}
    same, more = answer(held), answer(held, "200 OK", "X-Total-Count: 9")
    other = answer({"count": 1, "results": [backup(status="failed")]})
    async with BareServer(says(same, same, more, other, same)) as vps, client_of(vps.base_url) as client:
        lists = [await client.list_backups() for _ in range(5)]
    first, *others = [each.rows[0] for each in lists]
    assert [each is first for each in others] == [True, True, False, True]
    assert [each.complete for each in lists] == [True, True, False, True, True]
    assert others[2].status == "failed"


SMALLER = "It stays so until there is less to list at VPS.org; tell the user."


@pytest.mark.parametrize(
    ("read", "next_step"),
    [
        (lambda client: client.list_backups(), ResponseTooLargeError.advice),
        (lambda client: client.list_backups(12345), SMALLER),
        (lambda client: client.list_servers(), SMALLER),
    ],
)
async def test_what_to_do_about_a_list_that_is_too_large_can_be_done(
    vps: Emulator, client: VpsClient, read: Callable[[VpsClient], Awaitable[object]], next_step: str
) -> None:
    vps.fail(Fault.endless_body(), times=None)
    raised = await error_of(read(client))
    assert isinstance(raised, ResponseTooLargeError)
    assert raised.next_step == next_step


@pytest.mark.parametrize("value", ["-1", "soon", "\u0663", "1e9", "1000000000", "Thu, 16 Jan 2025 08:00:03", "0"])
async def test_a_wait_that_makes_no_sense_is_ignored(value: str) -> None:
    """F19."""
    time = Time()
    throttled = answer({}, "429 Too Many Requests", f"Retry-After: {value}")
    async with BareServer(says(throttled, answer([]))) as vps, client_of(vps.base_url, time) as client:
        assert (await client.list_backups()).complete
    assert time.slept == [0.5]
    assert len(vps.asked) == 2


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimitedError), (503, UnavailableError), (500, UnavailableError)]
)
async def test_a_long_wait_is_told_not_waited(
    vps: Emulator, client: VpsClient, time: Time, status: int, error: type[ApiError]
) -> None:
    vps.fail(Fault.status(status, DETAIL, {"Retry-After": "86399"}), times=None)
    raised = await error_of(client.list_backups())
    assert isinstance(raised, error)
    assert raised.retry_after == 86399
    assert raised.next_step == "Try again after 86399 s, from 2025-01-17T07:59:59Z on, in 23 h 59 min."
    assert time.slept == []
    assert vps.count("GET") == 1


async def test_a_wait_that_the_deadline_does_not_leave_is_told_not_waited(time: Time) -> None:
    say = says(answer({}, "429 Too Many Requests", "Retry-After: 9"))
    async with BareServer(say) as vps, client_of(vps.base_url, time, deadline=5) as client:
        raised = await error_of(client.list_backups())
    assert isinstance(raised, RateLimitedError)
    assert raised.next_step == "Try again after 9 s, from 2025-01-16T08:00:09Z on."
    assert time.slept == []


async def test_retries_stop_while_most_attempts_fail(vps: Emulator, client: VpsClient) -> None:
    vps.fail(Fault.status(503), times=None)
    counts = []
    for _ in range(4):
        before = vps.count("GET")
        await error_of(client.list_backups())
        counts.append(vps.count("GET") - before)
    assert counts == [3, 2, 1, 1]
    vps.clear_faults()
    assert (await client.list_backups()).complete


async def test_refusals_use_up_no_retries(vps: Emulator, client: VpsClient) -> None:
    vps.fail(Fault.status(403), times=20)
    for _ in range(20):
        await error_of(client.list_backups())
    vps.fail(Fault.status(503), times=2)
    assert (await client.list_backups()).complete


async def test_a_refused_connection_is_tried_three_times(vps: Emulator, client: VpsClient, time: Time) -> None:
    """F54."""
    await vps.down()
    raised = await error_of(client.list_backups())
    assert isinstance(raised, UnavailableError)
    assert raised.what == "VPS.org could not be reached to list backups."
    assert time.slept == [0.5, 1.0]
    await vps.up()
    assert (await client.list_backups()).complete


async def test_a_host_that_does_not_exist_is_unavailable() -> None:
    async with client_of("http://host.invalid/api/v1") as client:
        assert isinstance(await error_of(client.list_backups()), UnavailableError)


@pytest.mark.parametrize(
    "say",
    [
        silence,
        drips(answer({"count": 0, "results": []})),
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b" " * 1000),
    ],
    ids=["silence", "drip from the first byte", "drip of the body"],
)
async def test_silence_and_drips_end_with_the_deadline(say: Say) -> None:
    """F59: a time limit for each read alone would never end a drip."""
    async with BareServer(say) as vps, client_of(vps.base_url, deadline=0.6) as client:
        raised = await error_of(client.list_backups())
        assert len(vps.asked) == 1
    assert isinstance(raised, UpstreamTimeoutError)
    assert raised.changed == "nothing"


async def test_the_deadline_covers_all_attempts_together() -> None:
    async def slow(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.write(answer({}, "503 Service Unavailable"))

    async with BareServer(slow) as vps, client_of(vps.base_url, deadline=0.5) as client:
        raised = await error_of(client.list_backups())
        assert len(vps.asked) <= 3
    assert isinstance(raised, UpstreamTimeoutError | UnavailableError)


async def test_a_slow_answer_within_the_deadline_is_taken(vps: Emulator, client: VpsClient) -> None:
    """F61."""
    vps.fail(Fault.delay(0.3))
    assert (await client.list_backups()).complete
    assert vps.count("GET") == 1


async def test_no_more_than_five_mebibytes_are_read() -> None:
    """F41."""
    big = b'{"results": ["' + b"x" * (6 * 2**20) + b'"]}'
    async with BareServer(says(answer(big))) as vps, client_of(vps.base_url) as client:
        raised = await error_of(client.list_backups())
        assert len(vps.asked) == 1
    assert isinstance(raised, ResponseTooLargeError)
    assert "5 MiB" in raised.what


async def test_just_under_five_mebibytes_are_read() -> None:
    padded = answer(b'{"results": []' + b" " * (5 * 2**20 - 15) + b"}")
    async with BareServer(says(padded)) as vps, client_of(vps.base_url) as client:
        assert (await client.list_backups()).complete


async def test_an_endless_body_is_left(vps: Emulator, client: VpsClient) -> None:
    """F42."""
    vps.fail(Fault.endless_body(), times=None)
    assert isinstance(await error_of(client.list_backups()), ResponseTooLargeError | UpstreamTimeoutError)
    assert vps.count("GET") == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "zstd", "x"])
async def test_a_compressed_answer_is_refused_before_it_is_read(encoding: str) -> None:
    """A few hundred bytes may unpack to gigabytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 1000\r\n\r\n".encode()
    async with BareServer(says(head)) as vps, client_of(vps.base_url) as client:
        raised = await error_of(client.list_backups())
        assert vps.asked[0].headers["accept-encoding"] == "identity"
        assert vps.asked[0].headers["cache-control"] == "no-cache"
    assert isinstance(raised, ProtocolError)
    assert "compressed" in raised.what


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"server_id"', b""])
async def test_a_refusal_stands_whatever_becomes_of_its_body(body: bytes) -> None:
    """The rest of the body never comes."""
    reply = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n" + body
    async with BareServer(says(reply)) as vps, client_of(vps.base_url, deadline=0.5) as client:
        assert isinstance(await error_of(client.list_backups()), RejectedError)


async def test_reads_share_one_connection(time: Time) -> None:
    async with BareServer(says(answer([]))) as vps, client_of(vps.base_url, time) as client:
        for _ in range(5):
            await client.list_backups()
    assert (len(vps.asked), vps.connections) == (5, 1)


@pytest.mark.parametrize("end", [close, reset])
async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(end: Say) -> None:
    async def say(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer([]))
        await writer.drain()
        await end(asked, writer)

    async with BareServer(say) as vps, client_of(vps.base_url) as client:
        for _ in range(3):
            assert (await client.list_backups()).complete
    assert vps.connections == 3


async def test_environment_proxies_and_cookies_have_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    say = says(answer([], "200 OK", "Set-Cookie: a=b; Path=/"))
    async with BareServer(say) as vps, client_of(vps.base_url) as client:
        await client.list_backups()
        await client.list_backups()
    assert "cookie" not in vps.asked[1].headers


@pytest.mark.parametrize("slashes", ["", "/", "//"])
async def test_the_address_may_end_with_a_slash_or_not(slashes: str) -> None:
    async with BareServer(says(answer([backup()]))) as vps, client_of(vps.base_url + slashes) as client:
        assert len((await client.list_backups()).rows) == 1
    assert vps.asked[0].target == "/api/v1/backups/?page_size=100"
    assert vps.asked[0].headers["accept"] == "application/json"


async def test_a_hundred_lists_at_once_all_arrive(vps: Emulator, time: Time) -> None:
    async with client_of(vps.base_url, time, deadline=60) as client, anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(client.list_servers)
    assert vps.count("GET") == 100
