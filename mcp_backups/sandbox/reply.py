"""One reply, and the bytes it starts with."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

JSON = "application/json"
HTML = "text/html; charset=utf-8"

SUCCESS = range(200, 300)
STATUSES = range(100, 1000)


@dataclass(frozen=True)
class Reply:
    """An answer: a status from 100 to 999, headers, a body. The wire adds what is missing (see `head`)."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError("status: an integer from 100 to 999")

    def head(self, now: datetime, *, closing: bool) -> bytes:
        """Status line and headers as bytes; a header given by hand takes the place of the usual one."""
        usual = {"Date": format_datetime(now, usegmt=True), "Vary": "Accept"}
        if self.body:
            usual["Content-Type"] = self.content_type
        if self.status != HTTPStatus.NO_CONTENT or self.body:
            usual["Content-Length"] = str(len(self.body))
        if closing:
            usual["Connection"] = "close"
        given = {name.lower() for name in self.headers}
        if "transfer-encoding" in given:
            given.add("content-length")
        lines = [f"HTTP/1.1 {self.status} {reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in usual.items() if name.lower() not in given]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def reason(status: int) -> str:
    """The phrase that goes with a status; "Unknown" for one nobody defined."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def json_reply(status: int, content: object, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply that holds JSON, written as tightly as DRF writes it."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, body, headers=headers or {})
