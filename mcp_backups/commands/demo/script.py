"""What the agent does in the demo, and what must come of it. Every id is taken from an answer."""

from collections import Counter

from mcp_backups.commands.audit import Record
from mcp_backups.commands.demo.agent import Agent
from mcp_backups.commands.demo.step import AnswerRow, DemoError, Step

_WAIT_SECONDS = 8
_RESTORE_SECONDS = 20
"""Enough for a backup of `BACKUP_SECONDS` whenever the server looks."""


async def play(agent: Agent) -> None:
    """Make all calls, one after the other.

    Raises:
        DemoError: One did not come out as told.
    """
    servers = await _check(agent, await _count(agent))
    web = of(servers, "web-server-01")
    await _create(agent, web["server_id"])
    await _refuse(agent, of(servers, "build-runner-01"))
    await _delete(agent, await _oldest(agent, web["server"]))
    await _restore(agent, of(servers, "mail-server-01"))


async def _count(agent: Agent) -> int:
    listed = await agent.call(
        Step(
            title="See what is there",
            tool="list_backups",
            arguments={},
            expected={"complete": True},
            moral="A page of a list that is known to be complete: answers stay small enough for every model.",
        )
    )
    return int(listed["total"])


async def _check(agent: Agent, backups: int) -> list[AnswerRow]:
    checked = await agent.call(
        Step(
            title="Which servers have no fresh backup?",
            tool="check_backups",
            arguments={"max_age_hours": 24},
            expected={"complete": True, "totals.backups": backups},
            pictured=True,
            moral="One call for the whole fleet: what needs attention, why, and what to restore each server to.",
        )
    )
    return [*checked["servers"], *(checked["others"] or [])]


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


async def _refuse(agent: Agent, server: AnswerRow) -> None:
    await agent.call(
        Step(
            title=f"Try to delete the only good backup of {server['server']}",
            tool="delete_backup",
            arguments={"backup_id": server["restore_to"]},
            expected={"code": "policy_denied"},
            pictured=True,
            moral="Refused before anything was sent. The rules are the operator's: no argument lifts them.",
        )
    )


async def _oldest(agent: Agent, server: str) -> AnswerRow:
    listed = await agent.call(
        Step(
            title=f"Find an old backup of {server}",
            tool="list_backups",
            arguments={"server_name": server, "backup_type": "manual"},
            expected={"complete": True, "next_cursor": None},
            moral="By name and type. The agent takes its ids from answers, and guesses none.",
        )
    )
    return listed.rows[-1]


async def _delete(agent: Agent, unwanted: AnswerRow) -> None:
    arguments = {"backup_id": unwanted["id"]}
    plan = await agent.call(
        Step(
            title="Plan to delete an old backup",
            tool="delete_backup",
            arguments=arguments,
            expected={"status": "needs_confirmation", "changed": "nothing", "backup.id": unwanted["id"]},
            pictured=True,
            moral="Only a plan: the facts for the user to decide on. It holds for 10 minutes and for one use.",
            shown=("backup", "facts.proven_backups_left", "facts.can_be_undone", "next_step"),
        )
    )
    confirmed = arguments | {"confirm": True, "operation_id": plan["operation_id"]}
    same = {"operation_id": plan["operation_id"], "status": "succeeded", "changed": "done", "approved_by": "plan"}
    await agent.call(
        Step(
            title="The user agrees: delete it",
            tool="delete_backup",
            arguments=confirmed,
            expected=same | {"replayed": None},
            pictured=True,
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
            pictured=True,
            moral="The recorded outcome comes back, and nothing is sent twice.",
        )
    )


async def _restore(agent: Agent, server: AnswerRow) -> None:
    server_id = server["server_id"]
    arguments = {"server_id": server_id, "backup_id": server["restore_to"]}
    plan = await agent.call(
        Step(
            title=f"Plan to set {server['server']} back to its newest good backup",
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
            title="The user agrees: a safety backup is made first, and then the server is restored",
            tool="restore_server",
            arguments=confirmed | {"wait_seconds": _RESTORE_SECONDS},
            expected={"operation_id": operation_id, "status": "accepted", "changed": "started"},
            moral="accepted, not succeeded: VPS.org does not say when it is finished. undo would take it back.",
            shown=("made", "facts.server_status", "undo"),
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


def of(servers: list[AnswerRow], name: str) -> AnswerRow:
    """The server of that name, as check_backups tells of it.

    Raises:
        DemoError: It has no good backup.
    """
    found = next((row for row in servers if row.get("server") == name and row.get("restore_to")), None)
    if found is None:
        raise DemoError(f"check_backups shows no good backup of {name}.")
    return found
