"""`mcp-backups config`: every client gets a form that starts this server, and no file loses what it held."""

import base64
import json
import os
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.cli import main
from mcp_backups.clients import configure
from mcp_backups.clients.catalogue import CLIENTS, Client, Machine, this_machine
from mcp_backups.clients.files import CannotMergeError, merged, replace_file
from mcp_backups.clients.forms import add_command, entry, link, web_link
from mcp_backups.clients.launch import PUBLISHED, Launch, own_command
from mcp_backups.clients.readme import BEGIN, END, section
from mcp_backups.errors import ConfigError
from tests.process import PATIENCE
from tests.stage import MakeSettings

README = Path(__file__).parent.parent / "README.md"
TOKEN = "vps_tests_own_token"

BY_KEY = {client.key: client for client in CLIENTS}
WITH_FILE = [client for client in CLIENTS if client.path]
IN_JSON = [client for client in WITH_FILE if not client.toml]

FOREIGN = {
    "theme": "dark",
    "größe": 1.5,
    "nothing": None,
    "inputs": [{"type": "promptString", "id": "token", "description": "of another server", "password": True}],
    **{client.section: {"other": {"command": "npx", "args": ["other"]}} for client in IN_JSON},
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home", tmp_path / "project", tmp_path / "config")


@pytest.fixture(autouse=True)
def settings_file(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings file, in an environment without settings."""
    make_settings()
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(config))
    return config


def path_of(client: Client, machine: Machine) -> Path:
    assert client.path is not None
    return client.path(machine)


def read(client: Client, text: str) -> dict[str, Any]:
    """A client's file as the client reads it."""
    content = tomllib.loads(text) if client.toml else json.loads(text)
    assert isinstance(content, dict)
    return content


def started(client: Client, content: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The command that a client starts, and what it puts into the environment as its file spells it."""
    own = content[client.section]["backups"]
    if client.key == "opencode":
        return own["command"], own["environment"]
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
        ("copilot", "${VPS_API_TOKEN}"),
        ("opencode", "{env:VPS_API_TOKEN}"),
        ("windsurf", "${env:VPS_API_TOKEN}"),
        ("zed", None),
        ("junie", None),
    ],
)
def test_the_token_is_referred_to_in_the_clients_own_way_or_left_out(
    key: str, variable: str | None, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    client = BY_KEY[key]
    assert configure(key, write=True, token_in_file=False, machine=machine) == 0
    text = path_of(client, machine).read_text(encoding="utf-8")
    assert TOKEN not in text
    assert started(client, read(client, text))[1].get("VPS_API_TOKEN") == variable


def test_every_client_with_a_file_is_in_that_table() -> None:
    (table,) = (
        mark
        for mark in test_the_token_is_referred_to_in_the_clients_own_way_or_left_out.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert [key for key, _ in table.args[1]] == [client.key for client in WITH_FILE]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_what_is_printed_never_shows_the_token(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    assert configure(client.key, write=False, token_in_file=False, machine=machine) == 0
    said = capsys.readouterr()
    assert (TOKEN in said.out, said.err) == (False, "")
    assert not list(machine.home.parent.glob("home/**/*"))


@pytest.mark.parametrize("client", WITH_FILE, ids=lambda client: client.key)
def test_the_token_is_written_down_where_that_is_asked_for(
    client: Client, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    assert configure(client.key, write=True, token_in_file=True, machine=machine) == 0
    path = path_of(client, machine)
    assert started(client, read(client, path.read_text(encoding="utf-8")))[1] == {
        "MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"],
        "VPS_API_TOKEN": TOKEN,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("key", ["cursor", "goose"])
def test_a_token_cannot_be_written_down_where_there_is_none_or_no_file(key: str, machine: Machine) -> None:
    with pytest.raises(ConfigError):
        configure(key, write=False, token_in_file=True, machine=machine)


@pytest.mark.parametrize("client", WITH_FILE, ids=lambda client: client.key)
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
    content = read(client, path_of(client, machine).read_text(encoding="utf-8"))
    assert started(client, content)[1] == {
        "MCP_BACKUPS_CONFIG": os.environ["MCP_BACKUPS_CONFIG"],
        "MCP_BACKUPS_READ_ONLY": "true",
        "VPS_API_TOKEN_FILE": str(tmp_path / "token"),
    }


def test_a_token_in_the_settings_file_needs_no_word_in_the_clients(settings_file: Path, machine: Machine) -> None:
    settings_file.write_text(f'vps_api_token = "{TOKEN}"\n')
    configure("cursor", write=True, token_in_file=False, machine=machine)
    text = path_of(BY_KEY["cursor"], machine).read_text(encoding="utf-8")
    assert "VPS_API_TOKEN" not in text


@pytest.mark.parametrize("client", IN_JSON, ids=lambda client: client.key)
@pytest.mark.parametrize("indent", [2, 4, "\t"])
def test_what_else_stands_in_the_file_stays_as_it_is(client: Client, machine: Machine, indent: int | str) -> None:
    path = path_of(client, machine)
    path.parent.mkdir(parents=True)
    before = json.dumps(FOREIGN, indent=indent, ensure_ascii=False) + "\n"
    path.write_text(before, encoding="utf-8")
    path.chmod(0o640)
    assert configure(client.key, write=True, token_in_file=False, machine=machine) == 0
    after = path.read_text(encoding="utf-8")
    content = read(client, after)
    assert content[client.section].pop("backups")
    assert content.pop("inputs")[:1] == FOREIGN["inputs"]
    assert content == {name: value for name, value in FOREIGN.items() if name != "inputs"}
    assert after.startswith(before.split('"theme"')[0])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    (backup,) = path.parent.glob("*.bak")
    assert (backup.read_text(encoding="utf-8"), stat.S_IMODE(backup.stat().st_mode)) == (before, 0o640)


@pytest.mark.parametrize("client", WITH_FILE, ids=lambda client: client.key)
def test_a_second_time_changes_nothing(client: Client, machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert configure(client.key, write=True, token_in_file=False, machine=machine) == 0
    path = path_of(client, machine)
    assert "has it already" in capsys.readouterr().out
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_no_copy_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("first")
    copies = [replace_file(path, text) for text in ("second", "third")]
    assert [copy.read_text() for copy in copies if copy] == ["first", "second"]
    assert path.read_text() == "third"


def test_what_cannot_be_written_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("first")
    with pytest.raises(UnicodeEncodeError):
        replace_file(path, "half a character: \ud800")
    assert [(each.name, each.read_text()) for each in sorted(tmp_path.iterdir()) if each.is_file()] == [
        ("config.toml", ""),
        ("file.json", "first"),
    ]


def test_half_a_character_that_json_can_spell_out_stays(machine: Machine) -> None:
    path = path_of(BY_KEY["cursor"], machine)
    path.parent.mkdir(parents=True)
    path.write_text('{"odd": "\\ud800"}')
    assert configure("cursor", write=True, token_in_file=False, machine=machine) == 0
    assert json.loads(path.read_text(encoding="utf-8"))["odd"] == "\ud800"


@pytest.mark.skipif(os.name == "nt", reason="a user's folder has another name there")
def test_files_are_those_of_this_user_and_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert path_of(BY_KEY["cursor"], this_machine()) == tmp_path / ".cursor" / "mcp.json"
    assert path_of(BY_KEY["vscode"], this_machine()) == tmp_path / ".vscode" / "mcp.json"


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    """As those have it who keep such files under version control elsewhere."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to(tmp_path / "kept" / "real.json")
    replace_file(tmp_path / "link.json", "[]")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "kept" / "real.json").read_text() == "[]"


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("zed", '{\n  // my theme\n  "theme": "dark"\n}', "comments, perhaps"),
        ("zed", '{"theme": "dark",}', "comments, perhaps"),
        ("cursor", '{"a": 1, "a": 2}', "comments, perhaps"),
        ("cursor", '{"a": NaN}', "comments, perhaps"),
        ("cursor", "[" * 100_000, "comments, perhaps"),
        ("cursor", "[]", "no JSON object"),
        ("cursor", '{"mcpServers": []}', "'mcpServers' is no object"),
        ("cursor", '{"mcpServers": {"backups": {"command": "restic"}}}', "another server of the name 'backups'"),
        ("vscode", '{"inputs": {}}', "'inputs' are no list"),
        ("codex", "a = = 1", "not valid TOML"),
        ("codex", "mcp_servers = 1", "'mcp_servers' is no object"),
        ("codex", "mcp_servers = { other = { command = 'npx' } }", "takes no further table"),
        ("codex", "[mcp_servers.backups]\ncommand = 'restic'", "another [mcp_servers.backups]"),
        ("cursor", "\udcff", "cannot be read"),
    ],
)
def test_a_file_that_would_not_survive_is_left_alone_and_the_form_is_printed(
    key: str, text: str, reason: str, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    client = BY_KEY[key]
    path = path_of(client, machine)
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert configure(key, write=True, token_in_file=False, machine=machine) == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert len(said.err.splitlines()) == 1
    assert started(client, read(client, said.out))
    assert [each.read_bytes() for each in path.parent.iterdir()] == [text.encode(errors="surrogateescape")]


def test_what_a_user_has_added_to_our_entry_stays() -> None:
    client = BY_KEY["cursor"]
    own = {"command": "uvx", "args": ["mcp-backups"], "disabled": True}
    env = {"MCP_BACKUPS_READ_ONLY": "true", "VPS_API_TOKEN_FILE": "/gone"}
    before = json.dumps({"mcpServers": {"backups": own | {"env": env}}})
    after = json.loads(merged(before, client, PUBLISHED))["mcpServers"]["backups"]
    assert after == own | {"env": {"MCP_BACKUPS_READ_ONLY": "true", "VPS_API_TOKEN": "${env:VPS_API_TOKEN}"}}


@pytest.mark.parametrize(
    "before",
    ["", "model = 'o'\n", "model = 'o'", "# mine\r\n[mcp_servers.other]\r\ncommand = 'npx'\r\n", "[a]\nb = 1\n\n"],
)
def test_a_toml_file_keeps_every_byte_that_it_had(before: str) -> None:
    client, variables = BY_KEY["codex"], {"MCP_BACKUPS_CONFIG": 'C:\\a "b"\x7f'}
    launch = Launch("uvx", ("mcp-backups",), variables, refers=True)
    after = merged(before, client, launch)
    assert after.startswith(before)
    assert tomllib.loads(after)["mcp_servers"]["backups"] == entry(client, launch)
    assert merged(after, client, launch) == after
    assert ("\r\n" in before) == ("\r\n" in after)
    assert "\n" not in after.replace("\r\n", "") or "\r\n" not in before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4), st.sampled_from(IN_JSON), st.sampled_from(["\n", "\r\n"]))
def test_whatever_a_json_file_holds_is_there_afterwards(content: dict[str, Any], client: Client, end: str) -> None:
    text = json.dumps(content, indent=2).replace("\n", end)
    try:
        after = json.loads(merged(text, client, PUBLISHED))
    except CannotMergeError:
        assert isinstance(content.get(client.section, {}), dict) is False or "inputs" in content
        return
    assert started(client, after)[0] == ["uvx", "mcp-backups"]
    mine = {client.section, "inputs"} if client.key == "vscode" else {client.section}
    assert {name: value for name, value in after.items() if name not in mine} == {
        name: value for name, value in content.items() if name not in mine
    }


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("claude-code", "claude mcp add backups -e VPS_API_TOKEN=… -- uvx mcp-backups"),
        ("codex", "codex mcp add backups --env VPS_API_TOKEN=… -- uvx mcp-backups"),
        ("gemini", "gemini mcp add backups uvx mcp-backups -e 'VPS_API_TOKEN=$VPS_API_TOKEN'"),
        ("copilot", "copilot mcp add backups --env 'VPS_API_TOKEN=${VPS_API_TOKEN}' -- uvx mcp-backups"),
        ("cursor", ""),
    ],
)
def test_a_clients_own_command_is_given_in_its_own_form(key: str, line: str) -> None:
    assert add_command(BY_KEY[key], PUBLISHED) == line


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
    cursor, vscode, goose = (BY_KEY[key] for key in ("cursor", "vscode", "goose"))
    for address in (link(cursor, PUBLISHED), web_link(cursor, PUBLISHED)):
        asked = parse_qs(urlsplit(address).query)
        assert asked["name"] == ["backups"]
        assert json.loads(base64.b64decode(asked["config"][0])) == entry(cursor, PUBLISHED)
    assert link(cursor, PUBLISHED).startswith("cursor://anysphere.cursor-deeplink/mcp/install?")
    address = link(vscode, PUBLISHED)
    content = json.loads(unquote(address.removeprefix("vscode:mcp/install?")))
    assert content["inputs"][0]["id"] == "vps-api-token"
    assert content.items() >= ({"name": "backups"} | entry(vscode, PUBLISHED)).items()
    assert parse_qs(urlsplit(web_link(vscode, PUBLISHED)).query) == {"url": [address]}
    assert link(goose, PUBLISHED).startswith("goose://extension?cmd=uvx&arg=mcp-backups&id=backups&name=Backups&")


@pytest.mark.parametrize("key", ["cursor", "vscode"])
def test_no_link_holds_a_token(key: str) -> None:
    launch = Launch("uvx", ("mcp-backups",), {"VPS_API_TOKEN": TOKEN}, refers=False)
    assert link(BY_KEY[key], launch) == ""


def test_through_uvx_it_is_started_through_uvx() -> None:
    cache = Path("/home/me/.cache/uv/archive-v0/x1")
    assert own_command(cache / "bin" / "python", cache).words == ("uvx", "mcp-backups")


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
    command, env = started(client, read(client, path_of(client, machine).read_text(encoding="utf-8")))
    assert (command[-1], env) == ("--sandbox", {})
    done = subprocess.run([*command[:-1], "--version"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.startswith("mcp-backups ")


def test_without_a_client_they_are_all_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.split("\n\n")[0].splitlines()]
    assert listed == [client.key for client in CLIENTS]


@pytest.mark.parametrize(
    ("arguments", "said"), [(["notepad"], "There is no client of that name"), (["goose", "--write"], "link to open")]
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_others_who_could_read_the_token_are_told_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", TOKEN)
    path = path_of(BY_KEY["junie"], machine)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    path.chmod(0o644)
    assert configure("junie", write=True, token_in_file=True, machine=machine) == 0
    assert "chmod 600" in capsys.readouterr().err


def test_the_readme_has_what_the_command_prints() -> None:
    """If this fails, put what `mcp_backups.clients.readme.section()` returns between the markers."""
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text[text.index(BEGIN) : text.index(END) + len(END)] == section()
