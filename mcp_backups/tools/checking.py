"""Whether backups are fresh: the tool, and its answer for the tool, the command and the resource alike."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, get_args

from pydantic import Field

from mcp_backups.api.servers import is_absent, require_server
from mcp_backups.health import FleetHealth, ServerHealth, Verdict, fleet_health
from mcp_backups.models import Answer, Listing, Maybe, Told
from mcp_backups.operations import GOOD, is_protected
from mcp_backups.settings import Settings
from mcp_backups.text import age, plural, stamp
from mcp_backups.tools.answers import fitted, table
from mcp_backups.tools.observation import AccountObservation, observe_for
from mcp_backups.tools.reading import AnyServerId, ServerNameFilter, check_one_server
from mcp_backups.tools.tool import ToolCall


class ServerRow(Answer):
    """What the backups of one server are worth, as `check_backups` tells it in full.

    Attributes:
        verdict: `ok`, `at_risk` (fresh, but something is wrong), `stale`, `no_good_backup`, `cannot_tell` (what could
            be read does not tell) or `orphaned` (VPS.org does not list the server).
        restore_to: Id of the newest good backup; absent when there is none, or no server to restore.
        created_at: When that one was made; UTC, to the minute.
        expires_at: When that one expires; absent where it does not by itself.
        reason: Why that one and none that is newer, and what else is wrong.
        backups: All of the server's; good, in progress, stuck (over 6 h), failed and doubtful ones (a deletion was sent
            for them), where there are any.
        size_mb: MB in total, as far as sizes are known.
        flags: `protected`: a rule of the operator's forbids to delete or restore anything of it.
    """

    server_id: int
    server: str
    verdict: str
    restore_to: Maybe[int] = None
    created_at: Maybe[str] = None
    age: Maybe[str] = None
    expires_at: Maybe[str] = None
    reason: str
    backups: int
    good: Maybe[int] = None
    in_progress: Maybe[int] = None
    stuck: Maybe[int] = None
    failed: Maybe[int] = None
    doubtful: Maybe[int] = None
    size_mb: int
    flags: Maybe[list[str]] = None


class LeanServerRow(Answer):
    """The same in short.

    Attributes:
        verdict: Absent where it is that of most such rows.
        expires_at: Where there are few rows.
    """

    server_id: int
    server: str
    verdict: Maybe[str] = None
    restore_to: Maybe[int] = None
    age: Maybe[str] = None
    expires_at: Maybe[str] = None
    backups: int
    size_mb: int
    flags: Maybe[list[str]] = None


class FleetReport(Answer):
    """What `check_backups` answers.

    Attributes:
        summary: One sentence.
        verdict: `ok`: every server has a good backup younger than max_age_hours; `not_ok`; or `cannot_tell`. Orphaned
            servers, and those that the operator wants ignored, do not count.
        as_of: When it was read; UTC, to the minute.
        good_means: What makes a backup good.
        complete: Whether every backup and every server was read.
        missing: What was not, when it is not complete.
        totals: Servers in all and by verdict; backups in all, good, and by status; MB in all.
        orphaned_backups: Ids of backups that belong to no server; the first where there are many.
        servers: The worst first, in full.
        others: The next, in short, the largest first of those in order; `others_verdict` is that of the rows that
            name none.
        not_shown: How many more servers there are.
    """

    summary: str
    verdict: str
    as_of: str
    max_age_hours: int
    good_means: str
    complete: bool
    missing: Told[list[str]] = Field(default_factory=list)
    totals: dict[str, int]
    orphaned_backups: Maybe[list[int]] = None
    servers: list[ServerRow]
    others: Told[list[LeanServerRow]] = Field(default_factory=list)
    others_verdict: Told[str] = ""
    not_shown: Told[int] = 0
    next_step: str


MaxAgeHours = Annotated[
    int,
    Field(ge=1, le=8760, description="Hours within which a good backup counts as fresh, 1 to 8760; default 24."),
]

GOOD_MEANS = f"{GOOD}; one made today counts, though only proven ones, which are older, let others be deleted"

_FULL_CHARS = 2_000
"""JSON characters of the rows in full."""
_LEAN_ROWS = 50
_EXPIRING_ROWS = 20
"""Lean rows, up to which each tells its expiry; what expires soon is in full anyway."""
_NAME_CHARS = 40

_MOST_ORPHANS = 20
"""Ids of backups that belong to no server."""

_SUMMED = ("good", "completed", "in_progress", "stuck", "failed", "doubtful")


async def check_backups(
    call: ToolCall, max_age_hours: MaxAgeHours = 24, server_id: AnyServerId = 0, server_name: ServerNameFilter = ""
) -> FleetReport:
    """Check whether every VPS.org server has a fresh, good backup (snapshot), and which backup to restore each to.

    Use it for a morning or scheduled check, before a restore, and to find servers whose backups are stale, failed,
    stuck, about to expire, or missing; list_backups shows the single backups. Returns totals, then the servers that
    need attention with the reason, then the others by size, each with its number of backups and space, and
    complete=false with what could not be read. Changes nothing.
    """
    check_one_server(server_id, server_name)
    observed, settings = await observe_for(call.context, server_id), call.context.settings
    server_id = observed.server_meant(server_id, server_name)
    fleet = fleet_of(observed, timedelta(hours=max_age_hours), server_id, settings.ignored_servers)
    return fleet_report(fleet, settings, in_full=bool(server_id))


def fleet_of(
    observed: AccountObservation, max_age: timedelta, server_id: int = 0, ignored: Collection[int] = ()
) -> FleetHealth:
    """The health of one server, which was asked for and so is not ignored, or of all (0).

    Raises:
        NotFoundError: There is no such server.
    """
    backups, servers, doubts, now = observed
    if not server_id:
        return fleet_health(backups, servers, max_age, now, doubts=doubts, ignored=ignored)
    require_server(server_id, backups, servers)
    rows = tuple(backup for backup in backups.rows if backup.server_id == server_id)
    of_it = tuple(gap for gap in backups.gaps if gap.server_id in (0, server_id))
    # Where its backups show that it is there, a gap in the list of servers is none in what is known of it.
    is_known = bool(rows) or any(server.id == server_id for server in servers.rows)
    only = Listing(
        tuple(server for server in servers.rows if server.id == server_id),
        () if is_known else tuple(gap for gap in servers.gaps if gap.server_id in (0, server_id)),
    )
    may_be_orphaned = not is_known or bool(only.rows) or is_absent(server_id, servers)
    return fleet_health(Listing(rows, of_it), only if may_be_orphaned else None, max_age, now, doubts=doubts)


def fleet_report(fleet: FleetHealth, settings: Settings, *, in_full: bool) -> FleetReport:
    """A fleet's health as an answer.

    Args:
        fleet: Its health.
        settings: What is protected.
        in_full: Every server in full; otherwise as many as fit into a small answer, those that need attention first.
    """
    full = len(fleet.servers) if in_full else _fitting(fleet, settings)
    others = min(len(fleet.servers) - full, _LEAN_ROWS)
    return fitted(partial(_report, fleet, settings, full), report_text, others)


def _report(fleet: FleetHealth, settings: Settings, full: int, others: int) -> FleetReport:
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
        orphaned_backups=[backup.id for backup in fleet.orphans[:_MOST_ORPHANS]] or None,
        servers=[_row(server, fleet.now, settings) for server in fleet.servers[:full]],
        others=[
            _lean_row(server, fleet.now, settings, usual, with_expiry=len(rest) <= _EXPIRING_ROWS) for server in lean
        ],
        others_verdict=usual,
        not_shown=len(rest) - len(lean),
        next_step=_next_step(rest[len(lean) :]) if rest else "None.",
    )


def _fitting(fleet: FleetHealth, settings: Settings) -> int:
    """How many of the servers that need attention are shown in full."""
    left, count = _FULL_CHARS, 0
    for server in fleet.servers:
        left -= len(_row(server, fleet.now, settings).model_dump_json())
        if server.verdict == "ok" or left < 0:
            break
        count += 1
    return count


def _row(server: ServerHealth, now: datetime, settings: Settings) -> ServerRow:
    made = server.restore_to.created_at if server.restore_to else None
    return ServerRow(
        server_id=server.server_id,
        server=_short(server.name),
        verdict=server.verdict,
        restore_to=server.restore_to.id if server.restore_to else None,
        created_at=stamp(made) if made else None,
        age=age(made, now) if made else None,
        expires_at=_expiry(server),
        reason=" ".join(server.reasons),
        backups=server.total,
        good=server.good or None,
        in_progress=server.in_progress or None,
        stuck=server.stuck or None,
        failed=server.failed or None,
        doubtful=server.doubtful or None,
        size_mb=round(server.size_mb),
        flags=_flags(server, settings),
    )


def _expiry(server: ServerHealth) -> str | None:
    expires = server.restore_to.expires_at if server.restore_to else None
    return stamp(expires) if expires else None


def _flags(server: ServerHealth, settings: Settings) -> list[str] | None:
    return ["protected"] if is_protected(settings, server.server_id) else None


def _lean_row(
    server: ServerHealth, now: datetime, settings: Settings, usual: str, *, with_expiry: bool
) -> LeanServerRow:
    return LeanServerRow(
        server_id=server.server_id,
        server=_short(server.name),
        verdict=server.verdict if server.verdict != usual else None,
        restore_to=server.restore_to.id if server.restore_to else None,
        age=age(server.restore_to.created_at, now) if server.restore_to else None,
        expires_at=_expiry(server) if with_expiry else None,
        backups=server.total,
        size_mb=round(server.size_mb),
        flags=_flags(server, settings),
    )


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"


def _usual_verdict(servers: Sequence[ServerHealth]) -> str:
    counts = Counter(server.verdict for server in servers)
    return counts.most_common(1)[0][0] if counts else ""


def _totals(fleet: FleetHealth) -> dict[str, int]:
    verdicts = Counter(server.verdict for server in fleet.servers)
    by_verdict = {verdict: verdicts[verdict] for verdict in get_args(Verdict)}
    sums = {name: sum(getattr(server, name) for server in fleet.servers) for name in _SUMMED}
    left_out = {"orphaned_backups": len(fleet.orphans), "ignored_servers": fleet.ignored}
    return {
        "servers": len(fleet.servers),
        **by_verdict,
        "backups": sum(server.total for server in fleet.servers),
        **sums,
        "size_mb": round(sum(server.size_mb for server in fleet.servers)),
        **{name: count for name, count in left_out.items() if count},
    }


def _summary(fleet: FleetHealth) -> str:
    """How many have a fresh good backup, how many have not, and of how many that is not known."""
    counts = Counter("yes" if server.fresh else server.verdict for server in fleet.servers)
    orphaned, unknown = counts["orphaned"], counts["cannot_tell"]
    checked = len(fleet.servers) - orphaned
    said = "No server was found, so there is nothing to check"
    if checked:
        hours, lacking = fleet.max_age // timedelta(hours=1), checked - counts["yes"] - unknown
        said = f"Of {plural(checked, 'server')} {counts['yes']} {_have(counts['yes'])} a good backup younger than "
        said += f"{hours} h"
        said += f", {lacking} {_have(lacking)} not" if lacking else ""
    if unknown:
        said += f"; of {unknown} it cannot be told"
    elif fleet.missing and checked:
        said += ", as far as could be read"
    if left_out := [f"{count} {kind}" for kind, count in (("orphaned", orphaned), ("ignored", fleet.ignored)) if count]:
        said += f"; not counted: {' and '.join(left_out)}"
    return f"{said}."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


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
    if report.orphaned_backups:
        lines.append(f"orphaned_backups: {orphans_told(report)}")
    lines += table(report.servers)
    if report.others:
        lines.append(f"others, {report.others_verdict} unless said:")
        lines += table(report.others)
    if report.not_shown:
        lines.append(f"not_shown: {report.not_shown}")
    return "\n".join([*lines, f"next_step: {report.next_step}"])


def orphans_told(report: FleetReport) -> str:
    """Which backups belong to no server, as a clause."""
    ids = report.orphaned_backups or []
    more = report.totals.get("orphaned_backups", 0) - len(ids)
    return f"{', '.join(map(str, ids))}{f' and {more} more' if more else ''} of no server"
