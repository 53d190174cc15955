"""`check --prometheus FILE`: what a check found, for the textfile collector of Prometheus' node exporter."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import get_args

from mcp_backups.health import FleetHealth, FleetVerdict, Verdict
from mcp_backups.metrics import MOST_SERVERS

_MODE = 0o644  # the exporter is another user


def write_metrics(path: Path, fleet: FleetHealth | None, now: datetime) -> None:
    """Put the file there at once, so that no half of it is ever collected.

    Args:
        path: The file.
        fleet: What the check found; None if VPS.org could not be read.
        now: UTC, when it was made.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    text = "".join(f"{line}\n" for line in metrics(fleet, now))
    # Of another ending than .prom: the collector reads whatever has that.
    with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8") as fresh:
        try:
            fresh.write(text)
            fresh.close()
            Path(fresh.name).chmod(_MODE)
            os.replace(fresh.name, path)  # noqa: PTH105 - its error names the file that cannot be replaced
        except BaseException:
            fresh.close()
            Path(fresh.name).unlink(missing_ok=True)
            raise


def metrics(fleet: FleetHealth | None, now: datetime) -> Iterator[str]:
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
