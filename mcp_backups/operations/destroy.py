"""Deleting and restoring: one backup, looked at once for the plan and again before anything is sent."""

from collections.abc import Callable

from mcp_backups.errors import BackupsError, BusyError, NotFoundError, PolicyDeniedError, TargetChangedError
from mcp_backups.operations.confirm import Wish, grant, outcome_of_other
from mcp_backups.operations.consent import Person
from mcp_backups.operations.desk import Desk, Told, with_error
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import EFFECTIVE, REPEAT_WINDOW, ApprovedBy, Arguments, Operation
from mcp_backups.operations.plan import (
    Sight,
    StaleError,
    check,
    check_fresh,
    check_ledger,
    counted,
    look,
    planned,
    still_open,
)
from mcp_backups.operations.policy import check_server, next_restore
from mcp_backups.operations.safety import safety_backup_id, wait_for_safety
from mcp_backups.operations.send import carry_out
from mcp_backups.operations.settle import supersede

Check = Callable[[Sight], None]
"""Passes, or raises PolicyDeniedError or TargetChangedError."""

_LOOKS = 5
"""How often it is looked again because something else was sent for the server meanwhile."""


async def delete(desk: Desk, backup_id: int, *, confirm: bool, operation_id: str, person: Person) -> Told:
    """Plan to delete a backup or, when that is consented to, delete it.

    Raises:
        BackupsError: Nothing was deleted, or it is not known.
    """
    arguments: Arguments = {"backup_id": backup_id}
    return await grant(desk, Wish("delete_backup", arguments, confirm, operation_id, person), _plan, redeem)


async def restore(
    desk: Desk,
    server_id: int,
    backup_id: int,
    *,
    safety_backup: bool,
    confirm: bool,
    operation_id: str,
    person: Person,
) -> Told:
    """Plan to restore a server or, when that is consented to, make its safety backup or restore it.

    Raises:
        BackupsError: Nothing was restored, or it is not known.
    """
    arguments: Arguments = {"server_id": server_id, "backup_id": backup_id, "safety_backup": safety_backup}
    return await grant(desk, Wish("restore_server", arguments, confirm, operation_id, person), _plan, redeem)


class _SentBeforeError(Exception):
    """The same call was carried out by another operation a moment ago.

    Args:
        operation_id: That operation.
    """

    def __init__(self, operation_id: str) -> None:
        super().__init__(operation_id)
        self.operation_id = operation_id


async def redeem(desk: Desk, operation: Operation, approved_by: ApprovedBy, check_too: Check | None = None) -> Told:
    """Carry out a plan that was consented to, unless it no longer fits what is there.

    Args:
        desk: What operations work with.
        operation: The plan.
        approved_by: Who consented.
        check_too: What else must hold by what is seen then.

    Raises:
        BackupsError: Nothing was changed, or it is not known.
    """
    for _ in range(_LOOKS):
        try:
            sight = await _look_again(desk, operation)
            if check_too:
                check_too(sight)
        except (PolicyDeniedError, TargetChangedError, NotFoundError) as refusal:
            return await _refuse(desk, operation, refusal)
        try:
            return await _carry_out_on(desk, operation, sight, approved_by)
        except StaleError:
            continue
    raise BusyError(f"Other operations on server {operation.server_id} came in between, again and again.")


async def _carry_out_on(desk: Desk, operation: Operation, sight: Sight, approved_by: ApprovedBy) -> Told:
    try:
        if waiting := await wait_for_safety(desk, operation, approved_by, sight):
            return waiting
        outcome = await carry_out(
            desk,
            operation.id,
            lambda entries, owner: _intend(desk, entries, operation, sight, approved_by=approved_by, owner=owner),
        )
    except PolicyDeniedError as refusal:
        return await _refuse(desk, operation, refusal)
    except _SentBeforeError as before:
        return await outcome_of_other(desk, before.operation_id)
    return Told(outcome) if outcome else await outcome_of_other(desk, operation.id)


async def _refuse(desk: Desk, operation: Operation, refusal: BackupsError) -> Told:
    """Record that the operation was refused, and say so; unless another call has carried it out meanwhile."""
    refused = with_error(operation.but(status="refused"), refusal)
    recorded = await desk.ledger.write(lambda entries: supersede(entries, operation, refused))
    if recorded == refused:
        raise refusal
    return await outcome_of_other(desk, operation.id)


async def _plan(desk: Desk, wish: Wish) -> Operation:
    if server_id := int(wish.arguments.get("server_id", 0)):
        check_server(desk.settings, server_id)
    sight = await look(desk, wish.arguments)
    operation = planned(desk, wish.action, wish.arguments, sight)

    def save(entries: Transaction) -> Operation:
        check_ledger(desk, entries, operation)
        return entries.save(operation)

    try:
        check(desk, operation, sight)
        return await desk.ledger.write(save)
    except PolicyDeniedError as refusal:
        await desk.record(with_error(operation.but(status="refused"), refusal))
        raise


async def _look_again(desk: Desk, operation: Operation) -> Sight:
    """What is there now, if it still is what the plan showed and still allowed."""
    plan = operation.facts.get("part_of", operation.id)  # the one that somebody was shown
    try:
        sight = await look(desk, operation.arguments)
    except NotFoundError:
        raise NotFoundError(f"Backup {operation.backup_id} is gone since the plan {plan} was made.") from None
    if sight.target != operation.backup:
        raise TargetChangedError(f"Backup {operation.backup_id} is no longer as the plan {plan} showed it.")
    check(desk, operation, sight)
    if operation.action == "delete_backup":
        needed = sight.holdings.needed_by(operation.backup_id)
        if any(operation.facts.get(name) != restore for name, restore in needed.items()):
            raise TargetChangedError(
                f"Backup {operation.backup_id} is needed by a restore that was sent since the plan {plan}."
            )
    relied_on_another = operation.facts.get("can_be_undone") and not operation.arguments.get("safety_backup")
    if relied_on_another and not sight.way_back:
        raise TargetChangedError(f"The way back that the plan {operation.id} showed is no longer recent, or gone.")
    return sight


def _intend(
    desk: Desk, entries: Transaction, operation: Operation, sight: Sight, *, approved_by: ApprovedBy, owner: str
) -> Operation | None:
    current = still_open(desk, entries, operation)
    if current is None:
        return None
    if "flag" in {approved_by, current.approved_by}:
        _check_first(desk, entries, current)
    check_fresh(entries, current, sight)
    check_ledger(desk, entries, current)
    approved = entries.save(current.but(status="approved", approved_by=approved_by))
    sending = approved.but(status="sending", sent=desk.moment(), owner=owner)
    return entries.save(_with_way_back(desk, entries, sending, sight))


def _with_way_back(desk: Desk, entries: Transaction, operation: Operation, sight: Sight) -> Operation:
    """A restore with the backup that would take it back, and from when on."""
    if operation.action != "restore_server":
        return operation
    before = counted(desk, entries, "restore_server")
    way_back = sight.way_back.id if sight.way_back else safety_backup_id(entries, operation)
    return operation.but(
        undo_backup_id=way_back,
        facts=operation.facts | {"can_be_undone": bool(way_back)},
        undo_from=next_restore(desk.settings, operation.server_id, before, desk.moment()),
    )


def _check_first(desk: Desk, entries: Transaction, operation: Operation) -> None:
    """Whether it is the first of its kind: a flag, unlike a plan, does not tell a call from the same call again.

    Raises:
        _SentBeforeError: Another with the same arguments was sent within the last 10 minutes.
    """
    now = desk.moment()
    for each in entries.find(
        action=operation.action, server_id=operation.server_id, statuses=EFFECTIVE, sent_only=True
    ):
        is_same = each.arguments == operation.arguments and desk.can_see(each)
        if is_same and each.sent and each.sent.ago(now) < REPEAT_WINDOW:
            raise _SentBeforeError(each.id)
