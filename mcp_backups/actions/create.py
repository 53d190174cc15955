"""create_backup: no plan and no consent, but never twice."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice

import anyio

from mcp_backups.clock import Moment
from mcp_backups.errors import ApiError, BackupsError, BusyError, InvalidArgumentError, OutcomeUnknownError
from mcp_backups.health import is_stuck
from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, MANUAL, OPERATION_ID, Backup, Listing
from mcp_backups.operations import (
    EFFECTIVE,
    LIST_LAGS,
    REPEAT_WINDOW,
    UNSETTLED,
    Arguments,
    Context,
    CreateDetails,
    Entries,
    Facts,
    Operation,
    Question,
    ReportProgress,
    Result,
    Status,
    carry_out,
    check_room,
    check_server,
    check_write,
    deletion_of,
    follow,
    is_later,
    may_have_acted,
    new_id,
    recent,
)
from mcp_backups.text import line_fault, listed, plural, seen, stamp_after

MAX_DESCRIPTION = 150
"""Characters of a description, so that the operation's mark after it is still shown."""

LOOKS = (0, 1, 2, 4, 8)
"""Seconds to wait before each look for a backup that may have been started."""

_LOOKING_SECONDS = 20.0
_RIVALS = 1000
_LATE_ARRIVAL = timedelta(minutes=2)
_CREATED_AROUND = timedelta(seconds=120)
_MADE = frozenset({Status.ACCEPTED, Status.SUCCEEDED})


async def create(
    context: Context,
    server_id: int,
    description: str,
    *,
    allow_duplicate: bool,
    wait_seconds: float,
    report: ReportProgress,
) -> Result:
    """Start a backup of a server, or find the one that the same request started within the last 10 minutes.

    Raises:
        BackupsError: Nothing was started, or it is not known.
    """
    check_write(context.settings)
    check_server(context.settings, server_id)
    description = _in_one_line(description)
    start = context.clock.ticks()
    await context.identify()
    arguments: Arguments = {"server_id": server_id, "description": description}
    recorded: Operation | None = None
    if not allow_duplicate:
        recorded = await context.ledger.read(lambda entries: find_repeat(context, entries, arguments))
    started = None
    if recorded is None:
        with context.reading(before_sending=True):
            backups = await context.api.list_backups(server_id)
        intended = intent(context, arguments, backups)

        def intend(entries: Entries, owner: str) -> Operation | None:
            if not allow_duplicate and find_repeat(context, entries, arguments):
                return None
            check_room(context, entries, "create_backup", server_id)
            return entries.save(intended.updated(owner=owner))

        started = await carry_out(context, intended.id, intend)
        recorded = started or await context.ledger.read(lambda entries: find_repeat(context, entries, arguments))
        if recorded is None:
            raise BusyError("Another call asked for the same backup at the same time, and failed.")
    left = max(0.0, wait_seconds - (context.clock.ticks() - start))
    if started is not None and not left:
        return Result(started)
    result = await follow(context, recorded, left, report)
    return result if started is not None else result._replace(replayed=True)


def _in_one_line(description: str) -> str:
    """A description as it is sent: no-break and wide spaces, which nobody sees to be such, are plain ones.

    Raises:
        InvalidArgumentError: It is more than one line of visible characters; names what stands in it.
    """
    fault, folded = line_fault(description), " ".join(description.split())
    if not fault and folded != description and all(char == " " or not char.isspace() for char in description):
        fault = "leading, trailing or double spaces"  # which VPS.org need not give back as they came
    if fault:
        raise InvalidArgumentError(f"description must be one line of visible characters; it holds {fault}.")
    if len(folded) > MAX_DESCRIPTION:
        raise InvalidArgumentError(f"description must be at most {MAX_DESCRIPTION} characters; it has {len(folded)}.")
    if OPERATION_ID.search(folded):
        raise InvalidArgumentError("description must not hold an operation id.")
    return folded


def intent(context: Context, arguments: Arguments, backups: Listing[Backup]) -> Operation:
    """The operation that makes a backup, about to be sent."""
    server_id, origin = int(arguments["server_id"]), context.origin()
    return Operation(
        id=new_id(),
        action="create_backup",
        status=Status.SENDING,
        arguments=arguments,
        server_id=server_id,
        server_name=next((backup.server_name for backup in backups.rows if backup.server_id), ""),
        details=CreateDetails(
            marked=context.settings.mark_backups,
            baseline=tuple(backup.id for backup in backups.rows),
            baseline_complete=backups.complete_for(server_id),
        ),
        approved_by="not_required",
        sent=origin["created"],
        **origin,
    )


def find_repeat(context: Context, entries: Entries, arguments: Arguments) -> Operation | None:
    """The operation of the same request within the last 10 minutes that took effect, or may have.

    One whose backup was deleted here since is none, nor is one from before a restore: who asks again wants a backup
    that is there, and holds what the server is now. That a list lacks it tells nothing yet: the list may be behind.
    """
    server_id, now = int(arguments["server_id"]), context.moment()
    sent = entries.sent("create_backup", server_id=server_id, statuses=EFFECTIVE)
    made = [each for each in recent(sent, REPEAT_WINDOW, now) if context.can_see(each)]
    deletes = [*entries.sent_for_backups("delete_backup", {each.backup_id for each in made}, EFFECTIVE, server_id)]
    restores = entries.sent("restore_server", server_id=server_id, statuses=EFFECTIVE)
    gone = {
        each.id
        for each in made
        for delete in deletes
        if 0 < each.backup_id == delete.backup_id
        and context.concerns(delete)
        and not (each.backup and is_later(each.backup, delete))
    }
    restored = next((each.sent for each in restores if each.sent and context.concerns(each)), None)
    return next(
        (
            each
            for each in made
            if each.arguments == arguments
            and context.asked_for(each)
            and each.id not in gone
            and not (restored and restored.ago(now) < each.created.ago(now))
        ),
        None,
    )


async def send(context: Context, operation: Operation) -> Operation:
    """Ask for the backup once; where the answer is not certain, look for it."""
    details = operation.of(CreateDetails)
    description = str(operation.arguments.get("description", ""))
    if details.marked:
        description = f"{description} [{operation.id}]".lstrip()
    unsure: ApiError | None = None
    try:
        backup = await context.api.create_backup(operation.server_id, description)
        if backup.id not in details.baseline:  # what was there before is not what was asked for
            started = made(operation, backup, f"VPS.org's answer named backup {backup.id}", context.moment())
            # Only what the list shows is finished: it may be behind, and nothing can be restored from it until then.
            return started.updated(status=Status.ACCEPTED) if started.status is Status.SUCCEEDED else started
    except ApiError as error:
        if not may_have_acted(error):
            raise
        unsure = error
    found = await _look_for_it(context, operation)
    if found.status is operation.status:
        candidates = found.of(CreateDetails).candidates
        seen_so_far = _several(candidates) if candidates else "no backup of it has been seen yet"
        raise OutcomeUnknownError(
            f"VPS.org gave no certain answer to {operation.id} (create_backup on server {operation.server_id}), "
            f"and {seen_so_far}.",
            _look_for(operation, context.moment().latest),
            said=unsure.said if unsure else "",
        ) from unsure
    return found


async def _look_for_it(context: Context, operation: Operation) -> Operation:
    """Look a few times for a backup that may have been started; the operation comes back as it is if none is found."""
    with anyio.move_on_after(min(_LOOKING_SECONDS, context.seconds_left - context.recording_seconds)):
        for pause in LOOKS:
            await context.clock.sleep(pause)
            try:
                found = await _judged(context, operation, await context.api.list_backups(operation.server_id))
            except BackupsError:
                continue  # a look that fails, for whatever reason, tells nothing
            if found != operation:
                return found
    return operation


# The outcome, told from a look


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it: whatever its end, its backup may be listed, finished or gone by now."""
    return operation.sent is not None and operation.status is not Status.SENDING


async def look(context: Context, operation: Operation) -> Result:
    """What VPS.org's list says of it now."""
    backups = await context.api.list_backups(operation.server_id)
    known = await _judged(context, operation, backups)
    if known.status not in _MADE:
        return Result(known)
    is_listed = known.backup_id in backups.ids or not backups.complete_for(known.server_id)
    deleted_by = await context.ledger.read(lambda entries: deletion_of(entries, known, known.backup_id))
    # One that is just being made may only not be listed yet.
    is_gone = not is_listed and (known.status is Status.SUCCEEDED or bool(deleted_by))
    return Result(known, is_gone=is_gone, deleted_by=deleted_by)


async def _judged(context: Context, operation: Operation, backups: Listing[Backup]) -> Operation:
    # Read after the list: whoever made a backup that is in it has recorded before that it would.
    is_marked = operation.of(CreateDetails).marked
    rivals = [] if is_marked else await context.ledger.read(lambda entries: _rivals(entries, operation))
    return judge(operation, backups, context.moment(), rivals)


def _rivals(entries: Entries, operation: Operation) -> list[Operation]:
    creates = islice(entries.sent("create_backup", server_id=operation.server_id), _RIVALS)
    return [each for each in creates if each.id != operation.id and each.arguments == operation.arguments]


def judge(operation: Operation, backups: Listing[Backup], now: Moment, rivals: Sequence[Operation] = ()) -> Operation:
    """What the server's backups say of one that was asked for.

    It is known by its operation's mark, or else by the id that VPS.org told. One that bears no mark and is not there by
    that id is the one new backup like it, if nobody else can have made that. Of several it is none for certain.

    Args:
        operation: What asked for it.
        backups: The server's backups.
        now: By both clocks.
        rivals: Other operations that asked for the same before the list was read; only without a mark they matter.
    """
    details = operation.of(CreateDetails)
    marked = [each for each in backups.rows if each.mark == operation.id and each.id not in details.baseline]
    named = [backup for backup in backups.rows if backup.id == operation.backup_id]
    own = [backup for backup in marked if backup in named]
    found = own or marked or [each for each in named if not each.mark]  # with another mark it is another of the same id
    if len(found) == 1:
        return made(operation, found[0], "its row in the list of backups", now)
    is_refused = operation.status is Status.FAILED and not operation.backup_id
    is_sought = not (details.marked or found or is_refused)
    alike = _alike(operation, backups, rivals) if is_sought else []
    if len(alike) == 1:
        return made(operation, alike[0], "probable: the one new backup that is like it in the complete list", now)
    if operation.status in UNSETTLED:
        return operation.updated(candidates=tuple(each.id for each in found or alike))
    is_absent = backups.complete_for(operation.server_id) and not found
    if operation.status is Status.ACCEPTED and is_absent and not operation.since.within(LIST_LAGS, now):
        return operation.updated(
            status=Status.FAILED,
            evidence="absent from the complete list",
            error_code="not_found",
            error=f"Backup {operation.backup_id} was started but is no longer listed.",
        )
    return operation


def made(operation: Operation, backup: Backup, evidence: str, now: Moment) -> Operation:
    """The operation, now that its backup is known.

    Nothing is final that a later look can contradict: what failed or is finished is looked at again when asked for. A
    status that is not documented may still become a good one; a size may be told later than the status.
    """
    known = operation.without_error(
        backup_id=backup.id, backup=backup, server_name=backup.server_name, evidence=evidence, candidates=()
    )
    if backup.status == FAILED:
        error = f"Backup {backup.id} was started but did not complete; its own status says what VPS.org made of it."
        return known.updated(status=Status.FAILED, error_code="conflict", error=error)
    if backup.status != COMPLETED or (not backup.size_mb and operation.since.within(LIST_LAGS, now)):
        return known.updated(status=Status.ACCEPTED)
    if backup.size_mb == 0:
        error = f"Backup {backup.id} is completed but empty: there is nothing in it to restore."
        return known.updated(status=Status.FAILED, error_code="conflict", error=error)
    return known.updated(status=Status.SUCCEEDED)


def _alike(operation: Operation, backups: Listing[Backup], rivals: Sequence[Operation]) -> list[Backup]:
    """The new backups that can only be what an operation asked for: none where that cannot be told."""
    if not (backups.complete_for(operation.server_id) and operation.of(CreateDetails).baseline_complete):
        return []
    if any(_may_be_of_rival(each, operation) for each in rivals):
        return []
    taken = {each.backup_id for each in rivals}
    return [backup for backup in backups.rows if backup.id not in taken and _is_like(operation, backup)]


def _may_be_of_rival(rival: Operation, operation: Operation) -> bool:
    """Whether what an operation asked for may be the doing of another of about the same time."""
    apart = rival.since.at_upstream - operation.since.at_upstream
    return rival.status in UNSETTLED and abs(apart) <= 2 * _CREATED_AROUND + _LATE_ARRIVAL


def _is_like(operation: Operation, backup: Backup) -> bool:
    """Whether it is new, and as it was asked for."""
    return (
        backup.id not in operation.of(CreateDetails).baseline
        and backup.type == MANUAL
        and seen(backup.description) == seen(str(operation.arguments.get("description", "")))
        and abs(backup.created_at - operation.since.at_upstream) <= _CREATED_AROUND
    )


# The words


_SUMMARY = {
    Status.SENDING: "The request for a backup of server {server} is under way.",
    Status.ACCEPTED: "Backup {backup} of server {server} {so_far}.",
    Status.SUCCEEDED: "Backup {backup} of server {server} is finished.",
    Status.UNKNOWN: "It is not known whether a backup of server {server} was started.",
}


def summary(result: Result) -> str:
    """What happened."""
    operation = result.operation
    told = _SUMMARY.get(operation.status, "").format(
        backup=operation.backup_id,
        server=operation.server_id,
        so_far="was started" if result.is_gone else _so_far(operation.backup),
    )
    if operation.status is Status.UNKNOWN and (candidates := operation.of(CreateDetails).candidates):
        return f"{told.removesuffix('.')}: {_several(candidates)}."
    is_finished = operation.status is Status.SUCCEEDED and bool(result.is_gone or result.unseen)
    if not (is_finished or (result.deleted_by and operation.status in _MADE)):
        return told
    told = told.replace(" is finished.", " was finished.")
    if result.unseen and not result.deleted_by:  # nobody has looked whether it is there
        return told
    if not result.deleted_by:
        return f"{told} It is not in the complete list now: deleted elsewhere, expired, or the list is behind."
    there = "It is no longer there; its" if result.is_gone else "Its"
    return f"{told} {there} deletion was sent since, by {result.deleted_by}."


def _so_far(backup: Backup | None) -> str:
    """How far one is that is not known to be finished."""
    if backup is None or backup.status == IN_PROGRESS:
        return "was started and is not finished yet"
    if backup.status == COMPLETED and not backup.size_mb:
        return "is completed, but its size may not be told yet"
    return "was started and is not known to be finished"


def _several(candidates: Sequence[int]) -> str:
    return f"{plural(len(candidates), 'backup')} may be it ({listed(candidates)})"


def facts(_result: Result, _now: datetime) -> Facts:
    """Nothing but what is told of every operation."""
    return {}


def question(operation: Operation) -> Question:
    """Never called: a backup loses nothing, so nobody is asked.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"{operation.id}: making a backup needs no consent")


def next_step(result: Result, now: datetime) -> str:
    """What to do while it is under way, or when it came to nothing."""
    operation = result.operation
    if operation.status is Status.FAILED:
        return "Call create_backup again if it is still wanted."
    if result.is_gone or result.deleted_by or (result.unseen and operation.status is Status.SUCCEEDED):
        return _not_to_count_on(result)
    if operation.status is Status.UNKNOWN:
        return _look_for(operation, now)
    if operation.status is not Status.ACCEPTED:
        return ""
    if operation.backup and is_stuck(operation.backup, now):
        return (
            "It has been under way for far longer than a backup takes, and may never finish: do not wait for it. Tell "
            f"the user, who sees in VPS.org's own panel what became of backup {operation.backup_id}."
        )
    return f"Call get_operation(operation_id={operation.id!r}, wait_seconds=45) to wait until it is finished."


def _not_to_count_on(result: Result) -> str:
    """What is to be done about a backup that is gone, or may be."""
    if result.deleted_by:
        return "Do not count on it; list_backups shows what is there."
    if result.is_gone:
        another = "For another one, call create_backup with allow_duplicate=true."
        return f"Do not count on it; list_backups shows what is there. {another}"
    return "Do not count on it until it is seen: VPS.org's own list of backups shows whether it is still there."


def _look_for(operation: Operation, now: datetime) -> str:
    """What can be done about a backup of which nobody knows whether it was started."""
    until = operation.since.latest + LIST_LAGS
    ask = f"ask the user whether VPS.org's panel shows a new backup of server {operation.server_id}"
    if now >= until:
        return (
            f"Looking again is not likely to tell more: {ask}, and do not repeat it before they say that there is none."
        )
    return (
        f"Do not repeat it. Call get_operation(operation_id={operation.id!r}) in 5 minutes, and once more after "
        f"{stamp_after(until)}; if it is not known then, {ask}."
    )
