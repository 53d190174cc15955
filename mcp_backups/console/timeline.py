"""The fleet as a timeline: a row a server, a mark a backup. Pure: what was observed in, what is drawn out."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args

from mcp_backups.health import FleetHealth, ServerHealth, by_age, fault_of
from mcp_backups.models import MANUAL, Backup
from mcp_backups.text import plural
from mcp_backups.tools.observation import AccountObservation

SPAN = timedelta(days=31)

Kind = Literal["good", "in_progress", "stuck", "failed", "doubtful", "expiring", "unusable"]
"""What a mark's shape and colour tell; `unusable` is every other fault."""

_KINDS: dict[str, Kind] = {
    "": "good",
    "still in progress": "in_progress",
    "not known to be completed": "in_progress",
    "stuck": "stuck",
    "failed": "failed",
    "being deleted": "doubtful",
    "doubtful, since its deletion was asked for": "doubtful",
    "expired": "expiring",
    "expiring within 24 h": "expiring",
}
_DAY = timedelta(days=1)


class Mark(NamedTuple):
    """One backup.

    Attributes:
        word: The same as its kind tells, in words.
        at: Where it stands, in percent of the span from its beginning; below 0 for one that is older.
    """

    backup: Backup
    kind: Kind
    word: str
    at: float

    @property
    def is_manual(self) -> bool:
        return self.backup.type == MANUAL


class TimelineRow(NamedTuple):
    """One server.

    Attributes:
        health: What its backups are worth.
        marks: Of all its backups, the newest first.
    """

    health: ServerHealth
    marks: tuple[Mark, ...]

    @property
    def drawn(self) -> list[Mark]:
        """Those within the span; what is wrong comes last, and so is not hidden by another."""
        return sorted((mark for mark in self.marks if mark.at >= 0), key=lambda mark: mark.kind != "good")

    @property
    def told(self) -> str:
        """The drawing in words, for whoever does not see it."""
        counts = Counter(mark.kind for mark in self.drawn)
        kinds = ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in get_args(Kind) if counts[kind])
        return f"{plural(len(self.drawn), 'backup')} within 31 days" + (f": {kinds}" if kinds else "")


class Tick(NamedTuple):
    """The beginning of a day, UTC; of a Monday with its date."""

    at: float
    label: str


def rows(fleet: FleetHealth, observed: AccountObservation) -> list[TimelineRow]:
    """A row for each server of the fleet, in its order: the worst first."""
    of_server: defaultdict[int, list[Backup]] = defaultdict(list)
    for backup in observed.backups.rows:
        of_server[backup.server_id].append(backup)
    return [
        TimelineRow(
            server,
            tuple(_mark(each, observed) for each in sorted(of_server[server.server_id], key=by_age, reverse=True)),
        )
        for server in fleet.servers
    ]


def ticks(now: datetime) -> Iterator[Tick]:
    """The days of the span, the oldest first."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in reversed(range(SPAN // _DAY)):
        day = midnight - days * _DAY
        yield Tick(_place(day, now), f"{day.day} {day:%b}" if day.weekday() == 0 else "")


def _mark(backup: Backup, observed: AccountObservation) -> Mark:
    word = fault_of(backup, observed.now, observed.doubts or {})
    return Mark(backup, _KINDS.get(word, "unusable"), word or "good", _place(backup.created_at, observed.now))


def _place(moment: datetime, now: datetime) -> float:
    return round(min(100 * (1 - (now - moment) / SPAN), 100.0), 2)
