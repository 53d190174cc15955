"""The pictures of the console in docs/: `python -m tests.console.pictures [FOLDER]`. Needs Chromium."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anyio

from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from tests.console.browser import Scheme, chrome
from tests.console.stage import Desk, desk
from tests.stage import ManualClock

DOCS = Path(__file__).parents[2] / "docs"


class Picture(NamedTuple):
    """One picture of the beginning of one page, so many pixels wide and high."""

    name: str
    path: str
    width: int
    height: int
    scheme: Scheme


PICTURES = (
    Picture("console-waiting", "/", 1280, 912, "light"),
    Picture("console-fleet", "/fleet", 1280, 1450, "light"),
    Picture("console-phone", "/fleet", 360, 740, "dark"),
)


async def furnish(stage: Desk) -> None:
    """Something on every page, as one meets it in practice."""
    agent, clock = stage.agent, stage.clock
    named = {backup.description: backup.id for backup in stage.emulator.fleet.backups.values()}
    await agent.call("create_backup", server_id=12362, description="Before the runner upgrade")
    clock.advance(minutes=18)
    await agent.call("delete_backup", backup_id=named["Fresh runner image"])
    clock.advance(minutes=7)
    await stage.ask("restore_server", server_id=12370, backup_id=named["Before the spring campaign"])
    clock.advance(minutes=4)
    await stage.ask("delete_backup", backup_id=499)
    await stage.ask("prune_backups", server_id=12346, keep_last=1)
    clock.advance(minutes=2)
    await agent.call("create_backup", server_id=12360)


async def draw(folder: Path) -> None:
    """Take the pictures."""
    clock = ManualClock()
    with TemporaryDirectory() as state:
        settings = Settings(state_dir=Path(state) / "state")
        async with (
            Emulator(now=clock.now) as emulator,
            desk(emulator, settings, clock) as stage,
            chrome(stage) as window,
        ):
            await furnish(stage)
            for picture in PICTURES:
                page = await window.tab(picture.width, picture.scheme)
                await page.set_viewport_size({"width": picture.width, "height": picture.height})
                await page.goto(window.address + picture.path)
                await page.screenshot(path=folder / f"{picture.name}.png")


if __name__ == "__main__":
    anyio.run(draw, Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
