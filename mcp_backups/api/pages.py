"""Lists that come in pages, followed to their end or to the point where one can only say what is missing.

While a list is read it may change: a row is deleted, one is added, and a row that stood first on the second page has
moved to the first page, which was read before. Each page looks well, the count is right, and the row is lost. So every
page but the last is got once more at the end. If each holds the same rows as before, all of them held these rows at one
moment, that of the last page.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse
from math import ceil
from typing import Generic, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio

from mcp_backups.errors import ApiError, BackupsError, NotFoundError, ResponseTooLargeError
from mcp_backups.models import NO_SERVER, Gap, Listing, Row
from mcp_backups.text import listed, plural

from .bodies import Lost, Page, agreed

AT_ONCE = 6
"""Pages that are asked for at the same time: enough to hide the way there and back, few enough not to press."""

Fetch = Callable[[str], Awaitable[Page[Row]]]
"""Gets the page with this query."""


@dataclass
class Ahead(Generic[Row]):
    """Pages of a list.

    What is expected only decides what is got together: a page that is asked for and was not expected is got by
    itself, and one that was got and is never asked for tells nothing, not even that it failed.

    Attributes:
        fetch: Gets one page.
        expected: The queries of the pages that are likely to be asked for, in that order; may be empty.
    """

    fetch: Fetch[Row]
    expected: Sequence[str]
    _got: dict[str, Page[Row] | BackupsError] = field(default_factory=dict)

    async def page(self, query: str) -> Page[Row]:
        """One page. Raises what getting it raised."""
        if query not in self._got:
            async with anyio.create_task_group() as group:
                for each in self._with_what_follows(query):
                    group.start_soon(self._get, each)
        got = self._got.pop(query)
        if isinstance(got, BackupsError):
            raise got
        return got

    def _with_what_follows(self, query: str) -> Sequence[str]:
        if query not in self.expected:
            return [query]
        place = self.expected.index(query)
        return self.expected[place : place + AT_ONCE]

    async def _get(self, query: str) -> None:
        try:
            self._got[query] = await self.fetch(query)
        except BackupsError as error:
            self._got[query] = error


MAX_PAGES = 200
_MAX_QUERY = 2_000
_FILTERS = frozenset({"server_id", "backup_type"})
_READINGS = 3
_ASKED_FOR = 100
"""Rows on a page, as we ask for: so many are hardly ever all by chance."""

_CHANGED = "the list changed while it was read"


class ListRequest(NamedTuple, Generic[Row]):
    """Which list is read, and how.

    Attributes:
        path: Below the API's address; where it says the next page is must end so too.
        query: Of the first page.
        wanted: Whether a row passes the filter that was asked for.
        ownerless: Whether a row would, if it did not say that it belongs to no server.
        in_time: Whether there is time for one more page.
        server_id: Whose rows alone are asked for; 0 for those of all.
        max_pages: Pages read at most.
    """

    path: str
    query: str
    wanted: Callable[[Row], bool]
    in_time: Callable[[], bool]
    ownerless: Callable[[Row], bool] = lambda _row: False
    server_id: int = 0
    max_pages: int = MAX_PAGES


@dataclass
class _Reading(Generic[Row]):
    """A list as it was read once, from its first page on.

    Attributes:
        pages: By their queries, in the order in which they name each other.
        missing: Why that order ended too early.
        is_whole: It was followed to its end.
        is_cut: A page that was named was not there.
    """

    request: ListRequest[Row]
    pages: dict[str, Page[Row]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    is_whole: bool = False
    is_cut: bool = False

    def stop(self, error: ApiError, last: Page[Row]) -> None:
        """The page after the last one cannot be got: what that means. Raises the error where it fails the list."""
        if not last.next:  # nobody said that there is one
            self.is_whole = isinstance(error, NotFoundError)
            self.missing += [] if self.is_whole else [_no_word(last)]
        elif isinstance(error, NotFoundError):
            self.is_cut = True
            self.missing.append(f"page {len(self.pages) + 1} was not there")
        elif isinstance(error, ResponseTooLargeError):
            self.missing.append(f"page {len(self.pages) + 1} is larger than is read")
        else:
            raise error

    def listing(self) -> Listing[Row]:
        rows: dict[int, Row] = {}
        twice: list[Gap] = []
        for page in self.pages.values():
            for row in page.rows:
                if (known := rows.setdefault(row.id, row)) is not row and known != row:
                    rows[row.id], whose = agreed(known, row)
                    twice += [Gap(f"row {row.id} came twice, and not the same", each) for each in whose]
        others = tuple(filterfalse(self.request.wanted, rows.values()))
        # Where nothing came that another server has, the filter was honoured: then a row that names no server may be
        # the asked one's, and is told with the others.
        is_honoured = all(map(self.request.ownerless, others))
        wanted = tuple(rows.values() if is_honoured else filter(self.request.wanted, rows.values()))
        asked = self.request.server_id
        lost: list[Lost] = [each for page in self.pages.values() for each in page.lost]
        mine: list[Lost] = [each for each in lost if not asked or each.server_id in (0, asked)]
        fit: set[int] = {len(rows) + len(lost), len(wanted) + len(mine)}
        gaps = [*_lost_gaps(mine), *twice, *map(Gap, [*self.missing, *self._signs(len(rows) + len(lost), fit)])]
        return Listing(wanted, tuple(dict.fromkeys(gaps)), self.is_whole)

    def _signs(self, seen: int, fit: set[int]) -> Iterator[str]:
        """What the pages themselves say of what is missing.

        Args:
            seen: How many different rows came.
            fit: The counts that agree with what came: of all rows, or of those that were asked for.
        """
        pages = list(self.pages.values())
        yield from (clause for page in pages for clause in page.missing)
        counts = [page.count for page in pages if page.count is not None]
        if len(set(counts)) > 1:
            yield _CHANGED
        if not self.is_whole:
            return
        if counts and counts[-1] not in fit:
            repeated = sum(page.sent for page in pages) - seen
            told = f", {repeated} of them more than once" if repeated else ""
            yield f"VPS.org counts {plural(counts[-1], 'row')} but sent {seen}{told}"
        if not counts and len(pages) > 1 and sum(page.sent for page in pages) > seen:
            yield "pages hold the same rows, and VPS.org does not say how many there are"
        yield from pages[-1].more
        if (total := max(page.total for page in pages)) > seen:
            yield f"VPS.org tells of {plural(total, 'row')} in all but sent {seen}"
        if (told_of := max(page.pages for page in pages)) > len(pages):
            yield f"VPS.org tells of {told_of} pages, of which {len(pages)} could be read"


async def read_list(request: ListRequest[Row], fetch: Fetch[Row]) -> Listing[Row]:
    """Every row of a list, once each, and what is missing of it.

    Each page says which is next. Where the first one lets that be foreseen, some are got together, and still read in
    the order in which they name each other. A list of several pages that changes meanwhile is read again, up to twice.

    Args:
        request: The list.
        fetch: Gets the page with this query. It alone knows the host, so that nothing in an answer can lead elsewhere.

    Raises:
        ApiError: The first page failed; or a later one, other than by not being there or being too large.
    """
    for _ in range(_READINGS):
        reading = await _read(request, fetch)
        doubt = await _doubt(reading, fetch)
        if doubt != _CHANGED:
            break
    if doubt:
        reading.missing.append(doubt)
        reading.is_whole = False  # what else does not add up comes from that
    return reading.listing()


async def _read(request: ListRequest[Row], fetch: Fetch[Row]) -> _Reading[Row]:
    page = await fetch(request.query)
    reading = _Reading(request, {request.query: page})
    ahead = Ahead(fetch, _foreseen(page, request))
    while query := _following(page, reading):
        try:
            following = await ahead.page(query)
        except ApiError as error:
            reading.stop(error, page)
            break
        if not page.next and (not following.sent or following.ids == page.ids):
            # Nothing more, or the same once more, as from an API that does not know of pages.
            reading.is_whole = True
            if following.sent and page.sent >= min(_ASKED_FOR, page.size or _ASKED_FOR):
                reading.missing.append(_no_word(page))
            break
        reading.pages[query] = page = following
    return reading


def _no_word(page: Page[Row]) -> str:
    return f"VPS.org sent exactly {page.sent} rows and does not say whether these are all"


async def _doubt(reading: _Reading[Row], fetch: Fetch[Row]) -> str:
    """Why the pages may not belong together, by getting all but the last once more; empty if they do.

    Where a page was not there the last one is got again too. A list that is not whole anyway is not worth it.
    """
    queries = list(reading.pages)
    if not reading.is_cut:
        queries = queries[:-1] if reading.is_whole else []
    ahead = Ahead(fetch, queries)
    is_same = True
    for query in queries:
        if not reading.request.in_time():
            return "there was no time to see whether the list changed while it was read"
        try:
            again = await ahead.page(query)
        except NotFoundError:
            return _CHANGED
        except ApiError as error:
            return f"the list could not be read again to see whether it changed meanwhile ({error.code})"
        before, reading.pages[query] = reading.pages[query], again
        is_same = is_same and (before.ids, before.sent, before.count) == (again.ids, again.sent, again.count)
    return "" if is_same else _CHANGED


def _lost_gaps(lost: list[Lost]) -> Iterator[Gap]:
    """The rows that could not be read, a gap for each server."""
    by_server = defaultdict(list)
    for each in lost:
        by_server[each.server_id].append(each)
    for server_id, rows in by_server.items():
        numbers = [each.id for each in rows if each.id]
        what = plural(len(rows), "row")
        if len(numbers) == len(rows):
            what = f"row of backup {numbers[0]}" if len(rows) == 1 else f"rows of backups {listed(numbers)}"
        elif numbers:
            what = f"{what}, of backups {listed(numbers)} among others,"
        whose = f" of server {server_id}" if server_id > 0 else " of no server" if server_id == NO_SERVER else ""
        fields = ", ".join(sorted({name for each in rows for name in each.fields}))
        yield Gap(f"{what}{whose} could not be read{f' ({fields})' if fields else ''}", server_id)


def _foreseen(first: Page[Row], request: ListRequest[Row]) -> list[str]:
    """The queries of the pages between the first and the last, which can be got together.

    They are known if the first one counts all rows and names the next in the form `page=2`. The last is got by itself,
    when all others are there: the moment that it tells of is then later than that of any other.
    """
    parts = parse_qsl(_query_of(first.next, request), keep_blank_values=True)
    if [value for name, value in parts if name == "page"] != ["2"] or not first.count or not first.sent:
        return []
    last = min(ceil(first.count / first.sent), request.max_pages)
    return [_numbered(parts, number) for number in range(2, last)]


def _numbered(parts: list[tuple[str, str]], number: int) -> str:
    return urlencode([(name, str(number) if name == "page" else value) for name, value in parts])


def _following(page: Page[Row], reading: _Reading[Row]) -> str:
    """The query of the next page; empty if there is none to read, and then why goes to what is missing."""
    request: ListRequest[Row] = reading.request
    read = len(reading.pages)
    if page.next:
        query = _query_of(page.next, request)
    elif page.is_full and page.ids:
        # It does not say that these are all, and they are as many as a page holds: ask.
        query = _numbered([*parse_qsl(request.query), ("page", "")], read + 1)
    else:
        reading.is_whole = True
        return ""
    if not query:
        reason = "VPS.org names a next page that is not part of this list"
    elif query in reading.pages:
        reason = "VPS.org names a page as the next that was already read"
    elif read >= request.max_pages:
        reason = f"reading stopped after {plural(read, 'page')}, the most that are read"
    elif not request.in_time():
        reason = f"reading took too long and stopped after {plural(read, 'page')}"
    else:
        return query
    reading.missing.append(reason)
    return ""


def _query_of(address: str, request: ListRequest[Row]) -> str:
    """The query alone of where a next page is said to be, written anew; empty if that is another list or none.

    It may leave out what was asked for, as a cursor does, but asks for nothing else in its place.
    """
    if len(address) > _MAX_QUERY:
        return ""
    try:
        parts = urlsplit(address)
        query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return ""
    is_of_list = not parts.path or parts.path.endswith(request.path)
    asked = dict(parse_qsl(request.query))
    is_other = any(name in _FILTERS and value != asked.get(name, "") for name, value in query)
    return urlencode(query) if is_of_list and not is_other else ""
