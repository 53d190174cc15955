"""Lists in pages: followed on the same host only, and honest about what is missing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.api import VpsClient
from mcp_backups.api.pages import ListRequest, read_list
from mcp_backups.api.wire import Page, backup_row
from mcp_backups.errors import NotFoundError, ProtocolError, UnavailableError
from mcp_backups.models import Backup, Listing
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.seed import large_fleet

from .stage import NOW, BareServer, Time, answer, backup, client_of, error_of, says

pytestmark = pytest.mark.anyio

NEXT = "http://vps.test/api/v1/backups/?page={}"


class Book:
    """Answers with its pages in turn, and notes the queries."""

    def __init__(self, *pages: Page | Exception) -> None:
        self.pages = list(pages)
        self.queries: list[str] = []

    async def fetch(self, query: str, first: bool) -> Page:
        assert first == (not self.queries)
        self.queries.append(query)
        page = self.pages[min(len(self.queries), len(self.pages)) - 1]
        if isinstance(page, Exception):
            raise page
        return page

    async def read(self, server_id: int = 0, max_pages: int = 50, hurry: bool = False) -> Listing[Backup]:
        request = ListRequest(
            path="/backups/",
            query="page_size=100",
            read_row=backup_row,
            wanted=lambda row: server_id in (0, row.server_id),
            in_time=lambda: not hurry,
            max_pages=max_pages,
        )
        return await read_list(request, self.fetch)


def rows(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return [backup(number, **changes) for number in numbers]


def ids(listing: Listing[Backup]) -> list[int]:
    return [row.id for row in listing.rows]


async def test_pages_are_followed_to_the_end() -> None:
    book = Book(Page(rows(1, 2), 3, NEXT.format(2) + "&page_size=2"), Page(rows(3), 3))
    listing = await book.read()
    assert (ids(listing), listing.missing) == ([1, 2, 3], ())
    assert book.queries == ["page_size=100", "page=2&page_size=2"]


@pytest.mark.parametrize(
    ("pages", "missing"),
    [
        ([Page([*rows(1), backup(id=True), 5], 3)], ["2 rows could not be read"]),
        ([Page(rows(1, 2, 3), 10)], ["VPS.org counts 10 rows but sent 3"]),
        ([Page(rows(1), 1, missing=("something",))], ["something"]),
        (
            [Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(2), 3)],
            ["VPS.org counts 3 rows but sent 2"],
        ),
        (
            [Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(3), 4)],
            ["the list changed while it was read", "VPS.org counts 4 rows but sent 3"],
        ),
        (
            [Page(rows(1), 2, NEXT.format(2)), Page(rows(1, 2, status="failed"), 2)],
            ["the list changed while it was read"],
        ),
        (
            [Page(rows(1), 2, NEXT.format(2)), Page(rows(2), 2, NEXT.format(2))],
            ["VPS.org names a page as the next that was already read"],
        ),
        ([Page(rows(1), 2, NEXT.format(2)), NotFoundError("")], ["page 2 was not there"]),
        (
            [Page(rows(1), 2, "http://vps.test/api/v1/servers/?page=2")],
            ["VPS.org names a next page that is not part of this list"],
        ),
    ],
)
async def test_what_is_missing_is_told(pages: Sequence[Page | Exception], missing: list[str]) -> None:
    listing = await Book(*pages).read()
    assert list(listing.missing) == missing
    assert 1 in ids(listing)


async def test_a_row_that_comes_twice_counts_once() -> None:
    listing = await Book(Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(2, 3), 3)).read()
    assert (ids(listing), listing.missing) == ([1, 2, 3], ())


async def test_rows_that_were_not_asked_for_are_dropped_and_make_a_list_incomplete() -> None:
    strangers = rows(2, 3, server={"id": 7, "name": "other"})
    listing = await Book(Page([*rows(1), *strangers], 3)).read(server_id=12345)
    assert ids(listing) == [1]
    assert listing.missing == ("the filter was not honoured, 2 rows left out",)


async def test_at_most_so_many_pages_are_read() -> None:
    endless = [Page(rows(number), None, NEXT.format(number + 1)) for number in range(1, 10)]
    book = Book(*endless)
    listing = await book.read(max_pages=4)
    assert (ids(listing), listing.missing) == ([1, 2, 3, 4], ("reading stopped after 4 pages, the most that are read",))
    assert len(book.queries) == 4


async def test_no_page_is_begun_when_the_time_is_over() -> None:
    book = Book(Page(rows(1), 2, NEXT.format(2)), Page(rows(2), 2))
    listing = await book.read(hurry=True)
    assert (ids(listing), listing.missing) == ([1], ("reading took too long and stopped after 1 page",))


@pytest.mark.parametrize(
    "address",
    [
        "?page=2",
        "/api/v1/backups/?page=2",
        "https://other.test/api/v1/backups/?page=2",
        "//other.test/backups/?page=2",
        "https://user:secret@other.test/backups/?page=2#fragment",
        "javascript:/backups/?page=2",
    ],
)
async def test_only_the_query_of_the_next_page_is_taken(address: str) -> None:
    book = Book(Page(rows(1), 2, address), Page(rows(2), 2))
    assert (await book.read()).complete
    assert book.queries == ["page_size=100", "page=2"]


@pytest.mark.parametrize(
    "address",
    [
        *("http://[::1", "https://other.test/", "https://other.test/api/v1/backups/", "x", "  ", "javascript:alert(1)"),
        "/api/v1/backups/?" + "a=1&" * 400,
        "/api/v1/backups/?page=" + "2" * 3_000,
    ],
)
async def test_an_address_that_leads_nowhere_makes_the_list_incomplete(address: str) -> None:
    book = Book(Page(rows(1), 2, address))
    listing = await book.read()
    assert (ids(listing), listing.missing) == ([1], ("VPS.org names a next page that is not part of this list",))
    assert len(book.queries) == 1


async def test_a_query_is_written_anew() -> None:
    """Foreign bytes do not reach the request line as they came."""
    book = Book(Page(rows(1), 2, "/backups/?page=2\u2028\x07 é\r\nX: y"), Page(rows(2), 2))
    assert (await book.read()).complete
    assert book.queries[1].isascii()
    assert book.queries[1].isprintable()


async def test_a_first_page_that_is_not_there_fails_the_list() -> None:
    with pytest.raises(NotFoundError):
        await Book(NotFoundError("")).read()


@pytest.mark.parametrize("error", [UnavailableError(""), ProtocolError("")])
async def test_a_later_page_that_fails_otherwise_fails_the_list(error: Exception) -> None:
    with pytest.raises(type(error)):
        await Book(Page(rows(1), 2, NEXT.format(2)), error).read()


# The same over a socket.


async def test_a_long_list_is_read_in_pages_of_a_hundred(time: Time) -> None:
    fleet = large_fleet(servers=3, backups=250, now=NOW)
    async with Emulator(fleet, now=lambda: NOW, page_size=20) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups()
    assert listing.complete
    assert len(listing.rows) == 250
    assert [request.query.get("page_size") for request in vps.requests] == ["100"] * 3


async def test_fifty_pages_are_the_most(time: Time) -> None:
    fleet = large_fleet(servers=3, backups=60, now=NOW)
    async with Emulator(fleet, now=lambda: NOW, page_size=1, max_page_size=1) as vps:
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert vps.count("GET") == 50
    assert len(listing.rows) == 50
    assert listing.missing == ("reading stopped after 50 pages, the most that are read",)


async def test_a_next_page_on_another_host_is_asked_for_on_our_own(time: Time) -> None:
    async with BareServer(says(answer([]))) as other:
        first = {"count": 2, "next": other.base_url + "/backups/?page=2", "results": rows(1)}
        say = says(answer(first), answer({"count": 2, "next": None, "results": rows(2)}))
        async with BareServer(say) as vps, client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert other.connections == 0
    assert listing.complete
    assert [asked.target for asked in vps.asked] == ["/api/v1/backups/?page_size=100", "/api/v1/backups/?page=2"]


async def test_filters_go_out_and_are_checked_on_the_way_in(vps: Emulator, client: VpsClient) -> None:
    listing = await client.list_backups(12345, "manual")
    assert listing.complete
    assert {(row.server_id, row.type) for row in listing.rows} == {(12345, "manual")}
    assert vps.requests[0].query == {"server_id": "12345", "backup_type": "manual", "page_size": "100"}


async def test_filters_that_vps_org_ignores_are_noticed(time: Time) -> None:
    """F53."""
    async with Emulator(now=lambda: NOW, honour_filters=False) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups(12345, "manual")
    assert {(row.server_id, row.type) for row in listing.rows} == {(12345, "manual")}
    assert not listing.complete
    assert "the filter was not honoured" in listing.missing[0]


async def test_a_later_page_that_is_gone_makes_the_list_incomplete(time: Time) -> None:
    async with Emulator(now=lambda: NOW, page_size=20, max_page_size=20) as vps:
        vps.fail(Fault.status(404, {"detail": "Invalid page."}), skip=1)
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
    assert len(listing.rows) == 20
    assert listing.missing == ("page 2 was not there",)


async def test_a_later_page_that_fails_is_retried_then_fails_the_list(time: Time) -> None:
    async with Emulator(now=lambda: NOW, page_size=20, max_page_size=20) as vps:
        vps.fail(Fault.status(503), skip=1, times=None)
        async with client_of(vps.base_url, time) as client:
            assert isinstance(await error_of(client.list_backups()), UnavailableError)
        assert vps.count("GET") == 4


async def test_the_pages_of_a_list_have_a_time_limit_together() -> None:
    time = Time()
    pages = [{"count": 9, "next": f"?page={n + 1}", "results": rows(n)} for n in range(1, 10)]
    throttled = answer({}, "429 Too Many Requests", "Retry-After: 4")
    async with BareServer(says(*[part for page in pages for part in (throttled, answer(page))])) as vps:
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert len(vps.asked) < 10
    assert listing.missing == ("reading took too long and stopped after 4 pages",)


@pytest.mark.parametrize("bad", [{"id": True}, {"size_mb": float("nan")}, {"created_at": "2025-01-16T03:00:00"}])
async def test_one_bad_row_of_fifty_costs_that_row(bad: dict[str, Any], time: Time) -> None:
    """F45."""
    content = {"count": 50, "results": [*rows(*range(1, 50)), backup(50, **bad)]}
    async with BareServer(says(answer(content))) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups()
    assert len(listing.rows) == 49
    assert listing.missing == ("1 row could not be read",)
    assert len(vps.asked) == 1


async def test_a_count_that_is_not_reached_makes_the_list_incomplete(vps: Emulator, client: VpsClient) -> None:
    """F47."""
    vps.fail(Fault.edited(lambda content: content | {"count": 10, "results": content["results"][:3]}))
    listing = await client.list_backups()
    assert len(listing.rows) == 3
    assert listing.missing == ("VPS.org counts 10 rows but sent 3",)


async def test_servers_come_without_their_secrets(vps: Emulator, client: VpsClient) -> None:
    vps.fail(Fault.edited(lambda content: [row.update(password="hunter2") for row in content["results"]] and None))
    listing = await client.list_servers()
    assert listing.complete
    assert len(listing.rows) == len(vps.fleet.servers)
    assert "hunter2" not in repr(listing)


async def test_documented_times_are_utc(client: VpsClient) -> None:
    listing = await client.list_backups()
    assert {row.created_at.utcoffset() for row in listing.rows} == {timedelta(0)}
