"""One request as it came: its body and query checked as DRF's parsers and serializer fields check them."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from . import refusals
from .faults import FaultRule
from .reply import JSON

PREFIX = "/api/v1"
"""Where the API lives; paths below it are told without it."""

REQUIRED = "This field is required."
NULL = "This field may not be null."
NOT_AN_INTEGER = "A valid integer is required."
NOT_A_STRING = "Not a valid string."
NULL_CHARACTERS = "Null characters are not allowed."


@dataclass(repr=False)
class Received:
    """A request the emulator got, and what became of it. Its `repr` never shows the token.

    method: as sent. target: the whole request target, as sent.
    path: below `/api/v1`, for example "/backups/501/"; the whole path where it lies outside.
    query: decoded; of a name given twice the last value. headers: lower-case names.
    rule: the fault rule that hit, if any.
    applied: the API carried the request out (its own answer was a 2xx), whatever the client was told.
    status: what the client was told; None if it was told nothing readable.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    rule: FaultRule | None = None
    applied: bool = False
    status: int | None = None

    @property
    def stale(self) -> float:
        """Seconds by which a list that it gets lags behind because of its fault."""
        return self.rule.fault.stale if self.rule else 0.0

    @property
    def authorization(self) -> str:
        """The Authorization header in full, or ""."""
        return self.headers.get("authorization", "")

    @property
    def masked_headers(self) -> dict[str, str]:
        """The headers with the token left out, fit to be shown."""
        return {name: "***" if name == "authorization" else value for name, value in self.headers.items()}

    def json(self) -> Any:
        """The body as JSON. Raises ValueError if it is not."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return (
            f"Received({self.method} {self.target} body={self.body!r} headers={self.masked_headers!r}"
            f" applied={self.applied} status={self.status})"
        )


# Request bodies and query values


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
