"""What is there before a destructive call, and whether the ledger lets it go on."""

from itertools import islice
from typing import Any, NamedTuple

from mcp_backups.clock import Moment
from mcp_backups.errors import (
    BusyError,
    ConfirmationExpiredError,
    NotFoundError,
    ProtocolError,
    ResponseTooLargeError,
)
from mcp_backups.models import Backup, Gap, Listing
from mcp_backups.operations.budget import DAY, budget_after, charged, check_budget, taken_back
from mcp_backups.operations.context import Context, Entries, recent
from mcp_backups.operations.freeze import check_not_frozen
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    UNSETTLED,
    ActionName,
    ApprovedBy,
    Arguments,
    CreateDetails,
    Operation,
    Status,
)
from mcp_backups.operations.policy import Inventory, check_settled
from mcp_backups.operations.reconciliation import settle

_RESTORES_COUNTED = 1000


class Observation(NamedTuple):
    """What was seen before judging.

    Attributes:
        target: The backup to delete or restore.
        inventory: The backups, and what else judges the call.
        after: The ledger's last event before it was looked.
    """

    target: Backup
    inventory: Inventory
    after: int


class StaleError(Exception):
    """Something was sent for the server since it was looked: what was seen no longer judges anything."""


async def observe(context: Context, arguments: Arguments) -> Observation:
    """Read the target of a destructive call and what stands around it.

    Raises:
        NotFoundError: VPS.org has no such backup.
        ProtocolError: The backup is not in what could be read of the list.
    """
    server_id, backup_id = int(arguments.get("server_id", 0)), int(arguments["backup_id"])
    after = await context.ledger.read(lambda entries: entries.last_event())
    with context.reading(before_sending=True):
        backups, target = await _search(context, server_id, backup_id)
    if target is None:
        raise _absence(backups, backup_id, server_id)
    inventory = await context.inventory(target.server_id, backups)
    for delete in inventory.contradicted:
        await settle(context, delete)
    return Observation(target, inventory, after)


async def _search(context: Context, server_id: int, backup_id: int) -> tuple[Listing[Backup], Backup | None]:
    """The backup, and a list in which its server is whole; of a large account only a server's own list may be that."""
    api = context.api
    own = await api.list_backups(server_id) if server_id else Listing[Backup](())
    if target := _find(own, backup_id):
        return own, target
    try:
        every = await api.list_backups()
    except ResponseTooLargeError:
        every = Listing[Backup]((), (Gap("the list of all backups is larger than is read"),), to_its_end=False)
    target = _find(every, backup_id)
    if target and (not target.server_id or every.complete_for(target.server_id)):
        return every, target
    if target:
        whole = await api.list_backups(target.server_id)
        found = _find(whole, backup_id)
        return (whole, found) if found else (every, target)  # it was listed a moment ago: that is no absence
    if server_id:
        return own if own.complete_for(server_id) else every, None
    return (every, None) if every.to_its_end else await _search_each(context, backup_id)


async def _search_each(context: Context, backup_id: int) -> tuple[Listing[Backup], Backup | None]:
    """The same where the list of all cannot be read to its end: each server's own, one after the other."""
    servers = await context.api.list_servers()
    gaps = list(servers.gaps)
    for server in servers.rows:
        own = await context.api.list_backups(server.id)
        if target := _find(own, backup_id):
            return own, target
        gaps += own.gaps
    return Listing[Backup]((), tuple(gaps)), None


def _find(backups: Listing[Backup], backup_id: int) -> Backup | None:
    return next((backup for backup in backups.rows if backup.id == backup_id), None)


def _absence(backups: Listing[Backup], backup_id: int, server_id: int) -> NotFoundError | ProtocolError:
    if server_id and backups.complete_for(server_id):
        return NotFoundError(f"Server {server_id} has no backup {backup_id}.")
    if backups.complete:
        return NotFoundError(f"VPS.org has no backup {backup_id}.")
    missing = backups.missing_for(server_id)
    return ProtocolError(
        f"Backup {backup_id} is not in what could be read of the list of backups, but the list is incomplete "
        f"({'; '.join(missing)}), so it may exist.",
        "Try once more in a few minutes; if it says the same then, tell the user.",
    )


def check_ledger(context: Context, entries: Entries, operation: Operation) -> None:
    """Whether the operator's rules allow it, by what was done before. Raises as `check_open`, or PolicyDeniedError."""
    check_open(context, entries, operation.server_id)
    if not is_taking_back(context, entries, operation):
        check_room(context, entries, operation.action, operation.server_id)


def check_room(context: Context, entries: Entries, action: ActionName, server_id: int) -> None:
    """Whether the budgets allow one more now. Raises `BudgetExhaustedError`."""
    check_budget(context.settings, action, counted(context, entries, action, server_id), context.moment())


def limits(context: Context, entries: Entries, plan: Operation) -> dict[str, Any]:
    """What limits a plan, as fields of its details: the budget after it, or what puts it outside of that."""
    if before := is_taking_back(context, entries, plan):
        return {"takes_back": before.id}
    sent = counted(context, entries, plan.action, plan.server_id)
    return {"budget": budget_after(context.settings, plan.action, 1, sent, plan.created)}


def check_open(context: Context, entries: Entries, server_id: int) -> None:
    """Whether anything may be sent, and the outcome of everything that was sent for the server is known.

    Raises:
        FrozenError: All changes are frozen.
        BusyError: Something is being sent at this moment.
        PolicyDeniedError: The outcome of something is not known.
    """
    check_not_frozen(entries)
    unsettled = [each for each in entries.under_way(UNSETTLED, server_id=server_id) if context.concerns(each)]
    for each in unsettled:
        if each.status is Status.SENDING and context.is_being_sent(each):
            raise BusyError(
                f"{each.id} ({each.action}) on server {server_id} is just being carried out.",
                f"Call get_operation(operation_id={each.id!r}); once it is no longer sending, call again as before.",
            )
    check_settled(server_id, unsettled, context.moment())


def counted(context: Context, entries: Entries, action: ActionName, server_id: int) -> list[Moment]:
    """When those were sent that a budget counts, newest first; restores on one server alone."""
    if action == "restore_server":
        found = charged(restores_of(context, entries, server_id))
    else:
        found = list(recent(entries.sent(action, statuses=EFFECTIVE), DAY, context.moment()))
    return [
        each.sent
        for each in found
        if each.sent
        and context.can_see(each)
        and not (isinstance(each.details, CreateDetails) and each.details.is_safety)
    ]


def restores_of(context: Context, entries: Entries, server_id: int) -> list[Operation]:
    """The last restores of a server that took effect, or may have, whoever asked for them; newest first."""
    sent = entries.sent("restore_server", server_id=server_id, statuses=EFFECTIVE)
    return list(islice((each for each in sent if context.concerns(each)), _RESTORES_COUNTED))


def is_taking_back(context: Context, entries: Entries, operation: Operation) -> Operation | None:
    """The restore that an operation takes back, outside the budget; None where it does not."""
    if operation.action != "restore_server":
        return None
    return taken_back(operation.backup_id, restores_of(context, entries, operation.server_id))


def check_fresh(entries: Entries, operation: Operation, seen: Observation) -> None:
    """Whether what was seen still holds: else two calls, each right by itself, could together take the last backup.

    Raises:
        StaleError: It must be looked again.
    """
    if entries.has_written(operation.server_id, seen.after):
        raise StaleError


def still_open(context: Context, entries: Entries, operation: Operation) -> Operation | None:
    """The operation as it is now, None when somebody else carries it out.

    Raises:
        ConfirmationExpiredError: Its plan no longer counts.
    """
    current = entries.get(operation.id)
    if current is None or current.status not in OPEN:
        return None
    if current.is_expired(context.moment()):
        raise ConfirmationExpiredError(f"The plan {operation.id} is no longer valid.")
    return current


def with_consent(entries: Entries, current: Operation, approved_by: ApprovedBy) -> Operation:
    """Record who consented; of an approver that is recorded by then."""
    if current.status is Status.APPROVED:
        return current
    return entries.save(current.updated(status=Status.APPROVED, approved_by=approved_by))
