"""What VPS.org really did, kept apart from what anybody was told."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mcp_backups.sandbox import Fleet, large_fleet
from mcp_backups.sandbox.fleet import Backup, Restore

SERVERS = (1, 2, 3)


@dataclass
class WatchedFleet(Fleet):
    """A fleet that remembers every change that a request made.

    Attributes:
        made: Every backup started: its id and description.
        gone: Every backup deleted by a request.
        touched: Servers where somebody else changed something as well.
    """

    made: list[tuple[int, str]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    others_at_work: bool = False

    def start_backup(self, server_id: int, description: str, now: datetime, seconds: float) -> Backup:
        backup = super().start_backup(server_id, description, now, seconds)
        if self.others_at_work:
            self.touched.add(server_id)
        else:
            self.made.append((backup.id, description))
        return backup

    def delete_backup(self, backup_id: int) -> None:
        server_id = self.backups[backup_id].server_id
        super().delete_backup(backup_id)
        if self.others_at_work:
            self.touched.add(server_id)
        else:
            self.gone.append(backup_id)

    def restored(self, server_id: int, backup_id: int) -> list[Restore]:
        return [each for each in self.restores if (each.server_id, each.backup_id) == (server_id, backup_id)]

    def good_on(self, server_id: int, now: datetime) -> list[Backup]:
        """Completed, not empty, and not about to expire: by the truth, not by what anybody was shown."""
        return [
            backup
            for backup in self.backups_of(server_id)
            if backup.status == "completed"
            and backup.size_mb
            and (backup.expires_at is None or backup.expires_at > now)
        ]

    @contextmanager
    def others(self) -> Iterator[None]:
        """What happens inside is the doing of somebody else."""
        self.others_at_work = True
        try:
            yield
        finally:
            self.others_at_work = False


def small_fleet(now: datetime) -> WatchedFleet:
    """Three servers with two good backups each, days old: few enough that the last ones come into danger."""
    fleet = large_fleet(len(SERVERS), 2 * len(SERVERS), now - timedelta(days=3))
    return WatchedFleet(servers=fleet.servers, backups=fleet.backups)
