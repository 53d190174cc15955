"""Whoever lacks the key alters nothing unseen, in a ledger that a server has open or before it starts."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from mcp_backups.errors import LedgerLostError, LedgerUnavailableError
from mcp_backups.ledger import SqliteLedger, Transaction
from mcp_backups.ledger.key import BEGINNING
from mcp_backups.ledger.sqlite import open_file_for_audit
from mcp_backups.operations.operation import Operation
from tests.stage import NOW

from .made import MOMENT, begun
from .tampering import (
    Tampering,
    append_as_0_1_0,
    cut,
    empty,
    forged,
    recomputed,
    remove,
    replace_with_a_new_one,
    sql,
    write_as_0_1_0,
)

pytestmark = pytest.mark.anyio

OTHER_KEY = b"k" * 32

CHANGED_ROWS = {
    "status": sql("UPDATE operations SET status = 'failed'"),
    "one status": sql("UPDATE operations SET status = 'declined' WHERE seq = 2"),
    "backup, by which it is found": sql("UPDATE operations SET backup_id = 7"),
    "event and MAC of another": sql("UPDATE operations SET (event, mac) = (SELECT seq, mac FROM events WHERE seq = 4)"),
    "server, by which it is found": sql("UPDATE operations SET server_id = 1"),
    "action, by which it is found": sql("UPDATE operations SET action = 'create_backup' WHERE seq = 2"),
    "intent, by which it is counted": sql("UPDATE operations SET sent = 0"),
    "intent that never was": sql("UPDATE operations SET sent = 9 WHERE seq = 3"),
    "account": sql("UPDATE operations SET account = 'another' WHERE seq = 1"),
    "credential": sql("UPDATE operations SET credential = 'another'"),
    "MAC": sql("UPDATE operations SET mac = x'' WHERE seq = 2"),
    "event": sql("UPDATE operations SET event = 1 WHERE seq = 2"),
    "id": sql("UPDATE operations SET id = 'op_' || char(27) || '[2J' WHERE seq = 2"),
    "rows swapped": sql(
        "UPDATE operations SET id = 'x' WHERE seq = 1",
        "UPDATE operations SET id = (SELECT operation_id FROM events WHERE seq = 1) WHERE seq = 2",
    ),
}
CHANGED_EVENTS = {
    "status": sql("UPDATE events SET status = 'succeeded' WHERE seq = 2"),
    "document": sql("UPDATE events SET packed = edited(packed, '501', '499')"),
    "time": sql("UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1"),
    "MAC": sql("UPDATE events SET mac = x'ff' WHERE seq = 3"),
    "a hash as of 0.1.0": sql("UPDATE events SET hash = 'f' WHERE seq = 3"),
    "no MAC": sql("UPDATE events SET mac = x'' WHERE seq = 5"),
    "operation": sql("UPDATE events SET operation_id = 'ledger' WHERE seq = 2"),
}
REMOVED_ROWS = {
    "one": sql("DELETE FROM operations WHERE seq = 1"),
    "the last": sql("DELETE FROM operations WHERE seq = 3"),
    "all": sql("DELETE FROM operations"),
    "one, and its events": sql(
        "DELETE FROM events WHERE operation_id = (SELECT id FROM operations WHERE seq = 1)",
        "DELETE FROM operations WHERE seq = 1",
    ),
    "what was sent": sql("DELETE FROM operations WHERE sent > 0"),
    "one that another stands in for": sql("UPDATE operations SET id = 'op_aaaaaaaaaaaaaaaa' WHERE seq = 2"),
    "event 1": sql("DELETE FROM events WHERE seq = 1"),
    "an event in between": sql("DELETE FROM events WHERE seq = 3"),
    "an event, and the others moved up": sql(
        "DELETE FROM events WHERE seq = 2", "UPDATE events SET seq = seq - 1 WHERE seq > 2"
    ),
}
CUT = {
    "the last event": cut(1),
    "two events": cut(2),
    "all but one": cut(4),
    "the last event, not its row": sql("DELETE FROM events WHERE seq = 5"),
    "all events": sql("DELETE FROM events"),
    "all": sql("DELETE FROM events", "DELETE FROM operations"),
}
RECOMPUTED = {
    "by hashes": recomputed(None),
    "by hashes, changed": recomputed(None, "UPDATE events SET status = 'failed' WHERE seq = 5"),
    "with another key": recomputed(OTHER_KEY),
    "with another key, changed": recomputed(OTHER_KEY, "UPDATE events SET status = 'failed' WHERE seq = 5"),
    "with another key, cut": recomputed(OTHER_KEY, "DELETE FROM events WHERE seq = 5"),
}
FORGED = {
    "approved by a person": forged("approved"),
    "approved, with a key": forged("approved", key=OTHER_KEY),
    "sending": forged("sending"),
    "of a new operation": forged("approved", new=True),
    "of a new operation, with a key": forged("approved", key=OTHER_KEY, new=True),
    "approved by the plan": forged("approved", by="plan", key=OTHER_KEY),
}
LOST = {
    "removed": remove,
    "emptied": empty,
    "replaced": replace_with_a_new_one,
    "tables dropped": sql("DROP TABLE operations", "DROP TABLE events"),
    "of 0.1.0 again": sql("PRAGMA user_version = 0"),
}
EVERY = {
    f"{kind}: {name}": tampering
    for kind, table in {
        "row changed": CHANGED_ROWS,
        "event changed": CHANGED_EVENTS,
        "taken out": REMOVED_ROWS,
        "cut": CUT,
        "recomputed": RECOMPUTED,
        "forged": FORGED,
        "lost": LOST,
    }.items()
    for name, tampering in table.items()
}
each = pytest.mark.parametrize("tampering", EVERY.values(), ids=EVERY.keys())


@pytest.fixture
def open_ledger(state_dir: Path) -> Iterator[Callable[[], SqliteLedger[Operation]]]:
    """Opens one more; all are closed in the end."""
    opened: list[SqliteLedger[Operation]] = []

    def one_more() -> SqliteLedger[Operation]:
        opened.append(SqliteLedger(state_dir, Operation, lambda: NOW))
        return opened[-1]

    yield one_more
    for ledger in opened:
        ledger.close()


def save(*steps: Operation) -> Callable[[Transaction[Operation]], None]:
    def work(entries: Transaction[Operation]) -> None:
        for step in steps:
            entries.save(step)

    return work


def five_events() -> list[Operation]:
    """Three operations: one that was sent, and two plans."""
    sent, plan, other = begun(account="a", credential="c"), begun(), begun("create_backup", "sending")
    sending = sent.updated(status="sending", approved_by="plan", sent=MOMENT)
    return [sent, plan, other.updated(sent=MOMENT), sending, sending.updated(status="succeeded")]


async def refused(ledger: SqliteLedger[Operation]) -> LedgerUnavailableError:
    """Neither is it read for a guard, nor written."""
    for use in (ledger.read, ledger.write):
        with pytest.raises(LedgerUnavailableError) as error:
            await use(lambda entries: entries.find(statuses={"planned"}))
    assert error.value.changed == "nothing"
    assert "\x1b" not in str(error.value)
    return error.value


def verdict(folder: Path) -> str:
    with open_file_for_audit(folder, Operation) as entries:
        assert entries is not None
        return entries.verify()


@each
async def test_it_is_found_while_a_server_runs(
    open_ledger: Callable[[], SqliteLedger[Operation]], tampering: Tampering
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    tampering(ledger.path)
    await refused(ledger)
    await refused(ledger)


@each
async def test_it_is_found_at_a_start(open_ledger: Callable[[], SqliteLedger[Operation]], tampering: Tampering) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    tampering(ledger.path)
    await refused(open_ledger())


@each
async def test_it_is_found_by_an_audit(
    open_ledger: Callable[[], SqliteLedger[Operation]], state_dir: Path, tampering: Tampering
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    tampering(ledger.path)
    if tampering in LOST.values() and tampering not in (LOST["replaced"], LOST["of 0.1.0 again"]):
        with pytest.raises(LedgerUnavailableError):
            verdict(state_dir)
        return
    assert verdict(state_dir)


@pytest.mark.parametrize("tampering", [CUT["the last event"], FORGED["approved by a person"], LOST["removed"]])
async def test_it_is_found_by_another_process_that_has_seen_what_was_there(
    open_ledger: Callable[[], SqliteLedger[Operation]], tampering: Tampering
) -> None:
    """Though it wrote nothing itself."""
    writer, other = open_ledger(), open_ledger()
    await writer.write(save(*five_events()[:-1]))
    await other.read(lambda entries: entries.last_event())
    await writer.write(save(begun()))
    await other.read(lambda entries: entries.last_event())
    writer.close()
    tampering(writer.path)
    (writer.path.parent / "ledger.end").write_bytes((writer.path.parent / "ledger.end").read_bytes())
    await refused(other)


async def test_one_that_is_put_back_as_it_was_is_used_again(
    open_ledger: Callable[[], SqliteLedger[Operation]], tmp_path: Path
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    shutil.copy(ledger.path, tmp_path / "copy")
    remove(ledger.path)
    await refused(open_ledger())
    shutil.copy(tmp_path / "copy", ledger.path)
    assert len(await open_ledger().read(lambda entries: entries.find())) == 3


async def test_a_copy_from_before_is_not_taken_for_the_ledger(
    open_ledger: Callable[[], SqliteLedger[Operation]], tmp_path: Path
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    shutil.copy(ledger.path, tmp_path / "copy")
    await ledger.write(save(begun()))
    shutil.copyfile(tmp_path / "copy", ledger.path)  # the same file, behind SQLite's back
    later = ledger.path.stat().st_mtime_ns + 10**9  # within one tick of the file system's clock it would look the same
    os.utime(ledger.path, ns=(later, later))
    assert "it ends at event 5, but event 6 was recorded here" in (await refused(ledger)).what
    ledger.close()
    await refused(open_ledger())


# What is remembered beside it


@pytest.mark.parametrize("killed_after", ["the commit", "the first commit"])
async def test_a_process_that_is_killed_before_it_remembers_locks_nobody_out(
    open_ledger: Callable[[], SqliteLedger[Operation]], monkeypatch: pytest.MonkeyPatch, killed_after: str
) -> None:
    first = open_ledger()
    if killed_after == "the commit":
        await first.write(save(begun()))
    with monkeypatch.context() as killed:
        killed.setattr("mcp_backups.ledger.key.Remembered.note", lambda *_: None)
        await first.write(save(*five_events()))
    second = open_ledger()
    await second.write(save(begun()))
    second.close()
    cut(1)(second.path)
    await refused(open_ledger())


async def test_what_another_process_recorded_and_did_not_remember_is_remembered_by_who_saw_it(
    open_ledger: Callable[[], SqliteLedger[Operation]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = open_ledger(), open_ledger()
    with monkeypatch.context() as killed:
        killed.setattr("mcp_backups.ledger.key.Remembered.note", lambda *_: None)
        await first.write(save(*five_events()))
    await second.read(lambda entries: entries.find())
    first.close()
    second.close()
    cut(1)(second.path)
    await refused(open_ledger())


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (("installation.key",), "The key of the ledger is gone"),
        (("ledger.end",), "What was remembered of the ledger's end is gone"),
        (("installation.key", "ledger.end"), "event 1 was changed or taken out"),
        (("ledger.sqlite3",), "it is gone, though event 5 was recorded here"),
        (("ledger.sqlite3", "installation.key"), "The key of the ledger is gone"),
        (("ledger.sqlite3", "ledger.end"), "What was remembered of the ledger's end is gone"),
    ],
)
async def test_no_part_of_it_goes_missing_unseen(
    open_ledger: Callable[[], SqliteLedger[Operation]], lost: tuple[str, ...], words: str
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    for name in lost:
        (ledger.path.parent / name).unlink()
    assert words in (await refused(open_ledger())).what


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 768, b"0 0 " + b"0" * 64 + b" 0 x\n", b"9" * 768, "ü 1 2 3 4".encode() * 64],
)
async def test_what_is_remembered_cannot_be_made_up(
    open_ledger: Callable[[], SqliteLedger[Operation]], content: bytes
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    (ledger.path.parent / "ledger.end").write_bytes(content)
    assert (await refused(open_ledger())).what == "What was remembered of the ledger's end was changed."


async def test_one_torn_half_of_what_is_remembered_costs_no_more_than_that_half(
    open_ledger: Callable[[], SqliteLedger[Operation]],
) -> None:
    """As when the machine stops while it is written."""
    ledger = open_ledger()
    for step in five_events():
        await ledger.write(save(step))
    ledger.close()
    path = ledger.path.parent / "ledger.end"
    whole = path.read_bytes()
    for at in (0, 512):
        path.write_bytes(whole[:at] + b"torn" + whole[at + 4 :])
        opened = open_ledger()
        assert len(await opened.read(lambda entries: entries.find())) == 3
        opened.close()


async def test_a_start_that_was_broken_off_is_gone_on_with(
    open_ledger: Callable[[], SqliteLedger[Operation]], monkeypatch: pytest.MonkeyPatch, state_dir: Path
) -> None:
    """At each of the steps in which the key, what is remembered and the ledger come to be."""

    class KilledError(BaseException):
        pass

    for step in range(1, 7):
        done = 0

        def doomed(self: Path, target: Path, last: int = step, real: Callable[..., Path] = Path.replace) -> Path:
            nonlocal done
            done += 1
            if done == last:
                raise KilledError
            return real(self, target)

        with monkeypatch.context() as killed:
            killed.setattr(Path, "replace", doomed)
            try:
                await open_ledger().write(save(begun()))
            except KilledError:
                assert not (state_dir / "ledger.sqlite3").exists()
        await open_ledger().write(save(begun()))
        shutil.rmtree(state_dir)


# Accepting


@pytest.mark.parametrize(
    "lose", [LOST["removed"], LOST["emptied"], CUT["the last event"], CUT["all but one"], LOST["replaced"]]
)
@pytest.mark.parametrize("running", [True, False])
async def test_the_operator_goes_on_without_what_is_missing_and_that_is_recorded(
    open_ledger: Callable[[], SqliteLedger[Operation]], lose: Tampering, running: bool
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    if not running:
        ledger.close()
    lose(ledger.path)
    ledger = ledger if running else open_ledger()
    what = (await refused(ledger)).what
    other = open_ledger()
    missing = await other.accept()
    assert running or missing in what
    assert await other.accept() == ""
    saved = begun()
    await ledger.write(save(saved))
    assert await other.read(lambda entries: entries.get(saved.id)) == saved
    events = await ledger.read(lambda entries: list(entries.events()))
    assert [each.status for each in events if each.operation_id == "ledger"] == ["loss_accepted"]
    assert await ledger.read(lambda entries: entries.verify()) == ""
    ledger.close()
    other.close()
    cut(1)(ledger.path)
    await refused(open_ledger())


@pytest.mark.parametrize(
    "lost",
    [
        ("ledger.end",),
        ("ledger.sqlite3", "installation.key"),
        ("ledger.sqlite3", "ledger.end"),
    ],
)
async def test_what_else_is_missing_is_accepted_too(
    open_ledger: Callable[[], SqliteLedger[Operation]], lost: tuple[str, ...]
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    for name in lost:
        (ledger.path.parent / name).unlink()
    assert await open_ledger().accept()
    again = open_ledger()
    await again.write(save(begun()))
    assert await again.read(lambda entries: entries.verify()) == ""


@pytest.mark.parametrize(
    "tampering",
    [*list(CHANGED_ROWS.values())[:3], CHANGED_EVENTS["document"], RECOMPUTED["with another key"], FORGED["sending"]],
)
async def test_what_was_changed_is_never_accepted_but_a_new_one_can_be_begun(
    open_ledger: Callable[[], SqliteLedger[Operation]], tampering: Tampering
) -> None:
    ledger = open_ledger()
    await ledger.write(save(*five_events()))
    ledger.close()
    tampering(ledger.path)
    with pytest.raises(LedgerUnavailableError, match="cannot be trusted") as damaged:
        await open_ledger().accept()
    assert "move it away" in damaged.value.next_step
    await refused(open_ledger())
    ledger.path.rename(ledger.path.with_name("evidence"))
    assert await open_ledger().accept() == "it is gone, though event 5 was recorded here"
    await open_ledger().write(save(begun()))


async def test_where_nothing_is_missing_nothing_is_accepted_or_made(
    open_ledger: Callable[[], SqliteLedger[Operation]], state_dir: Path
) -> None:
    assert await open_ledger().accept() == ""
    assert not await anyio.Path(state_dir).exists()
    ledger = open_ledger()
    await ledger.write(save(begun()))
    assert await ledger.accept() == ""
    assert await ledger.read(lambda entries: entries.last_event()) == 1


# A ledger of 0.1.0


@pytest.fixture
def old(state_dir: Path) -> list[Operation]:
    """What stands in a ledger that 0.1.0 wrote."""
    steps = five_events()
    write_as_0_1_0(state_dir / "ledger.sqlite3", steps)
    return steps


async def test_a_ledger_of_0_1_0_is_read_on_and_sealed_from_then_on(
    open_ledger: Callable[[], SqliteLedger[Operation]], old: list[Operation], state_dir: Path
) -> None:
    with open_file_for_audit(state_dir, Operation) as entries:
        assert entries is not None
        assert (entries.verify(), len(entries.find())) == ("", 3)
    ledger = open_ledger()
    assert await ledger.read(lambda entries: entries.get(old[0].id)) == old[-1]
    await ledger.write(save(begun()))
    events = await ledger.read(lambda entries: list(entries.events()))
    assert [bool(event.hash) for event in events] == [True] * 5 + [False]
    assert all(event.mac for event in events)
    assert await ledger.read(lambda entries: entries.verify()) == ""


@pytest.mark.usefixtures("old")
async def test_0_1_0_then_refuses_it(open_ledger: Callable[[], SqliteLedger[Operation]]) -> None:
    """While it runs it appends rows of six columns; at its start it wants a hash in every event."""
    ledger = open_ledger()
    await ledger.write(save(begun()))
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    with pytest.raises(sqlite3.OperationalError, match="has 8 columns but 6 values"):
        append_as_0_1_0(connection, [begun()])
    assert connection.execute("SELECT hash FROM events ORDER BY seq DESC LIMIT 1").fetchone() == ("",)
    connection.close()


@pytest.mark.parametrize(
    "tampering",
    [
        sql("UPDATE events SET document = replace(document, '501', '499')"),
        sql("UPDATE operations SET status = 'failed'"),
        sql("DELETE FROM events WHERE seq = 2"),
        sql("DELETE FROM operations WHERE seq = 2"),
        sql("UPDATE events SET hash = 'f' WHERE seq = 5"),
    ],
)
@pytest.mark.usefixtures("old")
async def test_the_part_of_0_1_0_is_checked_as_it_was_and_later_as_all_is(
    open_ledger: Callable[[], SqliteLedger[Operation]], tampering: Tampering, tmp_path: Path
) -> None:
    ledger = open_ledger()
    shutil.copy(ledger.path, tmp_path / "as it was")
    tampering(ledger.path)
    await refused(ledger)
    shutil.copy(tmp_path / "as it was", ledger.path)
    await ledger.write(save(begun()))
    ledger.close()
    tampering(ledger.path)
    await refused(open_ledger())


@pytest.mark.usefixtures("old")
async def test_what_0_1_0_wrote_is_not_put_back_with_a_consent_more(
    open_ledger: Callable[[], SqliteLedger[Operation]], tmp_path: Path
) -> None:
    """Its chain needs no key: once it was sealed, it counts no more without the seal."""
    ledger = open_ledger()
    shutil.copy(ledger.path, tmp_path / "as it was")
    await ledger.read(lambda entries: entries.find())
    ledger.close()
    connection = sqlite3.connect(tmp_path / "as it was")
    append_as_0_1_0(connection, [begun(status="approved", approved_by="person")])
    connection.commit()
    connection.close()
    shutil.copy(tmp_path / "as it was", ledger.path)
    assert "it is one of version 0.1.0" in (await refused(open_ledger())).what


async def test_a_ledger_of_a_later_version_is_left_alone(open_ledger: Callable[[], SqliteLedger[Operation]]) -> None:
    ledger = open_ledger()
    await ledger.write(save(begun()))
    ledger.close()
    sql("PRAGMA user_version = 2")(ledger.path)
    assert "newer version" in (await refused(open_ledger())).what


def test_the_beginning_is_the_least_of_all_ends() -> None:
    assert BEGINNING < BEGINNING._replace(seq=1) < BEGINNING.accepted()
    assert issubclass(LedgerLostError, LedgerUnavailableError)
