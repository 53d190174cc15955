"""Which backups can be relied on. Pure: facts in, judgement out."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from mcp_backups.models import COMPLETED, Backup

EXPIRES_SOON = timedelta(hours=24)
"""A backup that expires within this time is not counted on any more."""

FRESH = timedelta(hours=24)
"""A backup made here within this time is not counted on yet: nobody has had time to find it bad."""

_CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a backup may seem to have been made."""


def is_restorable(backup: Backup) -> bool:
    """Whether the backup is finished and holds something: completed, with a known size above 0."""
    return backup.status == COMPLETED and bool(backup.size_mb)


def expires_within(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether the backup has expired, or will within `span`."""
    return backup.expires_at is not None and backup.expires_at <= now + span


def is_good(backup: Backup, now: datetime, made_here: Collection[int] = ()) -> bool:
    """Whether the backup counts as a restore point to rely on.

    Args:
        backup: The backup.
        now: UTC.
        made_here: Ids of the backups made through this server within the last 24 h.
    """
    return is_restorable(backup) and not expires_within(backup, EXPIRES_SOON, now) and backup.id not in made_here


def is_younger(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether the backup was made within `span`; false for one from further in the future than clocks differ."""
    return -_CLOCK_SKEW <= now - backup.created_at < span


def newest(backups: Iterable[Backup]) -> Backup | None:
    """The latest by creation time; neither the highest id nor the first row need be it."""
    return max(backups, key=lambda backup: (backup.created_at, backup.id), default=None)
