"""delete_backup: one backup, planned, consented to, looked at again, and deleted for good."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import takewhile

from mcp_backups.clock import Moment
from mcp_backups.errors import (
    ApiError,
    ConfigError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    RejectedError,
    TargetChangedError,
)
from mcp_backups.health import newest
from mcp_backups.models import Backup, Listing
from mcp_backups.operations import (
    BY_OPERATOR,
    CANNOT_SEE,
    EFFECTIVE,
    LIST_LAGS,
    VAIN,
    ApprovedBy,
    Arguments,
    Context,
    DeleteDetails,
    Entries,
    Facts,
    Inventory,
    Observation,
    Operation,
    Person,
    Question,
    Request,
    Result,
    Status,
    Steps,
    authorize,
    backup_line,
    check_delete,
    check_server,
    doubt_ends,
    execute,
    fitting,
    in_doubt,
    in_full,
    in_words,
    is_later,
    may_have_acted,
    new_id,
    observe,
    question_text,
    record_plan,
)
from mcp_backups.text import plural, stamp, stamp_after

SEEN_GONE = "absent from the complete list"
"""How it is known that a backup is deleted."""

_ATTEMPTS = 3
_ATTEMPT_SECONDS = 20.0
"""What a further attempt may take, and so must be left of the call."""


async def delete(context: Context, backup_id: int, *, confirm: bool, operation_id: str, person: Person) -> Result:
    """Plan to delete a backup or, when that is consented to, delete it.

    Raises:
        BackupsError: Nothing was deleted, or it is not known.
    """
    request = Request("delete_backup", {"backup_id": backup_id}, confirm, operation_id, person)
    return await authorize(context, request, Steps(_plan, execute_delete))


# The plan


async def _plan(context: Context, request: Request) -> Operation:
    seen = await observe(context, request.arguments)
    return await record_plan(context, draft(context, request.arguments, seen), seen, check_rules)


def draft(context: Context, arguments: Arguments, seen: Observation) -> Operation:
    """The plan, before it is known whether the rules allow it."""
    return Operation(
        id=new_id(),
        action="delete_backup",
        status=Status.PLANNED,
        arguments=arguments,
        server_id=seen.target.server_id,
        server_name=seen.target.server_name,
        backup_id=seen.target.id,
        backup=seen.target,
        details=_details(seen.target, seen.inventory),
        **context.origin(),
    )


def _details(target: Backup, inventory: Inventory) -> DeleteDetails:
    left = inventory.proven_on(target.server_id, without={target.id})
    return DeleteDetails(
        good_left=len(left),
        newest_left=newest(left),
        all_left_expire_by=end_of_all(left),
        way_back_of=inventory.ways_back.get(target.id, ""),
        being_restored_by=inventory.sources.get(target.id, ""),
    )


def end_of_all(left: Sequence[Backup]) -> datetime | None:
    """When the last of these backups expires; None where one of them lasts, or there is none."""
    end: datetime | None = None
    for backup in left:
        if backup.expires_at is None:
            return None
        end = max(end or backup.expires_at, backup.expires_at)
    return end


def check_rules(context: Context, operation: Operation, seen: Observation) -> None:
    """Whether the operator's rules allow it. Raises `PolicyDeniedError`."""
    check_server(context.settings, operation.server_id)
    check_delete(context.settings, seen.target, seen.inventory)


# The execution


async def execute_delete(context: Context, operation: Operation, approved_by: ApprovedBy) -> Result:
    """Carry out a plan to delete. Raises as `operations.execute`."""
    return await execute(context, operation, approved_by, check=check_again, complete=_with_left)


def _with_left(_context: Context, _entries: Entries, operation: Operation, seen: Observation) -> Operation:
    """The delete with what is left as it is now, which need not be what its plan told."""
    now = _details(seen.target, seen.inventory)
    return operation.updated(
        good_left=now.good_left, newest_left=now.newest_left, all_left_expire_by=now.all_left_expire_by
    )


def check_again(context: Context, operation: Operation, seen: Observation) -> None:
    """Whether the rules still allow it, and what needs the backup and what is left is as the plan told."""
    check_rules(context, operation, seen)
    shown, target = operation.of(DeleteDetails), operation.backup_id
    now = _details(seen.target, seen.inventory)
    plan_id = shown.part_of or operation.id
    if now.way_back_of not in {"", shown.way_back_of} or now.being_restored_by not in {"", shown.being_restored_by}:
        raise TargetChangedError(f"Backup {target} is needed by a restore that was sent since the plan {plan_id}.")
    end, told = now.all_left_expire_by, shown.all_left_expire_by
    if end and (told is None or end < told):
        raise TargetChangedError(
            f"All proven backups that would be left expire by {stamp(end)}, sooner than the plan {plan_id} told."
        )


async def send(context: Context, operation: Operation) -> Operation:
    """Delete a backup, in up to three attempts as long as it is seen to be still listed.

    An attempt that was not plainly refused may take effect hours later. After such a one no later refusal, and no list
    that still shows the backup, says that nothing happens: only its absence ends the doubt.
    """
    unsure: ApiError | None = None
    is_listed: bool | None = None
    for _ in range(_ATTEMPTS):
        is_refused = is_denied = False
        try:
            await context.api.delete_backup(operation.backup_id)
        except (ApiError, ConfigError) as error:
            is_denied = isinstance(error, NotFoundError)
            if may_have_acted(error):
                unsure = error
            elif unsure is None:
                if isinstance(error, NotFoundError):
                    return await _denied(context, operation, error)
                raise
            is_refused = error is not unsure
        else:
            unsure = None
        is_listed = await _is_listed(context, operation, is_sure=unsure is None or is_denied)
        if is_listed is False:
            return operation.updated(status=Status.SUCCEEDED, evidence=SEEN_GONE)
        if unsure is None:
            said = "VPS.org said yes, and the backup has not been seen to be gone"
            return operation.updated(status=Status.ACCEPTED, evidence=said)
        is_answered = unsure.answered_yes or isinstance(unsure, RejectedError | ConflictError)  # and would be so again
        if is_refused or is_listed is None or is_answered or context.seconds_left < _ATTEMPT_SECONDS:
            break
    raise _unknown(operation, is_listed, unsure.said if unsure else "") from unsure


async def _denied(context: Context, operation: Operation, denial: NotFoundError) -> Operation:
    """What follows where VPS.org has no such backup, which was listed a moment ago, by its answer to the only request.

    Raises:
        NotFoundError: The backup is not seen to be gone.
    """
    is_listed = await _is_listed(context, operation, is_sure=True)
    if is_listed is False:  # perhaps by this very request, which something sent twice
        return operation.updated(status=Status.SUCCEEDED, evidence=SEEN_GONE)
    if is_listed:
        raise NotFoundError(
            f"VPS.org answered that it has no backup {operation.backup_id}, and still lists it.",
            "Look with list_backups in a few minutes; if it is listed then, tell the user.",
            said=denial.said,
        ) from denial
    raise denial


async def _is_listed(context: Context, operation: Operation, *, is_sure: bool) -> bool | None:
    """Whether VPS.org still lists the backup that is deleted; None when its list does not tell, or for another server.

    Args:
        context: What operations work with.
        operation: What deletes it.
        is_sure: Whether VPS.org said that it deletes it, or has it not.
    """
    try:
        with context.reading():
            if is_sure:
                backups = await context.api.list_backups(operation.server_id)
            else:
                backups = await list_for(context, operation.server_id, {operation.backup_id})
    except CANNOT_SEE:
        return None
    for backup in backups.rows:
        if backup.id == operation.backup_id:
            return True if backup.server_id == operation.server_id else None
    return False if _shows_it_gone(backups, operation, context.moment(), is_sure=is_sure) else None


async def list_for(context: Context, server_id: int, unsure: Collection[int]) -> Listing[Backup]:
    """A server's backups, by which its deletes are judged.

    Where one that may have moved is not among them, but is in the list of all, that list: it is not gone, but another
    server's by now, or no one's. Where the list of all cannot be read, its own must do.
    """
    own = await context.api.list_backups(server_id)
    missing = set(unsure) - own.ids
    if missing and own.complete_for(server_id):
        with suppress(ApiError):
            every = await context.api.list_backups()
            return every if missing & every.ids else own
    return own


def _unknown(operation: Operation, is_listed: bool | None, said: str) -> OutcomeUnknownError:
    seen = "It is still listed so far" if is_listed else "The list could not tell whether it is gone"
    until = stamp_after(doubt_ends(operation))
    return OutcomeUnknownError(
        f"VPS.org gave no certain answer to {operation.id} (delete_backup of backup {operation.backup_id}). "
        f"{seen}; it may still be deleted, for up to 24 h.",
        f"Do not count on backup {operation.backup_id}, and do not repeat the delete. Call "
        f"get_operation(operation_id={operation.id!r}) in 30 minutes, and again after {until}: by then it is gone or "
        "it stays, as VPS.org's own list of backups shows too.",
        said=said,
    )


# The outcome, told from a look


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it; of a delete that was plainly refused it cannot."""
    return operation.status in {Status.UNKNOWN, Status.ACCEPTED, Status.SUCCEEDED} or is_given_up(operation)


def is_given_up(operation: Operation) -> bool:
    """Whether it counts as without effect, though nobody refused it: its backup may still go, by it or by another."""
    return operation.status is Status.FAILED and operation.of(DeleteDetails).lapsed


def may_have_moved(operation: Operation) -> bool:
    """Whether its backup may be another server's where its own lacks it; after a yes too, until it is seen gone."""
    return operation.status in {Status.UNKNOWN, Status.ACCEPTED} or is_given_up(operation)


def _is_sure(operation: Operation) -> bool:
    """Whether VPS.org said that it deletes the backup, or it was seen to be gone."""
    return operation.status in {Status.ACCEPTED, Status.SUCCEEDED}


async def look(context: Context, operation: Operation) -> Result:
    """What VPS.org's list says of it now."""
    backups = await list_for(context, operation.server_id, {operation.backup_id} if may_have_moved(operation) else ())
    if again := (await sent_again(context, [operation])).get(operation.id):
        since = f"Another delete of backup {operation.backup_id} was sent since ({again})"
        return Result(operation.updated(advice=f"{since}: list_backups shows whether the backup is still there."))
    return Result(judge(operation, backups, context.moment()))  # by VPS.org's clock too, now that it is known


async def sent_again(context: Context, deletes: Iterable[Operation]) -> dict[str, str]:
    """Of those that were given up, the last delete that was sent for the same backup since: its end is that one's."""
    given_up = [each for each in deletes if is_given_up(each)]

    def read(entries: Entries) -> dict[str, str]:
        return {each.id: later for each in given_up if (later := _sent_again(entries, each))}

    return await context.ledger.read(read) if given_up else {}


def _sent_again(entries: Entries, delete: Operation) -> str:
    """The last delete of the same backup that was sent after this one and not plainly refused; empty if none was."""
    ended = EFFECTIVE | {Status.FAILED}
    sent = entries.sent_for_backups("delete_backup", {delete.backup_id}, ended, delete.server_id)
    later = takewhile(lambda each: each.id != delete.id, sent)
    return next((each.id for each in later if each.status is not Status.FAILED or is_given_up(each)), "")


def judge(operation: Operation, backups: Listing[Backup], now: Moment) -> Operation:
    """What a list of backups says of a backup that was to be deleted.

    Absence from a complete list ends the doubt; being listed ends it only after 24 h. One that goes after that is gone,
    whoever deleted it. One that is listed again after it was seen to be gone is doubtful once more, from now on. A
    later one of the same id is another; but what was sent may hit that one too within the 24 h.
    """
    listed = next((backup for backup in backups.rows if backup.id == operation.backup_id), None)
    seen = "its id is a later backup's" if listed else SEEN_GONE
    gone = operation.without_error(status=Status.SUCCEEDED, evidence=seen)
    if listed is None:
        return gone if _shows_it_gone(backups, operation, now, is_sure=_is_sure(operation)) else operation
    if is_later(listed, operation):
        return operation if operation.status is Status.SUCCEEDED or in_doubt(operation, now) else gone
    if operation.status is Status.SUCCEEDED:
        again = "listed again after it was seen to be gone"
        if operation.evidence == BY_OPERATOR:
            again = "listed, though the operator settled it as done"
        return operation.updated(status=Status.UNKNOWN, evidence=again, listed_again=now)
    if operation.status is Status.FAILED or in_doubt(operation, now):
        return operation
    return operation.updated(
        status=Status.FAILED,
        lapsed=True,
        evidence="still in the list",
        error_code="upstream_unavailable",
        error=f"The deletion of backup {operation.backup_id} did not take effect within 24 h.",
        advice=f"Backup {operation.backup_id} counts again; plan another delete if it is still to go.",
    )


def _shows_it_gone(backups: Listing[Backup], operation: Operation, now: Moment, *, is_sure: bool) -> bool:
    """Whether a list without a backup says that it is gone: a complete one, and not one of before it was made.

    A list may be behind, and not always as far. Where VPS.org did not say that it deletes a backup, one that is so new
    that a list may lack it yet is gone only where the list has one that is newer still.
    """
    if not backups.complete_for(operation.server_id):
        return False
    backup, sent = operation.backup, operation.sent or operation.since
    if is_sure or backup is None or now.earliest - backup.created_at >= LIST_LAGS or not sent.within(LIST_LAGS, now):
        return True
    return any(each.created_at > backup.created_at for each in backups.rows)


# The words


_SUMMARY = {
    Status.PLANNED: "Backup {backup} of server {server} would be deleted for good.",
    Status.SENDING: "The request to delete backup {backup} of server {server} is under way.",
    Status.ACCEPTED: "VPS.org accepted the deletion of backup {backup} of server {server}, "
    "which has not been seen to be gone.",
    Status.SUCCEEDED: "Backup {backup} of server {server} is deleted.",
    Status.UNKNOWN: "It is not known whether backup {backup} of server {server} was deleted.",
}


def summary(result: Result) -> str:
    """What happened, or would."""
    operation = result.operation
    told = _SUMMARY.get(operation.status, "").format(backup=operation.backup_id, server=operation.server_id)
    if may_be_by_another(operation):
        return f"{told} This was seen only after the deletion had been given up: something else may have deleted it."
    return " ".join([told, *_warnings(operation)]) if operation.status is Status.PLANNED else told


def may_be_by_another(operation: Operation) -> bool:
    """Whether the backup went after the deletion had been given up: nobody can tell whether that deleted it."""
    return operation.status is Status.SUCCEEDED and operation.of(DeleteDetails).lapsed


def facts(result: Result, _now: datetime) -> Facts:
    """What bears on the decision."""
    details = result.operation.of(DeleteDetails)
    if details.part_of:
        return {"part_of": details.part_of}
    if result.operation.status in VAIN:
        return {}
    told: Facts = {"can_be_undone": False, "proven_backups_left": details.good_left}
    if details.newest_left:
        told |= {
            "newest_proven_left": details.newest_left.id,
            "newest_proven_left_created_at": stamp(details.newest_left.created_at),
        }
    if details.all_left_expire_by:
        told["all_left_expire_by"] = stamp(details.all_left_expire_by)
    if details.budget and result.operation.status is Status.PLANNED:
        told["budget"] = in_words(details.budget, "delete")
    if details.way_back_of:
        told["way_back_of"] = details.way_back_of
    if details.being_restored_by:
        told["being_restored_by"] = details.being_restored_by
    return told


def next_step(result: Result, now: datetime) -> str:
    """What to do while its end has not been seen."""
    operation = result.operation
    if operation.status not in {Status.ACCEPTED, Status.UNKNOWN}:
        return ""
    look, end = f"get_operation(operation_id={operation.id!r})", doubt_ends(operation)
    if now >= end:
        return f"Do not count on backup {operation.backup_id}. {overdue(look)}"
    return (
        f"Do not count on backup {operation.backup_id}. Call {look} later, for "
        f"up to 24 h: by {stamp_after(end)} it is gone, or the deletion did not take effect. VPS.org's own list of "
        "backups shows the same."
    )


def overdue(look: str) -> str:
    """What to do where no list has shown what became of a deletion, although its 24 h are over."""
    return (
        "The 24 h in which a deletion could take effect are over, and no list has shown yet whether it did: call "
        f"{look} once more in a few minutes; if it is not known then, tell the user, who sees in VPS.org's own list of "
        "backups what is there."
    )


def question(operation: Operation) -> Question:
    """What a person is asked before it."""
    details = operation.of(DeleteDetails)
    left = f"Left: {plural(details.good_left, 'proven backup')}"
    if latest := details.newest_left:
        left += f", the newest of {stamp(latest.created_at)}"
    if details.all_left_expire_by:
        left += f"; all expire by {stamp(details.all_left_expire_by)}"
    text = question_text(
        fitting(
            f"Delete backup {operation.backup_id} of server {operation.server_id} ",
            operation.server_name,
            " for good?",
        ),
        f"This cannot be undone.{_needed_by(details)}",
        f"{left}.",
        backup_line(operation),
    )
    return Question(text, "delete", "Yes, delete this backup for good", True, in_full(operation))


def _needed_by(details: DeleteDetails) -> str:
    """Which restores need the backup, in the rest of a line."""
    back, source = details.way_back_of, details.being_restored_by
    if back and source:
        return f" It is the way back of {back}; {source} restores it."
    if back:
        return f" It is the way back of the restore {back}."
    return f" The restore {source} is putting it back now." if source else ""


def _warnings(operation: Operation) -> list[str]:
    """What else it would take: a sentence for each restore that needs the backup."""
    details = operation.of(DeleteDetails)
    said = []
    if details.way_back_of:
        said.append(f"It is the way back from the restore {details.way_back_of}, which then cannot be undone.")
    if details.being_restored_by:
        said.append(f"The restore {details.being_restored_by} puts it back on the server, and may not be done with it.")
    return said
