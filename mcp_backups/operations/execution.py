"""From consent to outcome: the one place from which anything is sent that changes the account.

The target is read again. Then the intent is durable before the request goes out, the outcome before the answer goes
back, and in between nothing that happens to the caller can stop it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeGuard

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from mcp_backups.errors import (
    ApiError,
    BackupsError,
    BusyError,
    Failure,
    LedgerUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
    PolicyDeniedError,
    TargetChangedError,
    UnconfirmedError,
)
from mcp_backups.operations.authorization import outcome_of_other
from mcp_backups.operations.context import Context, Entries, Result, recent
from mcp_backups.operations.freeze import check_not_frozen
from mcp_backups.operations.observation import (
    Observation,
    StaleError,
    check_fresh,
    check_ledger,
    limits,
    observe,
    still_open,
    with_consent,
)
from mcp_backups.operations.operation import (
    EFFECTIVE,
    REPEAT_WINDOW,
    ApprovedBy,
    DeleteDetails,
    Operation,
    Status,
)
from mcp_backups.operations.reconciliation import supersede

Check = Callable[[Context, Operation, Observation], None]
"""Passes, or raises PolicyDeniedError or TargetChangedError."""

Prepare = Callable[[Context, Operation, ApprovedBy, Observation], Awaitable[Result | None]]
"""Does what must come first. Returns what the operation waits for, or None when it may be sent."""

Complete = Callable[[Context, Entries, Operation, Observation], Operation]
"""Adds to an operation that is about to be sent what is known only then."""

Intend = Callable[[Entries, str], Operation | None]
"""Record the intent to send, on behalf of the process of that id; None when there is nothing to send any more."""

_OBSERVATIONS = 5
"""How often it is looked again because something else was sent for the server meanwhile."""

_RECORD_ATTEMPTS = 4
"""How often an outcome is tried to be recorded while another process holds the ledger: some 12 s, if there is time."""


class _SentBeforeError(Exception):
    """The same call was carried out by another operation a moment ago.

    Args:
        operation_id: That operation.
    """

    def __init__(self, operation_id: str) -> None:
        super().__init__(operation_id)
        self.operation_id = operation_id


async def record_plan(context: Context, draft: Operation, seen: Observation, check: Check) -> Operation:
    """Record a plan, or that there can be none.

    Args:
        context: What operations work with.
        draft: The plan.
        seen: What it was made from.
        check: The rules that are this action's own.

    Raises:
        BackupsError: There can be no plan now.
    """

    def save(entries: Entries) -> Operation:
        check_ledger(context, entries, draft)
        return entries.save(draft.updated(**limits(context, entries, draft)))

    try:
        check(context, draft, seen)
        return await context.ledger.write_plan(save)
    except PolicyDeniedError as refusal:
        refused = draft.with_error(Status.REFUSED, refusal)
        await context.ledger.write_plan(lambda entries: entries.save(refused))
        raise


async def execute(
    context: Context,
    operation: Operation,
    approved_by: ApprovedBy,
    *,
    check: Check,
    prepare: Prepare | None = None,
    complete: Complete | None = None,
) -> Result:
    """Carry out a plan that was consented to, unless it no longer fits what is there.

    Raises:
        BackupsError: Nothing was changed, or it is not known.
    """
    for _ in range(_OBSERVATIONS):
        try:
            seen = await _observe_again(context, operation)
            check(context, operation, seen)
        except (PolicyDeniedError, TargetChangedError, NotFoundError) as refusal:
            return await _refuse(context, operation, refusal)

        def intend(
            entries: Entries, owner: str, plan: Operation = operation, seen: Observation = seen
        ) -> Operation | None:
            return _intend(context, entries, plan, seen, approved_by, owner, complete)

        try:
            if prepare and (waiting := await prepare(context, operation, approved_by, seen)):
                return waiting
            outcome = await carry_out(context, operation.id, intend)
        except PolicyDeniedError as refusal:
            return await _refuse(context, operation, refusal)
        except _SentBeforeError as before:
            return await outcome_of_other(context, before.operation_id)
        except StaleError:
            operation = await context.find(operation.id) or operation
            continue
        return Result(outcome) if outcome else await outcome_of_other(context, operation.id)
    raise BusyError(f"Other operations on server {operation.server_id} came in between, again and again.")


async def _observe_again(context: Context, operation: Operation) -> Observation:
    """What is there now, if the target still is what the plan showed."""
    details = operation.details
    plan_id = (isinstance(details, DeleteDetails) and details.part_of) or operation.id  # what somebody was shown
    try:
        seen = await observe(context, operation.arguments)
    except NotFoundError:
        raise NotFoundError(f"Backup {operation.backup_id} is gone since the plan {plan_id} was made.") from None
    if seen.target != operation.backup:
        raise TargetChangedError(f"Backup {operation.backup_id} is no longer as the plan {plan_id} showed it.")
    return seen


def _ending_its_plan(operation: Operation, error: BackupsError) -> BackupsError:
    """The error, which says how to try again where there was a plan, and is still something to try it on."""
    if operation.approved_by == "not_required" or isinstance(error, NotFoundError):
        return error
    is_part = isinstance(operation.details, DeleteDetails) and operation.details.part_of
    return error.with_new_plan("prune_backups" if is_part else operation.action)


def _intend(
    context: Context,
    entries: Entries,
    operation: Operation,
    seen: Observation,
    approved_by: ApprovedBy,
    owner: str,
    complete: Complete | None,
) -> Operation | None:
    """Record consent and intent together, if nothing has changed since it was looked."""
    current = still_open(context, entries, operation)
    if current is None:
        return None
    if "flag" in {approved_by, current.approved_by}:
        _check_first(context, entries, current)
    check_fresh(entries, current, seen)
    check_ledger(context, entries, current)
    approved = with_consent(entries, current, approved_by)
    sending = approved.updated(status=Status.SENDING, sent=context.moment(), owner=owner)
    return entries.save(complete(context, entries, sending, seen) if complete else sending)


def _check_first(context: Context, entries: Entries, operation: Operation) -> None:
    """Whether it is the first of its kind: a flag, unlike a plan, does not tell a call from the same call again.

    Raises:
        _SentBeforeError: Another with the same arguments was sent within the last 10 minutes.
    """
    sent = entries.sent(operation.action, server_id=operation.server_id, statuses=EFFECTIVE)
    for each in recent(sent, REPEAT_WINDOW, context.moment()):
        if each.arguments == operation.arguments and context.asked_for(each):
            raise _SentBeforeError(each.id)


async def _refuse(context: Context, operation: Operation, refusal: BackupsError) -> Result:
    """Record that the operation was refused, and say so; unless another call has carried it out meanwhile."""
    refused = operation.with_error(Status.REFUSED, _ending_its_plan(operation, refusal))
    recorded = await context.ledger.write(lambda entries: supersede(entries, operation, refused))
    if recorded == refused:
        raise refusal
    return await outcome_of_other(context, operation.id)


async def carry_out(context: Context, operation_id: str, intend: Intend) -> Operation | None:
    """Record the intent, send, and record the outcome; whatever becomes of the caller meanwhile.

    Returns:
        The operation with its outcome, or None when `intend` found nothing to send.

    Raises:
        BackupsError: The request failed, or its outcome is not known; that too is recorded.
    """
    intended = outcome = None

    def begin(entries: Entries, owner: str) -> Operation | None:
        nonlocal intended
        check_not_frozen(entries)
        intended = intend(entries, owner)
        return intended

    await checkpoint_if_cancelled()  # the caller may have gone while nothing was waited for
    with anyio.CancelScope(shield=True):
        async with context.liveness.at_work(operation_id) as owner:
            try:
                operation = await context.ledger.write(lambda entries: begin(entries, owner))
            except UnconfirmedError:
                if intended:
                    context.unrecorded.keep(_withdrawn(intended))
                raise
            outcome = None if operation is None else await _send(context, operation)
    return outcome


def _withdrawn(intended: Operation) -> Operation:
    """An operation that was not sent, although the ledger may say that it is being sent."""
    told = f"{intended.id} was not sent: the ledger did not say in time that this was recorded."
    return intended.with_error(Status.FAILED, UnconfirmedError(told, "Call again as for the first time."))


async def _send(context: Context, operation: Operation) -> Operation:
    try:
        outcome = await context.actions[operation.action].send(context, operation)
    except BackupsError as error:
        if error.changed == "unknown":
            await _conclude(context, operation.with_error(Status.UNKNOWN, error))
        else:
            await _conclude(context, operation.with_error(Status.FAILED, _ending_its_plan(operation, error)))
        raise
    except Exception as fault:
        # A fault of ours, after the request may have gone out: what is not known must be recorded as that.
        unknown = OutcomeUnknownError(
            f"Something went wrong in this server while {operation.id} ({operation.action}) was carried out.",
            f"Do not repeat it; call get_operation(operation_id={operation.id!r}) in a few minutes.",
        )
        await _conclude(context, operation.with_error(Status.UNKNOWN, unknown))
        raise unknown from fault
    return await _conclude(context, outcome)


async def _conclude(context: Context, outcome: Operation) -> Operation:
    try:
        for _ in range(_RECORD_ATTEMPTS - 1):
            if context.seconds_left > 2 * context.recording_seconds:
                with suppress(BusyError):
                    return await context.record(outcome)
        return await context.record(outcome)
    except BackupsError as error:
        context.unrecorded.keep(outcome)
        raise LedgerUnavailableError(
            f"{outcome.id} ({outcome.action}) came to be {outcome.status.value!r}, but that could not be recorded.",
            changed=outcome.changed,
        ) from error


def may_have_acted(error: BackupsError) -> TypeGuard[ApiError]:
    """Whether VPS.org may have done what it was asked, although it did not say so."""
    return isinstance(error, ApiError) and error.failure is Failure.AMBIGUOUS
