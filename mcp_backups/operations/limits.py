"""Whether the ledger lets a write go on: what is frozen, what is not settled, what the budgets leave.

Each check passes, or raises the refusal.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from mcp_backups.clock import Moment
from mcp_backups.errors import (
    BudgetExhaustedError,
    BusyError,
    ConfirmationExpiredError,
    FrozenError,
    PolicyDeniedError,
)
from mcp_backups.ledger import Ledger
from mcp_backups.operations.context import Context, Entries, recent
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    UNSETTLED,
    ActionName,
    ApprovedBy,
    Budget,
    CreateDetails,
    Operation,
    RestoreDetails,
    Status,
)
from mcp_backups.operations.policy import check_settled
from mcp_backups.settings import Settings
from mcp_backups.text import duration, plural, safe_text, stamp, stamp_after

FROZEN, THAWED = "frozen", "thawed"
"""The notes in the ledger, the last of which counts."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_NOUNS = {"create_backup": "new backup", "delete_backup": "delete", "restore_server": "restore"}
_RESTORES_COUNTED = 1000


# Frozen


class Freeze(NamedTuple):
    """That everything is frozen.

    Attributes:
        by: Who did it.
        reason: Why, in their words.
        since: UTC.
    """

    by: str
    reason: str
    since: datetime


def frozen(entries: Entries) -> Freeze | None:
    """Whether everything is frozen; None if it is not."""
    note = entries.last_note(FROZEN, THAWED)
    if note is None or note.status == THAWED:
        return None
    about = json.loads(note.document)
    return Freeze(about["by"], about["reason"], datetime.fromisoformat(note.at))


def check_not_frozen(entries: Entries) -> None:
    """Whether anything may be sent at all.

    Raises:
        FrozenError: It may not.
    """
    if freeze := frozen(entries):
        why = json.dumps(freeze.reason, ensure_ascii=False)
        raise FrozenError(f"The operator has frozen all changes since {stamp(freeze.since)}; the reason given: {why}.")


async def freeze_of(context: Context) -> FrozenError | None:
    """Why nothing is sent at present; None if it is not frozen. Raises as the ledger's `read`."""
    try:
        await context.ledger.read(check_not_frozen)
    except FrozenError as error:
        return error
    return None


async def set_frozen(ledger: Ledger[Operation], by: str, reason: str, *, freeze: bool) -> bool:
    """Freeze everything, or lift that; both are recorded. Returns whether it was otherwise before.

    Args:
        ledger: Of all the processes that are meant.
        by: Who says so.
        reason: Why.
        freeze: True to freeze, False to lift it.

    Raises:
        BusyError, LedgerUnavailableError: It could not be recorded, and nothing has changed.
    """

    def record(entries: Entries) -> bool:
        if bool(frozen(entries)) is freeze:
            return False
        entries.note(FROZEN if freeze else THAWED, {"by": safe_text(by), "reason": safe_text(reason)})
        return True

    return await ledger.write(record)


# What was done before


def check_ledger(context: Context, entries: Entries, operation: Operation) -> None:
    """Whether the operator's rules allow it, by what was done before. Raises as `check_open`, or PolicyDeniedError."""
    check_open(context, entries, operation.server_id)
    if not is_taking_back(context, entries, operation):
        check_room(context, entries, operation.action, operation.server_id)


def check_room(context: Context, entries: Entries, action: ActionName, server_id: int) -> None:
    """Whether the budgets allow one more now. Raises `BudgetExhaustedError`."""
    check_budget(context.settings, action, counted(context, entries, action, server_id), context.moment())


def limited_by(context: Context, entries: Entries, plan: Operation) -> dict[str, Any]:
    """What limits a plan, as fields of its details: the budget after it, or what puts it outside of that."""
    if before := is_taking_back(context, entries, plan):
        return {"takes_back": before.id}
    sent = counted(context, entries, plan.action, plan.server_id)
    return {"budget": budget_after(context.settings, plan.action, 1, sent, plan.created)}


def check_open(context: Context, entries: Entries, server_id: int) -> None:
    """Whether anything may be sent, and the outcome of everything that was sent for the server is known.

    Raises:
        FrozenError: All changes are frozen.
        BusyError: Something is being sent at this moment.
        PolicyDeniedError: The outcome of something is not known.
    """
    check_not_frozen(entries)
    unsettled = [each for each in entries.under_way(UNSETTLED, server_id=server_id) if context.concerns(each)]
    for each in unsettled:
        if each.status is Status.SENDING and context.is_being_sent(each):
            raise BusyError(
                f"{each.id} ({each.action}) on server {server_id} is just being carried out.",
                f"Call get_operation(operation_id={each.id!r}); once it is no longer sending, call again as before.",
            )
    check_settled(server_id, unsettled, context.moment())


def counted(context: Context, entries: Entries, action: ActionName, server_id: int) -> list[Moment]:
    """When those were sent that a budget counts, newest first; restores on one server alone."""
    if action == "restore_server":
        found = charged(restores_of(context, entries, server_id))
    else:
        found = list(recent(entries.sent(action, statuses=EFFECTIVE), DAY, context.moment()))
    return [
        each.sent
        for each in found
        if each.sent
        and context.can_see(each)
        and not (isinstance(each.details, CreateDetails) and each.details.is_safety)
    ]


def restores_of(context: Context, entries: Entries, server_id: int) -> list[Operation]:
    """The last restores of a server that took effect, or may have, whoever asked for them; newest first."""
    sent = entries.sent("restore_server", server_id=server_id, statuses=EFFECTIVE)
    return list(islice((each for each in sent if context.concerns(each)), _RESTORES_COUNTED))


def is_taking_back(context: Context, entries: Entries, operation: Operation) -> Operation | None:
    """The restore that an operation takes back, outside the budget; None where it does not."""
    if operation.action != "restore_server":
        return None
    return taken_back(operation.backup_id, restores_of(context, entries, operation.server_id))


def still_open(context: Context, entries: Entries, operation: Operation) -> Operation | None:
    """The operation as it is now, None when somebody else carries it out.

    Raises:
        ConfirmationExpiredError: Its plan no longer counts.
    """
    current = entries.get(operation.id)
    if current is None or current.status not in OPEN:
        return None
    if current.is_expired(context.moment()):
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.")
    return current


def with_consent(entries: Entries, current: Operation, approved_by: ApprovedBy) -> Operation:
    """Record who consented; of an approver that is recorded by then."""
    if current.status is Status.APPROVED:
        return current
    return entries.save(current.updated(status=Status.APPROVED, approved_by=approved_by))


# Budgets


def check_budget(settings: Settings, action: ActionName, sent: Sequence[Moment], now: Moment) -> None:
    """Whether one more is within the budget.

    Args:
        settings: The budgets.
        action: What is about to be done.
        sent: When those that count were sent, newest first; for a restore those of its server.
        now: By both clocks, so that no clock step gives a new budget.

    Raises:
        BudgetExhaustedError: It is not; names the budget that is used up for longest, and says until when.
    """
    noun, budgets = _NOUNS[action], _budgets(settings, action)
    least, _ = min(budgets)
    if not least:
        raise BudgetExhaustedError(f"There is no budget for a {noun} here.", PolicyDeniedError.advice)
    used_up = []
    for most, window in budgets:
        in_it = [moment for moment in sent if moment.within(window, now)]
        if len(in_it) >= most:
            used_up.append((in_it[most - 1].left(window, now), most, window))
    if used_up:
        left, most, window = max(used_up)
        wait = max(left, timedelta(minutes=1))
        of_what = f"{plural(most, noun)}{' of a server' if action == 'restore_server' else ''}"
        soon = f"in {duration(wait)}, "
        raise BudgetExhaustedError(
            f"The budget of {of_what} within {'an hour' if window == HOUR else '24 h'} is used up.",
            f"The next is possible {soon}at {stamp_after(now.latest + wait)}; tell the user.",
            fleeting=soon,
        )


def budget_after(settings: Settings, action: ActionName, many: int, sent: Sequence[Moment], now: Moment) -> Budget:
    """What the budget allows once so many more are sent now; as `check_budget`."""
    sent = [*[now] * many, *sent]
    left, waits = [], [timedelta(0)]
    for most, window in _budgets(settings, action):
        in_it = [moment for moment in sent if moment.within(window, now)]
        left.append(most - len(in_it))
        if most and len(in_it) >= most:
            waits.append(in_it[most - 1].left(window, now))
    is_used_up = min(left) <= 0
    return Budget(left=max(0, min(left)), more_from=now.latest + max(waits) if is_used_up and len(waits) > 1 else None)


def in_words(budget: Budget, noun: str) -> str:
    """What the budget allows after a plan, as a clause; that of restores is each server's own."""
    whose = " of this server" if noun == "restore" else ""
    if budget.left:
        return f"after this, {plural(budget.left, f'more {noun}')}{whose} may be sent now"
    if not budget.more_from:
        return ""
    return f"after this, no more {noun}s{whose} may be sent before {stamp_after(budget.more_from)}"


def _budgets(settings: Settings, action: ActionName) -> list[tuple[int, timedelta]]:
    """The most within each window."""
    return {
        "create_backup": [(settings.creates_per_hour, HOUR)],
        "restore_server": [(settings.restores_per_hour, HOUR)],
        "delete_backup": [(settings.deletes_per_hour, HOUR), (settings.deletes_per_day, DAY)],
    }[action]


def taken_back(backup_id: int, before: Sequence[Operation]) -> Operation | None:
    """The restore that restoring this backup takes back, outside the budget; None if it is an ordinary restore.

    That is the server's last one, once: not one that took back another itself.

    Args:
        backup_id: What would be restored.
        before: The server's restores that took effect, or may have, newest first.
    """
    if not before or not _leads_back(backup_id, before[0]):
        return None
    return None if len(before) > 1 and _leads_back(before[0].backup_id, before[1]) else before[0]


def charged(restores: Sequence[Operation]) -> list[Operation]:
    """Those of a server's restores, newest first, that count."""
    return [each for number, each in enumerate(restores) if not taken_back(each.backup_id, restores[number + 1 :])]


def _leads_back(backup_id: int, restore: Operation) -> bool:
    return 0 < backup_id == restore.of(RestoreDetails).undo_backup_id


def undo_allowed_from(settings: Settings, restores: Sequence[Operation], undo: int, now: Moment) -> datetime | None:
    """When the budget allows to take back a server's last restore; None if it does at once.

    Args:
        settings: The budgets.
        restores: The server's restores that took effect, or may have, newest first.
        undo: The backup that takes it back.
        now: By both clocks.
    """
    if taken_back(undo, restores):
        return None
    sent = [each.sent for each in charged(restores) if each.sent]
    return budget_after(settings, "restore_server", 0, sent, now).more_from
