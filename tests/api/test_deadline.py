"""What is known of a write when its time runs out."""

from collections.abc import Mapping
from typing import Any

import anyio
import httpcore2
import httpx2
import pytest
from pydantic import SecretStr

from mcp_backups.api import Network
from mcp_backups.api.attempts import Attempts
from mcp_backups.api.bodies import nothing
from mcp_backups.api.call import ApiCall, ResultT
from mcp_backups.api.link import Link, Progress
from mcp_backups.errors import ApiError, Failure, UpstreamTimeoutError
from tests.stage import until

from .stage import DEADLINE, PATIENCE, BareServer, Time, answer, error_of, says

pytestmark = pytest.mark.anyio

DELETE = ApiCall("DELETE", "/backups/501/", "delete backup 501", nothing, needs_body=False)


CONNECT = "http11.send_request_headers.started CONNECT"
"""What is said to a proxy before its tunnel stands."""


class StuckLink(Link):
    """Gets as far as an event of httpcore's, and no further."""

    def __init__(self, *events: str) -> None:
        super().__init__("http://vps.test", None, Network(), DEADLINE)
        self.events = events

    async def send(self, call: ApiCall[ResultT], progress: Progress) -> httpx2.Response:
        for event in self.events:
            name, _, method = event.partition(" ")
            await progress.trace(name, {"request": httpcore2.Request(method or "DELETE", "https://vps.test/")})
        await anyio.sleep(PATIENCE)
        raise AssertionError(call)


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([], Failure.AMBIGUOUS),
        (["connection.connect_tcp.started"], Failure.NOT_SENT),
        (["connection.connect_tcp.complete", "connection.start_tls.started"], Failure.NOT_SENT),
        (["connection.start_tls.complete", "http11.send_request_headers.started"], Failure.AMBIGUOUS),
        (["connection.start_tls.complete", "some.event.of.the.future"], Failure.AMBIGUOUS),
        ([CONNECT], Failure.NOT_SENT),
        ([CONNECT, "http11.send_request_body.started"], Failure.NOT_SENT),
        ([CONNECT, "http11.receive_response_headers.failed", "http11.response_closed.started"], Failure.NOT_SENT),
        ([CONNECT, "http11.receive_response_headers.complete", "proxy.start_tls.started"], Failure.NOT_SENT),
        ([CONNECT, "proxy.start_tls.complete"], Failure.AMBIGUOUS),
        ([CONNECT, "proxy.start_tls.complete", "http11.send_request_headers.started"], Failure.AMBIGUOUS),
    ],
)
async def test_only_a_write_that_was_still_connecting_is_known_not_to_be_sent(
    events: list[str], failure: Failure
) -> None:
    attempts = Attempts(StuckLink(*events), Time().clock(), lambda: 1.0, deadline=0.05)
    raised = await error_of(attempts.run(DELETE))
    assert isinstance(raised, UpstreamTimeoutError)
    assert raised.failure is failure
    assert raised.changed == ("unknown" if failure is Failure.AMBIGUOUS else "nothing")


async def test_a_throttled_write_whose_time_ends_in_a_wait_was_not_sent() -> None:
    class Slow(Time):
        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(PATIENCE + seconds)

    async with BareServer(says(answer({}, "429 Too Many Requests"))) as vps:
        link = Link(vps.base_url, SecretStr("vps_x"), Network(), DEADLINE)
        raised = await error_of(Attempts(link, Slow().clock(), lambda: 0.01, deadline=0.2).run(DELETE))
        await link.aclose()
    assert isinstance(raised, ApiError)
    assert raised.failure is Failure.NOT_SENT
    assert raised.changed == "nothing"


async def test_httpcore_tells_of_connecting_and_then_of_sending() -> None:
    """The names of its events are what the deadline's verdict rests on."""
    events: list[str] = []

    class Noting(Progress):
        async def trace(self, event: str, info: Mapping[str, Any]) -> None:
            events.append(event)
            await super().trace(event, info)

    async with BareServer(says(answer({}))) as vps:
        link = Link(vps.base_url, SecretStr("vps_x"), Network(), DEADLINE)
        await (await link.send(DELETE, Noting())).aclose()
        await link.aclose()
    assert events[0].startswith("connection.")
    sending = events.index("http11.send_request_headers.started")
    assert all(event.startswith("connection.") for event in events[:sending])


async def test_a_call_that_is_cancelled_from_outside_lets_go_of_its_connection() -> None:
    async with BareServer(says(b"")) as vps:
        link = Link(vps.base_url, SecretStr("vps_x"), Network(), DEADLINE)
        attempts = Attempts(link, Time().clock(), lambda: 1.0, DEADLINE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempts.run, DELETE)
            await until(lambda: bool(vps.asked))
            tasks.cancel_scope.cancel()
        await link.aclose()
    assert tasks.cancel_scope.cancelled_caught
    assert len(vps.asked) == 1
