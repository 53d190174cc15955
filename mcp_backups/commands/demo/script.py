"""The demo's agent: an MCP client's session with a server process, what it does there, and what must come of it.

Every id that it names is taken from an answer.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import TextContent

from mcp_backups.commands.audit import Record
from mcp_backups.commands.demo.screen import Screen
from mcp_backups.commands.demo.step import AnswerRow, DemoError, Step
from mcp_backups.commands.terminal import printable

BACKUP_SECONDS = 4.5
"""How long a backup takes in the demo's sandbox: long enough to see it wait."""

_WAIT_SECONDS, _RESTORE_SECONDS = 8, 20
"""Each enough for a backup of `BACKUP_SECONDS` whenever the server looks."""

_SERVER = (sys.executable, "-P", "-m", "mcp_backups", "--sandbox", "--backup-seconds", str(BACKUP_SECONDS))
_PATIENCE = 25.0
"""Seconds after which an answer is no longer waited for."""


@asynccontextmanager
async def server_session(
    folder: Path, command: tuple[str, ...] = (), mode: Literal["auto", "legacy"] = "auto"
) -> AsyncIterator[Client]:
    """A session with a server of its own, that keeps its ledger below `folder` and knows no setting of the user's.

    Args:
        folder: For its ledger and its log.
        command: The server; by default this program on its sandbox.
        mode: `legacy` shakes hands as clients did before protocol 2026-07-28.

    Raises:
        DemoError: There is no session, or it broke; with the server's last words.
    """
    config = folder / "config.toml"
    config.touch(mode=0o600)
    log = folder / "server.log"
    name, *arguments = command or _SERVER
    # The SDK hands on a few harmless variables only, so no token and no rule of the user's comes along.
    # A sandbox has its ledger in a temporary folder.
    environment = {"MCP_BACKUPS_CONFIG": str(config)} | dict.fromkeys(("MCP_BACKUPS_STATE_DIR", "TMPDIR"), str(folder))
    parameters = StdioServerParameters(command=name, args=arguments, env=environment)
    with log.open("w", encoding="utf-8") as errors:
        try:
            async with Client(
                stdio_client(parameters, errlog=errors), read_timeout_seconds=_PATIENCE, mode=mode
            ) as client:
                yield client
        except (MCPError, OSError, ExceptionGroup) as failure:
            raise _as_demo_error(failure, log) from failure


class Agent:
    """Calls tools one after the other, shows each on the screen, and stops at the first that is not as told.

    Args:
        client: Its session.
        screen: Who watches.
        steps: Where each step is put when it begins.
        pause: Seconds between two steps.
    """

    def __init__(self, client: Client, screen: Screen, steps: list[Step], pause: float) -> None:
        self.steps = steps
        self._client = client
        self._screen = screen
        self._pause = pause

    async def call(self, step: Step) -> Step:
        """Make a step's call.

        Raises:
            DemoError: The answer is not the expected one.
        """
        self.steps.append(step)
        self._screen.call(step)
        with self._screen.waiting(step) as show:

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                step.progress.append((progress, total or 0.0, message or ""))
                show()

            result = await self._client.call_tool(step.tool, step.arguments, progress_callback=on_progress)
        step.is_error = bool(result.is_error)
        step.text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
        step.structured = result.structured_content or {}
        self._screen.answer(step)
        if step.unmet:
            raise DemoError(step.unmet)
        self._screen.moral(step)
        await anyio.sleep(self._pause)
        return step


def _as_demo_error(failure: Exception, log: Path) -> Exception:
    """What broke a session, in one line, with the server's last words; other faults are ours, and stay as they are."""
    cause: BaseException = failure
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, DemoError):
        return cause
    if not isinstance(cause, MCPError | OSError):
        return failure
    words = printable(log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2])
    return DemoError(f"The session with the server broke: {cause}." + (f" Its last words: {words}" if words else ""))


async def play(agent: Agent) -> None:
    """Make all calls, one after the other.

    Raises:
        DemoError: One did not come out as told.
    """
    servers = await _check(agent, await _count(agent))
    web = _server_of(servers, "web-server-01")
    await _create(agent, web["server_id"])
    await _refuse(agent, _server_of(servers, "build-runner-01"))
    await _delete(agent, await _oldest(agent, web["server"]))
    await _restore(agent, _server_of(servers, "mail-server-01"))


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


def _server_of(servers: list[AnswerRow], name: str) -> AnswerRow:
    """The server of that name, as check_backups tells of it.

    Raises:
        DemoError: It has no good backup.
    """
    found = next((row for row in servers if row.get("server") == name and row.get("restore_to")), None)
    if found is None:
        raise DemoError(f"check_backups shows no good backup of {name}.")
    return found
