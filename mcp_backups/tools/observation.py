"""What is seen of the account before anything is said of it: for the tools that read, the command and the resources."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from math import inf
from typing import NamedTuple

from mcp_backups.api import VpsClient
from mcp_backups.api.servers import is_absent, read_servers
from mcp_backups.health import LEDGER_UNREAD, Doubts, is_stuck
from mcp_backups.models import Backup, Listing, Server
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.settle import LEDGER_AWAY

ReadDoubts = Callable[[Listing[Backup]], Awaitable[Doubts | None]]
"""Which of these backups a deletion was sent for; None where that cannot be known now."""

_SPARE_SECONDS = 1.0
"""What is left of a call's time when the list of servers is given up, for the answer without it."""


class Observation(NamedTuple):
    """What was seen, all of it at about the same time.

    Attributes:
        doubts: For which of the backups a deletion was sent; None where that is not known.
        now: UTC, when it was read.
    """

    backups: Listing[Backup]
    servers: Listing[Server]
    doubts: Doubts | None
    now: datetime

    def missing_for(self, server_id: int) -> list[str]:
        """What is not known of the backups of one server, or of all (0), one clause each."""
        return [*self.backups.missing_for(server_id), *([] if self.doubts is not None else [LEDGER_UNREAD])]

    def flags(self, backup: Backup) -> list[str] | None:
        """What a backup's own fields do not tell of it; None where there is nothing to tell."""
        flags: list[str] = []
        if doubt := (self.doubts or {}).get(backup.id):
            flags.append(doubt)
        if is_stuck(backup, self.now):
            flags.append("stuck")
        if not backup.server_id or is_absent(backup.server_id, self.servers):
            flags.append("orphaned")
        return flags or None


async def observe(
    api: VpsClient,
    read_doubts: ReadDoubts,
    server_id: int = 0,
    backup_type: str = "",
    seconds_left: Callable[[], float] = lambda: inf,
) -> Observation:
    """Look at the backups, of one server (0 = all) and one type (empty = both), at the servers and the ledger.

    Raises:
        ApiError: The backups could not be read.
    """
    backups = await api.list_backups(server_id, backup_type)
    servers = await read_servers(api, seconds_left() - _SPARE_SECONDS)
    return Observation(backups, servers, await read_doubts(backups), api.moment().latest)


async def observe_for(desk: Desk, server_id: int = 0, backup_type: str = "") -> Observation:
    """The same for a call, in the time that it has.

    Raises:
        ApiError: The backups could not be read, or not in time.
    """
    with desk.reading():
        return await observe(desk.api, partial(known_doubts, desk), server_id, backup_type, lambda: desk.seconds_left)


async def known_doubts(desk: Desk, backups: Listing[Backup]) -> Doubts | None:
    """For which of these backups a deletion was sent; None where the ledger cannot be read. Makes no ledger."""
    try:
        return await desk.doubtful(backups) if desk.ledger.path.exists() else {}
    except (*LEDGER_AWAY, OSError):
        return None
