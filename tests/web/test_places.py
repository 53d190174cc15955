"""Beyond this machine: only behind a proxy that does TLS, under names that are set, and with tokens of their own."""

import errno
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from mcp_backups.access import add_token
from mcp_backups.commands.usage import host
from mcp_backups.errors import ConfigError
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings
from mcp_backups.web.listening import listen, listening
from tests.consent.test_http import HEADERS, listing
from tests.stage import NOW, PATIENCE, MakeSettings, ManualClock
from tests.web.stage import Served, serving

URL = "https://backups.example.com"
SECRET = "sixteen-or-more-characters"


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("address", "unix", "settings", "said"),
    [
        ("0.0.0.0", False, {}, "--host must be an address of this machine"),
        ("::", False, {}, "--host must be an address of this machine"),
        ("localhost.example.com", False, {}, "--host must be an address of this machine"),
        ("10.0.0.1", False, {}, "--host must be an address of this machine"),
        ("127.0.0.1", True, {}, "--socket is for a proxy"),
        ("0.0.0.0", False, {"http_url": URL}, "needs --socket or MCP_BACKUPS_HTTP_SECRET_FILE"),
        ("127.0.0.1", False, {"http_url": URL}, "needs --socket or MCP_BACKUPS_HTTP_SECRET_FILE"),
    ],
)
def test_it_is_not_reached_from_elsewhere_without_a_proxy(
    address: str, unix: bool, settings: dict[str, Any], said: str, make_settings: MakeSettings, tmp_path: Path
) -> None:
    path = tmp_path / "socket" if unix else None
    with pytest.raises(ConfigError, match=said), listening(make_settings(**settings), address, 0, path):
        pass


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "--port 80 cannot be listened on; take another one."),
        (errno.EACCES, "--port 80 may not be listened on by this user; take one above 1023."),
        (errno.EADDRNOTAVAIL, "--host cannot be listened on; take an address that this machine has."),
        (errno.EAFNOSUPPORT, "--host cannot be listened on; take an address that this machine has."),
    ],
)
def test_why_it_cannot_be_listened_there_is_told(number: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigError) as raised:
        listen("127.0.0.1", 80)
    assert raised.value.what == said


@pytest.mark.parametrize(
    ("given", "meant"),
    [("LOCALHOST", "localhost"), ("[::1]", "::1"), ("127.0.0.2", "127.0.0.2"), ("[::FFFF]", "::ffff"), ("", "")],
)
def test_a_host_is_taken_as_it_stands_in_a_url_too(given: str, meant: str) -> None:
    assert host(given) == meant


@pytest.mark.anyio
async def test_it_is_not_reached_from_elsewhere_without_a_token(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, secret_file: Path
) -> None:
    settings = make_settings(http_url=URL, http_secret_file=secret_file)
    with pytest.raises(ExceptionGroup) as raised:
        async with serving(emulator, settings, clock):
            pass
    assert "needs an access token of its own" in str(raised.value.exceptions[0])


@pytest.mark.parametrize(
    "url",
    [
        "http://backups.example.com",
        "http://127.0.0.1:8765",
        "https://backups.example.com/mcp",
        "https://user@backups.example.com",
        "https://backups.example.com?x",
        "backups.example.com",
        "https://",
        "https://backups.example.com:port",
    ],
)
def test_what_is_no_https_address_is_refused(url: str, state_dir: Path) -> None:
    with pytest.raises(ValueError, match="http_url"):
        Settings(http_url=url, state_dir=state_dir)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"", 0o600, "holds no secret"),
        (b"short", 0o600, "holds no secret"),
        (b"with a space in it ....", 0o600, "holds no secret"),
        (b"with a\0nul that is long", 0o600, "holds no secret"),
        (b"x" * 513, 0o600, "holds no secret"),
        (b"\xff" * 20, 0o600, "cannot be read as ASCII text"),
        (SECRET.encode(), 0o640, "others may read"),
        (SECRET.encode(), 0o604, "others may read"),
        (None, 0, "cannot be found or read"),
    ],
)
def test_what_is_no_secret_is_refused(
    content: bytes | None, mode: int, said: str, make_settings: MakeSettings, secret_file: Path
) -> None:
    if content is None:
        secret_file.unlink()
    else:
        secret_file.write_bytes(content)
        secret_file.chmod(mode)
    settings = make_settings(http_url=URL, http_secret_file=secret_file)
    refused = pytest.raises(ConfigError, match=f"MCP_BACKUPS_HTTP_SECRET_FILE names a file that {said}")
    with refused, listening(settings, "127.0.0.1", 0, None):
        pass


async def status(served: Served, token: str, **headers: str) -> int:
    """What the proxy is answered that passes a request on with these headers beside its usual ones."""
    through = {"Host": "backups.example.com", "X-Mcp-Backups-Secret": SECRET, "Authorization": f"Bearer {token}"}
    sent = {name: value for name, value in (HEADERS | through | headers).items() if value}
    return (await served.post(listing(), **sent)).status_code


@pytest.mark.anyio
async def test_requests_come_through_the_proxy_under_names_that_are_set(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, secret_file: Path, state_dir: Path
) -> None:
    token = add_token(state_dir, "ci", "read", NOW)
    settings = make_settings(
        http_url=URL,
        http_secret_file=secret_file,
        http_hosts={"10.0.0.5:8765"},
        http_origins={"https://tools.example.com"},
    )
    async with serving(emulator, settings, clock) as served:
        local = served.token("", "read")  # whoever is on this machine is not let in with the token that is for there
        table: list[tuple[dict[str, str], int]] = [
            ({}, 200),
            ({"Host": "BACKUPS.example.com"}, 200),
            ({"Host": "backups.example.com:443"}, 200),
            ({"Host": "10.0.0.5:8765"}, 200),
            ({"Host": "127.0.0.1"}, 421),
            ({"Host": "backups.example.com."}, 421),
            ({"Host": "backups.example.com:443, 127.0.0.1"}, 421),
            ({"Host": "backups.example.com:0443"}, 421),
            ({"Host": "backups.example.com:8765"}, 421),
            ({"Host": "backups.example.com.evil.example"}, 421),
            ({"Origin": URL}, 200),
            ({"Origin": "https://tools.example.com"}, 200),
            ({"Origin": "http://backups.example.com"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"X-Mcp-Backups-Secret": ""}, 403),
            ({"X-Mcp-Backups-Secret": SECRET[:-1]}, 403),
            ({"X-Mcp-Backups-Secret": f"{SECRET}, {SECRET}"}, 403),
            ({"X-Forwarded-For": "127.0.0.1", "X-Mcp-Backups-Secret": ""}, 403),
            ({"Authorization": ""}, 401),
            ({"Authorization": f"Bearer {local}"}, 401),
        ]
        assert [(headers, await status(served, token, **headers)) for headers, _ in table] == table


@pytest.mark.anyio
async def test_a_proxy_may_come_by_a_unix_socket(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, tmp_path: Path, state_dir: Path
) -> None:
    unix = tmp_path / "socket"
    token = add_token(state_dir, "ci", "read", NOW)
    async with serving(emulator, make_settings(http_url=URL), clock, unix) as served:
        assert unix.stat().st_mode & 0o777 == 0o660
        assert await status(served, token, **{"X-Mcp-Backups-Secret": ""}) == 200
        async with served.client(token) as agent:
            assert not (await agent.call("list_backups")).is_error
        taken = listening(make_settings(http_url=URL), "127.0.0.1", 0, unix)
        with pytest.raises(ConfigError, match="--socket cannot be listened on"), taken:
            pass
    assert not unix.exists()


@pytest.mark.anyio
async def test_whoever_came_by_a_unix_socket_before_it_was_left_is_still_served(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, tmp_path: Path, state_dir: Path
) -> None:
    """A proxy that connected just before has no other server to ask for a call that may have been begun here."""
    unix, token = tmp_path / "socket", add_token(state_dir, "ci", "read", NOW)
    head = f"GET /readyz HTTP/1.1\r\nHost: {urlsplit(URL).netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    async with (
        serving(emulator, make_settings(http_url=URL), clock, unix) as served,
        await anyio.connect_unix(unix) as early,
    ):
        served.stop()
        assert not unix.exists()
        await early.send(head.encode())
        assert (await early.receive()).startswith(b"HTTP/1.1 200")
        answer = b" 200"
        with anyio.fail_after(PATIENCE), suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while b" 200" in answer:  # until it stops for whoever has come, too
                await early.send(head.encode())
                answer = await early.receive()
