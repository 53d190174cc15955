"""A run: clients call while a replica is killed every second, and then everything is looked over."""

from collections import Counter
from dataclasses import dataclass
from random import Random
from time import perf_counter

import anyio

from mcp_backups.operations import Operation
from tests.histories.checker import check_operations
from tests.stage import RealTime, until
from tests.team.clients import Day, Write, busy
from tests.team.replicas import MODERN, Team, team

_TRACEBACK = "Traceback (most recent call last)"
_ENDED_MEANWHILE = "anyio.ClosedResourceError"
"""The SDK's, where a client ends its session while a notification in it is taken."""
_DONE = frozenset({"started", "done"})


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        day: What went on.
        kills: How many replicas were killed.
        seconds: How long clients called.
        operations: What the ledger has in the end.
        made, gone: How many backups were made and deleted.
        wrong: What was not as it should be, one sentence each.
    """

    day: Day
    kills: int
    seconds: float
    operations: list[Operation]
    made: int
    gone: int
    wrong: list[str]


async def run(calls: int, clients: int, seed: int = 0, ledger_url: str = "", *, kills: int = 0) -> Result:
    """Clients that call so many times in all, or more, while a replica is killed every second, and as often at least.

    Args:
        calls: How many calls there are in all, at least.
        clients: How many clients call at once.
        seed: Of what they do.
        ledger_url: Where the ledger is; empty for a file.
        kills: How many replicas are killed, at least, however fast the calls are.
    """
    with team(ledger_url) as served:
        day, killed = Day(served, Random(seed), calls, kills, pause=clients / 50), Counter[str]()
        began = perf_counter()

        async def kill() -> None:
            while not day.is_over:
                await anyio.sleep(1)
                replica = served.replicas[killed.total() % 2]
                replica.kill()
                killed["all"] += 1
                day.kills_left -= 1
                replica.start()
                for each in served.replicas:
                    await until(each.is_ready)

        await busy(day, clients, kill)
        seconds = perf_counter() - began
        operations = await _settled(served)
        wrong = day.wrong + _whole(served, day, operations)
        fleet = served.fleet
        return Result(day, killed.total(), seconds, operations, len(fleet.made), len(fleet.gone), wrong)


async def _settled(served: Team) -> list[Operation]:
    """All operations, once a replica has looked at each that was left open."""
    for replica in served.replicas:
        await until(replica.is_ready)
    async with served.client("watch", MODERN, []) as agent:
        for each in served.recorded():
            if each.status in {"sending", "accepted", "unknown"}:
                await agent.call(
                    "get_operation", operation_id=each.id, wait_seconds=5 if each.status == "accepted" else 0
                )
    return served.recorded()


def _whole(served: Team, day: Day, operations: list[Operation]) -> list[str]:
    """What is wrong in the end: with the account, the ledger, or what was said."""
    fleet = served.fleet
    there = set(fleet.backups)
    # Whose process was killed before it sent what it had written down: nobody can know that it did not.
    open_ended = {
        f"LOST: {each.id} is unknown, but backup {each.backup_id} has stayed or gone"
        for each in operations
        if each.action == "delete_backup" and each.status == "unknown" and each.backup_id in there
    }
    found = check_operations(fleet, served.emulator.requests, operations, RealTime().now(), marked=True)
    wrong = [each for each in found if each not in open_ended]
    wrong += [problem for write in day.writes for problem in _judged(write, served)]
    lines = [line for each in served.replicas for line in each.log.read_text(encoding="utf-8").splitlines()]
    return wrong + [f"LOGGED: {line}" for line in lines if _TRACEBACK in line and _ENDED_MEANWHILE not in line]


def _judged(write: Write, served: Team) -> list[str]:
    """Whether it was done once if it was said to be done, never if not, and at most once if that is not known."""
    told = f"{write.principal} asked {write.asked} times for {write.tool} {write.arguments}"
    if write.answer is None:
        return [f"UNANSWERED: {told}"]
    told = f"{told}, and was told: {write.answer.text[:200]}"
    if write.tool == "create_backup":
        wish = write.arguments["description"]
        made = sum(description.split(" [")[0].split(" (")[0] == wish for _, description in served.fleet.made)
    else:
        made = served.fleet.gone.count(write.arguments["backup_id"])
    changed = write.answer.data.get("changed", "")
    if made > 1:
        return [f"DOUBLED: {made} times: {told}"]
    if changed in _DONE and not made:
        return [f"FALSE: it was not done: {told}"]
    if write.tool == "create_backup" and made and changed == "nothing":
        return [f"FALSE: it was done: {told}"]
    return []
