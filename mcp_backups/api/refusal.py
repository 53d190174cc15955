"""Whether an answer says no, whatever its status says, and VPS.org's own words for it."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mcp_backups.text import safe_text, visible

from .classify import BodyError
from .json_values import read_json

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
_NOTHING = frozenset({"", "0", "false", "none", "null", "no", "ok", "success"})
_ERRORS = range(400, 600)
_ERROR_STATUS = re.compile("[45][0-9]{2}")

_WORDS = ("detail", "message", "msg", "error", "errors", "reason", "title", "error_description")
"""Where an answer says why, the likeliest first."""
_QUOTES = re.compile('["\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u301d\u301e\uff02]')
_MOST_TEXTS = 10
_DEEPEST = 4


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
    return bool(_ERROR_FIELD.fullmatch(name)) and (text not in _NOTHING if text is not None else bool(value))


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
    elif isinstance(answer, list) and depth < _DEEPEST:
        for each in answer[:_MOST_TEXTS]:
            yield from _texts(each, depth + 1)
    elif isinstance(answer, dict) and depth < _DEEPEST:
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
