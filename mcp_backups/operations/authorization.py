"""From a request to consent: what every destructive call goes through before anything is sent."""

from itertools import chain

from mcp_backups.errors import BusyError, ConfirmationExpiredError, ConfirmationInvalidError, DeclinedError
from mcp_backups.operations.approval import ask_approvers, asked_before
from mcp_backups.operations.consent import NO, Person, Question, approver, check_reply, consent, is_enough
from mcp_backups.operations.context import Context, Entries, Request, Result, Steps, recent
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    REPEAT_WINDOW,
    Operation,
    RestoreDetails,
    Status,
)
from mcp_backups.operations.policy import check_write, policy_digest
from mcp_backups.operations.reconciliation import settle, supersede

_POLLS, _POLL_SECONDS = 100, 0.2

_OTHER_QUESTION = "The answer is to a question about something else; about this the user was not asked."


async def authorize(context: Context, request: Request, steps: Steps) -> Result:
    """Answer a destructive request: with a plan, with what became of it, or with the recorded outcome.

    Raises:
        BackupsError: Nothing was changed, or it is not known.
    """
    check_write(context.settings)
    await context.identify()
    approval, can_ask = context.settings.approval, request.person.can_be_asked
    recorded = await _recorded(context, request)
    if recorded and recorded.status is Status.SENDING:
        return await outcome_of_other(context, recorded.id)
    if recorded and recorded.status not in OPEN:
        return (await settle(context, recorded))._replace(replayed=True)
    if recorded and request.confirm and is_enough(recorded.approved_by, approval):
        return await steps.execute(context, recorded, recorded.approved_by)
    needed = consent(approval, confirm=request.confirm, shown=bool(request.operation_id), can_ask=can_ask)
    operation = recorded or await steps.plan(context, request)
    if not needed or operation.status not in OPEN:  # a prune that finds nothing to delete needs no consent
        return Result(operation, approver=approver(approval, can_ask=can_ask))
    if needed == "approver":
        return Result(await ask_approvers(context, operation), approver="approver")
    if needed == "ask":
        await _ask(context, request.person, operation, context.actions[request.action].question(operation))
        context = context.for_a_call()  # the time that a person took does not count
    return await steps.execute(context, operation, "person" if needed == "ask" else needed)


async def outcome_of_other(context: Context, operation_id: str) -> Result:
    """What another call made of an operation that this one was to carry out too.

    Raises:
        BusyError: It is still at it after 20 s.
    """
    for _ in range(_POLLS):
        operation = await context.find(operation_id)
        if operation and operation.status is Status.SENDING and not context.is_being_sent(operation):
            return (await settle(context, operation))._replace(replayed=True)
        if operation and operation.status not in OPEN | {Status.SENDING}:
            return Result(operation, replayed=True)
        await context.clock.sleep(_POLL_SECONDS)
    raise BusyError(
        f"Another call is carrying out {operation_id}.", f"Call get_operation(operation_id={operation_id!r})."
    )


async def _recorded(context: Context, request: Request) -> Operation | None:
    """The operation that this request goes on with, if it is not a new one."""
    if request.person.answers_about:
        return await _answered(context, request)
    if request.operation_id:
        return await _named(context, request, request.operation_id)
    if request.confirm and context.settings.approval == "flag":
        return await _repeated(context, request)
    if approver(context.settings.approval, can_ask=request.person.can_be_asked) == "approver":
        return await asked_before(context, request)
    return None


async def _named(context: Context, request: Request, operation_id: str) -> Operation:
    """The operation of that id, if it is the one that this request repeats."""
    operation = await context.find(operation_id)
    if operation is None or operation.principal != context.principal:
        raise ConfirmationInvalidError("There is no operation of that id.")
    if context.account.name and not context.can_see(operation):  # whether it is there is not told to other accounts
        raise ConfirmationInvalidError("There is no operation of that id.")
    if operation.action != request.action or operation.arguments != request.arguments:
        raise ConfirmationInvalidError(f"{operation.id} is a plan for another tool or other arguments.")
    if not context.can_see(operation):
        told = f"{operation.id} was planned for another account, or for another address."
        raise ConfirmationInvalidError(f"{told}{_done_before(await settle(context, operation))}")
    if operation.is_expired(context.moment()) or operation.status is Status.EXPIRED:
        ended = await settle(context, operation)
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.{_done_before(ended)}")
    if operation.status in OPEN and operation.policy != policy_digest(context.settings):
        told = f"The rules here are no longer those under which the plan {operation.id} was made."
        raise ConfirmationExpiredError(f"{told}{_done_before(await settle(context, operation))}")
    return operation


def _done_before(result: Result) -> str:
    """What calls before this one made of a plan that is no longer valid, as a further sentence; empty for nothing."""
    operation = result.operation
    look = f"get_operation(operation_id={operation.id!r}) tells"
    if result.changed != "nothing":
        return f" It had deleted some of its backups, or may have: {look} which."
    if isinstance(operation.details, RestoreDetails) and operation.details.safety_operation:
        return f" The safety backup had been asked for: {look} more."
    return ""


async def _answered(context: Context, request: Request) -> Operation:
    """The operation that the person was asked about, if this request is about the same."""
    about = request.person.answers_about
    if request.operation_id not in {"", about}:
        raise DeclinedError(_OTHER_QUESTION)
    try:
        return await _named(context, request, about)
    except ConfirmationInvalidError:
        raise DeclinedError(_OTHER_QUESTION) from None
    except ConfirmationExpiredError:
        raise DeclinedError(*NO["none"]) from None


async def _repeated(context: Context, request: Request) -> Operation | None:
    """The operation of the same request minutes ago: what was done is not done again, what waits goes on."""
    now = context.moment()

    def find(entries: Entries) -> Operation | None:
        waiting = entries.under_way({Status.PREPARING}, action=request.action)
        done = entries.sent(request.action, statuses=EFFECTIVE)
        rules = policy_digest(context.settings)
        live = (each for each in waiting if not each.is_expired(now) and each.policy == rules)
        for operation in chain(live, recent(done, REPEAT_WINDOW, now)):
            if operation.arguments == request.arguments and context.asked_for(operation):
                return operation
        return None

    return await context.ledger.read(find)


async def _ask(context: Context, person: Person, operation: Operation, asked: Question) -> None:
    reply = await person.ask(operation.id, asked)
    try:
        check_reply(asked, reply)
    except DeclinedError as no:
        declined = operation.with_error(Status.DECLINED, no)
        await context.ledger.write(lambda entries: supersede(entries, operation, declined))
        raise
