"""The tools that change the account; every write goes through `operations`."""

from typing import Annotated

from pydantic import Field

from mcp_backups.actions import create, delete, prune, restore
from mcp_backups.actions.safety import MOST_WAIT, Waiting
from mcp_backups.models import MAX_ID, OperationAnswer
from mcp_backups.retention import Keep
from mcp_backups.tools.answers import can_show, operation_answer
from mcp_backups.tools.observation import one_server
from mcp_backups.tools.reading import WaitSeconds
from mcp_backups.tools.tool import ToolCall

ServerId = Annotated[int, Field(ge=1, le=MAX_ID, description="Server id from list_backups, 1 to 2^53-1.")]
ServerIdOrName = Annotated[
    int, Field(ge=0, le=MAX_ID, description="Server id, up to 2^53-1; 0 (default) if server_name is given.")
]
NameOfServer = Annotated[
    str,
    Field(max_length=200, description='Its name, or a beginning that only one name has; "" (default) for server_id.'),
]
BackupId = Annotated[int, Field(ge=1, le=MAX_ID, description="Backup id from list_backups, 1 to 2^53-1.")]
Description = Annotated[
    str,
    Field(
        max_length=create.MAX_DESCRIPTION,
        description='What the backup is for, one line of at most 150 characters; "" (default) for none.',
    ),
]
AllowDuplicate = Annotated[
    bool,
    Field(description="true to start another backup although the same was asked for within 10 minutes; default false."),
]
SafetyBackup = Annotated[
    bool, Field(description="Make a safety backup first unless one under an hour old exists; default true.")
]
Confirm = Annotated[bool, Field(description="true only after the user agreed to the plan; false (default) only plans.")]
RestoreWait = Annotated[
    int,
    Field(
        ge=0,
        le=MOST_WAIT,
        description="Seconds to wait for the safety backup, then for the server, 0 to 35 (default).",
    ),
]
KeepCount = Annotated[
    int, Field(ge=0, le=1000, description="How many this rule keeps, 0 (default, no such rule) to 1000.")
]
OlderThan = Annotated[
    int,
    Field(ge=0, le=36_500, description="Only what is older than so many days goes, 0 (default, any age) to 36500."),
]
PlanId = Annotated[
    str, Field(max_length=40, description='operation_id of the plan being confirmed; "" (default) for a new plan.')
]


async def create_backup(
    call: ToolCall,
    server_id: ServerIdOrName = 0,
    server_name: NameOfServer = "",
    description: Description = "",
    wait_seconds: WaitSeconds = 0,
    allow_duplicate: AllowDuplicate = False,
) -> OperationAnswer:
    """Start a manual backup (snapshot) of one VPS.org server, given by its id or its name.

    Use it before a change, or where the newest backup is stale; restore_server makes its own safety backup. It takes
    minutes: wait with wait_seconds, or follow it with get_operation. Nothing is lost. The operation's id is added to
    the description. The same request within 10 minutes returns the first one's operation instead of a second backup.
    Returns the operation with the backup's id: accepted means started, succeeded means finished.
    """
    result = await create.create(
        call.context,
        await one_server(call.context, server_id, server_name),
        description,
        allow_duplicate=allow_duplicate,
        wait_seconds=wait_seconds,
        report=call.report_progress,
    )
    return operation_answer(result, call.context)


async def delete_backup(
    call: ToolCall, backup_id: BackupId, confirm: Confirm = False, operation_id: PlanId = ""
) -> OperationAnswer:
    """Delete one backup (snapshot) of a VPS.org server for good; it cannot be undone.

    Use it for a single backup that is no longer needed; prune_backups cleans up many by rules. Without confirm it
    changes nothing and returns a plan: which backup, how old, what is left. With confirm=true and the plan's
    operation_id it deletes, once. Refused when the server would keep too few good backups. Returns the operation.
    """
    result = await delete.delete(
        call.context, backup_id, confirm=confirm, operation_id=operation_id, person=call.person
    )
    return operation_answer(result, call.context)


async def restore_server(
    call: ToolCall,
    server_id: ServerId,
    backup_id: BackupId,
    safety_backup: SafetyBackup = True,
    wait_seconds: RestoreWait = MOST_WAIT,
    confirm: Confirm = False,
    operation_id: PlanId = "",
) -> OperationAnswer:
    """Restore (roll back) a VPS.org server to one of its own completed backups; what was written since is lost.

    Use it after a failed change or a loss of data; check_backups recommends the backup. Without confirm it changes
    nothing and returns a plan. With confirm=true and the plan's operation_id it makes a safety backup if no recent one
    exists, waits for it and restores, once; while it answers preparing, the same call goes on. Returns the operation
    with the server's status and the way to undo it.
    """
    result = await restore.restore(
        call.context,
        server_id,
        backup_id,
        safety_backup=safety_backup,
        waiting=Waiting(wait_seconds, call.report_progress, call.is_wanted),
        confirm=confirm,
        operation_id=operation_id,
        person=call.person,
    )
    return operation_answer(result, call.context)


async def prune_backups(
    call: ToolCall,
    server_id: ServerId,
    keep_last: KeepCount = 0,
    keep_daily: KeepCount = 0,
    keep_weekly: KeepCount = 0,
    keep_monthly: KeepCount = 0,
    older_than_days: OlderThan = 0,
    confirm: Confirm = False,
    operation_id: PlanId = "",
) -> OperationAnswer:
    """Clean up the manual backups (snapshots) of one VPS.org server by retention rules; deleted ones are gone for good.

    Use it for old backups in bulk; for one use delete_backup. Keeps the union of the rules, in days, ISO weeks and
    months of UTC; older_than_days narrows what goes. Automatic backups, unknown statuses and [keep] stay. Without
    confirm it changes nothing and returns a plan: to_delete, kept with the rule, later. With confirm=true and the
    plan's operation_id it deletes, past refusals, until an outcome is unknown. Returns the operation.
    """
    keep = Keep(keep_last, keep_daily, keep_weekly, keep_monthly, older_than_days)
    result = await prune.prune(
        call.context,
        server_id,
        keep,
        can_show=can_show,
        confirm=confirm,
        operation_id=operation_id,
        person=call.person,
        report=call.report_progress,
    )
    return operation_answer(result, call.context)
