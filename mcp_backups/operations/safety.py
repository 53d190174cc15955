"""The safety backup that a restore makes first: the way back."""

from contextlib import suppress

from mcp_backups.errors import BackupsError, OutcomeUnknownError, PolicyDeniedError
from mcp_backups.health import is_restorable
from mcp_backups.operations.create import find_repeat, intent
from mcp_backups.operations.desk import Desk, Told, with_error
from mcp_backups.operations.judge import LIST_LAGS
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import ApprovedBy, Arguments, Operation
from mcp_backups.operations.plan import Sight, check_ledger, still_open
from mcp_backups.operations.send import carry_out
from mcp_backups.operations.settle import LEDGER_AWAY, settle, supersede

_DESCRIPTION = "Safety backup before a restore"


async def wait_for_safety(desk: Desk, operation: Operation, approved_by: ApprovedBy, sight: Sight) -> Told | None:
    """See to it that there is a way back before a restore is sent.

    Returns:
        What the restore waits for, or None when it may be sent.
    """
    if not operation.arguments.get("safety_backup"):
        return None
    if not operation.safety_operation:
        if sight.way_back:
            return None
        return await settle(desk, await _start(desk, operation, approved_by, sight))
    # Whatever else is there by now: until it is known what became of this one, its server is closed.
    told = await settle(desk, operation)
    if told.safety is None or told.safety.status != "succeeded":
        return told
    return None if _is_there(desk, told.safety, sight) else told


def safety_backup_id(entries: Transaction, operation: Operation) -> int:
    """The backup that was made as this restore's way back, 0 if none was."""
    safety = entries.get(operation.safety_operation) if operation.safety_operation else None
    return safety.backup_id if safety else 0


def _is_there(desk: Desk, safety: Operation, sight: Sight) -> bool:
    """Whether a finished safety backup is a way back; False while the list does not tell.

    Raises:
        PolicyDeniedError: It cannot.
    """
    backups = sight.holdings.backups
    is_listed = any(backup.id == safety.backup_id for backup in backups.rows)
    now, restored = desk.moment(), sight.holdings.restored
    is_missing = backups.complete_for(safety.server_id) and not is_listed
    may_lag = (safety.sent or safety.created).within(LIST_LAGS, now)
    if safety.backup is None or not is_restorable(safety.backup) or (is_missing and not may_lag):
        raise PolicyDeniedError(
            f"The safety backup {safety.backup_id} is empty or no longer there, so nothing is restored.",
            "Call again without operation_id for a new plan.",
        )
    if restored and restored.ago(now) < (safety.sent or safety.created).ago(now):
        raise PolicyDeniedError(
            f"Another restore was sent since the safety backup {safety.backup_id} was asked for, which does not hold "
            "what that made of the server.",
            "Call again without operation_id for a new plan.",
        )
    return is_listed


async def _start(desk: Desk, operation: Operation, approved_by: ApprovedBy, sight: Sight) -> Operation:
    arguments: Arguments = {"server_id": operation.server_id, "description": _DESCRIPTION}
    safety = intent(desk, arguments, sight.holdings.backups)

    def intend(entries: Transaction, owner: str) -> Operation | None:
        current = still_open(desk, entries, operation)
        if current is None or current.safety_operation:
            return None
        check_ledger(desk, entries, current)
        under_way = _under_way(desk, entries, arguments, current)
        approved = entries.save(current.but(status="approved", approved_by=approved_by))
        entries.save(approved.but(status="preparing", safety_operation=(under_way or safety).id))
        return None if under_way else entries.save(safety.but(owner=owner))

    def current(entries: Transaction) -> Operation:
        return entries.get(operation.id) or operation

    try:
        await carry_out(desk, safety.id, intend)
    except OutcomeUnknownError:
        pass  # it waits, closed, until the safety backup is found
    except BackupsError as error:
        with suppress(*LEDGER_AWAY):  # what went wrong before is what is to be told
            before = await desk.ledger.read(current)
            if before.safety_operation == safety.id:
                failed = with_error(before.but(status="failed"), error)
                await desk.ledger.write(lambda entries: supersede(entries, before, failed))
        raise
    try:
        return await desk.ledger.read(current)
    except LEDGER_AWAY as error:
        raise type(error)(error.what, error.next_step, changed="done") from error


def _under_way(desk: Desk, entries: Transaction, arguments: Arguments, restore: Operation) -> Operation | None:
    """Another restore's safety backup that is just being made, and will do for this one too.

    One that is finished would have been seen; where it was not, it is gone or is what is to be restored.
    """
    found = find_repeat(desk, entries, arguments)
    is_over = found is None or found.status == "succeeded" or found.backup_id == restore.backup_id
    return None if is_over else found
