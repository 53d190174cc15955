"""What a destructive call would do, judged and told before anything is done."""

from datetime import timedelta
from typing import NamedTuple

from mcp_backups.errors import BusyError, ConfirmationExpiredError, NotFoundError, ProtocolError
from mcp_backups.health import expires_within, is_restorable, is_younger, newest
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    UNSETTLED,
    Action,
    Arguments,
    Fact,
    Operation,
    new_id,
)
from mcp_backups.operations.policy import (
    Holdings,
    check_budget,
    check_delete,
    check_restore,
    check_server,
    check_settled,
)
from mcp_backups.text import stamp

SAFETY_AGE = timedelta(minutes=60)
"""A completed backup younger than this is a way back; with none, a safety backup is made before a restore."""

_WAY_BACK_LASTS = timedelta(hours=24)
_RESTORES_COUNTED = 1000


class Sight(NamedTuple):
    """What was there when it was looked.

    Attributes:
        target: The backup to delete or restore.
        holdings: The backups, and what else judges the call.
        way_back: The backup that would undo a restore, if there is one.
        after: The ledger's last event before it was looked.
    """

    target: Backup
    holdings: Holdings
    way_back: Backup | None
    after: int


class StaleError(Exception):
    """Something was sent for the server since it was looked: what was seen no longer judges anything."""


async def look(desk: Desk, arguments: Arguments) -> Sight:
    """Read the target of a destructive call and what stands around it.

    Raises:
        NotFoundError: VPS.org has no such backup.
        ProtocolError: The backup is not in what could be read of the list.
    """
    server_id, backup_id = int(arguments.get("server_id", 0)), int(arguments["backup_id"])
    after = await desk.ledger.read(lambda entries: entries.last_event())
    with desk.reading(before_sending=True):
        backups = await desk.api.list_backups(server_id)
        target = _find(backups, backup_id)
        if target is None and server_id:
            target = _find(elsewhere := await desk.api.list_backups(), backup_id)
            backups = elsewhere if target is None else backups
    if target is None:
        raise _absence(backups, backup_id)
    holdings = await desk.holdings(target.server_id, backups)
    return Sight(target, holdings, _way_back(holdings, target), after)


def check(desk: Desk, operation: Operation, sight: Sight) -> None:
    """Whether the operator's rules allow it, by what was seen. Raises `PolicyDeniedError` where they do not."""
    check_server(desk.settings, operation.server_id)
    if operation.action == "delete_backup":
        check_delete(desk.settings, sight.target, sight.holdings)
    else:
        check_restore(
            desk.settings,
            sight.target,
            operation.server_id,
            sight.holdings,
            safety_backup=bool(operation.arguments["safety_backup"]),
        )


def check_ledger(desk: Desk, entries: Transaction, operation: Operation) -> None:
    """Whether the operator's rules allow it, by what was done before. Raises as `check_open`, or PolicyDeniedError."""
    now, server_id = desk.moment(), operation.server_id
    check_open(desk, entries, server_id)
    check_budget(desk.settings, operation.action, server_id, counted(desk, entries, operation.action), now)


def check_open(desk: Desk, entries: Transaction, server_id: int) -> None:
    """Whether the outcome of everything that was sent for the server is known.

    Raises:
        BusyError: Something is being sent at this moment.
        PolicyDeniedError: The outcome of something is not known.
    """
    unsettled = [each for each in entries.find(server_id=server_id, statuses=UNSETTLED) if desk.concerns(each)]
    for each in unsettled:
        if each.status == "sending" and desk.is_being_sent(each):
            raise BusyError(
                f"{each.id} ({each.action}) on server {server_id} is just being carried out.",
                f"Call get_operation(operation_id={each.id!r}); once it is no longer sending, call again as before.",
            )
    check_settled(server_id, unsettled, desk.moment())


def counted(desk: Desk, entries: Transaction, action: Action) -> list[Operation]:
    """The operations that a budget may have to count, newest first."""
    most = max(desk.settings.deletes_per_hour, desk.settings.deletes_per_day, _RESTORES_COUNTED)
    return entries.find(action=action, statuses=EFFECTIVE, sent_only=True, limit=most, owner=desk.identity)


def check_fresh(entries: Transaction, operation: Operation, sight: Sight) -> None:
    """Whether what was seen still holds: else two calls, each right by itself, could together take the last backup.

    Raises:
        StaleError: It must be looked again.
    """
    if entries.last_write(operation.server_id) > sight.after:
        raise StaleError


def still_open(desk: Desk, entries: Transaction, operation: Operation) -> Operation | None:
    """The operation as it is now, None when somebody else carries it out.

    Raises:
        ConfirmationExpiredError: Its plan no longer counts.
    """
    current = entries.get(operation.id)
    if current is None or current.status not in OPEN:
        return None
    if current.is_expired(desk.moment()):
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.")
    return current


def planned(desk: Desk, action: Action, arguments: Arguments, sight: Sight) -> Operation:
    """The operation that the caller is shown."""
    facts = _delete_facts(sight) if action == "delete_backup" else _restore_facts(arguments, sight)
    return Operation(
        id=new_id(),
        action=action,
        status="planned",
        arguments=arguments,
        server_id=int(arguments.get("server_id", sight.target.server_id)),
        server_name=sight.target.server_name,
        backup_id=sight.target.id,
        backup=sight.target,
        facts=facts,
        **desk.identity._asdict(),
        created=desk.moment(),
    )


def _find(backups: Listing[Backup], backup_id: int) -> Backup | None:
    return next((backup for backup in backups.rows if backup.id == backup_id), None)


def _absence(backups: Listing[Backup], backup_id: int) -> NotFoundError | ProtocolError:
    if backups.complete:
        return NotFoundError(f"VPS.org has no backup {backup_id}.")
    return ProtocolError(
        f"Backup {backup_id} is not in what could be read of the list of backups, but the list is incomplete "
        f"({'; '.join(backups.missing)}), so it may exist.",
        "Try again in a few minutes.",
    )


def _way_back(holdings: Holdings, target: Backup) -> Backup | None:
    return newest(
        backup
        for backup in holdings.backups.rows
        if backup.server_id == target.server_id
        and backup.id != target.id
        and backup.id not in holdings.deleted_here
        and not (holdings.restored and backup.created_at <= holdings.restored.at_upstream)
        and is_restorable(backup)
        and is_younger(backup, SAFETY_AGE, holdings.now)
        and not expires_within(backup, _WAY_BACK_LASTS, holdings.now)
    )


def _delete_facts(sight: Sight) -> dict[str, Fact]:
    left = sight.holdings.good_on(sight.target.server_id, without=sight.target.id)
    facts: dict[str, Fact] = {"can_be_undone": False, "good_backups_left": len(left)}
    if latest := newest(left):
        facts |= {"newest_good_left": latest.id, "newest_good_left_created_at": stamp(latest.created_at)}
    return facts | sight.holdings.needed_by(sight.target.id)


def _restore_facts(arguments: Arguments, sight: Sight) -> dict[str, Fact]:
    lost = f"everything written to the server since {stamp(sight.target.created_at)}"
    if sight.way_back:
        way_back = f"backup {sight.way_back.id} of {stamp(sight.way_back.created_at)} is recent enough"
    elif arguments["safety_backup"]:
        way_back = "one is made first"
    else:
        way_back = "none is made"
    return {
        "lost": lost,
        "safety_backup": way_back,
        "can_be_undone": bool(sight.way_back or arguments["safety_backup"]),
    }
