"""What a prune would delete, and what of the operator's rules and budgets stands against it."""

from mcp_backups.api.servers import read_servers, require_server
from mcp_backups.errors import PolicyDeniedError
from mcp_backups.models import MANUAL
from mcp_backups.operations.confirm import Wish
from mcp_backups.operations.desk import Desk, with_error
from mcp_backups.operations.ledger import Transaction
from mcp_backups.operations.operation import Fact, Operation, PruneItem, new_id
from mcp_backups.operations.plan import check_open, counted, end_of_all
from mcp_backups.operations.policy import (
    GOOD,
    Holdings,
    check_budget,
    check_complete,
    check_delete,
    check_prune,
    deletes_left,
)
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
        if not backups.rows:
            require_server(server_id, backups, await read_servers(desk.api))
    draft = Operation(
        id=new_id(),
        action="prune_backups",
        status="planned",
        arguments=wish.arguments,
        server_id=server_id,
        server_name=next((backup.server_name for backup in backups.rows), ""),
        credential=desk.api.credential,
        created=desk.moment(),
    )
    try:
        return await desk.record(await _judged(desk, draft, await desk.holdings(server_id, backups), keep))
    except PolicyDeniedError as refusal:
        await desk.record(with_error(draft.but(status="refused"), refusal))
        raise


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
    if "delete" not in fates:
        return draft.but(status="succeeded", facts=_facts(items, room), items=items)
    left = holdings.proven_on(draft.server_id, {item.backup.id for item in items if item.fate == "delete"})
    return draft.but(facts=_facts(items, room) | end_of_all(left), items=items)


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
    going: set[int] = set()
    for ruling in reversed(rulings(manual, keep, holdings.now, holdings.doubtful)):
        needed = next((_NEEDED[name].format(by) for name, by in holdings.needed_by(ruling.backup.id).items()), "")
        is_kept = bool(needed) or ruling.kept
        item = PruneItem(backup=ruling.backup, reason=needed or ruling.reason, fate="keep" if is_kept else "delete")
        if item.fate == "delete":
            try:
                check_delete(settings, item.backup, holdings, going)
            except PolicyDeniedError as rule:
                item = item.model_copy(update={"fate": "keep", "reason": rule.what.removesuffix(f" {GOOD}")})
            else:
                going.add(item.backup.id)
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
