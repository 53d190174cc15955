"""The operator's rules, the settings, and the ledger that cannot be written."""

import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from filelock import FileLock

from mcp_backups.cli import main
from mcp_backups.ledger import sqlite as ledger_module
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.fleet import Backup
from tests.faults.conftest import OpenBench
from tests.faults.stage import DB, MAIL, RUNNER, SOURCE, TARGET, WEB, Bench, a_delete, a_list, on_delete
from tests.stage import PATIENCE, ManualClock, on_file

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("row", ["F81"])
@pytest.mark.parametrize(
    "others",
    [
        [],
        [{"status": "failed"}, {"status": "in_progress"}, {"size_mb": None}, {"size_mb": 0}],
        [{"expires_at": timedelta(hours=23)}],
    ],
    ids=["none", "junk", "expiring"],
)
async def test_the_last_good_backup_stays(bench: Bench, row: str, others: list[dict[str, Any]]) -> None:
    (last,) = (backup.id for backup in bench.emulator.fleet.backups_of(RUNNER))
    for number, fields in enumerate(others, start=9001):
        late = {"expires_at": bench.clock.now() + fields["expires_at"]} if "expires_at" in fields else {}
        made = bench.clock.now() - timedelta(hours=30)
        bench.emulator.fleet.backups[number] = Backup(number, RUNNER, made, **{"size_mb": 9} | fields | late)
    answer = await bench.agent.call("delete_backup", backup_id=last)
    assert answer.code == "policy_denied", row
    assert "0 proven backups" in answer.text
    assert bench.requests()[2] == 0


@pytest.mark.parametrize("row", ["F81"])
async def test_a_backup_made_here_today_is_no_good_backup_yet(bench: Bench, row: str) -> None:
    (last,) = (backup.id for backup in bench.emulator.fleet.backups_of(RUNNER))
    made = await bench.agent.call("create_backup", server_id=RUNNER, wait_seconds=30)
    assert made.status == "succeeded"
    answer = await bench.agent.call("delete_backup", backup_id=last)
    assert answer.code == "policy_denied", row
    assert bench.requests()[2] == 0


@pytest.mark.parametrize("row", ["F83"])
@pytest.mark.parametrize("meanwhile", ["nothing", "restart", "clock step", "clock step and reboot"])
@pytest.mark.parametrize("budget", [{"deletes_per_hour": 2}, {"deletes_per_day": 2}])
async def test_one_delete_more_than_the_budget_is_refused(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench, row: str, meanwhile: str, budget: dict[str, int]
) -> None:
    first, second, third = sorted(backup.id for backup in emulator.fleet.backups_of(WEB))[:3]
    async with bench_on(emulator, **budget) as bench:
        for backup_id in (first, second):
            confirmation = await bench.plan("delete_backup", backup_id=backup_id)
            await bench.agent.call("delete_backup", **confirmation)
    if meanwhile.startswith("clock step"):
        clock.step(days=2)
    if meanwhile.endswith("reboot"):
        clock.boot = "second boot"
    async with bench_on(emulator, **budget) as bench:
        answer = await bench.agent.call("delete_backup", backup_id=third)
        assert answer.code == "budget_exhausted", row
        assert "The next is possible in " in answer.text
        assert bench.requests()[2] == 2


async def test_one_backup_more_than_the_budget_is_refused_and_a_safety_backup_is_made_all_the_same(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench
) -> None:
    async with bench_on(emulator, creates_per_hour=2) as bench:
        for _ in range(2):
            made = await bench.agent.call("create_backup", server_id=12346, allow_duplicate=True)
            assert not made.is_error, made.text
        refused = await bench.agent.call("create_backup", server_id=12346, description="x")
        assert (refused.code, bench.requests()[1]) == ("budget_exhausted", 2)
        assert "The budget of 2 new backups within an hour is used up." in refused.text
        restore = await bench.plan("restore_server", server_id=WEB, backup_id=499)
        assert (await bench.agent.call("restore_server", **restore)).status == "preparing"
        assert bench.requests()[1] == 3
        clock.advance(minutes=61)
        assert not (await bench.agent.call("create_backup", server_id=12346, description="x")).is_error


@pytest.mark.parametrize(
    ("at_first", "then"),
    [(0, 11), (0, 30), (0, 600), (0, -30), (0, -600), (30, 0), (-30, 0), (-30, 30)],
)
async def test_answers_that_are_dated_wrong_end_no_plan(
    clock: ManualClock, bench_on: OpenBench, at_first: int, then: int
) -> None:
    """The machine's ticks tell how old a plan is; caches and clusters date answers as they like."""
    wrong = timedelta(minutes=at_first)
    async with Emulator(now=lambda: clock.now() + wrong) as emulator, bench_on(emulator) as bench:
        confirmation = await bench.plan("delete_backup", backup_id=499)
        wrong = timedelta(minutes=then)
        clock.advance(seconds=20)
        assert not (await bench.agent.call("list_backups")).is_error
        answer = await bench.agent.call("delete_backup", **confirmation)
    assert (answer.status, emulator.count("DELETE")) == ("succeeded", 1)


@pytest.mark.parametrize(
    ("ahead", "step"),
    [(30, 120), (30, 0), (5, 61), (600, 24 * 60), (-10, 120)],
    ids=["half an hour, and ours two", "half an hour", "minutes", "hours, and ours a day", "behind"],
)
async def test_a_restore_sent_by_a_wrong_date_counts_after_a_reboot_with_a_wrong_clock(
    clock: ManualClock, bench_on: OpenBench, ahead: int, step: int
) -> None:
    wrong = timedelta(minutes=ahead)
    restore = {"server_id": WEB, "backup_id": 499, "safety_backup": False}
    async with Emulator(now=lambda: clock.now() + wrong) as emulator:
        async with bench_on(emulator) as bench:
            sent = await bench.agent.call("restore_server", **await bench.plan("restore_server", **restore))
            assert sent.status == "accepted"
        wrong = timedelta(0)
        clock.advance(minutes=15)
        clock.step(minutes=step)
        clock.boot = "second boot"
        async with bench_on(emulator) as bench:
            assert not (await bench.agent.call("list_backups")).is_error
            again = await bench.agent.call("restore_server", **restore)
        assert (again.code, len(emulator.fleet.restores)) == ("budget_exhausted", 1)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "09:40Z (10 minutes)"), (61, "09:40Z (9 minutes)"), (590, "09:40Z (1 minute)")]
)
async def test_a_plan_tells_until_when_it_counts(bench: Bench, seconds: int, told: str) -> None:
    plan = await bench.agent.call("delete_backup", backup_id=499)
    bench.clock.advance(seconds=seconds)
    looked = await bench.agent.call("get_operation", operation_id=plan.operation)
    assert f" before {told}" in looked.data["next_step"]
    assert f" before {told}" in looked.text


async def test_a_clock_that_is_slow_makes_no_expiring_backup_good_and_no_old_one_a_way_back(
    emulator: Emulator, clock: ManualClock, bench_on: OpenBench
) -> None:
    (last,) = (backup.id for backup in emulator.fleet.backups_of(RUNNER))
    expires = clock.now() + timedelta(hours=23)
    made = clock.now() - timedelta(hours=30)
    emulator.fleet.backups[9001] = Backup(9001, RUNNER, made, size_mb=9, expires_at=expires)
    emulator.fleet.backups[9002] = Backup(9002, RUNNER, clock.now() - timedelta(hours=2), size_mb=9)
    clock.step(hours=-2)
    async with bench_on(emulator, keep_min=2) as bench:
        assert (await bench.agent.call("delete_backup", backup_id=last)).code == "policy_denied"
        plan = await bench.agent.call("restore_server", server_id=RUNNER, backup_id=last)
    assert plan.data["facts"]["safety_backup"] == "one is made first"


RESTORES_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "other-server": ({"server_id": DB}, "is of server"),
    "in-progress": ({"status": "in_progress"}, "not completed"),
    "failed": ({"status": "failed"}, "not completed"),
    "expired": ({"expires_at": timedelta(seconds=-1)}, "has expired"),
    "expiring": ({"expires_at": timedelta(minutes=59)}, "expires within an hour"),
    "empty": ({"size_mb": 0}, "empty"),
    "size-unknown": ({"size_mb": None}, "unknown size"),
}


@pytest.mark.parametrize("row", ["F84"])
@pytest.mark.parametrize("what", RESTORES_REFUSED)
async def test_only_a_whole_backup_of_the_same_server_is_restored(bench: Bench, row: str, what: str) -> None:
    changes, reason = RESTORES_REFUSED[what]
    for name, value in changes.items():
        late = bench.clock.now() + value if isinstance(value, timedelta) else value
        setattr(bench.emulator.fleet.backups[SOURCE], name, late)
    answer = await bench.agent.call("restore_server", server_id=WEB, backup_id=SOURCE)
    assert answer.code == "policy_denied", row
    assert reason in answer.text
    assert bench.requests()[1] == 0


@pytest.mark.parametrize("row", ["F85"])
async def test_a_restore_makes_its_way_back_first(bench: Bench, row: str) -> None:
    oldest = min(bench.emulator.fleet.backups_of(MAIL), key=lambda backup: backup.created_at).id
    confirmation = await bench.plan("restore_server", server_id=MAIL, backup_id=oldest)
    answer = await bench.agent.call("restore_server", **confirmation)
    assert answer.status == "preparing", row
    assert (bench.emulator.count("POST", "/backups/"), bench.emulator.count("POST", "/servers/")) == (1, 0)
    bench.clock.advance(minutes=1)
    answer = await bench.agent.call("restore_server", **confirmation)
    assert (answer.status, answer.data["changed"]) == ("accepted", "started")
    assert (bench.emulator.count("POST", "/backups/"), len(bench.emulator.fleet.restores)) == (1, 1)


def _file(folder: Path, content: str, mode: int = 0o600) -> str:
    path = folder / "given"
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def _open(folder: Path) -> str:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    return str(folder / "open")


WRONG_SETTINGS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "file-missing": ("MCP_BACKUPS_CONFIG", lambda folder: str(folder / "nowhere")),
    "file-invalid": ("MCP_BACKUPS_CONFIG", lambda folder: _file(folder, "approval = [")),
    "file-not-text": ("MCP_BACKUPS_CONFIG", lambda folder: _file(folder, "x = '\x00'")),
    "file-world-writable": ("MCP_BACKUPS_CONFIG", lambda folder: _file(folder, "", 0o666)),
    "file-a-folder": ("MCP_BACKUPS_CONFIG", str),
    "file-unknown-setting": ("MCP_BACKUPS_CONFIG", lambda folder: _file(folder, "readonly = true")),
    "file-token-readable": ("MCP_BACKUPS_CONFIG", lambda folder: _file(folder, 'vps_api_token = "vps_x"', 0o644)),
    "token-file-readable": ("VPS_API_TOKEN_FILE", lambda folder: _file(folder, "vps_canary", 0o644)),
    "token-file-two-lines": ("VPS_API_TOKEN_FILE", lambda folder: _file(folder, "vps_\ncanary")),
    "token-file-empty": ("VPS_API_TOKEN_FILE", lambda folder: _file(folder, "")),
    "token-newline": ("VPS_API_TOKEN", lambda _: "vps_\ncanary"),
    "token-space": ("VPS_API_TOKEN", lambda _: "vps_ canary"),
    "token-not-ascii": ("VPS_API_TOKEN", lambda _: "vps_canary\u00e9"),
    "token-unfilled": ("VPS_API_TOKEN", lambda _: "${CANARY}"),
    "token-misspelt": ("VPS_API_TOKN", lambda _: "vps_canary"),
    "rule-misspelt": ("MCP_BACKUP_READ_ONLY", lambda _: "true"),
    "rule-empty": ("MCP_BACKUPS_SERVERS", lambda _: " , "),
    "state-relative": ("MCP_BACKUPS_STATE_DIR", lambda _: "canary"),
    "state-open": ("MCP_BACKUPS_STATE_DIR", _open),
    "url-http": ("VPS_API_URL", lambda _: "http://canary.example/api/v1"),
    "url-user": ("VPS_API_URL", lambda _: "https://user:canary@vps.example/api/v1"),
    "url-query": ("VPS_API_URL", lambda _: "https://vps.example/api/v1?canary=1"),
    "url-fragment": ("VPS_API_URL", lambda _: "https://vps.example/api/v1#canary"),
    "url-no-scheme": ("VPS_API_URL", lambda _: "canary.example"),
    "misspelt-rule": ("MCP_BACKUPS_KEEPMIN", lambda _: "canary"),
}


@pytest.mark.parametrize("row", ["F86"])
@pytest.mark.parametrize("what", WRONG_SETTINGS)
def test_a_wrong_setting_is_named_without_its_value_and_ends_with_2(
    row: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make = WRONG_SETTINGS[what]
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv(name, make(tmp_path))
    assert main([]) == 2, row
    told = capsys.readouterr()
    assert told.out == ""
    assert name in told.err or "readonly" in told.err.lower()
    assert "canary" not in told.err
    assert len(told.err.splitlines()) == 1
    assert not (tmp_path / "state").exists()


def _is_a_file(state_dir: Path) -> None:
    state_dir.write_text("in the way")


def _is_empty(state_dir: Path) -> None:
    state_dir.mkdir()


def _is_no_database(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "ledger.sqlite3").write_bytes(b"no database" * 1000)


def _is_broken(state_dir: Path) -> None:
    with sqlite3.connect(state_dir / "ledger.sqlite3") as connection:
        connection.execute("UPDATE events SET status = 'failed' WHERE seq = 1")
    connection.close()


def _has_no_place_for_locks(state_dir: Path) -> None:
    (state_dir / "alive").write_text("in the way")


@on_file
@pytest.mark.parametrize("row", ["F87"])
@pytest.mark.parametrize("fault", [_is_a_file, _is_no_database, _is_broken, _has_no_place_for_locks])
async def test_without_a_ledger_backups_are_listed_and_nothing_is_changed(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, row: str, fault: Callable[[Path], None]
) -> None:
    planned = {"backup_id": TARGET}
    if fault in (_is_broken, _has_no_place_for_locks):
        async with bench_on(emulator) as bench:
            planned = await bench.plan("delete_backup", **planned)
            if fault is _is_broken:
                await bench.agent.call("create_backup", server_id=WEB)
    fault(state_dir)
    async with bench_on(emulator) as bench:
        before = bench.requests()[1:]
        for answer in (
            await bench.agent.call("delete_backup", **planned),
            await bench.agent.call("create_backup", server_id=WEB),
        ):
            assert answer.code == "ledger_unavailable", row
            assert "Nothing was changed." in answer.text
        assert bench.requests()[1:] == before
        assert not (await bench.agent.call("list_backups")).is_error


def _full(connection: sqlite3.Connection) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")


@on_file
@pytest.mark.parametrize("row", ["F87"])
async def test_on_a_full_disk_backups_are_listed_and_nothing_is_changed(
    emulator: Emulator, bench_on: OpenBench, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own limit on a database's size stands for the disk's: both end in SQLITE_FULL."""
    open_file = ledger_module.SqliteLedger[Any]._open

    def open_full(ledger: ledger_module.SqliteLedger[Any]) -> ledger_module._Opened:
        opened = open_file(ledger)
        _full(opened.connection)
        return opened

    monkeypatch.setattr(ledger_module.SqliteLedger, "_open", open_full)
    async with bench_on(emulator) as bench:
        codes = [
            (await bench.agent.call("create_backup", server_id=WEB, description=f"number {n}")).code for n in range(40)
        ]
        assert codes[-1] == "ledger_unavailable", row
        made = codes.index("ledger_unavailable")
        assert bench.requests()[1] in (made, made + 1)
        assert not (await bench.agent.call("list_backups")).is_error


@on_file
@pytest.mark.parametrize("row", ["F87"])
async def test_while_another_process_holds_the_ledger_writes_are_busy_and_lists_wait_no_longer_than_these(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_WAIT_SECONDS", 0.3)
    async with bench_on(emulator) as bench:
        confirmation = await bench.plan("delete_backup", backup_id=TARGET)
        holder = sqlite3.connect(state_dir / "ledger.sqlite3", isolation_level=None)
        try:
            holder.execute("BEGIN EXCLUSIVE")

            async def delete() -> None:
                answer = await bench.agent.call("delete_backup", **confirmation)
                assert (answer.code, "Nothing was changed." in answer.text) == ("busy", True), row

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as calls:
                    calls.start_soon(delete)
                    begun = anyio.current_time()
                    listed = await a_list(bench, ())  # it waits for its turn to see what was deleted here
                    assert (listed.is_error, listed.data["complete"]) == (False, True)
                    assert anyio.current_time() - begun < PATIENCE / 3
            assert bench.requests()[2] == 0
        finally:
            holder.close()
        assert (await bench.agent.call("delete_backup", **confirmation)).status == "succeeded"


@on_file
@pytest.mark.parametrize("row", ["F87"])
async def test_an_outcome_that_cannot_be_recorded_is_told_and_found_again_by_looking(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger fails between the intent and the outcome: what was done is said, and settled later."""
    monkeypatch.setattr(ledger_module, "LOCK_WAIT_SECONDS", 0.05)
    arrived = anyio.Event()

    async def take_the_ledger(_seconds: float) -> None:
        holder.execute("BEGIN EXCLUSIVE")
        arrived.set()

    async with Emulator(now=emulator._now, sleep=take_the_ledger) as api, bench_on(api) as bench:
        confirmation = await bench.plan("delete_backup", backup_id=TARGET)
        holder = sqlite3.connect(state_dir / "ledger.sqlite3", isolation_level=None)
        try:
            bench.spoil(on_delete(Fault.delay(1)))
            answer = await bench.agent.call("delete_backup", **confirmation)
            assert arrived.is_set(), row
            assert answer.code == "ledger_unavailable"
            assert "'succeeded'" in answer.text
            assert "The change was made." in answer.text
        finally:
            holder.close()
        settled = await bench.agent.call("get_operation", operation_id=confirmation["operation_id"])
        assert (settled.status, settled.data["changed"]) == ("succeeded", "done")
        assert bench.requests()[2] == 1


@pytest.mark.parametrize("row", ["F87"])
async def test_an_outcome_waits_for_another_process_to_let_go_of_the_ledger(
    emulator: Emulator, bench_on: OpenBench, state_dir: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_WAIT_SECONDS", 0.5)
    letting_go: list[threading.Timer] = []

    async def take_the_ledger_for_a_moment(_seconds: float) -> None:
        holder.execute("BEGIN EXCLUSIVE")
        letting_go.append(threading.Timer(0.8, holder.rollback))
        letting_go[0].start()

    async with (
        Emulator(now=emulator._now, sleep=take_the_ledger_for_a_moment) as api,
        bench_on(api) as bench,
    ):
        confirmation = await bench.plan("delete_backup", backup_id=TARGET)
        holder = sqlite3.connect(state_dir / "ledger.sqlite3", isolation_level=None, check_same_thread=False)
        try:
            bench.spoil(on_delete(Fault.delay(1)))
            answer = await bench.agent.call("delete_backup", **confirmation)
            assert answer.status == "succeeded", row
        finally:
            letting_go[0].join()
            holder.close()


@on_file
@pytest.mark.parametrize("row", ["F87"])
async def test_a_list_needs_no_ledger_at_all(bench: Bench, row: str) -> None:
    assert not (await a_list(bench, ())).is_error, row
    assert not bench.state_dir.exists()
    await a_delete(bench, ())
    assert bench.state_dir.exists()


@on_file
@pytest.mark.parametrize("row", ["F87"])
async def test_while_another_process_opens_the_ledger_writes_are_busy_and_lists_do_not_wait(
    bench: Bench, state_dir: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "LOCK_WAIT_SECONDS", 0.2)
    _is_empty(state_dir)
    with FileLock(state_dir / ledger_module.LOCK):
        assert (await bench.agent.call("create_backup", server_id=WEB)).code == "busy", row
        assert not (await a_list(bench, ())).is_error
    assert (await bench.agent.call("create_backup", server_id=WEB)).status == "accepted"
    assert bench.requests()[1] == 1
