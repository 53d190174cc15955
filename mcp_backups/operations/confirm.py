"""From a plan to consent: what every destructive call goes through before anything is sent."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from mcp_backups.errors import ConfirmationExpiredError, ConfirmationInvalidError, DeclinedError
from mcp_backups.operations.consent import Person, approver, check_reply, consent, question
from mcp_backups.operations.desk import Desk, Told, with_error
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    REPEAT_WINDOW,
    Action,
    ApprovedBy,
    Arguments,
    Operation,
)
from mcp_backups.operations.policy import check_write
from mcp_backups.operations.settle import settle, supersede


@dataclass(frozen=True)
class Wish:
    """A destructive call as it came in.

    Attributes:
        confirm: The caller says that the plan is agreed to.
        operation_id: The plan; empty for a new one.
        person: The user behind the client.
    """

    action: Action
    arguments: Arguments
    confirm: bool
    operation_id: str
    person: Person


Plan = Callable[[Desk, Wish], Awaitable[Operation]]
"""Looks what the wish would do and records that as a plan."""

Redeem = Callable[[Desk, Operation, ApprovedBy], Awaitable[Told]]
"""Carries out a plan that was consented to."""


async def grant(desk: Desk, wish: Wish, plan: Plan, redeem: Redeem) -> Told:
    """Answer a destructive call: with a plan, with what became of it, or with the recorded outcome.

    Raises:
        BackupsError: Nothing was changed, or it is not known.
    """
    check_write(desk.settings)
    approval, can_ask = desk.settings.approval, wish.person.can_be_asked
    recorded = await _recorded(desk, wish)
    if recorded and recorded.status not in OPEN:
        return replace(await settle(desk, recorded), replayed=True)
    if recorded and recorded.approved_by and wish.confirm:
        return await redeem(desk, recorded, recorded.approved_by)
    needed = consent(approval, confirm=wish.confirm, shown=recorded is not None, can_ask=can_ask)
    operation = recorded or await plan(desk, wish)
    if not needed:
        return Told(operation, approver=approver(approval, can_ask=can_ask))
    return await redeem(desk, operation, await _ask(desk, operation, wish.person) if needed == "ask" else needed)


async def _recorded(desk: Desk, wish: Wish) -> Operation | None:
    """The operation that this call goes on with, if it is not a new one."""
    if operation_id := wish.operation_id or wish.person.answers_about:
        return await _named(desk, wish, operation_id)
    if wish.confirm and desk.settings.approval == "flag":
        return await _repeated(desk, wish)
    return None


async def _named(desk: Desk, wish: Wish, operation_id: str) -> Operation:
    """The operation of that id, if it is the one that this call repeats."""
    operation = await desk.ledger.read(lambda entries: entries.get(operation_id))
    if operation is None:
        raise ConfirmationInvalidError("There is no operation of that id.")
    if operation.action != wish.action or operation.arguments != wish.arguments:
        raise ConfirmationInvalidError(f"{operation.id} is a plan for another tool or other arguments.")
    if operation.is_expired(desk.clock.moment()) or operation.status == "expired":
        await settle(desk, operation)
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.")
    return operation


async def _repeated(desk: Desk, wish: Wish) -> Operation | None:
    """The operation of the same call within the last minutes: what was done is not done again, what waits goes on."""
    now = desk.clock.moment()

    def find(entries: Transaction) -> Operation | None:
        for operation in entries.find(action=wish.action, statuses=EFFECTIVE | {"preparing"}):
            is_recent = (operation.sent or operation.created).within(REPEAT_WINDOW, now)
            is_waiting = operation.status == "preparing" and not operation.is_expired(now)
            if operation.arguments == wish.arguments and (is_recent or is_waiting):
                return operation
        return None

    return await desk.ledger.read(find)


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
