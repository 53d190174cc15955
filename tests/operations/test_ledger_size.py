"""The ledger stays small: each fact is kept once, and plans that nobody consented to are not kept for ever."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcp_backups.errors import LedgerUnavailableError
from mcp_backups.ledger import SqliteLedger, Transaction, wholes
from mcp_backups.ledger.sqlite_tables import SqliteRows
from mcp_backups.ledger.tables import changed, difference, pack, unpack
from mcp_backups.operations import recent
from mcp_backups.operations.operation import Operation
from tests.stage import NOW

from .made import MOMENT, ago, begun, operation, saving
from .tampering import Tampering, sql

pytestmark = pytest.mark.anyio


@pytest.fixture
def ledger(state_dir: Path) -> Iterator[SqliteLedger[Operation]]:
    opened = SqliteLedger(state_dir, Operation, lambda: NOW)
    yield opened
    opened.close()


async def found(ledger: SqliteLedger[Operation], **terms: Any) -> list[str]:
    return [each.id for each in await ledger.read(lambda entries: entries.find(**terms))]


# Documents


@pytest.mark.parametrize("document", ["", "{}", '{"id":"op_aaaaaaaaaaaaaaaa"}', "ü 日本 \U0001f600", "x" * 100_000])
def test_a_document_is_unpacked_as_it_was_packed(document: str) -> None:
    assert unpack(pack(document)) == document


@pytest.mark.parametrize(
    "packed", [b"", b"not packed", pack("x" * 100)[:-1], pack("x" * 2**24 + "x"), b"\xff" * 64], ids=range(5)
)
def test_what_was_not_packed_here_is_no_document(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed document"):
        unpack(packed)


@pytest.mark.parametrize(
    ("whole", "now", "expected"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": 1, "b": [2]}, {"b": [2]}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_changes_are_what_is_different_and_make_it_so_again(
    whole: dict[str, Any], now: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert difference(whole, now) == expected
    assert changed(whole, {"whole": 7} | difference(whole, now)) == now


def test_an_operation_is_read_from_its_events_and_one_that_cannot_be_read_spoils_no_other() -> None:
    events = [
        (1, '{"a":1}'),
        (4, '{"whole":1,"b":2}'),
        (5, "not JSON"),
        (6, '{"whole":3}'),
        (9, '{"whole":1,"a":null}'),
    ]
    assert list(wholes(events)) == [{"a": 1}, {"a": 1, "b": 2}, None, None, {}]


# Plans


async def test_only_plans_do_not_wait_for_the_disk(ledger: SqliteLedger[Operation]) -> None:
    seen: list[object] = []

    def look(entries: Transaction[Operation]) -> None:
        seen.extend(entries._rows.execute("PRAGMA synchronous").fetchall())

    await ledger.write_plan(look)
    await ledger.write(look)
    assert seen == [(1,), (2,)]  # SQLite's NORMAL and FULL


@pytest.mark.parametrize(
    "tampering",
    [
        sql("UPDATE plans SET status = 'approved'"),
        sql("UPDATE plans SET packed = edited(packed, '501', '499')"),
        sql("UPDATE plans SET packed = x'00'"),
        sql("UPDATE plans SET mac = x''"),
        sql("UPDATE plans SET server_id = 1"),
        sql("UPDATE plans SET backup_id = 1"),
        sql("UPDATE plans SET account = 'another'"),
        sql("UPDATE plans SET id = 'op_bbbbbbbbbbbbbbbb'"),
    ],
)
async def test_nobody_without_the_key_alters_a_plan(
    ledger: SqliteLedger[Operation], state_dir: Path, tampering: Tampering
) -> None:
    await ledger.write_plan(saving(operation()))
    tampering(ledger.path)
    again = SqliteLedger(state_dir, Operation, lambda: NOW)
    with pytest.raises(LedgerUnavailableError, match="cannot be trusted"):
        await again.read(lambda entries: entries.find())
    again.close()


# Nobody waits


async def test_a_read_waits_for_no_write_that_waits_for_another_process(ledger: SqliteLedger[Operation]) -> None:
    saved, later = begun(), begun()
    await ledger.write(saving(saved))
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    begins = threading.Event()

    def save(entries: Transaction[Operation]) -> None:
        begins.set()
        entries.save(later)

    async with anyio.create_task_group() as others:
        others.start_soon(ledger.write, save)
        await anyio.to_thread.run_sync(_until_locked, ledger)
        with anyio.fail_after(2):  # the write waits for 3 s
            assert await ledger.read(lambda entries: entries.get(saved.id)) == saved
        assert not begins.is_set()
        holder.execute("ROLLBACK")
    holder.close()
    assert await found(ledger) == [later.id, saved.id]


def _until_locked(ledger: SqliteLedger[Operation]) -> None:
    end = time.monotonic() + 2
    while not ledger._lock.locked():
        assert time.monotonic() < end


async def test_a_read_beside_a_write_trusts_no_more_than_any_other(ledger: SqliteLedger[Operation]) -> None:
    await ledger.write(saving(begun(), begun()))
    sql("UPDATE operations SET status = 'failed' WHERE seq = 1")(ledger.path)
    with ledger._turn(is_writing=True), pytest.raises(LedgerUnavailableError, match="cannot be trusted"):
        await ledger.read(lambda entries: entries.find(limit=1))


@pytest.mark.parametrize(
    ("minutes", "young", "unread"),
    [
        ([], 0, 0),
        ([1, 2, 3], 3, 0),
        ([1, 20, 2], 2, 0),
        ([20] * 9 + [1], 1, 0),
        ([20] * 10 + [1], 0, 1),
        ([1] + [20] * 100, 1, 90),
    ],
)
def test_what_is_recent_is_looked_for_no_further_than_to_some_in_a_row_that_are_older(
    minutes: list[int], young: int, unread: int
) -> None:
    sent = (begun(status="sending", sent=ago(minutes=each, ticking=60 * each), created=MOMENT) for each in minutes)
    assert len(list(recent(sent, timedelta(minutes=10), MOMENT))) == young
    assert len(list(sent)) == unread


async def test_to_show_all_of_it_each_event_is_looked_at_once(ledger: SqliteLedger[Operation]) -> None:
    steps: list[int] = []

    def count(entries: Transaction[Operation]) -> int:
        before = len(steps)
        assert isinstance(entries._rows, SqliteRows)
        entries._rows._connection.set_progress_handler(lambda: steps.append(1), 100)
        shown = [event for each, first, last in entries.spans() for event in entries.events(each, first - 1, last)]
        entries._rows._connection.set_progress_handler(None, 0)
        assert len(shown) == entries.last_event()
        return len(steps) - before

    taken = []
    for _ in range(2):
        some = [begun() for _ in range(400)]
        await ledger.write(saving(*some, *(each.updated(status="preparing") for each in some[::40])))
        taken.append(await ledger.read(count))
    assert taken[1] < 2.5 * taken[0]
