"""Which backups of a server a set of keep rules keeps. Pure: facts in, rulings out.

The rules are those of restic (`forget`) and borg (`prune`): keep-last keeps the newest backups whatever their dates;
keep-daily, -weekly and -monthly keep the newest backup of each of the last days, ISO weeks or months that have one.
A period without a backup takes up no place. While a daily, weekly or monthly rule still has a place free, it keeps the
oldest backup too, so that a history can grow into it. The rules do not know of each other, as in restic: what one of
them keeps is kept. Days, weeks and months are those of UTC.

Only a good backup takes up a place: completed, with a known size above 0, not expiring within 24 h, not dated in the
future, and without a deletion that may still take effect. One that failed or is empty is kept by no rule. Left alone,
so that no mistake can lose anything: one of any status but completed and failed, since nobody knows what it will come
to; one completed of unknown size or expiry, or dated in the future; one that is empty and so young that its size may
only not have been told yet; one that is about to expire by itself; and one that is doubtful, for which a deletion was
sent already.
"""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mcp_backups.errors import InvalidArgumentError
from mcp_backups.health import EXPIRES_SOON, STUCK, by_age, expires_within, is_good, is_in_future
from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, Backup
from mcp_backups.text import plural


@dataclass(frozen=True)
class Keep:
    """How many backups each rule keeps, and the age in days up to which all are kept; 0 = there is no such rule.

    Raises:
        InvalidArgumentError: One is below 0, or none is above.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    older_than_days: int = 0

    def __post_init__(self) -> None:
        rules = (self.last, self.daily, self.weekly, self.monthly, self.older_than_days)
        names = "keep_last, keep_daily, keep_weekly, keep_monthly and older_than_days"
        if min(rules) < 0:
            raise InvalidArgumentError(f"{names} must be 0 or more.")
        if not any(rules):
            raise InvalidArgumentError(
                f"{names} are all 0, which would keep nothing.", "Call again with at least one of them above 0."
            )


class Ruling(NamedTuple):
    """What becomes of one backup; where both are empty, nothing keeps it.

    Attributes:
        kept_by: Each rule that keeps it, in words: `keep-last 3`, `keep-daily 2026-11-22`, `younger than 30 days`.
        left_alone: Why it is no candidate: `in progress`.
    """

    backup: Backup
    kept_by: tuple[str, ...]
    left_alone: str = ""


def rulings(
    backups: Iterable[Backup],
    keep: Keep,
    now: datetime,
    doubtful: Container[int] = (),
    *,
    earliest: datetime | None = None,
) -> list[Ruling]:
    """What the rules say of each backup, newest first.

    Args:
        backups: Backups of one server, in any order; only those given take up places.
        keep: The rules.
        now: UTC; of several clocks the one ahead.
        doubtful: Ids of the backups whose deletion was sent and may still take effect.
        earliest: Of several clocks the one behind, by which nothing seems older than it may be.

    Raises:
        ValueError: The backups are of several servers, whose histories must not crowd each other out.
    """
    ordered = sorted(backups, key=by_age, reverse=True)
    if len({backup.server_id for backup in ordered}) > 1:
        raise ValueError("backups of several servers")
    good = [backup for backup in ordered if is_good(backup, now, doubtful)]
    earliest = earliest or now
    kept_by: dict[int, list[str]] = {backup.id: [] for backup in ordered}
    for backup in good[: keep.last]:
        kept_by[backup.id].append(f"keep-last {keep.last}")
    for name, places, period in _periodic(keep):
        for backup, label in _newest_of_each(good, places, period):
            kept_by[backup.id].append(f"{name} {label}")
    for backup in ordered:
        if keep.older_than_days and earliest - backup.created_at < timedelta(days=keep.older_than_days):
            kept_by[backup.id].append(f"younger than {plural(keep.older_than_days, 'day')}")
    return [
        Ruling(backup, tuple(kept_by[backup.id]), _left_alone(backup, now, earliest, doubtful)) for backup in ordered
    ]


def _periodic(keep: Keep) -> Iterator[tuple[str, int, Callable[[datetime], str]]]:
    yield "keep-daily", keep.daily, lambda moment: moment.date().isoformat()
    yield "keep-weekly", keep.weekly, _iso_week
    yield "keep-monthly", keep.monthly, lambda moment: moment.date().isoformat()[: len("2026-11")]


def _iso_week(moment: datetime) -> str:
    """`2026-W53`; the first and last days of a calendar year may be of the ISO year beside it."""
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02d}"


def _newest_of_each(good: list[Backup], places: int, period: Callable[[datetime], str]) -> Iterator[tuple[Backup, str]]:
    """The newest backup of each of the last periods, of a list that is newest first; and the oldest, if places stay."""
    newest: dict[str, Backup] = {}
    for backup in good:
        newest.setdefault(period(backup.created_at.astimezone(UTC)), backup)
    periods = list(newest.items())
    yield from ((backup, label) for label, backup in periods[:places])
    if periods and len(periods) < places and periods[-1][1] is not good[-1]:
        yield good[-1], f"{periods[-1][0]} (oldest)"


def _left_alone(backup: Backup, now: datetime, earliest: datetime, doubtful: Container[int]) -> str:
    """Why a backup that takes up no place is nevertheless not to be deleted, if it is not."""
    is_full = backup.status == COMPLETED and backup.size_mb != 0
    reasons = {
        "its deletion was sent before": backup.id in doubtful,
        "in progress": backup.status == IN_PROGRESS,
        "it is not known what its status means": backup.status not in {COMPLETED, FAILED, IN_PROGRESS},
        "size unknown": is_full and backup.size_mb is None,
        "its size may not be told yet": (
            backup.status == COMPLETED and not backup.size_mb and earliest - backup.created_at < STUCK
        ),
        "it cannot be read when it expires": is_full and "expires_at" in backup.unreadable,
        "expires by itself": is_full and expires_within(backup, EXPIRES_SOON, now),
        "dated in the future": backup.status == COMPLETED and is_in_future(backup, now),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
