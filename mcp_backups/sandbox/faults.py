"""Faults on demand: what goes wrong with one request, and the rules that say with which.

A request passes four stations; a fault changes any of them and leaves the others as they are:

    pause ──► apply (now, late or never) ──► answer (the API's own, edited, or another) ──► form and end on the wire

Faults that spoil the API's answer (`reset_after`, `silence`, `cut_body`, …) let the request be applied, unless told
`apply=False`. Faults that put another answer in its place (`status`, `raw`, `endless_body`) do not, unless told
`apply=True`.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

from .reply import HTML, JSON, Reply


class Form(Enum):
    """How much of the answer is written, and how."""

    WHOLE = "whole"
    NOTHING = "nothing"
    HALF_HEADER = "half of the header"
    CUT_BODY = "the header, and half of the body it promises"
    DRIP_HEADER = "byte by byte from the first"
    DRIP_BODY = "the header, then the body byte by byte"
    ENDLESS = "the header, then chunks for ever"


class End(Enum):
    """What becomes of the connection afterwards."""

    KEEP = "as the client wishes"
    CLOSE = "FIN"
    RESET = "RST"
    HANG = "open, and silent until the client leaves"


@dataclass(frozen=True)
class Fault:
    """What happens to a request instead of the ordinary course. The named constructors cover the usual ones.

    early: act on the request's header alone; its body stays unread.
    pause: seconds before the request is looked at.
    apply: whether the API carries the request out.
    apply_after: seconds, by the emulator's clock, by which it does so later than it answers (late arrival).
    answer: what is said in place of the API's own words; bytes go out as they are, header and all.
    edit: changes the API's own JSON on its way out.
    stale: seconds by which a list of backups lags behind what is there.
    form, end: how the answer is written, and how the connection ends.
    interval: seconds between two bytes of a drip.
    """

    early: bool = False
    pause: float = 0.0
    apply: bool = True
    apply_after: float = 0.0
    answer: Reply | bytes | None = None
    edit: Callable[[Any], object] | None = field(default=None, compare=False)
    stale: float = 0.0
    form: Form = Form.WHOLE
    end: End = End.KEEP
    interval: float = 0.0

    def __post_init__(self) -> None:
        for name in ("pause", "apply_after", "stale", "interval"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: seconds, 0 or more")
        if self.early and self.end is End.KEEP:
            raise ValueError("early: the connection cannot be kept with a body unread")

    @classmethod
    def delay(cls, seconds: float) -> "Fault":
        """Latency: wait, then go on as usual. A client that gives up meanwhile does not stop the request."""
        return cls(pause=seconds)

    @classmethod
    def status(
        cls,
        code: int,
        body: object = b"",
        headers: Mapping[str, str] | None = None,
        content_type: str = "",
        apply: bool = False,
    ) -> "Fault":
        """Any status, any body: bytes as they are, a str as HTML, all else as JSON; content_type has the last word."""
        return cls(apply=apply, answer=Reply(code, *_encoded(body, content_type), headers or {}))

    @classmethod
    def edited(cls, edit: Callable[[Any], object]) -> "Fault":
        """The API's own JSON answer, changed: `edit` returns another, or changes it in place and returns None."""
        return cls(edit=edit)

    @classmethod
    def rows(cls, values: Mapping[str, object], *, server_id: int = 0, backup_id: int = 0) -> "Fault":
        """A list of backups in which some rows have other values: all, those of one server, or one backup's.

        So a status of any word, a size that is not told, `"server": null`, or a row that cannot be read.
        """

        def edit(content: dict[str, Any]) -> None:
            for row in content.get("results", ()):
                if "server" in row and server_id in (0, row["server"]["id"]) and backup_id in (0, row["id"]):
                    row.update(values)

        return cls(edit=edit)

    @classmethod
    def lagging(cls, seconds: float) -> "Fault":
        """A list of backups as it was so many seconds ago, as from a replica that is behind.

        What was created since is hidden, what was deleted since is shown again, what is finished is still under way.
        """
        return cls(stale=seconds)

    @classmethod
    def reset_before(cls) -> "Fault":
        """RST as soon as the request's header is in. Not applied."""
        return cls(early=True, apply=False, form=Form.NOTHING, end=End.RESET)

    @classmethod
    def reset_after(cls, apply: bool = True) -> "Fault":
        """RST after the whole request, without an answer."""
        return cls(apply=apply, form=Form.NOTHING, end=End.RESET)

    @classmethod
    def close_after(cls, apply: bool = True) -> "Fault":
        """FIN after the whole request, without an answer."""
        return cls(apply=apply, form=Form.NOTHING, end=End.CLOSE)

    @classmethod
    def silence(cls, apply: bool = True) -> "Fault":
        """No answer ever; the connection stays open until the client leaves."""
        return cls(apply=apply, form=Form.NOTHING, end=End.HANG)

    @classmethod
    def half_header(cls, apply: bool = True) -> "Fault":
        """FIN in the middle of the answer's header."""
        return cls(apply=apply, form=Form.HALF_HEADER, end=End.CLOSE)

    @classmethod
    def cut_body(cls, apply: bool = True) -> "Fault":
        """The right Content-Length, half of the body, FIN."""
        return cls(apply=apply, form=Form.CUT_BODY, end=End.CLOSE)

    @classmethod
    def drip(cls, interval_seconds: float, where: Literal["header", "body"] = "body", apply: bool = True) -> "Fault":
        """The right answer, one byte every `interval_seconds`, from the first byte or from the body on."""
        forms = {"header": Form.DRIP_HEADER, "body": Form.DRIP_BODY}
        if where not in forms:
            raise ValueError('where: "header" or "body"')
        return cls(apply=apply, form=forms[where], interval=interval_seconds)

    @classmethod
    def raw(cls, data: bytes, apply: bool = False) -> "Fault":
        """Any bytes on the wire, then FIN."""
        return cls(apply=apply, answer=data, end=End.CLOSE)

    @classmethod
    def endless_body(cls, code: int = 200, apply: bool = False) -> "Fault":
        """A chunked JSON string that never ends."""
        reply = Reply(code, b'{"results":"', headers={"Transfer-Encoding": "chunked"})
        return cls(apply=apply, answer=reply, form=Form.ENDLESS, end=End.CLOSE)

    @classmethod
    def gzip_bomb(cls, mebibytes: int = 64, code: int = 200, apply: bool = False) -> "Fault":
        """A small body that unpacks to many MiB of spaces."""
        body = gzip.compress(b" " * (mebibytes * 2**20), mtime=0)
        return cls(apply=apply, answer=Reply(code, body, headers={"Content-Encoding": "gzip"}))

    def late(self, seconds: float) -> "Fault":
        """The same fault, but the request is applied so many seconds (by the emulator's clock) after its answer.

        `Fault.status(500).late(15)` fails and takes effect all the same; `Fault().late(15)` says yes beforehand.
        """
        return replace(self, apply=True, apply_after=seconds)


@dataclass
class FaultRule:
    """A fault and the requests it is meant for. An empty method or path means any.

    method: as sent. path: a regular expression, searched for in `Received.path`.
    skip: how many matching requests go by first. times: how many are hit then; None = all. seen, hits: so far.
    """

    fault: Fault
    method: str = ""
    path: str = ""
    times: int | None = 1
    skip: int = 0
    seen: int = 0
    hits: int = 0

    def __post_init__(self) -> None:
        re.compile(self.path)
        if self.skip < 0 or (self.times is not None and self.times < 0):
            raise ValueError("times, skip: 0 or more")

    def takes(self, method: str, path: str) -> bool:
        """Count a request if it matches; say whether this rule is ready to hit it."""
        if self.method not in ("", method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.seen > self.skip and (self.times is None or self.hits < self.times)


class FaultRules:
    """The rules in force. Every rule counts the requests that match it; the oldest that is ready hits."""

    def __init__(self) -> None:
        self._rules: list[FaultRule] = []

    def __iter__(self) -> Iterator[FaultRule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def add(self, rule: FaultRule) -> None:
        """Put a rule behind those that are there."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Back to the ordinary course."""
        self._rules.clear()

    def choose(self, method: str, path: str) -> FaultRule | None:
        """The rule that hits this request; its hit is counted."""
        ready = [rule for rule in self._rules if rule.takes(method, path)]
        if not ready:
            return None
        ready[0].hits += 1
        return ready[0]


def _encoded(body: object, content_type: str) -> tuple[bytes, str]:
    """A body as bytes, and the content type that suits it."""
    if isinstance(body, bytes):
        return body, content_type or JSON
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass"), content_type or HTML
    return json.dumps(body).encode(), content_type or JSON
