"""The demo: a real MCP client, a real server process, and a sandbox account; every answer is checked."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from mcp_backups.commands.audit import Record, read_record
from mcp_backups.commands.demo.screen import Screen, draw
from mcp_backups.commands.demo.script import Agent, check_record, play, server_session
from mcp_backups.commands.demo.step import DemoError, Step

_PAUSE_SECONDS = 0.5
"""Between two steps, for whoever reads along in a terminal."""


def run(*, as_json: bool, svg: Path | None = None, command: Sequence[str] = ()) -> int:
    """Play the demo; returns 0 when everything came out as told, 1 when something did not.

    Args:
        as_json: Print one JSON object instead of the story.
        svg: Where to draw a picture of it, if everything came out as told.
        command: The server to play it with; by default this program on its sandbox.
    """
    started = time.monotonic()
    screen, steps = Screen(quiet=as_json), list[Step]()
    told: dict[str, Any] = {"ok": True, "steps": [], "audit": [], "chain": ""}
    screen.opening()
    try:
        record = _played(screen, steps, tuple(command))
        told |= {"audit": [event._asdict() for event in record.events], "chain": record.verdict}
        if svg is not None:
            draw(steps, svg)
    except DemoError as error:
        told |= {"ok": False, "error": str(error)}
        screen.failure(str(error))
    told |= {"steps": [step.as_data() for step in steps], "seconds": round(time.monotonic() - started, 1)}
    if as_json:
        print(json.dumps(told, indent=2))  # noqa: T201 - this is what was asked for
    elif told["ok"]:
        screen.closing(len(steps), told["seconds"])
    return 0 if told["ok"] else 1


def _played(screen: Screen, steps: list[Step], command: tuple[str, ...]) -> Record:
    """Play it, put its steps into `steps`, and read the server's ledger, which on a sandbox ends with it."""
    pause = _PAUSE_SECONDS if screen.is_live else 0.0

    async def converse(folder: Path) -> Record | None:
        async with server_session(folder, command) as client:
            await play(Agent(client, screen, steps, pause))
            places = [folder, *folder.rglob("mcp-backups-*")]  # noqa: ASYNC240 - nothing else is waited for
            records = [read_record(each) for each in places]
            return next(filter(None, records), None)

    with TemporaryDirectory(prefix="mcp-backups-demo-") as name:
        record = anyio.run(converse, Path(name))
    if record is None:
        raise DemoError("The server has no ledger.")
    screen.audit(record)
    check_record(record, steps)
    return record
