"""restore_server: a server set back to one of its own backups, with a safety backup before it as the way back."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from mcp_backups.actions.safety import (
    PLAN_AGAIN,
    SAFETY_AGE,
    TOO_OLD,
    Waiting,
    ages_at,
    look_at_safety,
    prepare,
    seen_until,
    way_back,
)
from mcp_backups.api.servers import is_absent, read_servers
from mcp_backups.errors import (
    ApiError,
    BackupsError,
    NotFoundError,
    OutcomeUnknownError,
    TargetChangedError,
)
from mcp_backups.health import is_usable
from mcp_backups.models import Backup
from mcp_backups.operations import (
    CANNOT_SEE,
    CLOSED_FOR,
    LAST_LOOK_SECONDS,
    LEDGER_AWAY,
    VAIN,
    ApprovedBy,
    Arguments,
    Context,
    Entries,
    Facts,
    Observation,
    Operation,
    Person,
    Question,
    Request,
    RestoreDetails,
    Result,
    Status,
    StatusSeen,
    Steps,
    authorize,
    backup_line,
    can_be_typed,
    check_restore,
    check_server,
    execute,
    fitting,
    follow,
    in_full,
    in_words,
    is_taking_back,
    may_have_acted,
    new_id,
    observe,
    question_text,
    record_plan,
    restores_of,
    taken_back,
    undo_allowed_from,
)
from mcp_backups.text import duration, stamp, stamp_after

_MOST_STATUSES = 5
_NOT_LISTED = "not listed"
"""What is told after the status of a server that the complete list of servers lacks by now."""

_ROUNDING = timedelta(minutes=1)
"""By less than that the dates of one backup may differ, where one list tells more digits than another."""


async def restore(
    context: Context,
    server_id: int,
    backup_id: int,
    *,
    safety_backup: bool,
    waiting: Waiting,
    confirm: bool,
    operation_id: str,
    person: Person,
) -> Result:
    """Plan to restore a server or, when that is consented to, make its safety backup and restore it.

    Raises:
        BackupsError: Nothing was restored, or it is not known.
    """
    arguments: Arguments = {"server_id": server_id, "backup_id": backup_id, "safety_backup": safety_backup}
    request = Request("restore_server", arguments, confirm, operation_id, person)
    return await authorize(context, request, Steps(_plan, partial(execute_restore, waiting)))


# The plan


async def _plan(context: Context, request: Request) -> Operation:
    server_id = int(request.arguments["server_id"])
    check_server(context.settings, server_id)
    seen = await observe(context, request.arguments)
    if seen.target.server_id == server_id:
        # Where they cannot be read in half of the time, the plan is made without: VPS.org would refuse it then.
        servers = await read_servers(context.api, context.seconds_to_read(before_sending=False) / 2)
        if is_absent(server_id, servers):
            raise NotFoundError(f"VPS.org has no server {server_id} any more, to which anything could be restored.")
    return await record_plan(context, draft(context, request.arguments, seen), seen, _check_rules)


def draft(context: Context, arguments: Arguments, seen: Observation) -> Operation:
    """The plan, before it is known whether the rules allow it."""
    return Operation(
        id=new_id(),
        action="restore_server",
        status=Status.PLANNED,
        arguments=arguments,
        server_id=int(arguments["server_id"]),
        server_name=seen.target.server_name,
        backup_id=seen.target.id,
        backup=seen.target,
        details=RestoreDetails(way_back=way_back(seen.inventory, seen.target)),
        **context.origin(),
    )


def _check_rules(context: Context, operation: Operation, seen: Observation) -> None:
    check_server(context.settings, operation.server_id)
    makes_backup = bool(operation.arguments["safety_backup"])
    check_restore(context.settings, seen.target, operation.server_id, seen.inventory, safety_backup=makes_backup)


# The execution


async def execute_restore(waiting: Waiting, context: Context, operation: Operation, approved_by: ApprovedBy) -> Result:
    """Carry out a plan to restore; then look at the server for what is left of the time that the call may wait."""
    until = context.called_at + waiting.seconds
    make_safe = partial(prepare, waiting, until)
    try:
        result = await execute(
            context.with_overtime(), operation, approved_by, check=_check_again, prepare=make_safe, complete=_with_undo
        )
    except BackupsError as error:
        raise error.beside(await _made_for(context, operation)) from error.__cause__
    is_sent = result.operation.status is Status.ACCEPTED and not result.replayed
    if not is_sent or context.seconds_to_read(before_sending=False) < LAST_LOOK_SECONDS:
        return result
    left = until - context.clock.ticks()
    return await follow(context, result.operation, left, waiting.reporting(left))


async def _made_for(context: Context, operation: Operation) -> str:
    """What was made for a restore that came to nothing, or may have; empty if nothing was, or nobody can tell."""
    with suppress(*LEDGER_AWAY):
        operation = await context.find(operation.id) or operation
        safety = await context.find(operation.of(RestoreDetails).safety_operation)
        return made(Result(operation, safety=safety))
    return ""


def _check_again(context: Context, operation: Operation, seen: Observation) -> None:
    """Whether the rules still allow it, and the way back that the plan showed is still one."""
    _check_rules(context, operation, seen)
    relied_on = operation.of(RestoreDetails).way_back and not operation.arguments["safety_backup"]
    if relied_on and not way_back(seen.inventory, seen.target):
        raise TargetChangedError(f"The way back that the plan {operation.id} showed is no longer recent, or gone.")


def _with_undo(context: Context, entries: Entries, operation: Operation, seen: Observation) -> Operation:
    """The restore with the backup that would take it back, and with the restore that it takes back itself."""
    safety = entries.get(operation.of(RestoreDetails).safety_operation)
    back = safety.backup if safety else way_back(seen.inventory, seen.target)
    # Its own intent is not recorded yet: the last restore is the one before it.
    before = is_taking_back(context, entries, operation)
    return operation.updated(
        way_back=back, undo_backup_id=back.id if back else 0, takes_back=before.id if before else ""
    )


async def send(context: Context, operation: Operation) -> Operation:
    """Ask for the restore, once."""
    try:
        await context.api.restore_server(operation.server_id, operation.backup_id)
    except ApiError as error:
        if not may_have_acted(error):
            raise
        raise OutcomeUnknownError(
            f"VPS.org gave no certain answer to {operation.id} (restore of backup {operation.backup_id} to server "
            f"{operation.server_id}): the restore may be running.",
            _look_at_server(operation, context.moment().latest),
            said=error.said,
        ) from error
    return operation.updated(status=Status.ACCEPTED, evidence="VPS.org said yes; no more is known for sure")


# The outcome, told from a look


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it; of one that came to nothing, what became of its safety backup."""
    left_over = operation.status in VAIN and operation.of(RestoreDetails).safety_operation
    return bool(left_over) or operation.status in {Status.PREPARING, Status.UNKNOWN, Status.ACCEPTED}


async def look(context: Context, operation: Operation) -> Result:
    """What there is to see of it: its safety backup, its way back, and the server's status, which is no proof."""
    if operation.status is Status.PREPARING:
        return await look_at_safety(context, operation)
    if operation.status in VAIN:
        return (await look_at_safety(context, operation))._replace(operation=operation)
    result = await _look_at_undo(context, operation)
    try:
        servers = await context.api.list_servers()
    except CANNOT_SEE as error:
        return result._replace(unseen=error.code)
    was_seen = bool(operation.of(RestoreDetails).statuses)
    unseen = _NOT_LISTED if was_seen and is_absent(operation.server_id, servers) else ""
    status = next((server.status for server in servers.rows if server.id == operation.server_id), unseen)
    return result._replace(operation=_with_status(result.operation, status, context.now))


def _with_status(operation: Operation, status: str, now: datetime) -> Operation:
    """The restore with the server's status, where that is another than was seen before."""
    known = operation.of(RestoreDetails).statuses
    if not status or (known and known[-1].status == status):
        return operation
    return operation.updated(statuses=(*known, StatusSeen(status=status, at=now))[-_MOST_STATUSES:])


async def _look_at_undo(context: Context, operation: Operation) -> Result:
    """A restore that cannot be undone while the backup for it is gone or of no use, or may be just going."""
    details = operation.of(RestoreDetails)
    undo, back = details.undo_backup_id, details.way_back
    if not undo:
        return Result(operation)
    backups = await context.api.list_backups(operation.server_id)
    inventory = await context.inventory(operation.server_id, backups)
    kept = next((backup for backup in backups.rows if backup.id == undo), None)
    is_lost = not is_usable(kept, inventory.now) if kept else backups.complete_for(operation.server_id)
    if is_lost or (kept and back and kept.created_at - back.created_at >= _ROUNDING):  # a later one of its id
        return Result(operation.updated(undo_lost=True))
    if kept:  # the list that lacked it was behind
        operation = operation.updated(undo_lost=False)
    restores = await context.ledger.read(lambda entries: restores_of(context, entries, operation.server_id))
    allowed = undo_allowed_from(context.settings, restores, undo, context.moment())
    counts = taken_back(undo, restores) is None
    return Result(operation, is_undoable=undo not in inventory.doubtful, undo_from=allowed, undo_counts=counts)


# The words


_SUMMARY = {
    Status.PLANNED: "Server {server} would be set back to backup {backup}.",
    Status.PREPARING: "A safety backup of server {server} is made first; the restore of backup {backup} has not been "
    "sent.",
    Status.SENDING: "The request to restore backup {backup} to server {server} is under way.",
    Status.ACCEPTED: "VPS.org accepted the restore of backup {backup} to server {server}; it does not tell when that "
    "is finished.",
    Status.UNKNOWN: "It is not known whether backup {backup} was or is being restored to server {server}.",
}


def summary(result: Result) -> str:
    """What happened, or would."""
    operation = result.operation
    return _SUMMARY.get(operation.status, "").format(backup=operation.backup_id, server=operation.server_id)


def facts(result: Result, _now: datetime) -> Facts:
    """What is lost, and the way back: until when, and what limits it."""
    operation, details = result.operation, result.operation.of(RestoreDetails)
    told: Facts = {}
    if operation.status not in VAIN:
        told = {
            "lost": _lost(operation),
            "safety_backup": _way_back_in_words(operation),
            "can_be_undone": _can_be_undone(operation),
        }
    if safety := result.safety:
        told["safety_backup"] = safety.backup_id or "not known yet"
        told["safety_backup_status"] = safety.status.value
    elif details.undo_backup_id:
        told["safety_backup"] = details.undo_backup_id
    if details.safety_operation:
        told["safety_backup_operation"] = details.safety_operation
    if told.get("can_be_undone"):
        told["undo_terms"] = _undo_terms(result, details.way_back or (result.safety.backup if result.safety else None))
    if result.undo_from and undo(result):
        told["undo_not_before"] = stamp_after(result.undo_from)
    if details.takes_back and operation.status not in VAIN:
        told["takes_back"] = f"{details.takes_back}, outside the budget of restores"
    if details.budget and operation.status is Status.PLANNED:
        told["budget"] = in_words(details.budget, "restore")
    if details.statuses:
        told["server_status"] = _statuses_in_words(details.statuses, operation.since.latest)
    return told


def _undo_terms(result: Result, back: Backup | None) -> str:
    """How it can be taken back, until when, and by what that is limited; `back` is the backup for it, once it is known.

    One that is yet to be made is manual, and those do not expire by themselves.
    """
    details = result.operation.of(RestoreDetails)
    which = "restore that backup" if details.way_back or result.operation.sent else "restore the safety backup"
    end = "it does not expire by itself"
    if back and "expires_at" in back.unreadable:
        end = "when it expires cannot be read"
    elif back and back.expires_at:
        end = f"until it expires at {stamp(back.expires_at)}"
    if details.takes_back:
        return f"{which}; {end}; that counts in the budget of restores, since this one takes back another"
    if result.undo_counts:
        return f"{which}; {end}; that counts in the budget of restores, since another restore came after it"
    return f"{which}; {end}; once, outside the budget of restores"


def _statuses_in_words(statuses: Sequence[StatusSeen], sent: datetime) -> str:
    """`restoring 21:03Z, active since 21:05Z`, as VPS.org showed them; with the day where it is another."""
    times = [f"{each.at:%H:%M}Z" if each.at.date() == sent.date() else stamp(each.at) for each in statuses]
    told = [f"{each.status} {time}" for each, time in zip(statuses, times, strict=True)]
    return ", ".join([*told[:-1], f"{statuses[-1].status} since {times[-1]}"])


def made(result: Result) -> str:
    """The safety backup that was made, or asked for, for a restore; empty if none was."""
    details = result.operation.details
    if not isinstance(details, RestoreDetails) or not details.safety_operation:
        return ""
    if result.safety and result.safety.changed == "nothing":
        return ""
    backup_id = result.safety.backup_id if result.safety else details.undo_backup_id
    if backup_id:
        return f"safety backup {backup_id}"
    perhaps = "perhaps " if result.safety and result.safety.changed == "unknown" else ""
    return f"{perhaps}a safety backup, by {details.safety_operation}"


def undo(result: Result) -> str | None:
    """The call that would take it back; None when there is none."""
    operation, details = result.operation, result.operation.details
    is_open = operation.changed != "nothing" and result.is_undoable
    if not isinstance(details, RestoreDetails) or not is_open or not _can_be_undone(operation):
        return None
    return f"restore_server(server_id={operation.server_id}, backup_id={details.undo_backup_id})"


def next_step(result: Result, now: datetime) -> str:
    """What to do while it waits, or is under way."""
    operation = result.operation
    if operation.status is Status.ACCEPTED:
        until = stamp_after(operation.since.latest + CLOSED_FOR)
        return (
            "Ask the user to look at the server itself, which alone shows that it is as it was; get_operation"
            f"(operation_id={operation.id!r}) shows its status at VPS.org, which need not be asked for after {until}."
        )
    if operation.status is Status.UNKNOWN:
        return _look_at_server(operation, now)
    if operation.status is Status.PREPARING:
        return _go_on(result, now)
    return ""


def _go_on(result: Result, now: datetime) -> str:
    """How a restore that waits for its safety backup goes on, and until when that makes sense."""
    operation = result.operation
    if result.deleted_by:
        return f"The deletion of its safety backup was sent, by {result.deleted_by}: nothing is restored. {PLAN_AGAIN}"
    if result.safety and now >= ages_at(result.safety):
        return (
            f"Its safety backup was asked for over {duration(SAFETY_AGE)} ago: the restore is not sent any more. "
            f"{TOO_OLD}"
        )
    call = f"Call {operation.confirming_call} to go on"
    if result.safety is None or result.safety.status is not Status.UNKNOWN:
        ends = [operation.life.end, *([ages_at(result.safety)] if result.safety else [])]
        return f"{call}, before {stamp(min(ends))}: it waits for the safety backup, and then restores."
    until = stamp_after(seen_until(result.safety))
    return (
        "It is not known whether the safety backup was started, and nothing is restored before it is seen. "
        f"{call}, in 5 minutes and once more after {until}; if it is not seen then, tell the user, and call again "
        "without operation_id for a new plan."
    )


def _look_at_server(operation: Operation, now: datetime) -> str:
    """What can be done about a restore of which nobody knows whether it is running."""
    until = operation.since.latest + CLOSED_FOR
    closed, otherwise = "", " If it does, it was not restored; another try is restore_server without operation_id."
    if now < until:
        closed, otherwise = f"; until {stamp_after(until)} nothing else is deleted or restored on this server", ""
    return (
        "Do not repeat it: no list tells whether it took effect. Ask the user to look at the server itself, whether it "
        f"holds what was written since the backup was made.{otherwise} get_operation(operation_id={operation.id!r}) "
        f"shows the server's status{closed}."
    )


def question(operation: Operation) -> Question:
    """What a person is asked before it."""
    name, back = operation.server_name, operation.of(RestoreDetails).way_back
    which, expected = ("name", name) if can_be_typed(name) else ("id", str(operation.server_id))
    way = "It cannot be undone: no safety backup is made."
    if back:
        end = f", until that expires at {stamp(back.expires_at)}" if back.expires_at else ""
        way = f"It can be undone with backup {back.id}{end}."
    elif operation.arguments["safety_backup"]:
        way = "It can be undone with the safety backup of the server as it is, which is made first."
    text = question_text(
        fitting(f"Restore server {operation.server_id} ", name, f" to backup {operation.backup_id}?"),
        f"Lost: {_lost(operation)}.",
        way,
        backup_line(operation),
    )
    label = f"Type the server's {which} to restore it"
    return Question(text, f"server_{which}", label, expected, in_full(operation))


def _lost(operation: Operation) -> str:
    # Clocks differ by minutes: no loss is told that lies in the future.
    made_at = operation.backup.created_at if operation.backup else operation.created.latest
    return f"everything written to the server since {stamp(min(made_at, operation.created.latest))}"


def _way_back_in_words(operation: Operation) -> str:
    if recent := operation.of(RestoreDetails).way_back:
        return f"backup {recent.id} of {stamp(recent.created_at)} is recent enough"
    return "one is made first" if operation.arguments["safety_backup"] else "none is made"


def _can_be_undone(operation: Operation) -> bool:
    """Whether there is a way back or, before it is sent, will be."""
    details = operation.of(RestoreDetails)
    if operation.sent:
        return bool(details.undo_backup_id) and not details.undo_lost
    return bool(details.way_back or operation.arguments["safety_backup"])
