"""What became of an operation: settled by looking or by the operator's word, never by sending again."""

import logging
from datetime import timedelta
from typing import Literal

from mcp_backups.clock import Moment
from mcp_backups.errors import (
    ApiError,
    BackupsError,
    BusyError,
    ConfigError,
    ConfirmationExpiredError,
    ConfirmationInvalidError,
    InvalidArgumentError,
    LedgerUnavailableError,
)
from mcp_backups.ledger import Ledger, Liveness
from mcp_backups.models import ACTIVE
from mcp_backups.operations.context import LOOKOUT_SECONDS, RESTORING, Context, Entries, ReportProgress, Result
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    UNSETTLED,
    CreateDetails,
    DeleteDetails,
    Operation,
    RestoreDetails,
    Status,
    is_later,
)

SettledAs = Literal["succeeded", "failed"]
"""What an operator can say of an operation: it took effect, or it did not."""

LIST_LAGS = timedelta(minutes=30)
"""How long VPS.org's list may be behind: a new backup not in it yet, its size not told yet."""

BY_OPERATOR = "settled by the operator"
"""The evidence of what an operator found out."""

CANNOT_SEE = (ApiError, ConfigError)
"""Why a look may tell nothing; whatever it is, it says nothing about what was sent before."""

MADE_ELSEWHERE = "it was made for another account or another address"
"""Why nothing is looked at; only the operator can tell then."""

LEDGER_AWAY = (BusyError, LedgerUnavailableError)
"""Why something may not be recorded, or not be read, just now."""

_NOT_OVER = OPEN | UNSETTLED | {Status.ACCEPTED}
_FIRST_WAIT, _LONGEST_WAIT, _SHORTEST_WAIT = 1.0, 5.0, 0.01
_UNMOVED = timedelta(seconds=10)
"""A server that goes on as active for so long after its restore was accepted is not expected to show more of it."""

LAST_LOOK_SECONDS = 1.0
"""How long before a call must be answered the waiting ends."""

_log = logging.getLogger(__name__)


async def follow(context: Context, operation: Operation, wait_seconds: float, report: ReportProgress) -> Result:
    """Look what became of an operation, again and again until that is final or the time is up.

    Args:
        context: What operations work with.
        operation: As the ledger has it.
        wait_seconds: How long to wait, 0 for one look.
        report: Result after each look.
    """
    start, pause = context.clock.ticks(), _FIRST_WAIT
    end = min(wait_seconds, context.seconds_to_read(before_sending=False) - LAST_LOOK_SECONDS)
    while True:
        result = await settle(context, operation)
        operation = operation if result.obstacle else result.operation  # what could not be recorded is found again
        waited = context.clock.ticks() - start
        if not _is_under_way(result, context.moment()) or end - waited < _SHORTEST_WAIT:
            return result
        await report(waited, wait_seconds, f"{operation.id} ({operation.action}): {operation.status}")
        if operation.status is Status.WAITING:
            await context.clock.sleep(min(LOOKOUT_SECONDS, end - waited))
            operation = await context.find_soon(operation.id) or operation
        else:
            await context.clock.sleep(min(pause, end - waited))
            pause = min(pause * 1.5, _LONGEST_WAIT)


async def settle(context: Context, operation: Operation) -> Result:
    """Look once what became of an operation, and record what is new."""
    known = left_behind(context, operation)
    if operation.is_expired(context.moment()):
        known = _expired(operation)
    result = Result(known)
    action = context.actions[known.action]
    may_change = action.may_change(known)
    if may_change and (context.can_see(known) or known.action == "prune_backups"):
        try:
            with context.reading():
                result = await action.look(context, known)
        except CANNOT_SEE as error:
            result = await _unseen(context, Result(known), error.code)
    if not context.can_see(known) and (may_change or result.operation.status in _NOT_OVER):
        result = await _unseen(context, result, MADE_ELSEWHERE)
    if result.operation == operation:
        return result
    try:
        recorded = await context.ledger.write(lambda entries: supersede(entries, operation, result.operation))
    except LEDGER_AWAY as obstacle:
        return result._replace(obstacle=obstacle)
    return result._replace(operation=recorded)


async def _unseen(context: Context, result: Result, why: str) -> Result:
    """The result where nothing can be looked at: whether its backup was deleted here since, the ledger alone tells."""
    details, backup_id = result.operation.details, 0
    if isinstance(details, CreateDetails):
        backup_id = result.operation.backup_id
    if isinstance(details, RestoreDetails):
        backup_id = details.undo_backup_id
    deleted_by = await context.ledger.read(lambda entries: deletion_of(entries, result.operation, backup_id))
    is_undoable = not deleted_by and why != MADE_ELSEWHERE
    return result._replace(unseen=why, deleted_by=deleted_by, is_undoable=is_undoable)


def deletion_of(entries: Entries, operation: Operation, backup_id: int) -> str:
    """The id of the last operation that deletes, or deleted, a backup of the same server; empty if none was sent.

    The backup is what an operation made, or what takes it back; not an earlier one that had the same id.
    """
    details = operation.details
    backup = details.way_back if isinstance(details, RestoreDetails) else operation.backup
    sent = entries.sent_for_backups("delete_backup", {backup_id}, EFFECTIVE, operation.server_id)
    ours = (each for each in sent if operation.identity.shares_servers(each.identity))
    return next((each.id for each in ours if not (backup and is_later(backup, each))), "")


def _expired(operation: Operation) -> Operation:
    """The operation, which may stay so no longer."""
    told = {
        Status.WAITING: "No approver decided on it in time.",
        Status.APPROVED: "It was approved, and then not carried out in time.",
    }.get(operation.status, "")
    return operation.updated(
        status=Status.EXPIRED, error=told, error_code=ConfirmationExpiredError.code if told else ""
    )


def left_behind(context: Context, operation: Operation) -> Operation:
    """The operation; unknown, where its process ended before it knew."""
    operation = context.unrecorded.better(operation)
    if operation.status is not Status.SENDING or context.is_being_sent(operation):
        return operation
    ended = "the process that sent it ended before the answer came"
    return operation.updated(status=Status.UNKNOWN, evidence=ended)


def supersede(entries: Entries, before: Operation, after: Operation) -> Operation:
    """Record what became of an operation, unless something else has been recorded meanwhile."""
    current = entries.get(before.id) or before
    return entries.save(after) if current == before else current


def _is_under_way(result: Result, now: Moment) -> bool:
    """Whether waiting can tell more; of a restore, while its server has not been seen to be back."""
    operation = result.operation
    if result.unseen == MADE_ELSEWHERE:
        return False
    if operation.status is Status.WAITING:
        return True
    if operation.status is Status.PREPARING:
        return result.safety is not None and result.safety.status is not Status.SUCCEEDED
    if isinstance(operation.details, RestoreDetails) and operation.status is not Status.SENDING:
        statuses = [each.status for each in operation.details.statuses]
        was_away = any(status != ACTIVE for status in statuses)
        is_back = was_away and statuses[-1] == ACTIVE
        end = RESTORING if was_away else _UNMOVED
        return operation.status is Status.ACCEPTED and operation.since.within(end, now) and not is_back
    return operation.status in {Status.SENDING, Status.UNKNOWN, Status.ACCEPTED}


async def settle_left_open(context: Context) -> None:
    """Look what became of every operation whose process ended before it knew; each is named in the log.

    What cannot be settled now stays open, and with it its server closed; nothing is raised, and no ledger is made.
    """
    try:
        if not context.ledger.exists():
            return
        left = await context.ledger.read(lambda entries: entries.under_way(UNSETTLED))
        for operation in (each for each in reversed(left) if context.can_see(each) or not context.account.name):
            if operation.status is Status.UNKNOWN or not context.is_being_sent(operation):
                _tell(await settle(context, operation))
    except (BackupsError, OSError) as error:
        _log.warning("What was left open could not be looked into: %s", getattr(error, "code", "ledger_unavailable"))
    except Exception:  # noqa: BLE001 - whatever it is: a look at what is over must not keep the server from starting
        _log.exception("What was left open could not be looked into")


async def settle_by_word(
    ledger: Ledger[Operation], liveness: Liveness, operation_id: str, verdict: SettledAs
) -> Operation:
    """Record what the operator found out about an operation whose outcome is not known.

    Raises:
        ConfirmationInvalidError: There is no such operation.
        InvalidArgumentError: Its outcome is known, or is not for the operator to say.
        BusyError: A process is still at work on it.
        LedgerUnavailableError: It cannot be recorded.
    """
    none = ConfirmationInvalidError("There is no operation of that id.", "`mcp-backups operations` lists them.")

    def record(entries: Entries) -> Operation:
        operation = entries.get(operation_id)
        if operation is None:
            raise none
        # An accepted deletion is a doubtful one too: its backup counts for nothing until somebody knows better.
        is_doubtful = operation.action == "delete_backup" and operation.status is Status.ACCEPTED
        if operation.status not in UNSETTLED and not is_doubtful:
            raise InvalidArgumentError(
                f"{operation.id} is {operation.status}: that is known.", "Nothing is to be done."
            )
        if operation.status is Status.SENDING and liveness.is_at_work(operation.owner, operation.id):
            raise BusyError(f"A process is still at work on {operation.id}.", "Wait until it has ended.")
        if operation.action == "create_backup" and verdict == "succeeded":
            raise InvalidArgumentError(
                f"{operation.id} makes a backup, and one that was made is found by looking.",
                "Have an agent call get_operation, which looks for it; what is not found is settled as failed.",
            )
        return entries.save(_settled(operation, verdict))

    if not ledger.exists():
        raise none
    return await ledger.write(record)


def _settled(operation: Operation, verdict: SettledAs) -> Operation:
    known = operation.without_error(status=Status(verdict), evidence=BY_OPERATOR)
    if isinstance(known.details, DeleteDetails):
        # Nobody can know that a deletion which VPS.org did not refuse never comes: being seen gone corrects even a no.
        known = known.updated(lapsed=verdict == "failed")
    if verdict == "succeeded":
        return known
    found = "The operator found that it did not take effect."
    return known.updated(error_code="upstream_unavailable", error=found)


def _tell(result: Result) -> None:
    operation = result.operation
    _log.warning(
        "%s (%s on server %d) was left open; it is now %s%s%s",
        operation.id,
        operation.action,
        operation.server_id,
        operation.status,
        f": {operation.evidence}" if operation.evidence else "",
        f"; VPS.org could not be asked ({result.unseen})" if result.unseen else "",
    )
