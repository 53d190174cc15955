"""`mcp-backups check`: whether every server has a fresh good backup, for a terminal, cron and CI."""

import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
from rich.table import Table
from rich.text import Text

from mcp_backups.api import Network, client_for
from mcp_backups.clock import Clock, system_clock
from mcp_backups.commands.ping import Ping
from mcp_backups.commands.prometheus import write_metrics
from mcp_backups.commands.terminal import ACCENT, fits, hanging, open_console, printable
from mcp_backups.errors import ApiError, AuthFailedError, ConfigError, NotFoundError
from mcp_backups.health import Doubts, FleetHealth, FleetVerdict
from mcp_backups.ledger import open_for_audit
from mcp_backups.models import Backup, Identity, Listing
from mcp_backups.operations import LEDGER_AWAY, Operation, doubts_in
from mcp_backups.settings import Settings
from mcp_backups.tools.checking import fleet_of, fleet_report, orphans_told
from mcp_backups.tools.observation import observe_account
from mcp_backups.tools.reports import FleetReport, ServerRow

EXIT_CODES: dict[FleetVerdict, int] = {"ok": 0, "not_ok": 1, "cannot_tell": 3}
"""`cannot_tell`: while nothing is known to be wrong, VPS.org or the ledger could not be read, or there is no server.

2 is kept for wrong usage and settings.
"""

_STYLES: dict[str, str] = {
    "ok": "",
    "at_risk": ACCENT,
    "stale": "red",
    "no_good_backup": "bold red",
    "cannot_tell": "red",
    "orphaned": ACCENT,
}
_NOTHING = {"cannot_tell": "cannot tell what to restore.", "orphaned": "no server to restore."}


def check(
    settings: Settings,
    max_age: timedelta,
    server_id: int,
    *,
    as_json: bool,
    metrics: Path | None = None,
    ping: str | None = None,
    clock: Clock | None = None,
) -> int:
    """Print what every server's backups are worth. Returns the exit code.

    Args:
        settings: The account.
        max_age: What the newest good backup of each server must be younger than; whole hours.
        server_id: The one server to check, 0 for all.
        as_json: Print one JSON object, also when VPS.org cannot be read.
        metrics: A file to write for Prometheus.
        ping: Address of a monitor to tell of the check.
        clock: Where time comes from; the machine's if none is given.

    Raises:
        ConfigError: A setting is wrong, or the file cannot be written.
    """
    clock = clock or system_clock()
    found = anyio.run(_watched, settings, max_age, server_id, ping, clock)
    fleet = None if isinstance(found, ApiError) else found
    fault = _write(metrics, fleet, clock) if metrics else ""
    if isinstance(found, ApiError):
        _print_failure(_for_people(found, server_id), as_json=as_json)
    else:
        _print(found, settings, as_json=as_json)
    if fault:
        raise ConfigError(fault)
    return EXIT_CODES[fleet.verdict if fleet else "cannot_tell"]


def _print(fleet: FleetHealth, settings: Settings, *, as_json: bool) -> None:
    report = fleet_report(fleet, settings, in_full=True)
    if as_json:
        sys.stdout.write(report.model_dump_json() + "\n")
    elif sys.stdout.isatty():
        _print_table(report)
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(report))


def _write(metrics: Path, fleet: FleetHealth | None, clock: Clock) -> str:
    """Why the file could not be written; empty if it was."""
    try:
        write_metrics(metrics, fleet, fleet.now if fleet else clock.wall())
    except OSError as error:
        return f"--prometheus names a file that cannot be written: {error.strerror or error}."
    return ""


async def _watched(
    settings: Settings, max_age: timedelta, server_id: int, ping: str | None, clock: Clock
) -> FleetHealth | ApiError:
    """What was found, or why VPS.org could not be read. A monitor, if there is one, is told of both."""
    monitor = Ping(ping, Network.of(settings), clock) if ping else None
    found: FleetHealth | ApiError | None = None
    if monitor:
        await monitor.start()
    try:
        found = await _read(settings, max_age, server_id, clock)
    except ApiError as error:
        found = error
    finally:
        if monitor:
            await monitor.end(ok=isinstance(found, FleetHealth) and found.verdict == "ok")
    return found


async def _read(settings: Settings, max_age: timedelta, server_id: int, clock: Clock) -> FleetHealth:
    async with client_for(settings, clock) as api:

        async def read_doubts(backups: Listing[Backup]) -> Doubts | None:
            try:
                with open_for_audit(settings, Operation) as entries:
                    return {} if entries is None else doubts_in(entries, backups, Identity(api.address), api.moment())
            except LEDGER_AWAY:
                return None

        observed = await observe_account(api, read_doubts, server_id)
        return fleet_of(observed, max_age, server_id, settings.ignored_servers)


def _for_people(error: ApiError, server_id: int) -> str:
    """The same, with what somebody at a terminal can do next; what stands in it is for a model, which calls tools."""
    if isinstance(error, AuthFailedError):
        return str(error)
    looks = "`mcp-backups doctor` looks for the cause."
    next_step = "Without --server it tells of all." if server_id and isinstance(error, NotFoundError) else looks
    return str(type(error)(error.what, next_step, said=error.said))


def _print_failure(told: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"verdict": "cannot_tell", "summary": told}) + "\n")
    else:
        sys.stderr.write(f"cannot_tell: {told}\n")


def _lines(report: FleetReport) -> Iterator[str]:
    """A line a server, so that they can be searched and counted."""
    yield f"{report.verdict}: {report.summary} {report.as_of}"
    yield from _remarks(report)
    yield from map(_line, report.servers)


def _line(row: ServerRow) -> str:
    return f"{row.verdict}: {row.server_id} {printable(row.server)}: {_told(row)} {row.reason}"


def _told(row: ServerRow) -> str:
    if row.restore_to:
        return f"restore to {row.restore_to} of {row.created_at} ({row.age})."
    return _NOTHING.get(row.verdict, "nothing to restore.")


def _remarks(report: FleetReport) -> Iterator[str]:
    for clause in report.missing:
        yield f"incomplete: {clause}"
    if report.orphaned_backups:
        yield f"orphaned: {orphans_told(report)}"


def _print_table(report: FleetReport) -> None:
    console = open_console()
    console.print(Text(f"{report.verdict}: {report.summary}", style="" if report.verdict == "ok" else "bold red"))
    for remark in _remarks(report):
        console.print(Text(remark, style="red" if report.missing else ACCENT))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("verdict", "server", "name", "restore to", "made (UTC)", "age"):
        table.add_column(name, no_wrap=True)
    table.add_column("reason")
    for row in report.servers:
        backup = str(row.restore_to or "-")
        cells = (str(row.server_id), printable(row.server), backup, row.created_at or "-", row.age or "-", row.reason)
        table.add_row(Text(row.verdict, style=_STYLES[row.verdict]), *(Text(each) for each in cells))
    if fits(table, console, console.width):
        console.print(table)
        return
    for row in report.servers:
        console.print(hanging(Text(_line(row), style=_STYLES[row.verdict]), console, console.width))
