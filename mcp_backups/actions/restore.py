"""restore_server: a server set back to one of its own backups, with a safety backup before it as the way back."""

from contextlib import suppress
from datetime import datetime, timedelta

from mcp_backups.actions import create
from mcp_backups.errors import (
    ApiError,
    BackupsError,
    OutcomeUnknownError,
    PolicyDeniedError,
    TargetChangedError,
)
from mcp_backups.health import expires_within, is_restorable, is_usable, is_younger, newest
from mcp_backups.models import Backup
from mcp_backups.operations import (
    CANNOT_SEE,
    LEDGER_AWAY,
    ApprovedBy,
    Arguments,
    Context,
    Entries,
    Facts,
    Inventory,
    Observation,
    Operation,
    Person,
    Question,
    Request,
    RestoreDetails,
    Result,
    Status,
    Steps,
    authorize,
    can_be_typed,
    carry_out,
    check_ledger,
    check_restore,
    check_server,
    counted,
    execute,
    may_have_acted,
    new_id,
    next_restore,
    observe,
    record_plan,
    settle,
    still_open,
    supersede,
    target_lines,
)
from mcp_backups.text import stamp

SAFETY_AGE = timedelta(minutes=60)
"""A completed backup younger than this is a way back; with none, a safety backup is made before a restore."""

_WAY_BACK_LASTS = timedelta(hours=24)
_SAFETY_DESCRIPTION = "Safety backup before a restore"
_PLAN_AGAIN = "Call again without operation_id for a new plan."


async def restore(
    context: Context,
    server_id: int,
    backup_id: int,
    *,
    safety_backup: bool,
    confirm: bool,
    operation_id: str,
    person: Person,
) -> Result:
    """Plan to restore a server or, when that is consented to, make its safety backup or restore it.

    Raises:
        BackupsError: Nothing was restored, or it is not known.
    """
    arguments: Arguments = {"server_id": server_id, "backup_id": backup_id, "safety_backup": safety_backup}
    request = Request("restore_server", arguments, confirm, operation_id, person)
    return await authorize(context, request, Steps(_plan, question, _execute))


# The plan


async def _plan(context: Context, request: Request) -> Operation:
    check_server(context.settings, int(request.arguments["server_id"]))
    seen = await observe(context, request.arguments)
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
        principal=context.principal,
        **context.identity._asdict(),
        created=context.moment(),
    )


def _check_rules(context: Context, operation: Operation, seen: Observation) -> None:
    check_server(context.settings, operation.server_id)
    makes_backup = bool(operation.arguments["safety_backup"])
    check_restore(context.settings, seen.target, operation.server_id, seen.inventory, safety_backup=makes_backup)


def way_back(inventory: Inventory, target: Backup) -> Backup | None:
    """The backup that would undo a restore of `target`: recent, lasting, of the server as it is; None if none is."""
    return newest(
        backup
        for backup in inventory.backups.rows
        if backup.server_id == target.server_id
        and backup.id != target.id
        and backup.id not in inventory.doubtful
        and not (inventory.restored and backup.created_at <= inventory.restored.at_upstream)
        and is_restorable(backup)
        and is_younger(backup, SAFETY_AGE, inventory.now)
        and not expires_within(backup, _WAY_BACK_LASTS, inventory.now)
    )


# The execution


async def _execute(context: Context, operation: Operation, approved_by: ApprovedBy) -> Result:
    return await execute(
        context, operation, approved_by, check=_check_again, prepare=_wait_for_safety, complete=_with_undo
    )


def _check_again(context: Context, operation: Operation, seen: Observation) -> None:
    """Whether the rules still allow it, and the way back that the plan showed is still one."""
    _check_rules(context, operation, seen)
    relied_on = operation.of(RestoreDetails).way_back and not operation.arguments["safety_backup"]
    if relied_on and not way_back(seen.inventory, seen.target):
        raise TargetChangedError(f"The way back that the plan {operation.id} showed is no longer recent, or gone.")


async def _wait_for_safety(
    context: Context, operation: Operation, approved_by: ApprovedBy, seen: Observation
) -> Result | None:
    """See to it that there is a way back before a restore is sent. Returns what it waits for, None if for nothing."""
    if not operation.arguments.get("safety_backup"):
        return None
    if not operation.of(RestoreDetails).safety_operation:
        if way_back(seen.inventory, seen.target):
            return None
        return await settle(context, await _start_safety(context, operation, approved_by, seen))
    # Whatever else is there by now: until it is known what became of this one, its server is closed.
    result = await settle(context, operation)
    if result.safety is None or result.safety.status is not Status.SUCCEEDED:
        return result
    return None if _is_there(context, result.safety, seen) else result


def _is_there(context: Context, safety: Operation, seen: Observation) -> bool:
    """Whether a finished safety backup is a way back; False while the list does not tell.

    Raises:
        PolicyDeniedError: It cannot.
    """
    backups, now = seen.inventory.backups, context.moment()
    is_listed = safety.backup_id in backups.ids
    may_come = safety.since.within(create.LIST_LAGS, now) or not backups.complete_for(safety.server_id)
    if safety.backup is None or not is_restorable(safety.backup) or not (is_listed or may_come):
        raise PolicyDeniedError(
            f"The safety backup {safety.backup_id} is empty or no longer there, so nothing is restored.", _PLAN_AGAIN
        )
    restored = seen.inventory.restored
    if restored and restored.ago(now) < safety.since.ago(now):
        raise PolicyDeniedError(
            f"Another restore was sent since the safety backup {safety.backup_id} was asked for, which does not hold "
            "what that made of the server.",
            _PLAN_AGAIN,
        )
    return is_listed


async def _start_safety(
    context: Context, operation: Operation, approved_by: ApprovedBy, seen: Observation
) -> Operation:
    """Have the safety backup made; returns the restore that waits for it."""
    arguments: Arguments = {"server_id": operation.server_id, "description": _SAFETY_DESCRIPTION}
    safety = create.intent(context, arguments, seen.inventory.backups).updated(is_safety=True)

    def intend(entries: Entries, owner: str) -> Operation | None:
        current = still_open(context, entries, operation)
        if current is None or current.of(RestoreDetails).safety_operation:
            return None
        check_ledger(context, entries, current)
        under_way = _under_way(context, entries, arguments, current)
        approved = entries.save(current.updated(status=Status.APPROVED, approved_by=approved_by))
        entries.save(approved.updated(status=Status.PREPARING, safety_operation=(under_way or safety).id))
        return None if under_way else entries.save(safety.updated(owner=owner))

    def current(entries: Entries) -> Operation:
        return entries.get(operation.id) or operation

    try:
        await carry_out(context, safety.id, intend)
    except OutcomeUnknownError:
        pass  # it waits, closed, until the safety backup is found
    except BackupsError as error:
        with suppress(*LEDGER_AWAY):  # what went wrong before is what is to be told
            before = await context.ledger.read(current)
            if before.of(RestoreDetails).safety_operation == safety.id:
                failed = before.with_error(Status.FAILED, error)
                await context.ledger.write(lambda entries: supersede(entries, before, failed))
        raise
    try:
        return await context.ledger.read(current)
    except LEDGER_AWAY as error:
        raise type(error)(error.what, error.next_step, changed="done") from error


def _under_way(context: Context, entries: Entries, arguments: Arguments, restore: Operation) -> Operation | None:
    """Another restore's safety backup that is just being made, and will do for this one too.

    One that is finished would have been seen; where it was not, it is gone or is what is to be restored.
    """
    found = create.find_repeat(context, entries, arguments)
    is_over = found is None or found.status is Status.SUCCEEDED or found.backup_id == restore.backup_id
    return None if is_over else found


def _with_undo(context: Context, entries: Entries, operation: Operation, seen: Observation) -> Operation:
    """The restore with the backup that would take it back, and from when on."""
    before = counted(context, entries, "restore_server")
    if recent := way_back(seen.inventory, seen.target):
        undo = recent.id
    else:
        safety = entries.get(operation.of(RestoreDetails).safety_operation)
        undo = safety.backup_id if safety else 0
    undo_from = next_restore(context.settings, operation.server_id, before, context.moment())
    return operation.updated(undo_backup_id=undo, undo_from=undo_from)


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
            "Do not repeat it; let the user look at the server, and call "
            f"get_operation(operation_id={operation.id!r}) for what is known.",
        ) from error
    return operation.updated(status=Status.ACCEPTED, evidence="VPS.org's answer")


# The outcome, told from a look


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it."""
    return operation.status in {Status.PREPARING, Status.UNKNOWN, Status.ACCEPTED}


async def look(context: Context, operation: Operation) -> Result:
    """What there is to see of it: its safety backup, its way back, and the server's status, which is no proof."""
    if operation.status is Status.PREPARING:
        return await _look_at_safety(context, operation)
    result = await _look_at_undo(context, operation)
    try:
        servers = await context.api.list_servers()
    except CANNOT_SEE as error:
        return result._replace(unseen=error.code)
    status = next((server.status for server in servers.rows if server.id == operation.server_id), "")
    return result._replace(server_status=status)


async def _look_at_undo(context: Context, operation: Operation) -> Result:
    """A restore that cannot be undone any more once the backup for it is gone or of no use, or may be just going."""
    undo = operation.of(RestoreDetails).undo_backup_id
    if not undo:
        return Result(operation)
    backups = await context.api.list_backups(operation.server_id)
    inventory = await context.inventory(operation.server_id, backups)
    kept = next((backup for backup in backups.rows if backup.id == undo), None)
    is_lost = not is_usable(kept, inventory.now) if kept else backups.complete_for(operation.server_id)
    if is_lost:
        return Result(operation.updated(undo_backup_id=0))
    return Result(operation, is_undoable=undo not in inventory.doubtful)


async def _look_at_safety(context: Context, operation: Operation) -> Result:
    recorded = await context.find(operation.of(RestoreDetails).safety_operation)
    if recorded is None:
        return Result(operation)
    result = await settle(context, recorded)
    safety = result.operation
    if safety.status is Status.FAILED:
        operation = operation.updated(
            status=Status.FAILED,
            error_code=safety.error_code,
            error=f"The safety backup failed, so nothing was restored. {safety.error}",
            advice=safety.advice,
        )
    if result.is_gone and safety.since.within(create.LIST_LAGS, context.moment()):
        safety = safety.updated(status=Status.ACCEPTED)  # the list may be behind again: nothing is lost by waiting
    return Result(operation, safety=safety, unseen=result.unseen)


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


def facts(result: Result, now: datetime) -> Facts:
    """What is lost, and the way back."""
    operation, details = result.operation, result.operation.of(RestoreDetails)
    told: Facts = {
        "lost": _lost(operation),
        "safety_backup": _way_back_in_words(operation),
        "can_be_undone": _can_be_undone(operation),
    }
    if safety := result.safety:
        told["safety_backup"] = safety.backup_id or "not known yet"
        told["safety_backup_status"] = safety.status.value
        told["safety_backup_operation"] = safety.id
    elif details.undo_backup_id:
        told["safety_backup"] = details.undo_backup_id
    elif details.safety_operation:
        told["safety_backup_operation"] = details.safety_operation
    if details.undo_from and details.undo_from > now and undo(result):
        told["undo_not_before"] = stamp(details.undo_from + timedelta(seconds=59))  # a stamp cuts to the minute
    return told


def undo(result: Result) -> str | None:
    """The call that would take it back; None when there is none."""
    operation = result.operation
    if not isinstance(operation.details, RestoreDetails) or operation.changed == "nothing" or not result.is_undoable:
        return None
    back = operation.details.undo_backup_id
    return f"restore_server(server_id={operation.server_id}, backup_id={back})" if back else None


def next_step(result: Result, _now: datetime) -> str:
    """What to do while it waits, or is under way."""
    operation = result.operation
    look = f"get_operation(operation_id={operation.id!r}"
    if operation.status is Status.ACCEPTED:
        return f"Check the server itself in some minutes; {look}) shows its status."
    if operation.status is not Status.PREPARING:
        return ""
    if result.safety and result.safety.status is Status.SUCCEEDED:
        return f"The safety backup is finished. Call {operation.confirming_call} to send the restore."
    wait = f"{look}, wait_seconds=45)"
    return f"Call {wait} until the safety backup is finished, then {operation.confirming_call}."


def question(operation: Operation) -> Question:
    """What a person is asked before it."""
    name = operation.server_name
    which, expected = ("name", name) if can_be_typed(name) else ("id", str(operation.server_id))
    lines = [
        f"Restore server {operation.server_id} to backup {operation.backup_id}?",
        *target_lines(operation),
        f"Lost: {_lost(operation)}",
        f"Safety backup of the server as it is now: {_way_back_in_words(operation)}",
        "It can be undone by restoring that backup; only what was written after it stays lost."
        if _can_be_undone(operation)
        else "It cannot be undone.",
    ]
    return Question("\n".join(lines), f"server_{which}", f"Type the server's {which} to restore it", expected)


def _lost(operation: Operation) -> str:
    # Clocks differ by minutes: no loss is told that lies in the future.
    made = operation.backup.created_at if operation.backup else operation.created.latest
    return f"everything written to the server since {stamp(min(made, operation.created.latest))}"


def _way_back_in_words(operation: Operation) -> str:
    if recent := operation.of(RestoreDetails).way_back:
        return f"backup {recent.id} of {stamp(recent.created_at)} is recent enough"
    return "one is made first" if operation.arguments["safety_backup"] else "none is made"


def _can_be_undone(operation: Operation) -> bool:
    """Whether there is a way back or, before it is sent, will be."""
    details = operation.of(RestoreDetails)
    if operation.sent:
        return bool(details.undo_backup_id)
    return bool(details.way_back or operation.arguments["safety_backup"])
