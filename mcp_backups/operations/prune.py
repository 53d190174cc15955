"""Pruning a server's manual backups by keep rules: once planned, one delete after another under the same guards."""

from functools import partial

from mcp_backups.errors import BackupsError, BusyError, TargetChangedError
from mcp_backups.operations.confirm import Wish, grant, outcome_of_other
from mcp_backups.operations.consent import Person
from mcp_backups.operations.desk import Desk, Progress, Told, with_error
from mcp_backups.operations.destroy import redeem
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import OPEN, ApprovedBy, Arguments, Operation, PruneItem, new_id
from mcp_backups.operations.plan import Sight, still_open
from mcp_backups.operations.prune_plan import judge, plan_prune
from mcp_backups.operations.settle import ALL_SEEN, LEDGER_AWAY, settle
from mcp_backups.retention import Keep
from mcp_backups.settings import Settings
from mcp_backups.text import plural

_DELETE_SECONDS = 30.0
"""What a delete may take, and so must be left of the call to begin it: 25 s to send it, and time to look before."""


async def prune(
    desk: Desk, server_id: int, keep: Keep, *, confirm: bool, operation_id: str, person: Person, progress: Progress
) -> Told:
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
    wish = Wish("prune_backups", arguments, confirm, operation_id, person)
    return await grant(desk, wish, partial(plan_prune, keep), partial(_go_on, progress))


async def _go_on(progress: Progress, desk: Desk, operation: Operation, approved_by: ApprovedBy) -> Told:
    """Carry on with a prune that was consented to, if no other call is at it."""
    if desk.presence.is_here(operation.id):
        raise _busy(operation)
    with desk.presence.at_work(operation.id) as owner:
        taken = await desk.ledger.write(lambda entries: _take_up(desk, entries, operation, approved_by, owner))
        return await _delete_all(desk, taken, progress) if taken else await outcome_of_other(desk, operation.id)


def _take_up(
    desk: Desk, entries: Transaction, operation: Operation, approved_by: ApprovedBy, owner: str
) -> Operation | None:
    """The prune, now this call's to carry out; each delete has its id, by which it is known again. None if it ended."""
    current = still_open(desk, entries, operation)
    if current is None:
        return None
    if current.owner not in {"", owner} and desk.presence.is_at_work(current.owner, current.id):
        raise _busy(current)
    if current.status == "planned":
        items = (
            item.model_copy(update={"operation_id": new_id()}) if item.fate == "delete" else item
            for item in current.items
        )
        current = entries.save(current.but(status="approved", approved_by=approved_by, items=tuple(items)))
    return entries.save(current.but(status="preparing", owner=owner, sent=current.sent or desk.moment()))


def _busy(operation: Operation) -> BusyError:
    return BusyError(
        f"Another call is carrying out {operation.id}.", f"Call get_operation(operation_id={operation.id!r})."
    )


async def _delete_all(desk: Desk, operation: Operation, progress: Progress) -> Told:
    """Delete one after another, the oldest first, until all is done, one is not, or the time of a call is up."""
    due = [item for item in reversed(operation.items) if item.fate == "delete"]
    for number, item in enumerate(due):
        if item.outcome:
            continue
        if desk.seconds_left < _DELETE_SECONDS:
            return await _told(desk, operation)
        try:
            delete, error = await _delete_one(desk, operation, item)
        except BackupsError as obstacle:  # mostly nothing was sent for this one: the same call may go on with it
            if operation.changed == "nothing" or obstacle.changed != "nothing":
                raise
            return (await _told(desk, operation))._replace(obstacle=obstacle)
        operation = operation.with_outcomes([delete])
        if delete.changed != "done":
            return await _stop(desk, operation, delete, error)
        await progress(number + 1, len(due), f"{operation.id}: {number + 1} of {plural(len(due), 'backup')} deleted")
    return await _told(desk, await _ended(desk, operation))


async def _ended(desk: Desk, operation: Operation) -> Operation:
    """A prune whose every delete was answered with yes; `accepted` until each has been seen to be gone."""
    deletes = await desk.ledger.read(lambda entries: [entries.get(item.operation_id) for item in operation.items])
    if any(delete and delete.status == "accepted" for delete in deletes):
        return operation.but(status="accepted", evidence="VPS.org's answers")
    return operation.but(status="succeeded", evidence=ALL_SEEN)


async def _delete_one(desk: Desk, operation: Operation, item: PruneItem) -> tuple[Operation, BackupsError | None]:
    """What became of one more delete; and the error that it met, if it did.

    Raises:
        BackupsError: Nothing was sent for it, and nothing refused; or what was sent could not be recorded.
    """
    begun = await desk.ledger.write(lambda entries: _delete_for(desk, entries, operation, item))
    try:
        check = partial(_check_rules, desk.settings, operation, item)
        work = redeem(desk, begun, operation.approved_by, check) if begun.status in OPEN else settle(desk, begun)
        return (await work).operation, None
    except BackupsError as error:
        try:
            ended = await desk.ledger.read(lambda entries: entries.get(begun.id) or begun)
        except LEDGER_AWAY:
            raise error from None
        if ended.status in OPEN:
            raise
        return ended, error


def _check_rules(settings: Settings, operation: Operation, item: PruneItem, sight: Sight) -> None:
    """Whether still no rule keeps the backup: what the plan kept instead may be gone by now.

    Raises:
        TargetChangedError: One does.
    """
    keep = Keep(*(int(operation.arguments[f"keep_{name}"]) for name in ("last", "daily", "weekly", "monthly")))
    items = judge(settings, sight.holdings, operation.server_id, keep, room=len(operation.items))
    now = next((each for each in items if each.backup.id == item.backup.id), None)
    if now and now.fate == "keep":
        raise TargetChangedError(
            f"Backup {item.backup.id} would be kept by now ({now.reason}), unlike when the plan was made.",
            "Call again without operation_id for a new plan.",
        )


def _delete_for(desk: Desk, entries: Transaction, operation: Operation, item: PruneItem) -> Operation:
    """The operation that deletes one backup of a prune: as it came to be, or else planned now.

    Its arguments are not those of delete_backup, so that no other call can confirm it.
    """
    begun = entries.get(item.operation_id)
    if begun and begun.status not in OPEN | {"expired"}:
        return begun
    return entries.save(
        Operation(
            id=item.operation_id,
            action="delete_backup",
            status="planned",
            arguments={"server_id": operation.server_id, "backup_id": item.backup.id},
            server_id=operation.server_id,
            server_name=operation.server_name,
            backup_id=item.backup.id,
            backup=item.backup,
            facts={"part_of": operation.id},
            **operation.identity._asdict(),
            created=desk.moment(),
        )
    )


async def _stop(desk: Desk, operation: Operation, delete: Operation, error: BackupsError | None) -> Told:
    """End a prune at the delete that failed or is unknown."""
    told_by = with_error(delete, error) if error else delete
    stopped = operation.but(
        status="unknown" if delete.changed == "unknown" else "failed",
        error_code=told_by.error_code,
        error=told_by.error,
        advice=told_by.advice,
    )
    told = await _told(desk, stopped)
    if error and not any(item.outcome == "deleted" for item in operation.items):
        raise error
    return told


async def _told(desk: Desk, operation: Operation) -> Told:
    """The prune as it is now, recorded; where that cannot be, each of its deletes is known by its own record."""
    try:
        return Told(await desk.record(operation))
    except BackupsError as obstacle:
        return Told(operation, obstacle=obstacle)
