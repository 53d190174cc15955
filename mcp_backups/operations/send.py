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
    OutcomeUnknownError,
)
from mcp_backups.operations.desk import Desk, with_error
from mcp_backups.operations.doubt import DOUBT_LASTS
from mcp_backups.operations.judge import SEEN_GONE, made
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.settle import CANNOT_SEE, look_for_created
from mcp_backups.text import duration

Intend = Callable[[Transaction, str], Operation | None]
"""Record the intent to send, on behalf of the process of that id; None when there is nothing to send any more."""

DELETE_ATTEMPTS = 3
_RECORD_ATTEMPTS = 4
"""How often an outcome is tried to be recorded while another process holds the ledger: about 12 s."""

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
            started = made(operation, backup, "VPS.org's answer", desk.moment())
            # Only what the list shows is finished: it may be behind, and nothing can be restored from it until then.
            return started.but(status="accepted") if started.status == "succeeded" else started
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
    """Delete a backup, in up to three attempts as long as it is seen to be still listed.

    An attempt that was not plainly refused may take effect hours later. After such a one no later refusal, and no list
    that still shows the backup, says that nothing happens: only its absence ends the doubt.
    """
    unsure: ApiError | None = None
    for _ in range(DELETE_ATTEMPTS):
        try:
            await desk.api.delete_backup(operation.backup_id)
        except (ApiError, ConfigError) as error:
            if not _may_have_acted(error):
                if unsure is None:
                    raise
                break
            unsure = error
        else:
            return await _verified(desk, operation)
        is_listed = await _is_listed(desk, operation)
        if is_listed is False:
            return operation.but(status="succeeded", evidence=SEEN_GONE)
        if is_listed is None or unsure.answered_yes or desk.seconds_left < _ATTEMPT_SECONDS:
            raise _delete_unknown(operation, is_listed) from unsure
    is_listed = await _is_listed(desk, operation)
    if is_listed is False:
        return operation.but(status="succeeded", evidence=SEEN_GONE)
    raise _delete_unknown(operation, is_listed) from unsure


async def _verified(desk: Desk, operation: Operation) -> Operation:
    """A delete that VPS.org says is done, seen to be so if its list tells."""
    if await _is_listed(desk, operation) is False:
        return operation.but(status="succeeded", evidence=SEEN_GONE)
    return operation.but(status="accepted", evidence="VPS.org said yes, and the backup has not been seen to be gone")


async def _is_listed(desk: Desk, operation: Operation) -> bool | None:
    """Whether VPS.org still lists the backup that is deleted; None when its list does not tell."""
    try:
        with desk.reading():
            backups = await desk.api.list_backups(operation.server_id)
    except CANNOT_SEE:
        return None
    if operation.backup_id in backups.ids:
        return True
    return False if backups.complete_for(operation.server_id) else None


def _delete_unknown(operation: Operation, is_listed: bool | None) -> OutcomeUnknownError:
    seen = "It is still listed so far" if is_listed else "The list could not tell whether it is gone"
    return OutcomeUnknownError(
        f"VPS.org gave no certain answer to {operation.id} (delete_backup of backup {operation.backup_id}). "
        f"{seen}; it may still be deleted, for up to {duration(DOUBT_LASTS)}.",
        f"Do not count on backup {operation.backup_id}, and do not repeat the delete. Call "
        f"get_operation(operation_id={operation.id!r}) in 30 minutes, and again after {duration(DOUBT_LASTS)}: by then "
        "it is gone or it stays, as VPS.org's own list of backups shows too.",
    )


async def _send_restore(desk: Desk, operation: Operation) -> Operation:
    try:
        await desk.api.restore_server(operation.server_id, operation.backup_id)
    except ApiError as error:
        if not _may_have_acted(error):
            raise
        raise OutcomeUnknownError(
            f"VPS.org gave no certain answer to {operation.id} (restore of backup {operation.backup_id} to server "
            f"{operation.server_id}): the restore may be running.",
            "Do not repeat it; let the user look at the server, and call "
            f"get_operation(operation_id={operation.id!r}) for what is known.",
        ) from error
    return operation.but(status="accepted", evidence="VPS.org's answer")


def _may_have_acted(error: BackupsError) -> TypeGuard[ApiError]:
    """Whether VPS.org may have done what it was asked, although it did not say so."""
    return isinstance(error, ApiError) and error.failure is Failure.AMBIGUOUS


_SEND: dict[str, Callable[[Desk, Operation], Awaitable[Operation]]] = {
    "create_backup": _send_create,
    "delete_backup": _send_delete,
    "restore_server": _send_restore,
}
