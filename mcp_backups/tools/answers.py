"""What the tools answer: an operation told as facts, and the same facts as text."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from mcp_backups.actions.deletes import outcome
from mcp_backups.actions.restore import made, undo
from mcp_backups.errors import FrozenError
from mcp_backups.models import UNREADABLE, Answer, Backup, BackupRow, OperationAnswer, PruneRow, ServerName
from mcp_backups.operations import (
    MADE_ELSEWHERE,
    OPEN,
    UNSETTLED,
    Approver,
    Context,
    Facts,
    Fate,
    Operation,
    PruneDetails,
    PruneItem,
    Result,
    Status,
    policy_digest,
)
from mcp_backups.text import age, duration, plural, stamp

MOST_CHARS = 7_900
"""Of an answer's text and JSON together, however the JSON is spaced: some hosts cut what is longer."""

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_MOST_ROWS = 50
"""Rows of a prune that are shown of each kind, if they fit."""

_DESCRIPTION = 60
"""Characters of a description in such a row."""

_LISTS: dict[Fate, str] = {"delete": "to_delete", "keep": "kept", "later": "later", "leave": "left_alone"}
"""What an answer calls the backups of each fate."""

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

_STATUS = {Status.PLANNED: "needs_confirmation", Status.WAITING: "needs_approval"}
"""What two states are called that ask something of the caller."""

_FALLBACK = {
    Status.EXPIRED: "The plan is no longer valid.",
    Status.SUCCEEDED: "It is done.",
}


_NOTHING_SHARED: Mapping[str, str] = MappingProxyType({})


def row(backup: Backup, now: datetime, shared: Mapping[str, str] = _NOTHING_SHARED) -> BackupRow:
    """A backup as a model sees it, without what it shares with others: fields of these values are left out."""
    # A row without a description says so where others would lend it theirs.
    description = backup.description if "description" in shared else backup.description or None
    return BackupRow(
        id=backup.id,
        server_id=backup.server_id,
        server=backup.server_name,
        type=None if shared.get("type") == backup.type else backup.type,
        status=None if shared.get("status") == backup.status else backup.status,
        size_mb=shown_size(backup.size_mb),
        created_at=stamp(backup.created_at),
        age=age(backup.created_at, now),
        expires_at=UNREADABLE if "expires_at" in backup.unreadable else backup.expires_at and stamp(backup.expires_at),
        description=None if shared.get("description") == description else description,
    )


def shown_size(size: float | None) -> int | float | None:
    """MB, without a fraction that is none."""
    return int(size) if size is not None and size.is_integer() else size


def fitted(
    build: Callable[[int], AnyAnswer], text: Callable[[AnyAnswer], str], most: int, room: int = MOST_CHARS
) -> AnyAnswer:
    """An answer with as many rows as fit into it: `most` at most, and one at least if there is any.

    Args:
        build: Makes it with so many rows.
        text: Makes its text.
        most: Rows.
        room: Characters of its text and its JSON together.
    """
    count = most
    while True:
        answer = build(count)
        if count <= 1:
            return answer
        size = _chars(answer, text, room)
        if size <= room:
            return answer
        count = max(1, min(count - 1, count * room // size))


def _chars(answer: AnyAnswer, text: Callable[[AnyAnswer], str], room: int) -> int:
    """How long an answer is, at least where that is more than `room`."""
    json = answer.model_dump_json()
    size = len(json) + json.count(":") + json.count(",")  # after each a space may stand
    # The text says the same without names and quotes: where twice the JSON fits, it need not be made to know.
    return size + (size if 2 * size <= room else len(text(answer)))


def operation_answer(result: Result, context: Context) -> OperationAnswer:
    """An operation as a model sees it."""
    lists = _prune_lists(result)
    rows = min(max(map(len, lists.values()), default=0), _MOST_ROWS)
    if result.operation.status is not Status.PLANNED:
        return fitted(partial(_answer, result, context, _MOST_ROWS), operation_text, rows)
    # Nobody consents to what they were not shown: the others make room for what would be deleted.
    return fitted(partial(_answer, result, context, len(lists.get("to_delete", ()))), operation_text, rows)


def can_show(context: Context, plan: Operation) -> bool:
    """Whether the answer with a plan to prune has room for all that it deletes."""
    going = len(_prune_lists(Result(plan))["to_delete"])
    answer = _answer(Result(plan), context, going, 1)
    return _chars(answer, operation_text, MOST_CHARS) <= MOST_CHARS


def _answer(result: Result, context: Context, least: int, rows: int) -> OperationAnswer:
    """The answer with so many rows of each list, and so many at least of what is deleted if it is only planned."""
    operation, now = result.operation, context.now
    lists = _prune_lists(result)
    is_planned = operation.status is Status.PLANNED
    most = {name: max(rows, least) if is_planned and name == "to_delete" else rows for name in lists}
    shown = {name: _prune_rows(items[: most[name]], result, now) for name, items in lists.items()}
    return OperationAnswer(
        operation_id=operation.id,
        action=operation.action,
        status=_STATUS.get(operation.status, operation.status.value),
        changed=result.changed,
        made=made(result) or None,
        server=ServerName(id=operation.server_id, name=operation.server_name),
        backup=row(operation.backup, now) if operation.backup else None,
        summary=_summary(result, context),
        facts=_facts(result, context) | _rows_not_shown(result, lists, most),
        to_delete=shown.get("to_delete"),
        kept=shown.get("kept"),
        later=shown.get("later"),
        left_alone=shown.get("left_alone"),
        undo=undo(result),
        approved_by=operation.approved_by or None,
        replayed=result.replayed or None,
        next_step=_next_step(result, context),
    )


def operation_text(answer: OperationAnswer) -> str:
    """An operation as text: a sentence, then one fact a line, and a table of each list."""
    values = answer.model_dump(exclude={"status", "summary", "facts", "next_step", *_LISTS.values()}) | answer.facts
    lines = [f"{answer.status}: {answer.summary}"]
    lines += [f"{name}: {_line(value)}" for name, value in values.items() if value != ""]
    for name in _LISTS.values():
        rows = getattr(answer, name)
        lines += [f"{name}, {_order(rows)}:", *(f"  {line}" for line in table(rows))] if rows else []
    return "\n".join([*lines, f"next_step: {answer.next_step}"])


def _order(rows: Sequence[PruneRow]) -> str:
    """How the rows of a list stand."""
    are_tried = {row.outcome is not None for row in rows}
    return "newest first, after those that were tried" if len(are_tried) > 1 else "newest first"


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {part!r}" if isinstance(part, str) else f"{name} {part}" for name, part in value.items()
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(rows: Sequence[Answer]) -> list[str]:
    """A line a row, under one of those columns that hold something; no rows, no lines."""
    values = [row.model_dump() for row in rows]
    columns = [name for row in rows[:1] for name in type(row).model_fields if any(name in each for each in values)]
    lines = [columns, *([_told(each.get(name, "")) for name in columns] for each in values)]
    return ["|".join(line) for line in lines if line]


def _told(value: object) -> str:
    return cell(", ".join(value) if isinstance(value, list) else str(value))


def cell(value: str) -> str:
    """A value that cannot be taken for more than one cell, or for a blank one."""
    return repr(value) if "|" in value or value.startswith(("'", '"')) or value == "-" else value


def _summary(result: Result, context: Context) -> str:
    operation = result.operation
    is_plan = operation.status in {Status.WAITING, Status.APPROVED}
    known = context.actions[operation.action].summary(
        result._replace(operation=operation.as_planned) if is_plan else result
    )
    known = known or operation.error or _FALLBACK.get(operation.status, "")
    if result.changed != "nothing":
        return known
    # Where a restore has a safety backup made, that is something, whatever becomes of the restore.
    return f"{known} {'The server itself was not changed.' if made(result) else 'Nothing was changed.'}"


def _facts(result: Result, context: Context) -> Facts:
    operation = result.operation
    facts = context.actions[operation.action].facts(result, context.now)
    if operation.evidence:
        facts["evidence"] = operation.evidence
    if operation.said:
        facts["vps_org_said"] = operation.said
    if operation.decision and operation.decision.reason:
        facts["approver_said"] = json.dumps(operation.decision.reason, ensure_ascii=False)
    if result.unseen:
        facts["not_checked_now"] = f"VPS.org could not be asked ({result.unseen}); this is what was known before."
    if result.obstacle:
        facts["problem"] = f"{result.obstacle.what} {result.obstacle.next_step}"
    return facts


def _prune_lists(result: Result) -> dict[str, list[PruneItem]]:
    """The backups of a prune by what becomes of them, each the newest first; of those to delete first what was tried.

    Empty lists are left out, but for the one that matters.
    """
    details = result.operation.details
    if not isinstance(details, PruneDetails):
        return {}
    tried = {delete.id for delete in result.deletes if outcome(delete)}
    lists = {name: details.planned(fate) for fate, name in _LISTS.items()}
    lists["to_delete"].sort(key=lambda item: item.operation_id not in tried)
    return {name: items for name, items in lists.items() if items or name == "to_delete"}


def _rows_not_shown(result: Result, lists: Mapping[str, list[PruneItem]], most: Mapping[str, int]) -> dict[str, str]:
    """How many there is no room for; of those that go some may be gone by now, and no list shows those."""
    is_begun = any(map(outcome, result.deletes))
    where = dict.fromkeys(lists, "all older; list_backups shows them")
    if is_begun:
        where["to_delete"] = "counted in the summary"
    return {
        f"{name}_not_shown": f"{plural(len(items) - most[name], 'backup')}, {where[name]}"
        for name, items in lists.items()
        if len(items) > most[name]
    }


def _prune_rows(items: list[PruneItem], result: Result, now: datetime) -> list[PruneRow]:
    deletes = {delete.id: delete for delete in result.deletes}
    return [_prune_row(item, deletes.get(item.operation_id), now) for item in items]


def _prune_row(item: PruneItem, delete: Operation | None, now: datetime) -> PruneRow:
    backup = item.backup
    return PruneRow(
        id=backup.id,
        created_at=stamp(backup.created_at),
        age=age(backup.created_at, now),
        size_mb=shown_size(backup.size_mb),
        status=backup.status,
        description=_short(backup.description) or None,
        reason=item.reason or (delete and (delete.error or _doubt(delete))) or None,
        outcome=(delete and outcome(delete)) or None,
    )


def _doubt(delete: Operation) -> str:
    """Why it is not known what became of a delete that met no error."""
    return delete.evidence if outcome(delete) == "unknown" else ""


def _short(description: str) -> str:
    return description if len(description) <= _DESCRIPTION else f"{description[: _DESCRIPTION - 1]}…"


_NEXT_STEP = {
    Status.WAITING: "End your turn: this waits until {until} for somebody to decide outside this chat. Tell the user "
    "to ask whoever looks after this server to decide on {id}. Later, {look} tells the decision; once it is approved, "
    "call {again}.",
    Status.APPROVED: "It is approved. Call {again} before {until} to have it done.",
    Status.SENDING: "Do not repeat it. Call {look} in a minute, at most three times; then tell the user.",
    Status.UNKNOWN: "Do not repeat it. Call {look} in 5 minutes, at most three times; then tell the user.",
    Status.SUCCEEDED: "None.",
}
_PLANNED: dict[Approver, str] = {
    "caller": "Show these facts to the user. If they agree, call {again} before {until}.",
    "person": "Show these facts to the user, then call {again} before {until}: the user is asked through the client, "
    "whose question shows only a part of them.",
    "approver": "Show these facts to the user. To go on, call {again} before {until}; then somebody decides outside "
    "this chat.",
}
_ELSEWHERE = (
    "Do not repeat it; tell the user. What became of it can be seen only with the token and the address that it was "
    "made with."
)
_ANEW = "Call {tool} again without operation_id if it is still wanted."
_OTHER_RULES = f"The rules here have changed since it was planned, so this plan counts no more. {_ANEW}"


def _next_step(result: Result, context: Context) -> str:
    operation, status = result.operation, result.operation.status
    if result.unseen == MADE_ELSEWHERE and status in OPEN:
        step = _ANEW
    elif status in OPEN and operation.policy != policy_digest(context.settings):
        step = _OTHER_RULES
    elif isinstance(result.obstacle, FrozenError):
        return result.obstacle.next_step
    elif result.unseen == MADE_ELSEWHERE and status in {*UNSETTLED, Status.ACCEPTED}:
        step = _ELSEWHERE
    elif operation.advice and (result.changed == "nothing" or status is Status.FAILED):
        return operation.advice
    elif status is Status.PLANNED:
        step = _PLANNED[result.approver]
    elif special := context.actions[operation.action].next_step(result, context.now):
        return special
    else:
        step = _NEXT_STEP.get(status, _ANEW)
    look = f"get_operation(operation_id={operation.id!r})"
    until = _until(operation, context.now)
    return step.format(again=operation.confirming_call, look=look, tool=operation.action, until=until, id=operation.id)


def _until(operation: Operation, now: datetime) -> str:
    """Until when it counts, `21:14Z (10 minutes)`: cut to the minute, so that what is told is in time."""
    since, lasts = operation.life.since, operation.life.lasts
    left = since.latest + lasts - now
    minutes = min(max(-(-left // _MINUTE), 1), lasts // _MINUTE)  # rounded up: a plan that was just made has all
    if lasts > _HOUR:
        return f"{stamp(since.wall + lasts)} ({duration(minutes * _MINUTE)})"
    return f"{since.wall + lasts:%H:%M}Z ({plural(minutes, 'minute')})"
