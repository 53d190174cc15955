"""PostgreSQL's tables, in a schema of their own, and how they come to be.

What is under a MAC is text, compared byte by byte: JSONB would reorder it, and a time in a column of its own be written
anew. Numbers are BIGINT and are counted on under the lock: a sequence gives one to a transaction that may commit later
than the next.
"""

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import psycopg
from psycopg import sql

from mcp_backups.errors import ConfigError, LedgerUnavailableError

from .tables import OF_THE_LEDGER, UNDER_WAY, UPGRADE, Columns, Found, OperationRow

SCHEMA_NAME = "mcp_backups"
WRITE_LOCK = "pg_advisory_xact_lock(1835229538, 0)"
"""What every write holds, and a migration."""
TURNS = 1835229539
"""Of the keys by which one process does what one of them does; an owner's key is one number, and so never the same."""

_TEXT = 'TEXT COLLATE "C" NOT NULL'
_FOUND_BY = f"""seq BIGINT PRIMARY KEY,
    id {_TEXT} UNIQUE,
    action {_TEXT},
    status {_TEXT},
    server_id BIGINT NOT NULL,
    backup_id BIGINT NOT NULL,
    account {_TEXT},
    credential {_TEXT}"""

_STEPS = (
    (
        f"""CREATE TABLE operations (
    {_FOUND_BY},
    sent BIGINT NOT NULL,           -- the event that recorded the intent to send, 0 before
    event BIGINT NOT NULL,          -- its last event
    mac BYTEA NOT NULL
)""",
        "CREATE INDEX operations_by_server ON operations (server_id, action, sent)",
        "CREATE INDEX operations_by_intent ON operations (action, sent)",
        "CREATE INDEX operations_by_backup ON operations (backup_id) WHERE sent > 0",
        f"CREATE INDEX operations_under_way ON operations (server_id) WHERE status IN ({UNDER_WAY})",
        f"""CREATE TABLE events (
    seq BIGINT PRIMARY KEY,
    id {_TEXT} UNIQUE,              -- random: whether a commit that was not answered took place
    at {_TEXT},
    operation_id {_TEXT},
    status {_TEXT},
    packed BYTEA NOT NULL,
    mac BYTEA NOT NULL
)""",
        f"CREATE INDEX events_of_ledger ON events (seq) WHERE operation_id = '{OF_THE_LEDGER}'",
        f"""CREATE TABLE plans (
    {_FOUND_BY},
    at {_TEXT},                     -- when it was planned, by which it is dropped
    packed BYTEA NOT NULL,
    mac BYTEA NOT NULL
)""",
    ),
)
"""What makes each version of the tables out of the one before. Only ever added to: a replica of an older version goes
on reading."""

VERSION = len(_STEPS)

_GRANTS = (
    f"USAGE ON SCHEMA {SCHEMA_NAME}",
    "SELECT ON ledger",
    "SELECT, INSERT ON events",
    "SELECT, INSERT, UPDATE ON operations",
    "SELECT, INSERT, UPDATE, DELETE ON plans",
)
"""What a server needs. It can add to the events, and never change one or take one away."""

_ROW = "o.seq, o.id, o.action, o.status, o.server_id"
_COLUMNS = Columns(
    operations=f"{_ROW}, o.sent, o.event, '', o.backup_id, o.account, o.credential, o.mac",
    plans=f"{_ROW}, 0, 0, o.packed, o.backup_id, o.account, o.credential, o.mac",
    events="e.seq, e.at, e.operation_id, e.status, '', e.packed, '', e.mac",
)
_PAGE = 100
_LAST = 2**63 - 1


class PostgresRows:
    """The tables, by a connection to the database.

    Attributes:
        marks: The ids of the events that were added.
    """

    columns = _COLUMNS
    is_sealed = True

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self.marks: list[str] = []

    def execute(self, query: str, values: Sequence[object] = ()) -> Found:
        return self._connection.execute(query.replace("?", "%s").encode(), values)

    def newest(self, query: str, by: Literal["seq", "sent"], values: Sequence[object]) -> Iterator[Sequence[Any]]:
        # In pages: PostgreSQL hands out all that a query finds, however little of it is asked for.
        place, last = OperationRow._fields.index(by), _LAST
        while True:
            page = self.execute(f"{query} AND o.{by} < ? ORDER BY o.{by} DESC LIMIT {_PAGE}", [*values, last])
            rows = page.fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][place]

    def among(self, column: str, numbers: Collection[int]) -> tuple[str, object]:
        return f"{column} = ANY(?::bigint[])", list(numbers)

    def by_index(self, name: str) -> str:
        del name  # PostgreSQL finds it by itself
        return ""

    def add(self, table: Literal["events", "operations", "plans"], row: Mapping[str, object]) -> None:
        if table == "events":
            self.marks.append(secrets.token_hex(16))
            row = {**row, "id": self.marks[-1]}
        names, places = ", ".join(row), ", ".join("?" * len(row))
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row.values()))  # noqa: S608


def migrate_tables(connection: psycopg.Connection, serving_role: str) -> tuple[int, int]:
    """Bring the tables to this version, and let a role serve with them; done again it changes nothing.

    Args:
        connection: Of a role that owns the tables, or may make a schema.
        serving_role: Whom servers log in as.

    Returns:
        The version before, 0 for none, and now.

    Raises:
        ConfigError: There is no such role, or it is the one that migrates.
        LedgerUnavailableError: A newer version is there.
        psycopg.Error: It may not, or could not; nothing was changed.
    """
    (is_role,) = _one(connection, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s)", serving_role)
    if not is_role:
        raise ConfigError("There is no such role; make it first: CREATE ROLE name LOGIN PASSWORD '…'.")
    (may_change,) = _one(connection, "SELECT pg_has_role(%s, current_user, 'MEMBER')", serving_role)
    if may_change:
        raise ConfigError("The role that servers log in as must not be the one that migrates, nor a member of it.")
    with connection.transaction():
        connection.execute(f"SELECT {WRITE_LOCK}".encode())
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA_NAME}".encode())
        connection.execute("CREATE TABLE IF NOT EXISTS ledger (version INTEGER NOT NULL)")
        found = connection.execute("SELECT version FROM ledger").fetchone()
        before = found[0] if found else 0
        if before > VERSION:
            raise LedgerUnavailableError("A newer version of mcp-backups has migrated the ledger.", UPGRADE)
        for step in _STEPS[before:]:
            for statement in step:
                connection.execute(statement.encode())
        if not found:
            connection.execute("INSERT INTO ledger VALUES (0)")
        connection.execute("UPDATE ledger SET version = %s", (VERSION,))
        for grant in _GRANTS:
            connection.execute(sql.SQL(f"GRANT {grant} TO {{}}").format(sql.Identifier(serving_role)))
    return before, VERSION


def _one(connection: psycopg.Connection, query: str, *values: object) -> Sequence[Any]:
    return connection.execute(query.encode(), values).fetchone() or ()
