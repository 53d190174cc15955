"""The system's Chromium, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from playwright.async_api import Browser, Page, async_playwright

from tests.console.stage import Desk, let_in, served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
"""Debian's, Alpine's or Google's; None where there is none."""

Scheme = Literal["light", "dark"]

HEIGHTS = {360: 740, 1280: 860}

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Chrome:
    """A browser beside a console.

    Attributes:
        address: Where the console is.
        cookies: Of somebody who was let in.
    """

    browser: Browser
    address: str
    cookies: dict[str, str]

    async def tab(self, width: int = 1280, scheme: Scheme = "light", *, scripts: bool = True) -> Page:
        """A window of a profile of its own."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": HEIGHTS[width]}, color_scheme=scheme, java_script_enabled=scripts
        )
        await context.add_cookies(
            [{"name": name, "value": value, "url": self.address} for name, value in self.cookies.items()]
        )
        context.set_default_timeout(30_000)
        return await context.new_page()


@asynccontextmanager
async def chrome(stage: Desk, *, entered: bool = True) -> AsyncIterator[Chrome]:
    """A browser with an empty profile, and the console on a real socket; both end with it.

    Args:
        stage: The console.
        entered: Whether somebody opened the one-time address before.
    """
    cookies = let_in(stage) if entered else {}
    async with served(stage) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield Chrome(browser, address, cookies)
        finally:
            await browser.close()
