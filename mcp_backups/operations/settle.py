"""What became of an operation: settled by looking, never by sending again (faults.md section 2)."""

from dataclasses import replace
from datetime import timedelta

import anyio

from mcp_backups.clock import Moment
from mcp_backups.errors import ApiError, ConfigError
from mcp_backups.models import COMPLETED, IN_PROGRESS, MANUAL, Backup, Listing
from mcp_backups.operations.desk import Desk, Progress, Told
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import Operation, Status

LOOKS = (0, 1, 2, 4, 8)
"""Seconds to wait before each look for a backup that may have been started."""

_LOOKING_SECONDS = 20.0
_LATE_ARRIVAL = timedelta(minutes=2)
"""How long after it was sent a lost request may still take effect."""

_CREATED_AROUND = timedelta(seconds=120)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 5.0
_LONGEST_CALL = 44.0
"""Seconds of waiting that leave time for a last look within the 45 s in which a tool answers."""

CANNOT_SEE = (ApiError, ConfigError)
"""Why a look may tell nothing; whatever it is, it says nothing about what was sent before."""

_LOOKED_AFTER: frozenset[Status] = frozenset({"unknown", "accepted"})


async def follow(desk: Desk, operation: Operation, wait_seconds: float, progress: Progress) -> Told:
    """Look what became of an operation, again and again until that is final or the time is up.

    Args:
        desk: What operations work with.
        operation: As the ledger has it.
        wait_seconds: How long to wait, 0 for one look.
        progress: Told after each look.
    """
    start, pause = desk.clock.ticks(), _FIRST_WAIT
    end = min(wait_seconds, _LONGEST_CALL)
    while True:
        told = await settle(desk, operation)
        operation = told.operation
        waited = desk.clock.ticks() - start
        if not _is_under_way(told) or waited >= end:
            return told
        await progress(waited, wait_seconds, f"{operation.id} ({operation.action}): {operation.status}")
        await desk.clock.sleep(min(pause, end - waited))
        pause = min(pause * 1.5, _LONGEST_WAIT)


async def settle(desk: Desk, operation: Operation) -> Told:
    """Look once what became of an operation, and record what is new."""
    now = desk.clock.moment()
    known = operation
    if operation.is_expired(now):
        known = operation.but(status="expired")
    elif operation.status == "sending" and not desk.presence.is_at_work(operation.owner, operation.id):
        known = operation.but(status="unknown", evidence="the process that sent it ended before the answer came")
    try:
        told = await _look(desk, known, now)
    except CANNOT_SEE as error:
        told = Told(known, unseen=error.code)
    if told.operation == operation:
        return told
    return replace(
        told, operation=await desk.ledger.write(lambda entries: supersede(entries, operation, told.operation))
    )


def supersede(entries: Transaction, before: Operation, after: Operation) -> Operation:
    """Record what became of an operation, unless something else has been recorded meanwhile."""
    current = entries.get(before.id) or before
    return entries.save(after) if current == before else current


async def look_for_created(desk: Desk, operation: Operation) -> Operation:
    """Look a few times for a backup that may have been started; the operation comes back as it is if none is found."""
    with anyio.move_on_after(_LOOKING_SECONDS):
        for pause in LOOKS:
            await desk.clock.sleep(pause)
            try:
                backups = await desk.api.list_backups(operation.server_id)
            except CANNOT_SEE:
                continue
            found = judge_create(operation, backups, desk.clock.moment(), marked=desk.settings.mark_backups)
            if found != operation:
                return found
    return operation


def judge_create(operation: Operation, backups: Listing[Backup], now: Moment, *, marked: bool) -> Operation:
    """What a list of the server's backups says of a backup that was asked for."""
    if operation.backup_id or marked:
        found = [backup for backup in backups.rows if _is_of(operation, backup)]
        evidence = "its row in the list of backups"
    elif backups.complete and operation.baseline_complete:
        found = [backup for backup in backups.rows if _is_like(operation, backup)]
        evidence = "probable: the one new backup that is like it in the complete list"
    else:
        return operation
    if len(found) == 1:
        return made(operation, found[0], evidence)
    is_old = not (operation.sent or operation.created).within(_LATE_ARRIVAL, now)
    if operation.status == "accepted" and backups.complete and not found and is_old:
        return operation.but(
            status="failed",
            evidence="absent from the complete list",
            error_code="not_found",
            error=f"Backup {operation.backup_id} was started but is no longer listed.",
        )
    return operation


def made(operation: Operation, backup: Backup, evidence: str) -> Operation:
    """The operation, now that its backup is known."""
    known = operation.but(
        backup_id=backup.id,
        backup=backup,
        server_name=backup.server_name,
        evidence=evidence,
        error_code="",
        error="",
    )
    if backup.status == COMPLETED:
        return known.but(status="succeeded")
    if backup.status == IN_PROGRESS:
        return known.but(status="accepted")
    return known.but(
        status="failed",
        error_code="conflict",
        error=f"Backup {backup.id} was started but did not complete; its own status says what VPS.org made of it.",
    )


def judge_delete(operation: Operation, backups: Listing[Backup], now: Moment) -> Operation:
    """What a list of all backups says of a backup that was to be deleted."""
    is_listed = any(backup.id == operation.backup_id for backup in backups.rows)
    if not is_listed and backups.complete:
        return operation.but(status="succeeded", evidence="absent from the complete list", error_code="", error="")
    sent = operation.sent or operation.created
    if is_listed and operation.status == "unknown" and not sent.within(_LATE_ARRIVAL, now):
        return operation.but(
            status="failed",
            evidence="still in the list",
            error_code="upstream_unavailable",
            error=f"Backup {operation.backup_id} is still listed: the request did not take effect.",
        )
    return operation


async def _look(desk: Desk, operation: Operation, now: Moment) -> Told:
    if operation.status == "preparing":
        return await _look_at_safety_backup(desk, operation)
    if operation.status not in _LOOKED_AFTER:
        return Told(operation)
    if operation.action == "create_backup":
        backups = await desk.api.list_backups(operation.server_id)
        return Told(judge_create(operation, backups, now, marked=desk.settings.mark_backups))
    if operation.action == "delete_backup":
        return Told(judge_delete(operation, await desk.api.list_backups(), now))
    servers = await desk.api.list_servers()
    status = next((server.status for server in servers.rows if server.id == operation.server_id), "")
    return Told(operation, server_status=status)


async def _look_at_safety_backup(desk: Desk, operation: Operation) -> Told:
    recorded = await desk.ledger.read(lambda entries: entries.get(operation.safety_operation))
    if recorded is None:
        return Told(operation)
    told = await settle(desk, recorded)
    if told.operation.status == "failed":
        operation = operation.but(
            status="failed",
            error_code=told.operation.error_code,
            error=f"The safety backup failed, so nothing was restored. {told.operation.error}",
            advice=told.operation.advice,
        )
    return Told(operation, safety=told.operation, unseen=told.unseen)


def _is_under_way(told: Told) -> bool:
    """Whether waiting can tell more."""
    operation = told.operation
    if operation.status == "preparing":
        return told.safety is not None and told.safety.status != "succeeded"
    if operation.action == "restore_server":
        return operation.status == "sending"
    return operation.status in {"sending", "unknown", "accepted"}


def _is_of(operation: Operation, backup: Backup) -> bool:
    """Whether it is the backup of that id or, as long as that is not known, of that mark."""
    return backup.id == operation.backup_id if operation.backup_id else backup.mark == operation.id


def _is_like(operation: Operation, backup: Backup) -> bool:
    """Whether it is new, and as it was asked for."""
    sent = (operation.sent or operation.created).wall
    return (
        backup.id not in operation.baseline
        and backup.type == MANUAL
        and backup.description == operation.arguments.get("description", "")
        and abs(backup.created_at - sent) <= _CREATED_AROUND
    )
