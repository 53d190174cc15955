import asyncio
import contextlib
import re

import httpx2
import pytest

from mcp_backups.sandbox import Emulator, End, Fault, Reply

from .stage import PATIENCE, Clock, client, converse, request

pytestmark = pytest.mark.anyio

DELETE_501 = "DELETE /api/v1/backups/501/"
SOON_OVER = httpx2.Timeout(PATIENCE, read=0.4)


class Naps:
    """Records how long one would have waited, and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_a_delay_holds_the_answer_back_and_changes_nothing_else() -> None:
    naps = Naps()
    async with Emulator(sleep=naps) as emulator, client(emulator) as http:
        emulator.fail(Fault.delay(3))
        assert (await http.get("/account/me/")).status_code == 200
    assert naps.seconds == [3]


async def test_a_request_whose_client_gave_up_during_a_delay_is_applied_all_the_same() -> None:
    arrived = asyncio.Event()

    async def until_arrival(_: float) -> None:
        await arrived.wait()

    async with Emulator(sleep=until_arrival) as emulator, client(emulator) as http:
        emulator.fail(Fault.delay(60))
        with pytest.raises(httpx2.ReadTimeout):
            await http.delete("/backups/501/", timeout=SOON_OVER)
        assert 501 in emulator.fleet.backups
        arrived.set()
        await http.get("/account/me/")
        assert 501 not in emulator.fleet.backups


@pytest.mark.parametrize("applied", [True, False])
async def test_any_status_can_be_said_with_the_request_applied_or_not(applied: bool) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(502, "<h1>Bad Gateway</h1>", apply=applied), method="DELETE")
        answer = await http.delete("/backups/501/")
    assert (answer.status_code, answer.text) == (502, "<h1>Bad Gateway</h1>")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert (501 not in emulator.fleet.backups) is applied is emulator.requests[0].applied
    assert emulator.requests[0].status == 502


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ({"detail": "maintenance"}, "application/json", b'{"detail": "maintenance"}'),
        ([1], "application/json", b"[1]"),
        (b"\xff{", "application/json", b"\xff{"),
    ],
)
async def test_a_status_can_have_any_body(
    body: dict[str, str] | list[int] | bytes, content_type: str, sent: bytes
) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(200, body))
        answer = await http.get("/backups/")
    assert (answer.content, answer.headers["Content-Type"]) == (sent, content_type)


async def test_a_status_can_have_any_header_even_a_false_one() -> None:
    headers = {"Retry-After": "soon", "Content-Type": "text/plain", "Date": "yesterday"}
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(999, b"?", headers))
        answer = await http.get("/backups/")
    assert (answer.status_code, answer.headers["Date"]) == (999, "yesterday")
    assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("soon", "text/plain")


async def test_the_apis_own_answer_can_be_edited() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.edited(lambda content: content["results"][0].update(id=True)))
        emulator.fail(Fault.edited(lambda content: content | {"count": 7}))
        emulator.fail(Fault.edited(lambda _: {}), method="DELETE")
        first = (await http.get("/backups/")).json()
        second = (await http.get("/backups/")).json()
        nothing = await http.delete("/backups/501/")
    assert first["results"][0]["id"] is True
    assert (second["count"], len(second["results"])) == (7, 81)
    assert (nothing.status_code, nothing.content) == (204, b"")


async def test_a_reset_before_comes_though_the_body_was_never_sent() -> None:
    async with Emulator() as emulator:
        emulator.fail(Fault.reset_before())
        with pytest.raises(ConnectionResetError):
            await converse(emulator, request(emulator, DELETE_501, "Content-Length: 10"))
    assert (emulator.requests[0].method, emulator.requests[0].applied) == ("DELETE", False)
    assert 501 in emulator.fleet.backups


LOST = {
    "reset": (Fault.reset_after, httpx2.ReadError),
    "close": (Fault.close_after, httpx2.RemoteProtocolError),
    "silence": (Fault.silence, httpx2.ReadTimeout),
    "half header": (Fault.half_header, httpx2.RemoteProtocolError),
}


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("kind", LOST)
async def test_an_answer_can_be_lost_in_every_way_with_the_request_applied_or_not(kind: str, applied: bool) -> None:
    make, error = LOST[kind]
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(make(apply=applied))
        with pytest.raises(error):
            await http.delete("/backups/501/", timeout=SOON_OVER)
        assert emulator.count("DELETE", "/backups/") == 1
        assert (501 not in emulator.fleet.backups) is applied is emulator.requests[0].applied
        assert (await http.get("/account/me/")).status_code == 200


async def test_half_a_header_is_exactly_that() -> None:
    async with Emulator() as emulator:
        emulator.fail(Fault.half_header())
        answer = await converse(emulator, request(emulator))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\n" not in answer


@pytest.mark.parametrize("applied", [True, False])
async def test_a_cut_body_is_the_apis_own_shorter_than_its_length_promises(applied: bool) -> None:
    async with Emulator() as emulator:
        emulator.fail(Fault.cut_body(apply=applied))
        sent = b'{"server_id": 12345}'
        headers = ("Content-Type: application/json", f"Content-Length: {len(sent)}")
        answer = await converse(emulator, request(emulator, "POST /api/v1/backups/", *headers) + sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    promised = re.search(rb"Content-Length: (\d+)", head)
    assert head.startswith(b"HTTP/1.1 201 Created")
    assert promised is not None
    assert len(body) == int(promised[1]) // 2
    assert (502 in emulator.fleet.backups) is applied


@pytest.mark.parametrize(("where", "bytes_waited_for"), [("header", "all"), ("body", "body")])
async def test_a_drip_is_the_right_answer_byte_by_byte(where: str, bytes_waited_for: str) -> None:
    naps = Naps()
    async with Emulator(sleep=naps) as emulator:
        emulator.fail(Fault.drip(0.3, "header" if where == "header" else "body"))
        answer = await converse(emulator, request(emulator, "GET /api/v1/account/me/", "Connection: close"))
    body = answer.partition(b"\r\n\r\n")[2]
    assert body.endswith(b"}")
    assert naps.seconds == [0.3] * len(answer if bytes_waited_for == "all" else body)


async def test_raw_bytes_go_out_as_they_are() -> None:
    async with Emulator() as emulator:
        emulator.fail(Fault.raw(b"HTTP/9.9 \x00\xff"))
        assert await converse(emulator, request(emulator, DELETE_501)) == b"HTTP/9.9 \x00\xff"
        assert 501 in emulator.fleet.backups
        emulator.fail(Fault.raw(b"!", apply=True))
        assert await converse(emulator, request(emulator, DELETE_501)) == b"!"
        assert 501 not in emulator.fleet.backups
    assert emulator.requests[0].status is None


async def test_an_endless_body_goes_on_as_long_as_it_is_read() -> None:
    read = 0
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.endless_body())
        async with asyncio.timeout(PATIENCE), http.stream("GET", "/backups/") as answer:
            async for chunk in answer.aiter_bytes():
                read += len(chunk)
                if read > 2**22:
                    break
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers


async def test_a_gzip_bomb_is_small_on_the_wire() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.gzip_bomb(mebibytes=4))
        answer = await http.get("/backups/")
    assert int(answer.headers["Content-Length"]) < 2**13
    assert len(answer.content) == 2**22


async def test_gzip_that_is_none_can_be_claimed() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(201, b"plain", {"Content-Encoding": "gzip"}))
        with pytest.raises(httpx2.DecodingError):
            await http.get("/backups/")


async def test_a_late_request_is_applied_after_its_answer_was_given(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        emulator.fail(Fault.status(504, "<h1>Gateway Time-out</h1>").late(6), method="POST")
        refused = await http.post("/backups/", json={"server_id": 12360})
        clock.advance(5.9)
        before = (await http.get("/backups/", params={"server_id": 12360})).json()
        clock.advance(1.1)
        after = (await http.get("/backups/", params={"server_id": 12360})).json()
    assert (refused.status_code, before["count"], after["count"]) == (504, 0, 1)
    assert after["results"][0]["created_at"] == "2025-01-16T08:00:06Z"
    assert emulator.requests[0].applied


async def test_a_late_request_that_is_refused_never_comes(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        emulator.fail(Fault().late(6), method="DELETE")
        refused = await http.delete("/backups/501/", headers={"Authorization": "Bearer another"})
        assert (refused.status_code, emulator.pending) == (401, [])
        clock.advance(7)
        emulator.settle()
        assert 501 in emulator.fleet.backups


async def test_late_requests_arrive_in_the_order_of_their_times_when_all_is_finished(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        for seconds, description in ((20, "second"), (10, "first")):
            emulator.fail(Fault.close_after().late(seconds))
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.post("/backups/", json={"server_id": 12360, "description": description})
        emulator.finish_all()
    arrived = [(backup.description, backup.status) for backup in emulator.fleet.backups_of(12360)]
    assert arrived == [("first", "completed"), ("second", "completed")]


UNSURE = {
    "500": Fault.status(500),
    "502": Fault.status(502, "<h1>Bad Gateway</h1>"),
    "503": Fault.status(503),
    "504": Fault.status(504),
    "reset": Fault.reset_after(),
    "silence": Fault.silence(),
    "202": Fault.status(202, {"detail": "Deletion queued."}),
    "a web page": Fault.status(200, "<html>We are working on it.</html>"),
    "no in words": Fault.status(200, {"success": False}),
    "a plain yes": Fault(),
}


@pytest.mark.parametrize("seconds", [15, 200, 3 * 3600])
@pytest.mark.parametrize("answer", UNSURE)
async def test_a_delete_can_take_effect_late_whatever_was_answered(answer: str, seconds: int, clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        emulator.fail(UNSURE[answer].late(seconds), method="DELETE")
        with contextlib.suppress(httpx2.TransportError):
            await http.delete("/backups/501/", timeout=SOON_OVER)
        clock.advance(seconds - 0.1)
        emulator.settle()
        assert (501 in emulator.fleet.backups, len(emulator.pending)) == (True, 1)
        clock.advance(0.1)
        emulator.settle()
        assert (501 in emulator.fleet.backups, emulator.pending) == (False, [])
    assert emulator.requests[0].applied


async def test_a_second_delete_of_what_goes_late_is_carried_out_at_once_and_the_first_finds_nothing(
    clock: Clock,
) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        emulator.fail(Fault.status(500).late(15))
        answers = [await http.delete("/backups/501/") for _ in range(2)]
        emulator.finish_all()
    assert [answer.status_code for answer in answers] == [500, 204]
    assert [request.applied for request in emulator.requests] == [False, True]


@pytest.mark.parametrize(
    ("values", "where", "changed"),
    [
        ({"status": "available"}, {}, 81),
        ({"status": "archived"}, {"server_id": 12345}, 18),
        ({"size_mb": None}, {"backup_id": 501}, 1),
        ({"server": None}, {"backup_id": 501}, 1),
        ({"created_at": "soon"}, {"server_id": 12346}, 25),
        ({"id": True}, {"server_id": 12345, "backup_id": 501}, 1),
        ({"id": True}, {"server_id": 12346, "backup_id": 501}, 0),
    ],
)
async def test_rows_of_a_list_can_have_any_value(
    values: dict[str, object], where: dict[str, int], changed: int
) -> None:
    async with Emulator() as emulator, client(emulator) as http:
        usual = (await http.get("/backups/")).json()["results"]
        emulator.fail(Fault.rows(values, **where), times=None)
        shown = (await http.get("/backups/")).json()
        servers = await http.get("/servers/")
    others = [(row, as_usual) for row, as_usual in zip(shown["results"], usual, strict=True) if row != as_usual]
    assert (len(others), shown["count"]) == (changed, 81)
    assert all(row == as_usual | values for row, as_usual in others)
    assert servers.json()["results"][0]["status"] == "active"


async def test_a_list_can_lag_behind_once(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        await http.delete("/backups/501/")
        await http.post("/backups/", json={"server_id": 12345})
        clock.advance(10)
        emulator.fail(Fault.lagging(11), skip=1)
        seen = [[row["id"] for row in (await http.get("/backups/")).json()["results"][:2]] for _ in range(3)]
    assert seen == [[502, 499], [501, 499], [502, 499]]


async def test_faults_can_be_composed_freely() -> None:
    naps = Naps()
    async with Emulator(sleep=naps) as emulator:
        emulator.fail(Fault(pause=2, answer=Reply(201, b"{}"), end=End.CLOSE))
        answer = await converse(emulator, request(emulator, DELETE_501))
    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert (naps.seconds, 501 in emulator.fleet.backups) == ([2], False)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fault.delay(-1),
        lambda: Fault.status(99),
        lambda: Fault.status(1000),
        lambda: Fault(early=True),
        lambda: Fault.lagging(-1),
        lambda: Fault.status(500).late(-1),
        lambda: Fault.drip(1, "footer"),  # type: ignore[arg-type]
        lambda: Emulator().fail(Fault(), times=-1),
        lambda: Emulator().fail(Fault(), skip=-1),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_when_it_is_made(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=":"):
        wrong()


async def test_rules_are_addressed_by_method_and_path() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(500), method="DELETE", path=r"^/backups/\d+/$", times=None)
        answers = [
            await http.get("/backups/"),
            await http.delete("/backups/501/"),
            await http.delete("/backups/499/"),
            await http.post("/backups/", json={"server_id": 12345}),
        ]
    assert [answer.status_code for answer in answers] == [200, 500, 500, 201]
    assert [request.rule is not None for request in emulator.requests] == [False, True, True, False]


async def test_rules_skip_then_hit_so_often_and_the_oldest_ready_one_hits() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(500), skip=1)
        emulator.fail(Fault.status(503), times=2, skip=2)
        statuses = [(await http.get("/account/me/")).status_code for _ in range(5)]
    assert statuses == [200, 500, 503, 503, 200]


async def test_rules_without_skip_hit_one_after_the_other() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(500))
        emulator.fail(Fault.status(502), times=2)
        statuses = [(await http.get("/account/me/")).status_code for _ in range(4)]
        assert statuses == [500, 502, 502, 200]
        assert [(rule.seen, rule.hits) for rule in emulator.faults] == [(4, 1), (4, 2)]


async def test_a_rule_for_ever_hits_until_the_faults_are_cleared() -> None:
    async with Emulator() as emulator, client(emulator) as http:
        emulator.fail(Fault.status(503), times=None)
        statuses = [(await http.get("/account/me/")).status_code for _ in range(3)]
        emulator.clear_faults()
        statuses.append((await http.get("/account/me/")).status_code)
    assert statuses == [503, 503, 503, 200]
