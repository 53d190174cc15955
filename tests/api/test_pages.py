"""Lists in pages: followed on the same host only, and honest about what is missing."""

import tracemalloc
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio.lowlevel
import pytest

from mcp_backups.api import VpsClient
from mcp_backups.api.bodies import Lost, Page, backups
from mcp_backups.api.pages import AT_ONCE, ListRequest, read_list
from mcp_backups.errors import (
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    UnavailableError,
)
from mcp_backups.models import NO_SERVER, Backup, Listing
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.seed import large_fleet

from .stage import NOW, BareServer, Time, answer, backup, client_of, error_of, says

pytestmark = pytest.mark.anyio

NEXT = "http://vps.test/api/v1/backups/?page={}"


class Book:
    """Answers each new query with its next page, a known one with the same again, and notes the queries."""

    def __init__(self, *pages: Page[Backup] | Exception) -> None:
        self.pages = list(pages)
        self.queries: list[str] = []

    async def fetch(self, query: str) -> Page[Backup]:
        known = self.queries.index(query) if query in self.queries else len(self.queries)
        self.queries.append(query)
        page = self.pages[min(known, len(self.pages) - 1)]
        if isinstance(page, Exception):
            raise page
        return page

    async def read(self, server_id: int = 0, max_pages: int = 50, hurry: bool = False) -> Listing[Backup]:
        request = ListRequest(
            path="/backups/",
            query="page_size=100",
            wanted=lambda row: server_id in (0, row.server_id),
            in_time=lambda: not hurry,
            server_id=server_id,
            max_pages=max_pages,
        )
        return await read_list(request, self.fetch)


def raw(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    return [backup(number, **changes) for number in numbers]


def rows(*numbers: int, **changes: Any) -> list[Backup]:
    return backups().rows(raw(*numbers, **changes))[0]


def ids(listing: Listing[Backup]) -> list[int]:
    return [row.id for row in listing.rows]


async def test_pages_are_followed_to_the_end() -> None:
    book = Book(Page(rows(1, 2), 3, NEXT.format(2) + "&page_size=2"), Page(rows(3), 3))
    listing = await book.read()
    assert (ids(listing), listing.missing) == ([1, 2, 3], ())
    assert book.queries == ["page_size=100", "page=2&page_size=2", "page_size=100"]


@pytest.mark.parametrize(
    ("pages", "missing"),
    [
        ([Page(rows(1), 3, lost=(Lost(), Lost()))], ["2 rows could not be read"]),
        (
            [
                Page(
                    rows(1), 4, lost=(Lost(480, 7, ("created_at",)), Lost(0, 7, ("id",)), Lost(481, 8, ("created_at",)))
                )
            ],
            [
                "2 rows, of backups 480 among others, of server 7 could not be read (created_at, id)",
                "row of backup 481 of server 8 could not be read (created_at)",
            ],
        ),
        (
            [Page(rows(1), 3, lost=(Lost(480, NO_SERVER, ("created_at",)), Lost(481, NO_SERVER, ("created_at",))))],
            ["rows of backups 480, 481 of no server could not be read (created_at)"],
        ),
        ([Page(rows(1, 2, 3), 10)], ["VPS.org counts 10 rows but sent 3"]),
        ([Page(rows(1), total=3)], ["VPS.org tells of 3 rows in all but sent 1"]),
        ([Page(rows(1), pages=3)], ["VPS.org tells of 3 pages, of which 1 could be read"]),
        ([Page(rows(1), 1, more=("there is more",))], ["there is more"]),
        (
            [Page([*rows(1), *rows(1, status="failed")], 2)],
            ["row 1 came twice, and not the same", "VPS.org counts 2 rows but sent 1, 1 of them more than once"],
        ),
        ([Page(rows(1), 2, NEXT.format(2)), ResponseTooLargeError("")], ["page 2 is larger than is read"]),
        ([Page(rows(1), 1, missing=("something",))], ["something"]),
        (
            [Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(2), 3)],
            ["VPS.org counts 3 rows but sent 2, 1 of them more than once"],
        ),
        (
            [Page(rows(1, 2), None, NEXT.format(2)), Page(rows(2, 3))],
            ["pages hold the same rows, and VPS.org does not say how many there are"],
        ),
        (
            [Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(3), 4)],
            ["the list changed while it was read", "VPS.org counts 4 rows but sent 3"],
        ),
        (
            [Page(rows(1), 2, NEXT.format(2)), Page(rows(1, 2, status="failed"), 2)],
            ["row 1 came twice, and not the same"],
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
async def test_what_is_missing_is_told(pages: Sequence[Page[Backup] | Exception], missing: list[str]) -> None:
    listing = await Book(*pages).read()
    assert list(listing.missing) == missing
    assert 1 in ids(listing)


async def test_a_row_that_comes_twice_counts_once() -> None:
    listing = await Book(Page(rows(1, 2), 3, NEXT.format(2)), Page(rows(2, 3), 3)).read()
    assert (ids(listing), listing.missing) == ([1, 2, 3], ())


async def test_the_next_page_is_of_the_list_that_was_asked_for() -> None:
    """One of another server's has rows enough for the count, and none of those that are missing."""
    for own, other in ((1, 2), (2, 1)):
        async with Emulator(large_fleet(2, 14, NOW), now=lambda: NOW, page_size=4, max_page_size=4) as vps:

            def elsewhere(page: Any, own: int = own, other: int = other) -> None:
                if page["next"]:
                    page["next"] = page["next"].replace(f"server_id={own}", f"server_id={other}")

            vps.fail(Fault.edited(elsewhere), times=None)
            async with client_of(vps.base_url) as client:
                listing = await client.list_backups(own)
            assert not listing.complete_for(own)
            assert [request.query["server_id"] for request in vps.requests] == [str(own)]


STRANGERS = rows(2, 3, server={"id": 7, "name": "other"})
NOBODYS = rows(4, server=None)


@pytest.mark.parametrize(
    ("page", "missing"),
    [
        (Page([*rows(1), *STRANGERS], 3), []),
        (Page([*rows(1), *STRANGERS], 1), []),
        (Page([*rows(1), *STRANGERS]), []),
        (Page([*rows(1), *NOBODYS], 2), []),
        (Page([*rows(1), *STRANGERS], 4, lost=(Lost(9, 7, ("created_at",)),)), []),
        (Page([*rows(1), *STRANGERS], 2), ["VPS.org counts 2 rows but sent 3"]),
        (Page([*rows(1), *STRANGERS], 9), ["VPS.org counts 9 rows but sent 3"]),
        (
            Page([*rows(1), *STRANGERS], 2, lost=(Lost(9, 12345, ("created_at",)),)),
            ["row of backup 9 of server 12345 could not be read (created_at)"],
        ),
        (
            Page([*rows(1), *STRANGERS], 4, lost=(Lost(9, 0, ("server",)),)),
            ["row of backup 9 could not be read (server)"],
        ),
    ],
)
async def test_rows_that_were_not_asked_for_are_dropped_and_nothing_is_missing_where_the_rest_adds_up(
    page: Page[Backup], missing: list[str]
) -> None:
    """Whoever ignores a filter may count all rows or those that fit it."""
    listing = await Book(page).read(server_id=12345)
    assert (ids(listing), list(listing.missing)) == ([1], missing)


async def test_a_row_that_is_lost_is_missing_for_its_own_server_only() -> None:
    lost = (Lost(480, 7, ("created_at",)), Lost(481, NO_SERVER, ("created_at",)))
    listing = await Book(Page(rows(1), 3, lost=lost)).read()
    assert (listing.complete, listing.complete_for(12345), listing.complete_for(7)) == (False, True, False)
    assert listing.missing_for(7) == ("row of backup 480 of server 7 could not be read (created_at)",)
    anybodys = await Book(Page(rows(1), 2, lost=(Lost(480, 0, ("server",)),))).read()
    assert not anybodys.complete_for(12345)


async def test_however_many_rows_are_lost_a_few_sentences_tell_of_it() -> None:
    lost = tuple(Lost(number, number % 300 + 1, ("created_at",)) for number in range(1, 5_000))
    listing = await Book(Page(rows(1), 5_000, lost=lost)).read()
    assert len(listing.missing) == 11
    assert sum(map(len, listing.missing)) < 1_500
    assert listing.missing[-1] == "290 more like these"
    assert not any(listing.complete_for(number) for number in range(1, 301))
    assert listing.complete_for(12345)


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
    assert book.queries == ["page_size=100", "page=2", "page_size=100"]


@pytest.mark.parametrize(
    "address",
    [
        *("http://[::1", "https://other.test/", "https://other.test/api/v1/backups/", "x", "  ", "javascript:alert(1)"),
        "/api/v1/backups/?" + "a=1&" * 400,
        "/api/v1/backups/?page=" + "2" * 3_000,
        *("/api/v1/backups/?server_id=7&page=2", "?page=2&backup_type=automatic"),
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


# Pages that can be foreseen are got together, and read one after the other all the same.


class Shelf:
    """Answers each query with its page; of those asked for together, the last comes first.

    Attributes:
        most: How many were asked for at the same time.
        turns: How long an answer takes, in turns of the event loop.
    """

    def __init__(self, pages: dict[str, Page[Backup] | Exception], turns: int = 20) -> None:
        self.pages = pages
        self.queries: list[str] = []
        self.most = self._now = 0
        self._turns = turns

    async def fetch(self, query: str) -> Page[Backup]:
        self.queries.append(query)
        self._now += 1
        self.most = max(self.most, self._now)
        for _ in range(max(1, self._turns - 2 * self._now)):
            await anyio.lowlevel.checkpoint()
        self._now -= 1
        page = self.pages.get(query, NotFoundError(""))
        if isinstance(page, Exception):
            raise page
        return page


def shelf(pages: int, size: int = 2, count: int | None = None, form: str = "page={}&page_size=2") -> Shelf:
    """So many pages of so many rows; `page_size=100` is the first."""
    queries = ["page_size=100", *(form.format(number) for number in range(2, pages + 1))]
    addresses = [f"/api/v1/backups/?{query}" for query in queries[1:]]
    return Shelf(
        {
            query: Page(
                rows(*range(number * size + 1, number * size + size + 1)),
                pages * size if count is None else count,
                following,
            )
            for number, (query, following) in enumerate(zip(queries, [*addresses, ""], strict=True))
        }
    )


async def read(book: Shelf, max_pages: int = 200, in_time: Callable[[], bool] = lambda: True) -> Listing[Backup]:
    request = ListRequest("/backups/", "page_size=100", lambda _: True, in_time, max_pages=max_pages)
    return await read_list(request, book.fetch)


@pytest.mark.parametrize("pages", [1, 2, 3, 7, 8, 20])
async def test_pages_got_together_are_read_in_order_and_all_but_the_last_twice(pages: int) -> None:
    """The last one when all others are there, and these once more after it."""
    book = shelf(pages)
    listing = await read(book)
    assert (ids(listing), listing.missing) == (list(range(1, 2 * pages + 1)), ())
    queries = list(book.pages)
    assert (sorted(book.queries[:pages]), book.queries[pages - 1]) == (sorted(queries), queries[-1])
    assert sorted(book.queries[pages:]) == sorted(queries[:-1])
    assert book.most == max(1, min(pages - 1, AT_ONCE))


@pytest.mark.parametrize(
    ("form", "count"),
    [("offset={}", None), ("cursor=c{}", None), ("page={}&page=9", None), ("page=0{}", None), ("page={}", 0)],
)
async def test_pages_that_cannot_be_foreseen_are_got_one_after_another(form: str, count: int | None) -> None:
    book = shelf(5, count=count, form=form)
    listing = await read(book)
    assert ids(listing) == list(range(1, 11))
    assert book.queries[:5] == list(book.pages)
    assert listing.complete == (count is None)


async def test_without_a_count_no_page_is_foreseen() -> None:
    book = shelf(5)
    book.pages = {
        query: Page(page.rows, None, page.next) for query, page in book.pages.items() if isinstance(page, Page)
    }
    assert (await read(book)).complete
    assert book.queries[:5] == list(book.pages)


async def test_where_a_page_names_another_as_the_next_that_one_is_read() -> None:
    book = shelf(5)
    odd = "page=3&page_size=2&after=x"
    book.pages["page=2&page_size=2"] = Page(rows(3, 4), 10, f"/backups/?{odd}")
    book.pages[odd] = Page(rows(5, 6), 10, "/backups/?page=4&page_size=2")
    listing = await read(book)
    assert (ids(listing), listing.missing) == (list(range(1, 11)), ())


async def test_a_page_got_in_vain_tells_nothing() -> None:
    """The list ended before it, and its count says so too late."""
    book = shelf(5)
    book.pages |= {f"page={number}&page_size=2": UnavailableError("") for number in (4, 5)}
    book.pages["page=3&page_size=2"] = Page(rows(5, 6), 6)
    listing = await read(book)
    assert (ids(listing), listing.missing) == (list(range(1, 7)), ("the list changed while it was read",))


@pytest.mark.parametrize("error", [UnavailableError(""), ProtocolError("")])
async def test_of_pages_got_together_the_first_that_fails_fails_the_list(error: Exception) -> None:
    book = shelf(9)
    book.pages["page=5&page_size=2"] = error
    book.pages["page=6&page_size=2"] = NotFoundError("")
    with pytest.raises(type(error)):
        await read(book)


async def test_of_pages_got_together_one_that_is_gone_ends_the_list() -> None:
    book = shelf(9)
    book.pages["page=5&page_size=2"] = NotFoundError("")
    listing = await read(book)
    assert (ids(listing), listing.missing) == (list(range(1, 9)), ("page 5 was not there",))


async def test_a_count_that_changes_between_pages_got_together_is_noticed() -> None:
    book = shelf(5)
    book.pages["page=4&page_size=2"] = Page(rows(7, 8), 11, "/backups/?page=5&page_size=2")
    assert (await read(book)).missing == ("the list changed while it was read",)


async def test_a_count_beyond_belief_costs_a_few_requests_and_no_more() -> None:
    book = shelf(3, count=10**12)
    listing = await read(book)
    assert listing.missing == (f"VPS.org counts {10**12} rows but sent 6",)
    assert len(book.queries) <= 3 + AT_ONCE


async def test_no_more_pages_are_got_ahead_than_are_ever_read() -> None:
    book = shelf(9)
    listing = await read(book, max_pages=4)
    assert (ids(listing), len(book.queries)) == (list(range(1, 9)), 4)
    assert listing.missing == ("reading stopped after 4 pages, the most that are read",)


async def test_pages_got_ahead_are_not_read_when_the_time_is_over() -> None:
    times = iter([True, True, False])
    listing = await read(shelf(9), in_time=lambda: next(times))
    assert listing.missing == ("reading took too long and stopped after 3 pages",)


# A list of several pages that changes while it is read.


class Rotating(Shelf):
    """Three pages of two, of a list whose rows are replaced one by one: before these requests, counted from 1.

    Each time the third row goes, all behind it move up, and a new one is added at the end.
    """

    def __init__(self, *moments: int) -> None:
        super().__init__({}, turns=1)
        self.held, self.moments, self.fresh = [1, 2, 3, 4, 5, 6], moments, 7

    async def fetch(self, query: str) -> Page[Backup]:
        if len(self.queries) + 1 in self.moments:
            del self.held[0]
            self.held.append(self.fresh)
            self.fresh += 1
        number = 1 if "page=" not in query.replace("page_size", "") else int(query.partition("page=")[2][0])
        following = f"/backups/?page={number + 1}&page_size=2" if number < 3 else ""
        self.pages[query] = Page(rows(*self.held[2 * number - 2 : 2 * number]), 6, following)
        return await super().fetch(query)


@pytest.mark.parametrize(
    ("moments", "is_complete", "requests"),
    [
        ((), True, 5),
        ((1,), True, 5),
        ((2,), True, 10),
        ((3,), True, 10),
        ((4,), True, 10),
        ((5,), True, 10),
        ((6,), True, 5),
        ((3, 8), True, 15),
        ((2, 3, 4), True, 10),
        ((3, 8, 13), False, 15),
        (tuple(range(1, 100)), False, 15),
    ],
)
async def test_a_row_that_moves_to_a_page_that_was_read_is_not_lost_unseen(
    moments: tuple[int, ...], is_complete: bool, requests: int
) -> None:
    """One row goes and one comes: the count stays, and without a second look one in the middle is nowhere."""
    book = Rotating(*moments)
    listing = await read(book)
    assert len(book.queries) == requests
    assert listing.complete == is_complete
    assert listing.missing == (() if is_complete else ("the list changed while it was read",))
    if is_complete and 6 not in moments:
        assert ids(listing) == book.held


async def test_what_changes_without_moving_is_no_reason_to_read_again_and_the_newer_counts() -> None:
    book = shelf(3)
    under_way, first = rows(3, 4, status="in_progress", size_mb=None), "page_size=100"
    before = book.pages[first]
    assert isinstance(before, Page)
    book.pages[first] = Page(under_way, 6, before.next)

    class Progressing(Shelf):
        async def fetch(self, query: str) -> Page[Backup]:
            page = await super().fetch(query)
            self.pages[first] = Page([*reversed(rows(3, 4))], 6, "?page=2&page_size=2")
            return page

    progressing = Progressing(book.pages | {"page=2&page_size=2": Page(rows(5, 6), 6, "?page=3&page_size=2")})
    progressing.pages["page=3&page_size=2"] = Page(rows(7, 8), 6)
    listing = await read(progressing)
    assert (len(progressing.queries), listing.missing) == (5, ())
    assert {row.status for row in listing.rows} == {"completed"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RateLimitedError(""), "could not be read again to see whether it changed meanwhile (rate_limited)"),
        (UnavailableError(""), "could not be read again to see whether it changed meanwhile (upstream_unavailable)"),
    ],
)
async def test_pages_that_cannot_be_got_again_leave_it_open_whether_the_list_changed(
    error: Exception, told: str
) -> None:
    class Failing(Shelf):
        async def fetch(self, query: str) -> Page[Backup]:
            if query in self.queries and query != "page_size=100":
                raise error
            return await super().fetch(query)

    listing = await read(Failing(shelf(3).pages))
    assert len(listing.rows) == 6
    assert len(listing.missing) == 1
    assert told in listing.missing[0]


async def test_without_the_time_to_look_again_it_is_open_whether_the_list_changed() -> None:
    times = iter([True, True, False])
    listing = await read(shelf(3), in_time=lambda: next(times))
    assert (len(listing.rows), listing.missing) == (
        6,
        ("there was no time to see whether the list changed while it was read",),
    )


# Rows that come without a word on whether they are all.


FIRST = Page(rows(*range(1, 101)), is_full=True)


@pytest.mark.parametrize(
    ("second", "count", "missing"),
    [
        (NotFoundError(""), 100, []),
        (Page[Backup]([], is_full=False), 100, []),
        (Page(rows(101, 102)), 102, []),
        (FIRST, 100, ["VPS.org sent exactly 100 rows and does not say whether these are all"]),
        (RejectedError(""), 100, ["VPS.org sent exactly 100 rows and does not say whether these are all"]),
        (UnavailableError(""), 100, ["VPS.org sent exactly 100 rows and does not say whether these are all"]),
    ],
)
async def test_a_full_page_without_a_word_is_asked_for_another(
    second: Page[Backup] | Exception, count: int, missing: list[str]
) -> None:
    book = Book(FIRST, second)
    listing = await book.read()
    assert (len(listing.rows), list(listing.missing)) == (count, missing)
    assert book.queries[:2] == ["page_size=100", "page_size=100&page=2"]


@pytest.mark.parametrize(("stated", "is_complete"), [(0, True), (20, False)])
async def test_a_short_list_that_comes_again_for_the_second_page_is_all_unless_it_says_it_has_pages(
    stated: int, is_complete: bool
) -> None:
    first = Page(rows(*range(1, 21)), size=stated, is_full=True)
    listing = await Book(first, first).read()
    assert (len(listing.rows), listing.complete) == (20, is_complete)


async def test_full_pages_without_a_word_are_followed_to_the_end() -> None:
    pages = [Page(rows(*range(20 * n + 1, 20 * n + 21)), is_full=True) for n in range(4)]
    book = Book(*pages, Page(rows(81)))
    listing = await book.read()
    assert (len(listing.rows), listing.missing) == (81, ())
    assert book.queries[4] == "page_size=100&page=5"


# The same over a socket.


async def test_ten_thousand_backups_are_read_whole_and_in_little_memory(time: Time) -> None:
    fleet = large_fleet(servers=200, backups=10_000, now=NOW)
    async with Emulator(fleet, now=lambda: NOW, page_size=100) as vps, client_of(vps.base_url, time) as client:
        tracemalloc.start()
        try:
            listing = await client.list_backups()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert vps.count("GET") == 199
        assert vps.connections <= AT_ONCE
    assert (len(listing.rows), listing.missing) == (10_000, ())
    assert peak < 60 * 2**20


async def test_a_long_list_is_read_in_pages_of_a_hundred(time: Time) -> None:
    fleet = large_fleet(servers=3, backups=250, now=NOW)
    async with Emulator(fleet, now=lambda: NOW, page_size=20) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups()
    assert listing.complete
    assert len(listing.rows) == 250
    assert [request.query.get("page_size") for request in vps.requests] == ["100"] * 5


async def test_two_hundred_pages_are_the_most(time: Time) -> None:
    fleet = large_fleet(servers=3, backups=210, now=NOW)
    async with Emulator(fleet, now=lambda: NOW, page_size=1, max_page_size=1) as vps:
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert vps.count("GET") == 200
    assert len(listing.rows) == 200
    assert listing.missing == ("reading stopped after 200 pages, the most that are read",)


async def test_a_next_page_on_another_host_is_asked_for_on_our_own(time: Time) -> None:
    async with BareServer(says(answer([]))) as other:
        first = {"count": 2, "next": other.base_url + "/backups/?page=2", "results": raw(1)}
        say = says(answer(first), answer({"count": 2, "next": None, "results": raw(2)}), answer(first))
        async with BareServer(say) as vps, client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert other.connections == 0
    assert listing.complete
    targets = ["/api/v1/backups/?page_size=100", "/api/v1/backups/?page=2", "/api/v1/backups/?page_size=100"]
    assert [asked.target for asked in vps.asked] == targets


async def test_filters_go_out_and_are_checked_on_the_way_in(vps: Emulator, client: VpsClient) -> None:
    listing = await client.list_backups(12345, "manual")
    assert listing.complete
    assert {(row.server_id, row.type) for row in listing.rows} == {(12345, "manual")}
    assert vps.requests[0].query == {"server_id": "12345", "backup_type": "manual", "page_size": "100"}


async def test_filters_that_vps_org_ignores_cost_nothing(time: Time) -> None:
    """F53."""
    async with Emulator(now=lambda: NOW, honour_filters=False) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups(12345, "manual")
        assert vps.count("GET") == 1
    assert {(row.server_id, row.type) for row in listing.rows} == {(12345, "manual")}
    assert listing.complete


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_what_vps_org_does_not_list_by_server_is_taken_from_the_list_of_all(
    vps: Emulator, client: VpsClient, status: int
) -> None:
    """Frameworks refuse a filter by a server that is gone; it was told that there is no API at the address."""
    vps.fail(Fault.status(status, {"server_id": ["Select a valid choice."]}))
    listing = await client.list_backups(12345, "manual")
    assert {(row.server_id, row.type) for row in listing.rows} == {(12345, "manual")}
    assert listing.complete
    assert [each.query.get("server_id") for each in vps.requests] == ["12345", None]


async def test_where_there_is_no_list_at_all_no_other_one_helps(vps: Emulator, client: VpsClient) -> None:
    vps.fail(Fault.status(404, {"detail": "Not found."}), times=None)
    raised = await error_of(client.list_backups(12345))
    assert (raised.code, vps.count("GET")) == ("upstream_protocol", 2)


async def test_a_backup_whose_type_cannot_be_read_may_be_of_the_one_asked_for(vps: Emulator, client: VpsClient) -> None:
    vps.fail(Fault.edited(lambda content: content["results"][0].update(backup_type=None)))
    listing = await client.list_backups(12345, "manual")
    assert {row.type for row in listing.rows} == {"manual", "unreadable"}


async def test_a_later_page_that_is_gone_makes_the_list_incomplete(time: Time) -> None:
    async with Emulator(now=lambda: NOW, page_size=20, max_page_size=20) as vps:
        vps.fail(Fault.status(404, {"detail": "Invalid page."}), skip=1)
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
    assert len(listing.rows) == 20
    assert listing.missing == ("page 2 was not there",)


async def test_a_later_page_that_fails_is_retried_then_fails_the_list(time: Time) -> None:
    async with Emulator(now=lambda: NOW, page_size=50, max_page_size=50) as vps:
        vps.fail(Fault.status(503), skip=1, times=None)
        async with client_of(vps.base_url, time) as client:
            assert isinstance(await error_of(client.list_backups()), UnavailableError)
        assert vps.count("GET") == 4


async def test_the_pages_of_a_list_have_a_time_limit_together() -> None:
    time = Time()
    pages = [{"next": f"?page={n + 1}", "results": raw(n)} for n in range(1, 10)]
    throttled = answer({}, "429 Too Many Requests", "Retry-After: 4")
    async with BareServer(says(*[part for page in pages for part in (throttled, answer(page))])) as vps:
        async with client_of(vps.base_url, time) as client:
            listing = await client.list_backups()
        assert len(vps.asked) < 10
    assert listing.missing == ("reading took too long and stopped after 2 pages",)


@pytest.mark.parametrize(
    ("bad", "missing"),
    [
        ({"id": True}, "1 row of server 12345 could not be read (id)"),
        ({"server": "web"}, "row of backup 50 could not be read (server)"),
        ({"created_at": "2025-01-16T03:00:00"}, "row of backup 50 of server 12345 could not be read (created_at)"),
    ],
)
async def test_one_bad_row_of_fifty_costs_that_row(bad: dict[str, Any], missing: str, time: Time) -> None:
    """F45."""
    content = {"count": 50, "results": [*raw(*range(1, 50)), backup(50, **bad)]}
    async with BareServer(says(answer(content))) as vps, client_of(vps.base_url, time) as client:
        listing = await client.list_backups()
    assert len(listing.rows) == 49
    assert listing.missing == (missing,)
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
