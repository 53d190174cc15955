"""From a plan to consent: what every destructive call goes through before anything is sent."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mcp_backups.errors import BusyError, ConfirmationExpiredError, ConfirmationInvalidError, DeclinedError
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
from mcp_backups.operations.policy import check_write
from mcp_backups.operations.settle import settle, supersede
from mcp_backups.settings import Approval

_POLLS, _POLL_SECONDS = 100, 0.2


_OTHER_QUESTION = "The answer is to a question about something else; about this the user was not asked."


class Wish(NamedTuple):
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
    await desk.identify()
    approval, can_ask = desk.settings.approval, wish.person.can_be_asked
    recorded = await _recorded(desk, wish)
    if recorded and recorded.status in IN_FLIGHT:
        return await outcome_of_other(desk, recorded.id)
    if recorded and recorded.status not in OPEN:
        return (await settle(desk, recorded))._replace(replayed=True)
    if recorded and wish.confirm and _still_counts(recorded.approved_by, approval):
        return await redeem(desk, recorded, recorded.approved_by)
    needed = consent(approval, confirm=wish.confirm, shown=bool(wish.operation_id), can_ask=can_ask)
    operation = recorded or await plan(desk, wish)
    if not needed or operation.status not in OPEN:  # a prune that finds nothing to delete needs no consent
        return Told(operation, approver=approver(approval, can_ask=can_ask))
    if needed != "ask":
        return await redeem(desk, operation, needed)
    approved_by = await _ask(desk, operation, wish.person)
    return await redeem(desk.for_a_call(), operation, approved_by)  # the time that a person took does not count


def _still_counts(approved_by: ApprovedBy, approval: Approval) -> bool:
    """Whether the consent that an operation has is enough now: another process may have had a weaker rule."""
    return bool(approved_by) and (approval != "human" or approved_by == "person")


async def outcome_of_other(desk: Desk, operation_id: str) -> Told:
    """What another call made of an operation that this one was to carry out too.

    Raises:
        BusyError: It is still at it after 20 s.
    """
    for _ in range(_POLLS):
        operation = await desk.ledger.read(lambda entries: entries.get(operation_id))
        if operation and operation.status in IN_FLIGHT and not desk.is_being_sent(operation):
            return (await settle(desk, operation))._replace(replayed=True)
        if operation and operation.status not in OPEN | IN_FLIGHT:
            return Told(operation, replayed=True)
        await desk.clock.sleep(_POLL_SECONDS)
    raise BusyError(
        f"Another call is carrying out {operation_id}.", f"Call get_operation(operation_id={operation_id!r})."
    )


async def _recorded(desk: Desk, wish: Wish) -> Operation | None:
    """The operation that this call goes on with, if it is not a new one."""
    if wish.person.answers_about:
        return await _answered(desk, wish)
    if wish.operation_id:
        return await _named(desk, wish, wish.operation_id)
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
    if not desk.can_see(operation):
        told = f"{operation.id} was planned for another account, or for another address."
        raise ConfirmationInvalidError(f"{told}{_done_before((await settle(desk, operation)).operation)}")
    if operation.is_expired(desk.moment()) or operation.status == "expired":
        ended = (await settle(desk, operation)).operation
        raise ConfirmationExpiredError(f"The plan {ended.id} is no longer valid.{_done_before(ended)}")
    return operation


def _done_before(operation: Operation) -> str:
    """What calls before this one made of a plan that is no longer valid, as a further sentence; empty for nothing."""
    told = f"get_operation(operation_id={operation.id!r}) tells"
    if operation.changed != "nothing":
        return f" It had deleted some of its backups, or may have: {told} which."
    return f" The safety backup had been asked for: {told} more." if operation.safety_operation else ""


async def _answered(desk: Desk, wish: Wish) -> Operation:
    """The operation that the person was asked about, if this call is about the same."""
    about = wish.person.answers_about
    if wish.operation_id not in {"", about}:
        raise DeclinedError(_OTHER_QUESTION)
    try:
        return await _named(desk, wish, about)
    except ConfirmationInvalidError:
        raise DeclinedError(_OTHER_QUESTION) from None
    except ConfirmationExpiredError:
        raise DeclinedError("The user was asked, and did not answer in time.") from None


async def _repeated(desk: Desk, wish: Wish) -> Operation | None:
    """The operation of the same call within the last minutes: what was done is not done again, what waits goes on."""
    now = desk.moment()

    def find(entries: Transaction) -> Operation | None:
        done = entries.find(action=wish.action, statuses=EFFECTIVE | {"preparing"}, owner=desk.identity)
        for operation in done:
            is_recent = operation.sent is not None and operation.sent.ago(now) < REPEAT_WINDOW
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
