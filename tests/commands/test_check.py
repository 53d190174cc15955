"""`mcp-backups check`: an exit code for cron and CI, a line a server for people, one JSON object for programs."""

import io
import json
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_backups.cli import main
from mcp_backups.commands.check import check
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import DeleteDetails, Operation, Status, new_id
from mcp_backups.sandbox import Emulator, Fault, Fleet, serve_in_thread
from mcp_backups.settings import Settings
from tests.stage import MakeSettings, ManualClock, on_emulator, spoil_ledger

DAY = timedelta(hours=24)


@pytest.fixture
def cron(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An account in the machine's own time, and its address in the environment as cron would set it."""
    with serve_in_thread() as emulator:
        settings = on_emulator(make_settings(), emulator)
        monkeypatch.setenv("VPS_API_URL", settings.vps_api_url)
        monkeypatch.setenv("VPS_API_TOKEN", emulator.token)
        monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(settings.state_dir))
        yield emulator


def keep_only(fleet: Fleet, *server_ids: int) -> None:
    fleet.servers = {number: fleet.servers[number] for number in server_ids}
    fleet.backups = {each.id: each for each in fleet.backups.values() if each.server_id in server_ids}


def test_it_exits_with_0_when_every_server_has_a_fresh_good_backup(
    settings: Settings, api: Emulator, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_only(api.fleet, 12345, 12346)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok: Of 2 servers 2 have a good backup younger than 24 h. 2026-11-23T09:30Z",
        "ok: 12346 db-server-01: restore to 453 of 2026-11-23T06:30Z (3 h). Newest good backup.",
        "ok: 12345 web-server-01: restore to 501 of 2026-11-23T04:30Z (5 h). Newest good backup.",
    ]


def test_it_exits_with_1_when_one_has_none_and_shows_it_first(
    settings: Settings, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("not_ok: Of 8 servers 2 have")
    assert lines[1] == "no_good_backup: 12360 staging-01: nothing to restore. No backup of it was found."
    assert len(lines) == 9


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("^/servers/$", id="servers without backups are not known"),
        pytest.param("^/backups/$", id="the backups cannot be read"),
    ],
)
def test_it_exits_with_3_when_it_cannot_be_told(
    settings: Settings, api: Emulator, clock: ManualClock, path: str
) -> None:
    keep_only(api.fleet, 12345)
    api.fail(Fault.status(403, {"detail": "No."}), path=path, times=None)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 3


def test_what_is_certainly_wrong_is_not_covered_by_what_cannot_be_told(
    settings: Settings, api: Emulator, clock: ManualClock
) -> None:
    api.fail(Fault.status(403, {"detail": "No."}), path="^/servers/$", times=None)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 1


def test_an_account_without_servers_is_not_called_fine(settings: Settings, api: Emulator, clock: ManualClock) -> None:
    """A token of the wrong account must not silence an alarm."""
    keep_only(api.fleet)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 3


def test_one_server_can_be_checked_alone(settings: Settings, clock: ManualClock) -> None:
    assert check(settings, DAY, 12345, as_json=False, clock=clock.clock) == 0
    assert check(settings, DAY, 12370, as_json=False, clock=clock.clock) == 1
    assert check(settings, timedelta(hours=31), 12370, as_json=False, clock=clock.clock) == 0
    assert check(settings, DAY, 4, as_json=False, clock=clock.clock) == 3


def without(server_id: int) -> Fault:
    """The list of servers, whole, without one."""

    def gone(listing: dict[str, Any]) -> None:
        listing["results"] = [row for row in listing["results"] if row["id"] != server_id]
        listing["count"] = len(listing["results"])

    return Fault.edited(gone)


def test_a_server_that_is_gone_or_ignored_is_told_and_raises_no_alarm(
    settings: Settings, api: Emulator, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_only(api.fleet, 12345, 12360, 12370)
    api.fail(without(12370), path="^/servers/$", times=None)
    some = settings.model_copy(update={"ignored_servers": frozenset({12360})})
    assert check(some, DAY, 0, as_json=False, clock=clock.clock) == 0
    head, orphaned, fine = capsys.readouterr().out.splitlines()
    assert head.startswith(
        "ok: Of 1 server 1 has a good backup younger than 24 h; not counted: 1 orphaned and 1 ignored."
    )
    assert orphaned.startswith(
        "orphaned: 12370 shop-server-01: no server to restore. VPS.org does not list this server;"
    )
    assert orphaned.endswith("10 orphaned backups of it are left, the newest good one 445 of 2026-11-22T03:30Z.")
    assert fine == "ok: 12345 web-server-01: restore to 501 of 2026-11-23T04:30Z (5 h). Newest good backup."


@pytest.mark.parametrize(
    ("server_ids", "code"),
    [((12345,), 0), ((12345, 12346), 0), ((12345, 12360), 3), ((12370,), 3), ((12345, 12351), 3)],
)
def test_what_could_not_be_read_is_no_absence(
    settings: Settings,
    api: Emulator,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    server_ids: tuple[int, ...],
    code: int,
) -> None:
    keep_only(api.fleet, *server_ids)
    api.fail(Fault.edited(lambda listing: listing.update(count=99)), path="^/backups/$", times=None)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == code
    told = capsys.readouterr().out
    assert "incomplete: VPS.org counts 99 rows" in told
    assert "nothing to restore" not in told
    assert "No backup" not in told
    assert ("cannot_tell: " in told) == (code == 3)


def write_delete(settings: Settings, clock: ManualClock, status: Status) -> None:
    ledger = SqliteLedger(settings.state_dir, Operation, clock.wall)
    now = clock.moment()
    delete = Operation(
        id=new_id(),
        action="delete_backup",
        status=status,
        arguments={},
        server_id=12345,
        backup_id=501,
        details=DeleteDetails(),
        created=now,
        sent=now,
    )
    anyio.run(ledger.write, lambda entries: entries.save(delete))
    ledger.close()


@pytest.mark.parametrize(
    ("status", "hours", "code"),
    [
        (Status.ACCEPTED, 0, 1),
        (Status.UNKNOWN, 1, 1),
        (Status.SENDING, 0, 1),
        (Status.FAILED, 0, 0),
        (Status.ACCEPTED, 25, 0),
    ],
)
def test_a_backup_whose_deletion_was_sent_is_no_restore_point(
    settings: Settings, api: Emulator, clock: ManualClock, status: Status, hours: int, code: int
) -> None:
    keep_only(api.fleet, 12345)
    write_delete(settings, clock, status)
    clock.advance(hours=hours)
    before = sorted(path.name for path in settings.state_dir.iterdir())
    assert check(settings, DAY + timedelta(hours=hours), 0, as_json=False, clock=clock.clock) == code
    assert sorted(path.name for path in settings.state_dir.iterdir()) == before


@pytest.mark.parametrize(("server_ids", "code"), [((12345,), 3), ((12345, 12360), 1)])
def test_where_the_ledger_cannot_be_read_nothing_is_called_fine(
    settings: Settings,
    api: Emulator,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    server_ids: tuple[int, ...],
    code: int,
) -> None:
    keep_only(api.fleet, *server_ids)
    spoil_ledger(settings.state_dir)
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == code
    assert "incomplete: what was deleted here lately is not known" in capsys.readouterr().out


def test_it_makes_no_ledger(settings: Settings, clock: ManualClock) -> None:
    check(settings, DAY, 0, as_json=False, clock=clock.clock)
    assert not settings.state_dir.exists()


def test_json_holds_every_server_in_full(
    settings: Settings, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(settings, DAY, 0, as_json=True, clock=clock.clock) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "not_ok"
    assert len(report["servers"]) == 8
    assert "others" not in report


@pytest.mark.parametrize("as_json", [True, False])
def test_a_failure_is_told_where_the_reader_looks(
    settings: Settings, api: Emulator, clock: ManualClock, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    api.fail(Fault.status(401, {"detail": "No."}), times=None)
    assert check(settings, DAY, 0, as_json=as_json, clock=clock.clock) == 3
    told = capsys.readouterr()
    if as_json:
        answer = json.loads(told.out)
        assert answer["verdict"] == "cannot_tell"
        assert answer["summary"].startswith("auth_failed: ")
    else:
        assert told.out == ""
        assert told.err.startswith("cannot_tell: auth_failed: ")


@pytest.mark.parametrize(
    ("fault", "server_id", "next_step"),
    [
        (None, 4, "Without --server it tells of all."),
        (Fault.status(503), 0, "`mcp-backups doctor` looks for the cause."),
        (Fault.status(403), 12345, "`mcp-backups doctor` looks for the cause."),
        (Fault.status(404), 0, "`mcp-backups doctor` looks for the cause."),
        (Fault.status(401), 0, "set a valid token in VPS_API_TOKEN or VPS_API_TOKEN_FILE; do not try again before."),
    ],
)
def test_a_failure_tells_what_a_person_can_do_and_names_no_tool(
    settings: Settings,
    api: Emulator,
    clock: ManualClock,
    capsys: pytest.CaptureFixture[str],
    fault: Fault | None,
    server_id: int,
    next_step: str,
) -> None:
    if fault:
        api.fail(fault, times=None)
    assert check(settings, DAY, server_id, as_json=False, clock=clock.clock) == 3
    told = capsys.readouterr().err
    assert next_step in told
    assert not re.search(r"(check|list)_backups|server_id|[Tt]ell the user", told)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_shown_a_table_without_what_it_would_obey(
    settings: Settings, api: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(api.fleet, 12370)
    api.fleet.servers[12370].name = "[red]shop\x1b[31m"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 1
    shown = terminal.getvalue()
    assert "restore to" in shown
    assert "[red]shop" in shown
    assert "455 is newer but failed" in shown
    assert "\x1b[31m" not in shown


@pytest.mark.parametrize("columns", [20, 40, 80, 100, 160])
def test_a_terminal_of_any_width_is_shown_everything(
    settings: Settings, api: Emulator, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    keep_only(api.fleet, 12360, 12371, 12370)
    api.fleet.servers[12370].name = "shop ok: 12371 analytics-01: restore to 1"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    assert check(settings, DAY, 0, as_json=False, clock=clock.clock) == 1
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    words = "".join(shown.split())
    for told in ("12360", "staging-01", "12371", "435", "3 d 4 h", "445", "1 d 6 h"):
        assert "".join(told.split()) in words
    if columns < 160:  # where reasons wrap within their column, they stand between the other cells
        assert "Nobackupofitwasfound." in words
        assert "(439isnewerbutstucksince2026-11-20T09:30Z)" in words
    assert all(len(line) <= columns for line in shown.splitlines())
    assert not any(line.startswith(("ok", "12371")) for line in shown.splitlines())


@pytest.mark.usefixtures("cron")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--max-age", "8760h"], 1),
        (["--max-age", "365d", "--server", "12362"], 0),
        (["--server", "12360", "--json"], 1),
    ],
)
def test_the_command_takes_an_age_a_server_and_a_form(arguments: list[str], code: int) -> None:
    assert main(["check", *arguments]) == code


def test_the_command_ends_with_3_when_the_token_is_refused_and_leaves_no_ledger_behind(
    cron: Emulator, state_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPS_API_TOKEN", "vps_wrong")
    assert main(["check"]) == 3
    assert cron.count("GET", "/backups/") == 1
    assert "vps_wrong" not in capsys.readouterr().err
    assert not state_dir.exists()


@pytest.mark.parametrize("age", ["0h", "24", "h", "-1h", "366d", "8761h", "1.5h", "24H", ""])
def test_an_age_that_is_none_is_refused(age: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["check", f"--max-age={age}"])
    assert end.value.code == 2
    assert "an age from 1h to 365d" in capsys.readouterr().err


def test_the_sandbox_is_not_mistaken_for_the_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sandbox", "check"]) == 2
    assert "--sandbox" in capsys.readouterr().err
