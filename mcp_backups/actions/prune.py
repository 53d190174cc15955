"""prune_backups: a server's manual backups by keep rules; planned once, then one delete after another.

Each delete is an operation of its own, under the same guards as `delete_backup`. What became of the prune is what
became of them; it is kept nowhere else.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Literal

from mcp_backups.actions import delete
from mcp_backups.api.servers import read_servers, require_server
from mcp_backups.errors import (
    AuthFailedError,
    BackupsError,
    BudgetExhaustedError,
    BusyError,
    ConfigError,
    NotFoundError,
    PolicyDeniedError,
    RateLimitedError,
    TargetChangedError,
)
from mcp_backups.operations import (
    CANNOT_SEE,
    LEDGER_AWAY,
    OPEN,
    UNSETTLED,
    ApprovedBy,
    Arguments,
    Context,
    DeleteDetails,
    Entries,
    Facts,
    Inventory,
    Observation,
    Operation,
    Person,
    PruneDetails,
    PruneItem,
    Question,
    ReportProgress,
    Request,
    Result,
    Status,
    Steps,
    authorize,
    backup_line,
    check_budget,
    check_complete,
    check_open,
    check_prune,
    combined,
    counted,
    deletes_left,
    execute,
    judge_all,
    left_behind,
    new_id,
    outcome_of_other,
    server_line,
    settle,
    still_open,
    supersede,
)
from mcp_backups.retention import Keep
from mcp_backups.text import listed, plural, stamp

Outcome = Literal["deleted", "gone", "not deleted", "unknown"]
"""What became of one backup: deleted; gone already, not by the prune; refused; or not known."""

ALL_SEEN = "each is absent from the complete list"
"""How it is known that a prune is finished."""

_DELETE_SECONDS = 30.0
"""What a delete may take, and so must be left of the call to begin it: 25 s to send it, and time to look before."""

_END_A_PRUNE = (AuthFailedError, BudgetExhaustedError, ConfigError, RateLimitedError)
"""Refusals that are about every further delete as well."""

_TO_TRY = OPEN | UNSETTLED | {Status.EXPIRED}
"""The statuses of a delete that is still to be begun, or to be settled first."""

_NAMED = 10
"""Backups of a kind that a question or a sentence names; the operation shows them all."""


async def prune(
    context: Context,
    server_id: int,
    keep: Keep,
    *,
    confirm: bool,
    operation_id: str,
    person: Person,
    report: ReportProgress,
) -> Result:
    """Plan to prune a server's manual backups or, when that is consented to, delete what no rule keeps.

    Raises:
        BackupsError: Nothing was deleted, or it is not known.
    """
    arguments: Arguments = {
        "server_id": server_id,
        "keep_last": keep.last,
        "keep_daily": keep.daily,
        "keep_weekly": keep.weekly,
        "keep_monthly": keep.monthly,
    }
    request = Request("prune_backups", arguments, confirm, operation_id, person)
    return await authorize(context, request, Steps(_plan, question, partial(_execute, report)))


def _keep(operation: Operation) -> Keep:
    return Keep(*(int(operation.arguments[f"keep_{name}"]) for name in ("last", "daily", "weekly", "monthly")))


# The plan


async def _plan(context: Context, request: Request) -> Operation:
    server_id = int(request.arguments["server_id"])
    check_prune(context.settings, server_id)
    with context.reading():
        backups = await context.api.list_backups(server_id)
        if not backups.rows:
            require_server(server_id, backups, await read_servers(context.api))
    draft = Operation(
        id=new_id(),
        action="prune_backups",
        status=Status.PLANNED,
        arguments=request.arguments,
        server_id=server_id,
        server_name=next((backup.server_name for backup in backups.rows), ""),
        details=PruneDetails(),
        principal=context.principal,
        **context.identity._asdict(),
        created=context.moment(),
    )
    try:
        return await context.record(await _judged(context, draft, await context.inventory(server_id, backups)))
    except PolicyDeniedError as refusal:
        await context.record(draft.with_error(Status.REFUSED, refusal))
        raise


async def _judged(context: Context, draft: Operation, inventory: Inventory) -> Operation:
    """The plan, with what becomes of each backup; there is nothing to approve when none is to be deleted."""
    check_complete(draft.server_id, inventory)

    def before(entries: Entries) -> list[Operation]:
        check_open(context, entries, draft.server_id)
        return counted(context, entries, "delete_backup")

    sent = await context.ledger.read(before)
    room = deletes_left(context.settings, sent, draft.created)
    details = PruneDetails(items=judge_all(context.settings, inventory, draft.server_id, _keep(draft), room), room=room)
    if details.planned("later") and not room:
        check_budget(context.settings, "delete_backup", draft.server_id, sent, draft.created)
    going = {item.backup.id for item in details.planned("delete")}
    if not going:
        return draft.updated(status=Status.SUCCEEDED, details=details)
    end = delete.end_of_all(inventory.proven_on(draft.server_id, without=going))
    return draft.updated(details=details.model_copy(update={"all_left_expire_by": end}))


# The execution


async def _execute(report: ReportProgress, context: Context, operation: Operation, approved_by: ApprovedBy) -> Result:
    """Carry on with a prune that was consented to, if no other call is at it."""
    check_prune(context.settings, operation.server_id)  # a rule that holds for each of them is told once
    if context.liveness.is_here(operation.id):
        raise _busy(operation)
    with context.liveness.at_work(operation.id) as owner:
        taken = await context.ledger.write(lambda entries: _take_up(context, entries, operation, approved_by, owner))
        return await _delete_all(context, taken, report) if taken else await outcome_of_other(context, operation.id)


def _take_up(
    context: Context, entries: Entries, operation: Operation, approved_by: ApprovedBy, owner: str
) -> Operation | None:
    """The prune, now this call's to carry out; each delete has its id, by which it is known again. None if it ended."""
    current = still_open(context, entries, operation)
    if current is None:
        return None
    if current.owner not in {"", owner} and context.liveness.is_at_work(current.owner, current.id):
        raise _busy(current)
    if current.status is Status.PLANNED:
        items = (
            item.model_copy(update={"operation_id": new_id()}) if item.fate == "delete" else item
            for item in current.of(PruneDetails).items
        )
        current = entries.save(current.updated(status=Status.APPROVED, approved_by=approved_by, items=tuple(items)))
    sent = current.sent or context.moment()
    return entries.save(current.updated(status=Status.PREPARING, owner=owner, sent=sent))


def _busy(operation: Operation) -> BusyError:
    return BusyError(
        f"Another call is carrying out {operation.id}.", f"Call get_operation(operation_id={operation.id!r})."
    )


async def _delete_all(context: Context, operation: Operation, report: ReportProgress) -> Result:
    """Delete one after another, the oldest first, until all are tried, one is unknown, or the time of a call is up.

    One that is refused, or gone already, keeps none of the others.
    """
    due = operation.of(PruneDetails).planned("delete")[::-1]
    begun = {each.id: each for each in await _deletes(context, operation)}
    for number, item in enumerate(due, start=1):
        if item.operation_id in begun and begun[item.operation_id].status not in _TO_TRY:
            continue
        if context.seconds_left < _DELETE_SECONDS:
            break
        try:
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
    delete.check_again(context, operation, seen)
    room = len(prune.of(PruneDetails).items)
    items = judge_all(context.settings, seen.inventory, prune.server_id, _keep(prune), room)
    now = next((each for each in items if each.backup.id == operation.backup_id), None)
    if now and now.fate == "keep":
        raise TargetChangedError(
            f"Backup {operation.backup_id} would be kept by now ({now.reason}), unlike when the plan was made.",
            "Call again without operation_id for a new plan.",
        )


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
            details=DeleteDetails(part_of=operation.id),
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
        return operation.updated(status=Status.UNKNOWN)
    if outcomes & {"", "not deleted"}:
        return operation.updated(status=Status.FAILED)
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


async def send(_context: Context, operation: Operation) -> Operation:
    """Never called: a prune sends nothing itself.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"{operation.id}: a prune is sent by its deletes")


# The outcome, told from a look


def outcome(made: Operation) -> Outcome | Literal[""]:
    """What became of one of its backups; empty while its delete has not been tried."""
    if made.changed == "unknown":
        return "unknown"
    if made.changed == "done":
        return "deleted"
    if made.status in OPEN | {Status.EXPIRED}:
        return ""
    # Gone, where no list had it any more; where VPS.org denied one that was listed, that is a refusal.
    return "gone" if made.error_code == NotFoundError.code and made.sent is None else "not deleted"


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it: whatever became of it, some of its deletes may tell more."""
    return operation.status not in {Status.PLANNED, Status.DECLINED, Status.REFUSED}


async def look(context: Context, operation: Operation) -> Result:
    """What became of its deletes, all judged by one list."""
    recorded = await _deletes(context, operation)
    after, unseen = [left_behind(context, each) for each in recorded], ""
    try:
        if any(each.sent for each in recorded):
            backups = await context.api.list_backups(operation.server_id)
            now = context.moment()
            after = [
                delete.judge(each, backups, now) if delete.may_change(each) and context.can_see(each) else each
                for each in after
            ]
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


# The words


_SUMMARY = {
    Status.PLANNED: "{to_delete} of {manual} manual backups of server {server} would be deleted for good.",
    Status.PREPARING: "The prune of server {server} is under way: {deleted} of {to_delete} backups are deleted.",
    Status.ACCEPTED: "VPS.org accepted the deletion of {deleted} of {manual} manual backups of server {server}; "
    "not all have been seen to be gone.{rest}",
    Status.SUCCEEDED: "{deleted} of {manual} manual backups of server {server} are deleted.{rest}",
    Status.FAILED: "The prune of server {server} has ended, and not all backups are deleted. {error} "
    "Deleted: {gone}.{rest}",
    Status.UNKNOWN: "The prune of server {server} stopped at backup {stopped_at}. {error} Deleted: {gone}.{rest}",
    Status.EXPIRED: "The plan is no longer valid. Deleted: {gone}.{rest}",
}


def summary(result: Result) -> str:
    """What happened, or would."""
    operation, details = result.operation, result.operation.of(PruneDetails)
    deletes = result.deletes
    gone = [each for each in deletes if outcome(each) == "deleted"]
    told = _told([each.backup_id for each in gone], details)
    others = {"Gone already": "gone", "Refused": "not deleted", "Not known": "unknown"}
    named = {
        head: listed([each.backup_id for each in deletes if outcome(each) == kind], _NAMED)
        for head, kind in others.items()
    }
    text = _SUMMARY.get(operation.status, "").format(
        server=operation.server_id,
        manual=len(details.items),
        to_delete=len(details.planned("delete")),
        deleted=len(gone),
        gone=told,
        stopped_at=deletes[-1].backup_id if deletes else 0,
        error=operation.error,
        rest="".join(f" {head}: {ids}." for head, ids in named.items() if ids),
    )
    return text.replace("  ", " ")


def _told(gone: list[int], details: PruneDetails) -> str:
    """Which are gone, oldest first; many by the last of them where they are the oldest of the plan without a gap."""
    oldest = [item.backup for item in reversed(details.planned("delete"))][: len(gone)]
    if len(gone) > _NAMED and gone == [backup.id for backup in oldest]:
        last = oldest[-1]
        return f"the {len(gone)} oldest of the plan, the last being backup {last.id} of {stamp(last.created_at)}"
    return listed(gone, _NAMED) or "none"


def facts(result: Result, _now: datetime) -> Facts:
    """What bears on the decision."""
    details = result.operation.of(PruneDetails)
    if result.operation.status is Status.REFUSED:
        return {}
    told: Facts = {
        "manual_backups": len(details.items),
        "to_keep": len(details.planned("keep")),
        "to_delete": len(details.planned("delete")),
        "can_be_undone": False,
    }
    if details.all_left_expire_by:
        told["all_left_expire_by"] = stamp(details.all_left_expire_by)
    if later := len(details.planned("later")):
        told["left_for_later"] = later
        allowed = plural(details.room, "delete")
        told["budget"] = f"allowed {allowed} when planned; the rest needs another prune later"
    return told


def next_step(result: Result, _now: datetime) -> str:
    """What to do while it is under way, or was done in part."""
    operation = result.operation
    if operation.status is Status.PREPARING:
        return f"Call {operation.confirming_call} to go on."
    if operation.status is Status.SUCCEEDED and operation.of(PruneDetails).planned("later"):
        return "For what is left for later, plan another prune when the budget of deletes allows it."
    if operation.status is Status.ACCEPTED:
        return (
            f"Do not count on the backups that went. Call get_operation(operation_id={operation.id!r}) later, for up "
            "to 24 h: then they are gone, or a deletion did not take effect. VPS.org's own list of backups shows the "
            "same."
        )
    return ""


def question(operation: Operation) -> Question:
    """What a person is asked before it."""
    details = operation.of(PruneDetails)
    goes = [item.backup for item in details.planned("delete")]
    counts = {name.replace("_", "-"): count for name, count in operation.arguments.items() if name != "server_id"}
    rules = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    end = details.all_left_expire_by
    others = "automatic backups are left alone" + (f"; all good backups left expire by {stamp(end)}" if end else "")
    lines = [
        f"Delete {len(goes)} of {plural(len(details.items), 'manual backup')} for good? This cannot be undone.",
        server_line(operation),
        f"Deleted: what no rule keeps, from {stamp(goes[-1].created_at)} to {stamp(goes[0].created_at)}",
        *(f"- {backup_line(backup)}" for backup in goes[:_NAMED]),
        *([f"- and {plural(len(goes) - _NAMED, 'older backup')}"] if len(goes) > _NAMED else []),
        f"Kept: {len(details.planned('keep'))}, by the rules {rules}; {others}",
    ]
    return Question("\n".join(lines), "count", "Type the number of backups to delete", len(goes))
