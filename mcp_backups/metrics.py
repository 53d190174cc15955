"""What is counted while a server runs: nothing is asked of VPS.org for it, and every label has few values."""

from collections.abc import Collection, Container
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mcp_backups.health import is_good
from mcp_backups.models import Backup, Listing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

MOST_SERVERS = 1000
"""Of how many servers of an account is told; of more, of those whose newest good backup is oldest."""

_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_NEWEST = "mcp_backups_newest_good_backup_timestamp_seconds"
_ACCOUNT = "account"
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
    """Counts for Prometheus, for each account apart.

    Raises:
        ImportError: The extra `metrics` is not installed.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram  # noqa: PLC0415 - an extra

        self._registry = CollectorRegistry()
        self.calls = Counter(
            "mcp_backups_tool_calls",
            "Calls of tools, by outcome: an error's code, an operation's status, or ok.",
            [_ACCOUNT, "tool", "outcome"],
            registry=self._registry,
        )
        self.requests = Histogram(
            "mcp_backups_upstream_request_seconds",
            "Requests to VPS.org, by endpoint and outcome: a status, or what went wrong.",
            [_ACCOUNT, "endpoint", "outcome"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._accounts: dict[str, _OfAccount] = {}

    def of(self, account: str) -> Meter:
        """What counts for one of several accounts; for the one that there is under an empty name."""
        return self._accounts.setdefault(account, _OfAccount(account, self))

    def exposition(self, accounts: Collection[str]) -> tuple[bytes, str]:
        """All that is counted for these accounts as text, and its media type."""
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest  # noqa: PLC0415

        return generate_latest(_Of(accounts, self)), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self, accounts: Collection[str]) -> "Iterator[Metric]":
        """What is counted for these accounts."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if each.labels[_ACCOUNT] in accounts]
            yield metric
        newest = GaugeMetricFamily(
            _NEWEST, "When each server's newest good backup was made.", labels=[_ACCOUNT, "server_id"]
        )
        listed = GaugeMetricFamily(_LISTED, "When all backups were listed last.", labels=[_ACCOUNT])
        for name, account in self._accounts.items():
            if name in accounts and account.listed:
                listed.add_metric([name], account.listed.timestamp())
                for server_id, made in account.newest.items():
                    newest.add_metric([name, str(server_id)], made.timestamp())
        yield from (newest, listed)


class _Of(NamedTuple):
    """What is exposed of some accounts."""

    accounts: Collection[str]
    counted: Prometheus

    def collect(self) -> "Iterator[Metric]":
        return self.counted.collect(self.accounts)


class _OfAccount:
    """Counts for one account.

    Attributes:
        newest: When the newest good backup of each server was made, by the last complete list.
        listed: When that was read.
    """

    def __init__(self, name: str, counted: Prometheus) -> None:
        self._name, self._counted = name, counted
        self.newest: dict[int, datetime] = {}
        self.listed: datetime | None = None

    def called(self, tool: str, outcome: str) -> None:
        self._counted.calls.labels(self._name, tool, outcome).inc()

    def asked(self, endpoint: str, outcome: str, seconds: float) -> None:
        self._counted.requests.labels(self._name, endpoint, outcome).observe(seconds)

    def seen(self, backups: Listing[Backup], doubtful: Container[int], now: datetime) -> None:
        if not backups.complete:
            return
        newest: dict[int, datetime] = {}
        for backup in backups.rows:
            if is_good(backup, now, doubtful):
                newest[backup.server_id] = max(backup.created_at, newest.get(backup.server_id, backup.created_at))
        oldest_first = sorted(newest.items(), key=lambda each: each[1])
        self.newest, self.listed = dict(oldest_first[:MOST_SERVERS]), now
