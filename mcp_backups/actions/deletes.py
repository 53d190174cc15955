"""The deletes of a prune, carried out one after another, and what became of them.

Each is an operation of its own, under the same guards as `delete_backup`. What became of the prune is what became of
them; it is kept nowhere else.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Literal

import anyio

from mcp_backups.actions import delete
from mcp_backups.errors import (
    AuthFailedError,
    BackupsError,
    BudgetExhaustedError,
    BusyError,
    Changed,
    ConfigError,
    NotFoundError,
    RateLimitedError,
    TargetChangedError,
)
from mcp_backups.operations import (
    CANNOT_SEE,
    LEDGER_AWAY,
    OPEN,
    PREPARING_LIFE,
    UNSETTLED,
    ApprovedBy,
    Context,
    DeleteDetails,
    Entries,
    Observation,
    Operation,
    PruneDetails,
    PruneItem,
    ReportProgress,
    Result,
    Status,
    check_prune,
    check_room,
    combined,
    execute,
    judge_all,
    left_behind,
    new_id,
    outcome_of_other,
    recent,
    settle,
    still_open,
    supersede,
    with_consent,
)
from mcp_backups.retention import Keep
from mcp_backups.text import plural

Outcome = Literal["deleted", "being deleted", "gone", "not deleted", "unknown"]
"""What became of one backup: seen to be gone; accepted by VPS.org; gone already, not by the prune; refused; or not
known."""

ALL_SEEN = "each is absent from the complete list"
"""How it is known that a prune is finished."""

_DELETE_SECONDS = 30.0
"""What a delete may take, and so must be left of the call to begin it: 25 s to send it, and time to look before."""

_REMEMBERED = timedelta(days=31)
"""How long a prune remembers which backups were not deleted when VPS.org was asked to."""

_IN_VAIN = {Status.FAILED, Status.UNKNOWN, Status.ACCEPTED}
"""The statuses of a delete that was sent, while its backup is listed; the last two too once the doubt has ended."""

_END_A_PRUNE = (AuthFailedError, BudgetExhaustedError, ConfigError, RateLimitedError)
"""Refusals that are about every further delete as well."""

_TO_TRY = OPEN | UNSETTLED | {Status.EXPIRED}
"""The statuses of a delete that is still to be begun, or to be settled first."""


def keep_of(operation: Operation) -> Keep:
    """The keep rules of a prune."""
    given = operation.arguments
    last, daily, weekly, monthly = (int(given[f"keep_{kind}"]) for kind in ("last", "daily", "weekly", "monthly"))
    return Keep(last, daily, weekly, monthly, int(given.get("older_than_days", 0)))


def stubborn(context: Context, entries: Entries, server_id: int, backup_ids: Collection[int]) -> set[int]:
    """Those of these backups that VPS.org lately did not delete when it was asked to.

    A prune tries them last: they would use up what it may delete, or stop it, each time before it came to the others.
    """
    asked = entries.sent_for_backups("delete_backup", backup_ids, _IN_VAIN, server_id)
    return {each.backup_id for each in recent(asked, _REMEMBERED, context.moment()) if context.concerns(each)}


async def execute_prune(
    report: ReportProgress, context: Context, operation: Operation, approved_by: ApprovedBy
) -> Result:
    """Carry on with a prune that was consented to, if no other call is at it."""
    check_prune(context.settings, operation.server_id)  # a rule that holds for each of them is told once
    if context.liveness.is_here(operation.id):
        raise _busy(operation)
    async with context.liveness.at_work(operation.id) as owner:
        taken = await context.ledger.write(lambda entries: _take_up(context, entries, operation, approved_by, owner))
        if taken is None:
            return await outcome_of_other(context, operation.id)
        try:
            return await _delete_all(context, taken, report)
        finally:
            with anyio.CancelScope(shield=True), suppress(BackupsError):
                await context.ledger.write(lambda entries: _let_go(entries, operation.id, owner))


def _take_up(
    context: Context, entries: Entries, operation: Operation, approved_by: ApprovedBy, owner: str
) -> Operation | None:
    """The prune, now this call's to carry out; each delete has its id, by which it is known again. None if it ended."""
    current = still_open(context, entries, operation)
    if current is None:
        return None
    if current.owner not in {"", owner} and context.liveness.is_at_work(current.owner, current.id):
        raise _busy(current)
    if current.status is not Status.PREPARING:
        approved, details = with_consent(entries, current, approved_by), current.of(PruneDetails)
        now, goes = context.moment(), details.covered(by_approver=approved.is_for_approver)
        items = (
            item.model_copy(update={"operation_id": new_id(), "fate": "delete"}) if item in goes else item
            for item in details.items
        )
        current = approved.entering(Status.PREPARING, now, PREPARING_LIFE, items=tuple(items), sent=now)
    return entries.save(current.updated(owner=owner))


def _let_go(entries: Entries, prune_id: str, owner: str) -> None:
    """Record that no call is at a prune any more that is not over: any process may go on with it."""
    prune = entries.get(prune_id)
    if prune and prune.status is Status.PREPARING and prune.owner == owner:
        entries.save(prune.updated(owner=""))


def _busy(operation: Operation) -> BusyError:
    return BusyError(
        f"Another call is carrying out {operation.id}.", f"Call get_operation(operation_id={operation.id!r})."
    )


async def _delete_all(context: Context, operation: Operation, report: ReportProgress) -> Result:
    """Delete one after another, the oldest first, until all are tried, one is unknown, or the time of a call is up.

    One that is refused, or gone already, keeps none of the others; those that were tried in vain lately come last.
    """
    due = operation.of(PruneDetails).planned("delete")[::-1]
    ids = [item.backup.id for item in due]
    last = await context.ledger.read(lambda entries: stubborn(context, entries, operation.server_id, ids))
    due.sort(key=lambda item: item.backup.id in last)
    begun = {each.id: each for each in await _deletes(context, operation)}
    for number, item in enumerate(due, start=1):
        if item.operation_id in begun and begun[item.operation_id].status not in _TO_TRY:
            continue
        if context.seconds_left < _DELETE_SECONDS:
            break
        try:
            if operation.is_for_approver:  # the rest of it waits for the budget
                await context.ledger.read(partial(check_room, context, action="delete_backup", server_id=0))
            made, error = await _delete_one(context, operation, item)
        except BackupsError as obstacle:  # nothing was sent for this one: the same call may go on with it
            if combined(begun.values()) == "nothing":
                raise
            return await _recorded(context, operation, begun, obstacle)
        begun[made.id] = made
        if made.changed == "unknown" or isinstance(error, _END_A_PRUNE):
            status = Status.UNKNOWN if made.changed == "unknown" else Status.FAILED
            stopped = operation.updated(status=status, error_code=made.error_code, error=made.error, advice=made.advice)
            result = await _recorded(context, stopped, begun)
            if error and all(outcome(each) == "not deleted" for each in begun.values()):
                raise error
            return result
        await report(number, len(due), f"{operation.id}: {number} of {plural(len(due), 'backup')} tried")
    else:
        operation = _ended(operation, begun)
    return await _recorded(context, operation, begun)


async def _delete_one(context: Context, operation: Operation, item: PruneItem) -> tuple[Operation, BackupsError | None]:
    """What became of one more delete; and the error that it met, if it did.

    Raises:
        BackupsError: Nothing was sent for it, and nothing refused.
    """
    begun = await context.ledger.write(lambda entries: _delete_for(context, entries, operation, item))
    try:
        if begun.status in OPEN:
            check = partial(_check_again, operation)
            result = await execute(context, begun, operation.approved_by, check=check)
        else:
            result = await settle(context, begun)
    except BackupsError as error:
        try:
            made = await context.find(begun.id) or begun
        except LEDGER_AWAY:
            if error.changed == "nothing":
                raise error from None
            made = begun.with_error(Status.UNKNOWN, error)
        if made.status in OPEN:
            raise
        return made, error
    return result.operation, None


def _check_again(prune: Operation, context: Context, operation: Operation, seen: Observation) -> None:
    """Whether the delete is still allowed, and no rule keeps the backup by now: what was kept instead may be gone.

    Raises:
        PolicyDeniedError, TargetChangedError: It is not, or one does.
    """
    delete.check_rules(context, operation, seen)
    items = judge_all(context.settings, seen.inventory, prune.server_id, keep_of(prune))
    now = next((each for each in items if each.backup.id == operation.backup_id), None)
    if now and now.fate != "delete":
        fate = "left alone" if now.fate == "leave" else "kept"
        raise TargetChangedError(
            f"Backup {operation.backup_id} would be {fate} by now ({now.reason}), unlike when the plan was made.",
            "Call again without operation_id for a new plan.",
        )
    delete.check_again(context, operation, seen)


def _delete_for(context: Context, entries: Entries, operation: Operation, item: PruneItem) -> Operation:
    """The operation that deletes one backup of a prune: as it came to be, or else planned now.

    Its arguments are not those of delete_backup, so that no other call can confirm it.
    """
    begun = entries.get(item.operation_id)
    if begun and begun.status not in OPEN | {Status.EXPIRED}:
        return begun
    return entries.save(
        Operation(
            id=item.operation_id,
            action="delete_backup",
            status=Status.PLANNED,
            arguments={"server_id": operation.server_id, "backup_id": item.backup.id},
            server_id=operation.server_id,
            server_name=operation.server_name,
            backup_id=item.backup.id,
            backup=item.backup,
            details=DeleteDetails(
                part_of=operation.id, all_left_expire_by=operation.of(PruneDetails).all_left_expire_by
            ),
            policy=operation.policy,
            principal=operation.principal,
            **operation.identity._asdict(),
            created=context.moment(),
        )
    )


async def _deletes(context: Context, operation: Operation) -> list[Operation]:
    """The deletes that a prune began, oldest backup first."""
    ids = [item.operation_id for item in reversed(operation.of(PruneDetails).items) if item.operation_id]
    found = await context.ledger.read(lambda entries: [entries.get(each) for each in ids])
    return [each for each in found if each]


def _ended(operation: Operation, deletes: Mapping[str, Operation]) -> Operation:
    """A prune of which every delete was tried, or one stopped it; its status follows from theirs.

    Finished, once each of its backups has been seen to be gone; failed, where one is refused and stays.
    """
    due = operation.of(PruneDetails).planned("delete")
    outcomes = {outcome(deletes[item.operation_id]) if item.operation_id in deletes else "" for item in due}
    if "unknown" in outcomes:
        return operation.updated(status=Status.UNKNOWN, evidence="")
    if outcomes & {"", "not deleted"}:
        return operation.updated(status=Status.FAILED, evidence="")
    if any(each.status is Status.ACCEPTED for each in deletes.values()):
        said = "VPS.org said yes, and not all have been seen to be gone"
        return operation.updated(status=Status.ACCEPTED, evidence=said)
    return operation.updated(status=Status.SUCCEEDED, evidence=ALL_SEEN)


async def _recorded(
    context: Context, operation: Operation, deletes: Mapping[str, Operation], obstacle: BackupsError | None = None
) -> Result:
    """The prune as it is now, recorded; where that cannot be, each of its deletes is known by its own record."""
    try:
        operation = await context.record(operation)
    except BackupsError as error:
        obstacle = obstacle or error
    return Result(operation, deletes=tuple(deletes.values()), obstacle=obstacle)


_OUTCOMES: dict[Changed, Outcome] = {"unknown": "unknown", "started": "being deleted", "done": "deleted"}


def outcome(made: Operation) -> Outcome | Literal[""]:
    """What became of one of its backups; empty while its delete has not been tried."""
    if made.changed != "nothing":
        return _OUTCOMES[made.changed]
    if made.status in OPEN | {Status.EXPIRED}:
        return ""
    # Gone, where no list had it any more; where VPS.org denied one that was listed, that is a refusal.
    return "gone" if made.error_code == NotFoundError.code and made.sent is None else "not deleted"


async def look_at_deletes(context: Context, operation: Operation) -> Result:
    """What became of its deletes, all judged by one list."""
    recorded = await _deletes(context, operation)
    after, unseen = [left_behind(context, each) for each in recorded], ""
    try:
        if any(each.sent for each in recorded):
            unsure = [each.backup_id for each in after if delete.may_have_moved(each)]
            backups = await delete.list_for(context, operation.server_id, unsure)
            now, over = context.moment(), await delete.sent_again(context, after)
            is_open = {each.id for each in after if delete.may_change(each) and context.can_see(each)} - over.keys()
            after = [delete.judge(each, backups, now) if each.id in is_open else each for each in after]
    except CANNOT_SEE as error:
        unseen = error.code
    if after != recorded:
        pairs = list(zip(recorded, after, strict=True))
        with suppress(*LEDGER_AWAY):  # then it is found again at the next look
            after = await context.ledger.write(
                lambda entries: [supersede(entries, before, each) if before != each else each for before, each in pairs]
            )
    if after and operation.status not in {Status.PREPARING, Status.EXPIRED}:
        known = _ended(operation, {each.id: each for each in after})
        was_unknown = operation.status is Status.UNKNOWN is not known.status  # why it was not known is no longer so
        operation = known.without_error() if was_unknown else known
    return Result(operation, deletes=tuple(after), unseen=unseen)
