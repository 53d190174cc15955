"""The account's state: its servers, their backups, the restores that were applied, and the tokens.

Time passes only in `Fleet.settle`: whoever is about to look calls it first, so an injected clock rules everything.
What a backup was before each change is kept, and what was deleted too, for lists that lag behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

SANDBOX_TOKEN = "vps_sandbox_0000000000000000000000000000"  # noqa: S105 - it opens nothing but a sandbox
"""The token every fleet knows unless told otherwise; it may do everything. It opens nothing but a sandbox."""

AUTOMATIC_LIFETIME = timedelta(days=31)
"""How long an automatic backup is kept (the documented example: 16 January to 16 February)."""

FAILED = ("failed", "error")
"""The words for a backup that came to nothing, and so never has a size."""

END_OF_TIME = datetime.max.replace(tzinfo=UTC)
"""Settling up to here finishes all that can be finished."""


def utc_now() -> datetime:
    """The real clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Plan:
    """What a server costs: virtual processors, memory in MB, storage in GB."""

    id: int
    name: str
    vcpus: int
    memory: int
    storage: int


@dataclass
class Server:
    """One server, and what the sandbox alone knows of it.

    `disk` is the id of the backup restored last (None: never restored); `restoring_until` is set while a restore runs.
    """

    id: int
    name: str
    hostname: str
    ip_address: str
    location: str
    plan: Plan
    os: str
    created_at: datetime
    updated_at: datetime
    status: str = "active"
    password: str = "root-password-never-to-be-shown"  # noqa: S105 - of no server there is
    disk: int | None = None
    restoring_until: datetime | None = None


@dataclass
class Backup:
    """One backup; any word may stand as its status.

    ready_at: when it will be finished; None if it is, has failed, or is stuck. becomes: its status then.
    size_seconds: by how much later than that its size is known. since, was: its last change, and what it was before.
    """

    id: int
    server_id: int
    created_at: datetime
    backup_type: str = "automatic"
    status: str = "completed"
    size_mb: int | None = None
    expires_at: datetime | None = None
    description: str = "Automatic daily backup"
    ready_at: datetime | None = None
    becomes: str = "completed"
    size_seconds: float = 0.0
    since: datetime | None = field(default=None, repr=False)
    was: "Backup | None" = field(default=None, repr=False)

    def as_of(self, moment: datetime) -> "Backup | None":
        """What it was at a moment; None if there was no such backup yet."""
        version: Backup | None = self
        while version is not None and version.since is not None and version.since > moment:
            version = version.was
        return version


@dataclass(frozen=True)
class Restore:
    """One restore as it was applied: the server's disk became what the backup held."""

    server_id: int
    backup_id: int
    started_at: datetime
    ends_at: datetime


@dataclass
class Fleet:
    """Everything the account holds. Tests read it, and may write it too.

    `restores` is in the order of application. `tokens` maps a token to its permissions (`resource:action`).
    `deleted` tells when each backup was deleted, as far as that was said.
    """

    servers: dict[int, Server] = field(default_factory=dict)
    backups: dict[int, Backup] = field(default_factory=dict)
    restores: list[Restore] = field(default_factory=list)
    tokens: dict[str, list[str]] = field(default_factory=lambda: {SANDBOX_TOKEN: ["*:*"]}, repr=False)
    last_backup_id: int = 0
    deleted: list[tuple[datetime, Backup]] = field(default_factory=list)

    def backups_of(self, server_id: int) -> Iterator[Backup]:
        """The backups of one server, in no order."""
        return (backup for backup in self.backups.values() if backup.server_id == server_id)

    def settle(self, now: datetime) -> None:
        """Let the time up to `now` have passed: what is due by then is finished."""
        for backup in self.backups.values():
            while backup.ready_at is not None and backup.ready_at <= now:
                self._go_on(backup, backup.ready_at)
        for server in self.servers.values():
            if server.restoring_until is not None and server.restoring_until <= now:
                server.status, server.restoring_until = "active", None

    def backups_at(self, moment: datetime) -> list[Backup]:
        """The backups as they were at a moment, in no order."""
        known = (*self.backups.values(), *(backup for when, backup in self.deleted if when > moment))
        return [then for backup in known if (then := backup.as_of(moment)) is not None]

    def start_backup(
        self,
        server_id: int,
        description: str,
        now: datetime,
        seconds: float,
        statuses: tuple[str, str] = ("in_progress", "completed"),
        size_seconds: float = 0.0,
    ) -> Backup:
        """Begin a manual backup that will take `seconds`. Ids are never used twice, not even after a delete.

        statuses: its status until it is finished, and then. size_seconds: by how much later its size is known.
        """
        self.last_backup_id = max(self.last_backup_id, *self.backups, 0) + 1
        backup = Backup(
            id=self.last_backup_id,
            server_id=server_id,
            created_at=now.replace(microsecond=0),
            backup_type="manual",
            status=statuses[0],
            description=description,
            ready_at=now + timedelta(seconds=seconds),
            becomes=statuses[1],
            size_seconds=size_seconds,
            since=now,
        )
        self.backups[backup.id] = backup
        return backup

    def delete_backup(self, backup_id: int, now: datetime | None = None) -> None:
        """Delete a backup for good, and remember its id as used. Without a time, no list will lag behind with it."""
        self.last_backup_id = max(self.last_backup_id, *self.backups)
        backup = self.backups.pop(backup_id)
        if now is not None:
            self.deleted.append((now, backup))

    def start_restore(self, server_id: int, backup_id: int, now: datetime, seconds: float) -> Restore:
        """Put a backup on a server's disk; the server says "restoring" for `seconds`."""
        server = self.servers[server_id]
        restore = Restore(server_id, backup_id, now, now + timedelta(seconds=seconds))
        server.status, server.restoring_until, server.updated_at = "restoring", restore.ends_at, now
        server.disk = backup_id
        self.restores.append(restore)
        return restore

    def _go_on(self, backup: Backup, now: datetime) -> None:
        """Finish one backup, or measure it: a little larger than its server's largest, at first a tenth of the disk."""
        backup.was, backup.since = replace(backup), now
        if backup.size_seconds and backup.status != backup.becomes:
            backup.status, backup.ready_at = backup.becomes, now + timedelta(seconds=backup.size_seconds)
            return
        backup.status, backup.ready_at = backup.becomes, None
        if backup.status in FAILED:
            return
        sizes = [other.size_mb for other in self.backups_of(backup.server_id) if other.size_mb is not None]
        storage_gb = self.servers[backup.server_id].plan.storage
        backup.size_mb = max(sizes) + 11 if sizes else storage_gb * 100
