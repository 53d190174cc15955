"""The safety backup of a restore: the backup that would take it back, made, waited for and looked at before."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple, TypeGuard

from mcp_backups.actions import create
from mcp_backups.errors import BackupsError, OutcomeUnknownError, PolicyDeniedError
from mcp_backups.health import is_in_future, is_restorable, is_usable, is_younger, lasts, newest
from mcp_backups.models import Backup
from mcp_backups.operations import (
    LAST_LOOK_SECONDS,
    LEDGER_AWAY,
    LIST_LAGS,
    PREPARING_LIFE,
    ApprovedBy,
    Arguments,
    Context,
    Entries,
    Inventory,
    Observation,
    Operation,
    ReportProgress,
    RestoreDetails,
    Result,
    StaleError,
    Status,
    carry_out,
    check_ledger,
    follow,
    settle,
    still_open,
    supersede,
    with_consent,
)
from mcp_backups.text import duration

SAFETY_AGE = timedelta(minutes=60)
"""A completed backup younger than this is a way back; with none, a safety backup is made before a restore."""

MOST_WAIT = 35
"""Seconds that a call may wait before it sends a restore: answered within a minute, whatever VPS.org takes for that."""

_WAY_BACK_LASTS = timedelta(hours=24)
_DESCRIPTION = "Safety backup before a restore"
PLAN_AGAIN = "Call again without operation_id for a new plan."
TOO_OLD = (
    f"{PLAN_AGAIN} If a backup of this server takes that long, no restore comes after it in time: ask the user whether"
    " to restore with safety_backup=false."
)
"""What to do about a safety backup that became too old."""


class Waiting(NamedTuple):
    """How long a call waits, for the safety backup and then for the server to be back.

    Attributes:
        seconds: From when the call came.
        report: Tells the caller how far it is.
        is_wanted: Whether the caller is still there.
    """

    seconds: float
    report: ReportProgress
    is_wanted: Callable[[], Awaitable[bool]]

    def reporting(self, left: float) -> ReportProgress:
        """Tells how far the whole call is, while so many of its seconds are left: what is told never goes back."""

        async def report(waited: float, _of: float, what: str) -> None:
            await self.report(self.seconds - left + waited, self.seconds, what)

        return report


def way_back(inventory: Inventory, target: Backup) -> Backup | None:
    """The backup that would undo a restore of `target`: recent, lasting, of the server as it is; None if none is."""
    return newest(
        backup
        for backup in inventory.backups.rows
        if backup.server_id == target.server_id
        and backup.id != target.id
        and backup.id not in inventory.doubtful
        and not (inventory.restored and backup.created_at <= inventory.restored.at_upstream)
        and is_restorable(backup)
        and is_younger(backup, SAFETY_AGE, inventory.now)
        and lasts(backup, _WAY_BACK_LASTS, inventory.now)
    )


async def prepare(
    waiting: Waiting, until: float, context: Context, operation: Operation, approved_by: ApprovedBy, seen: Observation
) -> Result | None:
    """See to it that there is a way back before a restore is sent. Returns what it waits for, None if for nothing.

    Args:
        waiting: How the call waits.
        until: Till when, by the clock's ticks.
        context: What operations work with.
        operation: The plan.
        approved_by: Who consented.
        seen: What is there now.

    Raises:
        StaleError: The safety backup is finished: what was seen before that judges nothing any more.
    """
    if not operation.arguments.get("safety_backup"):
        return None
    is_begun = bool(operation.of(RestoreDetails).safety_operation)
    if not is_begun:
        if way_back(seen.inventory, seen.target):
            return None
        operation = await _start_safety(context, operation, approved_by, seen)
    # Whatever else is there by now: until it is known what became of this one, its server is closed.
    result = await settle(context, operation)
    if is_begun and _is_finished(result.safety):
        is_ready = _is_there(context, result.safety, seen) and await waiting.is_wanted()
        return None if is_ready else result
    left = until - context.clock.ticks()
    seconds = min(left, context.seconds_to_read(before_sending=True) - LAST_LOOK_SECONDS)
    if result.operation.status is Status.PREPARING and seconds > 0:
        result = await follow(context, result.operation, seconds, waiting.reporting(left))
    if _is_finished(result.safety):
        raise StaleError
    return result


def seen_until(safety: Operation) -> datetime:
    """By when a safety backup that was started is listed; one that is not by then will hardly ever be."""
    return safety.since.latest + LIST_LAGS


def ages_at(safety: Operation) -> datetime:
    """From when on no restore is sent after a safety backup any more, since it was asked for so long ago."""
    return safety.since.latest + SAFETY_AGE


def _is_finished(safety: Operation | None) -> TypeGuard[Operation]:
    return safety is not None and safety.status is Status.SUCCEEDED


def _is_there(context: Context, safety: Operation, seen: Observation) -> bool:
    """Whether a finished safety backup is a way back; False while the list does not tell.

    Raises:
        PolicyDeniedError: It cannot.
    """
    backups, now = seen.inventory.backups, context.moment()
    is_listed = safety.backup_id in backups.ids
    may_come = safety.since.within(LIST_LAGS, now) or not backups.complete_for(safety.server_id)
    is_doubtful = safety.backup_id in seen.inventory.doubtful
    backup = safety.backup
    if backup is None or not is_usable(backup, seen.inventory.now) or is_doubtful or not (is_listed or may_come):
        raise PolicyDeniedError(
            f"The safety backup {safety.backup_id} is empty, expired, no longer there or just being deleted, so "
            "nothing is restored.",
            PLAN_AGAIN,
        )
    restored = seen.inventory.restored
    if restored and restored.ago(now) < safety.since.ago(now):
        raise PolicyDeniedError(
            f"Another restore was sent since the safety backup {safety.backup_id} was asked for, which does not hold "
            "what that made of the server.",
            PLAN_AGAIN,
        )
    if is_in_future(backup, seen.inventory.now):
        raise PolicyDeniedError(
            f"The safety backup {safety.backup_id} is dated in the future, so nobody knows what it holds.", PLAN_AGAIN
        )
    # By the ticks, and by the clock that dated it: ours, set wrong, makes nothing old.
    if not (safety.since.within(SAFETY_AGE, now) and is_younger(backup, SAFETY_AGE, now.at_upstream)):
        raise PolicyDeniedError(
            f"The safety backup {safety.backup_id} is older than {duration(SAFETY_AGE)} by now, and holds nothing that "
            "was written to the server since.",
            TOO_OLD,
        )
    return is_listed


async def _start_safety(
    context: Context, operation: Operation, approved_by: ApprovedBy, seen: Observation
) -> Operation:
    """Have the safety backup made; returns the restore that waits for it."""
    arguments: Arguments = {"server_id": operation.server_id, "description": _DESCRIPTION}
    safety = create.intent(context, arguments, seen.inventory.backups).updated(is_safety=True)

    def intend(entries: Entries, owner: str) -> Operation | None:
        current = still_open(context, entries, operation)
        if current is None or current.of(RestoreDetails).safety_operation:
            return None
        check_ledger(context, entries, current)
        under_way = _under_way(context, entries, arguments, current)
        approved = with_consent(entries, current, approved_by)
        waits_for = (under_way or safety).id
        entries.save(approved.entering(Status.PREPARING, context.moment(), PREPARING_LIFE, safety_operation=waits_for))
        return None if under_way else entries.save(safety.updated(owner=owner))

    def current(entries: Entries) -> Operation:
        return entries.get(operation.id) or operation

    try:
        await carry_out(context, safety.id, intend)
    except OutcomeUnknownError:
        pass  # it waits, closed, until the safety backup is found
    except BackupsError as error:
        with suppress(*LEDGER_AWAY):  # what went wrong before is what is to be told
            before = await context.ledger.read(current)
            if before.of(RestoreDetails).safety_operation == safety.id:
                error.with_new_plan(operation.action)
                failed = before.with_error(Status.FAILED, error).updated(safety_operation="")  # nothing was made
                await context.ledger.write(lambda entries: supersede(entries, before, failed))
        raise
    try:
        return await context.ledger.read(current)
    except LEDGER_AWAY as error:
        raise error.beside(f"safety backup, by {safety.id}") from error


def _under_way(context: Context, entries: Entries, arguments: Arguments, restore: Operation) -> Operation | None:
    """Another restore's safety backup that is just being made, and will do for this one too.

    One that is finished would have been seen; where it was not, it is gone or is what is to be restored.
    """
    found = create.find_repeat(context, entries, arguments)
    is_over = found is None or found.status is Status.SUCCEEDED or found.backup_id == restore.backup_id
    return None if is_over else found


async def look_at_safety(context: Context, operation: Operation) -> Result:
    recorded = await context.find(operation.of(RestoreDetails).safety_operation)
    if recorded is None:
        return Result(operation)
    result = await settle(context, recorded)
    safety = result.operation
    if safety.status is Status.FAILED:
        operation = operation.updated(
            status=Status.FAILED,
            error_code=safety.error_code,
            error=f"The safety backup failed, so nothing was restored. {safety.error}",
            advice=safety.advice,
        )
    if result.is_gone and not result.deleted_by and safety.since.within(LIST_LAGS, context.moment()):
        safety = safety.updated(status=Status.ACCEPTED)  # the list may be behind again: nothing is lost by waiting
    return Result(operation, safety=safety, unseen=result.unseen, deleted_by=result.deleted_by)
