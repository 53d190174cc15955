"""What is counted while a server runs: nothing is asked of VPS.org for it, and every label has few values."""

from collections.abc import Container
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from mcp_backups.health import is_good
from mcp_backups.models import Backup, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

MOST_SERVERS = 1000
"""Of how many servers is told; of more, of those whose newest good backup is oldest."""

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_NEWEST = "mcp_backups_newest_good_backup_timestamp_seconds"
_LISTED = "mcp_backups_last_complete_list_timestamp_seconds"


class Meter(Protocol):
    """What is told of what goes on."""

    def called(self, tool: str, outcome: str) -> None:
        """A tool was called; outcome: an error's code, an operation's status, or `ok`."""
        ...

    def asked(self, endpoint: str, outcome: str, seconds: float) -> None:
        """VPS.org was asked; endpoint: method and path without ids; outcome: a status, or what went wrong."""
        ...

    def seen(self, backups: Listing[Backup], doubtful: Container[int], now: datetime) -> None:
        """All backups were listed."""
        ...


class Unmetered:
    """Counts nothing."""

    def called(self, tool: str, outcome: str) -> None: ...

    def asked(self, endpoint: str, outcome: str, seconds: float) -> None: ...

    def seen(self, backups: Listing[Backup], doubtful: Container[int], now: datetime) -> None: ...


class Prometheus:
    """Counts for Prometheus.

    Raises:
        ImportError: The extra `metrics` is not installed.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram  # noqa: PLC0415 - an extra

        self._registry = CollectorRegistry()
        self._calls = Counter(
            "mcp_backups_tool_calls",
            "Calls of tools, by outcome: an error's code, an operation's status, or ok.",
            ["tool", "outcome"],
            registry=self._registry,
        )
        self._requests = Histogram(
            "mcp_backups_upstream_request_seconds",
            "Requests to VPS.org, by endpoint and outcome: a status, or what went wrong.",
            ["endpoint", "outcome"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._newest: dict[int, datetime] = {}
        self._listed: datetime | None = None
        self._registry.register(self)

    def called(self, tool: str, outcome: str) -> None:
        self._calls.labels(tool, outcome).inc()

    def asked(self, endpoint: str, outcome: str, seconds: float) -> None:
        self._requests.labels(endpoint, outcome).observe(seconds)

    def seen(self, backups: Listing[Backup], doubtful: Container[int], now: datetime) -> None:
        if not backups.complete:
            return
        newest: dict[int, datetime] = {}
        for backup in backups.rows:
            if is_good(backup, now, doubtful):
                newest[backup.server_id] = max(backup.created_at, newest.get(backup.server_id, backup.created_at))
        oldest_first = sorted(newest.items(), key=lambda each: each[1])
        self._newest, self._listed = dict(oldest_first[:MOST_SERVERS]), now

    def collect(self) -> "Iterator[Metric]":
        """What is told of the last complete list."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        newest = GaugeMetricFamily(_NEWEST, "When each server's newest good backup was made.", labels=["server_id"])
        for server_id, made in self._newest.items():
            newest.add_metric([str(server_id)], made.timestamp())
        yield newest
        if self._listed:
            yield GaugeMetricFamily(_LISTED, "When all backups were listed last.", value=self._listed.timestamp())

    def exposition(self) -> tuple[bytes, str]:
        """All of it as text, and its media type."""
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415

        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4
