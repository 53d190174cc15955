"""Frozen: nothing is sent by any process on this ledger until an operator lifts that."""

import json
from datetime import datetime
from typing import NamedTuple

from mcp_backups.errors import FrozenError
from mcp_backups.ledger import Ledger
from mcp_backups.operations.context import Context, Entries
from mcp_backups.operations.operation import Operation
from mcp_backups.text import safe_text, stamp

FROZEN, THAWED = "frozen", "thawed"
"""The notes in the ledger, the last of which counts."""


class Freeze(NamedTuple):
    """That everything is frozen.

    Attributes:
        by: Who did it.
        reason: Why, in their words.
        since: UTC.
    """

    by: str
    reason: str
    since: datetime


def frozen(entries: Entries) -> Freeze | None:
    """Whether everything is frozen; None if it is not."""
    note = entries.last_note(FROZEN, THAWED)
    if note is None or note.status == THAWED:
        return None
    about = json.loads(note.document)
    return Freeze(about["by"], about["reason"], datetime.fromisoformat(note.at))


def check_not_frozen(entries: Entries) -> None:
    """Whether anything may be sent at all.

    Raises:
        FrozenError: It may not.
    """
    if freeze := frozen(entries):
        why = json.dumps(freeze.reason, ensure_ascii=False)
        raise FrozenError(f"The operator has frozen all changes since {stamp(freeze.since)}; the reason given: {why}.")


async def freeze_of(context: Context) -> FrozenError | None:
    """Why nothing is sent at present; None if it is not frozen. Raises as the ledger's `read`."""
    try:
        await context.ledger.read(check_not_frozen)
    except FrozenError as error:
        return error
    return None


async def set_frozen(ledger: Ledger[Operation], by: str, reason: str, *, freeze: bool) -> bool:
    """Freeze everything, or lift that; both are recorded. Returns whether it was otherwise before.

    Args:
        ledger: Of all the processes that are meant.
        by: Who says so.
        reason: Why.
        freeze: True to freeze, False to lift it.

    Raises:
        BusyError, LedgerUnavailableError: It could not be recorded, and nothing has changed.
    """

    def record(entries: Entries) -> bool:
        if bool(frozen(entries)) is freeze:
            return False
        entries.note(FROZEN if freeze else THAWED, {"by": safe_text(by), "reason": safe_text(reason)})
        return True

    return await ledger.write(record)
