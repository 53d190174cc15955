"""prune_backups: a server's manual backups by keep rules and age; planned once, then deleted one after another."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from mcp_backups.actions import delete
from mcp_backups.actions.deletes import Outcome, execute_prune, keep_of, look_at_deletes, outcome, stubborn
from mcp_backups.api.servers import read_servers, require_server, server_name
from mcp_backups.clock import Moment
from mcp_backups.errors import (
    PolicyDeniedError,
)
from mcp_backups.models import Listing, Server
from mcp_backups.operations import (
    CLOSED_FOR,
    MOST_IN_LINE,
    Arguments,
    Context,
    DeleteDetails,
    Entries,
    Facts,
    Inventory,
    Operation,
    Person,
    PruneDetails,
    PruneItem,
    Question,
    ReportProgress,
    Request,
    Result,
    Status,
    Steps,
    authorize,
    budget_after,
    check_budget,
    check_complete,
    check_open,
    check_prune,
    counted,
    doubt_ends,
    fitting,
    in_full,
    in_words,
    judge_all,
    new_id,
    question_text,
)
from mcp_backups.retention import Keep
from mcp_backups.text import listed, plural, size, stamp, stamp_after

_ANOTHER = "Call prune_backups again without operation_id"

_NAMED = 10
"""Backups of a kind that a sentence names; the operation shows them all."""

CanShow = Callable[[Context, Operation], bool]
"""Whether an answer has room for all that a plan deletes."""


async def prune(
    context: Context,
    server_id: int,
    keep: Keep,
    *,
    can_show: CanShow,
    confirm: bool,
    operation_id: str,
    person: Person,
    report: ReportProgress,
) -> Result:
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
        "older_than_days": keep.older_than_days,
    }
    request = Request("prune_backups", arguments, confirm, operation_id, person)
    return await authorize(context, request, Steps(partial(_plan, can_show), partial(execute_prune, report)))


# The plan


async def _plan(can_show: CanShow, context: Context, request: Request) -> Operation:
    server_id = int(request.arguments["server_id"])
    check_prune(context.settings, server_id)
    with context.reading():
        backups = await context.api.list_backups(server_id)
        has_backups = any(backup.server_id == server_id for backup in backups.rows)
        servers = Listing[Server](()) if has_backups else await read_servers(context.api)
    if not has_backups:
        require_server(server_id, backups, servers)
    draft = Operation(
        id=new_id(),
        action="prune_backups",
        status=Status.PLANNED,
        arguments=request.arguments,
        server_id=server_id,
        server_name=server_name(server_id, backups, servers),
        details=PruneDetails(),
        **context.origin(),
    )
    try:
        inventory = await context.inventory(server_id, backups)
        return await context.record(await _judged(context, draft, inventory, can_show))
    except PolicyDeniedError as refusal:
        await context.record(draft.with_error(Status.REFUSED, refusal))
        raise


async def _judged(context: Context, draft: Operation, inventory: Inventory, can_show: CanShow) -> Operation:
    """The plan, with what becomes of each backup; there is nothing to approve when none is to be deleted.

    The oldest go first, but for those that VPS.org did not delete lately: as many as the budget allows, and as an
    answer can show.
    """
    check_complete(draft.server_id, inventory)

    settings = context.settings
    items = judge_all(settings, inventory, draft.server_id, keep_of(draft))
    going = [item.backup.id for item in reversed(items) if item.fate == "delete"]

    def before(entries: Entries) -> tuple[list[Moment], set[int]]:
        check_open(context, entries, draft.server_id)
        sent = counted(context, entries, "delete_backup", draft.server_id)
        return sent, stubborn(context, entries, draft.server_id, going)

    sent, last = await context.ledger.read(before)
    going.sort(key=lambda backup_id: backup_id in last)

    def within(room: int) -> Operation:
        """The plan that deletes so many."""
        later = set(going[room:])
        told = (item.model_copy(update={"fate": "later"}) if item.backup.id in later else item for item in items)
        if not room:
            return draft.updated(status=Status.SUCCEEDED, details=PruneDetails(items=tuple(told)))
        end = delete.end_of_all(inventory.proven_on(draft.server_id, without=set(going[:room])))
        budget = budget_after(settings, "delete_backup", room, sent, draft.created)
        return draft.updated(details=PruneDetails(items=tuple(told), all_left_expire_by=end, budget=budget))

    if not going:
        return within(0)
    check_budget(settings, "delete_backup", sent, draft.created)
    room = min(len(going), budget_after(settings, "delete_backup", 0, sent, draft.created).left)
    # Nobody consents to what they were not shown.
    return next(plan for many in range(room, 0, -1) if can_show(context, plan := within(many)) or many == 1)


async def send(_context: Context, operation: Operation) -> Operation:
    """Never called: a prune sends nothing itself.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"{operation.id}: a prune is sent by its deletes")


# The outcome, told from a look


def may_change(operation: Operation) -> bool:
    """Whether looking can tell more of it: whatever became of it, some of its deletes may tell more."""
    return operation.status not in {Status.PLANNED, Status.DECLINED, Status.REFUSED}


async def look(context: Context, operation: Operation) -> Result:
    """What became of its deletes."""
    return await look_at_deletes(context, operation)


# The words


_SUMMARY = {
    Status.PLANNED: "{to_delete} of {manual} of server {server} would be deleted for good.",
    Status.PREPARING: "The prune of server {server} is under way: {deleted} of {backups} {are} deleted.{rest}",
    Status.ACCEPTED: "VPS.org accepted the deletion of {accepted} of {manual} of server {server}; "
    "not all have been seen to be gone.{rest}",
    Status.SUCCEEDED: "{deleted} of {manual} of server {server} {are} deleted.{rest}",
    Status.FAILED: "The prune of server {server} has ended, and not all backups are deleted. {error} "
    "Deleted: {gone}.{rest}",
    Status.UNKNOWN: "The prune of server {server} stopped at backup {stopped_at}. {error} Deleted: {gone}.{rest}",
    Status.EXPIRED: "The plan is no longer valid. Deleted: {gone}.{rest}",
}


_RELISTED = (
    "The prune of server {server} has ended, and backups that were seen to be gone are listed again. "
    "Deleted: {gone}.{rest}"
)
"""Of an unknown outcome that did not stop it."""


def summary(result: Result) -> str:
    """What happened, or would."""
    operation, details = result.operation, result.operation.of(PruneDetails)
    deletes = result.deletes
    gone = _those(result, "deleted")
    named = {
        "Being deleted": _those(result, "being deleted"),
        "Gone already": _those(result, "gone"),
        "Refused": [each for each in _those(result, "not deleted") if not delete.is_given_up(each)],
        "Not known": _those(result, "unknown"),
        "No effect within 24 h": [each for each in deletes if delete.is_given_up(each)],
        "Gone only after the deletion was given up, perhaps by something else": [
            each for each in gone if delete.may_be_by_another(each)
        ],
    }
    told = {head: [each.backup_id for each in those] for head, those in named.items()}
    tried = {each.id for each in deletes if outcome(each)}
    due = details.planned("delete")
    if operation.status not in {Status.PLANNED, Status.PREPARING}:
        told["Left"] = [item.backup.id for item in due if item.operation_id not in tried]
    stopped_at = [each.backup_id for each in named["Not known"] if not each.of(DeleteDetails).listed_again]
    is_relisted = operation.status is Status.UNKNOWN and told["Not known"] and not stopped_at
    text = (_RELISTED if is_relisted else _SUMMARY.get(operation.status, "")).format(
        server=operation.server_id,
        manual=plural(len(details.items), "manual backup"),
        to_delete=len(due),
        backups=plural(len(due), "backup"),
        deleted=len(gone),
        are="is" if len(gone) == 1 else "are",
        accepted=len(gone) + len(told["Being deleted"]),
        gone=_told([each.backup_id for each in gone], details),
        stopped_at=next(iter(stopped_at), 0),
        error=operation.error,
        rest="".join(f" {head}: {listed(ids, _NAMED)}." for head, ids in told.items() if ids),
    )
    return text.replace("  ", " ")


def _those(result: Result, kind: Outcome) -> list[Operation]:
    """The deletes that came to the same."""
    return [each for each in result.deletes if outcome(each) == kind]


def _told(gone: list[int], details: PruneDetails) -> str:
    """Which are gone, oldest first; many by the last of them where they are the oldest of the plan without a gap."""
    oldest = [item.backup for item in reversed(details.planned("delete"))][: len(gone)]
    if len(gone) > _NAMED and gone == [backup.id for backup in oldest]:
        last = oldest[-1]
        return f"the {len(gone)} oldest of the plan, the last being backup {last.id} of {stamp(last.created_at)}"
    return listed(gone, _NAMED) or "none"


def facts(result: Result, _now: datetime) -> Facts:
    """What bears on the decision; the counts add up to those of the manual backups."""
    details = result.operation.of(PruneDetails)
    if result.operation.status is Status.REFUSED:
        return {}
    going = details.planned("delete")
    told: Facts = {
        "manual_backups": len(details.items),
        "to_keep": len(details.planned("keep")),
        "to_delete": len(going),
    }
    more = {"left_for_later": len(details.planned("later")), "left_alone": len(details.planned("leave"))}
    told |= {name: count for name, count in more.items() if count}
    if going:
        told |= {"size_to_delete": _size(going), "can_be_undone": False}
    if details.all_left_expire_by:
        told["all_left_expire_by"] = stamp(details.all_left_expire_by)
    if details.planned("later"):
        is_covered = result.approver == "approver" or result.operation.is_for_approver
        told["later_from"] = _later_from(details) + (", by the same call" if is_covered else "")
    if said := _said(result.deletes):
        told["vps_org_said"] = said
    if details.budget and result.operation.status is Status.PLANNED:
        told["budget"] = in_words(details.budget, "delete")
    return told


def _said(deletes: Sequence[Operation]) -> str:
    """VPS.org's own words for what it did not delete, each once and of which backups."""
    words: defaultdict[str, list[int]] = defaultdict(list)
    for each in deletes:
        if each.said:
            words[each.said].append(each.backup_id)
    told = [f"of {listed(ids)}: {json.dumps(said, ensure_ascii=False)}" for said, ids in words.items()]
    return listed(told)


def _size(items: Sequence[PruneItem]) -> str:
    """How much space they take, as far as that is known."""
    known = [item.backup.size_mb for item in items if item.backup.size_mb is not None]
    told = size(sum(known) if known else None)
    return told if len(known) in {0, len(items)} else f"at least {told}"


def _later_from(details: PruneDetails) -> str:
    """From when another prune may delete what is left for later."""
    ends = details.budget.more_from if details.budget else None
    return stamp_after(ends) if ends else "as soon as this prune has ended"


def next_step(result: Result, now: datetime) -> str:
    """What to do while it is under way, or was done in part."""
    operation = result.operation
    if operation.status is Status.PREPARING:
        return f"Call {operation.confirming_call} to go on, before {stamp(operation.life.end)}."
    if operation.status is Status.SUCCEEDED and operation.of(PruneDetails).planned("later"):
        when = _later_from(operation.of(PruneDetails))
        return f"For what is left for later, call prune_backups again without operation_id; possible from: {when}."
    return _step_after_deletes(result, now)


def _doubt_ends(result: Result) -> datetime:
    """When it is known at the latest which of its backups went."""
    return max(map(doubt_ends, result.deletes))


def _step_after_deletes(result: Result, now: datetime) -> str:
    """What to do where not all is deleted; empty where there is nothing special."""
    operation, unknown = result.operation, _those(result, "unknown")
    ids = listed([each.backup_id for each in unknown])
    look = f"get_operation(operation_id={operation.id!r})"
    if (unknown or operation.status is Status.ACCEPTED) and now >= _doubt_ends(result):
        those = f" ({ids})" if unknown else ""
        return f"Do not count on the backups that were to go{those}. {delete.overdue(look)}"
    if unknown:
        until = stamp_after(max(each.since.latest for each in unknown) + CLOSED_FOR)
        is_left = len(result.deletes) < len(operation.of(PruneDetails).planned("delete"))
        return (
            f"Do not repeat it, and do not count on what is not known ({ids}): {look} tells, at the "
            f"latest after {stamp_after(_doubt_ends(result))}, whether it went, as VPS.org's own list of backups does."
        ) + (f" {_ANOTHER} for the others after {until}." if is_left else "")
    if operation.status is Status.ACCEPTED:
        return (
            f"Do not count on the backups that went. Call {look} later, for up to 24 h: by "
            f"{stamp_after(_doubt_ends(result))} they are gone, or a deletion did not take effect. VPS.org's own list "
            "of backups shows the same."
        )
    if operation.status is not Status.FAILED:
        return ""
    step = f"{_ANOTHER} if it is still wanted."
    if any(each.sent for each in _those(result, "not deleted")):  # VPS.org may say the same for ever
        step = f"Tell the user what is not deleted, and why. {_ANOTHER} for that, once; then only if something changed."
    if _those(result, "being deleted"):
        until = stamp_after(_doubt_ends(result))
        step += f" Do not count on what is being deleted: {look} tells by {until} whether it went."
    return step


def question(operation: Operation) -> Question:
    """What a person is asked before it."""
    details = operation.of(PruneDetails)
    goes = details.covered(by_approver=operation.is_for_approver)
    stay = len(details.items) - len(goes)
    left = f"Left: {plural(stay, 'manual backup')}, and all automatic ones"
    if end := details.all_left_expire_by:
        left += f"; all proven ones expire by {stamp(end)}"
    text = question_text(
        fitting(
            f"Delete {len(goes)} of {plural(len(details.items), 'manual backup')} of server {operation.server_id} ",
            operation.server_name,
            " for good?",
        ),
        f"This cannot be undone. {_extent(goes)}",
        f"{left}.",
        _ids_in_a_line([item.backup.id for item in goes]),
    )
    rules = {name.replace("_", "-"): count for name, count in operation.arguments.items() if name != "server_id"}
    told = ", ".join(f"{name} {count}" for name, count in rules.items() if count)
    later = ", with those left for later" if len(goes) > len(details.planned("delete")) else ""
    label = f"Type the number of backups to delete{later}"
    return Question(text, "count", label, len(goes), f"The rules: {told}. {in_full(operation)}".strip())


def _extent(items: Sequence[PruneItem]) -> str:
    """Of when they are, newest first, and how large."""
    first, last, large = stamp(items[-1].backup.created_at), stamp(items[0].backup.created_at), _size(items)
    if len(items) == 1:
        return f"It is of {first}, {large}."
    return f"They are of {first} to {last}, {large}{'' if large == size(None) else ' in all'}."


def _ids_in_a_line(ids: Sequence[int]) -> str:
    """As many ids as a line of a question holds, and how many more there are."""
    told = [f"Backups: {listed(ids, most)}" for most in range(len(ids), 0, -1)]
    return next((line for line in told if len(line) <= MOST_IN_LINE), told[-1])
