"""Whether a history was told as it was: nothing lost, nothing doubled, nothing claimed that is not so."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from mcp_backups.actions.delete import may_be_by_another
from mcp_backups.operations.operation import UNSETTLED, DeleteDetails, Operation
from mcp_backups.sandbox import Received
from tests.histories.claims import false_claims
from tests.histories.truth import WatchedFleet
from tests.histories.world import World, backup_of

OK = frozenset({"accepted", "succeeded"})
CUT_OFF = frozenset({"sending", "approved"})
"""No operation ends so, but one that an approver decided on and nobody called again."""


@dataclass(frozen=True)
class Verdict:
    """What came of a history.

    Attributes:
        wrong: What was told that is not so, or done that was not told, one sentence each.
        steps: What happened, one line each.
        calls: How many calls there were.
        writes: How many writes VPS.org got.
        unknown: How many operations could not be settled.
    """

    wrong: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    calls: int = 0
    writes: int = 0
    operations: int = 0
    unknown: int = 0


def verdict_on(
    wrong: list[str], steps: list[str], calls: int, requests: list[Received], operations: list[Operation]
) -> Verdict:
    writes = sum(request.method != "GET" for request in requests)
    return Verdict(wrong, steps, calls, writes, len(operations), sum(each.status in UNSETTLED for each in operations))


def judge(world: World) -> Verdict:
    """Everything that is wrong with a history that has come to its end."""
    requests, operations, now = world.emulator.requests, world.ledger, world.clock.now()
    wrong = check_operations(world.fleet, requests, operations, now, marked=world.settings.mark_backups)
    wrong += [problem for said in world.said for problem in false_claims(said, requests)]
    wrong += _without_approval(world, operations) + world.broken
    wrong += _early_no(world, {each.id: each for each in operations})
    return verdict_on(wrong, world.steps, len(world.said), requests, operations)


def check_operations(
    fleet: WatchedFleet, requests: list[Received], operations: list[Operation], now: datetime, *, marked: bool
) -> list[str]:
    """What of the ledger is not as VPS.org has it, once nothing is late or in doubt any more."""
    cut_off = [each for each in operations if each.status in CUT_OFF and not each.decision]
    wrong = [f"LOST: {each.id} ended as {each.status}" for each in cut_off]
    wrong += [f"LAST: {backup} was the last proven backup of server {server}" for server, backup in fleet.emptied]
    good = fleet.good(now)
    wrong += _creates(fleet, good, [each for each in operations if each.action == "create_backup"], marked=marked)
    wrong += _deletes(fleet, requests, [each for each in operations if each.action == "delete_backup"])
    return wrong + _restores(fleet, requests, [each for each in operations if each.action == "restore_server"])


def _creates(fleet: WatchedFleet, good: dict[int, int], creates: list[Operation], *, marked: bool) -> list[str]:
    wrong = []
    for each in creates:
        made = [number for number, description in fleet.made if each.id in description]
        if not marked:
            made = [number for number, _ in fleet.made if number == each.backup_id]
        told = f"{each.id} is {each.status} with backup {each.backup_id}"
        if len(made) > 1:
            wrong.append(f"DOUBLED: {each.id} made {made}")
        if each.status in OK and made != [each.backup_id]:
            wrong.append(f"FALSE: {told}, but made {made}")
        if each.status not in OK and each.changed == "nothing" and made:
            wrong.append(f"LOST: {told}, but made {made}")
        if each.status == "succeeded" and each.backup_id in fleet.backups and each.backup_id not in good:
            wrong.append(f"FALSE: {told}, but that is not good")
        if each.status == "failed" and each.backup_id in good:
            wrong.append(f"FALSE: {told}, but that is good")
        if each.status == "unknown" and any(_shows(fleet, number, each, marked=marked) for number in made):
            wrong.append(f"LOST: {told}, but made {made}, as the list shows")
    sent = sum(each.sent is not None for each in creates)
    if len(fleet.made) > sent:
        wrong.append(f"DOUBLED: {len(fleet.made)} backups of {sent} intents")
    named = Counter(each.backup_id for each in creates if each.status in OK)
    return wrong + [
        f"DOUBLED: {count} operations claim backup {number}" for number, count in named.items() if count > 1
    ]


def _shows(fleet: WatchedFleet, number: int, create: Operation, *, marked: bool) -> bool:
    """Whether the list shows that a backup is a create's: not once somebody else has written over the mark."""
    return number in fleet.backups and (not marked or create.id in fleet.backups[number].description)


def _deletes(fleet: WatchedFleet, requests: list[Received], deletes: list[Operation]) -> list[str]:
    wrong = []
    by_backup: dict[int, list[Operation]] = {}
    for each in deletes:
        by_backup.setdefault(each.backup_id, []).append(each)
        told = f"{each.id} is {each.status}"
        if each.status == "succeeded" and each.backup_id in fleet.backups:
            wrong.append(f"FALSE: {told}, but backup {each.backup_id} is there")
        if each.status in {"accepted", "unknown"}:
            wrong.append(f"LOST: {told}, but backup {each.backup_id} has stayed or gone")
    wrong += [
        f"LOST: backup {number} was deleted, and no operation says so"
        for number in fleet.gone
        if not any(each.changed != "nothing" for each in by_backup.get(number, []))
    ]
    sent = {backup_of(request) for request in requests if request.method == "DELETE"}
    return wrong + [
        f"UNRECORDED: DELETE of {number} without an intent"
        for number in sent
        if not any(each.sent for each in by_backup.get(number, []))
    ]


def _restores(fleet: WatchedFleet, requests: list[Received], restores: list[Operation]) -> list[str]:
    wrong = []
    for pair in {(each.server_id, each.backup_id) for each in restores}:
        ours = [each for each in restores if (each.server_id, each.backup_id) == pair]
        sent = [
            request
            for request in requests
            if request.path == f"/servers/{pair[0]}/restore/"
            and request.body
            and request.json()["backup_id"] == pair[1]
        ]
        done, intents = len(fleet.restored(*pair)), sum(each.sent is not None for each in ours)
        certain = sum(each.status in OK for each in ours)
        possible = certain + sum(each.status == "unknown" for each in ours)
        again = sum(request.status == 429 or request.rule is not None for request in sent)
        if len(sent) - again > intents or done > intents:
            wrong.append(f"DOUBLED: {len(sent)} restores sent and {done} done of {intents} intents for {pair}")
        if not certain <= done <= possible:
            wrong.append(f"FALSE: {done} restores of {pair}, but {certain} certain and {possible} possible")
    known = sum(len(fleet.restored(*pair)) for pair in {(each.server_id, each.backup_id) for each in restores})
    return wrong if known == len(fleet.restores) else [*wrong, "UNRECORDED: a restore without an operation"]


def _without_approval(world: World, operations: list[Operation]) -> list[str]:
    """What was sent although no approver had said yes, or one had taken that back."""
    if world.settings.approval != "operator":
        return []
    sent = [each for each in operations if each.sent and each.action != "create_backup"]
    plans = {each.id: each.of(DeleteDetails).part_of if each.action == "delete_backup" else "" for each in sent}
    return [
        f"UNAPPROVED: {each.id} was sent as {each.approved_by or 'nobody'} said"
        for each in sent
        if not world.decisions.get(plans[each.id] or each.id) or each.approved_by != "approver"
    ]


def _by_another(world: World, ended: Operation) -> bool:
    """Whether it was in truth without effect, says that it had been given up, and its backup went by another hand."""
    is_delete = ended.action == "delete_backup" and ended.backup_id not in world.fleet.gone
    return is_delete and may_be_by_another(ended)


def _early_no(world: World, operations: dict[str, Operation]) -> list[str]:
    """What was told for good to have changed nothing, and did in the end."""
    wrong = []
    for said in world.said:
        data = said.answer.data
        ended = operations.get(str(data.get("operation_id", "")))
        was_final = data.get("changed") == "nothing" and data.get("status") in {"failed", "refused"}
        if ended and was_final and ended.changed != "nothing" and not _by_another(world, ended):
            wrong.append(f"FALSE: {ended.id} became {ended.status}, though it was said: {said.answer.text[:300]}")
    return wrong
