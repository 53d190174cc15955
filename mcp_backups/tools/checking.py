"""Whether backups are fresh: the tool, and its answer for the tool, the command and the resource alike."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated

from pydantic import Field

from mcp_backups.api import VpsClient
from mcp_backups.errors import ApiError, NotFoundError
from mcp_backups.health import FleetHealth, ServerHealth, fleet_health
from mcp_backups.models import Gap, Listing, Server
from mcp_backups.reports import FleetReport, LeanServerRow, ServerRow
from mcp_backups.text import age, plural, stamp
from mcp_backups.tools.answers import fitted
from mcp_backups.tools.reading import AnyServerId, cell
from mcp_backups.tools.tool import Call

MaxAgeHours = Annotated[
    int,
    Field(ge=1, le=8760, description="Hours within which a good backup counts as fresh, 1 to 8760; default 24."),
]

GOOD_MEANS = "completed, size above 0, not expiring within 24 h; one made today counts"

_FULL_CHARS = 1_500
"""JSON characters of the rows in full; with the lean ones an answer for 50 servers stays under 1,500 tokens."""
_LEAN_ROWS = 50
_NAMED_ROWS = 12
"""Lean rows, up to which each bears its server's name."""
_NAME_CHARS = 40

_SUMMED = ("good", "completed", "in_progress", "stuck", "failed")


async def check_backups(call: Call, max_age_hours: MaxAgeHours = 24, server_id: AnyServerId = 0) -> FleetReport:
    """Check whether every VPS.org server has a fresh, good backup (snapshot), and which backup to restore each to.

    Use it for a morning or scheduled check, before a restore, and to find servers whose backups are stale, failed,
    stuck, about to expire, or missing; list_backups shows the single backups. Returns totals, then the servers that
    need attention with the reason, then the others in short, and complete=false with what could not be read. Changes
    nothing.
    """
    with call.context.reading():
        fleet = await read_fleet(call.context.api, timedelta(hours=max_age_hours), server_id)
    return fleet_report(fleet, in_full=bool(server_id))


async def read_fleet(api: VpsClient, max_age: timedelta, server_id: int = 0) -> FleetHealth:
    """The health of one server, or of all (0).

    Raises:
        ApiError: The backups could not be read, or there is no such server.
    """
    backups = await api.list_backups(server_id)
    servers = await readable_servers(api)
    now = api.moment().latest
    if not server_id:
        return fleet_health(backups, servers, max_age, now)
    if backups.rows and not servers.complete:
        return fleet_health(backups, None, max_age, now)
    only = Listing(tuple(server for server in servers.rows if server.id == server_id), servers.gaps)
    if backups.complete_for(server_id) and only.complete and not backups.rows and not only.rows:
        raise NotFoundError(f"There is no server {server_id}.", "Call check_backups without server_id to see them all.")
    return fleet_health(backups, only, max_age, now)


async def readable_servers(api: VpsClient) -> Listing[Server]:
    """The servers; where they cannot be read, nothing but that: the backups alone still tell most."""
    try:
        servers = await api.list_servers()
    except ApiError as error:
        what = f"the list of servers could not be read ({error.code}), so servers without any backup are not known"
        return Listing((), (Gap(what),))
    return Listing(servers.rows, tuple(gap._replace(what=f"of the servers: {gap.what}") for gap in servers.gaps))


def fleet_report(fleet: FleetHealth, *, in_full: bool) -> FleetReport:
    """A fleet's health as an answer.

    Args:
        fleet: Its health.
        in_full: Every server in full; otherwise as many as fit into a small answer, those that need attention first.
    """
    full = len(fleet.servers) if in_full else _fitting(fleet)
    others = min(len(fleet.servers) - full, _LEAN_ROWS)
    return fitted(partial(_report, fleet, full), report_text, others)


def _report(fleet: FleetHealth, full: int, others: int) -> FleetReport:
    rest = fleet.servers[full:]
    lean = rest[:others]
    usual = _usual_verdict(lean)
    return FleetReport(
        summary=_summary(fleet),
        verdict=fleet.verdict,
        as_of=stamp(fleet.now),
        max_age_hours=fleet.max_age // timedelta(hours=1),
        good_means=GOOD_MEANS,
        complete=not fleet.missing,
        missing=list(fleet.missing),
        totals=_totals(fleet),
        servers=[_row(server, fleet.now) for server in fleet.servers[:full]],
        others=[_lean_row(server, fleet.now, usual, named=len(lean) <= _NAMED_ROWS) for server in lean],
        others_verdict=usual,
        not_shown=len(rest) - len(lean),
        next_step=_next_step(rest[len(lean) :]) if rest else "None.",
    )


def _fitting(fleet: FleetHealth) -> int:
    """How many of the servers that need attention are shown in full."""
    left, count = _FULL_CHARS, 0
    for server in fleet.servers:
        left -= len(_row(server, fleet.now).model_dump_json())
        if server.verdict == "ok" or left < 0:
            break
        count += 1
    return count


def _row(server: ServerHealth, now: datetime) -> ServerRow:
    made = server.restore_to.created_at if server.restore_to else None
    return ServerRow(
        server_id=server.server_id,
        server=_short(server.name),
        verdict=server.verdict,
        restore_to=server.restore_to.id if server.restore_to else None,
        created_at=stamp(made) if made else None,
        age=age(made, now) if made else None,
        reason=" ".join(server.reasons),
        backups=server.total,
        good=server.good or None,
        in_progress=server.in_progress or None,
        stuck=server.stuck or None,
        failed=server.failed or None,
        size_mb=round(server.size_mb),
    )


def _lean_row(server: ServerHealth, now: datetime, usual: str, *, named: bool) -> LeanServerRow:
    return LeanServerRow(
        server_id=server.server_id,
        server=_short(server.name) if named else None,
        verdict=server.verdict if server.verdict != usual else None,
        restore_to=server.restore_to.id if server.restore_to else None,
        age=age(server.restore_to.created_at, now) if server.restore_to else None,
    )


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"


def _usual_verdict(servers: Sequence[ServerHealth]) -> str:
    counts = Counter(server.verdict for server in servers)
    return counts.most_common(1)[0][0] if counts else ""


def _totals(fleet: FleetHealth) -> dict[str, int]:
    verdicts = Counter(server.verdict for server in fleet.servers)
    by_verdict = {verdict: verdicts[verdict] for verdict in ("ok", "at_risk", "stale", "no_good_backup")}
    sums = {name: sum(getattr(server, name) for server in fleet.servers) for name in _SUMMED}
    backups = {"backups": sum(server.total for server in fleet.servers)}
    size = {"size_mb": round(sum(server.size_mb for server in fleet.servers))}
    return {"servers": len(fleet.servers)} | by_verdict | backups | sums | size


def _summary(fleet: FleetHealth) -> str:
    fresh = sum(server.fresh for server in fleet.servers)
    hours = fleet.max_age // timedelta(hours=1)
    if not fleet.servers:
        return "No server was found, so there is nothing to check."
    lead = f"{fresh} of {plural(len(fleet.servers), 'server')} with a good backup younger than {hours} h"
    return f"{lead}, as far as could be read." if fleet.missing else f"{lead}."


def _next_step(hidden: Sequence[ServerHealth]) -> str:
    one = "check_backups with server_id shows one server in full."
    if not hidden:
        return one
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(server.verdict for server in hidden).items())
    return f"{plural(len(hidden), 'server')} not shown ({counts}); {one}"


def report_text(report: FleetReport) -> str:
    """A report as text: the totals, a table of the rows in full, and one of those in short."""
    totals = ", ".join(f"{name} {count}" for name, count in report.totals.items())
    lines = [
        f"{report.verdict}: {report.summary} As of {report.as_of}; max_age_hours {report.max_age_hours}.",
        f"totals: {totals}",
        f"A backup is good when: {report.good_means}.",
    ]
    if not report.complete:
        lines.append(f"INCOMPLETE: {'; '.join(report.missing)}.")
    lines += _table(ServerRow, report.servers)
    if report.others:
        lines.append(f"others, {report.others_verdict} unless said:")
        lines += _table(LeanServerRow, report.others)
    return "\n".join([*lines, f"not_shown: {report.not_shown}", f"next_step: {report.next_step}"])


def _table(kind: type[ServerRow | LeanServerRow], rows: Sequence[ServerRow | LeanServerRow]) -> list[str]:
    """A line a row, under one of those columns that hold something; no rows, no lines."""
    values = [row.model_dump() for row in rows]
    columns = [name for name in kind.model_fields if any(name in each for each in values)]
    lines = [columns, *([cell(str(each.get(name, ""))) for name in columns] for each in values)]
    return ["|".join(line) for line in lines if line]
