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


Verdict = Literal["ok", "stale", "no_good_backup"]
"""Whether a server's newest good backup is young enough, too old, or not there."""

STUCK = timedelta(hours=6)
"""A backup in progress for longer than this is not expected to finish any more."""

EXPIRY_WARNING = timedelta(days=7)
"""How long before a server's last restore point expires it is told."""

_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class ServerHealth:
    """What the backups of one server are worth now.

    Attributes:
        listed: VPS.org has it in its list of servers; None when that could not be told.
        restore_to: The newest good backup, which is the one to restore; None if there is none.
        reasons: Why that one and none that is newer, and what else needs attention; our words, with ids and numbers.
        troubled: Something needs attention beyond the verdict.
        total: All its backups; each is either completed, in progress, stuck or failed.
        good: Of the completed, those that count.
        size_mb: MB in total, as far as sizes are known.
    """

    server_id: int
    server_name: str
    verdict: Verdict
    restore_to: Backup | None
    reasons: tuple[str, ...]
    troubled: bool
    total: int
    good: int
    completed: int
    in_progress: int
    stuck: int
    failed: int
    size_mb: float

    @property
    def needs_attention(self) -> bool:
        return self.troubled or self.verdict != "ok"
