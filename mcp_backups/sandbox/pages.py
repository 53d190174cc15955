"""Lists: all at once as documented, or in pages as DRF's PageNumberPagination makes them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from . import refusals
from .received import PREFIX, Received
from .reply import Reply, json_reply
from .shapes import JsonObject

Row = TypeVar("Row")


@dataclass(frozen=True)
class Pages:
    """How lists are cut. scheme: of the links to other pages.

    size: rows on a page unless the client asks for another number; None = no pages at all. largest: the most it gets.
    """

    size: int | None = None
    largest: int = 100
    scheme: str = "http"


def listed(rows: Sequence[Row], shape: Callable[[Row], JsonObject], received: Received, pages: Pages) -> Reply:
    """A list answer: `count` and `results`, and with pages `next` and `previous` in between."""
    if pages.size is None:
        return json_reply(200, {"count": len(rows), "results": [shape(row) for row in rows]})
    size = _size(received.query.get("page_size", ""), pages.size, pages.largest)
    last = max(1, -(-len(rows) // size))
    number = _number(received.query.get("page", "1"), last)
    content = {
        "count": len(rows),
        "next": _link(received, pages, number + 1) if number < last else None,
        "previous": _link(received, pages, number - 1) if number > 1 else None,
        "results": [shape(row) for row in rows[(number - 1) * size : number * size]],
    }
    return json_reply(200, content)


def _size(asked: str, usual: int, largest: int) -> int:
    """What the client asked for, cut to the largest; the usual size if that is no positive number."""
    wanted = int(asked) if _digits(asked) else 0
    return min(wanted, largest) if wanted > 0 else usual


def _number(asked: str, last: int) -> int:
    """The page asked for, from 1 to `last`, or refused with 404."""
    number = last if asked == "last" else int(asked) if _digits(asked) else 0
    if not 1 <= number <= last:
        raise refusals.no_such_page()
    return number


def _digits(text: str) -> bool:
    return re.fullmatch("[0-9]{1,18}", text) is not None


def _link(received: Received, pages: Pages, number: int) -> str:
    """The whole URL of another page; the first has no `page`, as DRF has it."""
    query = {name: value for name, value in received.query.items() if name != "page"}
    if number > 1:
        query["page"] = str(number)
    host = received.headers.get("host", "")
    path = f"{pages.scheme}://{host}{PREFIX}{received.path}"
    return f"{path}?{urlencode(sorted(query.items()))}" if query else path
