"""What is seen of the account before anything is said of it: for the tools that read, the command and the resources."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from math import inf
from typing import NamedTuple

from mcp_backups.api import VpsClient
from mcp_backups.api.servers import is_absent, read_servers, require_server, server_named
from mcp_backups.errors import InvalidArgumentError
from mcp_backups.health import LEDGER_UNREAD, Doubts, is_stuck
from mcp_backups.models import Backup, Listing, Server
from mcp_backups.operations import Context, is_protected
from mcp_backups.operations.reconciliation import LEDGER_AWAY
from mcp_backups.settings import Settings

ReadDoubts = Callable[[Listing[Backup]], Awaitable[Doubts | None]]
"""Which of these backups a deletion was sent for; None where that cannot be known now."""

_SPARE_SECONDS = 1.0
"""What is left of a call's time when the list of servers is given up, for the answer without it."""


class AccountObservation(NamedTuple):
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

    def server_meant(self, server_id: int, server_name: str) -> int:
        """The one server that is asked for, by its id or by a name that it bears; 0 for all.

        Raises:
            InvalidArgumentError: The name fits several.
            NotFoundError: There certainly is no such server, and nothing left of one.
            ProtocolError: Not everything could be read, so that cannot be told.
        """
        if server_name:
            return server_named(server_name, self.backups, self.servers)
        if server_id:
            require_server(server_id, self.backups, self.servers)
        return server_id

    def flags(self, backup: Backup, settings: Settings) -> list[str] | None:
        """What a backup's own fields do not tell of it; None where there is nothing to tell."""
        flags: list[str] = []
        if doubt := (self.doubts or {}).get(backup.id):
            flags.append(doubt)
        if is_stuck(backup, self.now):
            flags.append("stuck")
        if not backup.server_id or is_absent(backup.server_id, self.servers):
            flags.append("orphaned")
        if is_protected(settings, backup.server_id) or backup.id in settings.protected_backups:
            flags.append("protected")
        if backup.keep:
            flags.append("keep")
        return flags or None


async def observe_account(
    api: VpsClient,
    read_doubts: ReadDoubts,
    server_id: int = 0,
    backup_type: str = "",
    seconds_left: Callable[[], float] = lambda: inf,
    *,
    servers_anew: bool = True,
) -> AccountObservation:
    """Look at the backups, of one server (0 = all) and one type (empty = both), at the servers and the ledger.

    Args:
        api: VPS.org.
        read_doubts: Looks into the ledger.
        server_id: The one server.
        backup_type: The one type.
        seconds_left: How long it may take.
        servers_anew: Whether the servers are read also where the last complete list of them had every server that there
            is to tell of. A page of backups need not ask twice to say that no row is orphaned.

    Raises:
        ApiError: The backups could not be read.
    """
    backups = await api.list_backups(server_id, backup_type)
    told = {backup.server_id for backup in backups.rows} | {server_id}
    servers = api.last_servers
    if servers_anew or servers is None or not told <= servers.ids | {0}:
        servers = await read_servers(api, seconds_left() - _SPARE_SECONDS)
    return AccountObservation(backups, servers, await read_doubts(backups), api.moment().latest)


async def observe_for(
    context: Context, server_id: int = 0, backup_type: str = "", *, servers_anew: bool = True
) -> AccountObservation:
    """The same for a call, in the time that it has.

    Raises:
        ApiError: The backups could not be read, or not in time.
    """
    with context.reading():
        observed = await observe_account(
            context.api,
            partial(known_doubts, context),
            server_id,
            backup_type,
            lambda: context.seconds_left,
            servers_anew=servers_anew,
        )
    if not server_id and not backup_type:
        context.meter.seen(observed.backups, observed.doubts or {}, observed.now)
    return observed


async def known_doubts(context: Context, backups: Listing[Backup]) -> Doubts | None:
    """For which of these backups a deletion was sent; None where the ledger cannot be read. Makes no ledger."""
    try:
        return await context.doubtful(backups) if context.ledger.exists() else {}
    except (*LEDGER_AWAY, OSError):
        return None


async def one_server(context: Context, server_id: int, server_name: str) -> int:
    """The one server that a write is about, by its id or by a name that it bears.

    Raises:
        InvalidArgumentError: Both are given or neither is, or the name fits several.
        ApiError: VPS.org has none of that name, or could not be asked.
    """
    if bool(server_id) == bool(server_name):
        raise InvalidArgumentError("Give one of server_id and server_name.", "list_backups shows both.")
    if server_id:
        return server_id
    with context.reading(before_sending=True):
        backups, servers = await context.api.list_backups(), await read_servers(context.api)
    return server_named(server_name, backups, servers)
