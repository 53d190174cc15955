"""`mcp-backups check`: whether every server has a fresh good backup, for a terminal, cron, CI and what monitors them.

`--prometheus FILE` puts what was found where Prometheus' node exporter collects it. `--ping URL` tells a monitor that a
check begins, and how it ended, as healthchecks.io wants it: such a monitor also notices when nothing is told any more,
which no program can tell of itself.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import get_args
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx2
from rich.table import Table
from rich.text import Text

from mcp_backups.api import Network, client_for
from mcp_backups.clock import Clock, system_clock
from mcp_backups.commands.terminal import ACCENT, fits, hanging, open_console, printable
from mcp_backups.errors import ApiError, AuthFailedError, ConfigError, NotFoundError
from mcp_backups.health import Doubts, FleetHealth, FleetVerdict, Verdict
from mcp_backups.ledger import open_for_audit
from mcp_backups.metrics import MOST_SERVERS
from mcp_backups.models import Backup, Identity, Listing
from mcp_backups.operations import LEDGER_AWAY, Operation, doubts_in
from mcp_backups.settings import Settings
from mcp_backups.tools.checking import FleetReport, ServerRow, fleet_of, fleet_report, orphans_told
from mcp_backups.tools.observation import observe_account

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


# What a monitor is told

_PING_SECONDS = 5.0
"""For one attempt to tell a monitor."""

_ATTEMPTS = 3

_PAUSE_SECONDS = 1.0

_ONE_CONNECTION = httpx2.Limits(max_connections=1, max_keepalive_connections=0)


class Ping:
    """What a monitor is told. Nothing of it goes wrong for its caller; what fails is a line on standard error.

    Args:
        url: The monitor's address, which is a secret and never shown: whoever knows it can call off an alarm.
        network: The way there.
        clock: Waits between attempts.
    """

    def __init__(self, url: str, network: Network, clock: Clock) -> None:
        self._url = url
        self._network = network
        self._clock = clock

    async def start(self) -> None:
        """A check begins. Told once: the check is not kept waiting for it."""
        await self._tell("/start", attempts=1)

    async def end(self, *, ok: bool) -> None:
        """How it ended."""
        await self._tell("" if ok else "/fail", attempts=_ATTEMPTS)

    async def _tell(self, what: str, attempts: int) -> None:
        fault = ""
        for number in range(attempts):
            if number:
                await self._clock.sleep(_PAUSE_SECONDS)
            fault = await self._ask(what)
            if not fault:
                return
        sys.stderr.write(f"mcp-backups: The monitor that --ping names was not told: {fault}.\n")

    async def _ask(self, what: str) -> str:
        """Why it was not told; empty if it was."""
        parts = urlsplit(self._url)
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + what))
        try:
            with anyio.fail_after(_PING_SECONDS):
                transport = self._network.transport(url, self._network.trust(url), _ONE_CONNECTION)
                async with transport:
                    response = await transport.handle_async_request(httpx2.Request("GET", url))
                    await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            return type(error).__name__  # its words may quote the address
        return "" if response.is_success else f"HTTP {response.status_code}"


# What the textfile collector of Prometheus' node exporter is told

_METRICS_MODE = 0o644  # the exporter is another user


def write_metrics(path: Path, fleet: FleetHealth | None, now: datetime) -> None:
    """Put the file there at once, so that no half of it is ever collected.

    Args:
        path: The file.
        fleet: What the check found; None if VPS.org could not be read.
        now: UTC, when it was made.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    text = "".join(f"{line}\n" for line in metric_lines(fleet, now))
    # Of another ending than .prom: the collector reads whatever has that.
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8") as fresh:
        try:
            fresh.write(text)
            fresh.close()
            Path(fresh.name).chmod(_METRICS_MODE)
            os.replace(fresh.name, path)  # noqa: PTH105 - its error names the file that cannot be replaced
        except BaseException:
            fresh.close()
            Path(fresh.name).unlink(missing_ok=True)
            raise


def metric_lines(fleet: FleetHealth | None, now: datetime) -> Iterator[str]:
    """The lines, in Prometheus' text format.

    Of a server that cannot be judged there is no line on whether it has a fresh backup: that is not known to be wrong.
    """
    yield from _gauge("check_timestamp_seconds", "When the check was made.", [("", round(now.timestamp()))])
    verdict: FleetVerdict = fleet.verdict if fleet else "cannot_tell"
    yield from _gauge(
        "check_verdict",
        "1 for what holds: every server has a fresh good backup, one has not, or it cannot be told.",
        [(_label("verdict", each), int(each == verdict)) for each in get_args(FleetVerdict)],
    )
    if fleet is None:
        return
    counts = Counter(server.verdict for server in fleet.servers)
    yield from _gauge(
        "servers", "Servers by verdict.", [(_label("verdict", each), counts[each]) for each in get_args(Verdict)]
    )
    told = [server for server in fleet.servers if server.verdict != "orphaned"][:MOST_SERVERS]
    yield from _gauge(
        "server_has_fresh_backup",
        "Whether the server has a good backup that is young enough.",
        [(_server(each.server_id), int(each.fresh)) for each in told if each.verdict != "cannot_tell"],
    )
    yield from _gauge(
        "newest_good_backup_timestamp_seconds",
        "When the server's newest good backup was made.",
        [(_server(each.server_id), round(each.restore_to.created_at.timestamp())) for each in told if each.restore_to],
    )


def _gauge(name: str, about: str, samples: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP mcp_backups_{name} {about}"
    yield f"# TYPE mcp_backups_{name} gauge"
    yield from (f"mcp_backups_{name}{labels} {value}" for labels, value in samples)


def _label(name: str, value: str) -> str:
    return f'{{{name}="{value}"}}'


def _server(server_id: int) -> str:
    return _label("server_id", str(server_id))
