"""The console in a real Chromium: what only a browser can tell."""

from collections.abc import AsyncIterator
from functools import partial
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import ConsoleMessage, Dialog, Page

from mcp_backups.console.access import OneTimeAddress
from mcp_backups.operations import Decision, decide, pending_one
from tests.console.browser import CHROMIUM, Chrome, Scheme, chrome
from tests.console.stage import HOSTILE, Desk
from tests.stage import recorded

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed; the console's pages need it"),
    pytest.mark.unmeasured,
]

SCHEMES: tuple[Scheme, ...] = ("light", "dark")
SERIOUS = {"serious", "critical"}


@pytest.fixture
async def window(stage: Desk) -> AsyncIterator[Chrome]:
    async with chrome(stage) as opened:
        yield opened


@pytest.fixture
async def closed(stage: Desk) -> AsyncIterator[Chrome]:
    """One where nobody has opened the one-time address yet."""
    async with chrome(stage, entered=False) as opened:
        yield opened


async def tab_to(page: Page, selector: str) -> None:
    """Press the tab key until something has the focus, as somebody without a mouse does."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.locator(f"{selector}:focus").count():
            return
    raise AssertionError(f"{selector} is not reached by the keyboard")


async def test_the_file_leads_in_and_other_sites_do_not(stage: Desk, closed: Chrome, tmp_path: Path) -> None:
    """A cookie that is strictly for the same site is not sent where another page leads; the first visit still works."""
    assert isinstance(stage.access, OneTimeAddress)
    operation_id = await stage.ask("delete_backup", backup_id=499)
    page = await closed.tab()
    await page.goto(closed.address)
    assert await page.locator("h1").inner_text() == "Not let in"
    with stage.access.written(tmp_path, "127.0.0.1") as file:
        content = file.read_text().replace("http://127.0.0.1:8766", closed.address)
        (tmp_path / "opened.html").write_text(content)
        await page.goto((tmp_path / "opened.html").as_uri())
        await page.wait_for_url(f"{closed.address}/")
    assert await page.locator("h1").inner_text() == "Waiting for you"
    (cookie,) = await page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    own = {name: await _hidden(page, operation_id, name) for name in ("form_token", "plan")}
    action = f"{closed.address}/operations/{operation_id}/approve"
    inputs = "".join(f"<input name={name} value={value}>" for name, value in (own | {"typed": "499"}).items())
    foreign = f"<form method=post action={action}>{inputs}<button>Win a prize</button></form>"
    await page.goto(f"data:text/html,{quote(foreign)}")
    await page.locator("button").click()
    await page.wait_for_url(action)
    assert "This request comes from another page" in await page.locator("body").inner_text()
    assert (await stage.agent.call("get_operation", operation_id=operation_id)).status == "needs_approval"


async def _hidden(page: Page, operation_id: str, name: str) -> str:
    value = await page.locator(f"#{operation_id} input[name={name}]").first.get_attribute("value")
    assert value
    return value


async def test_the_keyboard_alone_decides_on_a_phone_without_javascript(stage: Desk, window: Chrome) -> None:
    restore = await stage.ask("restore_server", server_id=12345, backup_id=499, safety_backup=False)
    delete = await stage.ask("delete_backup", backup_id=495)
    page = await window.tab(width=360, scripts=False)
    await page.goto(window.address)
    await page.keyboard.press("Tab")
    assert await page.locator(".skip:focus").inner_text() == "To the content"
    await tab_to(page, f"#typed-{restore}")
    await page.keyboard.type("web-server-02")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/approve")
    focused = page.locator(":focus")
    assert await focused.get_attribute("id") == f"typed-{restore}"
    assert await focused.get_attribute("aria-describedby") == f"fault-{restore}"
    assert await page.get_by_role("alert").count() == 1
    await page.keyboard.type("web-server-01")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await page.wait_for_url(f"**/?decided={restore}")
    assert "approved" in await page.get_by_role("status").inner_text()
    await tab_to(page, f"#reason-{delete}")
    await page.keyboard.type("Keep it until Friday")
    await page.keyboard.press("Enter")
    await page.wait_for_url(f"**/?decided={delete}")
    states = {each.id: each for each in recorded(stage.context.settings.state_dir)}
    assert (states[restore].status, states[delete].status) == ("approved", "declined")
    decision = states[delete].decision
    assert decision
    assert decision.reason == "Keep it until Friday"


async def test_pages_fit_tell_everybody_the_same_and_run_nothing_of_others(stage: Desk, window: Chrome) -> None:
    """At both widths, light and dark: no page scrolls sideways, axe finds nothing serious, no text becomes a page."""
    fleet = stage.emulator.fleet
    fleet.servers[12345].name = fleet.backups[499].description = HOSTILE
    await stage.agent.call("create_backup", server_id=12362)
    await stage.ask("delete_backup", backup_id=499)
    await stage.ask("prune_backups", server_id=12346, keep_last=1)
    approved = await stage.ask("restore_server", server_id=12370, backup_id=445)
    one = await pending_one(stage.context, approved, approve=True)
    yes = Decision(by="grace", how="terminal", at=stage.clock.moment(), plan=one.mac)
    await decide(stage.context, approved, yes, approve=True)
    paths = ("/", "/fleet", "/operations", f"/operations/{approved}", "/log")
    for scheme, width in product(SCHEMES, (360, 1280)):
        page = await window.tab(width, scheme)
        said: list[str] = []
        page.on("console", partial(_note, said))
        page.on("dialog", partial(_note, said))
        for path in paths:
            await page.goto(window.address + path)
            await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (path, width)
            if (scheme, width) in {("light", 1280), ("dark", 360)}:
                assert await _serious_faults(page) == [], (path, scheme, width)
        assert said == []
        await page.context.close()
    assert stage.emulator.count("POST") == 1
    assert stage.emulator.count("DELETE") == 0


async def _serious_faults(page: Page) -> list[tuple[str, str]]:
    """What axe has against a page, each with the first place where it found it."""
    found = (await Axe().run(page)).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in SERIOUS]


def _note(said: list[str], heard: ConsoleMessage | Dialog) -> None:
    said.append(str(heard))
