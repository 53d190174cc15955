"""The commands for a ledger in PostgreSQL: its tables, the copy of a file, and what people are shown of it."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from mcp_backups.cli import main
from mcp_backups.clock import system_clock
from mcp_backups.commands.doctor import Finding, examine_ledger
from mcp_backups.errors import ConfigError, LedgerUnavailableError
from mcp_backups.ledger import SqliteLedger, moving
from mcp_backups.ledger.postgres import PostgresLedger, address_of
from mcp_backups.ledger.postgres_session import PostgresSession, UnansweredError
from mcp_backups.operations import Operation
from mcp_backups.settings import Settings, load_settings, passwords_in
from tests.operations.made import MOMENT, begun, operation
from tests.operations.tampering import write_as_0_1_0
from tests.postgres.cluster import PASSWORD, SERVER, Cluster, Database
from tests.postgres.conftest import OpenLedger
from tests.stage import NOW

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    state_dir: Path,
    key_file: Path,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """A command on the database; whatever it is, it shows no password."""
    for name in os.environ:
        if name.startswith(("MCP_BACKUPS_", "VPS_API_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))
    monkeypatch.setenv("MCP_BACKUPS_KEY_FILE", str(key_file))
    monkeypatch.setenv("MCP_BACKUPS_LEDGER_URL", database.url)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        told = capsys.readouterr()
        assert PASSWORD not in told.out + told.err
        return code, *told

    return call


# The setting


@pytest.mark.parametrize(
    "url",
    [
        "mysql://db/ledger",
        "db.example.org/ledger",
        "postgresql://db.example.com",
        "postgresql://db.example.com/",
        "postgresql://db.example.com/led ger",
        "host=db dbname=ledger",
    ],
)
def test_an_address_that_is_none_is_told_by_its_setting_alone(url: str, tmp_path: Path) -> None:
    environment = {"MCP_BACKUPS_LEDGER_URL": url, "MCP_BACKUPS_STATE_DIR": str(tmp_path)}
    with pytest.raises(ConfigError, match=r"^config_error: MCP_BACKUPS_LEDGER_URL must be an address such as") as told:
        load_settings(environment)
    assert url not in str(told.value)


def test_a_ledger_for_several_machines_needs_their_common_key(tmp_path: Path) -> None:
    environment = {"MCP_BACKUPS_LEDGER_URL": "postgresql:///ledger", "MCP_BACKUPS_STATE_DIR": str(tmp_path)}
    with pytest.raises(ConfigError, match="MCP_BACKUPS_LEDGER_URL needs MCP_BACKUPS_KEY_FILE"):
        load_settings(environment)
    assert load_settings(environment, needs_key=False).ledger_url


def test_without_the_extra_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_backups.settings.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs the extra `postgres`: pip install '.\[postgres\]' in the folder"):
        load_settings({"MCP_BACKUPS_LEDGER_URL": "postgresql:///ledger", "MCP_BACKUPS_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    ("url", "passwords"),
    [
        ("postgresql://user:p%40ss@db/ledger", ("p%40ss", "p@ss")),
        ("postgresql://user@db/ledger?sslmode=verify-full&password=p%40ss", ("p@ss", "p@ss")),
        ("postgresql://user@db/ledger?sslpassword=abc", ("abc", "abc")),
        ("postgresql:///ledger?host=/run/postgresql", ()),
    ],
)
def test_its_password_is_a_secret_in_every_form(url: str, passwords: tuple[str, ...]) -> None:
    assert passwords_in(url) == passwords
    settings = Settings(ledger_url=url)
    assert {url, *passwords} <= set(settings.secrets)
    assert not any(each in repr(settings) for each in (url, *passwords))
    assert not any(each in address_of(url) for each in passwords)


def test_a_settings_file_that_holds_it_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('ledger_url = "postgresql://user:secret@db/ledger"\n')
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="holds the ledger's password and can be read by others"):
        load_settings({"MCP_BACKUPS_CONFIG": str(path), "MCP_BACKUPS_STATE_DIR": str(tmp_path)})


# Migration


def test_tables_are_made_once_and_whoever_serves_may_use_them(
    command: Call, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.database(template="template0") as empty:
        monkeypatch.setenv("MCP_BACKUPS_LEDGER_URL", empty.url)
        code, _, err = command("audit")
        assert (code, "holds no ledger yet" in err, "`mcp-backups ledger migrate`" in err) == (1, True, True)
        code, _, err = command("ledger", "migrate", "--for", SERVER)
        assert (code, "must not be the one that migrates" in err) == (2, True)
        monkeypatch.setenv("MCP_BACKUPS_LEDGER_URL", empty.owner_url)
        monkeypatch.delenv("MCP_BACKUPS_KEY_FILE")
        code, _, err = command("ledger", "migrate", "--for", "nobody")
        assert (code, "There is no such role" in err) == (2, True)
        assert command("ledger", "migrate", "--for", SERVER)[:2] == (
            0,
            f"The ledger's tables were brought from version 0 to 1; {SERVER} may serve with them.\n",
        )
        assert command("ledger", "migrate", "--for", SERVER)[:2] == (
            0,
            f"The ledger's tables are at version 1 already; {SERVER} may serve with them.\n",
        )
        empty.execute("UPDATE mcp_backups.ledger SET version = 99")
        code, _, err = command("ledger", "migrate", "--for", SERVER)
        assert (code, "A newer version of mcp-backups" in err) == (1, True)


def test_who_may_not_migrate_is_told_that(command: Call, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    with cluster.database(template="template0") as empty:
        empty.execute("CREATE ROLE third LOGIN")
        try:
            monkeypatch.setenv("MCP_BACKUPS_LEDGER_URL", cluster.url(empty.name, "third"))
            code, _, err = command("ledger", "migrate", "--for", SERVER)
            assert (code, "may not use the ledger" in err) == (1, True)
        finally:
            empty.execute("DROP ROLE third")


@pytest.mark.parametrize("task", [("copy",), ("migrate", "--for", SERVER)])
def test_without_a_database_there_is_nothing_to_do(
    command: Call, monkeypatch: pytest.MonkeyPatch, task: tuple[str, ...]
) -> None:
    monkeypatch.delenv("MCP_BACKUPS_LEDGER_URL")
    code, _, err = command("ledger", *task)
    assert (code, "MCP_BACKUPS_LEDGER_URL is not set" in err) == (2, True)


# What people are shown


def test_people_are_shown_what_is_in_the_database(command: Call, open_ledger: OpenLedger, database: Database) -> None:
    saved = begun()
    ledger = open_ledger()
    anyio.run(ledger.write, lambda entries: entries.save(saved))
    assert saved.id in command("audit", saved.id)[1]
    assert "1 event" in command("audit", "--verify")[1]
    assert saved.id in command("operations", "--json")[1]
    assert command("freeze", "--reason", "an incident")[0] == 0
    assert "frozen" in command("audit", "--export")[1]
    assert command("ledger", "accept")[1].startswith("Nothing that was recorded here is missing")
    database.execute("UPDATE mcp_backups.events SET status = 'failed' WHERE seq = 1")
    assert command("audit", "--verify")[0] == 1
    assert command("ledger", "accept")[0] == 1


def doctor(database_url: str, state_dir: Path, key_file: Path | None) -> Finding:
    settings = Settings(
        ledger_url=SecretStr(database_url) if database_url else None, state_dir=state_dir, key_file=key_file
    )
    return anyio.run(examine_ledger, settings, system_clock())


def test_the_doctor_tells_where_the_ledger_is_and_what_is_wrong(
    database: Database, cluster: Cluster, state_dir: Path, key_file: Path
) -> None:
    found = doctor(database.url, state_dir, key_file)
    assert (found.verdict, "0 events, chain intact, can be written to" in found.what) == ("ok", True)
    database.execute("UPDATE mcp_backups.ledger SET version = 0")
    found = doctor(database.url, state_dir, key_file)
    assert (found.verdict, "`mcp-backups ledger migrate`" in found.todo) == ("failure", True)
    cluster.stop()
    try:
        found = doctor(database.url, state_dir, key_file)
    finally:
        cluster.start()
    assert (found.verdict, "cannot be reached" in found.what) == ("failure", True)
    assert f"127.0.0.1:{cluster.port}/{database.name}" in found.what
    assert PASSWORD not in str(found)


# A copy of the file


@pytest.fixture
def file(state_dir: Path, key_file: Path) -> SqliteLedger[Operation]:
    """A ledger of operations, plans and notes, with its key in the state folder, as an installation has it at first."""
    ledger = SqliteLedger(state_dir, Operation, lambda: NOW)
    fill(ledger)
    key_file.write_bytes((state_dir / "installation.key").read_bytes())
    return ledger


def fill(ledger: SqliteLedger[Operation]) -> None:
    sent = begun(status="sending", sent=MOMENT, server_name="\u20ac")
    plans = [operation(), operation()]

    def save(entries: Any) -> None:
        for each in (begun(), sent, sent.updated(status="accepted"), *plans):
            entries.save(each)
        entries.note("frozen", {"by": "ann", "reason": "x"})

    anyio.run(ledger.write, save)
    ledger.close()


def in_all(ledger: SqliteLedger[Operation] | PostgresLedger[Operation]) -> tuple[Any, ...]:
    with ledger.audit() as entries:
        assert entries is not None
        assert entries.verify() == ""
        return list(entries.events()), entries.find(), entries.spans()


def test_the_whole_ledger_is_copied_and_the_file_is_written_to_no_more(
    command: Call, file: SqliteLedger[Operation], open_ledger: OpenLedger
) -> None:
    forgotten = SqliteLedger(file.path.parent, Operation, lambda: NOW)
    anyio.run(forgotten.read, lambda entries: entries.last_event())
    before = in_all(file)
    told = "Copied and verified: 4 events, 2 operations, 2 plans. The file is marked as moved"
    for _ in range(2):
        code, out, _ = command("ledger", "copy")
        assert (code, out.partition(";")[0]) == (0, told)
    ledger = open_ledger()
    assert in_all(ledger) == before == in_all(file)
    for old in (forgotten, file):
        for use in (old.write, old.read):
            with pytest.raises(LedgerUnavailableError, match=r"was moved to PostgreSQL\..*set MCP_BACKUPS_LEDGER_URL"):
                anyio.run(use, lambda entries: entries.last_event())
        old.close()
    anyio.run(ledger.write, lambda entries: entries.save(begun()))
    code, _, err = command("ledger", "copy")
    assert (code, "holds a ledger already" in err) == (1, True)
    assert "set MCP_BACKUPS_LEDGER_URL here too" in doctor("", file.path.parent, None).todo


@pytest.mark.parametrize("point", ["before it is marked", "before it is committed", "after it is committed"])
def test_a_copy_that_was_interrupted_goes_on(
    command: Call, file: SqliteLedger[Operation], open_ledger: OpenLedger, point: str
) -> None:
    """The process is ended at that point: what it held is let go, and what it had not committed is gone."""
    before, commit = in_all(file), PostgresSession.commit

    def end(session: PostgresSession) -> None:
        if point == "after it is committed":
            commit(session)
        session.close()
        raise UnansweredError

    def refuse(_file: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if point == "before it is marked":
            patch.setattr(moving, "mark_as_moved", refuse)
            assert command("ledger", "copy")[0] != 0
            assert in_all(file) == before
        else:
            patch.setattr(PostgresSession, "commit", end)
            code, _, err = command("ledger", "copy")
            assert (code, "Run `mcp-backups ledger copy` again" in err) == (1, True)
            with pytest.raises(LedgerUnavailableError, match="was moved"):
                anyio.run(file.write, lambda entries: entries.last_event())
    assert command("ledger", "copy")[0] == 0
    assert in_all(open_ledger()) == before


def tampered(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    del key_file, database
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE events SET status = 'failed' WHERE seq = 1")


def another_key(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    del ledger, database
    key_file.write_bytes(os.urandom(32))


def no_file(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    del key_file, database
    ledger.path.unlink()


def another_ledger(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    other = PostgresLedger(database.url, Operation, system_clock(), ledger.path.parent, key_file)
    anyio.run(other.write, lambda entries: entries.save(begun()))
    other.close()


def incomplete(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    """What is copied does not arrive as it was."""
    del ledger, key_file
    database.execute(
        "CREATE FUNCTION mcp_backups.garble() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.status := ''failed''; RETURN NEW; END'"
    )
    database.execute(
        "CREATE TRIGGER garble BEFORE INSERT ON mcp_backups.operations FOR EACH ROW"
        " EXECUTE FUNCTION mcp_backups.garble()"
    )


def held(ledger: SqliteLedger[Operation], key_file: Path, database: Database) -> None:
    del key_file, database
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    HOLDERS.append(holder)


HOLDERS: list[sqlite3.Connection] = []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (tampered, "cannot be trusted: event 1 was changed"),
        (another_key, "holds another key"),
        (no_file, "There is no ledger in the state folder"),
        (another_ledger, "holds a ledger already, and not a copy of this one"),
        (incomplete, "is not as its last event says"),
        (held, "Another process holds the ledger"),
    ],
)
def test_what_is_not_to_be_copied_is_left_as_it_is(
    command: Call,
    file: SqliteLedger[Operation],
    key_file: Path,
    database: Database,
    spoil: Callable[..., None],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moving, "LOCK_WAIT_SECONDS", 0.05)
    spoil(file, key_file, database)
    events = database.execute("SELECT COUNT(*) FROM mcp_backups.events")
    code, _, err = command("ledger", "copy")
    assert (code > 0, told in err) == (True, True), err
    for each in HOLDERS:
        each.close()
    HOLDERS.clear()
    assert database.execute("SELECT COUNT(*) FROM mcp_backups.events") == events
    if file.path.exists():
        with sqlite3.connect(file.path) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_0_1_0_wrote_is_copied_once_it_was_sealed(
    command: Call, state_dir: Path, key_file: Path, open_ledger: OpenLedger
) -> None:
    state_dir.mkdir(mode=stat.S_IRWXU)
    saved = begun()
    write_as_0_1_0(state_dir / "ledger.sqlite3", [saved])
    code, _, err = command("ledger", "copy")
    assert (code, "Start mcp-backups on it once" in err) == (1, True)
    file = SqliteLedger(state_dir, Operation, lambda: NOW, key_file)
    anyio.run(file.write, lambda entries: entries.save(begun()))
    file.close()
    assert command("ledger", "copy")[0] == 0
    ledger = open_ledger()
    assert [each.seq for each in in_all(ledger)[0]] == [1, 2]
    assert anyio.run(ledger.read, lambda entries: entries.get(saved.id)) == saved
