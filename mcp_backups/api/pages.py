"""Lists that come in pages, followed to their end or to the point where one can only say what is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import Generic, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from mcp_backups.errors import NotFoundError
from mcp_backups.models import Gap, Listing
from mcp_backups.text import plural

from .ahead import Ahead, Fetch
from .rows import Row
from .wire import Page

MAX_PAGES = 200
_MAX_QUERY = 2_000


class ListRequest(NamedTuple, Generic[Row]):
    """Which list is read, and how.

    Attributes:
        path: Below the API's address; where it says the next page is must end so too.
        query: Of the first page.
        wanted: Whether a row passes the filter that was asked for.
        in_time: Whether there is time for one more page.
        max_pages: Pages read at most.
    """

    path: str
    query: str
    wanted: Callable[[Row], bool]
    in_time: Callable[[], bool]
    max_pages: int = MAX_PAGES


@dataclass
class _Gathered(Generic[Row]):
    """What the pages held so far."""

    request: ListRequest[Row]
    rows: dict[int, Row] = field(default_factory=dict)
    unreadable: int = 0
    counts: list[int] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    changed: bool = False
    ended: bool = False

    def add(self, page: Page[Row]) -> None:
        self.ended = not page.next
        self.missing += page.missing
        if page.count is not None:
            self.counts.append(page.count)
        self.unreadable += page.unreadable
        for row in page.rows:
            if (known := self.rows.setdefault(row.id, row)) is not row and known != row:
                self.changed = True

    def listing(self) -> Listing[Row]:
        wanted = tuple(row for row in self.rows.values() if self.request.wanted(row))
        missing = dict.fromkeys(self.missing + self._gaps(len(self.rows) - len(wanted)))
        return Listing(wanted, tuple(map(Gap, missing)))

    def _gaps(self, strangers: int) -> list[str]:
        gaps = []
        seen = len(self.rows) + self.unreadable
        if self.unreadable:
            gaps.append(f"{plural(self.unreadable, 'row')} could not be read")
        if strangers:
            gaps.append(f"the filter was not honoured, {plural(strangers, 'row')} left out")
        if self.changed or len(set(self.counts)) > 1:
            gaps.append("the list changed while it was read")
        if self.ended and self.counts and self.counts[-1] != seen:
            gaps.append(f"VPS.org counts {plural(self.counts[-1], 'row')} but sent {seen}")
        return gaps


async def read_list(request: ListRequest[Row], fetch: Fetch[Row]) -> Listing[Row]:
    """Every row of a list, once each, and what is missing of it.

    Each page says which is next. Where the first one lets that be foreseen, some are got together, and still read in
    the order in which they name each other.

    Args:
        request: The list.
        fetch: Gets the page with this query; the flag says whether it is the first. It alone knows the host, so
            that nothing in an answer can lead elsewhere.

    Raises:
        ApiError: The first page failed; or a later one, other than by not being there.
    """
    gathered, done = _Gathered(request), {request.query}
    page = await fetch(request.query, True)
    ahead = Ahead(fetch, _foreseen(page, request))
    gathered.add(page)
    while query := _following(page, done, gathered):
        done.add(query)
        try:
            page = await ahead.page(query)
        except NotFoundError:
            gathered.missing.append(f"page {len(done)} was not there")
            break
        gathered.add(page)
    return gathered.listing()


def _foreseen(first: Page[Row], request: ListRequest[Row]) -> list[str]:
    """The queries of the pages after the first, if it counts all rows and names the next in the form `page=2`."""
    parts = parse_qsl(_query_of(first.next, request.path), keep_blank_values=True)
    if (
        [value for name, value in parts if name == "page"] != ["2"]
        or not first.count
        or not (rows := len(first.rows) + first.unreadable)
    ):
        return []
    last = min(ceil(first.count / rows), request.max_pages)
    return [
        urlencode([(name, str(number) if name == "page" else value) for name, value in parts])
        for number in range(2, last + 1)
    ]


def _following(page: Page[Row], done: set[str], gathered: _Gathered[Row]) -> str:
    """The query of the next page; empty if there is none to read, and then why goes to what is missing."""
    if not page.next:
        return ""
    request = gathered.request
    query = _query_of(page.next, request.path)
    if not query:
        reason = "VPS.org names a next page that is not part of this list"
    elif query in done:
        reason = "VPS.org names a page as the next that was already read"
    elif len(done) >= request.max_pages:
        reason = f"reading stopped after {plural(len(done), 'page')}, the most that are read"
    elif not request.in_time():
        reason = f"reading took too long and stopped after {plural(len(done), 'page')}"
    else:
        return query
    gathered.missing.append(reason)
    return ""


def _query_of(address: str, path: str) -> str:
    """The query alone of where a next page is said to be, written anew; empty if that is another list or none."""
    if len(address) > _MAX_QUERY:
        return ""
    try:
        parts = urlsplit(address)
        query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=50)
    except ValueError:
        return ""
    return urlencode(query) if not parts.path or parts.path.endswith(path) else ""
