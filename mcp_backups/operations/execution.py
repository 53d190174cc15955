"""From the first look at the target to the outcome: the one place from which anything is sent that changes the account.

Once somebody has consented, the target is read again. Then the intent is durable before the request goes out, the
outcome before the answer goes back, and in between nothing that happens to the caller can stop it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple, TypeGuard

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
    ProtocolError,
    ResponseTooLargeError,
    TargetChangedError,
    UnconfirmedError,
)
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations.authorization import outcome_of_other
from mcp_backups.operations.context import Context, Entries, Result, recent
from mcp_backups.operations.limits import (
    check_ledger,
    check_not_frozen,
    limited_by,
    still_open,
    with_consent,
)
from mcp_backups.operations.operation import (
    EFFECTIVE,
    REPEAT_WINDOW,
    ApprovedBy,
    Arguments,
    DeleteDetails,
    Operation,
    Status,
)
from mcp_backups.operations.policy import Inventory
from mcp_backups.operations.reconciliation import settle, supersede


class Observation(NamedTuple):
    """What was seen before judging.

    Attributes:
        target: The backup to delete or restore.
        inventory: The backups, and what else judges the call.
        after: The ledger's last event before it was looked.
    """

    target: Backup
    inventory: Inventory
    after: int


class StaleError(Exception):
    """Something was sent for the server since it was looked: what was seen no longer judges anything."""


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


async def observe(context: Context, arguments: Arguments) -> Observation:
    """Read the target of a destructive call and what stands around it.

    Raises:
        NotFoundError: VPS.org has no such backup.
        ProtocolError: The backup is not in what could be read of the list.
    """
    server_id, backup_id = int(arguments.get("server_id", 0)), int(arguments["backup_id"])
    after = await context.ledger.read(lambda entries: entries.last_event())
    with context.reading(before_sending=True):
        backups, target = await _search(context, server_id, backup_id)
    if target is None:
        raise _absence(backups, backup_id, server_id)
    inventory = await context.inventory(target.server_id, backups)
    for delete in inventory.contradicted:
        await settle(context, delete)
    return Observation(target, inventory, after)


async def _search(context: Context, server_id: int, backup_id: int) -> tuple[Listing[Backup], Backup | None]:
    """The backup, and a list in which its server is whole; of a large account only a server's own list may be that."""
    api = context.api
    own = await api.list_backups(server_id) if server_id else Listing[Backup](())
    if target := _find(own, backup_id):
        return own, target
    try:
        every = await api.list_backups()
    except ResponseTooLargeError:
        every = Listing[Backup]((), (Gap("the list of all backups is larger than is read"),), to_its_end=False)
    target = _find(every, backup_id)
    if target and (not target.server_id or every.complete_for(target.server_id)):
        return every, target
    if target:
        whole = await api.list_backups(target.server_id)
        found = _find(whole, backup_id)
        return (whole, found) if found else (every, target)  # it was listed a moment ago: that is no absence
    if server_id:
        return own if own.complete_for(server_id) else every, None
    return (every, None) if every.to_its_end else await _search_each(context, backup_id)


async def _search_each(context: Context, backup_id: int) -> tuple[Listing[Backup], Backup | None]:
    """The same where the list of all cannot be read to its end: each server's own, one after the other."""
    servers = await context.api.list_servers()
    gaps = list(servers.gaps)
    for server in servers.rows:
        own = await context.api.list_backups(server.id)
        if target := _find(own, backup_id):
            return own, target
        gaps += own.gaps
    return Listing[Backup]((), tuple(gaps)), None


def _find(backups: Listing[Backup], backup_id: int) -> Backup | None:
    return next((backup for backup in backups.rows if backup.id == backup_id), None)


def _absence(backups: Listing[Backup], backup_id: int, server_id: int) -> NotFoundError | ProtocolError:
    if server_id and backups.complete_for(server_id):
        return NotFoundError(f"Server {server_id} has no backup {backup_id}.")
    if backups.complete:
        return NotFoundError(f"VPS.org has no backup {backup_id}.")
    missing = backups.missing_for(server_id)
    return ProtocolError(
        f"Backup {backup_id} is not in what could be read of the list of backups, but the list is incomplete "
        f"({'; '.join(missing)}), so it may exist.",
        "Try once more in a few minutes; if it says the same then, tell the user.",
    )


def check_fresh(entries: Entries, operation: Operation, seen: Observation) -> None:
    """Whether what was seen still holds: else two calls, each right by itself, could together take the last backup.

    Raises:
        StaleError: It must be looked again.
    """
    if entries.has_written(operation.server_id, seen.after):
        raise StaleError


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
        return entries.save(draft.updated(**limited_by(context, entries, draft)))

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
