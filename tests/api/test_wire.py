"""What is read of VPS.org's JSON, and what is not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.api import wire
from mcp_backups.api.classify import BodyCutError, BodyError, BodyUnreadableError
from mcp_backups.api.rows import Row, RowReader, backups, servers
from mcp_backups.models import MAX_ID, Account, Backup, Server

from .stage import backup


def backup_row(raw: object) -> Backup | None:
    return row_of(backups(), raw)


def server_row(raw: object) -> Server | None:
    return row_of(servers(), raw)


def row_of(reader: RowReader[Row], raw: object) -> Row | None:
    """A row, which is the same whether it is read by itself, or in one go with others that are as documented or not."""
    row = reader.row(raw)
    read = [] if row is None else [row]
    assert (reader.rows([raw, raw]), reader.rows([None, raw])) == (2 * read, read)
    return row


def page_of(body: bytes) -> wire.Page[Backup]:
    return wire.read_page(body, backups())


def test_a_documented_row_becomes_a_backup() -> None:
    row = backup_row(backup())
    assert row is not None
    assert (row.id, row.server_id, row.server_name) == (501, 12345, "web-server-01")
    assert (row.type, row.status, row.size_mb) == ("automatic", "completed", 4523)
    assert row.created_at == datetime(2025, 1, 16, 3, 0, tzinfo=UTC)
    assert row.expires_at == datetime(2025, 2, 16, 3, 0, tzinfo=UTC)
    assert (row.description, row.keep, row.mark) == ("Automatic daily backup", False, "")


BAD: dict[str, list[Any]] = {
    "id": [True, 0, -1, MAX_ID + 1, 10**30, 1.0, "1", "x", None],
    "server": [None, 12345, "web", [], {}, {"id": True, "name": "a"}, {"id": 1, "name": 5}],
    "backup_type": [None, "", " ", "\u200b", 5, True, ["manual"], "man\u200bual", " automatic"],
    "status": [None, "", "\x00", 5, "comp\u200bleted", "completed ", "in_progress\u202e"],
    "size_mb": [True, -1, -0.1, "4523", float("nan"), float("inf"), float("-inf"), 10**400, []],
    "created_at": [
        *(None, "", "soon", 1737000000, True, "2025-01-16", "2025-01-16T03:00:00", "2025-13-16T03:00:00Z"),
        *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"),
    ],
    "expires_at": ["", "2025-02-16T03:00:00", 0, False],
    "description": [5, True, ["a"], {}],
}


@pytest.mark.parametrize("name", BAD)
def test_a_row_that_is_not_as_documented_is_bad(name: str) -> None:
    rows = [backup_row(backup(**{name: value})) for value in BAD[name]]
    assert rows == [None] * len(BAD[name])


@pytest.mark.parametrize("name", ["id", "server", "backup_type", "status", "created_at"])
def test_a_row_without_what_matters_is_bad(name: str) -> None:
    row = backup()
    del row[name]
    assert backup_row(row) is None


@pytest.mark.parametrize("raw", [None, 5, "x", [], [1], {}, True])
def test_a_row_that_is_no_object_is_bad(raw: object) -> None:
    assert backup_row(raw) is None
    assert server_row(raw) is None


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"unknown": {"deep": [1]}}, "id", 501),
        ({"id": MAX_ID}, "id", MAX_ID),
        ({"status": "archived"}, "status", "archived"),
        ({"status": "arch\u202eived\x1b[31m"}, "status", "archived"),
        ({"backup_type": "weekly"}, "type", "weekly"),
        ({"size_mb": None}, "size_mb", None),
        ({"size_mb": 0}, "size_mb", 0),
        ({"size_mb": 12.5}, "size_mb", 12.5),
        ({"expires_at": None}, "expires_at", None),
        ({"description": None}, "description", ""),
        ({"server": {"id": 7, "name": None}}, "server_name", ""),
        ({"created_at": "2025-01-16T03:00:00.123456Z"}, "created_at", datetime(2025, 1, 16, 3, 0, 0, 123456, UTC)),
        ({"created_at": "2025-01-16T05:30:00+02:30"}, "created_at", datetime(2025, 1, 16, 3, 0, tzinfo=UTC)),
    ],
)
def test_what_is_undocumented_but_harmless_is_accepted(changes: dict[str, Any], attribute: str, value: object) -> None:
    row = backup_row(backup(**changes))
    assert row is not None
    assert getattr(row, attribute) == value


@pytest.mark.parametrize("name", ["size_mb", "expires_at", "description"])
def test_a_row_may_lack_what_may_be_null(name: str) -> None:
    row = backup()
    del row[name]
    assert backup_row(row) is not None


def test_foreign_text_is_made_safe() -> None:
    hostile = "\x1b[2Jhi\u202e\U000e0041\u2028 there\x00"
    row = backup_row(backup(description=hostile, server={"id": 1, "name": hostile}))
    assert row is not None
    assert row.description == row.server_name == "hi there"


MARK = "op_abcdefghijklmnop"


@pytest.mark.parametrize(
    ("description", "keep", "mark"),
    [
        ("x [keep]", True, ""),
        ("x [KEEP] y", True, ""),
        ("[ke\u200bep]", True, ""),
        ("a" * 3_000 + "[ke\u200bep]", True, ""),
        ("\uff3b\uff4b\uff45\uff45\uff50\uff3d", True, ""),
        ("\u00e9 [k e e p]", False, ""),
        ("keep", False, ""),
        ("a" * 5_000 + " [keep] " + MARK, True, MARK),
        (f"before {MARK}", False, MARK),
        (f"again op_{'2' * 16}, {MARK}", False, MARK),
        ("op_short", False, ""),
        ("op_ABCDEFGHIJKLMNOP op_0189018901890189", False, ""),
    ],
)
def test_keep_and_mark_are_found_before_a_description_is_cut(description: str, keep: bool, mark: str) -> None:
    row = backup_row(backup(description=description))
    assert row is not None
    assert (row.keep, row.mark) == (keep, mark)
    assert len(row.description) <= 200


def test_of_a_server_only_three_fields_are_kept() -> None:
    raw = {"id": 12345, "name": "web", "status": "active", "password": "hunter2", "ip_address": "203.0.113.10"}
    assert server_row(raw) == Server(id=12345, name="web", status="active")


ROW = backup(501)


@pytest.mark.parametrize(
    ("body", "ids", "count", "following", "unreadable", "gaps"),
    [
        ({"count": 1, "results": [ROW]}, [501], 1, "", 0, 0),
        ({"count": 1, "results": [5]}, [], 1, "", 1, 0),
        ({"count": 3, "results": [5, ROW, {}]}, [501], 3, "", 2, 0),
        ({"count": 1, "next": None, "previous": None, "results": [ROW], "more": 1}, [501], 1, "", 0, 0),
        ({"count": 9, "next": "http://x/?page=2", "results": []}, [], 9, "http://x/?page=2", 0, 0),
        ({"results": []}, [], None, "", 0, 0),
        ({"count": None, "results": []}, [], None, "", 0, 0),
        ([ROW, 6], [501], None, "", 1, 0),
        ([ROW], [501], None, "", 0, 0),
        ({"count": "1", "results": [ROW]}, [501], None, "", 0, 1),
        ({"count": True, "results": [ROW]}, [501], None, "", 0, 1),
        ({"count": -1, "results": [ROW]}, [501], None, "", 0, 1),
        ({"count": -1, "results": [5]}, [], None, "", 1, 1),
        ({"count": 1, "next": 2, "results": [ROW]}, [501], 1, "", 0, 1),
    ],
)
def test_a_list_comes_as_an_envelope_or_bare(
    body: object, ids: list[int], count: int | None, following: str, unreadable: int, gaps: int
) -> None:
    page = page_of(json.dumps(body).encode())
    assert [row.id for row in page.rows] == ids
    assert (page.count, page.next, page.unreadable, len(page.missing)) == (count, following, unreadable, gaps)


WHOLE = json.dumps({"count": 1, "results": [backup(description="é")]}, ensure_ascii=False).encode()


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_list_cut_at_any_byte_is_known_to_be_cut(length: int) -> None:
    with pytest.raises(BodyCutError):
        page_of(WHOLE[:length])


@pytest.mark.parametrize(
    "body",
    [
        b"<html><title>Log in</title></html>",
        b'{"detail": "maintenance"}',
        b'{"results": null}',
        b'{"results": {}}',
        b"null",
        b"5",
        b'"text"',
        b"NaN",
        b"\xef\xbb\xbf" + WHOLE,
        b'["\xff"]',
        b'{"results": ["\\ud800"]}',
        b"[" * 100_000,
        b'{"results": [' + b"9" * 5_000 + b"]}",
        WHOLE + b"x",
        b"\x00",
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_what_is_no_list_is_told_apart_from_one_that_is_cut(body: bytes) -> None:
    with pytest.raises(BodyUnreadableError):
        page_of(body)


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps))
def test_no_body_breaks_the_reader(body: bytes | str) -> None:
    raw = body if isinstance(body, bytes) else body.encode()
    try:
        page_of(raw)
    except BodyError:
        return


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)


@given(st.dictionaries(st.sampled_from(sorted(backup())), JSON))
def test_no_row_breaks_the_reader(changes: dict[str, Any]) -> None:
    backup_row(backup(**changes))


def test_an_account_tells_what_its_token_may_do() -> None:
    body = {"account": {"email": "a@example.com"}, "token": {"name": "ci\x1b[1m", "permissions": ["servers:*"], "x": 1}}
    assert wire.read_account(json.dumps(body).encode()) == Account(
        token_name="ci", permissions=("servers:*",), email="a@example.com"
    )


@pytest.mark.parametrize(
    "body", [b"{}", b'{"token": null}', b'{"token": {"name": "a"}}', b'{"token": {"permissions": [1]}}', b"[]"]
)
def test_an_account_that_does_not_tell_is_unreadable(body: bytes) -> None:
    with pytest.raises(BodyUnreadableError):
        wire.read_account(body)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"server_id": ["Invalid"]}, ("server_id",)),
        ({"evil text": ["x"], "description": ["y"], "server_id": ["z"]}, ("server_id", "description")),
        ({"detail": "x"}, ()),
    ],
)
def test_only_fields_that_we_sent_are_named(body: object, fields: tuple[str, ...]) -> None:
    assert wire.rejected_fields(json.dumps(body).encode()) == fields
