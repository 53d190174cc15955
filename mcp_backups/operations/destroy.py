"""Deleting and restoring: plan, consent, and a second look before anything is sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from mcp_backups.errors import (
    BusyError,
    ConfirmationExpiredError,
    ConfirmationInvalidError,
    DeclinedError,
    NotFoundError,
    PolicyDeniedError,
    TargetChangedError,
)
from mcp_backups.operations.consent import Person, approver, check_reply, consent, question
from mcp_backups.operations.desk import Desk, Told, with_error
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import (
    EFFECTIVE,
    IN_FLIGHT,
    OPEN,
    REPEAT_WINDOW,
    Action,
    ApprovedBy,
    Arguments,
    Operation,
)
from mcp_backups.operations.plan import Sight, check, check_ledger, look, planned, still_open
from mcp_backups.operations.policy import check_server, check_write
from mcp_backups.operations.safety import safety_backup_id, wait_for_safety
from mcp_backups.operations.send import carry_out
from mcp_backups.operations.settle import settle, supersede

_POLLS, _POLL_SECONDS = 100, 0.2
"""How long a call waits for another one that is carrying out the same operation: 20 s."""


async def delete(desk: Desk, backup_id: int, *, confirm: bool, operation_id: str, person: Person) -> Told:
    """Plan to delete a backup or, when that is consented to, delete it.

    Raises:
        BackupsError: Nothing was deleted, or it is not known.
    """
    arguments: Arguments = {"backup_id": backup_id}
    return await _destroy(desk, "delete_backup", arguments, confirm=confirm, operation_id=operation_id, person=person)


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
    return await _destroy(desk, "restore_server", arguments, confirm=confirm, operation_id=operation_id, person=person)


async def _destroy(
    desk: Desk, action: Action, arguments: Arguments, *, confirm: bool, operation_id: str, person: Person
) -> Told:
    check_write(desk.settings)
    approval = desk.settings.approval
    recorded = await _recorded(desk, action, arguments, confirm, operation_id or person.answers_about)
    if recorded and recorded.status not in OPEN:
        return replace(await settle(desk, recorded), replayed=True)
    if recorded and recorded.approved_by and confirm:
        return await _redeem(desk, recorded, recorded.approved_by)
    needed = consent(approval, confirm=confirm, shown=recorded is not None, can_ask=person.can_be_asked)
    operation = recorded or await _plan(desk, action, arguments)
    if not needed:
        return Told(operation, approver=approver(approval, can_ask=person.can_be_asked))
    return await _redeem(desk, operation, await _ask(desk, operation, person) if needed == "ask" else needed)


async def _recorded(
    desk: Desk, action: Action, arguments: Arguments, confirm: bool, operation_id: str
) -> Operation | None:
    """The operation that this call goes on with, if it is not a new one."""
    if operation_id:
        return await _named(desk, action, arguments, operation_id)
    if confirm and desk.settings.approval == "flag":
        return await _repeated(desk, action, arguments)
    return None


async def _ask(desk: Desk, operation: Operation, person: Person) -> ApprovedBy:
    asked = question(operation)
    reply = await person.ask(operation.id, asked)
    try:
        check_reply(asked, reply)
    except DeclinedError as no:
        declined = with_error(operation.but(status="declined"), no)
        await desk.ledger.write(lambda entries: supersede(entries, operation, declined))
        raise
    return "person"


async def _named(desk: Desk, action: Action, arguments: Arguments, operation_id: str) -> Operation:
    """The operation of that id, if it is the one that this call repeats."""
    operation = await desk.ledger.read(lambda entries: entries.get(operation_id))
    if operation is None:
        raise ConfirmationInvalidError("There is no operation of that id.")
    if operation.action != action or operation.arguments != arguments:
        raise ConfirmationInvalidError(f"{operation.id} is a plan for another tool or other arguments.")
    if operation.is_expired(desk.clock.moment()) or operation.status == "expired":
        await settle(desk, operation)
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.")
    return operation


async def _repeated(desk: Desk, action: Action, arguments: Arguments) -> Operation | None:
    """The operation of the same call within the last minutes: what was done is not done again, what waits goes on."""
    now = desk.clock.moment()

    def find(entries: Transaction) -> Operation | None:
        for operation in entries.find(action=action, statuses=EFFECTIVE | {"preparing"}):
            is_recent = (operation.sent or operation.created).within(REPEAT_WINDOW, now)
            is_waiting = operation.status == "preparing" and not operation.is_expired(now)
            if operation.arguments == arguments and (is_recent or is_waiting):
                return operation
        return None

    return await desk.ledger.read(find)


async def _plan(desk: Desk, action: Action, arguments: Arguments) -> Operation:
    if server_id := int(arguments.get("server_id", 0)):
        check_server(desk.settings, server_id)
    sight = await look(desk, arguments)
    operation = planned(desk, action, arguments, sight)

    def save(entries: Transaction) -> Operation:
        check_ledger(desk, entries, operation)
        return entries.save(operation)

    async with _refusing(desk, operation):
        check(desk, operation, sight)
        return await desk.ledger.write(save)


async def _redeem(desk: Desk, operation: Operation, approved_by: ApprovedBy) -> Told:
    async with _refusing(desk, operation):
        sight = await _look_again(desk, operation)
        if waiting := await wait_for_safety(desk, operation, approved_by, sight):
            return waiting
        outcome = await carry_out(
            desk,
            operation.id,
            lambda entries, owner: _intend(desk, entries, operation, sight, approved_by=approved_by, owner=owner),
        )
    return Told(outcome) if outcome else await _outcome_of_other(desk, operation.id)


async def _look_again(desk: Desk, operation: Operation) -> Sight:
    """What is there now, if it still is what the plan showed and still allowed."""
    try:
        sight = await look(desk, operation.arguments)
    except NotFoundError:
        raise NotFoundError(f"Backup {operation.backup_id} is gone since the plan {operation.id} was made.") from None
    if sight.target != operation.backup:
        raise TargetChangedError(f"Backup {operation.backup_id} is no longer as the plan {operation.id} showed it.")
    check(desk, operation, sight)
    return sight


def _intend(
    desk: Desk, entries: Transaction, operation: Operation, sight: Sight, *, approved_by: ApprovedBy, owner: str
) -> Operation | None:
    current = still_open(desk, entries, operation)
    if current is None:
        return None
    check_ledger(desk, entries, current)
    way_back = sight.way_back.id if sight.way_back else safety_backup_id(entries, current)
    approved = entries.save(
        current.but(
            status="approved",
            approved_by=current.approved_by or approved_by,
            undo_backup_id=way_back if operation.action == "restore_server" else 0,
        )
    )
    return entries.save(approved.but(status="sending", sent=desk.clock.moment(), owner=owner))


@asynccontextmanager
async def _refusing(desk: Desk, operation: Operation) -> AsyncIterator[None]:
    """If what is done inside is refused, record that the operation was."""
    try:
        yield
    except (PolicyDeniedError, TargetChangedError, NotFoundError) as refusal:
        refused = with_error(operation.but(status="refused"), refusal)
        await desk.ledger.write(lambda entries: supersede(entries, operation, refused))
        raise


async def _outcome_of_other(desk: Desk, operation_id: str) -> Told:
    """What another call made of the operation that both were to carry out."""
    for _ in range(_POLLS):
        operation = await desk.ledger.read(lambda entries: entries.get(operation_id))
        if operation and operation.status not in OPEN | IN_FLIGHT:
            return Told(operation, replayed=True)
        await desk.clock.sleep(_POLL_SECONDS)
    raise BusyError(
        f"Another call is carrying out {operation_id}.", f"Call get_operation(operation_id={operation_id!r})."
    )
