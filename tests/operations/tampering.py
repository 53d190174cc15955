"""What somebody who may write to the ledger's files, but lacks the key, could do to it."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

from mcp_backups.ledger.tables import GENESIS, Event, event_of, pack, unpack
from mcp_backups.operations.operation import Operation, new_id

from .made import operation

Tampering = Callable[[Path], None]


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("edited", 3, lambda packed, old, new: pack(unpack(packed).replace(old, new)))
    return connection


def events_in(connection: sqlite3.Connection) -> list[Event]:
    """Every event, as it was recorded."""
    rows = connection.execute("SELECT seq, at, operation_id, status, document, packed, hash, mac FROM events")
    return [event_of(*row) for row in rows.fetchall()]


LAST_EVENT_OF_EACH = (
    "UPDATE operations SET (event, status, mac) = (SELECT seq, status, mac FROM events"
    " WHERE operation_id = operations.id ORDER BY seq DESC LIMIT 1)"
)


def sql(*statements: str) -> Tampering:
    """These statements, by another connection; in them `edited(packed, old, new)` changes the text of a document."""

    def run(path: Path) -> None:
        connection = connect(path)
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
        connection.execute(LAST_EVENT_OF_EACH)
        connection.execute("UPDATE operations SET sent = 0 WHERE sent > ?", (last,))
        connection.close()

    return run


def recomputed(key: bytes | None, change: str = "") -> Tampering:
    """A change, and the whole chain made to fit it: with another key, or with none as 0.1.0 did."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        if change:
            connection.execute(change)
        before = Event(0, "", "", "", "", GENESIS, GENESIS)
        for event in events_in(connection):
            mac = event.expected_mac(key, before.mac) if key else ""
            before = event._replace(hash="" if key else event.expected_hash(before.hash), mac=mac)
            connection.execute(
                "UPDATE events SET hash = ?, mac = ? WHERE seq = ?",
                (before.hash, bytes.fromhex(before.mac), before.seq),
            )
        connection.execute(LAST_EVENT_OF_EACH)
        connection.close()

    return run


def forged(status: str, *, key: bytes | None = None, by: str = "person", new: bool = False) -> Tampering:
    """One more event: an operation that somebody is said to have approved."""

    def run(path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        (last_id,) = connection.execute("SELECT id FROM operations ORDER BY seq DESC LIMIT 1").fetchone()
        events = events_in(connection)
        document = next(event.document for event in events if event.operation_id == last_id)
        fields = json.loads(document) | {"status": status, "approved_by": by} | ({"id": new_id()} if new else {})
        if new:
            insert_row(connection, operation(**{name: fields[name] for name in ("id", "status")}), 0)
        last = events[-1]
        event = Event(last.seq + 1, last.at, fields["id"], status, json.dumps(fields))
        event = event._replace(
            hash="" if key else event.expected_hash(last.hash), mac=event.expected_mac(key, last.mac) if key else ""
        )
        mac = bytes.fromhex(event.mac)
        connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, '', ?, ?, ?)", (*event[:4], event.hash, mac, pack(event.document))
        )
        connection.execute(
            "UPDATE operations SET event = ?, status = ?, mac = ? WHERE id = ?",
            (event.seq, event.status, mac, event.operation_id),
        )
        connection.close()

    return run


def insert_row(connection: sqlite3.Connection, row: Operation, event: int) -> None:
    connection.execute(
        "INSERT INTO operations (id, action, status, server_id, sent, event, document) VALUES (?, ?, ?, ?, 0, ?, '')",
        (row.id, row.action, row.status, row.server_id, event),
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


_FACTS = {
    "good_left": "good_backups_left",
    "part_of": "part_of",
    "way_back_of": "way_back_of",
    "being_restored_by": "being_restored_by",
}


def _document_of_0_1_0(step: Operation) -> str:
    """What is special about an action stood beside the rest, and some of it in the facts that were told."""
    document = json.loads(step.model_dump_json(exclude_defaults=True))
    details = document.pop("details", {})
    facts = {told: details.pop(name) for name, told in _FACTS.items() if name in details} | {"can_be_undone": False}
    return json.dumps(document | {name: value for name, value in details.items() if name != "kind"} | {"facts": facts})


def append_as_0_1_0(connection: sqlite3.Connection, steps: list[Operation]) -> None:
    """As its `Transaction.save` did."""
    for step in steps:
        document = _document_of_0_1_0(step)
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
