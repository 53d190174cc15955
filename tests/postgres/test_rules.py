"""The rules by which several processes write to one ledger in PostgreSQL; without one of them, a test here fails."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg import errors

from mcp_backups.clock import system_clock
from mcp_backups.errors import BusyError, LedgerUnavailableError, UnconfirmedError
from mcp_backups.ledger import Transaction, postgres_session
from mcp_backups.ledger.postgres import PostgresLedger
from mcp_backups.ledger.postgres_session import PostgresSession
from mcp_backups.operations import Operation
from mcp_backups.operations.operation import new_id
from tests.operations.made import MOMENT, begun, operation, saving
from tests.postgres.cluster import OWNER, SERVER, Cluster, Database
from tests.postgres.conftest import OpenLedger
from tests.postgres.relay import as_another_process, relay_before
from tests.stage import PATIENCE, until

pytestmark = pytest.mark.anyio

Ledger = PostgresLedger[Operation]
Entries = Transaction[Operation]


async def whole(ledger: Ledger) -> list[str]:
    """The statuses that the ledger tells of, which is whole."""
    fault, events = await ledger.read(lambda entries: (entries.verify(), list(entries.events())))
    assert fault == ""
    return [each.status for each in events]


class Held:
    """Work that records something, and then waits within its transaction until it is let go on."""

    def __init__(self, saved: Operation) -> None:
        self.saved = saved
        self.is_inside, self.may_end = threading.Event(), threading.Event()

    def __call__(self, entries: Entries) -> None:
        entries.save(self.saved)
        self.is_inside.set()
        assert self.may_end.wait(PATIENCE)

    async def begin(self, ledger: Ledger, group: anyio.abc.TaskGroup) -> None:
        group.start_soon(ledger.write, self)
        assert await anyio.to_thread.run_sync(self.is_inside.wait, PATIENCE)


def waiting_for_lock(database: Database) -> bool:
    return bool(database.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


# 1. The lock comes first, alone


async def test_a_write_sees_all_that_was_recorded_before_it_got_the_lock(
    ledger: Ledger, other: Ledger, database: Database
) -> None:
    """However early it began: else two calls, each right by itself, could together delete the last two backups."""
    first, found = Held(begun()), []
    await other.write(lambda _entries: None)
    async with anyio.create_task_group() as group:
        await first.begin(ledger, group)
        group.start_soon(other.write, lambda entries: found.append(entries.get(first.saved.id)))
        await until(lambda: waiting_for_lock(database))
        first.may_end.set()
    assert found == [first.saved]


# 2. Numbers are counted on under the lock


async def test_a_write_that_was_undone_leaves_no_gap(ledger: Ledger, other: Ledger) -> None:
    def fail(entries: Entries) -> None:
        entries.save(begun())
        raise BusyError("Stop.")

    for each in (ledger, other):
        await each.write(saving(begun()))
        with pytest.raises(BusyError):
            await each.write(fail)
    await ledger.write(saving(begun()))
    assert await ledger.read(lambda entries: [each.seq for each in entries.events()]) == [1, 2, 3]
    assert len(await whole(other)) == 3


async def test_nothing_counts_by_itself(database: Database) -> None:
    assert database.execute("SELECT 1 FROM pg_class WHERE relkind = 'S'") == []
    assert database.execute("SELECT 1 FROM pg_attribute WHERE attidentity <> '' OR attgenerated <> ''") == []


async def test_writes_of_two_processes_at_once_are_all_kept_and_the_chain_stays_whole(
    ledger: Ledger, other: Ledger
) -> None:
    async with anyio.create_task_group() as group:
        for each in (ledger, other) * 10:
            group.start_soon(each.write, saving(begun(), begun()))
    assert len(await whole(ledger)) == 40


# 3. A read sees one state


async def test_a_read_sees_one_state_whoever_writes_meanwhile(ledger: Ledger, other: Ledger) -> None:
    seen: list[int] = []

    def look(entries: Entries) -> None:
        seen.append(entries.last_event())
        other._write(saving(begun()))
        seen.append(entries.last_event())

    await ledger.write(saving(begun()))
    await ledger.read(look)
    assert seen == [1, 1]
    assert await ledger.read(lambda entries: entries.last_event()) == 2


async def test_a_read_and_an_audit_can_record_nothing(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailableError):
        await ledger.read(saving(begun()))

    def save() -> None:
        with ledger.audit() as entries:
            assert entries is not None
            entries.save(operation())

    with pytest.raises(LedgerUnavailableError):
        save()
    assert await whole(ledger) == []


async def test_an_audit_reads_in_pages_and_holds_no_transaction_meanwhile(ledger: Ledger, database: Database) -> None:
    await ledger.write(saving(*(begun() for _ in range(600))))
    ledger.close()
    with ledger.audit() as entries:
        assert entries is not None
        events = entries.events()
        assert next(events).seq == 1
        states = database.execute(f"SELECT state FROM pg_stat_activity WHERE usename = '{SERVER}'")
        assert states == [("idle",)]
        assert len([*events]) == 599
        assert entries.verify() == ""


# 4. An unanswered COMMIT is neither yes nor no


@pytest.mark.parametrize("lost", ["question", "answer"])
@pytest.mark.parametrize("status", ["approved", "planned"])
async def test_what_was_not_answered_is_recorded_once(
    database: Database, open_ledger: OpenLedger, other: Ledger, lost: str, status: str
) -> None:
    with relay_before(database) as (relay, url):
        ledger, saved = open_ledger(url), operation(status=status)
        use = ledger.write if status == "approved" else ledger.write_plan
        await ledger.read(lambda entries: entries.last_event())
        relay.lose = lost
        await use(saving(saved))
        assert relay.lose == ""
        await ledger.write(saving(begun()))
    assert await whole(other) == ["approved"] * (2 if status == "approved" else 1)
    assert await other.read(lambda entries: entries.get(saved.id)) == saved


@pytest.mark.parametrize(("lost", "recorded"), [("question", []), ("answer", ["approved"])])
async def test_what_cannot_be_found_out_is_told_as_that(
    database: Database,
    open_ledger: OpenLedger,
    other: Ledger,
    lost: str,
    recorded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.postgres.LOCK_WAIT_SECONDS", 0.2)
    with relay_before(database) as (relay, url):
        ledger = open_ledger(url)
        await ledger.write(lambda _entries: None)

        def close(entries: Entries) -> None:
            entries.save(begun())
            relay.closes, relay.lose = True, lost

        with pytest.raises(UnconfirmedError) as told:
            await ledger.write(close)
        assert told.value.changed == "nothing"
        await until(lambda: not database.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        assert await whole(other) == recorded
        relay.is_open = True
        await ledger.write(saving(begun()))
    assert await whole(other) == [*recorded, "approved"]


async def test_a_commit_that_is_refused_is_told_and_leaves_nothing(ledger: Ledger, database: Database) -> None:
    database.execute(
        "CREATE FUNCTION mcp_backups.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE EXCEPTION ''not today''; END'",
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON mcp_backups.events DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION mcp_backups.refuse()",
    )
    with pytest.raises(LedgerUnavailableError) as told:
        await ledger.write(saving(begun()))
    assert not isinstance(told.value, UnconfirmedError)
    database.execute("DROP TRIGGER refuse ON mcp_backups.events")
    await ledger.write(saving(begun()))
    assert len(await whole(ledger)) == 1


async def test_a_commit_that_undoes_is_none(ledger: Ledger, other: Ledger) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK, and no error, where a statement before it failed."""

    def fail(entries: Entries) -> None:
        entries.save(begun())
        with suppress(psycopg.Error):
            entries._rows.execute("SELECT nonsense")

    with pytest.raises(LedgerUnavailableError, match="undid what was to be recorded"):
        await ledger.write(fail)
    await ledger.write(saving(begun()))
    assert len(await whole(other)) == 1


# 5. Settings, refusals, and what may be tried again

SETTINGS = {
    "synchronous_commit": "on",
    "lock_timeout": "3s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "2s",
    "search_path": "mcp_backups, pg_temp",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "client_encoding": "UTF8",
    "tcp_keepalives_idle": "5",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_session_has_its_own_settings_whatever_the_database_says(database: Database, name: str) -> None:
    options = "-c%20statement_timeout%3D0%20-c%20datestyle%3DGerman%20-c%20client_encoding%3DSQL_ASCII"
    session = PostgresSession(f"{database.url}?client_encoding=SQL_ASCII&options={options}")
    try:
        assert session.connection.execute(f"SHOW {name}".encode()).fetchone() == (SETTINGS[name],)
    finally:
        session.close()


@contextmanager
def altered(database: Database, change: str, back: str) -> Iterator[None]:
    database.execute(change, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        database.execute(back, "SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("change", "back", "told"),
    [
        ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync", "with fsync off"),
        (f"GRANT UPDATE ON mcp_backups.events TO {SERVER}", "SELECT 1", "may change or remove events"),
        (f"GRANT TRUNCATE ON mcp_backups.events TO {SERVER}", "SELECT 1", "may change or remove events"),
        (f"GRANT DELETE ON mcp_backups.events TO {SERVER}", "SELECT 1", "may change or remove events"),
        (f"GRANT {OWNER} TO {SERVER}", f"REVOKE {OWNER} FROM {SERVER}", "may change or remove events"),
        ("DROP SCHEMA mcp_backups CASCADE", "SELECT 1", "holds no ledger yet"),
        (f"REVOKE INSERT ON mcp_backups.events FROM {SERVER}", "SELECT 1", "may not use the ledger"),
        ("UPDATE mcp_backups.ledger SET version = 99", "SELECT 1", "A newer version of mcp-backups"),
        ("UPDATE mcp_backups.ledger SET version = 0", "SELECT 1", "of an older version"),
        ("DELETE FROM mcp_backups.ledger", "SELECT 1", "of an older version"),
        (f"ALTER ROLE {SERVER} CONNECTION LIMIT 0", f"ALTER ROLE {SERVER} CONNECTION LIMIT -1", "cannot be reached"),
    ],
)
async def test_a_database_that_is_not_to_be_relied_on_is_refused(
    ledger: Ledger, database: Database, change: str, back: str, told: str
) -> None:
    with altered(database, change, back):
        await until(lambda: "fsync" not in change or database.execute("SHOW fsync") == [("off",)])
        with pytest.raises(LedgerUnavailableError, match=told):
            await ledger.write(saving(begun()))


async def test_an_older_replica_goes_on_reading_when_the_tables_are_newer(ledger: Ledger, database: Database) -> None:
    await ledger.write(saving(begun()))
    database.execute("UPDATE mcp_backups.ledger SET version = 99", "ALTER TABLE mcp_backups.events ADD COLUMN new INT")
    assert await whole(ledger) == ["approved"]
    with pytest.raises(LedgerUnavailableError, match=r"must upgrade mcp-backups here too"):
        await ledger.write(saving(begun()))


async def test_a_standby_is_refused(ledger: Ledger, database: Database, cluster: Cluster) -> None:
    cluster.stop("fast")
    signal = cluster.folder / "standby.signal"
    signal.touch()
    cluster.start()
    try:
        for use in (ledger.read, ledger.write):
            with pytest.raises(LedgerUnavailableError, match="it is a standby, or is being restored"):
                await use(lambda entries: entries.last_event())
    finally:
        cluster.stop("fast")
        signal.unlink()
        cluster.start()
    assert database.execute("SELECT pg_is_in_recovery()") == [(False,)]
    await ledger.write(saving(begun()))


async def test_an_old_postgresql_is_told_as_such(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_session._SETTINGS, "setting_of_the_future", "on")
    with pytest.raises(LedgerUnavailableError, match="needs PostgreSQL 14 or later"):
        await ledger.write(saving(begun()))


AGAIN = [errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation]


@pytest.mark.parametrize("kind", AGAIN)
@pytest.mark.parametrize("times", [2, 3])
async def test_what_came_in_between_has_the_whole_work_done_again_three_times_at_most(
    ledger: Ledger, kind: type[psycopg.Error], times: int
) -> None:
    tries: list[int] = []

    def work(entries: Entries) -> None:
        entries.save(begun())
        tries.append(1)
        if len(tries) <= times:
            raise kind

    if times == 3:
        with pytest.raises(BusyError, match="Another process holds the ledger"):
            await ledger.write(work)
    else:
        await ledger.write(work)
    assert len(tries) == 3
    assert await whole(ledger) == ["approved"] * (times == 2)


async def test_whoever_waits_for_the_lock_too_long_is_told_that_it_is_busy(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_session._SETTINGS, "lock_timeout", "50ms")
    first = Held(begun())
    async with anyio.create_task_group() as group:
        await first.begin(ledger, group)
        with pytest.raises(BusyError):
            await other.write(saving(begun()))
        assert await other.read(lambda entries: entries.last_event()) == 0, "reading goes on"
        first.may_end.set()
    await other.write(saving(begun()))
    assert len(await whole(other)) == 2


async def test_a_process_that_stands_still_in_a_transaction_holds_nobody_up_for_long(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_session._SETTINGS, "idle_in_transaction_session_timeout", "100ms")
    first = Held(begun())
    async with anyio.create_task_group() as group:
        await first.begin(ledger, group)
        await other.write(saving(begun()))
        assert await whole(other) == ["approved"]
        first.may_end.set()
    assert await whole(other) == ["approved", "approved"], "its work was done again"


# 6. Who is alive


async def test_a_process_is_at_work_until_its_connection_breaks_and_then_under_another_id(
    ledger: Ledger, other: Ledger, database: Database
) -> None:
    async with ledger.liveness.at_work("op_1") as owner:
        await other.read(lambda _entries: None)
        assert other.liveness.is_at_work(owner, "op_1")
        database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{SERVER}'")
        await until(lambda: not database.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        await other.read(lambda _entries: None)
        assert not other.liveness.is_at_work(owner, "op_1")
        assert ledger.liveness.is_at_work(owner, "op_1"), "it knows better itself"
        async with ledger.liveness.at_work("op_2") as again:
            assert again != owner
            await other.read(lambda _entries: None)
            assert other.liveness.is_at_work(again, "op_2")
    assert not ledger.liveness.is_at_work(owner, "op_1")
    ledger.liveness.leave()
    await until(lambda: not database.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
    await other.read(lambda _entries: None)
    assert not other.liveness.is_at_work(again, "op_2")


@pytest.mark.parametrize("owner", ["", "0" * 16, "no owner", "../../x"])
async def test_nobody_is_at_work_for_a_process_that_never_was(ledger: Ledger, owner: str) -> None:
    await ledger.read(lambda _entries: None)
    assert not ledger.liveness.is_at_work(owner, "op_1")


async def test_behind_a_connection_pooler_nothing_is_begun(database: Database, open_ledger: OpenLedger) -> None:
    """There a lock that shows that a process lives is whoever's is given the connection next."""
    with relay_before(database) as (relay, url):
        relay.change = as_another_process
        ledger = open_ledger(url)
        with pytest.raises(LedgerUnavailableError, match="a connection pooler stands before it"):
            await ledger.write(saving(begun()))
        with pytest.raises(LedgerUnavailableError, match="a connection pooler stands before it"):
            async with ledger.liveness.at_work("op_1"):
                pass


async def test_without_its_connection_nothing_is_begun(ledger: Ledger, cluster: Cluster) -> None:
    async with ledger.liveness.at_work("op_1"):
        cluster.stop()
        try:
            with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
                async with ledger.liveness.at_work("op_2"):
                    pass
        finally:
            cluster.start()
    async with ledger.liveness.at_work("op_3"):
        assert ledger.liveness.is_here("op_3")


async def test_of_all_processes_one_has_the_turn_as_long_as_it_lives(ledger: Ledger, other: Ledger) -> None:
    assert await ledger.liveness.has_turn("notify")
    assert await ledger.liveness.has_turn("notify")
    assert not await other.liveness.has_turn("notify")
    assert await other.liveness.has_turn("something else")
    ledger.liveness.leave()
    await until(lambda: other.liveness._has_turn("notify"))


# 7. Few connections


async def test_many_callers_are_few_connections(ledger: Ledger, database: Database) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ledger.write, saving(begun()))
            group.start_soon(ledger.read, lambda entries: entries.last_event())
    sessions = database.execute(f"SELECT COUNT(*) FROM pg_stat_activity WHERE usename = '{SERVER}'")
    assert sessions[0][0] <= 4


async def test_calls_do_not_wait_for_each_other_for_long(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_backups.ledger.postgres.LOCK_WAIT_SECONDS", 0.05)
    first = Held(begun())
    async with anyio.create_task_group() as group:
        await first.begin(ledger, group)
        with pytest.raises(BusyError, match="Other calls are waiting for the ledger"):
            await ledger.write(saving(begun()))
        first.may_end.set()


# 8. Time is the database's


async def test_events_are_dated_by_the_database_when_they_hold_the_lock(
    open_ledger: OpenLedger, database: Database
) -> None:
    """Not by a process's own clock, nor by when its transaction began."""
    wrong = replace(system_clock(), wall=lambda: datetime.now(UTC) + timedelta(hours=2))
    ledger, other, first = open_ledger(clock=wrong), open_ledger(), Held(begun())
    await ledger.write(lambda _entries: None)
    async with anyio.create_task_group() as group:
        await first.begin(ledger, group)
        group.start_soon(other.write, saving(begun()))
        await until(lambda: waiting_for_lock(database))
        begun_at = database.execute("SELECT clock_timestamp()")[0][0]
        first.may_end.set()
    one, two = await other.read(lambda entries: [datetime.fromisoformat(each.at) for each in entries.events()])
    assert one < begun_at <= two < datetime.now(UTC) + timedelta(minutes=1)


async def test_a_process_lives_by_the_time_of_the_database_and_its_ticks_are_its_own(open_ledger: OpenLedger) -> None:
    wrong = replace(system_clock(), wall=lambda: datetime.now(UTC) + timedelta(hours=2))
    ledger, other = open_ledger(clock=wrong), open_ledger()
    ours, theirs = ledger.common_clock(wrong), other.common_clock(system_clock())
    for each in (ledger, other):
        await each.read(lambda _entries: None)
    one, two = ours.moment(), theirs.moment()
    assert abs(one.wall - two.wall) < timedelta(seconds=5)
    assert one.boot != two.boot


# 9. Types


def test_numbers_are_large_and_what_is_under_a_mac_is_text_as_it_is(database: Database) -> None:
    columns = database.execute(
        "SELECT table_name || '.' || column_name, data_type, collation_name FROM information_schema.columns"
        " WHERE table_schema = 'mcp_backups' AND table_name <> 'ledger'"
    )
    kinds = {data_type: {name for name, kind, _ in columns if kind == data_type} for _, data_type, _ in columns}
    assert kinds.keys() == {"bigint", "text", "bytea"}
    assert {name.partition(".")[2] for name in kinds["bigint"]} == {"seq", "server_id", "backup_id", "sent", "event"}
    assert {collation for _, kind, collation in columns if kind == "text"} == {"C"}


async def test_what_is_recorded_is_read_back_letter_by_letter(ledger: Ledger, other: Ledger) -> None:
    saved = begun(
        server_name='a\x00b "\u20ac" \U0001f600',
        backup_id=2**53 - 1,
        server_id=2**53 - 1,
        arguments={"z": 1, "a": 2, "backup_id": 2**53 - 1},
        sent=MOMENT,
    )
    await ledger.write(saving(saved))
    assert await other.read(lambda entries: entries.get(saved.id)) == saved
    assert await whole(other) == ["approved"]
    found = await other.read(lambda entries: list(entries.sent_for_backups("delete_backup", [2**53 - 1, 5], ())))
    assert found == [saved]


# 10. Rights


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET status = 'x'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM operations",
        "TRUNCATE operations, plans",
        "UPDATE ledger SET version = 0",
        "DROP TABLE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "CREATE TABLE more (x INT)",
    ],
)
async def test_a_server_can_add_to_the_events_and_nothing_else(
    ledger: Ledger, database: Database, statement: str
) -> None:
    await ledger.write(saving(begun()))
    session = PostgresSession(database.url)
    try:
        with pytest.raises(errors.InsufficientPrivilege):
            session.connection.execute(statement.encode())
    finally:
        session.close()


# And what holds for every store


async def test_a_long_list_is_found_in_pages_newest_first(ledger: Ledger) -> None:
    saved = [begun(status="sending", sent=MOMENT) for _ in range(250)]
    plans = [operation() for _ in range(120)]
    await ledger.write(saving(*saved))
    await ledger.write_plan(saving(*plans))
    found = await ledger.read(lambda entries: entries.find(limit=1000))
    assert [each.id for each in found] == [each.id for each in [*saved, *plans][::-1]]
    assert [each.id for each in await ledger.read(lambda entries: list(entries.sent("delete_backup")))] == [
        each.id for each in saved[::-1]
    ]
    before = await ledger.read(lambda entries: entries.find(limit=2, before=saved[100].id))
    assert [each.id for each in before] == [saved[99].id, saved[98].id]
    assert await ledger.read(lambda entries: entries.find(before=new_id())) == []


async def test_more_than_a_plan_is_not_recorded_as_one(ledger: Ledger) -> None:
    with pytest.raises(TypeError, match="more was recorded than a plan"):
        await ledger.write_plan(saving(begun()))
    assert await whole(ledger) == []


TAMPERINGS = [
    "UPDATE operations SET status = 'succeeded' WHERE seq = 1",
    "UPDATE operations SET sent = 0, event = 2 WHERE seq = 1",
    "UPDATE events SET status = 'succeeded' WHERE seq = 2",
    "UPDATE events SET at = '2020-01-01T00:00:00+00:00' WHERE seq = 1",
    "UPDATE events SET packed = '\\x00' WHERE seq = 1",
    "DELETE FROM events WHERE seq = 2",
    "DELETE FROM events WHERE seq = 3",
    "DELETE FROM operations WHERE seq = 2",
    "DELETE FROM operations",
    "TRUNCATE events, operations",
]


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_what_was_changed_past_the_ledger_is_seen_at_once_and_later(
    ledger: Ledger, other: Ledger, database: Database, tampering: str
) -> None:
    await ledger.write(saving(begun(), begun(), begun()))
    database.execute("SET search_path = mcp_backups", tampering)
    for each in (ledger, other):
        for use in (each.read, each.write):
            with pytest.raises(LedgerUnavailableError, match="cannot be trusted"):
                await use(lambda entries: entries.find())
    with other.audit() as entries:
        assert entries is not None
        assert entries.verify() != ""


async def test_the_end_of_the_chain_is_remembered_beside_the_key_and_its_loss_has_to_be_accepted(
    ledger: Ledger, database: Database, open_ledger: OpenLedger
) -> None:
    """A copy of some time ago is whole in itself; so is a standby that lacks the end."""
    await ledger.write(saving(begun()))
    await ledger.write(saving(begun(), begun()))
    database.execute(
        "SET search_path = mcp_backups",
        "DELETE FROM events WHERE seq > 1",
        "DELETE FROM operations WHERE id NOT IN (SELECT operation_id FROM events)",
    )
    for again in (open_ledger(), ledger):
        for use in (again.read, again.write):
            with pytest.raises(LedgerUnavailableError, match="ends at event 1, but event 3 was recorded here"):
                await use(lambda entries: entries.last_event())
    assert "event 3 was recorded here" in await open_ledger().accept()
    assert await open_ledger().accept() == ""
    assert await whole(ledger) == ["approved", "loss_accepted"]
    await ledger.write(saving(begun()))


async def test_what_was_remembered_and_cannot_be_read_has_to_be_accepted(
    ledger: Ledger, open_ledger: OpenLedger
) -> None:
    await ledger.write(saving(begun()))
    ledger._remembered().path.write_bytes(b"something else")
    again = open_ledger()
    with pytest.raises(LedgerUnavailableError, match="was changed"):
        await again.write(saving(begun()))
    with again.audit() as entries:
        assert entries is not None
        assert entries.verify() == "what was remembered of its end is gone"
    assert "was changed" in await again.accept()
    await again.write(saving(begun()))
    assert await whole(again) == ["approved", "loss_accepted", "approved"]


async def test_what_was_changed_is_never_accepted(ledger: Ledger, database: Database) -> None:
    await ledger.write(saving(begun(), begun()))
    database.execute("UPDATE mcp_backups.events SET status = 'failed' WHERE seq = 1")
    with pytest.raises(LedgerUnavailableError, match="event 1 was changed"):
        await ledger.accept()


def shown(value: Any) -> str:
    return f"{value} {value!r}"


async def test_no_error_and_no_name_holds_the_password(ledger: Ledger, cluster: Cluster) -> None:
    assert "pw-of-the-ledger" not in shown(ledger.place)
    cluster.stop()
    try:
        with pytest.raises(LedgerUnavailableError) as refused:
            await ledger.write(saving(begun()))
        assert "pw-of-the-ledger" not in shown(refused.value)
        assert SERVER not in shown(refused.value)
    finally:
        cluster.start()
