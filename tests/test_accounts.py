"""Several accounts in the settings file: what is wrong with them is told in one line, and commands choose by name."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.cli import main
from mcp_backups.errors import ConfigError
from mcp_backups.sandbox import Emulator, serve_in_thread
from mcp_backups.settings import load_settings
from tests.process import COMMAND, server_process
from tests.stage import MakeSettings, ManualClock, recorded

pytestmark = pytest.mark.skipif(os.name == "nt", reason="files have no permission bits there")

SECRETS = {"shop": "vps_s3cret_of_the_shop", "blog": "vps_s3cret_of_the_blog"}
Write = Callable[[str], None]


@pytest.fixture
def write(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """`write(text)`: the settings file; `@name` in it is a token file, which is there."""
    make_settings()
    folder = tmp_path / "config"
    folder.mkdir()
    for name, secret in SECRETS.items():
        (folder / name).write_text(f"{secret}\n")
        (folder / name).chmod(0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(folder / "config.toml"))
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))

    def put(text: str) -> None:
        (folder / "config.toml").write_text(text.replace("@", f"{folder}/"))

    return put


SHOP = '[accounts.shop]\nvps_api_token_file = "@shop"\nprincipals = ["local"]\n'
BLOG = '[accounts.blog]\nvps_api_token_file = "@blog"\nprincipals = ["ci", "https://login.example.com#her"]\n'


def test_each_is_a_copy_of_the_settings_with_its_own_address_and_token(write: Write) -> None:
    write(f'keep_min = 2\nvps_api_url = "https://api.test/v1"\n{SHOP}{BLOG}vps_api_url = "https://blog.test/v1/"\n')
    settings = load_settings()
    assert (settings.account, settings.vps_api_token) == ("", None)
    told = [(each.account, each.vps_api_url, each.keep_min) for each in settings.for_each_account()]
    assert told == [("shop", "https://api.test/v1", 2), ("blog", "https://blog.test/v1", 2)]
    tokens = [each.vps_api_token.get_secret_value() for each in settings.for_each_account() if each.vps_api_token]
    assert tokens == list(SECRETS.values())
    assert set(SECRETS.values()) <= set(settings.secrets)
    assert settings.accounts["blog"].principals == {"ci", "https://login.example.com#her"}
    assert "s3cret" not in repr(settings)


def test_the_only_one_is_meant_without_a_name(write: Write) -> None:
    write(SHOP)
    assert load_settings().for_account("").account == "shop"


def test_without_any_the_settings_are_as_they_are(write: Write) -> None:
    write("")
    assert load_settings().for_account("") == load_settings()
    assert load_settings().for_each_account() == [load_settings()]


def account(name: str = "shop", **changes: Any) -> str:
    lines: dict[str, Any] = {"vps_api_token_file": "@shop", "principals": ["local"]} | changes
    told = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items() if value is not None)
    return f"[accounts.{name}]\n{told}\n"


WRONG: list[tuple[str, str]] = [
    ("accounts = {}", "MCP_BACKUPS_ACCOUNTS must be tables of the settings file"),
    ("accounts = 'shop'", "MCP_BACKUPS_ACCOUNTS must be tables of the settings file"),
    ("accounts = ['shop']", "MCP_BACKUPS_ACCOUNTS must be tables of the settings file"),
    ("[[accounts]]\nname = 'shop'", "MCP_BACKUPS_ACCOUNTS must be tables of the settings file"),
    ("[accounts]\nshop = 1", "accounts.shop in the settings file must be a table"),
    (SHOP + SHOP, "MCP_BACKUPS_CONFIG names a settings file that is not valid TOML in line 4"),
    (SHOP + account("Shop", vps_api_token_file="@blog"), "accounts.Shop and accounts.shop are told apart by capitals"),
    (SHOP + account("other"), "accounts.other has the same token as accounts.shop"),
    (account('"a b"'), "accounts.a b in the settings file: a name has up to 64 letters, digits, - and _"),
    (account('"../x"'), "accounts.../x in the settings file: a name"),
    (account('"a.b"'), "accounts.a.b in the settings file: a name"),
    (account('"ä"'), "accounts.ä in the settings file: a name"),
    (account('"-a"'), "accounts.-a in the settings file: a name"),
    (account('""'), "accounts. in the settings file: a name"),
    (account("a" * 65), "accounts.aaaa"),
    (account('"a\\u001b[2J"'), "accounts.a"),
    (account(vps_api_token_file=None), "accounts.shop needs vps_api_token_file: a file that holds its token"),
    (account(principals=None), "accounts.shop needs principals: who may use it"),
    (account(principals=[]), "accounts.shop.principals is set, but names no name; take it out, or name some"),
    (account(principals=""), "accounts.shop.principals is set, but names no name"),
    (account(principals=["a b"]), "accounts.shop.principals must be names without spaces, with a comma between two"),
    (account(principals=[1]), "accounts.shop.principals must be a valid string"),
    (account(vps_api_token_file="@missing"), "accounts.shop.vps_api_token_file names a file that cannot be found"),
    (account(vps_api_token_file="@"), "accounts.shop.vps_api_token_file names a file that is not a regular file"),
    (account(vps_api_token_file="shop"), "accounts.shop.vps_api_token_file must be an absolute path"),
    (account(vps_api_token_file="@open"), "accounts.shop.vps_api_token_file names a file that others may read"),
    (account(vps_api_token_file="@sample"), "accounts.shop.vps_api_token_file names a file of which the content must"),
    (account(vps_api_url="http://s3cret.test"), "accounts.shop.vps_api_url must be https"),
    (account(vps_api_url=""), "accounts.shop.vps_api_url must be an https:// URL"),
    (account(vps_api_token="vps_s3cret"), "accounts.shop.vps_api_token in the settings file is not a setting; did you"),
    (account(token="vps_s3cret"), "accounts.shop.token in the settings file is not a setting"),
    (account(principal=["local"]), "accounts.shop.principal in the settings file is not a setting; did you mean princ"),
    (account(keep_min=1), "accounts.shop.keep_min in the settings file is not a setting"),
    ("vps_api_token = 'vps_s3cret'\n" + SHOP, "VPS_API_TOKEN and VPS_API_TOKEN_FILE do not go with accounts"),
    ("vps_api_token_file = '@blog'\n" + SHOP, "VPS_API_TOKEN and VPS_API_TOKEN_FILE do not go with accounts"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_told_in_one_line(
    text: str, said: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    (tmp_path / "config" / "config.toml").chmod(0o600)
    for name, mode, content in (("open", 0o644, "vps_s3cret"), ("sample", 0o600, "vps_your_token")):
        (tmp_path / "config" / name).write_text(content)
        (tmp_path / "config" / name).chmod(mode)
    assert main(["operations"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"mcp-backups: {said}")
    assert told.count("\n") == 1
    assert "s3cret" not in told
    assert "\x1b" not in told


def test_the_environment_names_none(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("")
    monkeypatch.setenv("MCP_BACKUPS_ACCOUNTS", "shop")
    with pytest.raises(ConfigError, match="MCP_BACKUPS_ACCOUNTS must be tables of the settings file"):
        load_settings()


COMMANDS = [
    ("serve",),
    ("check",),
    ("doctor",),
    ("console", "--no-browser"),
    ("config", "cursor"),
    ("config", "cursor", "--http"),
]


@pytest.mark.parametrize("command", [*COMMANDS, ("operations",), ("audit",), ("approvals",)])
@pytest.mark.parametrize("name", ["other", "SHOP", "shop "])
def test_an_account_that_there_is_not_is_told_with_those_that_there_are(
    command: tuple[str, ...], name: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(SHOP + BLOG)
    assert main([*command, "--account", name]) == 2
    told = capsys.readouterr()
    assert "--account takes " in told.err + told.out
    assert ("one of blog, shop." in told.err + told.out) or name == "shop "


@pytest.mark.parametrize("command", COMMANDS)
def test_with_several_one_has_to_be_named(
    command: tuple[str, ...], write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(SHOP + BLOG)
    assert main([*command]) == 2
    told = capsys.readouterr()
    assert "The settings file has several accounts. --account takes one of blog, shop." in told.err + told.out


def test_the_bare_command_tells_so_too(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(SHOP + BLOG)
    assert main([]) == 2
    assert "--account takes one of blog, shop." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serve", "--http", "--account", "shop"), "--http serves each account at an address of its own"),
        (("serve", "--sandbox", "--account", "shop"), "--sandbox does not go with it"),
        (("config", "cursor", "--sandbox", "--account", "shop"), "--sandbox does not go with it"),
        (("config", "cursor", "--write", "--token-in-file", "--account", "shop"), "does not go with accounts"),
        (("audit", "--verify", "--account", "shop"), "--verify and --export are about the whole log"),
        (("audit", "--export", "--account", "shop"), "--verify and --export are about the whole log"),
    ],
)
def test_what_does_not_go_together_is_told(
    arguments: tuple[str, ...], said: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(SHOP + BLOG)
    assert main([*arguments]) == 2
    assert said in capsys.readouterr().err


def test_where_there_are_none_none_can_be_named(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write("")
    assert main(["check", "--account", "shop"]) == 2
    assert "--account is for a settings file with several accounts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "arguments", "url"),
    [
        (SHOP + BLOG, ["--http", "--account", "shop"], "http://127.0.0.1:8765/mcp/shop"),
        (SHOP, ["--http"], "http://127.0.0.1:8765/mcp/shop"),
        ("http_url = 'https://b.test'\n" + SHOP + BLOG, ["--http", "--account", "blog"], "https://b.test/mcp/blog"),
        (SHOP + BLOG, ["--http", "https://b.test/mcp/x"], "https://b.test/mcp/x"),
        ("", ["--http", "https://b.test/mcp", "--account", "far"], "https://b.test/mcp/far"),
        ("", ["--http", "https://b.test/mcp/", "--account", "far"], "https://b.test/mcp/far"),
        ("", ["--http"], "http://127.0.0.1:8765/mcp"),
    ],
)
def test_a_client_is_told_the_address_of_the_account(
    text: str, arguments: list[str], url: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(text)
    assert main(["config", "cursor", *arguments]) == 0
    assert f'"{url}"' in capsys.readouterr().out


def test_a_client_that_starts_the_server_names_the_account(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write(SHOP + BLOG)
    assert main(["config", "cursor", "--account", "blog"]) == 0
    told = capsys.readouterr().out
    entry = json.loads(told[told.index("{") : told.rindex("}\n") + 1])["mcpServers"]["backups"]
    assert entry["args"][-3:] == ["serve", "--account", "blog"]
    assert "s3cret" not in told
    assert "access.token" not in told


def test_commands_tell_of_all_or_of_the_one_that_is_named(
    clock: ManualClock, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_in_thread(Emulator(now=clock.now)) as api:
        api.fleet.tokens = {secret: ["*:*"] for secret in SECRETS.values()}
        write(f'vps_api_url = "{api.base_url}"\n{SHOP}{BLOG}')
        for name, secret in SECRETS.items():
            command = [*COMMAND, "serve", "--account", name]
            config = str(tmp_path / "config" / "config.toml")
            with server_process(tmp_path / "state", command=command, MCP_BACKUPS_CONFIG=config) as server:
                made = server.shake_hands().call("create_backup", server_id=12345)
            assert made["structuredContent"]["status"] == "accepted"
            assert api.requests[-1].authorization == f"Bearer {secret}"
        assert main(["check", "--account", "shop", "--json"]) in {0, 1}
        assert api.requests[-1].authorization == f"Bearer {SECRETS['shop']}"
    capsys.readouterr()

    def told(*arguments: str) -> str:
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    assert [json.loads(line)["account"] for line in told("operations", "--json").splitlines()] == ["blog", "shop"]
    shop = [json.loads(line)["account"] for line in told("operations", "--json", "--account", "shop").splitlines()]
    assert shop == ["shop"]
    assert [name in told("operations") for name in ("account", "shop", "blog")] == [True] * 3
    assert [told("audit").count(f"account {name}") for name in SECRETS] == [1, 1]
    assert [told("audit", "--account", "blog").count(f"account {name}") for name in SECRETS] == [0, 1]
    first, second = (each.id for each in recorded(tmp_path / "state"))
    assert first in told("audit", first, "--account", "shop")
    assert main(["audit", first, "--account", "blog"]) == main(["audit", "op_" + "a" * 16]) == 1
    assert second not in capsys.readouterr().out
    assert "chain intact" in told("audit", "--verify")
