"""The operator's rules, for every tool and whatever the consent, and the inventory that they judge by.

Pure: each check passes, or raises the refusal.

A refusal tells which rule it was in the user's words; how a rule could be lifted is between the operator and the
settings, so no message names a setting, a flag or an argument.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from mcp_backups.clock import Moment
from mcp_backups.errors import PolicyDeniedError, ReadOnlyError
from mcp_backups.health import expires_within, is_in_future, is_proven, is_restorable
from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, MANUAL, Backup, Listing
from mcp_backups.operations.operation import (
    EFFECTIVE,
    UNSETTLED,
    CreateDetails,
    DeleteDetails,
    Operation,
    PruneItem,
    Status,
    is_later,
)
from mcp_backups.retention import Keep, rulings
from mcp_backups.settings import Settings
from mcp_backups.text import plural, stamp_after

CLOSED_FOR = timedelta(minutes=30)
"""How long an unknown outcome closes its server to destructive operations, unless it is settled before."""

DOUBT_LASTS = timedelta(hours=24)
"""How long after it was sent a deletion may still take effect, whatever the list says meanwhile."""

Doubt = Literal["being_deleted", "doubtful"]
"""Why a listed backup counts for nothing: VPS.org accepted its deletion, or what becomes of that is not known."""

_RESTORE_EXPIRY = timedelta(hours=1)
"""A backup that expires within this time may be gone before the restore has read it."""

GOOD = (
    "completed, size known and above 0, not expiring within 24 h, not dated in the future, and not doubtful "
    "(no deletion was sent for it)"
)
"""What a good backup is, in the words of every answer."""

PROVEN = (
    "Proven means good (completed, not empty, not expiring within 24 h), "
    "and not made through mcp-backups within the last 24 h."
)
"""What every refusal for want of proven backups ends with."""

_RULES = (
    "approval",
    "read_only",
    "servers",
    "protected_servers",
    "protected_backups",
    "keep_min",
    "deletes_per_hour",
    "deletes_per_day",
    "restores_per_hour",
    "creates_per_hour",
    "require_safety_backup",
)
"""The settings that are rules: a plan counts only as long as they are as they were when somebody was shown it.

Who may approve is judged when somebody does, by the settings of the process in which they do.
"""

_CHOOSE = "Call list_backups with the server's id, and choose a completed backup of that server."


@dataclass(frozen=True)
class Inventory:
    """What a destructive operation is judged by.

    Attributes:
        backups: The backups as they were just read.
        made_here: Ids of those made through this server within the last 24 h.
        now: UTC, by our clock or VPS.org's, whichever is ahead.
        earliest: The same by whichever is behind, where that is another.
        doubtful: Those whose deletion was sent and may still take effect: listed, but counted on for nothing.
        ways_back: The restore that each of these backups would take back, if that waits or was within the last 24 h.
        sources: The restore that puts each of these backups back, if that waits or was sent within the last hour.
        restored: When the last restore of the server was sent; what is older does not hold what that made of it.
        contradicted: Deletes whose backup was seen to be gone, and is listed all the same.
    """

    backups: Listing[Backup]
    made_here: Container[int]
    now: datetime
    doubtful: Mapping[int, Doubt] = field(default_factory=dict)
    ways_back: Mapping[int, str] = field(default_factory=dict)
    sources: Mapping[int, str] = field(default_factory=dict)
    restored: Moment | None = None
    earliest: datetime | None = None
    contradicted: Sequence[Operation] = ()

    def proven_on(self, server_id: int, without: Container[int] = ()) -> list[Backup]:
        """The proven backups of a server, but for some."""
        return [
            backup
            for backup in self.backups.rows
            if backup.server_id == server_id
            and backup.id not in without
            and is_proven(backup, self.now, self.doubtful, self.made_here)
        ]


def doubts(deletes: Iterable[Operation], listed: Sequence[Backup], now: Moment) -> dict[int, Doubt]:
    """The doubtful ones of the backups that are listed, by id.

    A DELETE that was not plainly refused may take effect hours later. Until its backup is seen to be gone, or a day has
    passed, it is no restore point, no way back and no backup that may be left as the last one.

    Args:
        deletes: The deletions that were sent, newest first.
        listed: The backups that VPS.org lists.
        now: By both clocks.
    """
    found: dict[int, Doubt] = {}
    for delete in deletes:
        backup = next((each for each in listed if each.id == delete.backup_id), None)
        if backup and (doubt := _doubt(delete, backup, now)):
            found.setdefault(backup.id, doubt)
    return found


def _doubt(delete: Operation, backup: Backup, now: Moment) -> Doubt | None:
    if delete.status is Status.SUCCEEDED and is_later(backup, delete):
        return None
    if delete.status is Status.SENDING or is_contradicted(delete, backup):
        return "doubtful"
    if delete.status in EFFECTIVE and in_doubt(delete, now):
        return "being_deleted" if delete.status is Status.ACCEPTED else "doubtful"
    return None


def is_contradicted(delete: Operation, backup: Backup) -> bool:
    """Whether a backup that is listed was seen to be gone from its server."""
    is_it = (backup.id, backup.server_id) == (delete.backup_id, delete.server_id)
    return delete.status is Status.SUCCEEDED and is_it and not is_later(backup, delete)


def in_doubt(delete: Operation, now: Moment) -> bool:
    """Whether a deletion of which nobody saw the end may still take effect."""
    return _doubt_began(delete).within(DOUBT_LASTS, now)


def doubt_ends(delete: Operation) -> datetime:
    """When it is known at the latest whether a deletion took effect, by the clock that was ahead."""
    return _doubt_began(delete).latest + DOUBT_LASTS


def _doubt_began(delete: Operation) -> Moment:
    return delete.of(DeleteDetails).listed_again or delete.since


def may_have_made(create: Operation, backup: Backup) -> bool:
    """Whether a backup is, or may be, what an operation asked for, whatever is known of that by now.

    One without any mark may be so too: nothing promises that VPS.org keeps descriptions whole.
    """
    if backup.id == create.backup_id or backup.mark == create.id:
        return True
    details = create.of(CreateDetails)
    is_new = backup.type == MANUAL and backup.id not in details.baseline
    return is_new and create.status in UNSETTLED and not (details.marked and backup.mark)


def policy_digest(settings: Settings) -> str:
    """The rules in force, as 16 hexadecimal digits; the same for the same rules, whatever else is set."""
    told = {name: getattr(settings, name) for name in _RULES}
    rules = {name: sorted(value) if isinstance(value, frozenset) else value for name, value in told.items()}
    return hashlib.sha256(json.dumps(rules).encode()).hexdigest()[:16]


def check_write(settings: Settings) -> None:
    """Whether anything may be changed at all."""
    if settings.read_only:
        raise ReadOnlyError("mcp-backups is set to read only: no backup is made, deleted or restored through it.")


def check_server(settings: Settings, server_id: int) -> None:
    """Whether this server may be changed, if only by making a backup."""
    if settings.servers and server_id not in settings.servers:
        raise PolicyDeniedError(f"Server {server_id} is not among those that may be changed here.")


def is_protected(settings: Settings, server_id: int) -> bool:
    """Whether a rule forbids to delete or restore anything of this server."""
    return server_id in settings.protected_servers or bool(settings.servers and server_id not in settings.servers)


def check_prune(settings: Settings, server_id: int) -> None:
    """Whether any backup of this server may be deleted at all, before it is asked which there are."""
    check_server(settings, server_id)
    _check_unprotected(settings, server_id)


def check_delete(settings: Settings, target: Backup, inventory: Inventory, also: Container[int] = ()) -> None:
    """Whether this backup may be deleted, all else being well; `also` are those that are to go before it."""
    if not target.server_id:
        raise PolicyDeniedError(
            f"Backup {target.id} belongs to no server any more: nobody can tell here whether it is the last of one."
        )
    _check_unprotected(settings, target.server_id)
    if target.id in settings.protected_backups:
        raise PolicyDeniedError(f"Backup {target.id} is protected.")
    if "description" in target.unreadable:
        raise PolicyDeniedError(f"The description of backup {target.id} cannot be read; it may be marked to be kept.")
    if target.keep:
        raise PolicyDeniedError(f"Backup {target.id} is marked to be kept.")
    check_complete(target.server_id, inventory)
    left = sum(backup.id not in also for backup in inventory.proven_on(target.server_id, without={target.id}))
    if left < settings.keep_min:
        raise PolicyDeniedError(
            f"Deleting backup {target.id} would leave server {target.server_id} with {plural(left, 'proven backup')}; "
            f"at least {settings.keep_min} must stay. {PROVEN}"
        )


def judge_all(settings: Settings, inventory: Inventory, server_id: int, keep: Keep) -> tuple[PruneItem, ...]:
    """What becomes of each manual backup of a server, newest first, as far as the budgets allow it.

    Args:
        settings: The operator's rules, which keep more than the keep rules where they must.
        inventory: The backups.
        server_id: The server.
        keep: The keep rules.
    """
    manual = [row for row in inventory.backups.rows if row.server_id == server_id and row.type == MANUAL]
    items: list[PruneItem] = []
    going: set[int] = set()
    ruled = rulings(manual, keep, inventory.now, inventory.doubtful, earliest=inventory.earliest)
    for backup, rules, left_alone in reversed(ruled):
        if left_alone:
            items.append(PruneItem(backup=backup, reason=left_alone, fate="leave"))
        elif kept_by := ", ".join([*_needed(inventory, backup), *rules]) or _kept_by(
            settings, inventory, backup, going
        ):
            items.append(PruneItem(backup=backup, reason=kept_by, fate="keep"))
        else:
            items.append(PruneItem(backup=backup, reason="", fate="delete"))
            going.add(backup.id)
    return tuple(reversed(items))


def _needed(inventory: Inventory, backup: Backup) -> Iterator[str]:
    """Which restore needs a backup, whatever the keep rules say; nothing if none does."""
    if restore := inventory.ways_back.get(backup.id):
        yield f"the way back from {restore}"
    elif restore := inventory.sources.get(backup.id):
        yield f"{restore} puts it back"


def _kept_by(settings: Settings, inventory: Inventory, backup: Backup, going: Container[int]) -> str:
    """Which rule of the operator's keeps a backup that nothing else keeps; empty if it goes."""
    try:
        check_delete(settings, backup, inventory, going)
    except PolicyDeniedError as rule:
        return rule.what.removesuffix(f" {PROVEN}")
    return ""


def check_complete(server_id: int, inventory: Inventory) -> None:
    """Whether the list is whole: else it proves neither that a backup is absent nor that another is left."""
    if missing := inventory.backups.missing_for(server_id):
        raise PolicyDeniedError(
            f"The list of backups is incomplete ({'; '.join(missing)}), so it cannot be shown "
            f"that server {server_id} would keep enough proven backups.",
            "Try again in a few minutes; if it stays so, tell the user.",
        )


def check_restore(
    settings: Settings, target: Backup, server_id: int, inventory: Inventory, *, safety_backup: bool
) -> None:
    """Whether this backup may be restored to this server."""
    _check_unprotected(settings, server_id)
    if target.server_id != server_id:
        whose = f"of server {target.server_id}" if target.server_id else "of no server any more"
        raise PolicyDeniedError(f"Backup {target.id} is {whose}, not of server {server_id}.", _CHOOSE)
    if target.status != COMPLETED:
        # Any other word may be somebody's for completed.
        known = "" if target.status in {FAILED, IN_PROGRESS} else " as far as is known"
        raise PolicyDeniedError(
            f"Backup {target.id} is not completed{known}, so there is nothing sure to restore.", _CHOOSE
        )
    if not is_restorable(target):
        raise PolicyDeniedError(f"Backup {target.id} is empty or of unknown size.", _CHOOSE)
    if target.id in inventory.doubtful:
        raise PolicyDeniedError(f"The deletion of backup {target.id} was sent, and may still take effect.", _CHOOSE)
    if is_in_future(target, inventory.now):
        raise PolicyDeniedError(
            f"Backup {target.id} is dated in the future, so nobody knows what would be lost since it was made.", _CHOOSE
        )
    if expires_within(target, timedelta(0), inventory.now):
        raise PolicyDeniedError(f"Backup {target.id} has expired.", _CHOOSE)
    if expires_within(target, _RESTORE_EXPIRY, inventory.now):
        raise PolicyDeniedError(f"Backup {target.id} expires within an hour, perhaps before it is restored.", _CHOOSE)
    if settings.require_safety_backup and not safety_backup:
        raise PolicyDeniedError(
            "Here a restore needs a safety backup of the server as it is.", "Call again with safety_backup=true."
        )


def check_settled(server_id: int, unsettled: Sequence[Operation], now: Moment) -> None:
    """Whether the outcome of every earlier operation on the server is known, or long enough ago."""
    for operation in unsettled:
        if operation.since.within(CLOSED_FOR, now):
            until = stamp_after(now.latest + operation.since.left(CLOSED_FOR, now))
            raise PolicyDeniedError(
                f"The outcome of {operation.id} ({operation.action}) on server {server_id} is not known yet, and until "
                f"it is, at the latest until {until}, nothing is deleted or restored there.",
                f"Call get_operation(operation_id={operation.id!r}); after {until} call again as before.",
            )


def _check_unprotected(settings: Settings, server_id: int) -> None:
    if server_id in settings.protected_servers:
        raise PolicyDeniedError(f"Server {server_id} is protected: none of its backups is deleted or restored.")
