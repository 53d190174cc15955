"""Approval outside the chat: what waits for an approver, what they are shown of it, and what they decide."""

import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mcp_backups.access import LOCAL, is_same_person, kept_tokens
from mcp_backups.clock import Moment
from mcp_backups.errors import (
    BusyError,
    ConfirmationExpiredError,
    ConfirmationInvalidError,
    DeclinedError,
    PolicyDeniedError,
    TargetChangedError,
)
from mcp_backups.models import Backup
from mcp_backups.operations.context import Action, Context, Entries, Facts, Request, Result
from mcp_backups.operations.limits import still_open
from mcp_backups.operations.operation import (
    APPROVED_LIFE,
    OPEN,
    ActionName,
    Arguments,
    Decision,
    Operation,
    PruneDetails,
    PruneItem,
    Status,
)
from mcp_backups.operations.policy import policy_digest
from mcp_backups.operations.reconciliation import CANNOT_SEE, MADE_ELSEWHERE
from mcp_backups.settings import Settings
from mcp_backups.text import safe_text, seen, size, stamp

MOST_WAITING = 20
"""How many operations of an account may wait for an approver."""

_ANOTHER = "Let somebody else decide."
_OTHER_RULES = (
    "It was planned under other rules than those set here: where the server has these, it is not carried out, and has"
    " to be asked for again."
)  # an approver's own settings may be others than the server's

_MOST_LOOKED_AT = 2000
_REMEMBERED = timedelta(days=30)
"""For how long, and among how many of the last operations, it is looked who logged in and asked to destroy."""

_BEFORE_APPROVERS = frozenset({Status.WAITING, Status.APPROVED})


class RenderedPlan(BaseModel):
    """A plan as an approver is shown it: our facts first, what others wrote last; the same plan always alike.

    Attributes:
        call: What was asked for, as a model writes it.
        summary: What would be done.
        facts: What bears on the decision.
        backups: Of a prune, what it plans for each backup, the newest first.
        written_by_others: Names and descriptions, by what they are of; never to be taken for our words.
        label: What the approver is asked to type.
        expected: What they type if they agree.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    operation_id: str
    call: str
    summary: str
    facts: Facts
    backups: tuple[PruneItem, ...]
    written_by_others: dict[str, str]
    label: str
    expected: str

    def is_confirmed_by(self, typed: str) -> bool:
        """Whether what an approver typed is a yes; compared as people see it."""
        return seen(typed) == seen(self.expected)


class Pending(NamedTuple):
    """An operation that an approver can decide on.

    Attributes:
        mac: Of the plan as it is rendered; the decision has to bring it back.
    """

    operation: Operation
    plan: RenderedPlan
    mac: str


class Present(NamedTuple):
    """What is there now, to stand beside what a plan showed.

    Attributes:
        gone: Backups of the plan that a complete list lacks.
        changed: Those that are not as the plan showed them.
        good_left: How many proven backups the server would keep now.
        unseen: Why it cannot be told, by an error code or in words; empty if it can.
    """

    gone: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    good_left: int = 0
    unseen: str = ""


# The one who asks


async def asked_before(context: Context, request: Request) -> Operation | None:
    """The operation of the same request that is before the approvers, or approved, already."""
    return await context.ledger.read(lambda entries: _same(context, entries, request.action, request.arguments))


def _same(context: Context, entries: Entries, action: ActionName, arguments: Arguments) -> Operation | None:
    found = _live(context, entries.under_way(_BEFORE_APPROVERS, action=action))
    rules = policy_digest(context.settings)
    return next(
        (each for each in found if each.arguments == arguments and each.policy == rules and context.asked_for(each)),
        None,
    )


def _live(context: Context, operations: Iterable[Operation]) -> list[Operation]:
    now = context.moment()
    return [each for each in operations if not each.is_expired(now)]


async def ask_approvers(context: Context, operation: Operation) -> Operation:
    """Put a plan before the approvers, unless the same request is before them already.

    Returns:
        The operation that waits, or what became of it meanwhile.

    Raises:
        BusyError: As many wait as may.
        DeclinedError: It was begun on a consent that does not count any more.
        ConfirmationExpiredError: The plan no longer counts.
    """

    def put(entries: Entries) -> Operation:
        current = still_open(context, entries, operation)
        if current is None or current.status is Status.WAITING or current.decision:
            return current or entries.get(operation.id) or operation
        if current.status is not Status.PLANNED:
            told = f"{current.id} was confirmed under another rule than the present one, by which an approver decides."
            raise DeclinedError(told, "Call again without operation_id for a new plan.")
        if same := _same(context, entries, current.action, current.arguments):
            return same
        waiting = sum(context.can_see(each) for each in _live(context, entries.under_way({Status.WAITING})))
        if waiting >= MOST_WAITING:
            raise BusyError(
                f"{waiting} operations wait for an approver already, and no more may.",
                "Tell the user; once some of them are decided, call again with the same arguments.",
            )
        lasts = timedelta(hours=context.settings.approval_hours)
        return entries.save(current.entering(Status.WAITING, context.moment(), lasts))

    return await context.ledger.write(put)


# The one who decides


def render(actions: Mapping[str, Action], operation: Operation) -> RenderedPlan:
    """A plan as an approver is shown it."""
    action, details = actions[operation.action], operation.details
    shown = Result(operation.as_planned, approver="approver")
    asked = action.question(operation)
    others = {"server's name": operation.server_name}
    facts: Facts = {"server": operation.server_id}
    if backup := operation.backup:
        facts["backup"] = f"{backup.id} of {stamp(backup.created_at)}, {size(backup.size_mb)}"
        others |= {
            "backup's type": backup.type,
            "backup's status": backup.status,
            "backup's description": backup.description,
        }
    # Somebody who says yes to a single backup in a chat is shown which; here its id is typed.
    is_flag = isinstance(asked.expected, bool)
    return RenderedPlan(
        operation_id=operation.id,
        call=operation.call,
        summary=action.summary(shown),
        facts=facts | action.facts(shown, operation.created.latest),
        backups=details.items if isinstance(details, PruneDetails) else (),
        written_by_others={name: text for name, text in others.items() if text},
        label="Type the backup's id to delete it for good" if is_flag else asked.label,
        expected=str(operation.backup_id if is_flag else asked.expected),
    )


def _pending(context: Context, entries: Entries, operation: Operation) -> Pending:
    plan = render(context.actions, operation)
    if operation.policy != policy_digest(context.settings):
        plan = plan.model_copy(update={"summary": f"{plan.summary} {_OTHER_RULES}"})
    return Pending(operation, plan, entries.seal(plan.model_dump_json()))


async def pending(context: Context) -> list[Pending]:
    """All that waits for an approver, or is approved and not begun, of every account; the oldest first.

    Raises:
        BusyError, LedgerUnavailableError: The ledger cannot be read.
    """

    def read(entries: Entries) -> list[Pending]:
        found = _live(context, entries.under_way(_BEFORE_APPROVERS))
        return [_pending(context, entries, each) for each in reversed(found)]

    return await context.ledger.read(read) if context.ledger.exists() else []


async def pending_one(context: Context, operation_id: str, *, approve: bool) -> Pending:
    """One operation, if an approver can decide on it so. Raises as `decide`."""

    def read(entries: Entries) -> Pending:
        return _pending(context, entries, _decidable(context, entries, operation_id, approve=approve))

    if not context.ledger.exists():
        raise _no_such()
    return await context.ledger.read(read)


async def decide(context: Context, operation_id: str, decision: Decision, *, approve: bool) -> Operation:
    """Record what an approver decided on a plan that they were shown.

    A no also takes an approval back, until the intent to send is recorded.

    Raises:
        PolicyDeniedError: They are none of those who may.
        ConfirmationInvalidError: There is nothing to decide: no such operation, or it was decided or done already.
        ConfirmationExpiredError: It waited for too long.
        TargetChangedError: It is not the plan that they were shown.
        BusyError, LedgerUnavailableError: It could not be recorded, and nothing has changed.
    """
    name = decision.by  # what is recorded may be cut, and would be another's then
    check_approver(context.settings, name)
    cleaned = {"by": safe_text(name), "reason": safe_text(decision.reason)}
    decision = decision.model_copy(update=cleaned)

    def record(entries: Entries) -> Operation:
        current = _decidable(context, entries, operation_id, approve=approve)
        if approve:
            check_is_another(context.settings, entries, name, context.moment(), current)
        if not hmac.compare_digest(_pending(context, entries, current).mac.encode(), decision.plan.encode()):
            raise TargetChangedError(f"{current.id} is not the plan that was shown.", "Look at it again, then decide.")
        if not approve:
            declined = current.updated(approved_by="", decision=decision, leave=None)
            return entries.save(declined.with_error(Status.DECLINED, DeclinedError("An approver declined it.")))
        return entries.save(
            current.entering(
                Status.APPROVED, context.moment(), APPROVED_LIFE, approved_by="approver", decision=decision
            )
        )

    return await context.ledger.write(record)


def check_approver(settings: Settings, name: str) -> None:
    """Whether somebody may decide.

    Raises:
        PolicyDeniedError: They are none of those whom the operator named, or may destroy over HTTP themselves; or
            nobody could tell by the name who it was.
    """
    if not seen(name):
        raise PolicyDeniedError("It is not known who decides: their name is empty.", _ANOTHER)
    may_destroy = (LOCAL, *(each.name for each in kept_tokens(settings.state_dir) if each.role == "destroy"))
    if any(is_same_person(name, each) for each in may_destroy):
        raise _is_one_who_asks(name)
    if settings.approvers and name not in settings.approvers:
        told = f"{json.dumps(name, ensure_ascii=False)} is none of the approvers."
        raise PolicyDeniedError(told, "Let one of them decide.")


def check_is_another(
    settings: Settings, entries: Entries, name: str, now: Moment, operation: Operation | None = None
) -> None:
    """Whether an approver is another than who asks, unless the rule is that a person decides, who may be the same.

    The rights of who logs in over HTTP stand nowhere but in their tokens: so what they asked for lately tells that they
    have them.

    Args:
        settings: Who decides.
        entries: What was asked for.
        name: The approver.
        now: Since when it is told.
        operation: What they decide on.

    Raises:
        PolicyDeniedError: They asked for it, or may destroy.
    """
    if settings.approval == "human":
        return
    if operation and is_same_person(name, operation.principal):
        told = f"{json.dumps(name, ensure_ascii=False)} asked for this, and so may not approve it."
        raise PolicyDeniedError(told, _ANOTHER)
    asked = (each for each in entries.find(limit=_MOST_LOOKED_AT) if each.created.within(_REMEMBERED, now))
    who = {each.principal for each in asked if each.action != "create_backup" and "#" in each.principal}
    if any(is_same_person(name, each) for each in who):
        raise _is_one_who_asks(name)


def _is_one_who_asks(name: str) -> PolicyDeniedError:
    told = f"{json.dumps(name, ensure_ascii=False)} may ask for this over HTTP, and so may not approve it."
    return PolicyDeniedError(told, _ANOTHER)


def _no_such() -> ConfirmationInvalidError:
    return ConfirmationInvalidError("There is no operation of that id.", "`mcp-backups approvals` lists what waits.")


def _decidable(context: Context, entries: Entries, operation_id: str, *, approve: bool) -> Operation:
    current = entries.get(operation_id)
    if current is None:
        raise _no_such()
    if current.is_expired(context.moment()) or current.status is Status.EXPIRED:
        raise ConfirmationExpiredError(f"The plan {current.id} is no longer valid.", "It has to be asked for again.")
    by_now = OPEN - {Status.PLANNED} if not current.sent else frozenset[Status]()  # of a prune the first delete may be
    if current.status not in (by_now & {Status.WAITING} if approve else by_now):
        told = f"The status of {current.id} is {current.status}."
        if current.status is Status.PLANNED:
            raise ConfirmationInvalidError(told, "There is something to decide once the agent has confirmed its plan.")
        if current.decision and current.status in {Status.APPROVED, Status.DECLINED}:  # what came later nobody decided
            told = f"{current.id} is {current.status} by {current.decision.by}."
        raise ConfirmationInvalidError(told, "There is nothing to decide on it.")
    return current


async def there_now(context: Context, operation: Operation) -> Present:
    """Look what is there now of what a plan showed; it asks VPS.org, and changes nothing."""
    await context.identify()
    if not context.can_see(operation):
        return Present(unseen=MADE_ELSEWHERE)
    aims, kept = _shown(operation)
    try:
        with context.reading():
            backups = await context.api.list_backups(operation.server_id)
    except CANNOT_SEE as error:
        return Present(unseen=error.code)
    now = {backup.id: backup for backup in backups.rows}
    missing = tuple(each.id for each in (*aims, *kept) if each.id not in now)
    if missing and not backups.complete_for(operation.server_id):
        return Present(unseen="the list of backups is incomplete")
    inventory = await context.inventory(operation.server_id, backups)
    going = {each.id for each in aims} if operation.action != "restore_server" else set()
    return Present(
        gone=missing,
        changed=tuple(each.id for each in aims if now.get(each.id, each) != each),
        good_left=len(inventory.proven_on(operation.server_id, without=going)),
    )


def _shown(operation: Operation) -> tuple[list[Backup], list[Backup]]:
    """The backups that a plan would delete or restore; and those that a prune keeps instead of them."""
    details = operation.details
    if isinstance(details, PruneDetails):
        due = [*details.planned("delete"), *details.planned("later")]
        return [item.backup for item in due], [item.backup for item in details.planned("keep")]
    return ([operation.backup] if operation.backup else []), []
