"""What was left open when a process ended: settled by looking at the next start, or by the operator's word."""

import logging
from typing import Literal

from mcp_backups.errors import (
    BackupsError,
    BusyError,
    ConfirmationInvalidError,
    InvalidArgumentError,
)
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.ledger import Ledger, Transaction
from mcp_backups.operations.operation import UNSETTLED, Operation
from mcp_backups.operations.presence import Presence
from mcp_backups.operations.settle import settle

Verdict = Literal["succeeded", "failed"]
"""What an operator can say of an operation: it took effect, or it did not."""

_log = logging.getLogger(__name__)


async def settle_left_open(desk: Desk) -> None:
    """Look what became of every operation whose process ended before it knew; each is named in the log.

    What cannot be settled now stays open, and with it its server closed; nothing is raised, and no ledger is made.
    """
    try:
        if not desk.ledger.is_begun():
            return
        left = await desk.ledger.read(lambda entries: entries.find(statuses=UNSETTLED))
        for operation in reversed(left):
            if operation.status == "unknown" or not desk.is_being_sent(operation):
                told = await settle(desk, operation)
                _tell(told.operation, told.unseen)
    except (BackupsError, OSError) as error:
        _log.warning("What was left open could not be looked into: %s", getattr(error, "code", "ledger_unavailable"))
    except Exception:  # noqa: BLE001 - whatever it is: a look at what is over must not keep the server from starting
        _log.exception("What was left open could not be looked into")


async def settle_by_word(ledger: Ledger, presence: Presence, operation_id: str, verdict: Verdict) -> Operation:
    """Record what the operator found out about an operation whose outcome is not known.

    Raises:
        ConfirmationInvalidError: There is no such operation.
        InvalidArgumentError: Its outcome is known, or is not for the operator to say.
        BusyError: A process is still at work on it.
        LedgerUnavailableError: It cannot be recorded.
    """
    none = ConfirmationInvalidError("There is no operation of that id.", "`mcp-backups operations` lists them.")

    def record(entries: Transaction) -> Operation:
        operation = entries.get(operation_id)
        if operation is None:
            raise none
        if operation.status not in UNSETTLED:
            raise InvalidArgumentError(
                f"{operation.id} is {operation.status}: that is known.", "Nothing is to be done."
            )
        if operation.status == "sending" and presence.is_at_work(operation.owner, operation.id):
            raise BusyError(f"A process is still at work on {operation.id}.", "Wait until it has ended.")
        if operation.action == "create_backup" and verdict == "succeeded":
            raise InvalidArgumentError(
                f"{operation.id} makes a backup, and one that was made is found by looking.",
                "Let get_operation look for it; what cannot be found is settled as failed.",
            )
        return entries.save(_settled(operation, verdict))

    if not ledger.is_begun():
        raise none
    return await ledger.write(record)


def _settled(operation: Operation, verdict: Verdict) -> Operation:
    known = operation.but(status=verdict, evidence="settled by the operator", error_code="", error="", advice="")
    if verdict == "succeeded":
        return known
    return known.but(error_code="upstream_unavailable", error="The operator found that it did not take effect.")


def _tell(operation: Operation, unseen: str) -> None:
    _log.warning(
        "%s (%s on server %d) was left open; it is now %s%s%s",
        operation.id,
        operation.action,
        operation.server_id,
        operation.status,
        f": {operation.evidence}" if operation.evidence else "",
        f"; VPS.org could not be asked ({unseen})" if unseen else "",
    )
