"""Pruning a server's manual backups by keep rules: one plan, then one delete after another under the same guards."""

from mcp_backups.errors import BackupsError, BusyError, ConflictError, PolicyDeniedError
from mcp_backups.models import MANUAL, Listing
from mcp_backups.operations.confirm import Wish, grant
from mcp_backups.operations.consent import Person
from mcp_backups.operations.desk import Desk, Told, with_error
from mcp_backups.operations.destroy import redeem
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import (
    OPEN,
    UNSETTLED,
    ApprovedBy,
    Arguments,
    Fact,
    Operation,
    PruneItem,
    new_id,
)
from mcp_backups.operations.plan import counted, still_open
from mcp_backups.operations.policy import (
    Holdings,
    check_complete,
    check_delete,
    check_server,
    check_settled,
    deletes_left,
)
from mcp_backups.operations.settle import settle
from mcp_backups.retention import NO_RULE, Keep, rulings
from mcp_backups.settings import Settings
from mcp_backups.text import plural

_OUTCOME = {"nothing": "not deleted", "done": "deleted", "unknown": "unknown"}

_WORKING_SECONDS = 20.0
"""After this long no further delete is begun in one call, so that the answer comes within 45 s."""


async def prune(desk: Desk, server_id: int, keep: Keep, *, confirm: bool, operation_id: str, person: Person) -> Told:
    """Plan to prune a server's manual backups or, when that is consented to, delete what no rule keeps.

    Raises:
        BackupsError: Nothing was deleted, or it is not known.
    """
    arguments: Arguments = {
        "server_id": server_id,
        "keep_last": keep.last,
        "keep_daily": keep.daily,
        "keep_weekly": keep.weekly,
        "keep_monthly": keep.monthly,
    }
    return await grant(desk, Wish("prune_backups", arguments, confirm, operation_id, person), _plan, _go_on)


async def _plan(desk: Desk, wish: Wish) -> Operation:
    server_id = int(wish.arguments["server_id"])
    check_server(desk.settings, server_id)
    keep = Keep(*(int(wish.arguments[f"keep_{rule}"]) for rule in ("last", "daily", "weekly", "monthly")))
    backups = await desk.api.list_backups(server_id)
    holdings = await desk.holdings(server_id, backups)
    check_complete(server_id, holdings)

    def save(entries: Transaction) -> Operation:
        now = desk.clock.moment()
        check_settled(server_id, entries.find(server_id=server_id, statuses=UNSETTLED), now)
        room = deletes_left(desk.settings, counted(desk, entries, "delete_backup"), now)
        items = judge(desk.settings, holdings, server_id, keep, room)
        return entries.save(
            Operation(
                id=new_id(),
                action="prune_backups",
                status="planned" if any(item.fate == "delete" for item in items) else "succeeded",
                arguments=wish.arguments,
                server_id=server_id,
                server_name=next((backup.server_name for backup in backups.rows), ""),
                facts=_facts(items, room),
                items=items,
                created=now,
            )
        )

    return await desk.ledger.write(save)


def judge(settings: Settings, holdings: Holdings, server_id: int, keep: Keep, room: int) -> tuple[PruneItem, ...]:
    """What becomes of each manual backup of a server, newest first.

    Args:
        settings: The operator's rules, which keep more than the keep rules where they must.
        holdings: The backups.
        server_id: The server.
        keep: The keep rules.
        room: How many deletes the budgets allow now; the oldest go first.
    """
    manual = [row for row in holdings.backups.rows if row.server_id == server_id and row.type == MANUAL]
    items: list[PruneItem] = []
    for ruling in reversed(rulings(manual, keep, holdings.now)):
        item = PruneItem(backup=ruling.backup, reason=ruling.reason, fate="keep" if ruling.kept else "delete")
        if item.fate == "delete":
            try:
                check_delete(settings, item.backup, holdings)
            except PolicyDeniedError as rule:
                item = item.model_copy(update={"fate": "keep", "reason": rule.what})
            else:
                left = tuple(row for row in holdings.backups.rows if row.id != item.backup.id)
                holdings = Holdings(Listing(left), holdings.made_here, holdings.now)
        if item.fate == "delete" and (room := room - 1) < 0:
            item = item.model_copy(update={"fate": "later", "reason": f"{NO_RULE}; the budget of deletes is used up"})
        items.append(item)
    return tuple(reversed(items))


def _facts(items: tuple[PruneItem, ...], room: int) -> dict[str, Fact]:
    fates = [item.fate for item in items]
    facts: dict[str, Fact] = {
        "manual_backups": len(items),
        "to_keep": fates.count("keep"),
        "to_delete": fates.count("delete"),
        "can_be_undone": False,
    }
    if later := fates.count("later"):
        facts["left_for_later"] = later
        facts["budget"] = f"allows {plural(room, 'delete')} now; the rest needs another prune later"
    return facts


async def _go_on(desk: Desk, operation: Operation, approved_by: ApprovedBy) -> Told:
    """Delete one after another, until all is done, one is not, or the time of a call is up."""
    start = desk.clock.ticks()
    with desk.presence.at_work(operation.id) as owner:
        operation = await desk.ledger.write(lambda entries: _take_up(desk, entries, operation, approved_by, owner))
        for item in [item for item in reversed(operation.items) if item.fate == "delete" and not item.outcome]:
            if desk.clock.ticks() - start > _WORKING_SECONDS:
                return Told(operation)
            operation, error = await _delete_one(desk, operation, item)
            if error is not None:
                return await _stop(desk, operation, item, error)
        return Told(await desk.record(operation.but(status="succeeded", evidence="each delete was verified")))


def _take_up(desk: Desk, entries: Transaction, operation: Operation, approved_by: ApprovedBy, owner: str) -> Operation:
    current = still_open(desk, entries, operation)
    if current is None or (current.owner not in {"", owner} and desk.presence.is_at_work(current.owner, current.id)):
        raise BusyError(f"Another call is carrying out {operation.id}.")
    if current.status == "planned":
        current = entries.save(current.but(status="approved", approved_by=approved_by))
    return entries.save(current.but(status="preparing", owner=owner, sent=current.sent or desk.clock.moment()))


async def _delete_one(desk: Desk, operation: Operation, item: PruneItem) -> tuple[Operation, BackupsError | None]:
    """The prune with what became of one more backup; and why that is not deleted, if it is not."""
    begun, operation = await desk.ledger.write(lambda entries: _delete_for(desk, entries, operation, item))
    error: BackupsError | None = None
    try:
        work = redeem(desk, begun, operation.approved_by) if begun.status in OPEN else settle(desk, begun)
        ended = (await work).operation
    except BackupsError as failure:
        error = failure
        ended = await desk.ledger.read(lambda entries: entries.get(begun.id) or begun)
        if ended.status in OPEN:
            raise  # nothing was sent and nothing refused: the same call may go on
    after = await desk.record(_with_item(operation, item, operation_id=ended.id, outcome=_OUTCOME[ended.changed]))
    if ended.changed == "done":
        return after, None
    return after, error or ConflictError(ended.error or f"Backup {item.backup.id} was not deleted.", ended.advice)


def _delete_for(desk: Desk, entries: Transaction, operation: Operation, item: PruneItem) -> tuple[Operation, Operation]:
    """The operation that deletes one backup of a prune, and the prune that knows of it."""
    if item.operation_id and (begun := entries.get(item.operation_id)):
        return begun, operation
    delete = Operation(
        id=new_id(),
        action="delete_backup",
        status="planned",
        arguments={"backup_id": item.backup.id},
        server_id=operation.server_id,
        server_name=operation.server_name,
        backup_id=item.backup.id,
        backup=item.backup,
        facts={"part_of": operation.id},
        created=desk.clock.moment(),
    )
    return entries.save(delete), entries.save(_with_item(operation, item, operation_id=delete.id))


def _with_item(operation: Operation, item: PruneItem, **changes: str) -> Operation:
    items = (each.model_copy(update=changes) if each.backup.id == item.backup.id else each for each in operation.items)
    return operation.but(items=tuple(items))


async def _stop(desk: Desk, operation: Operation, item: PruneItem, error: BackupsError) -> Told:
    gone = sorted(each.backup.id for each in operation.items if each.outcome == "deleted")
    stopped = with_error(operation, error).but(
        status="unknown" if operation.changed == "unknown" else "failed",
        error=f"Stopped at backup {item.backup.id}. {error.what} Deleted before that: "
        f"{', '.join(map(str, gone)) or 'none'}.",
    )
    told = Told(await desk.record(stopped))
    if not gone:
        raise error
    return told
