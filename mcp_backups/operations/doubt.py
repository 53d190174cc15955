"""Which backups are counted on for nothing, because a deletion was sent for them. Pure: facts in, judgement out.

A DELETE that was not plainly refused may take effect hours later, whatever the list says meanwhile. So for 24 h its
backup is no restore point, no way back and no backup that may be left as the last one.
"""

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Literal

from mcp_backups.clock import Moment
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import EFFECTIVE, Operation

_MOST = 1000

DOUBT_LASTS = timedelta(hours=24)
"""How long after it was sent a deletion may still take effect."""

Doubt = Literal["being_deleted", "doubtful"]
"""Why a listed backup is not counted on: VPS.org accepted its deletion, or what becomes of that is not known."""


def doubts(deletes: Iterable[Operation], listed: Collection[int], now: Moment) -> dict[int, Doubt]:
    """The doubtful ones of the backups that are listed, by id.

    Args:
        deletes: The deletions that were sent, newest first.
        listed: Ids of the backups that VPS.org lists.
        now: By both clocks.
    """
    found: dict[int, Doubt] = {}
    for delete in deletes:
        if delete.backup_id in listed and (doubt := _doubt(delete, now)):
            found.setdefault(delete.backup_id, doubt)
    return found


def doubts_in(entries: Transaction, backups: Listing[Backup], now: Moment) -> dict[int, Doubt]:
    """The doubtful ones of these backups, by the ledger."""
    deletes = entries.find(action="delete_backup", statuses=EFFECTIVE, limit=_MOST)
    return doubts(deletes, backups.ids, now)


def in_doubt(delete: Operation, now: Moment) -> bool:
    """Whether a deletion of which nobody saw the end may still take effect."""
    return (delete.listed_again or delete.sent or delete.created).within(DOUBT_LASTS, now)


def _doubt(delete: Operation, now: Moment) -> Doubt | None:
    if delete.status in {"sending", "succeeded"}:  # the latter: seen to be gone, and listed all the same
        return "doubtful"
    if delete.status in {"unknown", "accepted"} and in_doubt(delete, now):
        return "being_deleted" if delete.status == "accepted" else "doubtful"
    return None
