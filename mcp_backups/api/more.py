"""Signs that a list goes on: VPS.org's own, documented as `next`, and those that other APIs and gateways use."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_NEXT = re.compile(
    r"next(page)?(token|cursor|url|uri|link|href|offset|start|startkey|marker|key|number|results|records)?"
)
_MORE = frozenset(
    {
        *("hasmore", "hasnext", "hasnextpage", "more", "moreresults", "moreavailable", "morepages"),
        *("truncated", "istruncated", "partial", "incomplete", "incompleteresults", "timedout"),
        *("continue", "continuation", "continuationtoken", "lastevaluatedkey"),
    }
)
_ALL = frozenset({"last", "islast", "islastpage", "lastpage", "done", "isdone", "complete", "iscomplete", "eof"})
"""Names that say there is more where they are false."""
_TOTAL = re.compile(
    r"total(count|results?|items|records|elements|rows|entries|objects|hits)?|count"
    r"|(records|items|results?|rows|entries|objects)(total|count)|num(results|items|rows)"
)
_PAGES = frozenset({"pages", "totalpages", "numpages", "pagecount", "pagestotal", "lastpage"})
_SIZES = frozenset({"pagesize", "perpage", "limit", "maxresults"})
_WITHIN = re.compile("pag[ei]|meta|link")
"""What stands in the names of objects that hold such signs, as in `pagination` and `response_metadata`."""

_NOTHING = frozenset({"", "false", "0", "no", "none", "null"})
_PARTIAL_CONTENT = 206
_LARGEST = 10**9
_DEEPEST = 4
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL_NEXT = re.compile(r"""\brel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|'?next\b)""", re.IGNORECASE)
_RANGE = re.compile(r"\s*\w+\s+\d*-?\d*/(\d{1,9})\s*", re.ASCII)


class Signs(NamedTuple):
    """What an answer says of the list that it is a page of.

    Attributes:
        next: Where the next page is; empty if it does not say so.
        more: The names of the fields that say there is more.
        total: How many rows the whole list has, 0 if it does not say.
        pages: How many pages, likewise.
        size: How many rows a page has, likewise.
        any: Whether it says anything of what follows or of how much there is.
        odd: The names of the fields that tell how many rows there are, in a form of no use.
        age: For how many seconds a cache on the way has kept it (RFC 9111, 5.1), 0 if it does not say so.
    """

    next: str
    more: tuple[str, ...]
    total: int
    pages: int
    size: int
    any: bool
    odd: tuple[str, ...]
    age: int


def signs_of(envelope: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Signs:
    """The signs in an answer: in the object that its rows come in, in its header, and in its status."""
    fields = [*_fields(envelope), *_header_fields(headers)]
    if status == _PARTIAL_CONTENT:
        fields.append(("partial content", "partial", True))
    addresses = [each for _, name, value in fields if _NEXT.fullmatch(name) and (each := _address(value))]
    if linked := _linked(headers.get("link", "")):
        addresses.append(linked)
    more = [
        shown
        for shown, name, value in fields
        if (name in _ALL and _is_false(value))
        or ((name in _MORE or (_NEXT.fullmatch(name) and not _address(value))) and _says_something(value))
    ]
    totals = [(shown, value) for shown, name, value in fields if _TOTAL.fullmatch(name) and value is not None]
    pages = [_number(value) for _, name, value in fields if name in _PAGES]
    return Signs(
        next=addresses[0] if addresses else "",
        more=tuple(dict.fromkeys(more)),
        total=max((_number(value) or 0 for _, value in totals), default=0),
        pages=max((number or 0 for number in pages), default=0),
        size=max((_number(value) or 0 for _, name, value in fields if name in _SIZES), default=0),
        any=bool(addresses or totals)
        or any(number is not None for number in pages)
        or any(name in _MORE | _ALL or _NEXT.fullmatch(name) for _, name, _ in fields),
        odd=tuple(dict.fromkeys(shown for shown, value in totals if _number(value) is None)),
        age=_number(headers.get("age", "").strip()) or 0,
    )


def _fields(raw: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Each field that may be a sign: its name to show, its name to compare, and its value."""
    for key, value in raw.items():
        name = re.sub("[^a-z]", "", key.lower()).removeprefix("odata")
        if _WITHIN.search(name) and depth < _DEEPEST:
            if isinstance(value, dict):
                yield from _fields(value, depth + 1)
            elif isinstance(value, list):
                yield from ((str(each["rel"]), "next", each) for each in value if _is_next_link(each))
        if name in _MORE | _ALL | _PAGES | _SIZES or _TOTAL.fullmatch(name) or _NEXT.fullmatch(name):
            yield (key if re.fullmatch(r"[A-Za-z_.@-]{1,30}", key) else name), name, value


def _is_next_link(raw: object) -> bool:
    return isinstance(raw, dict) and str(raw.get("rel", "")).lower() == "next"


def _header_fields(headers: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    yield from _fields({name[2:]: value for name, value in headers.items() if name.lower().startswith("x-")})
    if found := _RANGE.fullmatch(headers.get("content-range", "")):
        yield "Content-Range", "total", found[1]


def _address(value: object) -> str:
    """The address that a value is, or that it holds as a link."""
    if isinstance(value, dict):
        value = next((value[name] for name in ("href", "url", "link", "uri") if isinstance(value.get(name), str)), "")
    return value if isinstance(value, str) and ("/" in value or "?" in value) else ""


def _linked(header: str) -> str:
    """Where a `Link` header (RFC 8288) says the next page is."""
    return next((found[1] for found in _LINK.finditer(header) if _REL_NEXT.search(found[2])), "")


def _says_something(value: object) -> bool:
    return value.strip().lower() not in _NOTHING if isinstance(value, str) else bool(value)


def _is_false(value: object) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _number(value: object) -> int | None:
    """A whole number from 0 up, also as text or as the `value` of an object; None if it is none."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_LARGEST)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None
