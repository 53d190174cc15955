"""What VPS.org really did, kept apart from what anybody was told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from mcp_backups.sandbox import SANDBOX_TOKEN, Fleet, large_fleet
from mcp_backups.sandbox.fleet import Backup, Restore

SERVERS = (1, 2, 3)
OTHER_TOKEN, READER_TOKEN = "vps_histories_other_token", "vps_histories_reader_token"
TOKENS = {SANDBOX_TOKEN: ["*:*"], OTHER_TOKEN: ["*:*"], READER_TOKEN: ["backups:read", "servers:read"]}
"""Of one account: two that may do everything, and one that may only look."""

MADE_TODAY = timedelta(hours=24)
STARTED = ("in_progress", "completed")


@dataclass
class WatchedFleet(Fleet):
    """A fleet that remembers every change that a request made.

    Attributes:
        made: Every backup started: its id and description.
        gone: Every backup deleted by a request.
        robbed: Servers where somebody else deleted or spoilt something.
        emptied: Servers of which a request deleted the last proven backup, and that backup.
    """

    made: list[tuple[int, str]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    robbed: set[int] = field(default_factory=set)
    emptied: list[tuple[int, int]] = field(default_factory=list)
    others_at_work: bool = False

    def start_backup(
        self,
        server_id: int,
        description: str,
        now: datetime,
        seconds: float,
        statuses: tuple[str, str] = STARTED,
        size_seconds: float = 0.0,
    ) -> Backup:
        backup = super().start_backup(server_id, description, now, seconds, statuses, size_seconds)
        if not self.others_at_work:
            self.made.append((backup.id, description))
        return backup

    def delete_backup(self, backup_id: int, now: datetime | None = None) -> None:
        assert now is not None
        server_id = self.backups[backup_id].server_id
        was_proven = backup_id in self.proven_on(server_id, now)
        super().delete_backup(backup_id, now)
        if self.others_at_work:
            self.robbed.add(server_id)
            return
        self.gone.append(backup_id)
        if was_proven and server_id not in self.robbed and not self.proven_on(server_id, now):
            self.emptied.append((server_id, backup_id))

    def restored(self, server_id: int, backup_id: int) -> list[Restore]:
        return [each for each in self.restores if (each.server_id, each.backup_id) == (server_id, backup_id)]

    def good(self, now: datetime) -> dict[int, int]:
        """What can be restored, by the truth and not by what anybody was shown: ids, and the server of each."""
        return {
            backup.id: backup.server_id
            for backup in self.backups.values()
            if backup.status == "completed"
            and backup.size_mb
            and (backup.expires_at is None or backup.expires_at > now)
        }

    def proven_on(self, server_id: int, now: datetime) -> set[int]:
        """The good ones of a server, without those that a request made within the last 24 h."""
        today = {number for number, _ in self.made if number in self.backups and self._is_of_today(number, now)}
        return {number for number, server in self.good(now).items() if server == server_id} - today

    def _is_of_today(self, backup_id: int, now: datetime) -> bool:
        return now - self.backups[backup_id].created_at < MADE_TODAY

    @contextmanager
    def others(self) -> Iterator[None]:
        """What happens inside is the doing of somebody else."""
        self.others_at_work = True
        try:
            yield
        finally:
            self.others_at_work = False


def small_fleet(now: datetime, kind: str = "plain") -> WatchedFleet:
    """Three servers with few backups each, days old, so that the last ones come into danger.

    Args:
        now: The time.
        kind: One of `KINDS`.
    """
    fleet = large_fleet(len(SERVERS), 2 * len(SERVERS), now - timedelta(days=3))
    watched = WatchedFleet(servers=fleet.servers, backups=fleet.backups, tokens=dict(TOKENS))
    if kind == "manual":
        for backup in fleet.backups.values():
            backup.backup_type, backup.expires_at, backup.description = "manual", None, "Before an update"
    if kind in ("manual", "mixed"):
        for number, (server_id, change) in enumerate(MORE[kind], start=7):
            watched.backups[number] = replace(_manual(number, server_id, now), **change(now))
    return watched


def _manual(number: int, server_id: int, now: datetime) -> Backup:
    made = (now - timedelta(hours=25, minutes=number)).replace(microsecond=0)
    return Backup(number, server_id, made, "manual", size_mb=4000, description="Before a change")


KINDS = ("plain", "manual", "mixed")
"""Two good backups each; three good ones each that are all manual; and such as VPS.org may have beside good ones."""

MORE: dict[str, list[tuple[int, Callable[[datetime], dict[str, Any]]]]] = {
    "manual": [(server_id, lambda _: {}) for server_id in SERVERS],
    "mixed": [
        (1, lambda _: {"status": "available"}),
        (1, lambda now: {"status": "queued", "size_mb": None, "ready_at": now + timedelta(hours=1)}),
        (2, lambda now: {"expires_at": now + timedelta(hours=25)}),
        (2, lambda _: {"status": "failed", "size_mb": None}),
        (2, lambda _: {"status": "error", "size_mb": None}),
        (3, lambda _: {"status": "in_progress", "size_mb": None}),
        (3, lambda _: {"size_mb": None}),
        (3, lambda _: {"status": "COMPLETED"}),
    ],
}
"""What there is beside the six: the server of each, and what is special about it."""
