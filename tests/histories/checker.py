"""Whether a history was told as it was: nothing lost, nothing doubled, nothing claimed that is not so."""

from collections import Counter
from dataclasses import dataclass, field

from mcp_backups.operations.operation import UNSETTLED, Operation
from mcp_backups.sandbox import Received
from tests.histories.truth import WatchedFleet
from tests.histories.world import Said, World

OK = frozenset({"accepted", "succeeded"})
OPEN_END = frozenset({"sending", "approved"})


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
    requests, operations = world.emulator.requests, world.recorded()
    wrong = check_operations(world.fleet, requests, operations, marked=world.settings.mark_backups)
    wrong += [problem for said in world.said for problem in _claims(said, requests)]
    wrong += _last_backups(world)
    return verdict_on(wrong, world.steps, len(world.said), requests, operations)


def check_operations(
    fleet: WatchedFleet, requests: list[Received], operations: list[Operation], *, marked: bool
) -> list[str]:
    """What of the ledger is not as VPS.org has it."""
    wrong = [f"LOST: {each.id} ended as {each.status}" for each in operations if each.status in OPEN_END]
    wrong += _creates(fleet, [each for each in operations if each.action == "create_backup"], marked=marked)
    wrong += _deletes(fleet, requests, [each for each in operations if each.action == "delete_backup"])
    return wrong + _restores(fleet, requests, [each for each in operations if each.action == "restore_server"])


def _creates(fleet: WatchedFleet, creates: list[Operation], *, marked: bool) -> list[str]:
    wrong = []
    for each in creates:
        made = [number for number, description in fleet.made if each.id in description]
        if not marked:
            made = [number for number, _ in fleet.made if number == each.backup_id]
        if len(made) > 1:
            wrong.append(f"DOUBLED: {each.id} made {made}")
        if each.status in OK and made != [each.backup_id]:
            wrong.append(f"FALSE: {each.id} is {each.status} with backup {each.backup_id}, but made {made}")
        if each.status not in OK and each.changed == "nothing" and made:
            wrong.append(f"LOST: {each.id} is {each.status}, but made {made}")
    sent = sum(each.sent is not None for each in creates)
    if len(fleet.made) > sent:
        wrong.append(f"DOUBLED: {len(fleet.made)} backups of {sent} intents")
    named = Counter(each.backup_id for each in creates if each.status in OK)
    return wrong + [
        f"DOUBLED: {count} operations claim backup {number}" for number, count in named.items() if count > 1
    ]


def _deletes(fleet: WatchedFleet, requests: list[Received], deletes: list[Operation]) -> list[str]:
    wrong = []
    by_backup: dict[int, list[Operation]] = {}
    for each in deletes:
        by_backup.setdefault(each.backup_id, []).append(each)
        if each.status in OK and each.backup_id in fleet.backups:
            wrong.append(f"FALSE: {each.id} is {each.status}, but backup {each.backup_id} is there")
    wrong += [
        f"LOST: backup {number} was deleted, and no operation says so"
        for number in fleet.gone
        if not any(each.changed != "nothing" for each in by_backup.get(number, []))
    ]
    for request in requests:
        if request.method == "DELETE":
            number = int(request.path.split("/")[2])
            if not any(each.sent for each in by_backup.get(number, [])):
                wrong.append(f"UNRECORDED: DELETE of {number} without an intent")
    return wrong


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


def _claims(said: Said, requests: list[Received]) -> list[str]:
    """What a call said of its own effect, when no other was under way."""
    if not said.alone:
        return []
    wanted = {"create_backup": "/backups/", "restore_server": "/servers/"}.get(said.tool, "/backups/")
    writes = [
        request
        for request in requests[slice(*said.requests)]
        if request.method != "GET" and request.path.startswith(wanted)
    ]
    applied, told = sum(request.applied for request in writes), said.claim
    if told == "nothing" and applied:
        return [f"FALSE: {said.tool} {said.arguments} said that nothing was changed: {said.answer.text[:300]}"]
    if told == "done" and said.tool != "prune_backups" and applied != 1:
        return [f"FALSE: {said.tool} {said.arguments} said it was done, {applied} times: {said.answer.text[:300]}"]
    return []


def _last_backups(world: World) -> list[str]:
    """A server where nobody else changed anything has kept at least one good backup."""
    return [
        f"LAST: server {server_id} has no good backup left"
        for server_id in world.fleet.servers
        if server_id not in world.fleet.touched and not world.fleet.good_on(server_id, world.clock.now())
    ]
