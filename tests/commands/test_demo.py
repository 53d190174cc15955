"""The demo, as people and scripts run it: in its own process, against a server process of its own."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from mcp_backups.commands.audit import Record
from mcp_backups.commands.demo import run
from mcp_backups.commands.demo.screen import Screen, _moved, draw, started_again
from mcp_backups.commands.demo.script import check_record
from mcp_backups.commands.demo.step import DemoError, Step
from mcp_backups.commands.terminal import TONES, toned
from mcp_backups.errors import ConfigError
from mcp_backups.health import State, Verdict
from mcp_backups.ledger import Event
from mcp_backups.operations import Status
from tests.pages import ROOT

pytestmark = pytest.mark.unmeasured

LONGEST_SECONDS = 30
ESCAPE = "\x1b"

FAST_SANDBOX = "from mcp_backups.cli import main; main(['--sandbox', '--backup-seconds', '1'])"
"""A server that does what the demo's own does, but sooner."""

LAX_SANDBOX = f"import os; os.environ['MCP_BACKUPS_KEEP_MIN'] = '0'; {FAST_SANDBOX}"
"""A server whose operator lets the last good backup be deleted."""

FAULTY_SANDBOX = """
from functools import partial
import anyio
from pydantic import SecretStr
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.settings import load_settings
from mcp_backups.transport import open_context, serve_stdio

async def main():
    async with Emulator(backup_seconds=1) as emulator:
        emulator.fail({fault}, method={method!r}, times=None)
        account = {{"vps_api_url": emulator.base_url, "vps_api_token": SecretStr(emulator.token)}}
        await serve_stdio(partial(open_context, load_settings().model_copy(update=account)))

anyio.run(main)
"""

ONE_BACKUP = "Fault.edited(lambda told: {'count': 1, 'results': told['results'][:1]})"


def server(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


def faulty(fault: str, method: str) -> str:
    return FAULTY_SANDBOX.format(fault=fault, method=method)


def demo_process(source: str) -> list[str]:
    """The demo's own process, played with another server."""
    return [
        sys.executable,
        "-c",
        f"from mcp_backups.commands.demo import run; raise SystemExit(run(as_json=False, command={server(source)!r}))",
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's home with a settings file that would spoil everything."""
    home = tmp_path_factory.mktemp("home")
    for folder in (home / ".config" / "mcp-backups", home / "Library" / "Application Support" / "mcp-backups"):
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text("read_only = true\n")
    return home


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """A user's environment, with a token and rules of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MCP_BACKUPS_", "XDG_"))}
    return kept | {
        "HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": "80",
        "VPS_API_TOKEN": "vps_the_users_own",
        "VPS_API_URL": "https://vps.invalid/api/v1",
        "MCP_BACKUPS_READ_ONLY": "true",
        "MCP_BACKUPS_STATE_DIR": str(home / "state"),
    }


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo is drawn to."""
    return tmp_path_factory.mktemp("drawn") / "demo.svg"


@pytest.fixture(scope="module")
def told(environment: dict[str, str], picture: Path) -> dict[str, Any]:
    """What `mcp-backups demo --json` prints; it draws the picture too."""
    command = [sys.executable, "-m", "mcp_backups", "demo", "--json", "--svg", str(picture)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_demo_comes_out_as_told_whatever_the_users_own_settings_are(told: dict[str, Any], home: Path) -> None:
    assert told["ok"] is True
    assert all(step["ok"] for step in told["steps"])
    assert told["seconds"] < LONGEST_SECONDS
    assert not (home / "state").exists()


def test_the_demo_shows_each_step_of_the_story(told: dict[str, Any]) -> None:
    def outcome(step: dict[str, Any]) -> str:
        return str(
            step["structured"].get("status") or step["structured"].get("total") or step["text"].partition(":")[0]
        )

    steps = [(step["tool"], outcome(step)) for step in told["steps"][1:]]
    assert (told["steps"][0]["tool"], outcome(told["steps"][0])) == ("list_backups", "81")
    assert steps == [
        ("check_backups", "not_ok"),
        ("create_backup", "succeeded"),
        ("delete_backup", "policy_denied"),
        ("list_backups", "4"),
        ("delete_backup", "needs_confirmation"),
        ("delete_backup", "succeeded"),
        ("delete_backup", "succeeded"),
        ("restore_server", "needs_confirmation"),
        ("restore_server", "accepted"),
    ]
    assert [step["structured"].get("replayed") for step in told["steps"][6:8]] == [None, True]


def test_the_demo_waits_with_the_servers_own_progress_notifications(told: dict[str, Any]) -> None:
    waits = [step for step in told["steps"] if "wait_seconds" in step["arguments"]]
    assert [step["tool"] for step in waits] == ["create_backup", "restore_server"]
    for step in waits:
        waited = [progress for progress, _, _ in step["progress"]]
        assert len(waited) > 1
        assert waited == sorted(set(waited))


def test_the_demo_ends_with_the_ledger_in_which_each_write_is_sent_once(told: dict[str, Any]) -> None:
    sent = [event["operation_id"] for event in told["audit"] if event["status"] == "sending"]
    assert len(sent) == len(set(sent)) == 4
    assert told["chain"] == f"{len(told['audit'])} events, chain intact"


def lines_in(picture: Path) -> list[str]:
    """The words of a picture, line by line as they stand below each other, without what fonts make of them."""
    words = ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")
    lines: dict[str, list[str]] = {}
    for each in words:
        lines.setdefault(each.attrib["y"], []).append("".join(each.itertext()).replace("\xa0", " ").strip())
    return [" ".join(part for part in line if part) for line in lines.values()]


def test_the_picture_of_the_readme_shows_the_demo_as_it_is(told: dict[str, Any], picture: Path) -> None:
    """If not: `mcp-backups demo --svg docs/demo.svg` draws it anew."""
    assert told["ok"]
    assert lines_in(ROOT / "docs" / "demo.svg") == lines_in(picture)


def test_the_picture_is_as_long_as_a_screen_shows_good_and_bad_in_colour_and_asks_nobody_for_a_font() -> None:
    picture = ROOT / "docs" / "demo.svg"
    assert len(lines_in(picture)) < 70
    assert {"stale", "ok", "policy_denied"} <= set(" ".join(lines_in(picture)).replace(":", "").split())
    source = picture.read_text(encoding="utf-8")
    assert source.count("fill: #") >= 6
    assert re.findall(r"https?://[^\"]*", source) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize(
    ("time", "now", "shown"),
    [
        ("2026-01-02T03:04Z", "2026-01-02T03:04Z", "2026-11-23T15:20Z"),
        ("2026-01-01T22:03Z", "2026-01-02T03:04Z", "2026-11-23T10:20Z"),
        ("2026-01-03T03:04Z", "2026-01-02T03:04Z", "2026-11-24T15:20Z"),
        ("03:14Z", "2026-01-02T03:04Z", "15:30Z"),
        ("03:15Z", "2026-01-02T03:04Z", "15:30Z"),
        ("00:05Z", "2026-01-02T23:55Z", "15:30Z"),
    ],
)
def test_a_picture_shows_the_same_times_whenever_it_is_drawn(time: str, now: str, shown: str) -> None:
    assert _moved(time, datetime.fromisoformat(now)) == shown


def test_a_picture_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    step = Step("List", "list_backups", {}, {}, "", structured={"as_of": "2026-11-23T09:30Z"})
    with pytest.raises(ConfigError, match=r"^config_error: --svg: demo.svg cannot be written"):
        draw([step], tmp_path / "missing" / "demo.svg")


def test_nothing_is_cut_at_80_columns_and_reasons_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    reason = (
        "Newest good backup (439 is newer but stuck since 2026-11-20T15:20Z), and so much more is wrong that it wraps."
    )
    row = {"server_id": 1, "server": "a-server-of-a-rather-long-name", "verdict": "no_good_backup", "reason": reason}
    answer = {"summary": "0 of 1.", "servers": [row], "others": [], "others_verdict": "ok"}
    step = Step("Check", "check_backups", {}, {}, "", structured=answer)
    Screen(Console(width=80, highlight=False)).answer(step)
    shown = capsys.readouterr().out
    assert " ".join(shown.split()).endswith(reason.removeprefix("Newest good backup. "))
    assert "no good backup" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("word", "colour"),
    [
        ("ok", "green"),
        ("succeeded", "green"),
        ("at_risk", "yellow"),
        ("accepted", "yellow"),
        ("stale", "red"),
        ("unknown", "red"),
        ("no_good_backup", "red"),
        ("refused", "red"),
    ],
)
def test_a_verdict_or_state_is_told_in_words_and_in_colour(word: str, colour: str) -> None:
    shown = toned(word)
    assert shown.plain == word.replace("_", " ")
    assert colour in str(shown.style)


def test_every_verdict_and_state_has_a_colour() -> None:
    assert {*get_args(Verdict), *Status, *get_args(State)} <= TONES.keys()


@pytest.mark.skipif(os.name == "nt", reason="programs end in .exe there")
@pytest.mark.parametrize(
    ("folder", "given", "found", "told"),
    [
        ("venv", "venv/bin/mcp-backups", "", "venv/bin/mcp-backups"),
        ("venv", "{here}/venv/bin/mcp-backups", "venv", "mcp-backups"),
        ("venv", "venv/bin/mcp-backups", "other", "venv/bin/mcp-backups"),
        ("with a space", "with a space/bin/mcp-backups", "", "'with a space/bin/mcp-backups'"),
        ("venv", "-c", "", "{here}/venv/bin/mcp-backups"),
        ("no script", "{here}/mcp_backups/__main__.py", "", "'{here}/no script/bin/python' -P -m mcp_backups"),
        ("uv/archive-v0/x", "{here}/uv/archive-v0/x/bin/mcp-backups", "uv/archive-v0/x", "{given}"),
        ("pipx/0a1b2c", "{here}/pipx/0a1b2c/bin/mcp-backups", "", "{given}"),
        ("venv", "linked/bin/mcp-backups", "linked", "mcp-backups"),
    ],
)
def test_the_demo_ends_with_commands_that_a_shell_finds_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, given: str, found: str, told: str
) -> None:
    for each in {folder, "other"}:
        (tmp_path / each / "bin").mkdir(parents=True)
        if each != "no script":
            (tmp_path / each / "bin" / "mcp-backups").touch()
    (tmp_path / "linked").symlink_to(tmp_path / folder)  # as `pipx install` and `uv tool install` do
    monkeypatch.chdir(tmp_path)
    prefix, given = tmp_path / folder, given.format(here=tmp_path)
    by_name = str(tmp_path / found / "bin" / "mcp-backups") if found else None
    again = started_again(given, prefix / "bin" / "python", prefix, by_name)
    assert again == told.format(here=tmp_path, given=given)


def test_piped_the_demo_is_plain_text_that_fits_80_columns(environment: dict[str, str]) -> None:
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(
        demo_process(FAST_SANDBOX), env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "10 calls, every answer as told" in done.stdout
    assert "chain intact" in done.stdout


def test_the_demo_can_be_told_where_there_is_nothing_but_ascii(environment: dict[str, str]) -> None:
    ascii_only = environment | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(demo_process(LAX_SANDBOX), env=ascii_only, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert "x Not as told: " in done.stdout.decode("ascii")


def test_in_a_terminal_the_demo_draws_a_bar_and_no_colour_where_none_is_wanted(environment: dict[str, str]) -> None:
    ours, theirs = pytest.importorskip("pty").openpty()
    child = subprocess.Popen(
        demo_process(LAX_SANDBOX), env=environment | {"TERM": "xterm-256color"}, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := _read(ours):
            shown += part
    finally:
        child.terminate()
        code = child.wait(60)
        os.close(ours)
    screen = shown.decode()
    assert code == 1
    assert "━" in screen
    assert "answered after" in screen
    assert f"{ESCAPE}[36m" not in screen
    assert f"{ESCAPE}[1;36m" not in screen


def _read(terminal: int) -> bytes:
    """What a terminal shows next; nothing when its program has ended."""
    try:
        return os.read(terminal, 4096)
    except OSError:  # how Linux says that the other side is closed
        return b""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (LAX_SANDBOX, "delete_backup should have been refused (policy_denied), but answered: needs_confirmation:"),
        (faulty("Fault.status(403)", "DELETE"), "delete_backup failed: forbidden:"),
        (faulty("Fault.status(204)", "DELETE"), "should have answered status 'succeeded', not 'accepted'."),
        (faulty("Fault.status(403)", "GET"), "list_backups failed: forbidden:"),
        (faulty(ONE_BACKUP, "GET"), "check_backups shows no good backup of "),
        ("raise SystemExit('no sandbox today')", "Its last words: no sandbox today"),
    ],
    ids=["lax rule", "delete refused", "delete without effect", "no permission", "hardly a backup", "no server"],
)  # fmt: skip
def test_the_demo_fails_with_a_clear_line_when_something_is_not_as_told(
    source: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(as_json=True, command=server(source)) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert reason in told["error"]
    assert [step["ok"] for step in told["steps"][:-1]] == [True] * (len(told["steps"]) - 1)


def event(seq: int, operation_id: str, status: str) -> Event:
    return Event(seq, "2026-11-23T09:30:00+00:00", operation_id, status, "{}", "")


SENT = event(1, "op_a", "sending")


@pytest.mark.parametrize(
    "record",
    [
        Record((SENT,), "event 1 was changed or taken out"),
        Record((), ""),
        Record((SENT, event(2, "op_a", "sending")), ""),
        Record((SENT, event(2, "op_b", "sending")), ""),
    ],
    ids=["broken chain", "not sent", "sent twice", "something else sent"],
)
def test_the_demo_fails_when_the_ledger_tells_another_story(record: Record) -> None:
    step = Step("Make a backup", "create_backup", {}, {}, "", structured={"operation_id": "op_a"})
    check_record(Record((SENT,), ""), [step])
    with pytest.raises(DemoError):
        check_record(record, [step])
