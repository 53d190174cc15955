"""The ledger: whole or not at all, private, and worth nothing once it was tampered with."""

import os
import re
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.to_thread
import pytest

from mcp_backups.errors import BackupsError, BusyError, LedgerUnavailableError
from mcp_backups.ledger import SqliteLedger, Transaction, transaction
from mcp_backups.ledger.key import BEGINNING, End, Remembered
from mcp_backups.ledger.sqlite import open_file_for_audit
from mcp_backups.ledger.sqlite_tables import prepare_file
from mcp_backups.ledger.tables import Event
from mcp_backups.operations.operation import Operation, PruneItem, new_id
from tests.stage import NOW, PATIENCE

from .made import MOMENT, backup, begun, operation, saving
from .tampering import sql, write_as_0_1_0

pytestmark = pytest.mark.anyio


@pytest.fixture
def ledger(state_dir: Path) -> Iterator[SqliteLedger[Operation]]:
    opened = SqliteLedger(state_dir, Operation, lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def generous_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The permissions of a folder and of what is in it."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
async def test_it_is_its_owners_alone(ledger: SqliteLedger[Operation], state_dir: Path, generous_umask: None) -> None:
    del generous_umask
    await ledger.write(saving(begun()))
    assert modes(state_dir) == {
        "state": 0o700,
        "installation.key": 0o600,
        "ledger.end": 0o600,
        "ledger.lock": 0o600,
        "ledger.sqlite3": 0o600,
        "ledger.sqlite3-wal": 0o600,
        "ledger.sqlite3-shm": 0o600,
    }


async def test_it_is_made_at_its_first_use(ledger: SqliteLedger[Operation], state_dir: Path) -> None:
    assert not await anyio.Path(state_dir).exists()
    await ledger.read(lambda entries: entries.find())
    assert ledger.path.exists()


async def test_a_closed_one_lets_go_of_its_file_and_opens_again_when_it_is_used(
    ledger: SqliteLedger[Operation],
) -> None:
    await ledger.write(saving(begun()))
    assert ledger._opened is not None
    assert repr(ledger._opened.key) not in repr(ledger._opened)
    connection = ledger._opened.connection
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
    assert len(await ledger.read(lambda entries: entries.find())) == 1


async def test_an_audit_reads_what_is_there_and_can_write_nothing(
    ledger: SqliteLedger[Operation], state_dir: Path
) -> None:
    with open_file_for_audit(state_dir, Operation) as nothing:
        assert nothing is None
    assert not ledger.path.exists()
    saved = begun()
    await ledger.write(saving(saved))
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        assert entries.find() == [saved]

    def write() -> None:
        with open_file_for_audit(state_dir, Operation) as entries:
            assert entries is not None
            entries.save(begun())

    with pytest.raises(LedgerUnavailableError):
        write()
    assert await ledger.read(lambda entries: entries.find()) == [saved]


@pytest.mark.parametrize("save", [begun, operation])
def test_without_its_key_nothing_is_recorded(state_dir: Path, save: Callable[[], Operation]) -> None:
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    anyio.run(ledger.write, saving(begun()))
    ledger.close()
    (state_dir / "installation.key").unlink()
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        assert entries.damage() == "its key, the file installation.key, cannot be read"
        with pytest.raises(LedgerUnavailableError, match="can only be read here"):
            entries.save(save())


def test_where_neither_ledger_nor_key_can_be_read_it_is_not_told_that_there_is_none(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    (state_dir / "installation.key").write_bytes(b"too short")
    with pytest.raises(LedgerUnavailableError), open_file_for_audit(state_dir, Operation):
        pass
    with open_file_for_audit(state_dir, Operation, anyway=True) as entries:
        assert entries is None


TAMPERINGS = [
    "UPDATE operations SET status = 'succeeded'",
    "UPDATE operations SET backup_id = 7",
    "UPDATE events SET status = 'succeeded' WHERE seq = 2",
    "UPDATE events SET packed = edited(packed, '501', '499')",
    "UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1",
    "UPDATE events SET hash = 'f' WHERE seq = 3",
    "DELETE FROM events WHERE seq = 1",
    "DELETE FROM events WHERE seq = 3",
    "DELETE FROM events",
    "DELETE FROM operations WHERE seq = 1",
    "DELETE FROM operations",
]


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_one_that_was_tampered_with_is_not_trusted(
    ledger: SqliteLedger[Operation], state_dir: Path, tampering: str
) -> None:
    await ledger.write(saving(begun(), begun(), begun()))
    ledger.close()
    sql(tampering)(ledger.path)
    again = SqliteLedger(state_dir, Operation, lambda: NOW)
    for use in (again.read, again.write):
        with pytest.raises(LedgerUnavailableError, match="cannot be trusted") as refused:
            await use(lambda entries: entries.find())
        assert refused.value.changed == "nothing"
    again.close()


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"\0" * 8192])
async def test_a_file_that_is_no_ledger_is_not_written_to(
    ledger: SqliteLedger[Operation], state_dir: Path, content: bytes
) -> None:
    await anyio.Path(state_dir).mkdir()
    ledger.path.write_bytes(content)
    with pytest.raises(LedgerUnavailableError):
        await ledger.write(saving(begun()))
    assert ledger.path.read_bytes() == content


async def test_a_folder_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ledger = SqliteLedger(tmp_path / "file" / "state", Operation, lambda: NOW)
    with pytest.raises(LedgerUnavailableError):
        await ledger.write(saving(begun()))


async def test_a_call_waits_for_no_more_than_one_other(
    ledger: SqliteLedger[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.sqlite.LOCK_WAIT_SECONDS", 0.05)
    held, done = threading.Event(), threading.Event()

    def hold(entries: Transaction[Operation]) -> None:
        held.set()
        assert done.wait(10)
        entries.save(saved)

    saved = begun()
    async with anyio.create_task_group() as others:
        others.start_soon(ledger.write, hold)
        assert await anyio.to_thread.run_sync(held.wait, 10)
        with pytest.raises(BusyError, match="Other calls are waiting for the ledger"):
            await ledger.write(lambda entries: entries.last_event())
        done.set()
    assert await ledger.read(lambda entries: entries.get(saved.id)) == saved


async def test_one_that_another_process_holds_is_busy_for_writing_and_open_for_reading(
    ledger: SqliteLedger[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.sqlite.LOCK_WAIT_SECONDS", 0.05)
    saved = begun()
    await ledger.write(saving(saved))
    other = SqliteLedger(ledger.path.parent, Operation, lambda: NOW)
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError):
            await other.write(saving(begun()))
        assert await other.read(lambda entries: entries.get(saved.id)) == saved
        holder.execute("ROLLBACK")
        await other.write(saving(begun()))
    finally:
        holder.close()
        other.close()


async def test_writes_of_two_processes_at_once_are_all_kept_and_the_chain_stays_whole(
    ledger: SqliteLedger[Operation], state_dir: Path
) -> None:
    other = SqliteLedger(state_dir, Operation, lambda: NOW)
    async with anyio.create_task_group() as group:
        for each in (ledger, other) * 20:
            group.start_soon(each.write, saving(begun()))
    assert len(await ledger.read(lambda entries: list(entries.events()))) == 40
    assert await other.read(lambda entries: entries.verify()) == ""
    other.close()


async def test_processes_that_open_a_new_one_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    for attempt in range(20):
        ledgers = [SqliteLedger(tmp_path / str(attempt), Operation, lambda: NOW) for _ in range(4)]
        async with anyio.create_task_group() as group:
            for each in ledgers:
                group.start_soon(each.write, saving(begun()))
        assert len(await ledgers[0].read(lambda entries: entries.find())) == 4
        for each in ledgers:
            each.close()


async def test_its_errors_are_for_callers_and_name_no_path(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(BackupsError) as failed:
        await SqliteLedger(tmp_path / "state", Operation, lambda: NOW).read(lambda entries: entries.find())
    assert str(tmp_path) not in str(failed.value)


async def test_what_another_process_records_while_it_is_looked_is_not_taken_for_lost(
    ledger: SqliteLedger[Operation], state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (begun() for _ in range(3))
    await ledger.write(saving(first))
    other = SqliteLedger(state_dir, Operation, lambda: NOW)
    await other.write(saving(second))
    read, left = Remembered.read, [third]

    def read_late(memory: Remembered) -> End | None:
        while left:
            other._run(saving(left.pop()), "BEGIN IMMEDIATE")
        return read(memory)

    monkeypatch.setattr(Remembered, "read", read_late)
    found = await ledger.read(lambda entries: entries.find())
    other.close()
    assert {each.id for each in found} == {first.id, second.id, third.id}


async def test_who_reads_while_it_is_opened_waits_for_that(ledger: SqliteLedger[Operation]) -> None:
    is_open, waits, run = threading.Event(), threading.Event(), ledger._run

    def waiting(work: Callable[[Transaction[Operation]], Any], begin: str) -> Any:
        waits.set()
        return run(work, begin)

    ledger._run = waiting  # type: ignore[method-assign]
    found: list[int] = []

    def hold() -> None:
        with ledger._turn(is_writing=True):
            is_open.set()
            assert waits.wait(PATIENCE)

    async def read() -> None:
        found.append(await ledger.read(lambda entries: entries.last_event()))

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, hold)
        await anyio.to_thread.run_sync(is_open.wait, PATIENCE)
        group.start_soon(read)
    assert found == [0]


class Interrupted(sqlite3.Connection):
    """A connection with something that comes before a statement."""

    before: ClassVar[dict[str, Callable[[sqlite3.Connection], None]]] = {}

    def execute(self, query: str, *values: Any) -> sqlite3.Cursor:
        for beginning in [each for each in self.before if query.lstrip().startswith(each)]:
            self.before.pop(beginning)(self)
        return super().execute(query, *values)


def prepare(path: Path, before: dict[str, Callable[[sqlite3.Connection], None]]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, factory=Interrupted)
    Interrupted.before = before
    prepare_file(connection, Operation, lambda: NOW, b"k" * 32, BEGINNING)
    return connection


def test_tables_that_another_process_has_just_made_are_left_as_they_are(tmp_path: Path) -> None:
    path, others = tmp_path / "ledger.sqlite3", []
    with closing(prepare(path, {"BEGIN IMMEDIATE": lambda _: others.append(prepare(path, {}))})):
        (other,) = others
        other.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("undone", [True, False])
def test_tables_that_cannot_be_made_are_not_half_made(tmp_path: Path, undone: bool) -> None:
    """SQLite undoes a transaction by itself where the disk is full or fails."""

    def fail(connection: sqlite3.Connection) -> None:
        if undone:
            connection.execute("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    path = tmp_path / "ledger.sqlite3"
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        prepare(path, {"CREATE INDEX": fail})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)


# Rows that are older than what is looked at when it is opened


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "_RECENT_EVENTS", 2)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("UPDATE operations SET mac = x'00' WHERE seq = 1", "operation {0} was changed"),
        ("UPDATE events SET packed = edited(packed, '501', '499') WHERE seq = 1", "operation {0} was changed"),
    ],
)
async def test_what_is_read_is_checked_however_old_it_is(
    ledger: SqliteLedger[Operation], tampering: str, told: str
) -> None:
    saved = [begun() for _ in range(5)]
    await ledger.write(saving(*saved))
    ledger.close()
    sql(tampering)(ledger.path)
    assert await ledger.read(lambda entries: entries.get(saved[3].id)) == saved[3]
    with pytest.raises(LedgerUnavailableError, match=re.escape(told.format(saved[0].id))):
        await ledger.read(lambda entries: entries.get(saved[0].id))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("tampering", "told"),
    [
        ("DELETE FROM events WHERE seq = 4", "event 4 was changed or taken out"),
        ("UPDATE events SET packed = edited(packed, '501', '499') WHERE seq = 1", "is not as its last event says"),
    ],
)
async def test_the_last_events_are_checked_with_what_they_follow_from(
    ledger: SqliteLedger[Operation], tampering: str, told: str
) -> None:
    first = begun()
    await ledger.write(saving(first, begun(), begun(), begun(), begun(), first.updated(evidence="seen")))
    ledger.close()
    sql(tampering)(ledger.path)
    with pytest.raises(LedgerUnavailableError, match=told):
        await ledger.read(lambda entries: entries.last_event())


async def test_only_some_of_what_was_read_is_known_by_heart(
    ledger: SqliteLedger[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_MOST_KNOWN", 3)
    saved = [begun() for _ in range(8)]
    await ledger.write(saving(*saved))
    for _ in range(2):
        assert await ledger.read(lambda entries: entries.find()) == saved[::-1]
    assert len(ledger._known) <= 3


def test_of_several_processes_that_begin_to_remember_none_undoes_what_another_remembers(tmp_path: Path) -> None:
    memory, seen = Remembered(tmp_path / "ledger.end", b"key"), BEGINNING._replace(seq=7)
    memory.begin_once()
    assert memory.read() == BEGINNING
    memory.note(seen)
    memory.begin_once()
    assert memory.read() == seen
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.end"]


# As 0.1.0 left it

KEPT = PruneItem(backup=backup(499), reason="keep-last 1", fate="keep")


@pytest.mark.parametrize(
    ("action", "details"),
    [
        ("create_backup", {"marked": False, "baseline": (501, 499), "baseline_complete": False}),
        ("delete_backup", {"good_left": 3, "way_back_of": new_id(), "being_restored_by": new_id()}),
        ("delete_backup", {"part_of": new_id()}),
        ("restore_server", {"safety_operation": new_id(), "undo_backup_id": 502}),
        ("prune_backups", {"items": (KEPT, KEPT.model_copy(update={"fate": "delete", "operation_id": new_id()}))}),
    ],
)
async def test_what_0_1_0_kept_of_each_action_is_found_where_it_stands_now(
    state_dir: Path, action: str, details: dict[str, Any]
) -> None:
    saved = operation(action, "succeeded", sent=MOMENT, approved_by="plan").updated(**details)
    write_as_0_1_0(state_dir / "ledger.sqlite3", [saved])
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    assert await ledger.read(lambda entries: entries.get(saved.id)) == saved
    ledger.close()


@pytest.mark.parametrize(
    ("action", "fields", "status"),
    [
        ("delete_backup", {"sent": MOMENT, "error_code": "upstream_unavailable"}, "unknown"),
        ("delete_backup", {"sent": MOMENT, "error_code": "forbidden"}, "failed"),
        ("delete_backup", {"error_code": "upstream_unavailable"}, "failed"),
        ("create_backup", {"sent": MOMENT, "error_code": "upstream_unavailable"}, "failed"),
    ],
)
async def test_a_delete_that_0_1_0_gave_up_is_unknown_again(
    state_dir: Path, action: str, fields: dict[str, Any], status: str
) -> None:
    given_up = operation(action, "failed", approved_by="plan", **fields)
    write_as_0_1_0(state_dir / "ledger.sqlite3", [begun(), given_up])
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    found = await ledger.read(lambda entries: entries.get(given_up.id))
    assert found is not None
    assert (found.status, found.error_code) == (status, "" if status == "unknown" else given_up.error_code)
    assert await ledger.read(lambda entries: entries.verify()) == ""
    ledger.close()


def test_one_of_0_1_0_is_read_as_it_is(state_dir: Path) -> None:
    deleted, other = begun(status="sending", sent=MOMENT, backup_id=501), begun(status="sending", sent=MOMENT)
    write_as_0_1_0(state_dir / "ledger.sqlite3", [deleted, other])
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        assert entries.get(new_id()) is None
        assert list(entries.sent_for_backups("delete_backup", {501}, ["sending"])) == [deleted]
    sql("UPDATE events SET document = 'nonsense' WHERE seq = 1")(state_dir / "ledger.sqlite3")
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        with pytest.raises(LedgerUnavailableError, match=f"operation {deleted.id} was changed"):
            entries.get(deleted.id)


async def test_what_is_missing_of_what_was_recorded_is_told(ledger: SqliteLedger[Operation]) -> None:
    assert await ledger.read(lambda entries: entries.lacks(End(0, 0, "", 0))) == ""
    nothing = await ledger.read(lambda entries: entries.lacks(End(0, 1, "00", 1)))
    assert nothing == "it is empty, but event 1 was recorded here"
    await ledger.write(saving(begun(), begun(), begun()))
    end = await ledger.read(lambda entries: entries.known_end)
    assert (end.seq, end.operations) == (3, 3)

    async def lacks(**other: Any) -> str:
        return await ledger.read(lambda entries: entries.lacks(end._replace(**other)))

    assert await lacks() == await lacks(operations=2) == ""
    assert await lacks(seq=4) == "it ends at event 3, but event 4 was recorded here"
    assert await lacks(seq=2) == "its event 2 is not the one that was recorded here"
    assert await lacks(operations=4) == "1 operation of those recorded here is gone"
    assert await lacks(operations=5) == "2 operations of those recorded here are gone"


async def test_what_one_version_sealed_the_next_can_check(state_dir: Path, tmp_path: Path) -> None:
    """A ledger outlives the versions: who changes these forms has to read the old ones too."""
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    event = Event(2, "2026-11-23T09:30:00+00:00", "op_aaaaaaaaaaaaaaaa", "sending", '{"status":"sending"}')
    with closing(SqliteLedger(state_dir, Operation, lambda: NOW, key)) as ledger:
        text, plan = await ledger.read(
            lambda entries: (entries.seal("a plan"), entries._mac_of_plan("op_aaaaaaaaaaaaaaaa", "{}"))
        )
    assert (
        event.expected_mac(b"k" * 32, "00" * 32) == "e1f30d2c32a5f8b1d80beeb4a22d319a285dfa567d8239f53f272f3e3e23dcc2"
    )
    assert text == "850707f4dd6ab7cb3a67a482274a4ac76a16b31ca32d2db9fab55805fb4214e1"
    assert plan == "44aae8d918d9f1ce47be973a8b1eb09182e46b060f309ece54038030919377a0"


@pytest.mark.parametrize(
    ("version", "what", "advice"),
    [
        (1_000_000, "The ledger was moved to PostgreSQL.", "The operator must set MCP_BACKUPS_LEDGER_URL here too. "),
        (
            99,
            "A newer version of mcp-backups has written to the ledger.",
            "The operator must upgrade mcp-backups here ",
        ),
    ],
)
async def test_a_ledger_of_another_kind_is_not_written_to(
    state_dir: Path, version: int, what: str, advice: str
) -> None:
    with closing(SqliteLedger(state_dir, Operation, lambda: NOW)) as ledger:
        await ledger.write(saving(begun()))
    sql(f"PRAGMA user_version = {version}")(state_dir / "ledger.sqlite3")
    with (
        closing(SqliteLedger(state_dir, Operation, lambda: NOW)) as ledger,
        pytest.raises(LedgerUnavailableError) as refusal,
    ):
        await ledger.write(saving(begun()))
    assert refusal.value.what == what
    assert refusal.value.next_step.startswith(advice)
    assert refusal.value.next_step.endswith(" still works.")
