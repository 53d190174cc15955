"""Request bodies and query values, checked as DRF's parsers and serializer fields check them."""

import json
import re
from typing import Any, NoReturn

from . import refusals
from .received import Received
from .reply import JSON

REQUIRED = "This field is required."
NULL = "This field may not be null."
NOT_AN_INTEGER = "A valid integer is required."
NOT_A_STRING = "Not a valid string."
NULL_CHARACTERS = "Null characters are not allowed."


def parsed(received: Received) -> dict[str, Any]:
    """The JSON object in a body; no body at all is an empty one. Refuses with 415 or 400."""
    if not received.body:
        return {}
    content_type = received.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise refusals.unsupported_media(content_type)
    try:
        content = json.loads(received.body.decode(), parse_constant=_out_of_range)
    except (ValueError, RecursionError) as problem:
        raise refusals.unparsable(problem) from None
    if not isinstance(content, dict):
        text = f"Invalid data. Expected a dictionary, but got {type(content).__name__}."
        raise refusals.invalid("non_field_errors", text)
    return content


def required_integer(content: dict[str, Any], name: str) -> int:
    """A required integer of a body."""
    if name not in content:
        raise refusals.invalid(name, REQUIRED)
    if content[name] is None:
        raise refusals.invalid(name, NULL)
    return integer(content[name], name)


def integer(value: object, name: str) -> int:
    """An integer as DRF's IntegerField takes it: 7, "7" and 7.0, but neither true nor "seven"."""
    text = re.sub(r"\.0*\s*$", "", str(value))
    try:
        return int(text)
    except ValueError:
        raise refusals.invalid(name, NOT_AN_INTEGER) from None


def optional_text(content: dict[str, Any], name: str) -> str:
    """An optional string of a body, trimmed; "" if it is missing. Numbers count as text."""
    value = content.get(name, "")
    if value is None:
        raise refusals.invalid(name, NULL)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise refusals.invalid(name, NOT_A_STRING)
    if "\0" in str(value):
        raise refusals.invalid(name, NULL_CHARACTERS)
    return str(value).strip()


def _out_of_range(constant: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {constant!r}")
