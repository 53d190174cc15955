"""What somebody who may write to the ledger's files, but lacks the key, could do to it."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mcp_backups.ledger.events import GENESIS, Event
from mcp_backups.operations.operation import Operation, new_id

from .made import operation

Tampering = Callable[[Path], None]


def sql(*statements: str) -> Tampering:
    """These statements, by another connection."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        for statement in statements:
            connection.execute(statement)
        connection.close()

    return run


def cut(events: int) -> Tampering:
    """The last events gone, and every row as it was before: the ledger of some time ago, whole in itself."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        last = connection.execute("SELECT MAX(seq) FROM events").fetchone()[0] - events
        connection.execute("DELETE FROM events WHERE seq > ?", (last,))
        connection.execute("DELETE FROM operations WHERE id NOT IN (SELECT operation_id FROM events)")
        connection.execute(
            "UPDATE operations SET (event, status, document, mac) = (SELECT seq, status, document, mac FROM events"
            " WHERE operation_id = operations.id ORDER BY seq DESC LIMIT 1)"
        )
        connection.execute("UPDATE operations SET sent = iif(json_extract(document, '$.sent') IS NULL, 0, event)")
        connection.close()

    return run


def recomputed(key: bytes | None, change: str = "") -> Tampering:
    """A change, and the whole chain made to fit it: with another key, or with none as 0.1.0 did."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        if change:
            connection.execute(change)
        before = Event(0, "", "", "", "", GENESIS, GENESIS)
        for row in connection.execute("SELECT * FROM events ORDER BY seq").fetchall():
            event = Event(*row)
            mac = event.expected_mac(key, before.mac) if key else ""
            before = event._replace(hash="" if key else event.expected_hash(before.hash), mac=mac)
            connection.execute(
                "UPDATE events SET hash = ?, mac = ? WHERE seq = ?", (before.hash, before.mac, before.seq)
            )
        connection.execute(
            "UPDATE operations SET (event, status, document, mac) = (SELECT seq, status, document, mac FROM events"
            " WHERE operation_id = operations.id ORDER BY seq DESC LIMIT 1)"
        )
        connection.close()

    return run


def forged(status: str, *, key: bytes | None = None, by: str = "person", new: bool = False) -> Tampering:
    """One more event: an operation that somebody is said to have approved."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        document = connection.execute("SELECT document FROM operations ORDER BY seq DESC LIMIT 1").fetchone()[0]
        fields = json.loads(document) | {"status": status, "approved_by": by} | ({"id": new_id()} if new else {})
        if new:
            insert_row(connection, operation(**{name: fields[name] for name in ("id", "status")}), 0)
        last = Event(*connection.execute("SELECT * FROM events ORDER BY seq DESC LIMIT 1").fetchone())
        event = Event(last.seq + 1, last.at, fields["id"], status, json.dumps(fields))
        event = event._replace(
            hash="" if key else event.expected_hash(last.hash), mac=event.expected_mac(key, last.mac) if key else ""
        )
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", event)
        connection.execute(
            "UPDATE operations SET event = ?, status = ?, document = ?, mac = ? WHERE id = ?",
            (event.seq, event.status, event.document, event.mac, event.operation_id),
        )
        connection.close()

    return run


def insert_row(connection: sqlite3.Connection, row: Operation, event: int) -> None:
    connection.execute(
        "INSERT INTO operations (id, action, status, server_id, sent, event, document) VALUES (?, ?, ?, ?, 0, ?, ?)",
        (row.id, row.action, row.status, row.server_id, event, row.model_dump_json(exclude_defaults=True)),
    )


def remove(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()


def empty(path: Path) -> None:
    for each in path.parent.glob(f"{path.name}-*"):
        each.unlink()
    path.write_bytes(b"")


def replace_with_a_new_one(path: Path) -> None:
    remove(path)
    write_as_0_1_0(path, [])


def write_as_0_1_0(path: Path, steps: list[Operation]) -> None:
    """A ledger as version 0.1.0 made it: chained by SHA-256 alone."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA_OF_0_1_0)
    append_as_0_1_0(connection, steps)
    connection.close()


def append_as_0_1_0(connection: sqlite3.Connection, steps: list[Operation]) -> None:
    """As its `Transaction.save` did."""
    for step in steps:
        document = step.model_dump_json(exclude_defaults=True)
        last = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seq, previous = last or (0, GENESIS)
        content = [previous, seq + 1, "2026-11-23T09:30:00+00:00", step.id, step.status, document]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (*content[1:], digest))
        connection.execute(
            "INSERT INTO operations (id, action, status, server_id, sent, event, document) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET status = excluded.status, event = excluded.event,"
            " sent = CASE WHEN sent > 0 THEN sent ELSE excluded.sent END, document = excluded.document",
            (step.id, step.action, step.status, step.server_id, seq + 1 if step.sent else 0, seq + 1, document),
        )


SCHEMA_OF_0_1_0 = """
CREATE TABLE operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, action TEXT NOT NULL, status TEXT NOT NULL,
    server_id INTEGER NOT NULL, sent INTEGER NOT NULL, event INTEGER NOT NULL, document TEXT NOT NULL
) STRICT;
CREATE INDEX operations_by_server ON operations (server_id, status);
CREATE INDEX operations_by_intent ON operations (action, sent);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, operation_id TEXT NOT NULL, status TEXT NOT NULL,
    document TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
"""
