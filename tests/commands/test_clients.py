"""`mcp-backups config`: every client gets a form that starts this server, with its rules, and no token is shown."""

import base64
import json
import os
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from pydantic import SecretStr

from mcp_backups.cli import main
from mcp_backups.commands.config import configure
from mcp_backups.commands.config.catalogue import CLIENTS, Client, Machine, this_machine
from mcp_backups.commands.config.forms import BEGIN, END, add_command, entry, link, section, shown, web_link
from mcp_backups.commands.config.launch import INSTALLED, Launch, own_command, with_settings
from mcp_backups.errors import ConfigError
from mcp_backups.settings import Settings
from tests.process import PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
TOKEN = "vps_tests_own_token"

pytestmark = pytest.mark.usefixtures("settings_file")

BY_KEY = {client.key: client for client in CLIENTS}


def read(client: Client, text: str) -> dict[str, Any]:
    """A client's file as the client reads it."""
    readers: dict[str, Callable[[str], Any]] = {"JSON": json.loads, "TOML": tomllib.loads, "YAML": yaml.safe_load}
    content = readers[client.form](text)
    assert isinstance(content, dict)
    return content


def started(client: Client, content: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The command that a client starts, and what it puts into the environment as its file spells it."""
    own = content[client.section]["backups"]
    if client.key == "opencode":
        return own["command"], own["environment"]
    if client.key == "goose":
        return [own["cmd"], *own["args"]], own["envs"] | {name: f"<{name}>" for name in own["env_keys"]}
    env = own.get("env", {}) | {name: f"<{name}>" for name in own.get("env_vars", [])}
    return [own["command"], *own["args"]], env


@pytest.mark.parametrize(
    ("key", "variable"),
    [
        ("claude-desktop", None),
        ("claude-code", "${VPS_API_TOKEN:-}"),
        ("cursor", "${env:VPS_API_TOKEN}"),
        ("vscode", "${input:vps-api-token}"),
        ("codex", "<VPS_API_TOKEN>"),
        ("gemini", "$VPS_API_TOKEN"),
        ("copilot", "${VPS_API_TOKEN:-}"),
        ("opencode", "{env:VPS_API_TOKEN}"),
        ("windsurf", "${env:VPS_API_TOKEN}"),
        ("zed", None),
        ("junie", None),
        ("goose", "<VPS_API_TOKEN>"),
    ],
)
def test_the_token_is_referred_to_in_the_clients_own_way_or_left_out(
    key: str, variable: str | None, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    client = BY_KEY[key]
    assert configure(key, write=True, token_in_file=False, machine=machine) == 0
    text = client.path(machine).read_text(encoding="utf-8")
    assert TOKEN not in text
    assert started(client, read(client, text))[1].get("VPS_API_TOKEN") == variable


def test_every_client_with_a_file_is_in_that_table() -> None:
    (table,) = (
        mark
        for mark in test_the_token_is_referred_to_in_the_clients_own_way_or_left_out.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert [key for key, _ in table.args[1]] == [client.key for client in CLIENTS]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_what_is_printed_never_shows_the_token(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    assert configure(client.key, write=False, token_in_file=False, machine=machine) == 0
    said = capsys.readouterr()
    assert (TOKEN in said.out, said.err) == (False, "")
    assert not list(machine.home.parent.glob("home/**/*"))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_the_token_is_written_down_where_that_is_asked_for(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    assert configure(client.key, write=True, token_in_file=True, machine=machine) == 0
    path = client.path(machine)
    assert started(client, read(client, path.read_text(encoding="utf-8")))[1] == {
        "MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"],
        "VPS_API_TOKEN": TOKEN,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cursor", "--token-in-file"], "the token is never printed"),
        (["goose", "--token-in-file"], "the token is never printed"),
        (["cursor", "--write", "--token-in-file"], "needs a token"),
        (["cursor", "--write", "--token-in-file", "--sandbox"], "does not go with --sandbox"),
        (["notepad"], "There is no client of that name"),
        *(
            (["cursor", "--name", name], "--name takes")
            for name in ("", "My backups", "a.b", "-x", "Ä", "../x", "a" * 33)
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[-2:-1] == ["--name"]:
        arguments = [arguments[0], f"--name={arguments[-1]}"]
    assert main(["config", *arguments]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert (out, len(err.splitlines())) == ("", 1)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_the_rules_of_this_environment_come_along(
    client: Client, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is started elsewhere would not see them, and the server would run without."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("mcp_backups_read_only", "true")
    monkeypatch.setenv("VPS_API_TOKEN_FILE", "~/token")
    configure(client.key, write=True, token_in_file=False, machine=machine)
    content = read(client, client.path(machine).read_text(encoding="utf-8"))
    assert started(client, content)[1] == {
        "MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"],
        "MCP_BACKUPS_READ_ONLY": "true",
        "VPS_API_TOKEN_FILE": str(tmp_path / "token"),
    }


def test_a_token_in_the_settings_file_needs_no_word_in_the_clients(settings_file: Path, machine: Machine) -> None:
    settings_file.write_text(f'vps_api_token = "{TOKEN}"\n')
    configure("cursor", write=True, token_in_file=False, machine=machine)
    text = BY_KEY["cursor"].path(machine).read_text(encoding="utf-8")
    assert "VPS_API_TOKEN" not in text


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_a_second_time_changes_nothing(client: Client, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert configure(client.key, write=True, token_in_file=False, machine=machine) == 0
    path = client.path(machine)
    assert "has it already" in capsys.readouterr().out
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.name == "nt", reason="a user's folder has another name there")
def test_files_are_those_of_this_user_and_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert BY_KEY["cursor"].path(this_machine()) == tmp_path / ".cursor" / "mcp.json"
    assert BY_KEY["vscode"].path(this_machine()) == tmp_path / ".vscode" / "mcp.json"


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("claude-code", "claude mcp add backups -e VPS_API_TOKEN=… -- mcp-backups"),
        ("codex", "codex mcp add backups --env VPS_API_TOKEN=… -- mcp-backups"),
        ("gemini", "gemini mcp add backups mcp-backups -e 'VPS_API_TOKEN=$VPS_API_TOKEN'"),
        ("copilot", "copilot mcp add backups --env 'VPS_API_TOKEN=${VPS_API_TOKEN:-}' -- mcp-backups"),
        ("cursor", ""),
    ],
)
def test_a_clients_own_command_is_given_in_its_own_form(key: str, line: str) -> None:
    assert add_command(BY_KEY[key], INSTALLED) == line


def test_words_that_a_shell_would_split_are_quoted() -> None:
    launch = Launch("/my programs/mcp-backups", (), {"MCP_BACKUPS_CONFIG": "/my files/it's.toml"}, refers=False)
    assert shlex.split(add_command(BY_KEY["codex"], launch)) == [
        *("codex", "mcp", "add", "backups", "--env", "MCP_BACKUPS_CONFIG=/my files/it's.toml", "--"),
        "/my programs/mcp-backups",
    ]


def test_gemini_gets_no_command_in_which_our_options_would_be_taken_for_its_own() -> None:
    launch = Launch("/usr/bin/python3", ("-P", "-m", "mcp_backups"), {}, refers=True)
    assert add_command(BY_KEY["gemini"], launch) == ""
    assert add_command(BY_KEY["copilot"], launch).endswith("-- /usr/bin/python3 -P -m mcp_backups")


def test_the_links_hold_the_entries() -> None:
    cursor, vscode = BY_KEY["cursor"], BY_KEY["vscode"]
    for address in (link(cursor, INSTALLED), web_link(cursor, INSTALLED)):
        asked = parse_qs(urlsplit(address).query)
        assert asked["name"] == ["backups"]
        assert json.loads(base64.b64decode(asked["config"][0])) == entry(cursor, INSTALLED)
    assert link(cursor, INSTALLED).startswith("cursor://anysphere.cursor-deeplink/mcp/install?")
    address = link(vscode, INSTALLED)
    content = json.loads(unquote(address.removeprefix("vscode:mcp/install?")))
    assert content["inputs"][0]["id"] == "vps-api-token"
    assert content.items() >= ({"name": "backups"} | entry(vscode, INSTALLED)).items()
    assert parse_qs(urlsplit(web_link(vscode, INSTALLED)).query) == {"url": [address]}


@pytest.mark.parametrize("key", ["cursor", "vscode"])
def test_no_link_holds_a_token(key: str) -> None:
    launch = Launch("mcp-backups", (), {"VPS_API_TOKEN": TOKEN}, refers=False)
    assert link(BY_KEY[key], launch) == ""


@pytest.mark.parametrize(
    "folder",
    [
        "/home/me/.cache/uv/archive-v0/x1",
        "/home/me/.cache/uv/builds-v0/.tmp1",
        "/c/uv/environments-v2/script-1",
        "/home/me/.local/share/pipx/.cache/1f",
        "/home/me/.cache/pipx/1f",
        "/home/me/.local/share/pipx/py/../.cache/0123456789abcde",
    ],
)
def test_what_runs_from_a_cache_is_to_be_installed_first(folder: str) -> None:
    """Neither its path nor `uvx mcp-backups` would do: one vanishes, the other starts whatever has that name."""
    with pytest.raises(ConfigError, match="Install it"):
        own_command(Path(folder) / "bin" / "python", Path(folder))


@pytest.mark.parametrize(
    "folder",
    [
        "/home/me/.local/share/uv/tools/mcp-backups",
        "/home/me/.local/share/pipx/venvs/mcp-backups",
        "/home/pipx/a checkout/.venv",
        "/srv/größe 😀/archive/venv",
    ],
)
def test_what_uv_and_pipx_install_is_started_by_its_absolute_path(folder: str) -> None:
    assert own_command(Path(folder) / "bin" / "python", Path(folder)).command == f"{folder}/bin/python"


@pytest.mark.parametrize(("windows", "name"), [(False, "mcp-backups"), (True, "mcp-backups.exe")])
def test_an_installation_is_started_by_its_script_and_without_one_by_its_module(
    tmp_path: Path, windows: bool, name: str
) -> None:
    python = tmp_path / "bin" / "python"
    assert own_command(python, tmp_path, windows=windows).words == (str(python), "-P", "-m", "mcp_backups")
    python.parent.mkdir()
    (tmp_path / "bin" / name).touch()
    assert own_command(python, tmp_path, windows=windows).words == (str(tmp_path / "bin" / name),)


def test_what_is_written_starts_this_server(machine: Machine) -> None:
    client = BY_KEY["cursor"]
    configure("cursor", write=True, token_in_file=False, sandbox=True, machine=machine)
    command, _ = started(client, read(client, client.path(machine).read_text(encoding="utf-8")))
    assert (command[-1], Path(command[0]).is_absolute()) == ("--sandbox", True)
    done = subprocess.run([*command[:-1], "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.startswith("mcp-backups ")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_on_the_sandbox_every_rule_stays_and_the_account_goes(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {"MCP_BACKUPS_APPROVAL": "human", "MCP_BACKUPS_PROTECTED_SERVERS": "12345", "MCP_BACKUPS_KEEP_MIN": "2"}
    for name, value in (rules | {"VPS_API_TOKEN": TOKEN, "VPS_API_URL": "https://other.example/api"}).items():
        monkeypatch.setenv(name, value)
    configure(client.key, write=True, token_in_file=False, sandbox=True, machine=machine)
    _, env = started(client, read(client, client.path(machine).read_text(encoding="utf-8")))
    assert env == rules | {"MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"]}
    assert "process for each call no plan can ever be confirmed" in capsys.readouterr().out


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_a_second_account_has_an_entry_and_a_question_of_its_own(client: Client, machine: Machine) -> None:
    for name in ("backups", "backups-2", "customer_b"):
        assert configure(client.key, write=True, token_in_file=False, name=name, machine=machine) == 0
    content = read(client, client.path(machine).read_text(encoding="utf-8"))
    assert list(content[client.section]) == ["backups", "backups-2", "customer_b"]
    if client.key == "vscode":
        asked = ["vps-api-token", "vps-api-token-backups-2", "vps-api-token-customer_b"]
        assert [each["id"] for each in content["inputs"]] == asked
        taken = [each["env"]["VPS_API_TOKEN"] for each in content["servers"].values()]
        assert taken == [f"${{input:{each}}}" for each in asked]


def test_that_a_second_account_needs_a_token_file_is_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    configure("cursor", write=False, token_in_file=False, name="customer-b", machine=machine)
    assert "name a token file for another account" in capsys.readouterr().out


def test_other_secrets_are_left_out_and_named_but_go_into_a_private_file() -> None:
    class More(Settings):
        notify: tuple[SecretStr, ...] = ()

    environ = {"MCP_BACKUPS_NOTIFY": "mailto://me:secret@example.org", "MCP_BACKUPS_KEEP_MIN": "2"}
    settings = More(vps_api_token=SecretStr(TOKEN))
    launch = with_settings(INSTALLED, settings, environ, token_in_file=False)
    assert (launch.variables, launch.left_out) == ({"MCP_BACKUPS_KEEP_MIN": "2"}, ("MCP_BACKUPS_NOTIFY",))
    launch = with_settings(INSTALLED, settings, environ, token_in_file=True)
    assert launch.variables == environ | {"VPS_API_TOKEN": TOKEN}
    assert launch.secrets == ("VPS_API_TOKEN", "MCP_BACKUPS_NOTIFY")


def test_a_path_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client starts the server in a folder of its own, and expands nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"MCP_BACKUPS_STATE_DIR": "~/state", "VPS_API_TOKEN_FILE": "~/token"}
    launch = with_settings(INSTALLED, Settings(), environ, token_in_file=False)
    assert launch.variables == {
        "MCP_BACKUPS_STATE_DIR": str(tmp_path / "state"),
        "VPS_API_TOKEN_FILE": str(tmp_path / "token"),
    }


def test_to_write_yaml_an_extra_is_needed_and_asked_for_in_one_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["config", "goose", "--write"]) == 2
    said = capsys.readouterr().err
    assert "the extra `yaml`: pip install '.[yaml]' in the folder" in said
    assert len(said.splitlines()) == 1
    assert not BY_KEY["goose"].path(machine).exists()


def test_goose_gets_every_rule_and_a_word_why_there_is_no_link(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_BACKUPS_READ_ONLY", "true")
    assert main(["config", "goose"]) == 0
    said = capsys.readouterr().out
    assert "goose://" not in said
    assert "its links start uvx, npx, docker and few others" in said
    own = yaml.safe_load(said.split("\n\n")[1])["extensions"]["backups"]
    assert (own["type"], own["enabled"], own["env_keys"]) == ("stdio", True, ["VPS_API_TOKEN"])
    assert own["envs"] == {"MCP_BACKUPS_READ_ONLY": "true", "MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"]}
    assert Path(own["cmd"]).is_absolute()


def test_codex_has_to_wait_for_the_server_and_its_user_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    own = tomllib.loads(shown(BY_KEY["codex"], INSTALLED))["mcp_servers"]["backups"]
    assert (own["required"], own["startup_timeout_sec"], own["env_vars"]) == (True, 30, ["VPS_API_TOKEN"])
    assert main(["config", "codex"]) == 0
    said = capsys.readouterr().out
    assert "a second to start" in said
    assert 'default_tools_approval_mode = "approve"' in said


PACKAGED = "Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude"


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ([], "Roaming/Claude"),
        (["Roaming/Claude/claude_desktop_config.json"], "Roaming/Claude"),
        (["Local/Packages/Other_1/LocalCache/Roaming/Claude/x"], "Roaming/Claude"),
        ([f"{PACKAGED}/logs"], PACKAGED),
        ([f"{PACKAGED}/claude_desktop_config.json"], PACKAGED),
        (["Roaming/Claude/claude_desktop_config.json", f"{PACKAGED}/logs"], PACKAGED),
        (["Local/Packages/Claude_a/LocalCache/Roaming/Claude/x", f"{PACKAGED}/claude_desktop_config.json"], PACKAGED),
    ],
)
def test_on_windows_claude_desktop_is_found_in_both_its_places(tmp_path: Path, there: list[str], taken: str) -> None:
    """Packaged, as it comes since February 2026, it sees no file outside its package."""
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    environ = {"APPDATA": str(tmp_path / "Roaming"), "LOCALAPPDATA": str(tmp_path / "Local")}
    machine = this_machine(environ, windows=True)
    assert BY_KEY["claude-desktop"].path(machine) == tmp_path / taken / "claude_desktop_config.json"


@pytest.mark.parametrize(
    ("key", "variable", "file"),
    [
        ("codex", "CODEX_HOME", "config.toml"),
        ("copilot", "COPILOT_HOME", "mcp-config.json"),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json"),
        ("zed", "XDG_CONFIG_HOME", "zed/settings.json"),
        ("goose", "XDG_CONFIG_HOME", "goose/config.yaml"),
    ],
)
def test_a_client_that_is_told_to_keep_its_file_elsewhere_finds_it_there(
    key: str, variable: str, file: str, tmp_path: Path
) -> None:
    assert BY_KEY[key].path(this_machine({variable: str(tmp_path)}, windows=False)) == tmp_path / file


@pytest.mark.parametrize("folder", ["~/codex", "codex", "./codex"])
@pytest.mark.parametrize("key", ["codex", "copilot", "opencode", "zed", "goose"])
def test_where_that_is_no_absolute_path_nothing_is_written_into_the_folder_of_the_call(key: str, folder: str) -> None:
    variable = {"codex": "CODEX_HOME", "copilot": "COPILOT_HOME"}.get(key, "XDG_CONFIG_HOME")
    with pytest.raises(ConfigError, match=f"{variable} must be an absolute path"):
        BY_KEY[key].path(this_machine({variable: folder}, windows=False))


@pytest.mark.skipif(os.name == "nt", reason="HOME tells nothing there")
def test_nor_where_home_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    with pytest.raises(ConfigError, match="HOME must be an absolute path"):
        this_machine({})
    with pytest.raises(ConfigError, match="home folder or this folder cannot be found: set HOME"):
        this_machine({"HOME": ""})


def test_opencodes_file_with_comments_is_taken_where_there_is_one(machine: Machine) -> None:
    plain = BY_KEY["opencode"].path(machine)
    plain.parent.mkdir(parents=True)
    plain.with_suffix(".jsonc").touch()
    assert BY_KEY["opencode"].path(machine) == plain.with_suffix(".jsonc")


ODD = "/tmp/\x1b[31m\x07\r\nForged: \u202e\u2066\x9b31m\u200b\u2028\x7f/x"


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
@pytest.mark.parametrize("http", ["", "http://127.0.0.1:8765/mcp"], ids=["started", "over HTTP"])
def test_no_folder_makes_a_terminal_do_anything(
    client: Client, http: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is called so may be a folder of a repository that somebody else made."""
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path) + ODD)
    machine = Machine(Path(ODD), Path(ODD), Path(ODD), windows=False)
    assert configure(client.key, write=False, token_in_file=False, http=http, machine=machine) == 0
    lines = capsys.readouterr().out.split("\n")
    assert all(line.isprintable() and not line.startswith("Forged") for line in lines)
    if not http:
        text = "\n".join(lines).split("\n\n")[1]
        assert started(client, read(client, text))[1]["MCP_BACKUPS_STATE_DIR"] == str(tmp_path) + ODD


def test_without_a_home_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(nobody))
    with pytest.raises(ConfigError, match="home folder"):
        this_machine({})


def test_without_a_client_they_are_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.split("\n\n")[0].splitlines()]
    assert listed == [client.key for client in CLIENTS]


def test_the_page_of_clients_has_what_the_command_prints() -> None:
    """If this fails, put what `mcp_backups.commands.config.forms.section()` returns between the markers."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text[text.index(BEGIN) : text.index(END) + len(END)] == section()
