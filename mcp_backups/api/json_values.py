"""The value that a body holds: JSON, read as far as it goes without doubt."""

import json
import re
from typing import Any, Final

from pydantic_core import from_json

from .classify import BodyCutError, BodyUnreadableError

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
