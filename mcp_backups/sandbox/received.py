"""One request as it came, and what became of it."""

import json
from dataclasses import dataclass
from typing import Any

from .faults import FaultRule

PREFIX = "/api/v1"
"""Where the API lives; paths below it are told without it."""


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
