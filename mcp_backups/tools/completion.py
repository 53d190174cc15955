"""What fits the argument being typed: ids of servers and backups, and times of backups; never a name."""

import logging
import re

from mcp_types import CompleteRequestParams, CompleteResult, Completion, PromptReference

from mcp_backups.api.servers import as_compared, read_servers
from mcp_backups.errors import ApiError, InvalidArgumentError
from mcp_backups.health import is_good
from mcp_backups.models import Backup
from mcp_backups.operations import Context
from mcp_backups.text import stamp
from mcp_backups.tools.boundary import RequestContext, bounded
from mcp_backups.tools.observation import known_doubts
from mcp_backups.tools.prompts import way_named
from mcp_backups.tools.resources import SERVER_URI

log = logging.getLogger(__name__)

_ID = re.compile(r"[0-9]{1,15}")
_MOST = 100
"""Values in one answer, by the protocol."""


@bounded
async def complete(request: RequestContext, params: CompleteRequestParams) -> CompleteResult:
    """Values that begin as what was typed; for a server also those whose name does. None where VPS.org cannot be read.

    Raises:
        MCPError: There is no such prompt or resource template.
    """
    _check_reference(params)
    others = (params.context.arguments if params.context else None) or {}
    typed = params.argument.value.strip()
    try:
        values = await _values(request.lifespan_context, params.argument.name, typed, others.get("server", ""))
    except ApiError as error:
        log.info("completion: %s", error.code)
        values = []
    completion = Completion(values=values[:_MOST], total=len(values), has_more=len(values) > _MOST)
    return CompleteResult(completion=completion)


def _check_reference(params: CompleteRequestParams) -> None:
    if isinstance(params.ref, PromptReference):
        way_named(params.ref.name)
    elif params.ref.uri != SERVER_URI:
        raise InvalidArgumentError("There is no resource template of that address.", f"There is {SERVER_URI}.")


async def _values(context: Context, argument: str, typed: str, server_id: str) -> list[str]:
    if argument in {"server", "server_id"}:
        return await _server_ids(context, typed)
    if argument != "point":
        return []
    backups = await _good_backups(context, server_id)
    values = [*(str(backup.id) for backup in backups), *(stamp(backup.created_at) for backup in backups)]
    return [value for value in dict.fromkeys(values) if value.startswith(typed)]


async def _server_ids(context: Context, typed: str) -> list[str]:
    """Of the servers that VPS.org lists, and of those that have backups, where it does not list them all."""
    servers = await read_servers(context.api)
    names = {server.id: server.name for server in servers.rows}
    if not servers.complete:
        backups = await context.api.list_backups()
        names |= {backup.server_id: backup.server_name for backup in backups.rows if backup.server_id}
    wanted = as_compared(typed)
    fits = (each for each, name in names.items() if str(each).startswith(typed) or as_compared(name).startswith(wanted))
    return [str(each) for each in sorted(fits)]


async def _good_backups(context: Context, server_id: str) -> list[Backup]:
    """The newest first; of one server where its id is known already."""
    known = int(server_id) if _ID.fullmatch(server_id) else 0
    backups = await context.api.list_backups(known)
    doubts = await known_doubts(context, backups) or {}
    good = (backup for backup in backups.rows if backup.server_id and is_good(backup, context.now, doubts))
    return sorted(good, key=lambda backup: (backup.created_at, backup.id), reverse=True)
