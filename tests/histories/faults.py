"""What may go wrong with a request in a history, and how else VPS.org may behave."""

from dataclasses import dataclass
from typing import Any

from mcp_backups.sandbox import Fault

HOUR = 3600.0
PAGE = "<html>maintenance</html>"
NO = {"success": False, "error": "Something went wrong."}
QUEUED = {"detail": "Queued."}

REFUSALS = {
    401: "auth",
    403: "Your plan allows 5 backups.",
    404: "no such",
    409: "busy",
    422: "Backup is locked.",
    429: "too fast",
}

ANYWHERE: dict[str, Fault] = {
    "reset before": Fault.reset_before(),
    "answer lost": Fault.reset_after(),
    "never arrived": Fault.reset_after(apply=False),
    "closed": Fault.close_after(),
    "half a header": Fault.half_header(),
    "cut body": Fault.cut_body(),
    "garbage, done": Fault.raw(b"\x00nonsense\r\n\r\n", apply=True),
    "silence, done": Fault.silence(),
    "silence, not done": Fault.silence(apply=False),
    "500, done": Fault.status(500, apply=True),
    "502, done": Fault.status(502, "<html>", apply=True),
    "503": Fault.status(503),
    "web page": Fault.status(200, PAGE),
    "redirect": Fault.status(301, headers={"Location": "/api/v1/x/"}),
    **{f"{code}": Fault.status(code, {"detail": word}) for code, word in REFUSALS.items()},
}
"""What may happen to every request."""

OF_WRITES: dict[str, Fault] = {
    "lost, 40 s late": Fault.reset_after().late(40),
    "lost, hours late": Fault.close_after().late(5 * HOUR),
    "silence, late": Fault.silence().late(130),
    "408, late": Fault.status(408).late(20),
    "500, late": Fault.status(500).late(15),
    "502, late": Fault.status(502, "<html>").late(5),
    "503, a day late": Fault.status(503).late(20 * HOUR),
    "504, late": Fault.status(504).late(70),
    "504, hours late": Fault.status(504, "<html>").late(3 * HOUR),
    "empty 2xx": Fault.status(200, apply=True),
    "web page, done": Fault.status(200, PAGE, apply=True),
    "web page, late": Fault.status(201, PAGE).late(200),
    "a no in JSON": Fault.status(200, NO),
    "a no in JSON, done": Fault.status(202, {"status": "error"}, apply=True),
    "a no in JSON, hours late": Fault.status(200, {"status": "failed"}).late(2 * HOUR),
}

OF_DELETES: dict[str, Fault] = {
    "402, late": Fault.status(402, {"detail": "Pay."}).late(90),
    "404 page, hours late": Fault.status(404, PAGE).late(3 * HOUR),
    "423, done": Fault.status(423, {"detail": "Locked."}, apply=True),
    "yes, late": Fault().late(200),
    "yes, hours late": Fault().late(20 * HOUR),
    "202, late": Fault.status(202, QUEUED).late(40),
    "202, never": Fault.status(202, QUEUED),
    "empty 200, late": Fault.status(200).late(HOUR),
}
"""A yes that is none, or not yet, and a no that is none. Of a restore that could never be told from the truth."""

OF_LISTS: dict[str, Fault] = {
    "count too high": Fault.edited(lambda page: page | {"count": 999} if "count" in page else page),
    "a row missing": Fault.edited(
        lambda page: page | {"results": page["results"][1:]} if page.get("results") else page
    ),
    "a row twice": Fault.edited(
        lambda page: page | {"results": page["results"] + page["results"][:1]} if page.get("results") else page
    ),
    "a bad row": Fault.edited(
        lambda page: page | {"results": [{"id": True}, *page["results"][1:]]} if page.get("results") else page
    ),
    "a stale list": Fault.lagging(45),
    "a very stale list": Fault.lagging(1000),
    "bad rows of server 1": Fault.rows({"id": "x"}, server_id=1),
    "bad dates of server 2": Fault.rows({"created_at": "soon"}, server_id=2),
    "server null": Fault.rows({"server": None}, backup_id=1),
    "odd sizes": Fault.rows({"size_mb": "big"}, server_id=2),
    "odd expiries": Fault.rows({"expires_at": "never"}, server_id=3),
    "sizes not told": Fault.rows({"size_mb": None}),
    "size 0": Fault.rows({"size_mb": 0}, server_id=1),
    "other words": Fault.rows({"status": "available"}),
    "a status null": Fault.rows({"status": None}, backup_id=2),
}
"""Lists may lose rows, but not silently: `count` tells. A list that lies about that cannot be told from the truth."""

FAULTS = {"held": Fault.delay(1), **ANYWHERE, **OF_WRITES, **OF_DELETES, **OF_LISTS}

WRITES = ("POST", "DELETE")
PLACES: list[tuple[str, str]] = [
    *((name, method) for name in ANYWHERE for method in (*WRITES, "GET", "")),
    *((name, method) for name in OF_WRITES for method in WRITES for _ in range(2)),
    *((name, "DELETE") for name in OF_DELETES for _ in range(4)),
    *((name, "GET") for name in OF_LISTS for _ in range(2)),
]
"""Which faults may hit the requests of which methods, the more telling ones more often; "" is every method."""

SLOW = frozenset({"silence, done", "silence, not done", "silence, late"})
"""What a client notices only when its time is up."""

BEHAVIOURS: list[dict[str, Any]] = [
    {"lag_seconds": 0.0},
    {"lag_seconds": 20.0},
    {"lag_seconds": 150.0},
    {"lag_seconds": 1000.0},
    {"statuses": ("queued", "completed")},
    {"statuses": ("available", "completed")},
    {"statuses": ("creating", "available")},
    {"statuses": ("in_progress", "COMPLETED")},
    {"statuses": ("in_progress", "failed")},
    {"statuses": ("in_progress", "error")},
    {"statuses": ("in_progress", "archived")},
    {"size_seconds": 25.0},
    {"size_seconds": 600.0},
    {"backup_seconds": 900.0},
    {"honour_filters": False},
    {"honour_filters": True},
]

USUAL: dict[str, Any] = {
    "lag_seconds": 0.0,
    "statuses": ("in_progress", "completed"),
    "size_seconds": 0.0,
    "backup_seconds": 8.0,
    "honour_filters": True,
}


@dataclass(frozen=True)
class Trouble:
    """What goes wrong from now on.

    Attributes:
        name: Of one of `FAULTS`.
        method: Of the requests that it hits; empty for all.
        times: How many of them; None for all to come.
        skip: How many of them go well before.
    """

    name: str
    method: str = ""
    times: int | None = 1
    skip: int = 0
