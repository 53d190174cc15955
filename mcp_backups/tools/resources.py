"""What a client can read without calling a tool: the policy in force, one server's backups, the last operations."""

import json
import re
from collections.abc import Mapping
from typing import Any

from mcp_types import (
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)
from pydantic import Field

from mcp_backups.access import caller
from mcp_backups.api.servers import server_name
from mcp_backups.errors import InvalidArgumentError
from mcp_backups.models import MAX_ID, Answer, BackupRow, Told
from mcp_backups.operations import GOOD, Context
from mcp_backups.operations.operation import Operation
from mcp_backups.settings import Approval, Settings
from mcp_backups.text import age, stamp
from mcp_backups.tools.answers import fitted, row
from mcp_backups.tools.boundary import RequestContext, bounded
from mcp_backups.tools.observation import observe_for
from mcp_backups.tools.reading import flagged

POLICY_URI = "backups://policy"
OPERATIONS_URI = "backups://operations"
SERVER_URI = "backups://servers/{server_id}"

_JSON = "application/json"
_SERVER = re.compile(r"backups://servers/([^/?#]*)")
_ID = re.compile(r"[0-9]{1,16}")
_MOST_BACKUPS = 100
_MOST_OPERATIONS = 20

_RESOURCES = (
    Resource(
        uri=POLICY_URI,
        name="policy",
        title="The policy in force",
        description="What may be changed here, who consents to it, what is protected, and how much within an hour.",
        mime_type=_JSON,
    ),
    Resource(
        uri=OPERATIONS_URI,
        name="operations",
        title="The last operations",
        description=f"The last {_MOST_OPERATIONS} backups made, deletes and restores, and what became of each.",
        mime_type=_JSON,
    ),
)
_TEMPLATES = (
    ResourceTemplate(
        uri_template=SERVER_URI,
        name="server_backups",
        title="The backups of one server",
        description=f"The backups of the VPS.org server of that id, newest first; {_MOST_BACKUPS} at most, or as many "
        "as fit.",
        mime_type=_JSON,
    ),
)

_APPROVAL: dict[Approval, str] = {
    "auto": "The user is asked where the client can ask; elsewhere a destructive call counts only with confirm=true "
    "and the operation_id of the plan that was shown.",
    "plan": "A destructive call counts only with confirm=true and the operation_id of the plan that was shown.",
    "human": "A destructive call counts only after a person's answer: the user's where the client can ask, else of "
    "somebody who decides outside this chat.",
    "operator": "A destructive call counts only after somebody has decided outside this chat.",
    "flag": "A destructive call counts with confirm=true.",
}

JsonObject = Mapping[str, Any]


class ServerBackups(Answer):
    """The backups of one server, newest first: those that fit, and how many more there are."""

    as_of: str
    server_id: int
    server: str
    total: int
    not_shown: Told[int] = 0
    complete: bool
    missing: Told[list[str]] = Field(default_factory=list)
    backups: list[BackupRow]


async def list_resources(_: RequestContext, __: PaginatedRequestParams | None) -> ListResourcesResult:
    return ListResourcesResult(resources=list(_RESOURCES))


async def list_resource_templates(_: RequestContext, __: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
    return ListResourceTemplatesResult(resource_templates=list(_TEMPLATES))


@bounded
async def read_resource(context: RequestContext, params: ReadResourceRequestParams) -> ReadResourceResult:
    document = await _document(context.lifespan_context.for_a_call(caller(context.request).name), params.uri)
    text = json.dumps(document, ensure_ascii=False)
    return ReadResourceResult(contents=[TextResourceContents(uri=params.uri, mime_type=_JSON, text=text)])


async def _document(context: Context, uri: str) -> JsonObject:
    if uri == POLICY_URI:
        return _policy(context.settings)
    if uri == OPERATIONS_URI:
        return await _operations(context)
    if server := _SERVER.fullmatch(uri):
        return (await _backups(context, _server_id(server[1]))).model_dump(mode="json")
    raise InvalidArgumentError(
        "There is no resource of that address.", f"Read {POLICY_URI}, {OPERATIONS_URI} or {SERVER_URI}."
    )


def _server_id(raw: str) -> int:
    server_id = int(raw) if _ID.fullmatch(raw) else 0
    if not 1 <= server_id <= MAX_ID:
        raise InvalidArgumentError(f"server_id must be an integer from 1 to {MAX_ID}.", "list_backups shows the ids.")
    return server_id


def _policy(settings: Settings) -> JsonObject:
    """The rules as they are; how one could be lifted is between the operator and the settings."""
    return {
        "read_only": settings.read_only,
        "approval": settings.approval,
        "approval_means": _APPROVAL[settings.approval],
        "servers": sorted(settings.servers) or "all",
        "servers_means": "Only these may be changed; all are read.",
        "protected_servers": sorted(settings.protected_servers),
        "protected_backups": sorted(settings.protected_backups),
        "protected_means": "Of a protected server nothing is deleted or restored; a protected backup, and one with "
        "[keep] in its description, is not deleted.",
        "keep_min": settings.keep_min,
        "keep_min_means": "Proven backups that a delete leaves on a server at least. Proven means good, and not made "
        f"through mcp-backups within the last 24 h; good means {GOOD}.",
        "ignored_servers": sorted(settings.ignored_servers),
        "ignored_means": "These are left out of checks of all servers.",
        "safety_backup_required": settings.require_safety_backup,
        "budgets": {
            "deletes_per_hour": settings.deletes_per_hour,
            "deletes_per_day": settings.deletes_per_day,
            "restores_per_server_per_hour": settings.restores_per_hour,
            "creates_per_hour": settings.creates_per_hour,
        },
        "budgets_mean": "What may be sent at most. Taking back the last restore of a server, once, is outside of them.",
        "decided_by": "The operator of mcp-backups alone; no argument of a tool changes a rule.",
    }


async def _operations(context: Context) -> JsonObject:
    told = context.may_be_told
    operations = await context.ledger.read(lambda entries: entries.find(limit=_MOST_OPERATIONS, wanted=told))
    return {
        "as_of": stamp(context.now),
        "operations": [_operation(operation, context) for operation in operations],
        "next_step": "get_operation with an operation_id shows one in full.",
    }


def _operation(operation: Operation, context: Context) -> JsonObject:
    now = context.moment()
    told = {
        "operation_id": operation.id,
        "action": operation.action,
        "status": "expired" if operation.is_expired(now) else operation.status,
        "changed": operation.changed,
        "server_id": operation.server_id,
        "server": operation.server_name,
        "backup_id": operation.backup_id,
        "planned_at": stamp(operation.created.wall),
        "age": age(operation.created.wall, now.wall),
        "sent_at": stamp(operation.sent.wall) if operation.sent else "",
        "asked_by": operation.principal,
        "approved_by": operation.approved_by,
        "error": operation.error_code,
    }
    return {name: value for name, value in told.items() if value}


async def _backups(context: Context, server_id: int) -> ServerBackups:
    observed = await observe_for(context, server_id)
    backups, servers, _, now = observed
    observed.server_meant(server_id, "")
    missing = observed.missing_for(server_id)
    if not backups.rows:
        missing += servers.missing_for(server_id)
    newest = sorted(backups.rows, key=lambda backup: (backup.created_at, backup.id), reverse=True)

    def document(count: int) -> ServerBackups:
        return ServerBackups(
            as_of=stamp(now),
            server_id=server_id,
            server=server_name(server_id, backups, servers),
            total=len(newest),
            not_shown=len(newest) - count,
            complete=not missing,
            missing=missing,
            backups=[flagged(row(backup, now), observed.flags(backup, context.settings)) for backup in newest[:count]],
        )

    return fitted(document, lambda _: "", min(len(newest), _MOST_BACKUPS))
