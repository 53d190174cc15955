"""What became of an operation: settled by looking, never by sending again."""

import anyio

from mcp_backups.errors import ApiError, BackupsError, BusyError, ConfigError, LedgerUnavailableError
from mcp_backups.health import is_usable
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.desk import Desk, Progress, Told
from mcp_backups.operations.judge import judge_create, judge_delete
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import OPEN, UNSETTLED, Action, Operation, Status

LOOKS = (0, 1, 2, 4, 8)
"""Seconds to wait before each look for a backup that may have been started."""

_LOOKING_SECONDS = 20.0
_RIVALS = 1000
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 5.0
_LAST_LOOK_SECONDS = 1.0
"""How long before a call must be answered the waiting ends."""

CANNOT_SEE = (ApiError, ConfigError)
"""Why a look may tell nothing; whatever it is, it says nothing about what was sent before."""

MADE_ELSEWHERE = "it was made for another account or another address"
"""Why nothing is looked at; only the operator can tell then."""

LEDGER_AWAY = (BusyError, LedgerUnavailableError)
"""Why something may not be recorded, or not be read, just now."""

_NOT_OVER: frozenset[Status] = OPEN | UNSETTLED | {"accepted"}
_LOOKED_AFTER: dict[Action, frozenset[Status]] = {
    "create_backup": frozenset({"unknown", "accepted"}),
    "delete_backup": frozenset({"unknown", "accepted"}),
    "restore_server": frozenset({"unknown", "accepted", "preparing"}),
    "prune_backups": frozenset({"unknown", "accepted", "preparing", "expired"}),
}
"""The statuses of which looking may tell more."""

ALL_SEEN = "each is absent from the complete list"
"""How it is known that a prune is finished."""


async def follow(desk: Desk, operation: Operation, wait_seconds: float, progress: Progress) -> Told:
    """Look what became of an operation, again and again until that is final or the time is up.

    Args:
        desk: What operations work with.
        operation: As the ledger has it.
        wait_seconds: How long to wait, 0 for one look.
        progress: Told after each look.
    """
    start, pause = desk.clock.ticks(), _FIRST_WAIT
    end = min(wait_seconds, desk.seconds_left - desk.recording_seconds - _LAST_LOOK_SECONDS)
    while True:
        told = await settle(desk, operation)
        operation = operation if told.obstacle else told.operation  # what could not be recorded is found again
        waited = desk.clock.ticks() - start
        if not _is_under_way(told) or waited >= end:
            return told
        await progress(waited, wait_seconds, f"{operation.id} ({operation.action}): {operation.status}")
        await desk.clock.sleep(min(pause, end - waited))
        pause = min(pause * 1.5, _LONGEST_WAIT)


async def settle(desk: Desk, operation: Operation) -> Told:
    """Look once what became of an operation, and record what is new."""
    now = desk.moment()
    known = operation
    if operation.is_expired(now):
        known = operation.but(status="expired")
    elif operation.status == "sending" and not desk.is_being_sent(operation):
        known = operation.but(status="unknown", evidence="the process that sent it ended before the answer came")
    try:
        with desk.reading():
            told = await _look(desk, known)
    except CANNOT_SEE as error:
        told = Told(known, unseen=error.code)
    if not desk.can_see(known) and told.operation.status in _NOT_OVER:
        told = told._replace(unseen=MADE_ELSEWHERE)
    if told.operation == operation:
        return told
    try:
        recorded = await desk.ledger.write(lambda entries: supersede(entries, operation, told.operation))
    except LEDGER_AWAY as obstacle:
        return told._replace(obstacle=obstacle)
    return told._replace(operation=recorded)


def supersede(entries: Transaction, before: Operation, after: Operation) -> Operation:
    """Record what became of an operation, unless something else has been recorded meanwhile."""
    current = entries.get(before.id) or before
    return entries.save(after) if current == before else current


async def list_with_target(desk: Desk, operation: Operation) -> Listing[Backup]:
    """The list that the plan of a delete was made from, read again."""
    return await desk.api.list_backups(int(operation.arguments.get("server_id", 0)))


async def look_for_created(desk: Desk, operation: Operation) -> Operation:
    """Look a few times for a backup that may have been started; the operation comes back as it is if none is found."""
    with anyio.move_on_after(min(_LOOKING_SECONDS, desk.seconds_left - desk.recording_seconds)):
        for pause in LOOKS:
            await desk.clock.sleep(pause)
            try:
                found = await _judge(desk, operation, await desk.api.list_backups(operation.server_id))
            except BackupsError:
                continue  # a look that fails, for whatever reason, tells nothing
            if found != operation:
                return found
    return operation


async def _judge(desk: Desk, operation: Operation, backups: Listing[Backup]) -> Operation:
    # Read after the list: whoever made a backup that is in it has recorded before that it would.
    rivals = [] if operation.marked else await desk.ledger.read(lambda entries: _rivals(entries, operation))
    return judge_create(operation, backups, desk.moment(), rivals)


def _rivals(entries: Transaction, operation: Operation) -> list[Operation]:
    creates = entries.find(action="create_backup", server_id=operation.server_id, limit=_RIVALS)
    return [each for each in creates if each.id != operation.id and each.arguments == operation.arguments]


async def _look(desk: Desk, operation: Operation) -> Told:
    if operation.status not in _LOOKED_AFTER[operation.action]:
        return Told(operation)
    if operation.action == "prune_backups":
        return await _look_at_deletes(desk, operation)
    if not desk.can_see(operation):
        return Told(operation)
    if operation.action == "create_backup":
        return Told(await _judge(desk, operation, await desk.api.list_backups(operation.server_id)))
    if operation.action == "delete_backup":
        backups = await list_with_target(desk, operation)
        return Told(judge_delete(operation, backups, desk.moment()))  # by VPS.org's clock too, now that it is known
    return await _look_at_restore(desk, operation)


async def _look_at_restore(desk: Desk, operation: Operation) -> Told:
    if operation.status == "preparing":
        return await _look_at_safety_backup(desk, operation)
    told = await _look_at_way_back(desk, operation)
    try:
        servers = await desk.api.list_servers()
    except CANNOT_SEE as error:
        return told._replace(unseen=error.code)
    status = next((server.status for server in servers.rows if server.id == operation.server_id), "")
    return told._replace(server_status=status)


async def _look_at_way_back(desk: Desk, operation: Operation) -> Told:
    """A restore that cannot be undone any more once the backup for it is gone or of no use, or may be just going."""
    if not operation.undo_backup_id:
        return Told(operation)
    backups = await desk.api.list_backups(operation.server_id)
    holdings = await desk.holdings(operation.server_id, backups)
    way_back = next((backup for backup in backups.rows if backup.id == operation.undo_backup_id), None)
    is_lost = not is_usable(way_back, holdings.now) if way_back else backups.complete
    if is_lost:
        return Told(operation.but(undo_backup_id=0, facts=operation.facts | {"can_be_undone": False}))
    return Told(operation, is_undoable=operation.undo_backup_id not in holdings.deleted_here)


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


async def _look_at_deletes(desk: Desk, operation: Operation) -> Told:
    """A prune with what became of its deletes; once none of them is unknown any more, it has only stopped."""
    known = operation
    recorded = await desk.ledger.read(lambda entries: [entries.get(item.operation_id) for item in operation.items])
    for delete in (each for each in recorded if each and each.sent):
        told = await settle(desk, delete)
        known = known.with_outcomes([told.operation])
        if told.unseen or told.operation.status == "accepted":
            return Told(known, unseen=told.unseen)
    if operation.status == "accepted":
        known = known.but(status="succeeded", evidence=ALL_SEEN)
    if operation.status == "unknown" and known.changed != "unknown":
        known = known.but(status="failed", error="What became of it was not known at first.", advice="")
    return Told(known)


def _is_under_way(told: Told) -> bool:
    """Whether waiting can tell more."""
    operation = told.operation
    if told.unseen == MADE_ELSEWHERE:
        return False
    if operation.status == "preparing":
        return told.safety is not None and told.safety.status != "succeeded"
    if operation.action == "restore_server":
        return operation.status == "sending"
    return operation.status in {"sending", "unknown", "accepted"}
