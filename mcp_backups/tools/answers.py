"""What the tools answer: an operation told as facts, and the same facts as text."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import TypeVar

from mcp_backups.health import is_stuck
from mcp_backups.models import Answer, Backup, BackupRow, OperationAnswer, PruneRow, ServerName
from mcp_backups.operations.consent import warnings
from mcp_backups.operations.desk import Told
from mcp_backups.operations.operation import OPEN, PLAN_LIFE, Operation, PruneItem
from mcp_backups.operations.settle import MADE_ELSEWHERE
from mcp_backups.text import age, listed, plural, stamp

MOST_CHARS = 7_900
"""Of an answer's text and JSON together, however the JSON is spaced: some hosts cut what is longer."""

_MINUTE = timedelta(minutes=1)
_NAMED = 10
"""Ids of a kind that a sentence names."""

_MOST_ROWS = 50
"""Rows of a prune that are shown of each kind, if they fit, and ids in a sentence."""

AnyAnswer = TypeVar("AnyAnswer", bound=Answer)

_SUMMARY = {
    ("create_backup", "sending"): "The request for a backup of server {server} is under way.",
    ("create_backup", "accepted"): "Backup {backup} of server {server} was started and is not finished yet.",
    ("create_backup", "succeeded"): "Backup {backup} of server {server} is finished.",
    ("create_backup", "unknown"): "It is not known whether a backup of server {server} was started.",
    ("delete_backup", "planned"): "Backup {backup} of server {server} would be deleted for good.",
    ("delete_backup", "sending"): "The request to delete backup {backup} of server {server} is under way.",
    ("delete_backup", "accepted"): "VPS.org accepted the deletion of backup {backup} of server {server}, "
    "which has not been seen to be gone.",
    ("delete_backup", "succeeded"): "Backup {backup} of server {server} is deleted.",
    ("delete_backup", "unknown"): "It is not known whether backup {backup} of server {server} was deleted.",
    ("restore_server", "planned"): "Server {server} would be set back to backup {backup}.",
    ("restore_server", "preparing"): "A safety backup of server {server} is made first; the restore of backup {backup} "
    "has not been sent.",
    ("restore_server", "sending"): "The request to restore backup {backup} to server {server} is under way.",
    ("restore_server", "accepted"): "VPS.org accepted the restore of backup {backup} to server {server}; "
    "it does not tell when that is finished.",
    ("restore_server", "unknown"): "It is not known whether backup {backup} was or is being restored to server "
    "{server}.",
}

_PRUNE_SUMMARY = {
    "planned": "{to_delete} of {manual_backups} manual backups of server {server} would be deleted for good.",
    "preparing": "The prune of server {server} is under way: {deleted} of {to_delete} backups are deleted.",
    "accepted": "VPS.org accepted the deletion of {deleted} of {manual_backups} manual backups of server {server}; "
    "not all have been seen to be gone.{rest}",
    "succeeded": "{deleted} of {manual_backups} manual backups of server {server} are deleted.{rest}",
    "failed": "The prune of server {server} has ended, and not all backups are deleted. {error} Deleted: {gone}.{rest}",
    "unknown": "The prune of server {server} stopped at backup {stopped_at}. {error} Deleted: {gone}.{rest}",
    "expired": "The plan is no longer valid. Deleted: {gone}.{rest}",
}

_FALLBACK = {
    "expired": "The plan is no longer valid.",
    "succeeded": "It is done.",
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


def operation_answer(told: Told, now: datetime) -> OperationAnswer:
    """An operation as a model sees it."""
    rows = max(len(_kept(told.operation)), len(_not_kept(told.operation)))
    return fitted(partial(_answer, told, now), operation_text, min(rows, _MOST_ROWS))


def _answer(told: Told, now: datetime, rows: int) -> OperationAnswer:
    operation = told.operation
    return OperationAnswer(
        operation_id=operation.id,
        action=operation.action,
        status="needs_confirmation" if operation.status == "planned" else operation.status,
        changed=operation.changed,
        server=ServerName(id=operation.server_id, name=operation.server_name),
        backup=row(operation.backup, now) if operation.backup else None,
        summary=_summary(told),
        facts=_facts(told, now) | _rows_not_shown(operation, rows),
        kept=_prune_rows(_kept(operation), rows, now) if operation.action == "prune_backups" else None,
        no_rule=_prune_rows(_not_kept(operation), rows, now) if operation.action == "prune_backups" else None,
        undo=_undo(told),
        approved_by=operation.approved_by,
        replayed=told.replayed,
        next_step=_next_step(told, now),
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


def _summary(told: Told) -> str:
    operation = told.operation
    templates = _PRUNE_SUMMARY if operation.action == "prune_backups" else {}
    template = (
        templates.get(operation.status)
        or _SUMMARY.get((operation.action, operation.status))
        or _FALLBACK.get(operation.status)
    )
    known = operation.error
    if template:
        progress = _progress(operation) if templates else {}
        known = template.format(
            server=operation.server_id, backup=operation.backup_id, error=known, **progress, **operation.facts
        ).replace("  ", " ")
    if told.is_gone:
        return f"{known} It is no longer in the complete list: it was deleted since, or expired."
    if operation.changed != "nothing":
        return known
    if operation.status == "planned":
        known = " ".join([known, *warnings(operation)])
    # Where a restore has a safety backup made, that is something, whatever becomes of the restore.
    return f"{known} {'The server itself was not changed.' if operation.safety_operation else 'Nothing was changed.'}"


def _facts(told: Told, now: datetime) -> dict[str, str | int | float | bool]:
    facts = dict(told.operation.facts)
    if told.operation.evidence:
        facts["evidence"] = told.operation.evidence
    if told.safety:
        facts["safety_backup"] = told.safety.backup_id or "not known yet"
        facts["safety_backup_status"] = told.safety.status
        facts["safety_backup_operation"] = told.safety.id
    elif told.operation.undo_backup_id:
        facts["safety_backup"] = told.operation.undo_backup_id
    elif told.operation.safety_operation:
        facts["safety_backup_operation"] = told.operation.safety_operation
    undo_from = told.operation.undo_from
    if undo_from and undo_from > now and _undo(told):
        facts["undo_not_before"] = stamp(undo_from + timedelta(seconds=59))  # a stamp cuts to the minute
    if told.server_status:
        facts["server_status"] = told.server_status
    if told.unseen:
        facts["not_checked_now"] = f"VPS.org could not be asked ({told.unseen}); this is what was known before."
    if told.obstacle:
        facts["problem"] = f"{told.obstacle.what} {told.obstacle.next_step}"
    return facts


def _progress(operation: Operation) -> dict[str, str | int]:
    """How far a prune has come: how many and which are gone, and where it stopped."""
    tried = [item for item in reversed(operation.items) if item.outcome]
    gone = [item.backup for item in tried if item.outcome == "deleted"]
    stopped_at = tried[-1].backup.id if tried else 0
    told = ", ".join(str(backup.id) for backup in gone) or "none"
    if len(gone) > _MOST_ROWS:
        last = gone[-1]
        told = f"the {len(gone)} oldest of the plan, the last being backup {last.id} of {stamp(last.created_at)}"
    others = {"Gone already": "gone", "Refused": "not deleted", "Not known": "unknown"}
    ids = {
        head: listed([item.backup.id for item in tried if item.outcome == fate], _NAMED)
        for head, fate in others.items()
    }
    rest = "".join(f" {head}: {named}." for head, named in ids.items() if named)
    return {"deleted": len(gone), "gone": told, "stopped_at": stopped_at, "rest": rest}


def _kept(operation: Operation) -> list[PruneItem]:
    return [item for item in operation.items if item.fate == "keep"]


def _not_kept(operation: Operation) -> list[PruneItem]:
    """What no rule keeps: first what was tried, then what was not; each the newest first."""
    return sorted((item for item in operation.items if item.fate != "keep"), key=lambda item: not item.outcome)


def _rows_not_shown(operation: Operation, most: int) -> dict[str, str]:
    rows = {"kept": _kept(operation), "no_rule": _not_kept(operation)}
    return {
        f"{name}_not_shown": f"{plural(len(items) - most, 'backup')}, all older; list_backups shows them"
        for name, items in rows.items()
        if len(items) > most
    }


def _prune_rows(items: list[PruneItem], most: int, now: datetime) -> list[PruneRow]:
    return [
        PruneRow(
            id=item.backup.id,
            created_at=stamp(item.backup.created_at),
            age=age(item.backup.created_at, now),
            size_mb=shown_size(item.backup.size_mb),
            status=item.backup.status,
            description=item.backup.description or None,
            reason=(item.refusal or None) if item.fate == "delete" else item.reason,
            outcome=item.outcome or None,
        )
        for item in items[:most]
    ]


def _undo(told: Told) -> str | None:
    operation = told.operation
    has_way_back = operation.action == "restore_server" and operation.undo_backup_id and told.is_undoable
    if not has_way_back or operation.changed == "nothing":
        return None
    return f"restore_server(server_id={operation.server_id}, backup_id={operation.undo_backup_id})"


_NEXT_STEP = {
    "planned": "Show these facts to the user. If they agree, call {again} before {until}.",
    "pruning": "Call {again} to go on.",
    "pruned in part": "For what is left for later, plan another prune when the budget of deletes allows it.",
    "planned, person": "To go on, call {again} before {until}; the user is then asked.",
    "planned, nobody": "Here a person must approve it, and this client offers no way to ask one: tell the user.",
    "preparing": "Call {wait} until the safety backup is finished, then {again}.",
    "prepared": "The safety backup is finished. Call {again} to send the restore.",
    "sending": "Do not repeat it. Call {look} in a minute.",
    "unknown": "Do not repeat it. Call {look} in a few minutes.",
    "accepted": "Call {wait} to wait until it is finished.",
    "stuck": "It has been under way for far longer than a backup takes, and may never finish: do not wait for it. "
    "Tell the user, who sees in VPS.org's own panel what became of backup {backup}.",
    "being deleted": "Do not count on backup {backup}. Call {look} later, for up to 24 h: then it is gone, or the "
    "deletion did not take effect. VPS.org's own list of backups shows the same.",
    "restoring": "Check the server itself in some minutes; {look} shows its status.",
    "succeeded": "None.",
    "elsewhere": "Do not repeat it; tell the user. What became of it can be seen only with the token and the address "
    "that it was made with.",
    "expired": "Call {tool} again without operation_id if it is still wanted.",
    "made nothing": "Call {tool} again if it is still wanted.",
}


def _next_step(told: Told, now: datetime) -> str:
    operation = told.operation
    if told.unseen != MADE_ELSEWHERE and operation.advice and operation.changed == "nothing":
        return operation.advice
    if operation.status == "failed" and operation.advice:
        return operation.advice
    look = f"get_operation(operation_id={operation.id!r}"
    return _NEXT_STEP.get(_step(told, now), _NEXT_STEP["expired"]).format(
        again=_again(operation),
        wait=f"{look}, wait_seconds=45)",
        look=f"{look})",
        tool=operation.action,
        until=_until(operation, now),
        backup=operation.backup_id or "that went",
    )


def _step(told: Told, now: datetime) -> str:
    """Which of the next steps it is."""
    operation, status = told.operation, str(told.operation.status)
    if told.unseen == MADE_ELSEWHERE:
        return "expired" if operation.status in OPEN else "elsewhere"
    if status == "planned" and told.approver != "caller":
        return f"planned, {told.approver}"
    if status == "accepted":
        return _accepted_step(operation, now)
    if status == "preparing" and told.safety and told.safety.status == "succeeded":
        return "prepared"
    if status == "succeeded" and "left_for_later" in operation.facts:
        return "pruned in part"
    special = {
        ("preparing", "prune_backups"): "pruning",
        ("failed", "create_backup"): "made nothing",
        ("unknown", "delete_backup"): "being deleted",
    }
    return special.get((status, operation.action), status)


def _until(operation: Operation, now: datetime) -> str:
    """Until when a plan counts, `21:14Z (10 minutes)`: cut to the minute, so that what is told is in time."""
    left = operation.created.latest + PLAN_LIFE - now
    minutes = min(max(-(-left // _MINUTE), 1), PLAN_LIFE // _MINUTE)  # rounded up: a plan that was just made has all
    return f"{operation.created.wall + PLAN_LIFE:%H:%M}Z ({plural(minutes, 'minute')})"


def _accepted_step(operation: Operation, now: datetime) -> str:
    if operation.action == "create_backup":
        return "stuck" if operation.backup and is_stuck(operation.backup, now) else "accepted"
    return "restoring" if operation.action == "restore_server" else "being deleted"


def _again(operation: Operation) -> str:
    arguments = ", ".join(
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in operation.arguments.items()
    )
    return f"{operation.action}({arguments}, confirm=true, operation_id={operation.id!r})"
