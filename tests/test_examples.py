"""The examples run as their docstrings say, against a server of their own with the sandbox behind it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
import yaml
from pydantic import SecretStr

from mcp_backups.commands.check import metric_lines
from mcp_backups.health import FleetHealth
from mcp_backups.operations import Decision, Operation, decide, pending
from mcp_backups.sandbox import Emulator, Fault, serve_in_thread
from mcp_backups.sandbox.fleet import Backup
from mcp_backups.settings import Settings
from mcp_backups.transport import open_idle_context
from tests.stage import NOW

from .commands.test_check import DAY, keep_only
from .commands.test_watching import watching

pytestmark = pytest.mark.unmeasured

EXAMPLES = Path(__file__).parent.parent / "examples"
SERVER = ("--", sys.executable, "-m", "mcp_backups", "--sandbox", "--backup-seconds", "1")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Neither account nor settings of whoever runs the tests."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    (tmp_path / "config.toml").touch()
    return bare | {"MCP_BACKUPS_CONFIG": str(tmp_path / "config.toml")}


@pytest.fixture
def account() -> Iterator[Emulator]:
    """An account for examples that need one which lasts."""
    with serve_in_thread(Emulator()) as emulator:
        yield emulator


@pytest.fixture
def of_account(environment: dict[str, str], account: Emulator, tmp_path: Path) -> dict[str, str]:
    """The settings of that account, and `mcp-backups` on the path."""
    return environment | {
        "VPS_API_URL": account.base_url,
        "VPS_API_TOKEN": account.token,
        "MCP_BACKUPS_STATE_DIR": str(tmp_path / "state"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


def run(environment: dict[str, str], name: str, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return finished([sys.executable, str(EXAMPLES / name), *arguments, *SERVER], environment, typed)


def finished(command: list[str], environment: dict[str, str], typed: str = "") -> subprocess.CompletedProcess[str]:
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
    assert ended.stdout.startswith("Delete backup 499 of server 12345 ")
    assert "\nsucceeded: Backup 499 of server 12345 is deleted." in ended.stdout


@pytest.mark.parametrize("typed", ["no\n", "y\n", "\n"])
def test_anything_but_yes_deletes_nothing(environment: dict[str, str], typed: str) -> None:
    ended = run(environment, "confirm_a_delete.py", "499", typed=typed)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "\ndeclined: The client answered no to the question." in ended.stdout


def test_nobody_is_asked_about_what_the_rules_forbid(environment: dict[str, str]) -> None:
    """447 is the last good backup of its server."""
    ended = run(environment, "confirm_a_delete.py", "447", typed="yes\n")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("policy_denied: ")


def test_a_person_who_types_the_servers_name_has_it_restored_once_it_is_safe(environment: dict[str, str]) -> None:
    ended = run(environment, "ask_the_user.py", "12351", "383", typed="mail-server-01\n")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith('Restore server 12351 "mail-server-01" to backup 383?')
    assert ended.stdout.count("Type the server's name to restore it:") == 1
    assert ended.stdout.endswith("\nTo undo it: restore_server(server_id=12351, backup_id=502)\n")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            "mail-server-02\n",
            "declined: The question was answered, and the answer did not confirm it. Nothing was changed.",
        ),
        ("\n", "declined: The client answered no to the question."),
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
        (17, 1, ["Backup {} of server 12345 is deleted.", "Backup {} stays: 16 proven backups would be left."]),
        (
            18,
            1,
            ["Backup {} stays: 17 proven backups would be left.", "Backup {} stays: 17 proven backups would be left."],
        ),
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


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--keep-last", "1", "12345"), 0, "2 of 3 manual backups of server 12345 are deleted.\n"),
        (("--keep-last", "9", "12345"), 0, "0 of 3 manual backups of server 12345 are deleted. Nothing was changed.\n"),
        (
            ("--keep-last", "1", "--at-most", "1", "12345"),
            1,
            "Nothing was deleted: 2 backups are more than one night should delete (1).\n",
        ),
        (
            ("12345",),
            1,
            "invalid_argument: keep_last, keep_daily, keep_weekly, keep_monthly and older_than_days are all 0",
        ),
    ],
    ids=str,
)
def test_a_nightly_prune_deletes_what_its_own_rule_allows(
    environment: dict[str, str], arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = run(environment, "nightly_retention.py", *arguments)
    assert ended.returncode == code
    assert (ended.stdout + ended.stderr).startswith(told)


def test_a_nightly_prune_goes_on_with_what_was_interrupted_until_the_budget_is_used_up(
    account: Emulator, of_account: dict[str, str]
) -> None:
    now = datetime.now(UTC)
    for number in range(1000, 1014):
        made = now - timedelta(days=number - 998)
        account.fleet.backups[number] = Backup(number, 12360, made, "manual", size_mb=100, description="Nightly")
    account.fail(Fault.status(403, {"detail": "not now"}), method="GET", skip=6)
    command = [sys.executable, str(EXAMPLES / "nightly_retention.py"), "--keep-last", "2", "12360"]
    ended = finished([*command, "--", sys.executable, "-m", "mcp_backups"], of_account)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == "10 of 14 manual backups of server 12360 are deleted.\n"
    assert account.count("DELETE") == 10
    assert sorted(backup.id for backup in account.fleet.backups_of(12360)) == [1000, 1001, 1002, 1003]


def test_a_delete_waits_for_an_approver_however_often_it_is_asked_for(
    account: Emulator, of_account: dict[str, str]
) -> None:
    command = [sys.executable, str(EXAMPLES / "ask_an_approver.py"), "499", "--", sys.executable, "-m", "mcp_backups"]
    first, again = finished(command, of_account), finished(command, of_account)
    assert (first.returncode, first.stderr, account.count("DELETE")) == (3, "", 0)
    assert (again.returncode, again.stdout) == (3, first.stdout)
    settings = Settings(
        state_dir=Path(of_account["MCP_BACKUPS_STATE_DIR"]),
        vps_api_url=account.base_url,
        vps_api_token=SecretStr(account.token),
    )

    async def decide_on_it() -> Operation:
        async with open_idle_context(settings) as context:
            (one,) = await pending(context)
            decision = Decision(by="alice", how="terminal", at=context.moment(), plan=one.mac)
            return await decide(context, one.operation.id, decision, approve=True)

    assert first.stdout.startswith(anyio.run(decide_on_it).id)
    ended = finished([*command[:2], "--wait-minutes", "1", *command[2:]], of_account)
    assert (ended.returncode, "is deleted." in ended.stdout, account.count("DELETE")) == (0, True, 1)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("12345",), 0, "Server 12345 has a good backup younger than 24h: the deployment may begin.\n"),
        (("12345", "4h"), 1, "Server 12345 has no good backup younger than 4h: make one first.\n"),
        (("12360",), 1, "Server 12360 has no good backup younger than 24h: make one first.\n"),
        (("999",), 3, "Whether server 999 has a good backup cannot be told: no deployment.\n"),
    ],
    ids=str,
)
def test_a_deployment_may_begin_when_its_server_has_a_fresh_backup(
    of_account: dict[str, str], arguments: tuple[str, ...], code: int, told: str
) -> None:
    ended = finished([str(EXAMPLES / "pre_deploy_gate.sh"), *arguments], of_account)
    assert (ended.returncode, ended.stderr) == (code, told)
    assert json.loads(ended.stdout)["verdict"] == {0: "ok", 1: "not_ok", 3: "cannot_tell"}[code]


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_no_doubt_opens_the_gate_to_a_deployment(account: Emulator, of_account: dict[str, str]) -> None:
    account.fail(Fault.status(403, {"detail": "no"}), times=None)
    gate = str(EXAMPLES / "pre_deploy_gate.sh")
    assert finished([gate, "12345"], of_account).returncode == 3
    assert finished([gate, "12345"], of_account | {"VPS_API_URL": "nonsense"}).returncode == 2
    assert finished([gate], of_account).returncode != 0


WATCH = EXAMPLES / "watch"


def command_in(name: str) -> str:
    """The shell's words that a schedule runs a check by."""
    text = (WATCH / name).read_text(encoding="utf-8")
    if name == "crontab":
        command = re.search(r"^(?:[\d*]+ ){5}(.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
        assert "%" not in command, "which cron takes for the end of a line"
        return str(command)
    if name.endswith(".service"):
        return re.search(r"^ExecStart=/usr/local/bin/(.*)$", text, re.MULTILINE)[1]  # type: ignore[index]
    (step,) = [step for step in yaml.safe_load(text)["jobs"]["check"]["steps"] if "check" in step["run"]]
    return str(step["run"])


@pytest.mark.skipif(os.name == "nt", reason="a shell's command")
@pytest.mark.parametrize("name", ["crontab", "mcp-backups-check.service", "github-actions.yml"])
def test_what_a_schedule_runs_checks_and_tells(
    account: Emulator, of_account: dict[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / ".config" / "mcp-backups").mkdir(parents=True)
    with watching(200) as monitor:
        for place in (tmp_path / ".config" / "mcp-backups" / "ping", tmp_path / "ping"):
            place.write_text(monitor.url)
        # What systemd fills in, and the collector's folder.
        command = command_in(name).replace("%d", str(tmp_path)).replace("/var/lib/node-exporter", str(tmp_path))
        environment = of_account | {"HOME": str(tmp_path), "PING_URL": monitor.url}
        told = finished(["/bin/sh", "-c", command], environment)
        assert "not_ok: Of 8 servers 4 have" in told.stdout
        assert monitor.asked == ["/URL/start", "/URL/fail"]
        keep_only(account.fleet, 12345, 12346)
        quiet = finished(["/bin/sh", "-c", command], environment)
        assert (quiet.returncode, quiet.stderr) == (0, "")
        assert (quiet.stdout == "") == (name == "crontab"), "cron mails whatever is printed"
    assert (tmp_path / "mcp_backups.prom").exists() == name.endswith(".service")


def test_the_rules_for_prometheus_name_what_is_written() -> None:
    written = set(
        re.findall(r"^# TYPE (\w+)", "\n".join(metric_lines(FleetHealth((), DAY, NOW, (), "ok"), NOW)), re.MULTILINE)
    )
    rules = yaml.safe_load((WATCH / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    named = {name for rule in rules for name in re.findall(r"\bmcp_backups_\w+", rule["expr"])}
    assert len(rules) == 3
    assert named <= written


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    units = [str(shutil.copy(path, tmp_path)) for path in sorted(WATCH.glob("mcp-backups-check.*"))]
    assert len(units) == 2
    told = finished(["systemd-analyze", "verify", *units], dict(os.environ)).stderr
    faults = [line for line in told.splitlines() if tmp_path.name in line or "mcp-backups-check" in line]
    assert [line for line in faults if "is not executable" not in line] == []  # since it is not installed there


AGENT_PYTHONS = [python for python in os.environ.get("AGENT_PYTHONS", "").split(os.pathsep) if python]
"""Interpreters that have the frameworks: each lives in an environment of its own."""


@pytest.mark.skipif(not AGENT_PYTHONS, reason="AGENT_PYTHONS names no interpreter with an agent framework")
@pytest.mark.parametrize(
    ("name", "module"),
    [("pydantic_ai_cleanup.py", "pydantic_ai.mcp"), ("langchain_cleanup.py", "langchain_mcp_adapters.client")],
)
def test_an_agent_of_a_framework_plans_and_confirms(environment: dict[str, str], name: str, module: str) -> None:
    python = next(
        python for python in AGENT_PYTHONS if finished([python, "-c", f"import {module}"], environment).returncode == 0
    )
    ended = finished([python, str(EXAMPLES / "agents" / name), "12345", *SERVER], environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "2 of 3 manual backups of server 12345 are deleted.\n"


def test_every_example_is_run_here() -> None:
    here = Path(__file__).parent
    tested = "".join((here / file).read_text(encoding="utf-8") for file in ("test_examples.py", "team/test_example.py"))
    examples = [path.name for path in EXAMPLES.rglob("*") if path.suffix in {".py", ".sh", ".yml", ".service"}]
    assert len(examples) >= 11
    assert [name for name in examples if f'"{name}"' not in tested] == []
