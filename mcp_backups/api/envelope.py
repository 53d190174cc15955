"""What an answer's body says beside its rows: its JSON value, whether it says no, and whether its list goes on.

Of the last two VPS.org documents next to nothing (`detail`, `next`); what other APIs and gateways use is known too.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from mcp_backups.text import safe_text, visible

from .classify import BodyCutError, BodyError, BodyUnreadableError

_NOTHING = frozenset({"", "false", "0", "no", "none", "null"})
"""Words that say that there is nothing, or that something is not so."""
_LEVELS = 4
"""How deep in a body signs and words are looked for."""

# Its value

TWICE: Final = object()
"""Stands for the value of a name that an object holds twice, with different values: nobody knows which one counts."""

_MANY_DIGITS = 400
_DEEPEST = 32
"""Levels of arrays and objects that are read; VPS.org's answers have four."""

# The bytes of a surrogate that has no partner. Pairs, and other escapes, are matched only to be passed over.
_HALF = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.")
_STRING_OR_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|[\[{]+|[\]}]+', re.DOTALL)


def read_json(body: bytes) -> Any:
    """The value that a body holds.

    Bytes that are no UTF-8, and halves of surrogate pairs (which JavaScript leaves when it cuts a text), become
    U+FFFD. A number of thousands of digits becomes an infinite one, what is nested too deeply an empty array, and a
    value that contradicts itself `TWICE`: none of them is a value that anything is read from.

    Raises:
        BodyCutError: It ends too early.
        BodyUnreadableError: It is not JSON.
    """
    text = body.decode("utf-8-sig", "replace")
    if "\\ud" in text or "\\uD" in text:
        text = _HALF.sub(lambda found: r"\ufffd" if found[1] else found[0], text)
    try:
        return _parsed(text)
    except RecursionError:
        return _parsed(_flattened(text))


def _parsed(text: str) -> Any:
    for parse_int in (int, _whole):
        try:
            return json.loads(text, object_pairs_hook=_once, strict=False, parse_int=parse_int)
        except json.JSONDecodeError:
            break
        except ValueError:
            continue
    try:
        from_json(text)
    except ValueError as error:
        if "EOF while parsing" in str(error):
            raise BodyCutError("ends too early") from None
    raise BodyUnreadableError("is not JSON")


def _whole(digits: str) -> float:
    """A whole number; one that int() would refuse, or take long for, as the infinite one that it is to us."""
    return int(digits) if len(digits) < _MANY_DIGITS else float(digits)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        found |= {name: TWICE for name, value in pairs if found[name] is not value and found[name] != value}
    return found


def _flattened(text: str) -> str:
    """The same with an empty array in place of whatever is nested too deeply."""
    kept, depth, start = [], 0, 0
    for found in _STRING_OR_BRACKETS.finditer(text):
        count = len(found[0])
        if found[0][0] in "[{":
            if depth <= _DEEPEST < depth + count:
                kept.append(text[start : found.start() + _DEEPEST - depth] + "[]")
            depth += count
        elif found[0][0] in "]}":
            if depth - count <= _DEEPEST < depth:
                start = found.start() + depth - _DEEPEST
            depth -= count
    if depth > _DEEPEST:
        raise BodyCutError("ends too early")
    return "".join([*kept, text[start:]])


# Whether it says no

IS_PAGE = "is a web page, as of a login or of maintenance"
SAYS_NO = "says that it failed"
"""Why a status of success is none, as the rest of "the answer …"."""

_HTML = re.compile(
    r"<(!doctype|html|head|body|title|meta|link|script|style|base|noscript|h[1-6]|p|div|span|center|table|form|img|a|b|br"
    r"|main|header|section|article|iframe|font|hr|ul|pre)\b",
    re.IGNORECASE,
)
_YES_FIELDS = frozenset({"success", "succeeded", "successful", "ok"})
_STATUS_FIELDS = frozenset({"status", "statuscode", "code", "state", "result", "outcome"})
_ERROR_FIELD = re.compile("errors?(codes?|messages?|msg|details?|descriptions?|reasons?|texts?|titles?|types?)?")
_ERROR_FLAGS = frozenset({"iserror", "haserror", "haserrors", "failed", "failure"})
_FAILED = frozenset({"error", "errors", "failed", "fail", "failure", "false", "rejected", "refused", "denied"})
_NO = frozenset({"false", "0", "no"})
_NO_ERROR = _NOTHING | {"ok", "success"}
_ERRORS = range(400, 600)
_ERROR_STATUS = re.compile("[45][0-9]{2}")

_WORDS = ("detail", "message", "msg", "error", "errors", "reason", "title", "error_description")
"""Where an answer says why, the likeliest first."""
_QUOTES = re.compile('["\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\uff02]')
_MOST_TEXTS = 10


def denial(body: bytes, media_type: str, *, whole: bool = True) -> str:
    """Why an answer whose status says yes is none, as the rest of "the answer …"; empty if it is one.

    Args:
        body: As far as it was read.
        media_type: What its header says it is.
        whole: Whether that is all of it; what is cut is only known by how it begins.
    """
    if is_page(body, media_type, whole=whole):
        return IS_PAGE
    try:
        answer = read_json(body)
    except BodyError:
        return ""
    return SAYS_NO if isinstance(answer, dict) and denying(answer) else ""


def denying(answer: Mapping[str, object]) -> list[str]:
    """Which fields of an object say no: their names, of which only the letters are shown."""
    return [name for raw, value in answer.items() if _denies(name := re.sub("[^a-z]", "", raw.lower()), value)]


def is_page(body: bytes, media_type: str, *, whole: bool = True) -> bool:
    """Whether an answer is a web page, which VPS.org's API does not send: by its media type, or by how it begins."""
    text = body.decode("utf-16" if body[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")
    text = text.replace("\0", "").strip()
    if "html" in media_type.lower():
        return bool(text) or not whole
    while text.startswith(("<!--", "<?")):
        _, _, text = text.partition("-->" if text.startswith("<!--") else "?>")
        text = text.strip() or "<html"  # a comment without an end is no JSON either
    return bool(_HTML.match(text))


def is_json(body: bytes) -> bool:
    """Whether a body is whole JSON, as the API sends it."""
    try:
        read_json(body)
    except BodyError:
        return False
    return True


def _denies(name: str, value: object) -> bool:
    text = value.strip().lower() if isinstance(value, str) else None
    if name in _YES_FIELDS:
        return text in _NO if text is not None else isinstance(value, int | float) and value == 0
    if name in _STATUS_FIELDS:
        if text is not None:
            return text in _FAILED or bool(_ERROR_STATUS.fullmatch(text))
        return value is False or value in _ERRORS
    if name in _ERROR_FLAGS:
        return value is True or text == "true"
    return bool(_ERROR_FIELD.fullmatch(name)) and (text not in _NO_ERROR if text is not None else bool(value))


# In which words it says no


def said(body: bytes, media_type: str, without_token: Callable[[str], str]) -> str:
    """VPS.org's own words on why it refused, on one line without quotation marks; empty if it gave none.

    They are data from strangers, only ever to be shown as a quotation.

    Args:
        body: As far as it was read; only of JSON anything is quoted.
        media_type: What its header says it is.
        without_token: Takes the token out of a text.
    """
    if is_page(body, media_type):
        return ""
    try:
        answer = read_json(body)
    except BodyError:
        return ""
    texts: dict[str, None] = {}
    for text in _texts(answer):
        if not is_page(text.encode(errors="replace"), ""):
            texts.setdefault(without_token(_QUOTES.sub("'", visible(text))))
        if len(texts) >= _MOST_TEXTS:
            break
    texts.pop("", None)
    return safe_text("; ".join(texts))


def _texts(answer: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a refusal, each with the field that it is about."""
    if isinstance(answer, str):
        yield answer
    elif isinstance(answer, list) and depth < _LEVELS:
        for each in answer[:_MOST_TEXTS]:
            yield from _texts(each, depth + 1)
    elif isinstance(answer, dict) and depth < _LEVELS:
        yield from _of_object(answer, depth)


def _of_object(answer: Mapping[str, Any], depth: int) -> Iterator[str]:
    by_name = {name.lower(): value for name, value in answer.items()}
    found = False
    for name in _WORDS:
        for text in _texts(by_name.get(name), depth + 1):
            found = True
            yield text
    for name, value in answer.items():
        # Validation errors as of Django: a list of texts for each field.
        if name.lower() not in _WORDS and isinstance(value, list) and (not found or name == "non_field_errors"):
            for text in _texts(value, depth + 1):
                yield text if name == "non_field_errors" else f"{name}: {text}"


# Whether its list goes on

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

_PARTIAL_CONTENT = 206
_LARGEST = 10**9
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
    pages = [whole_number(value) for _, name, value in fields if name in _PAGES]
    return Signs(
        next=addresses[0] if addresses else "",
        more=tuple(dict.fromkeys(more)),
        total=max((whole_number(value) or 0 for _, value in totals), default=0),
        pages=max((number or 0 for number in pages), default=0),
        size=max((whole_number(value) or 0 for _, name, value in fields if name in _SIZES), default=0),
        any=bool(addresses or totals)
        or any(number is not None for number in pages)
        or any(name in _MORE | _ALL or _NEXT.fullmatch(name) for _, name, _ in fields),
        odd=tuple(dict.fromkeys(shown for shown, value in totals if whole_number(value) is None)),
        age=whole_number(headers.get("age", "").strip()) or 0,
    )


def _fields(raw: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str, Any]]:
    """Each field that may be a sign: its name to show, its name to compare, and its value."""
    for key, value in raw.items():
        name = re.sub("[^a-z]", "", key.lower()).removeprefix("odata")
        if _WITHIN.search(name) and depth < _LEVELS:
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


def whole_number(value: object) -> int | None:
    """A whole number from 0 up, also as text or as the `value` of an object; None if it is none."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(_LARGEST)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST else None
