"""The tools that change the account; every write goes through `operations`."""

from typing import Annotated

from pydantic import Field

from mcp_backups.actions import create, delete, prune, restore
from mcp_backups.models import MAX_ID, OperationAnswer
from mcp_backups.retention import Keep
from mcp_backups.tools.answers import operation_answer
from mcp_backups.tools.reading import WaitSeconds
from mcp_backups.tools.tool import ToolCall

ServerId = Annotated[int, Field(ge=1, le=MAX_ID, description="Server id from list_backups, 1 to 2^53-1.")]
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
KeepCount = Annotated[
    int, Field(ge=0, le=1000, description="How many this rule keeps, 0 (default, no such rule) to 1000.")
]
PlanId = Annotated[
    str, Field(max_length=40, description='operation_id of the plan being confirmed; "" (default) for a new plan.')
]


async def create_backup(
    call: ToolCall,
    server_id: ServerId,
    description: Description = "",
    wait_seconds: WaitSeconds = 0,
    allow_duplicate: AllowDuplicate = False,
) -> OperationAnswer:
    """Start a manual backup (snapshot) of one VPS.org server.

    Use it before a change, or where the newest backup is stale; restore_server makes its own safety backup. It takes
    minutes: wait with wait_seconds, or follow it with get_operation. Nothing is lost. The same request within 10
    minutes returns the first one's operation instead of a second backup. Returns the operation with the backup's id:
    accepted means started, succeeded means finished.
    """
    result = await create.create(
        call.context,
        server_id,
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
    confirm: Confirm = False,
    operation_id: PlanId = "",
) -> OperationAnswer:
    """Restore (roll back) a VPS.org server to one of its own completed backups; what was written since is lost.

    Use it after a failed change or a loss of data; check_backups recommends the backup. Without confirm it changes
    nothing and returns a plan. With confirm=true and the plan's operation_id it first makes a safety backup if no
    recent one exists (status preparing: wait, then call again the same way), then restores, once. Returns the
    operation, with the way to undo it.
    """
    result = await restore.restore(
        call.context,
        server_id,
        backup_id,
        safety_backup=safety_backup,
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
    confirm: Confirm = False,
    operation_id: PlanId = "",
) -> OperationAnswer:
    """Clean up the manual backups (snapshots) of one VPS.org server by retention rules; deleted ones are gone for good.

    Use it for old backups in bulk; for one use delete_backup. Keeps the union of the rules, in days, ISO weeks and
    months of UTC; automatic backups and unknown statuses stay. Without confirm it changes nothing and returns a plan:
    each backup with the rule that keeps it, or none. With confirm=true and the plan's operation_id it deletes the rest,
    past refusals, until an outcome is unknown. Returns the operation.
    """
    keep = Keep(last=keep_last, daily=keep_daily, weekly=keep_weekly, monthly=keep_monthly)
    result = await prune.prune(
        call.context,
        server_id,
        keep,
        confirm=confirm,
        operation_id=operation_id,
        person=call.person,
        report=call.report_progress,
    )
    return operation_answer(result, call.context)
