"""Intent, request, outcome: the one place where anything is sent that changes the account.

The intent is durable before the request goes out, the outcome before the answer goes back, and in between nothing
that happens to the caller can stop it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeGuard

import anyio

from mcp_backups.errors import (
    ApiError,
    BackupsError,
    BusyError,
    ConfigError,
    Failure,
    LedgerUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)
from mcp_backups.operations.desk import Desk, with_error
from mcp_backups.operations.judge import made
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.settle import CANNOT_SEE, list_with_target, look_for_created

Intend = Callable[[Transaction, str], Operation | None]
"""Record the intent to send, on behalf of the process of that id; None when there is nothing to send any more."""

DELETE_ATTEMPTS = 3
_RECORD_ATTEMPTS = 4
"""How often an outcome is tried to be recorded while another process holds the ledger: some 12 s, if there is time."""

_ATTEMPT_SECONDS = 20.0
"""What a further delete may take, and so must be left of the call."""


async def carry_out(desk: Desk, operation_id: str, intend: Intend) -> Operation | None:
    """Record the intent, send, and record the outcome; whatever becomes of the caller meanwhile.

    Returns:
        The operation with its outcome, or None when `intend` found nothing to send.

    Raises:
        BackupsError: The request failed, or its outcome is not known; that too is recorded.
    """
    outcome = None
    with anyio.CancelScope(shield=True), desk.presence.at_work(operation_id) as owner:
        operation = await desk.ledger.write(lambda entries: intend(entries, owner))
        if operation is not None:
            outcome = await _send(desk, operation)
    return outcome


async def _send(desk: Desk, operation: Operation) -> Operation:
    try:
        outcome = await _SEND[operation.action](desk, operation)
    except BackupsError as error:
        status = "unknown" if error.changed == "unknown" else "failed"
        await _conclude(desk, with_error(operation.but(status=status), error))
        raise
    except Exception as fault:
        # A fault of ours, after the request may have gone out: what is not known must be recorded as that.
        unknown = OutcomeUnknownError(
            f"Something went wrong in this server while {operation.id} ({operation.action}) was carried out.",
            f"Do not repeat it; call get_operation(operation_id={operation.id!r}) in a few minutes.",
        )
        await _conclude(desk, with_error(operation.but(status="unknown"), unknown))
        raise unknown from fault
    return await _conclude(desk, outcome)


async def _conclude(desk: Desk, outcome: Operation) -> Operation:
    try:
        for _ in range(_RECORD_ATTEMPTS - 1):
            if desk.seconds_left > 2 * desk.recording_seconds:
                with suppress(BusyError):
                    return await desk.record(outcome)
        return await desk.record(outcome)
    except BackupsError as error:
        raise LedgerUnavailableError(
            f"{outcome.id} ({outcome.action}) came to be {outcome.status!r}, but that could not be recorded.",
            changed=outcome.changed,
        ) from error


async def _send_create(desk: Desk, operation: Operation) -> Operation:
    description = str(operation.arguments.get("description", ""))
    if operation.marked:
        description = f"{description} [{operation.id}]".lstrip()
    unsure: ApiError | None = None
    try:
        backup = await desk.api.create_backup(operation.server_id, description)
        if backup.id not in operation.baseline:  # what was there before is not what was asked for
            return made(operation, backup, "VPS.org's answer", desk.moment())
    except ApiError as error:
        if not _may_have_acted(error):
            raise
        unsure = error
    found = await look_for_created(desk, operation)
    if found == operation:
        raise OutcomeUnknownError(
            f"VPS.org gave no certain answer to {operation.id} (create_backup on server {operation.server_id}), "
            "and no backup of it has been seen yet.",
            f"Do not repeat it; call get_operation(operation_id={operation.id!r}) in a few minutes.",
        ) from unsure
    return found


async def _send_delete(desk: Desk, operation: Operation) -> Operation:
    lingers = False
    for attempt in range(1, DELETE_ATTEMPTS + 1):
        try:
            await desk.api.delete_backup(operation.backup_id)
        except (ApiError, ConfigError) as error:
            if attempt > 1 and isinstance(error, NotFoundError):
                return await _gone(desk, operation)
            if not _may_have_acted(error):
                if lingers:
                    raise _delete_unknown(operation) from error
                raise
            lingers = lingers or error.lingers
            is_listed = await _is_listed(desk, operation)
            if is_listed is False:
                return operation.but(status="succeeded", evidence="absent from the complete list")
            if is_listed is None or desk.seconds_left < _ATTEMPT_SECONDS:
                raise _delete_unknown(operation) from error
        else:
            return await _verified(desk, operation)
    if lingers:
        raise _delete_unknown(operation)
    raise UnavailableError(
        f"VPS.org failed {DELETE_ATTEMPTS} times to delete backup {operation.backup_id}; it is still listed."
    )


async def _gone(desk: Desk, operation: Operation) -> Operation:
    """A delete that VPS.org first gave no sure answer to, and now says that there is no such backup."""
    if await _is_listed(desk, operation) is False:
        return operation.but(status="succeeded", evidence="VPS.org no longer has it, after an unsure answer")
    raise _delete_unknown(operation)


async def _verified(desk: Desk, operation: Operation) -> Operation:
    """A delete that VPS.org says is done, seen to be so if its list tells."""
    if await _is_listed(desk, operation) is False:
        return operation.but(status="succeeded", evidence="absent from the complete list")
    return operation.but(status="accepted", evidence="VPS.org's answer")


async def _is_listed(desk: Desk, operation: Operation) -> bool | None:
    """Whether VPS.org still lists the backup that is deleted; None when its list does not tell."""
    try:
        with desk.reading():
            backups = await list_with_target(desk, operation)
    except CANNOT_SEE:
        return None
    if any(backup.id == operation.backup_id for backup in backups.rows):
        return True
    return False if backups.complete else None


def _delete_unknown(operation: Operation) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"VPS.org gave no certain answer to {operation.id} (delete_backup of backup {operation.backup_id}), "
        "and the list does not tell for certain whether it takes effect.",
        f"Call get_operation(operation_id={operation.id!r}) in a few minutes.",
    )


async def _send_restore(desk: Desk, operation: Operation) -> Operation:
    try:
        is_page = await desk.api.restore_server(operation.server_id, operation.backup_id)
    except ApiError as error:
        if not _may_have_acted(error):
            raise
        raise OutcomeUnknownError(
            f"VPS.org gave no certain answer to {operation.id} (restore of backup {operation.backup_id} to server "
            f"{operation.server_id}): the restore may be running.",
            "Do not repeat it; let the user look at the server, and call "
            f"get_operation(operation_id={operation.id!r}) for what is known.",
        ) from error
    evidence = "VPS.org's answer" if not is_page else "unverified: a web page, though its status says yes"
    return operation.but(status="accepted", evidence=evidence)


def _may_have_acted(error: BackupsError) -> TypeGuard[ApiError]:
    """Whether VPS.org may have done what it was asked, although it did not say so."""
    return isinstance(error, ApiError) and error.failure is Failure.AMBIGUOUS


_SEND: dict[str, Callable[[Desk, Operation], Awaitable[Operation]]] = {
    "create_backup": _send_create,
    "delete_backup": _send_delete,
    "restore_server": _send_restore,
}
