"""What the tools answer: an operation told as facts, and the same facts as text."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from mcp_backups.actions.prune import outcome
from mcp_backups.actions.restore import undo
from mcp_backups.models import Answer, Backup, BackupRow, OperationAnswer, PruneRow, ServerName
from mcp_backups.operations import (
    MADE_ELSEWHERE,
    OPEN,
    Approver,
    Context,
    Facts,
    Operation,
    PruneDetails,
    PruneItem,
    RestoreDetails,
    Result,
    Status,
)
from mcp_backups.text import age, duration, plural, stamp

MOST_CHARS = 7_900
"""Of an answer's text and JSON together, however the JSON is spaced: some hosts cut what is longer."""

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_MOST_ROWS = 50
"""Rows of a prune that are shown of each kind, if they fit, and ids in a sentence."""

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
        expires_at=stamp(backup.expires_at) if backup.expires_at else None,
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
        json = answer.model_dump_json()
        size = len(json) + json.count(":") + json.count(",")  # after each a space may stand
        # The text says the same without names and quotes: where twice the JSON fits, it need not be made to know.
        size += size if 2 * size <= room else len(text(answer))
        if size <= room:
            return answer
        count = max(1, min(count - 1, count * room // size))


def operation_answer(result: Result, context: Context) -> OperationAnswer:
    """An operation as a model sees it."""
    rows = max(map(len, _prune_lists(result).values()))
    return fitted(partial(_answer, result, context), operation_text, min(rows, _MOST_ROWS))


def _answer(result: Result, context: Context, rows: int) -> OperationAnswer:
    operation, now = result.operation, context.now
    lists = _prune_lists(result) if operation.action == "prune_backups" else {}
    shown = {name: _prune_rows(items[:rows], result, now) for name, items in lists.items()}
    return OperationAnswer(
        operation_id=operation.id,
        action=operation.action,
        status=_STATUS.get(operation.status, operation.status.value),
        changed=result.changed,
        server=ServerName(id=operation.server_id, name=operation.server_name),
        backup=row(operation.backup, now) if operation.backup else None,
        summary=_summary(result, context),
        facts=_facts(result, context) | _rows_not_shown(lists, rows),
        kept=shown.get("kept"),
        no_rule=shown.get("no_rule"),
        undo=undo(result),
        approved_by=operation.approved_by,
        replayed=result.replayed,
        next_step=_next_step(result, context),
    )


def operation_text(answer: OperationAnswer) -> str:
    """An operation as text: a sentence, then one fact a line."""
    values = answer.model_dump(exclude_none=True)
    head, facts, next_step = (
        f"{values.pop('status')}: {values.pop('summary')}",
        values.pop("facts"),
        values.pop("next_step"),
    )
    lines = [f"{name}: {_line(value)}" for name, value in (values | facts).items() if value not in ("", [])]
    return "\n".join([head, *lines, f"next_step: {next_step}"])


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {part!r}" if isinstance(part, str) else f"{name} {part}" for name, part in value.items()
        )
    if isinstance(value, list):
        return "".join("\n  " + "|".join(str(cell) for cell in each.values()) for each in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


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
    made = isinstance(operation.details, RestoreDetails) and operation.details.safety_operation
    return f"{known} {'The server itself was not changed.' if made else 'Nothing was changed.'}"


def _facts(result: Result, context: Context) -> Facts:
    operation = result.operation
    facts = context.actions[operation.action].facts(result, context.now)
    if operation.evidence:
        facts["evidence"] = operation.evidence
    if operation.said:
        facts["vps_org_said"] = operation.said
    if operation.decision and operation.decision.reason:
        facts["approver_said"] = json.dumps(operation.decision.reason, ensure_ascii=False)
    if result.server_status:
        facts["server_status"] = result.server_status
    if result.unseen:
        facts["not_checked_now"] = f"VPS.org could not be asked ({result.unseen}); this is what was known before."
    if result.obstacle:
        facts["problem"] = f"{result.obstacle.what} {result.obstacle.next_step}"
    return facts


def _prune_lists(result: Result) -> dict[str, list[PruneItem]]:
    """The backups that a prune keeps, and those that no rule keeps: first what was tried; each the newest first."""
    details = result.operation.details
    if not isinstance(details, PruneDetails):
        return {"kept": [], "no_rule": []}
    tried = {delete.id for delete in result.deletes if outcome(delete)}
    rest = [item for item in details.items if item.fate != "keep"]
    return {
        "kept": details.planned("keep"),
        "no_rule": sorted(rest, key=lambda item: item.operation_id not in tried),
    }


def _rows_not_shown(lists: Mapping[str, list[PruneItem]], most: int) -> dict[str, str]:
    return {
        f"{name}_not_shown": f"{plural(len(items) - most, 'backup')}, all older; list_backups shows them"
        for name, items in lists.items()
        if len(items) > most
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
        description=backup.description or None,
        reason=item.reason if item.fate != "delete" else (delete and delete.error) or None,
        outcome=(delete and outcome(delete)) or None,
    )


_NEXT_STEP = {
    Status.WAITING: "End your turn: this waits until {until} for somebody to decide outside this chat. Tell the user "
    "to ask whoever looks after this server to decide on {id}. Later, {look} tells the decision; once it is approved, "
    "call {again}.",
    Status.APPROVED: "It is approved. Call {again} before {until} to have it done.",
    Status.SENDING: "Do not repeat it. Call {look} in a minute.",
    Status.UNKNOWN: "Do not repeat it. Call {look} in a few minutes.",
    Status.SUCCEEDED: "None.",
}
_PLANNED: dict[Approver, str] = {
    "caller": "Show these facts to the user. If they agree, call {again} before {until}.",
    "person": "To go on, call {again} before {until}; the user is then asked.",
    "approver": "Show these facts to the user. To go on, call {again} before {until}; then somebody decides outside "
    "this chat.",
}
_ELSEWHERE = (
    "Do not repeat it; tell the user. What became of it can be seen only with the token and the address that it was "
    "made with."
)
_ANEW = "Call {tool} again without operation_id if it is still wanted."


def _next_step(result: Result, context: Context) -> str:
    operation, status = result.operation, result.operation.status
    if result.unseen == MADE_ELSEWHERE:
        step = _ANEW if status in OPEN else _ELSEWHERE
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
