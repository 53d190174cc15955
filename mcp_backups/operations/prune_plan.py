"""What a prune would delete, and what of the operator's rules and budgets stands against it."""

from dataclasses import replace

from mcp_backups.errors import NotFoundError, PolicyDeniedError
from mcp_backups.models import MANUAL
from mcp_backups.operations.confirm import Wish
from mcp_backups.operations.desk import Desk, with_error
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import Fact, Operation, PruneItem, new_id
from mcp_backups.operations.plan import check_open, counted
from mcp_backups.operations.policy import (
    GOOD,
    Holdings,
    check_budget,
    check_complete,
    check_delete,
    check_prune,
    deletes_left,
)
from mcp_backups.operations.settle import CANNOT_SEE
from mcp_backups.retention import Keep, rulings
from mcp_backups.settings import Settings
from mcp_backups.text import plural

_NEEDED = {"way_back_of": "left alone: the way back from {}", "being_restored_by": "left alone: {} puts it back"}
"""Why a prune keeps what a restore needs, whatever the keep rules say."""


async def plan_prune(keep: Keep, desk: Desk, wish: Wish) -> Operation:
    """Look what the rules would delete, and record that as a plan.

    Raises:
        BackupsError: There can be no plan now.
    """
    server_id = int(wish.arguments["server_id"])
    check_prune(desk.settings, server_id)
    with desk.reading():
        backups = await desk.api.list_backups(server_id)
        if backups.complete and not backups.rows:
            await _check_exists(desk, server_id)
    draft = Operation(
        id=new_id(),
        action="prune_backups",
        status="planned",
        arguments=wish.arguments,
        server_id=server_id,
        server_name=next((backup.server_name for backup in backups.rows), ""),
        **desk.identity._asdict(),
        created=desk.moment(),
    )
    try:
        return await desk.record(await _judged(desk, draft, await desk.holdings(server_id, backups), keep))
    except PolicyDeniedError as refusal:
        await desk.record(with_error(draft.but(status="refused"), refusal))
        raise


async def _check_exists(desk: Desk, server_id: int) -> None:
    """Whether VPS.org may have the server. Raises `NotFoundError` where its complete list of servers lacks it."""
    try:
        servers = await desk.api.list_servers()
    except CANNOT_SEE:
        return
    if servers.complete and all(server.id != server_id for server in servers.rows):
        raise NotFoundError(f"VPS.org has no server {server_id}.", "Call check_backups to see every server.")


async def _judged(desk: Desk, draft: Operation, holdings: Holdings, keep: Keep) -> Operation:
    """The plan, with what becomes of each backup; there is nothing to approve when none is to be deleted."""
    check_complete(draft.server_id, holdings)

    def before(entries: Transaction) -> list[Operation]:
        check_open(desk, entries, draft.server_id)
        return counted(desk, entries, "delete_backup")

    sent = await desk.ledger.read(before)
    room = deletes_left(desk.settings, sent, draft.created)
    items = judge(desk.settings, holdings, draft.server_id, keep, room)
    fates = {item.fate for item in items}
    if "later" in fates and not room:
        check_budget(desk.settings, "delete_backup", draft.server_id, sent, draft.created)
    return draft.but(status="planned" if "delete" in fates else "succeeded", facts=_facts(items, room), items=items)


def judge(settings: Settings, holdings: Holdings, server_id: int, keep: Keep, room: int) -> tuple[PruneItem, ...]:
    """What becomes of each manual backup of a server that is not deleted already, newest first.

    Args:
        settings: The operator's rules, which keep more than the keep rules where they must.
        holdings: The backups.
        server_id: The server.
        keep: The keep rules.
        room: How many deletes the budgets allow now; the oldest go first.
    """
    manual = [
        row
        for row in holdings.backups.rows
        if row.server_id == server_id and row.type == MANUAL and row.id not in holdings.deleted_here
    ]
    items: list[PruneItem] = []
    for ruling in reversed(rulings(manual, keep, holdings.now, holdings.earliest)):
        needed = next((_NEEDED[name].format(by) for name, by in holdings.needed_by(ruling.backup.id).items()), "")
        is_kept = bool(needed) or ruling.kept
        item = PruneItem(backup=ruling.backup, reason=needed or ruling.reason, fate="keep" if is_kept else "delete")
        if item.fate == "delete":
            try:
                check_delete(settings, item.backup, holdings)
            except PolicyDeniedError as rule:
                item = item.model_copy(update={"fate": "keep", "reason": rule.what.removesuffix(f" {GOOD}")})
            else:
                holdings = replace(holdings, deleted_here={*holdings.deleted_here, item.backup.id})
        if item.fate == "delete" and (room := room - 1) < 0:
            item = item.model_copy(update={"fate": "later", "reason": "later"})
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
        facts["budget"] = f"allowed {plural(room, 'delete')} when planned; the rest needs another prune later"
    return facts
