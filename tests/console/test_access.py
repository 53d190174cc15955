"""Who is let in to the console, and what is refused before anybody is looked at."""

import re
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path

import anyio
import httpx2
import pytest
from pydantic import ValidationError
from starlette.requests import Request

from mcp_backups.console.access import SECRET_HEADER, Login, OneTimeAddress
from mcp_backups.console.serving import _check
from mcp_backups.errors import ConfigError
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import load_settings
from mcp_backups.web.limits import LIMITS
from tests.console.stage import ORIGIN, PORT, USER, Desk, client, desk, form, let_in, served
from tests.stage import PATIENCE, MakeSettings, ManualClock

PAGES = ("/", "/fleet", "/operations", "/operations/op_aaaaaaaaaaaaaaaa", "/log")
EVERYWHERE = (*PAGES, "/enter", "/console.css", "/icon.svg", "/nothing")
SECRET = "correct-horse-battery-staple"
HEADER = "X-Forwarded-User"

ENTER = re.compile(r'url=http://127\.0\.0\.1:8766(/enter\?once=[\w-]{43})"')


@pytest.mark.anyio
async def test_who_was_not_let_in_sees_nothing(stage: Desk) -> None:
    async with client(stage, Cookie=f"mcp-backups-console-{PORT}=guessed") as stranger:
        for path in PAGES:
            answer = await stranger.get(path)
            assert answer.status_code == 401
            assert "one-time address" in answer.text
            assert USER not in answer.text
    assert stage.emulator.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ["approve", "decline"])
async def test_who_was_not_let_in_decides_nothing(stage: Desk, verb: str) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    async with client(stage) as stranger:
        answer = await stranger.post(
            f"/operations/{operation_id}/{verb}", data={"typed": "499"}, headers={"Origin": ORIGIN}
        )
    assert answer.status_code == 401
    assert (await stage.agent.call("get_operation", operation_id=operation_id)).status == "needs_approval"


@pytest.mark.anyio
async def test_the_address_stands_in_a_private_file_and_lets_in_once(stage: Desk, tmp_path: Path) -> None:
    assert isinstance(stage.access, OneTimeAddress)
    with stage.access.written(tmp_path / "new", "127.0.0.1") as page:
        assert page.stat().st_mode & 0o777 == 0o600
        assert page.parent.stat().st_mode & 0o777 == 0o700
        told = ENTER.search(page.read_text())
        assert told
        async with client(stage) as browser:
            assert (await browser.head(told[1])).status_code == 405
            entered = await browser.get(told[1])
            assert entered.status_code == 200
            assert 'http-equiv="refresh" content="0; url=/"' in entered.text
            assert (await browser.get("/")).status_code == 200
            assert not page.exists()
        async with client(stage) as second:
            assert (await second.get(told[1])).status_code == 401
            assert (await second.get("/")).status_code == 401
    assert re.fullmatch(
        rf"mcp-backups-console-{PORT}=[\w-]{{43}}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict",
        entered.headers["set-cookie"],
    )


def test_a_file_that_lies_there_before_is_not_written_into(tmp_path: Path) -> None:
    """Another's link there would lead the address to them."""
    mine = tmp_path / "mine"
    (tmp_path / f"console-{PORT}.html").symlink_to(mine)
    with OneTimeAddress(USER, PORT, lambda: 0.0).written(tmp_path, "127.0.0.1") as page:
        assert not page.is_symlink()
        assert not mine.exists()
    assert not page.exists()


@pytest.mark.parametrize("once", ["", "x", "\udcff", "é", "{0}x", " {0}"])
def test_no_other_address_lets_in(once: str) -> None:
    access = OneTimeAddress(USER, PORT, lambda: 0.0)
    assert access.enter(once.format(access._once)) == ""
    assert access.enter(access._once)


def test_it_holds_for_a_minute(clock: ManualClock) -> None:
    in_time, late = (OneTimeAddress(USER, PORT, clock.ticks) for _ in range(2))
    clock.advance(seconds=59)
    assert in_time.enter(in_time._once)
    clock.advance(seconds=1)
    assert late.enter(late._once) == ""


@pytest.mark.anyio
async def test_a_browser_is_let_in_for_half_a_day_and_by_the_cookie_of_this_port(stage: Desk) -> None:
    cookies = let_in(stage)
    (value,) = cookies.values()
    async with client(stage, Cookie=f"mcp-backups-console-{PORT + 1}={value}") as other:
        assert (await other.get("/log")).status_code == 401
    async with client(stage, Cookie=f"mcp-backups-console-{PORT}={value}") as browser:
        stage.clock.advance(hours=11, minutes=59)
        assert (await browser.get("/log")).status_code == 200
        stage.clock.advance(minutes=1)
        assert (await browser.get("/log")).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Host", "evil.example", 421),
        ("Host", f"127.0.0.1:{PORT + 1}", 421),
        ("Host", "127.0.0.1", 421),
        ("Origin", "https://evil.example", 403),
        ("Origin", f"https://127.0.0.1:{PORT}", 403),
        ("Origin", "null", 403),
    ],
)
async def test_other_hosts_and_origins_are_refused_on_every_path(
    stage: Desk, browser: httpx2.AsyncClient, name: str, value: str, status: int
) -> None:
    for path in EVERYWHERE:
        answer = await browser.get(path, headers={name: value})
        assert answer.status_code == status, path
        assert "location" not in answer.headers
    assert stage.emulator.requests == []


@pytest.mark.anyio
async def test_every_answer_forbids_what_a_page_of_ours_never_needs(browser: httpx2.AsyncClient) -> None:
    for path, host in product(EVERYWHERE, (f"127.0.0.1:{PORT}", "evil.example")):
        answer = await browser.get(path, headers={"Host": host})
        assert answer.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|https?://(?!www\.w3\.org/)", answer.text)


FORGED: dict[str, tuple[dict[str, str | None], int]] = {
    "without a form token": ({"form_token": None}, 403),
    "with another form token": ({"form_token": "0" * 64}, 403),
    "with one that is none": ({"form_token": "%C3%A9"}, 403),
    "without an origin": ({"origin": None}, 403),
    "from another origin": ({"origin": "https://evil.example"}, 403),
    "from a page without an origin": ({"origin": "null"}, 403),
    "as text": ({"type": "text/plain"}, 415),
    "in parts": ({"type": "multipart/form-data; boundary=x"}, 415),
    "as JSON": ({"type": "application/json"}, 415),
    "too large": ({"filler": "x" * 17_000}, 413),
    "of too many fields": ({"filler": "x&" * 30}, 400),
    "not encoded": ({"filler": "é"}, 400),
}


@pytest.mark.anyio
@pytest.mark.parametrize("verb", ["approve", "decline"])
async def test_a_form_that_was_not_sent_from_our_page_decides_nothing(
    stage: Desk, browser: httpx2.AsyncClient, verb: str
) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    action = f"/operations/{operation_id}/{verb}"
    own: dict[str, str | None] = {**form((await browser.get("/")).text, action), "typed": "499"}
    for name, (change, status) in FORGED.items():
        fields = own | {name: value for name, value in change.items() if name == "form_token"}
        body = "&".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        origin = change.get("origin", ORIGIN)
        headers = {"Content-Type": change.get("type") or "application/x-www-form-urlencoded"}
        headers |= {"Origin": origin} if origin else {}
        answer = await browser.post(action, content=f"{body}&{change.get('filler') or ''}".encode(), headers=headers)
        assert answer.status_code == status, name
    assert (await stage.agent.call("get_operation", operation_id=operation_id)).status == "needs_approval"


@pytest.mark.parametrize(
    ("secret", "sent", "name"),
    [
        pytest.param("", [(HEADER, "ada")], "ada", id="a socket"),
        pytest.param("", [(HEADER, "ada@example.com")], "ada@example.com", id="an address as login"),
        pytest.param("", [], "", id="no login"),
        pytest.param("", [(HEADER, "")], "", id="an empty login"),
        pytest.param("", [(HEADER, "ada"), (HEADER, "eve")], "", id="two logins"),
        pytest.param("", [(HEADER, "ada, eve")], "", id="two in one"),
        pytest.param("", [(HEADER, "a\x85da")], "", id="an invisible character"),
        pytest.param("", [(HEADER, "j\xc3\xbcrgen")], "jürgen", id="as UTF-8, which logins send"),
        pytest.param("", [(HEADER, "\xe6\x97\xa5\xe6\x9c\xac")], "日本", id="as UTF-8 far from Latin"),
        pytest.param("", [(HEADER, "j\xfcrgen")], "", id="as Latin-1"),
        pytest.param("", [(HEADER, "ada\xe2\x80\xae")], "", id="an invisible character as UTF-8"),
        pytest.param("", [(HEADER, "ada\xc2\xa0eve")], "", id="a space as UTF-8"),
        pytest.param("", [(HEADER, "\xed\xa0\x80")], "", id="half a character"),
        pytest.param("", [("X-Forwarded-For", "127.0.0.1"), ("X-Real-Ip", "127.0.0.1")], "", id="an address alone"),
        pytest.param(SECRET, [(HEADER, "ada"), (SECRET_HEADER, SECRET)], "ada", id="the secret"),
        pytest.param(SECRET, [(HEADER, "ada")], "", id="no secret"),
        pytest.param(SECRET, [(HEADER, "ada"), (SECRET_HEADER, SECRET[:-1])], "", id="another secret"),
        pytest.param(SECRET, [(HEADER, "ada"), (SECRET_HEADER, "")], "", id="an empty secret"),
        pytest.param(SECRET, [(HEADER, "ada"), (SECRET_HEADER, SECRET), (SECRET_HEADER, "x")], "", id="two secrets"),
    ],
)
def test_behind_a_login_its_header_counts_and_only_from_the_proxy(
    secret: str, sent: list[tuple[str, str]], name: str
) -> None:
    headers = [(key.lower().encode(), value.encode("latin-1")) for key, value in sent]
    visitor = Login(HEADER, secret).visitor(Request({"type": "http", "headers": headers}))
    assert (visitor.name if visitor else "") == name


@pytest.mark.anyio
async def test_connections_that_say_nothing_keep_nobody_out(stage: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is on the machine can open them, without being let in."""
    monkeypatch.setattr("mcp_backups.console.serving._MOST_AT_ONCE", 8)
    monkeypatch.setattr("mcp_backups.console.serving.LIMITS", LIMITS._replace(head_seconds=0.3))
    async with served(stage) as address, AsyncExitStack() as opened:
        port = int(address.rpartition(":")[2])
        silent = [await opened.enter_async_context(await anyio.connect_tcp("127.0.0.1", port)) for _ in range(30)]
        async with httpx2.AsyncClient(base_url=address) as browser:
            assert (await browser.get("/console.css")).status_code == 200
        for each in silent:
            with anyio.fail_after(PATIENCE), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await each.receive()


@pytest.mark.anyio
async def test_a_form_of_one_login_is_none_of_another(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with desk(emulator, make_settings(), clock, Login(HEADER)) as stage, client(stage, Origin=ORIGIN) as proxy:
        operation_id = await stage.ask("delete_backup", backup_id=499)
        action = f"/operations/{operation_id}/approve"
        assert (await proxy.get("/")).status_code == 401
        assert (await proxy.get("/enter?once=", headers={HEADER: "eve"})).status_code == 401
        fields = form((await proxy.get("/", headers={HEADER: "eve"})).text, action) | {"typed": "499"}
        assert (await proxy.post(action, data=fields, headers={HEADER: "ada"})).status_code == 403
        assert (await proxy.post(action, data=fields, headers={HEADER: "eve"})).status_code == 303


LOGIN = {"console_login_header": HEADER, "console_url": "https://backups.example.com"}


@pytest.mark.parametrize(
    ("settings", "host", "socket", "fault"),
    [
        ({}, "127.0.0.1", False, ""),
        ({}, "0.0.0.0", False, "--host"),
        ({}, "127.0.0.1", True, "--socket is for a login"),
        ({"console_login_header": HEADER}, "127.0.0.1", True, "MCP_BACKUPS_CONSOLE_URL"),
        (LOGIN, "127.0.0.1", True, ""),
        (LOGIN, "127.0.0.1", False, "MCP_BACKUPS_CONSOLE_SECRET_FILE"),
        (LOGIN, "0.0.0.0", False, "MCP_BACKUPS_CONSOLE_SECRET_FILE"),
        (LOGIN | {"console_secret_file": "/run/secrets/console"}, "0.0.0.0", False, ""),
    ],
)
def test_it_does_not_start_where_anybody_could_name_themselves(
    make_settings: MakeSettings, tmp_path: Path, settings: dict[str, str], host: str, socket: bool, fault: str
) -> None:
    where = tmp_path / "socket" if socket else None
    if not fault:
        _check(make_settings(**settings), host, where)
        return
    with pytest.raises(ConfigError) as refused:
        _check(make_settings(**settings), host, where)
    assert fault in refused.value.what


@pytest.mark.parametrize(
    "url",
    ["backups.example.com", "http://backups.example.com", "https://u@example.com", "https://example.com/console", "x"],
)
def test_the_address_behind_a_login_is_an_origin(make_settings: MakeSettings, url: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(console_url=url)


@pytest.mark.parametrize("header", ["X Forwarded", "X-User:", "é", "-x", "x" * 65])
def test_the_header_of_a_login_is_a_name(make_settings: MakeSettings, header: str) -> None:
    with pytest.raises(ValidationError):
        make_settings(console_login_header=header)


@pytest.mark.parametrize("header", ["Host", "COOKIE", "X-Forwarded-For", "X-Mcp-Backups-Secret", "Accept-Language"])
def test_a_header_that_every_request_has_or_a_client_sets_tells_no_login(header: str) -> None:
    """With `Host` everybody would be logged in, under the address of the console."""
    with pytest.raises(ConfigError, match="MCP_BACKUPS_CONSOLE_LOGIN_HEADER must be a header that the proxy alone"):
        load_settings({"MCP_BACKUPS_CONSOLE_LOGIN_HEADER": header})


@pytest.mark.parametrize("header", ["Remote-User", "X-Forwarded-User", "X-Forwarded-Email", "X-Auth-Request-User"])
def test_a_header_as_proxies_tell_a_login_in_is_taken(header: str) -> None:
    assert load_settings({"MCP_BACKUPS_CONSOLE_LOGIN_HEADER": header}).console_login_header == header


def test_the_address_behind_a_login_may_end_with_a_slash(make_settings: MakeSettings) -> None:
    assert make_settings(console_url="https://Backups.example.com/").console_url == "https://backups.example.com"
