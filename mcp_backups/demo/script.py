"""What the agent does in the demo, and what must come of it. Every id is taken from an answer."""

from collections import Counter

from mcp_backups.audit import Record
from mcp_backups.demo.agent import Agent
from mcp_backups.demo.step import DemoError, Row, Step

_WAIT_SECONDS = 8
"""Enough for a backup of `BACKUP_SECONDS` whenever the server looks."""


async def play(agent: Agent) -> None:
    """Make all calls, one after the other.

    Raises:
        DemoError: One did not come out as told.
    """
    backups = await _list(agent)
    await _check(agent, len(backups))
    await _create(agent, of(backups, "web-server-01")[0]["server_id"])
    await _refuse(agent, of(backups, "build-runner-01")[0])
    await _delete(agent, [row for row in of(backups, "web-server-01") if row["type"] == "manual"][-1])
    await _restore(agent, of(backups, "mail-server-01")[0])


async def _list(agent: Agent) -> list[Row]:
    listed = await agent.call(
        Step(
            title="See what is there",
            tool="list_backups",
            arguments={"limit": 100},
            expected={"complete": True},
            moral="The list is known to be complete. The agent takes its ids from it, and guesses none.",
        )
    )
    return listed.rows


async def _check(agent: Agent, backups: int) -> None:
    await agent.call(
        Step(
            title="Which servers have no fresh backup?",
            tool="check_backups",
            arguments={"max_age_hours": 24},
            expected={"complete": True, "totals.backups": backups},
            moral="One call for the whole fleet: what needs attention, why, and what to restore each server to.",
        )
    )


async def _create(agent: Agent, server_id: int) -> None:
    await agent.call(
        Step(
            title="Make a backup before a change, and wait for it",
            tool="create_backup",
            arguments={"server_id": server_id, "description": "Before the upgrade", "wait_seconds": _WAIT_SECONDS},
            expected={"status": "succeeded", "changed": "done", "server.id": server_id, "backup.status": "completed"},
            moral="succeeded, because the finished backup was seen; until then it is only accepted.",
            shown=("backup", "facts.evidence"),
        )
    )


async def _refuse(agent: Agent, last_good: Row) -> None:
    await agent.call(
        Step(
            title=f"Try to delete the only good backup of {last_good['server']}",
            tool="delete_backup",
            arguments={"backup_id": last_good["id"]},
            expected={"code": "policy_denied"},
            moral="Refused before anything was sent. The rules are the operator's: no argument lifts them.",
        )
    )


async def _delete(agent: Agent, unwanted: Row) -> None:
    arguments = {"backup_id": unwanted["id"]}
    plan = await agent.call(
        Step(
            title="Plan to delete an old backup",
            tool="delete_backup",
            arguments=arguments,
            expected={"status": "needs_confirmation", "changed": "nothing", "backup.id": unwanted["id"]},
            moral="Only a plan: the facts for the user to decide on. It holds for 10 minutes and for one use.",
            shown=("backup", "facts.good_backups_left", "facts.can_be_undone", "next_step"),
        )
    )
    confirmed = arguments | {"confirm": True, "operation_id": plan["operation_id"]}
    same = {"operation_id": plan["operation_id"], "status": "succeeded", "changed": "done", "approved_by": "plan"}
    await agent.call(
        Step(
            title="The user agrees: delete it",
            tool="delete_backup",
            arguments=confirmed,
            expected=same | {"replayed": False},
            moral="Deleted, and seen to be gone.",
            shown=("facts.evidence",),
        )
    )
    await agent.call(
        Step(
            title="The same call again, as after a lost answer",
            tool="delete_backup",
            arguments=confirmed,
            expected=same | {"replayed": True},
            moral="The recorded outcome comes back, and nothing is sent twice.",
        )
    )


async def _restore(agent: Agent, chosen: Row) -> None:
    server_id = chosen["server_id"]
    arguments = {"server_id": server_id, "backup_id": chosen["id"]}
    plan = await agent.call(
        Step(
            title=f"Plan to set {chosen['server']} back to its newest backup",
            tool="restore_server",
            arguments=arguments,
            expected={"status": "needs_confirmation", "changed": "nothing", "facts.can_be_undone": True},
            moral="It says what would be lost, and that there will be a way back.",
            shown=("backup", "facts.lost", "facts.safety_backup", "facts.can_be_undone"),
        )
    )
    operation_id = plan["operation_id"]
    confirmed = arguments | {"confirm": True, "operation_id": operation_id}
    await agent.call(
        Step(
            title="The user agrees: the safety backup comes first",
            tool="restore_server",
            arguments=confirmed,
            expected={"operation_id": operation_id, "status": "preparing", "changed": "nothing"},
            moral="The server has no recent backup, so one is made before its disk is touched.",
            shown=("facts.safety_backup", "next_step"),
        )
    )
    ready = await agent.call(
        Step(
            title="Wait for the safety backup",
            tool="get_operation",
            arguments={"operation_id": operation_id, "wait_seconds": _WAIT_SECONDS},
            expected={"status": "preparing", "changed": "nothing", "facts.safety_backup_status": "succeeded"},
            moral="The way back exists now.",
            shown=("facts.safety_backup", "facts.safety_backup_status"),
        )
    )
    undo = f"restore_server(server_id={server_id}, backup_id={ready['facts.safety_backup']})"
    await agent.call(
        Step(
            title="Restore",
            tool="restore_server",
            arguments=confirmed,
            expected={"operation_id": operation_id, "status": "accepted", "changed": "done", "undo": undo},
            moral="accepted, not succeeded: VPS.org does not say when it is finished. undo would take it back.",
            shown=("facts.evidence", "undo"),
        )
    )


def check_record(record: Record, steps: list[Step]) -> None:
    """Whether the ledger tells what was played: the chain whole, and each write sent once.

    Raises:
        DemoError: It does not.
    """
    if record.fault:
        raise DemoError(f"The ledger cannot be trusted: {record.fault}.")
    asked = {step[name] for step in steps for name in ("operation_id", "facts.safety_backup_operation")} - {None}
    sent = Counter(event.operation_id for event in record.events if event.status == "sending")
    if sent != Counter(asked):
        raise DemoError("The ledger does not show that each write was sent once.")


def of(backups: list[Row], server: str) -> list[Row]:
    """The backups of the server of that name.

    Raises:
        DemoError: It has none.
    """
    found = [row for row in backups if row["server"] == server]
    if not found:
        raise DemoError(f"list_backups shows no backup of {server}.")
    return found
