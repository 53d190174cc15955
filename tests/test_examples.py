"""The examples run as their docstrings say, against a server of their own with the sandbox behind it."""

import os
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


def test_every_example_is_run_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"backup_before_change.py", "confirm_a_delete.py"}
