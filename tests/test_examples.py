"""The examples run as their docstrings say, against a server of their own with the sandbox behind it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SERVER = ("--", sys.executable, "-m", "mcp_backups", "--sandbox", "--backup-seconds", "1")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Neither account nor settings of whoever runs the tests."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    (tmp_path / "config.toml").touch()
    return bare | {"MCP_BACKUPS_CONFIG": str(tmp_path / "config.toml")}


def run(environment: dict[str, str], name: str, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / name), *arguments, *SERVER]
    return subprocess.run(
        command, env=environment, input=typed, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_change_may_begin_when_the_backup_is_finished(environment: dict[str, str]) -> None:
    ended = run(environment, "backup_before_change.py", "12345")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "Backup 502 of server 12345 is finished.\n"


def test_a_change_may_not_begin_when_there_is_no_backup(environment: dict[str, str]) -> None:
    ended = run(environment, "backup_before_change.py", "99")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("not_found: ")


def test_a_person_who_types_yes_has_the_backup_deleted(environment: dict[str, str]) -> None:
    ended = run(environment, "confirm_a_delete.py", "499", typed="yes\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Delete backup 499 for good?")
    assert "\nsucceeded: Backup 499 of server 12345 is deleted." in ended.stdout


@pytest.mark.parametrize("typed", ["no\n", "y\n", "\n"])
def test_anything_but_yes_deletes_nothing(environment: dict[str, str], typed: str) -> None:
    ended = run(environment, "confirm_a_delete.py", "499", typed=typed)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "\ndeclined: The user was asked, and said no. Nothing was changed." in ended.stdout


def test_nobody_is_asked_about_what_the_rules_forbid(environment: dict[str, str]) -> None:
    """447 is the last good backup of its server."""
    ended = run(environment, "confirm_a_delete.py", "447", typed="yes\n")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("policy_denied: ")


def test_a_person_who_types_the_servers_name_has_it_restored_once_it_is_safe(environment: dict[str, str]) -> None:
    ended = run(environment, "ask_the_user.py", "12351", "383", typed="mail-server-01\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Restore server 12351 to backup 383?")
    assert ended.stdout.count("Type the server's name to restore it:") == 1
    assert ended.stdout.endswith("\nTo undo it: restore_server(server_id=12351, backup_id=502)\n")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("mail-server-02\n", "declined: The user was asked, and the answer did not confirm it. Nothing was changed."),
        ("\n", "declined: The user was asked, and said no. Nothing was changed."),
    ],
)
def test_anything_but_the_servers_name_restores_nothing(environment: dict[str, str], typed: str, told: str) -> None:
    ended = run(environment, "ask_the_user.py", "12351", "383", typed=typed)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert told in ended.stdout


@pytest.mark.parametrize(
    ("leave", "code", "told"),
    [
        (5, 0, ["Backup {} of server 12345 is deleted."] * 2),
        (17, 1, ["Backup {} of server 12345 is deleted.", "Backup {} stays: 16 good backups would be left."]),
        (18, 1, ["Backup {} stays: 17 good backups would be left.", "Backup {} stays: 17 good backups would be left."]),
    ],
)
def test_a_runbook_deletes_what_its_own_rule_allows(
    environment: dict[str, str], leave: int, code: int, told: list[str]
) -> None:
    arguments = ("--older-than-days", "7", "--leave", str(leave), "12345")
    ended = run(environment, "runbook.py", *arguments)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert [re.sub(r"Backup \d+", "Backup {}", line) for line in ended.stdout.splitlines()] == told


def test_a_runbook_stops_at_the_rules_of_the_operator(environment: dict[str, str]) -> None:
    """447 is the last good backup of its server."""
    ended = run(environment, "runbook.py", "--older-than-days", "1", "--leave", "0", "12362")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("policy_denied: ")


def test_every_example_is_run_here() -> None:
    examples = {"ask_the_user.py", "backup_before_change.py", "confirm_a_delete.py", "runbook.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == examples
