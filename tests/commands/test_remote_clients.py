"""`mcp-backups config CLIENT --http`: address and header, each in the client's own form, and never the token."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcp_backups.access import local_token
from mcp_backups.cli import main
from mcp_backups.commands.config.catalogue import CLIENTS, Client
from tests.process import PATIENCE
from tests.stage import MakeSettings

URL = "http://127.0.0.1:8765/mcp"


@pytest.fixture(autouse=True)
def token(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The access token of an installation that has served before."""
    make_settings()
    (tmp_path / "config.toml").touch(mode=0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state of mine"))
    monkeypatch.chdir(tmp_path)
    return local_token(tmp_path / "state of mine")


def entry(printed: str, name: str = "backups") -> dict[str, Any]:
    """The entry that is printed, as the client reads it."""
    form = printed.split(":\n\n", 1)[1].partition("\n\n")[0]
    if form.startswith("["):
        content = tomllib.loads(form)
    else:
        content = json.loads(form) if form.startswith("{") else yaml.safe_load(form)
    (section,) = (value for key, value in content.items() if key != "inputs")
    found: dict[str, Any] = section[name]
    return found


@pytest.mark.parametrize(
    ("key", "field", "bearer"),
    [
        ("claude-code", "url", "${BACKUPS_ACCESS_TOKEN:-}"),
        ("cursor", "url", "${env:BACKUPS_ACCESS_TOKEN}"),
        ("vscode", "url", "${input:backups-access-token}"),
        ("codex", "url", "BACKUPS_ACCESS_TOKEN"),
        ("gemini", "httpUrl", "$BACKUPS_ACCESS_TOKEN"),
        ("copilot", "url", "${BACKUPS_ACCESS_TOKEN:-}"),
        ("opencode", "url", "{env:BACKUPS_ACCESS_TOKEN}"),
        ("windsurf", "serverUrl", "${env:BACKUPS_ACCESS_TOKEN}"),
        ("zed", "url", "…"),
        ("junie", "url", "…"),
        ("goose", "uri", "${BACKUPS_ACCESS_TOKEN}"),
    ],
)
def test_each_client_names_the_token_in_its_own_way(
    key: str, field: str, bearer: str, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", key, "--http"]) == 0
    printed = capsys.readouterr().out
    own = entry(printed)
    assert own[field] == URL
    if key == "codex":
        assert own["bearer_token_env_var"] == bearer
    else:
        assert own["headers"] == {"Authorization": f"Bearer {bearer}"}
    assert token not in printed
    assert "access.token" in printed


def test_every_client_is_in_that_table_but_one_that_takes_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = (
        mark
        for mark in test_each_client_names_the_token_in_its_own_way.pytestmark  # type: ignore[attr-defined]
        if mark.name == "parametrize"
    )
    assert {"claude-desktop", *(key for key, *_ in table.args[1])} == {client.key for client in CLIENTS}
    assert main(["config", "claude-desktop", "--http"]) == 0
    printed = capsys.readouterr().out
    assert URL in printed
    assert "`mcp-backups config claude-desktop`" in printed


def test_what_is_to_be_exported_is_the_token(token: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "cursor", "--http", "--name", "customer-b"]) == 0
    printed = capsys.readouterr().out
    variable = "BACKUPS_ACCESS_TOKEN_CUSTOMER_B"
    assert entry(printed, "customer-b")["headers"] == {"Authorization": f"Bearer ${{env:{variable}}}"}
    (export,) = (line for line in printed.splitlines() if line.startswith("export "))
    shell = shutil.which("sh")
    assert shell
    told = subprocess.run(
        [shell, "-c", f'{export}; printf %s "${variable}"'],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert told.stdout == token


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("https://backups.example.com/mcp", False),
        ("http://10.0.0.5:8765/mcp", False),
        ("https://127.0.0.1.example.com/mcp", False),
        ("http://127.0.0.1:9000/mcp", True),
        ("http://localhost:8765/mcp", True),
        ("http://[::1]:8765/mcp", True),
    ],
)
def test_another_address_may_be_given_and_only_one_of_this_machine_takes_its_users_token(
    url: str, is_here: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "cursor", "--http", url]) == 0
    printed = capsys.readouterr().out
    assert entry(printed)["url"] == url
    assert ("access.token" in printed, "tokens add NAME" in printed) == (is_here, not is_here)
    assert ("Beware: over http" in printed) == (not is_here and url.startswith("http:"))


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_for_a_server_of_a_team_its_address_is_told_and_no_file_of_this_machine(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MCP_BACKUPS_HTTP_URL", "https://backups.example.com")
    assert main(["config", client.key, "--http"]) == 0
    by_token = capsys.readouterr().out
    assert "https://backups.example.com/mcp" in by_token
    assert "access.token" not in by_token
    monkeypatch.setenv("MCP_BACKUPS_OAUTH_ISSUER", "https://login.example.com")
    assert main(["config", client.key, "--http"]) == 0
    by_login = capsys.readouterr().out
    assert "https://backups.example.com/mcp" in by_login
    assert not any(word in by_login for word in ("Bearer", "ACCESS_TOKEN", "access-token"))


@pytest.mark.parametrize("option", ["--write", "--sandbox", "--token-in-file"])
def test_it_is_only_printed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "cursor", "--http", URL, option]) == 2
    assert "--http is only printed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "backups.example.com",
        "ftp://x/mcp",
        "http://",
        "http://a b",
        "https://ä.example",
        "https://[",
        "https://me:secret@x/mcp",
    ],
)
def test_what_is_no_address_is_told(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "cursor", "--http", url]) == 2
    assert "--http takes the address of a server" in capsys.readouterr().err
