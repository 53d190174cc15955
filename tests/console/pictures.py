"""The pictures of the console in docs/: `python -m tests.console.pictures [FOLDER]`. Needs Chromium."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from playwright.async_api import Page, async_playwright

from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from tests.console.browser import chromium
from tests.console.stage import Desk, desk, let_in, serve_console
from tests.stage import ManualClock

DOCS = Path(__file__).parents[2] / "docs"

WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 360, "height": 740}


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


async def draw(folder: Path) -> None:
    """Take a picture of each page."""
    clock = ManualClock()
    with TemporaryDirectory() as state:
        settings = Settings(state_dir=Path(state) / "state")
        async with (
            Emulator(now=clock.now) as emulator,
            desk(emulator, settings, clock) as stage,
            serve_console(stage) as address,
            async_playwright() as playwright,
            chromium(playwright) as browser,
        ):
            cookies = [{"name": name, "value": value, "url": address} for name, value in let_in(stage).items()]
            await furnish(stage)
            for path, name in (("/", "waiting"), ("/fleet", "fleet"), ("/operations", "operations"), ("/log", "log")):
                for scheme in ("light", "dark"):
                    for size, width in ((WIDE, "wide"), (NARROW, "narrow")):
                        context = await browser.new_context(viewport=size, color_scheme=scheme)
                        await context.add_cookies(cookies)
                        page = await context.new_page()
                        await page.goto(address + path)
                        await page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
                        await context.close()


if __name__ == "__main__":
    anyio.run(draw, Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
