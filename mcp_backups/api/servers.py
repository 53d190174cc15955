"""Which servers there are, and which one is meant: answered once for all who ask, and only as far as it can be told."""

from math import inf

import anyio

from mcp_backups.errors import ApiError, ConfigError, InvalidArgumentError, NotFoundError, ProtocolError
from mcp_backups.models import Backup, Gap, Listing, Server
from mcp_backups.text import listed, seen

from .client import VpsClient

_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"))
"""As word processors and models set them, in names that are looked up; one that is typed as consent is exact."""

_NAMED_AT_MOST = 20
_NAME_CHARS = 40
"""Of a name in a sentence."""
_SEE_ALL = "Call check_backups to see every server."


async def read_servers(api: VpsClient, seconds: float = inf) -> Listing[Server]:
    """The servers; where they cannot be read, nothing but that gap, since the backups alone still tell most.

    Args:
        api: VPS.org.
        seconds: How long that may take.
    """
    reason = "in time"
    with anyio.move_on_after(seconds):
        try:
            servers = await api.list_servers()
        except (ApiError, ConfigError) as error:
            reason = f"({error.code})"
        else:
            gaps = (Gap(f"of the servers: {gap.what}", gap.server_id) for gap in servers.gaps)
            return Listing(servers.rows, tuple(gaps))
    gap = f"the list of servers could not be read {reason}, so servers without any backup are not known"
    return Listing((), (Gap(gap),))


def is_absent(server_id: int, servers: Listing[Server]) -> bool:
    """Whether VPS.org certainly has no such server: only then is what is left of it orphaned."""
    return servers.complete_for(server_id) and all(server.id != server_id for server in servers.rows)


def require_server(server_id: int, backups: Listing[Backup], servers: Listing[Server]) -> None:
    """Pass if there is, or may be, such a server or something left of it.

    Raises:
        NotFoundError: There certainly is neither.
    """
    has_backup = any(backup.server_id == server_id for backup in backups.rows)
    if not has_backup and backups.complete_for(server_id) and is_absent(server_id, servers):
        raise NotFoundError(f"VPS.org has no server {server_id}.", _SEE_ALL)


def server_name(server_id: int, backups: Listing[Backup], servers: Listing[Server]) -> str:
    """What the list of servers calls a server, else its newest backup that names it; empty if neither does."""
    for server in servers.rows:
        if server.id == server_id and server.name:
            return server.name
    named = [backup for backup in backups.rows if backup.server_id == server_id and backup.server_name]
    return max(named, key=lambda backup: (backup.created_at, backup.id)).server_name if named else ""


def server_named(name: str, backups: Listing[Backup], servers: Listing[Server]) -> int:
    """The id of the one server of that name or, if all could be read, of that beginning of a name, as people see it.

    A server that was renamed has each name that its backups and the list of servers bear.

    Raises:
        InvalidArgumentError: It fits several, or shows nothing.
        NotFoundError: There certainly is none.
        ProtocolError: None was found, but not everything could be read.
    """
    wanted = as_compared(name)
    if not wanted:
        raise InvalidArgumentError(
            "server_name holds no visible character.", "Give a name, or server_id; check_backups shows both."
        )
    borne = {(backup.server_id, backup.server_name) for backup in backups.rows if backup.server_id}
    borne |= {(server.id, server.name) for server in servers.rows}
    names = [(server_id, as_compared(known)) for server_id, known in borne]
    found = {server_id for server_id, known in names if known == wanted}
    if not found and not servers.missing:  # else one that could not be read may have that very name
        found = {server_id for server_id, known in names if known.startswith(wanted)}
    if len(found) == 1:
        return found.pop()
    if found:
        ids = sorted(found)
        told = [f"{each} ({server_name(each, backups, servers)[:_NAME_CHARS]})" for each in ids[:_NAMED_AT_MOST]]
        raise InvalidArgumentError(
            f"server_name fits several servers: {listed([*told, *ids[_NAMED_AT_MOST:]], _NAMED_AT_MOST)}.",
            "Call again with one of these ids as server_id.",
        )
    if missing := backups.missing + servers.missing:
        raise ProtocolError(
            f"Cannot tell whether a server has that name: none that could be read has it, but {'; '.join(missing)}.",
            "Call again with server_id; check_backups shows what can be read.",
        )
    raise NotFoundError("No server has that name, and no backup is of one that had it.", _SEE_ALL)


def as_compared(name: str) -> str:
    """A name as it is compared with others: as people see it, whatever the case and the kind of hyphen."""
    return seen(seen(name).casefold()).translate(_HYPHENS)
