"""What a list of backups says of an operation whose outcome is not known. Pure: facts in, judgement out."""

from collections.abc import Sequence
from datetime import timedelta

from mcp_backups.clock import Moment
from mcp_backups.models import COMPLETED, FAILED, MANUAL, Backup, Listing
from mcp_backups.operations.doubt import DOUBT_LASTS, in_doubt
from mcp_backups.operations.operation import UNSETTLED, Operation
from mcp_backups.text import duration, seen

SEEN_GONE = "absent from the complete list"
"""How it is known that a backup is deleted."""

LIST_LAGS = timedelta(minutes=30)
"""How long VPS.org's list may be behind: a new backup not in it yet, its size not told yet."""

_LATE_ARRIVAL = timedelta(minutes=2)
_CREATED_AROUND = timedelta(seconds=120)


def judge_create(
    operation: Operation, backups: Listing[Backup], now: Moment, rivals: Sequence[Operation] = ()
) -> Operation:
    """What the server's backups say of one that was asked for.

    It is known by its operation's mark, or else by the id that VPS.org told. One that bears no mark and is not there by
    that id is the one new backup like it, if nobody else can have made that.

    Args:
        operation: What asked for it.
        backups: The server's backups.
        now: By both clocks.
        rivals: Other operations that asked for the same before the list was read; only without a mark they matter.
    """
    marked = [backup for backup in backups.rows if backup.mark == operation.id]
    found = marked or [backup for backup in backups.rows if backup.id == operation.backup_id]
    if len(found) == 1:
        return made(operation, found[0], "its row in the list of backups", now)
    if not (operation.marked or found) and (like := _one_like(operation, backups, rivals)):
        return made(operation, like, "probable: the one new backup that is like it in the complete list", now)
    is_old = not (operation.sent or operation.created).within(LIST_LAGS, now)
    if operation.status == "accepted" and backups.complete_for(operation.server_id) and not found and is_old:
        return operation.but(
            status="failed",
            evidence=SEEN_GONE,
            error_code="not_found",
            error=f"Backup {operation.backup_id} was started but is no longer listed.",
        )
    return operation


def made(operation: Operation, backup: Backup, evidence: str, now: Moment) -> Operation:
    """The operation, now that its backup is known.

    Nothing is final that a later look can contradict: what failed or is finished is looked at again when asked for. A
    status that is not documented may still become a good one; a size may be told later than the status.
    """
    known = operation.but(
        backup_id=backup.id,
        backup=backup,
        server_name=backup.server_name,
        evidence=evidence,
        error_code="",
        error="",
        advice="",
    )
    if backup.status == FAILED:
        return known.but(
            status="failed",
            error_code="conflict",
            error=f"Backup {backup.id} was started but did not complete; its own status says what VPS.org made of it.",
        )
    is_young = (operation.sent or operation.created).within(LIST_LAGS, now)
    if backup.status != COMPLETED or (not backup.size_mb and is_young):
        return known.but(status="accepted")
    if backup.size_mb == 0:
        return known.but(
            status="failed",
            error_code="conflict",
            error=f"Backup {backup.id} is completed but empty: there is nothing in it to restore.",
        )
    return known.but(status="succeeded")


def judge_delete(operation: Operation, backups: Listing[Backup], now: Moment) -> Operation:
    """What a list of backups says of a backup that was to be deleted.

    Absence from a complete list ends the doubt; being listed ends it only after 24 h. One that is listed again after it
    was seen to be gone is doubtful once more, from now on.
    """
    is_listed = operation.backup_id in backups.ids
    if not is_listed:
        known = operation.but(status="succeeded", evidence=SEEN_GONE, error_code="", error="", advice="", lapsed=False)
        return known if backups.complete_for(operation.server_id) else operation
    if operation.status == "succeeded":
        return operation.but(status="unknown", listed_again=now, evidence="listed again after it was seen to be gone")
    if operation.lapsed or in_doubt(operation, now):
        return operation
    return operation.but(
        status="failed",
        lapsed=True,
        evidence="still in the list",
        error_code="upstream_unavailable",
        error=f"The deletion of backup {operation.backup_id} did not take effect within {duration(DOUBT_LASTS)}.",
        advice=f"Backup {operation.backup_id} counts again; plan another delete if it is still to go.",
    )


def _one_like(operation: Operation, backups: Listing[Backup], rivals: Sequence[Operation]) -> Backup | None:
    """The one new backup that can only be what an operation asked for; None if there is no such, or several."""
    if not (backups.complete_for(operation.server_id) and operation.baseline_complete):
        return None
    if any(_may_have_made(each, operation) for each in rivals):
        return None
    taken = {each.backup_id for each in rivals}
    found = [backup for backup in backups.rows if backup.id not in taken and _is_like(operation, backup)]
    return found[0] if len(found) == 1 else None


def may_have_made(create: Operation, backup: Backup) -> bool:
    """Whether a backup is, or may be, what an operation asked for, whatever is known of that by now."""
    if backup.id == create.backup_id or backup.mark == create.id:
        return True
    is_new = backup.type == MANUAL and backup.id not in create.baseline
    return is_new and create.status in UNSETTLED and not create.marked


def _may_have_made(rival: Operation, operation: Operation) -> bool:
    """Whether what an operation asked for may be the doing of another of about the same time."""
    apart = (rival.sent or rival.created).at_upstream - (operation.sent or operation.created).at_upstream
    return rival.status in UNSETTLED and abs(apart) <= 2 * _CREATED_AROUND + _LATE_ARRIVAL


def _is_like(operation: Operation, backup: Backup) -> bool:
    """Whether it is new, and as it was asked for."""
    sent = operation.sent or operation.created
    return (
        backup.id not in operation.baseline
        and backup.type == MANUAL
        and seen(backup.description) == seen(str(operation.arguments.get("description", "")))
        and abs(backup.created_at - sent.at_upstream) <= _CREATED_AROUND
    )
