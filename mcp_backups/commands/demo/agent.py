"""The agent's side of the demo: an MCP client's session with a server process."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import TextContent

from mcp_backups.commands.demo.screen import Screen
from mcp_backups.commands.demo.step import DemoError, Step
from mcp_backups.commands.terminal import printable

BACKUP_SECONDS = 4.5
"""How long a backup takes in the demo's sandbox: long enough to see it wait."""

_SERVER = (sys.executable, "-P", "-m", "mcp_backups", "--sandbox", "--backup-seconds", str(BACKUP_SECONDS))
_PATIENCE = 25.0
"""Seconds after which an answer is no longer waited for."""


@asynccontextmanager
async def connect(
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
