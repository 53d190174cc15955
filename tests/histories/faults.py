"""What may go wrong with a request in a history."""

from dataclasses import dataclass

from mcp_backups.sandbox import Fault

REFUSALS = {401: "auth", 403: "forbidden", 404: "no such", 409: "busy", 429: "too fast"}

FAULTS: dict[str, Fault] = {
    "held": Fault.delay(1),
    "reset before": Fault.reset_before(),
    "answer lost": Fault.reset_after(),
    "never arrived": Fault.reset_after(apply=False),
    "closed": Fault.close_after(),
    "half a header": Fault.half_header(),
    "cut body": Fault.cut_body(),
    "garbage, done": Fault.raw(b"\x00nonsense\r\n\r\n", apply=True),
    "late, unanswered": Fault.reset_after().late(40),
    "late, 504": Fault.status(504).late(70),
    "late, 502": Fault.status(502).late(5),
    "silence, done": Fault.silence(),
    "silence, not done": Fault.silence(apply=False),
    "500, done": Fault.status(500, apply=True),
    "503": Fault.status(503),
    "502, done": Fault.status(502, "<html>", apply=True),
    "empty 2xx": Fault.status(200, apply=True),
    "html": Fault.status(200, "<html>maintenance</html>", apply=True),
    "redirect": Fault.status(301, headers={"Location": "/api/v1/x/"}),
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
    **{f"{code}": Fault.status(code, {"detail": word}) for code, word in REFUSALS.items()},
}
"""Lists may lose rows, but not silently: `count` tells. A list that lies about that cannot be told from the truth."""

SLOW = ("silence, done", "silence, not done")
"""What a client notices only when its time is up."""


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
