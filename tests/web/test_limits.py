"""Silent, slow and forgotten clients keep nobody out, leave the log quiet, and do not delay the end."""

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest

from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.web.limits import LIMITS, Calls, Limits, Session, Sessions, within_open_files
from tests.consent.test_http import HEADERS, listing
from tests.stage import MakeSettings, ManualClock, until
from tests.web.stage import Served, serving

HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
BEGIN = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}


@pytest.fixture
def serve(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> Any:
    """`async with serve(connections=8) as served`: with these limits, and the usual ones else."""

    @asynccontextmanager
    async def start(**limits: Any) -> AsyncIterator[Served]:
        async with serving(emulator, make_settings(), clock, limits=LIMITS._replace(**limits)) as served:
            yield served

    return start


@contextmanager
def connected(served: Served, count: int, *, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections on which this is sent, and nothing more."""
    url = httpx2.URL(served.url)
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            each = stack.enter_context(socket.create_connection((url.host, url.port or 80)))
            each.sendall(sent)
            each.setblocking(False)
            opened.append(each)
        yield opened


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def status(served: Served, token: str, body: dict[str, Any] | None = None, **headers: str) -> int:
    sent = {"Authorization": f"Bearer {token}"} | headers
    return (await served.post(body or listing(), **(HEADERS if body is None else {}), **sent)).status_code


HEAD = b"POST /mcp HTTP/1.1\r\nHost: %b\r\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent", [b"", b"P", b"POST /mcp HTTP/1.1\r\n", b"POST /mcp HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"\r\n"]
)
async def test_where_there_is_no_room_who_has_said_nothing_for_longest_goes(
    serve: Any, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(connections=8) as served:
        token = served.token("her", "read")
        with connected(served, 30, sent=sent) as silent:
            for _ in range(3):
                async with httpx2.AsyncClient() as anew:
                    told = await anew.post(
                        served.url, json=listing(), headers=HEADERS | {"Authorization": f"Bearer {token}"}
                    )
                    assert told.status_code == 200
            gone = [is_closed(each) for each in silent]
            assert gone == sorted(gone, reverse=True), "the first to come were the first to go"
            assert gone.count(False) <= 8
    logged = {each.message for each in caplog.records if each.levelname in {"WARNING", "ERROR"}}
    assert logged <= {"Invalid HTTP request received."}, "which is logged once a minute"


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"GET /mcp HT", b"GET /mcp HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_come_in_time_is_not_waited_for(serve: Any, sent: bytes) -> None:
    async with serve(head_seconds=0.2) as served:
        with connected(served, 3, sent=sent) as silent:
            await until(lambda: all(is_closed(each) for each in silent))


@pytest.mark.anyio
async def test_a_head_that_drips_is_not_waited_for(serve: Any) -> None:
    """Each byte would begin the time anew, if it were only the silence that counts."""
    async with serve(head_seconds=0.3) as served:
        with connected(served, 1, sent=b"GET /mcp HTTP/1.1\r\nX-Slow: ") as (slow,):

            def is_over() -> bool:
                try:
                    slow.send(b"x")
                except OSError:
                    return True
                return is_closed(slow)

            await until(is_over)


def partial_request(served: Served, token: str) -> bytes:
    """A request, and the first half of its body."""
    url = httpx2.URL(served.url)
    head = f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{url.port}\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode()


@pytest.mark.anyio
async def test_a_body_that_does_not_come_in_time_is_not_waited_for(serve: Any) -> None:
    async with serve(body_seconds=0.2) as served:
        token = served.token("her", "read")
        with connected(served, 3, sent=partial_request(served, token)) as slow:
            answers = [b""] * 3

            def are_over() -> bool:
                for number, each in enumerate(slow):
                    try:
                        answers[number] += (part := each.recv(1000))
                    except BlockingIOError:
                        return False
                    if part:
                        return False
                return True

            await until(are_over)
            assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        assert await status(served, token) == 200


@pytest.mark.anyio
async def test_of_who_is_not_let_in_no_body_is_read(serve: Any) -> None:
    async with serve() as served:
        with connected(served, 1, sent=partial_request(served, "nobody")) as (slow,):
            answer = b""

            def is_over() -> bool:
                nonlocal answer
                try:
                    answer += (part := slow.recv(1000))
                except BlockingIOError:
                    return False
                return not part

            await until(is_over)
            assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.anyio
async def test_slow_bodies_do_not_delay_the_end(serve: Any) -> None:
    with ExitStack() as slow:
        async with serve() as served:
            token = served.token("her", "read")
            slow.enter_context(connected(served, 5, sent=partial_request(served, token)))
            assert await status(served, token) == 200
            began = time.monotonic()
        assert time.monotonic() - began < 5


@pytest.mark.anyio
async def test_one_principal_cannot_take_the_room_of_another(serve: Any, emulator: Emulator) -> None:
    emulator.fail(Fault.delay(30), method="GET", times=None)
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {**listing()["params"], "name": "list_backups", "arguments": {}}
    headers = HEADERS | {"Mcp-Method": "tools/call", "Mcp-Name": "list_backups"}
    async with serve(calls=2) as served, anyio.create_task_group() as tasks:
        hers, his = served.token("her", "read"), served.token("him", "read")
        for _ in range(2):
            sent = headers | {"Authorization": f"Bearer {hers}"}
            tasks.start_soon(partial(served.post, {**call, "params": params}, **sent))
        await until(lambda: emulator.count("GET") >= 2)
        refused = await served.post(listing(), **HEADERS, Authorization=f"Bearer {hers}")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert await status(served, his) == 200
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_idle_sessions_end_for_new_ones_and_never_those_of_another(serve: Any) -> None:
    async with serve(own_sessions=3) as served:
        hers, his = served.token("her", "read"), served.token("him", "read")

        async def begin(token: str) -> str:
            told = await served.post(BEGIN, Authorization=f"Bearer {token}")
            assert told.status_code == 200
            return str(told.headers["mcp-session-id"])

        async def is_open(token: str, session: str) -> bool:
            return await status(served, token, PING, **{"Mcp-Session-Id": session}) == 200

        kept = await begin(his)
        first, second, *_ = [await begin(hers) for _ in range(3)]
        assert await is_open(hers, first)  # so that it is not the one that was not used for longest
        for _ in range(2):
            await begin(hers)
        assert [await is_open(hers, first), await is_open(hers, second)] == [True, False]
        for _ in range(20):
            await begin(hers)
        assert not await is_open(hers, first)
        assert await is_open(his, kept)


@pytest.mark.anyio
async def test_sessions_with_an_open_stream_end_too_and_delay_nothing(serve: Any) -> None:
    async with serve(own_sessions=5) as served:
        token = served.token("her", "read")
        let_in = {"Authorization": f"Bearer {token}"}
        ended = 0

        async def listen() -> None:
            nonlocal ended
            session = (await served.post(BEGIN, **let_in)).headers["mcp-session-id"]
            headers = let_in | {"Accept": "text/event-stream", "Mcp-Session-Id": session}
            async with served.http.stream("GET", served.url, headers=headers) as stream:
                with suppress(httpx2.TransportError):  # at the end of the server it is cut
                    async for _ in stream.aiter_raw():
                        pass
            ended += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(listen)
            await until(lambda: ended == 3)
            assert await status(served, token) == 200
            began = time.monotonic()
            served.stop()
        assert time.monotonic() - began < 5
        assert ended == 8


@pytest.mark.anyio
@pytest.mark.parametrize("number", [0, signal.SIGTERM, *([] if sys.platform == "win32" else [signal.SIGHUP])])
async def test_it_tells_whether_it_is_up_and_takes_calls(serve: Any, emulator: Emulator, number: int) -> None:
    emulator.fail(Fault.delay(1), method="GET")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    params = {**listing()["params"], "name": "list_backups", "arguments": {}}
    headers = HEADERS | {"Mcp-Method": "tools/call", "Mcp-Name": "list_backups"}
    async with serve() as served:
        token = served.token("her", "read")
        assert [(await served.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert (await served.get("/healthz", Host="evil.example")).status_code == 421
        assert emulator.count("GET") == 0
        async with anyio.create_task_group() as tasks:
            answer: list[httpx2.Response] = []

            async def ask() -> None:
                sent = headers | {"Authorization": f"Bearer {token}"}
                answer.append(await served.post({**call, "params": params}, **sent))

            tasks.start_soon(ask)
            await until(lambda: emulator.count("GET") >= 1)
            if number:
                assert callable(signal.getsignal(number)), "it would end the tests"
                os.kill(os.getpid(), number)
            else:
                served.stop()
            assert [(await served.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 503]
            assert await status(served, token) == 503
    assert answer[0].status_code == 200
    assert "499" in answer[0].text


def test_a_principal_that_is_done_has_room_again() -> None:
    calls = Calls(1)
    with calls.one_more("her") as first, calls.one_more("her") as second, calls.one_more("him") as other:
        assert (first, second, other) == (True, False, True)
    with calls.one_more("her") as again:
        assert again


def test_the_whole_has_a_bound_too_and_the_greatest_part_gives_way() -> None:
    sessions = Sessions(Limits(sessions=4, own_sessions=3))
    him, *hers, it = (Session(str(n), owner, "/mcp") for n, owner in enumerate(["him", "her", "her", "her", "it"]))
    for each in (him, *hers, it):
        sessions.begin(each)
    assert sessions.too_many() == hers[0]
    with sessions.using(hers[0]):
        assert sessions.too_many() == hers[1]
    for strange in (hers[1]._replace(owner="him"), hers[1]._replace(path="/mcp/shop")):
        with sessions.using(strange):
            sessions.end(strange)
    assert sessions.too_many() == hers[1]
    sessions.end(hers[1])
    assert sessions.too_many() is None
    assert len(sessions) == 4


def test_a_session_that_its_client_names_twice_keeps_its_calls_and_can_end() -> None:
    sessions, hers = Sessions(Limits(own_sessions=0)), Session("1", "her", "/mcp")
    sessions.begin(hers)
    with sessions.using(hers):
        sessions.begin(hers)
        assert sessions.too_many() is None
    assert sessions.too_many() == hers


def test_there_are_no_more_connections_than_open_files() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
        assert within_open_files(Limits()).connections == 4096
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 4096 + 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
