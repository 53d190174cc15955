"""The ledger's files: what is recorded survives the loss of those beside it, and nobody waits for a reader."""

import errno
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from mcp_backups.errors import ConfigError, LedgerLostError, LedgerUnavailableError
from mcp_backups.ledger import SqliteLedger, Transaction, checkpoint
from mcp_backups.ledger.key import installation_key
from mcp_backups.ledger.sqlite import as_sqlite_errors, open_file_for_audit
from mcp_backups.ledger.sqlite_tables import SqliteRows
from mcp_backups.operations.operation import Operation
from tests.process import running
from tests.stage import NOW, until

from .made import begun

pytestmark = pytest.mark.anyio

Loss = Callable[[Path], None]


def saving(saved: Operation) -> Callable[[Transaction[Operation]], Operation]:
    return lambda entries: entries.save(saved)


def ids(folder: Path) -> set[str]:
    """Every operation in a ledger that is whole."""
    with open_file_for_audit(folder, Operation) as entries:
        assert entries is not None
        assert entries.verify() == ""
        return {each.id for each in entries.find(limit=1000)}


def without(*names: str) -> Loss:
    def lose(path: Path) -> None:
        for name in names:
            path.with_name(path.name + name).unlink()

    return lose


def replaced(name: str) -> Loss:
    def replace(path: Path) -> None:
        side = path.with_name(path.name + name)
        shutil.copy(side, side.with_suffix(".copy"))
        side.with_suffix(".copy").replace(side)

    return replace


def emptied(name: str) -> Loss:
    return lambda path: os.truncate(path.with_name(path.name + name), 0)


LOSSES = {
    "wal removed": without("-wal"),
    "shm removed": without("-shm"),
    "both removed": without("-wal", "-shm"),
    "wal replaced": replaced("-wal"),
    "shm replaced": replaced("-shm"),
    "shm emptied": emptied("-shm"),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
async def test_a_side_file_that_is_lost_stops_the_writer_and_costs_no_record(state_dir: Path, lose: Loss) -> None:
    ledger, saved = SqliteLedger(state_dir, Operation, lambda: NOW), [begun() for _ in range(4)]
    for each in saved[:3]:
        await ledger.write(saving(each))
    lose(ledger.path)
    for use in (ledger.write, ledger.read, ledger.write):
        with pytest.raises(
            LedgerUnavailableError, match="A side file of the ledger was removed or replaced"
        ) as stopped:
            await use(saving(saved[3]))
    assert stopped.value.next_step == "The operator of mcp-backups must restart it. Reading still works."
    ledger.close()
    assert ids(state_dir) == {each.id for each in saved[:3]}
    again = SqliteLedger(state_dir, Operation, lambda: NOW)
    await again.write(saving(saved[3]))
    again.close()
    assert ids(state_dir) == {each.id for each in saved}


WRITER = """
import sys, anyio
from datetime import UTC, datetime
from pathlib import Path
from mcp_backups.clock import system_clock
from mcp_backups.ledger import SqliteLedger
from mcp_backups.operations import DeleteDetails, Operation, Status, new_id
ledger, moment = SqliteLedger(Path(sys.argv[1]), Operation, lambda: datetime.now(UTC)), system_clock().moment()
for _ in range(3):
    plan = Operation(
        id=new_id(), action="delete_backup", status=Status.PLANNED, details=DeleteDetails(), arguments={}, server_id=1,
        approved_by="plan", created=moment,
    )
    anyio.run(ledger.write, lambda entries: entries.save(plan))
    print(plan.id, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open")
@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_what_a_process_recorded_outlives_it_and_its_side_files(state_dir: Path, lose: Loss) -> None:
    with running(
        (sys.executable, "-c", WRITER, str(state_dir)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        saved = {process.stdout.readline().strip() for _ in range(3)}
        lose(state_dir / "ledger.sqlite3")
        process.kill()
    assert ids(state_dir) == saved


async def test_each_record_stands_in_the_database_itself(state_dir: Path, tmp_path: Path) -> None:
    ledger, saved = SqliteLedger(state_dir, Operation, lambda: NOW), begun()
    await ledger.write(saving(saved))
    shutil.copy(ledger.path, tmp_path / "copy.sqlite3")
    copy = sqlite3.connect(tmp_path / "copy.sqlite3")
    assert copy.execute("SELECT id FROM operations").fetchall() == [(saved.id,)]
    copy.close()
    assert ledger._opened is not None
    connection = ledger._opened.connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.close()


async def test_a_reader_blocks_no_writer_and_what_it_holds_up_is_put_in_its_place_later(state_dir: Path) -> None:
    ledger, saved = SqliteLedger(state_dir, Operation, lambda: NOW), [begun() for _ in range(3)]
    await ledger.write(saving(saved[0]))
    reader = sqlite3.connect(ledger.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM events").fetchall()
    for each in saved[1:]:
        await ledger.write(saving(each))
    reader.execute("ROLLBACK")
    await ledger.read(lambda entries: entries.last_event())
    for name in ("-wal", "-shm"):
        ledger.path.with_name(ledger.path.name + name).unlink()
    reader.close()
    ledger.close()
    assert ids(state_dir) == {each.id for each in saved}


async def test_a_log_that_has_become_long_is_begun_anew_though_the_disk_is_slow(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_PAUSE_SECONDS", 60.0)  # what is done in the background is not done yet
    monkeypatch.setattr(checkpoint, "_MOST_PAGES", 50)
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    saved = [begun() for _ in range(40)]
    for each in saved:
        await ledger.write(saving(each))
    pages = ledger.path.with_name(f"{ledger.path.name}-wal").stat().st_size // 4096
    ledger.close()
    assert 50 < pages < 100, "of some 300"
    assert ids(state_dir) == {each.id for each in saved}


async def test_the_log_is_kept_until_the_disk_has_what_was_moved_out_of_it(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, sync, failed = SqliteLedger(state_dir, Operation, lambda: NOW), checkpoint._sync, 0

    def fail_once(file: int) -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise OSError("no answer from the disk")
        sync(file)

    await ledger.write(saving(begun()))
    assert ledger._opened is not None
    moved = ledger._opened.checkpoint
    await until(lambda: moved._reading is None)
    monkeypatch.setattr(checkpoint, "_sync", fail_once)
    await ledger.write(saving(begun()))
    await until(lambda: failed == 1)
    assert moved._reading is not None
    await ledger.write(saving(begun()))
    await until(lambda: moved._reading is None)
    ledger.close()
    assert failed >= 2
    assert len(ids(state_dir)) == 3


async def test_a_full_disk_is_named_and_costs_no_record(state_dir: Path) -> None:
    """The limit of pages stands for the disk: SQLite says the same of both."""
    ledger, first = SqliteLedger(state_dir, Operation, lambda: NOW), begun()
    many = [begun() for _ in range(100)]

    def save_many(entries: Transaction[Operation]) -> None:
        for each in many:
            entries.save(each)

    await ledger.write(saving(first))
    assert ledger._opened is not None
    connection = ledger._opened.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerUnavailableError) as refusal:
        await ledger.write(save_many)
    assert (refusal.value.what, refusal.value.changed) == ("The disk of the ledger is full.", "nothing")
    assert "must free space on it" in refusal.value.next_step
    assert await ledger.read(lambda entries: entries.find()) == [first]
    connection.execute("PRAGMA max_page_count = 1000000")
    await ledger.write(save_many)
    ledger.close()
    assert ids(state_dir) == {each.id for each in [first, *many]}


@pytest.mark.parametrize(("code", "is_full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)])
def test_what_the_file_system_says_of_a_full_disk_is_told_apart(code: int, is_full: bool) -> None:
    with pytest.raises(LedgerUnavailableError) as refusal, as_sqlite_errors():
        raise OSError(code, os.strerror(code))
    assert (refusal.value.what == "The disk of the ledger is full.") is is_full


async def test_no_audit_holds_a_transaction_while_it_prints(state_dir: Path) -> None:
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    await ledger.write(lambda entries: [entries.save(begun()) for _ in range(600)])
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        events = entries.events()
        first = next(events)
        assert isinstance(entries._rows, SqliteRows)
        assert not entries._rows._connection.in_transaction
        checkpoint = sqlite3.connect(ledger.path)
        await ledger.write(saving(begun()))
        assert checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        checkpoint.close()
        assert [first.seq, *(event.seq for event in events)] == list(range(1, 602))
    ledger.close()


# The key


def put_key(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


async def test_the_key_and_what_is_remembered_are_for_the_owner_alone_and_the_key_is_in_no_ledger(
    state_dir: Path,
) -> None:
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    await ledger.write(saving(begun()))
    ledger.close()
    key = (state_dir / "installation.key").read_bytes()
    assert len(key) == 32
    for name in ("installation.key", "ledger.end"):
        assert stat.S_IMODE((state_dir / name).stat().st_mode) == 0o600
    assert not any(key in (state_dir / name).read_bytes() for name in ("ledger.sqlite3", "ledger.end"))


@pytest.mark.parametrize(
    "content", [b"\n" * 31 + b"\xff", b"a" * 64 + b"\n", b"text of more than 32 characters\r\n" * 2]
)
async def test_a_key_can_be_named_and_what_is_remembered_then_stands_beside_it(
    state_dir: Path, tmp_path: Path, content: bytes
) -> None:
    key_file = tmp_path / "keys" / "key"
    key_file.parent.mkdir()
    put_key(key_file, content)
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW, key_file)
    await ledger.write(saving(begun()))
    ledger.close()
    assert {each.name async for each in anyio.Path(state_dir).iterdir()} == {"ledger.sqlite3", "ledger.lock"}
    assert {each.suffix async for each in anyio.Path(key_file.parent).iterdir()} == {"", ".end"}
    shutil.rmtree(state_dir)
    with pytest.raises(LedgerUnavailableError, match="it is gone, though event 1 was recorded here"):
        await SqliteLedger(state_dir, Operation, lambda: NOW, key_file).write(saving(begun()))
    await SqliteLedger(tmp_path / "elsewhere", Operation, lambda: NOW, key_file).write(saving(begun()))


async def test_without_the_key_that_was_named_nothing_more_is_recorded(state_dir: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    put_key(key_file, os.urandom(32))
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW, key_file)
    await ledger.write(saving(begun()))
    ledger.close()
    key_file.write_bytes(os.urandom(32))
    for named in (key_file, None):
        with pytest.raises(LedgerUnavailableError):
            await SqliteLedger(state_dir, Operation, lambda: NOW, named).write(saving(begun()))


def test_a_named_key_that_others_may_read_is_none(tmp_path: Path) -> None:
    put_key(tmp_path / "key", os.urandom(32))
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        installation_key(tmp_path, tmp_path / "key")


@pytest.mark.parametrize("content", [None, b"", b"short", b"too few characters\n"])
def test_a_named_file_without_a_key_is_said_to_be_that(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        put_key(tmp_path / "key", content)
    with pytest.raises(ConfigError, match="MCP_BACKUPS_KEY_FILE names a file that"):
        installation_key(tmp_path, tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 31, b"x" * 33])
async def test_a_key_of_another_length_is_none(state_dir: Path, content: bytes) -> None:
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    await ledger.write(saving(begun()))
    ledger.close()
    (state_dir / "installation.key").write_bytes(content)
    with pytest.raises(LedgerLostError, match="The key of the ledger was changed"):
        await SqliteLedger(state_dir, Operation, lambda: NOW).write(saving(begun()))
    with pytest.raises(LedgerUnavailableError, match="cannot be trusted") as kept:
        await SqliteLedger(state_dir, Operation, lambda: NOW).accept()
    assert "move it away" in kept.value.next_step
    ledger.path.rename(state_dir / "evidence")
    assert await SqliteLedger(state_dir, Operation, lambda: NOW).accept() == "The key of the ledger was changed"
    await SqliteLedger(state_dir, Operation, lambda: NOW).write(saving(begun()))
    assert (state_dir / "installation.key.lost").read_bytes() == content
