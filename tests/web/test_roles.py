"""Access tokens of several principals: what each may do, and that a removal counts at once."""

import json
import stat
from pathlib import Path

import pytest

from mcp_backups.access import AccessTokens, Role, add_token, kept_tokens, remove_token
from mcp_backups.cli import main
from mcp_backups.errors import ConfigError
from mcp_backups.sandbox import Emulator
from tests.consent.test_http import HEADERS, listing
from tests.stage import NOW, Era, MakeSettings, ManualClock
from tests.web.stage import serving

READS = ["list_backups", "get_operation", "check_backups"]
WRITES = ["list_backups", "create_backup", "get_operation", "check_backups"]
ALL = [
    "list_backups",
    "create_backup",
    "delete_backup",
    "restore_server",
    "get_operation",
    "check_backups",
    "prune_backups",
]
CALLS = {
    "list_backups": {},
    "check_backups": {},
    "create_backup": {"server_id": 12345},
    "delete_backup": {"backup_id": 499, "confirm": True},
    "restore_server": {"server_id": 12345, "backup_id": 499, "confirm": True},
    "prune_backups": {"server_id": 12345, "keep_last": 1, "confirm": True},
}


@pytest.mark.anyio
@pytest.mark.parametrize(("role", "shown"), [("read", READS), ("write", WRITES), ("destroy", ALL)])
async def test_tools_that_a_role_lacks_are_not_listed_and_refused(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era, role: Role, shown: list[str]
) -> None:
    async with (
        serving(emulator, make_settings(), clock) as served,
        served.client(served.token("somebody", role), era) as agent,
    ):
        assert [tool.name for tool in (await agent.client.list_tools()).tools] == shown
        for tool in CALLS.keys() - set(shown):
            answer = await agent.call(tool, **CALLS[tool])
            assert answer.text.startswith("policy_denied: This client may only look")
            assert f"{tool} is beyond that. Nothing was changed." in answer.text
        assert {request.method for request in emulator.requests} <= {"GET"}
        for tool in CALLS.keys() & set(shown):
            assert (await agent.call(tool, **CALLS[tool])).code == ""


@pytest.mark.anyio
async def test_this_machines_user_may_do_all(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with (
        serving(emulator, make_settings(), clock) as served,
        served.client(served.token("", "destroy")) as agent,
    ):
        assert [tool.name for tool in (await agent.client.list_tools()).tools] == ALL


@pytest.mark.anyio
async def test_what_is_added_or_removed_counts_at_the_next_request(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with serving(emulator, make_settings(), clock) as served:

        async def status(token: str) -> int:
            return (await served.post(listing(), **HEADERS, Authorization=f"Bearer {token}")).status_code

        first, second = served.token("first", "read"), served.token("second", "read")
        assert [await status(first), await status(second)] == [200, 200]
        remove_token(served.folder, "first")
        assert [await status(first), await status(second)] == [401, 200]
        again = served.token("first", "write")
        assert [await status(first), await status(again)] == [401, 200]


@pytest.mark.anyio
async def test_a_session_is_kept_to_who_began_it(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    async with serving(emulator, make_settings(), clock) as served:
        hers, his = (f"Bearer {served.token(name, 'destroy')}" for name in ("her", "him"))
        session = (await served.post(begin, Authorization=hers)).headers["mcp-session-id"]
        at_it = {"Mcp-Session-Id": session}
        assert (await served.post(ping, Authorization=his, **at_it)).status_code == 404
        assert (await served.post(ping, Authorization=hers, **at_it)).status_code == 200


def test_only_hashes_are_kept_for_their_owner_only(tmp_path: Path) -> None:
    token = add_token(tmp_path, "ci", "read", NOW)
    (path,) = tmp_path.glob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text(encoding="utf-8")
    assert token.removeprefix("mcpb_") not in path.read_text(encoding="utf-8")
    assert [(each.name, each.role, each.created) for each in kept_tokens(tmp_path)] == [("ci", "read", NOW)]


@pytest.mark.parametrize("name", ["", "local", "-x", "a b", "a" * 65, "ä", "../x", "a\n", "https://issuer#sub", "a,b"])
def test_a_name_that_could_be_taken_for_another_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="A name has up to 64"):
        add_token(tmp_path, name, "read", NOW)


def test_a_name_stands_for_one_token(tmp_path: Path) -> None:
    add_token(tmp_path, "ci", "read", NOW)
    with pytest.raises(ConfigError, match="There is an access token 'ci' already"):
        add_token(tmp_path, "ci", "destroy", NOW)
    with pytest.raises(ConfigError, match="There is no access token 'other'"):
        remove_token(tmp_path, "other")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1]",
        '[{"name": "ci", "role": "read"}]',
        '[{"name": "ci", "role": "admin", "sha256": "%s", "created": "2026-11-23T09:30:00Z"}]' % ("0" * 64),
        '[{"name": "ci", "role": "read", "sha256": "short", "created": "2026-11-23T09:30:00Z"}]',
        '[{"name": "c i", "role": "read", "sha256": "%s", "created": "2026-11-23T09:30:00Z"}]' % ("0" * 64),
        '[{"name": "ci", "role": "read", "sha256": "%s", "created": "2026-11-23T09:30:00Z", "x": 1}]' % ("0" * 64),
    ],
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    token = add_token(tmp_path, "ci", "read", NOW)
    tokens = AccessTokens(tmp_path, local=False)
    assert tokens.principal_of(token)
    (path,) = tmp_path.glob("*.json")
    path.write_text(content, encoding="utf-8")
    assert [tokens.principal_of(token) for _ in range(3)] == [None] * 3
    assert caplog.text.count("is damaged") == 1
    with pytest.raises(ConfigError, match="is damaged"):
        AccessTokens(tmp_path, local=False)


@pytest.mark.anyio
async def test_who_comes_with_a_token_is_told_that_none_can_be_read(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    """401 would have them look for what is wrong with their token."""
    async with serving(emulator, make_settings(), clock) as served:
        let_in = served.let_in("ci", "read")
        path = served.folder / "access.json"
        content = path.read_bytes()
        path.write_bytes(b"{")
        told = await served.post({}, **let_in)
        assert (told.status_code, "cannot be read" in told.text) == (503, True)
        assert (await served.post({})).status_code == 401
        assert (await served.get("/mcp", **served.let_in("", "read"))).status_code != 503
        path.write_bytes(content)
        assert (await served.post({}, Authorization="Bearer x")).status_code == 401


@pytest.mark.parametrize("is_used_before", [True, False])
def test_a_file_that_is_gone_lets_nobody_in(tmp_path: Path, *, is_used_before: bool) -> None:
    token = add_token(tmp_path, "ci", "read", NOW)
    tokens = AccessTokens(tmp_path, local=False)
    if is_used_before:
        assert tokens.principal_of(token)
    (path,) = tmp_path.glob("*.json")
    path.unlink()
    assert tokens.principal_of(token) is None


@pytest.mark.parametrize("is_used_before", [True, False])
def test_a_folder_that_is_none_any_more_lets_nobody_in(tmp_path: Path, *, is_used_before: bool) -> None:
    folder = tmp_path / "state"
    token = add_token(folder, "ci", "read", NOW)
    tokens = AccessTokens(folder, local=False)
    if is_used_before:
        assert tokens.principal_of(token)
    folder.rename(tmp_path / "moved")
    folder.touch()
    assert [tokens.principal_of(token) for _ in range(2)] == [None, None]


def test_a_file_that_others_can_read_lets_nobody_in(tmp_path: Path) -> None:
    token = add_token(tmp_path, "ci", "read", NOW)
    (path,) = tmp_path.glob("*.json")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        AccessTokens(tmp_path, local=False).principal_of(token)


def test_a_folder_in_place_of_that_file_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "access.json").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match=r"access\.json, is not a regular file"):
        AccessTokens(tmp_path, local=False)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))
    assert main(["tokens", "list"]) == 0
    assert "no access token beside" in capsys.readouterr().out
    assert main(["tokens", "add", "ci@example.com", "--role", "write"]) == 0
    told = capsys.readouterr()
    tokens = AccessTokens(tmp_path / "state", local=False)
    principal = tokens.principal_of(told.out.strip())
    assert principal
    assert (principal.name, principal.role) == ("ci@example.com", "write")
    assert told.out.strip() not in told.err
    assert main(["tokens", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["ci@example.com", "write"]
    assert main(["tokens", "remove", "ci@example.com"]) == 0
    assert tokens.principal_of(told.out.strip()) is None
    assert main(["tokens", "remove", "ci@example.com"]) == 2
    assert main(["--sandbox", "tokens", "list"]) == 2


@pytest.mark.parametrize("role", ["", "admin", "READ", "read,write"])
def test_a_role_that_there_is_not_is_refused(role: str) -> None:
    with pytest.raises(SystemExit):
        main(["tokens", "add", "ci", "--role", role])


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    add_token(tmp_path, "b", "read", NOW)
    add_token(tmp_path, "a", "destroy", NOW)
    (path,) = tmp_path.glob("*.json")
    assert [each["name"] for each in json.loads(path.read_text(encoding="utf-8"))] == ["a", "b"]
