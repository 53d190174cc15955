"""What is read of VPS.org's JSON, and what is not."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.api import bodies
from mcp_backups.api.bodies import Lost, RowReader, backups, servers
from mcp_backups.api.classify import BodyCutError, BodyError, BodyUnreadableError
from mcp_backups.api.envelope import TWICE
from mcp_backups.models import MAX_ID, NO_SERVER, UNREADABLE, Account, Backup, Row, Server

from .stage import backup


def backup_row(raw: object) -> Backup | Lost:
    return row_of(backups(), raw)


def server_row(raw: object) -> Server | Lost:
    return row_of(servers(), raw)


def row_of(reader: RowReader[Row], raw: object) -> Row | Lost:
    """A row, which is the same whether it is read by itself, or in one go with others that are as documented or not."""
    row = reader.row(raw)
    read: list[Row] = [] if isinstance(row, Lost) else [row]
    lost: list[Lost] = [row] if isinstance(row, Lost) else []
    assert reader.rows([raw, raw]) == (2 * read, 2 * lost)
    assert reader.rows([None, raw]) == (read, [Lost(), *lost])
    return row


def good_row(raw: object) -> Backup:
    row = backup_row(raw)
    assert isinstance(row, Backup)
    return row


def page_of(body: bytes, headers: Mapping[str, str] | None = None, status: int = 200) -> bodies.Page[Backup]:
    return bodies.read_page(bodies.Body(body, headers or {}, status), bodies.read_list_body(body, backups()))


def test_a_documented_row_becomes_a_backup() -> None:
    row = good_row(backup())
    assert (row.id, row.server_id, row.server_name) == (501, 12345, "web-server-01")
    assert (row.type, row.status, row.size_mb) == ("automatic", "completed", 4523)
    assert row.created_at == datetime(2025, 1, 16, 3, 0, tzinfo=UTC)
    assert row.expires_at == datetime(2025, 2, 16, 3, 0, tzinfo=UTC)
    assert (row.description, row.keep, row.mark, row.unreadable) == ("Automatic daily backup", False, "", ())


VITAL: dict[str, list[Any]] = {
    "id": [True, 0, -1, MAX_ID + 1, 10**30, 1.0, "1", "x", None, TWICE],
    "server": [12345, "web", True, [], {}, {"id": True, "name": "a"}, {"id": "7"}, {"id": 0}, TWICE, {"name": "web"}],
    "created_at": [
        *(None, "", "soon", 1737000000, True, "2025-01-16", "2025-01-16T03:00:00", "2025-13-16T03:00:00Z"),
        *("0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"),
        *("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "0000-00-00 00:00:00+00:00"),
    ],
}
SPARED: dict[str, list[Any]] = {
    "type": [None, "", " ", "\u200b", 5, True, ["manual"], "man\u200bual", " automatic", TWICE],
    "status": [None, "", "\x00", 5, "comp\u200bleted", "completed ", "in_progress\u202e", "fail\u200bed", {}, TWICE],
    "size_mb": [True, -1, -0.1, "4523", float("nan"), float("inf"), float("-inf"), 10**400, 2.0**41, [], TWICE],
    "expires_at": ["", "soon", "2025-02-16T03:00:00", "0001-01-01T00:00:00Z", "1970-01-01", 0, False, {}, TWICE],
    "description": [5, True, ["a"], {}, {"text": "[keep]"}, TWICE],
    "server_name": [5, True, ["web"], {}, TWICE],
}


@pytest.mark.parametrize("name", VITAL)
def test_without_an_id_a_server_or_a_time_a_row_is_lost_and_says_whose_it_is(name: str) -> None:
    """Whose cannot be read may be anybody's; every other server is not concerned."""
    lost = Lost(0 if name == "id" else 501, 0 if name == "server" else 12345, (name,))
    assert [backup_row(backup(**{name: value})) for value in VITAL[name]] == [lost] * len(VITAL[name])
    row = backup()
    del row[name]
    assert backup_row(row) == lost


@pytest.mark.parametrize("name", SPARED)
def test_a_value_that_is_odd_costs_that_value(name: str) -> None:
    whole = good_row(backup())
    shown = {"type": UNREADABLE, "status": UNREADABLE, "description": "", "server_name": ""}.get(name)
    as_if = replace(whole, **{name: shown}, unreadable=(name,), keep=name == "description")  # type: ignore[arg-type]
    for value in SPARED[name]:
        changes = {"server": {"id": 12345, "name": value}} if name == "server_name" else {_PLACE.get(name, name): value}
        assert good_row(backup(**changes)) == as_if


_PLACE = {"type": "backup_type"}


@pytest.mark.parametrize("name", ["backup_type", "status"])
def test_a_word_that_is_not_told_at_all_is_unreadable_too(name: str) -> None:
    row = backup()
    del row[name]
    assert good_row(row).unreadable == (name.removeprefix("backup_"),)


def test_of_a_row_with_many_odd_values_the_rest_stands() -> None:
    row = good_row(backup(size_mb="x", expires_at=5, status=None, backup_type=[], server={"id": 7, "name": 5}))
    assert row.unreadable == ("server_name", "type", "status", "size_mb", "expires_at")
    assert (row.id, row.server_id, row.description) == (501, 7, "Automatic daily backup")


@pytest.mark.parametrize("server", [None, {"id": None}, {"id": None, "name": "gone"}, {"id": None, "name": 5}])
def test_a_backup_of_no_server_is_one_and_is_in_nobody_s_way(server: object) -> None:
    row = good_row(backup(server=server))
    assert (row.server_id, row.server_name, row.status) == (0, "", "completed")
    assert backup_row(backup(server=server, created_at=None)) == Lost(501, NO_SERVER, ("created_at",))


@pytest.mark.parametrize("raw", [None, 5, "x", [], [1], {}, True])
def test_a_row_that_is_no_object_is_bad(raw: object) -> None:
    assert isinstance(backup_row(raw), Lost)
    assert isinstance(server_row(raw), Lost)


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
    row = good_row(backup(**changes))
    assert getattr(row, attribute) == value


@pytest.mark.parametrize("name", ["size_mb", "expires_at", "description"])
def test_a_row_may_lack_what_may_be_null(name: str) -> None:
    row = backup()
    del row[name]
    assert good_row(row).unreadable == ()


def test_foreign_text_is_made_safe() -> None:
    hostile = "\x1b[2Jhi\u202e\U000e0041\u2028 there\x00"
    row = good_row(backup(description=hostile, server={"id": 1, "name": hostile}))
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
        ("[ keep ]", True, ""),
        ("[KEEP\t]", True, ""),
        ("\uff3b\u00a0keep\uff3d", True, ""),
        ("[to keep]", False, ""),
        ("keep", False, ""),
        ("a" * 5_000 + " [keep] " + MARK, True, MARK),
        (f"before {MARK}", False, MARK),
        (f"again op_{'2' * 16}, {MARK}", False, MARK),
        ("[ke\ufffdp]", True, ""),
        ("[ke\ufffdep]", True, ""),
        ("\ufffdKEEP]", True, ""),
        ("party \ufffd", False, ""),
        ("caf\ufffd [weekly]", False, ""),
        ("\u200b" * 5_000 + "\uff3bkeep]", True, ""),
        ("\u200b" * 5_000 + "weekly", False, ""),
        ("op_short", False, ""),
        ("op_ABCDEFGHIJKLMNOP op_0189018901890189", False, ""),
    ],
)
def test_keep_and_mark_are_found_before_a_description_is_cut(description: str, keep: bool, mark: str) -> None:
    row = good_row(backup(description=description))
    assert (row.keep, row.mark) == (keep, mark)
    assert len(row.description) <= 200


def test_of_a_server_only_three_fields_are_kept() -> None:
    raw = {"id": 12345, "name": "web", "status": "active", "password": "hunter2", "ip_address": "203.0.113.10"}
    assert server_row(raw) == Server(id=12345, name="web", status="active")


@pytest.mark.parametrize("other", [{}, {"server": None}, {"server": {}}, {"server": {"id": 5}}, {"server": 5}])
def test_a_server_without_an_id_is_lost_whatever_else_it_holds(other: dict[str, Any]) -> None:
    assert server_row({"id": "x", "name": "web", "status": "active"} | other) == Lost(fields=("id",))
    assert server_row({"id": 5, "name": 7, "status": None} | other) == Server(5, "", UNREADABLE)


ROW = backup(501)


@pytest.mark.parametrize(
    ("body", "ids", "count", "following", "unreadable", "gaps"),
    [
        ({"count": 1, "results": [ROW]}, [501], 1, "", 0, 0),
        ({"count": 1, "results": [5]}, [], 1, "", 1, 0),
        ({"count": 3, "results": [5, ROW, {}]}, [501], 3, "", 2, 0),
        ({"count": 1, "next": None, "previous": None, "results": [ROW], "extra": 1}, [501], 1, "", 0, 0),
        ({"count": 9, "next": "http://x/?page=2", "results": []}, [], 9, "http://x/?page=2", 0, 0),
        ({"results": []}, [], None, "", 0, 0),
        ({"count": None, "results": []}, [], None, "", 0, 0),
        ([ROW, 6], [501], None, "", 1, 0),
        ([ROW], [501], None, "", 0, 0),
        ({"count": "1", "results": [ROW]}, [501], 1, "", 0, 0),
        ({"count": 1.0, "results": [ROW]}, [501], 1, "", 0, 0),
        ({"count": "one", "results": [ROW]}, [501], None, "", 0, 1),
        ({"count": 1.5, "results": [ROW]}, [501], None, "", 0, 1),
        ({"count": 10**9 + 1, "results": [ROW]}, [501], None, "", 0, 1),
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
    assert (page.count, page.next, len(page.lost), len(page.missing + page.more)) == (
        count,
        following,
        unreadable,
        gaps,
    )


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
        b'{"results": [], "results": [1]}',
        b"null",
        b"5",
        b'"text"',
        b"NaN",
        b"[" * 100 + b"}" * 100,
        b'{"results": [' + b"9" * 5_000 + b"}",
        b"{'results': []}",
        WHOLE.decode().encode("utf-16"),
        WHOLE + b"x",
        b"\x00",
    ],
    ids=lambda body: ascii(body[:30]),
)
def test_what_is_no_list_is_told_apart_from_one_that_is_cut(body: bytes) -> None:
    with pytest.raises(BodyUnreadableError):
        page_of(body)


def test_nothing_but_brackets_is_a_list_that_is_cut() -> None:
    with pytest.raises(BodyCutError):
        page_of(b"[" * 100_000)


DEEP = b"[" * 5_000 + b'"]"' + b"]" * 5_000


@pytest.mark.parametrize(
    ("field", "value", "unreadable", "description"),
    [
        (b"description", rb'"party \ud83d"', (), "party \ufffd"),
        (b"description", rb'"\udc00 \ud83d\ude00 \\ud83d"', (), "\ufffd \U0001f600 \\ud83d"),
        (b"description", b'"caf\xe9 \xff"', (), "caf\ufffd \ufffd"),
        (b"description", b'"two\nlines\t"', (), "two lines"),
        (b"description", DEEP, ("description",), ""),
        (b"description", b'"a", "description": "b [keep]"', ("description",), ""),
        (b"description", b'"a", "description": "a"', (), "a"),
        (b"size_mb", b"NaN", ("size_mb",), "x"),
        (b"size_mb", b"-Infinity", ("size_mb",), "x"),
        (b"size_mb", b"1e999", ("size_mb",), "x"),
        (b"size_mb", b"9" * 5_000, ("size_mb",), "x"),
        (b"size_mb", b"1" + b"0" * 400, ("size_mb",), "x"),
        (b"status", b'"failed", "status": "completed"', ("status",), "x"),
        (b"status", b'"complet\xffed"', (), "x"),
        (b"undocumented", DEEP, (), "x"),
    ],
    ids=lambda value: ascii(value[:24]) if isinstance(value, bytes) else "",
)
def test_one_broken_value_costs_that_value_and_never_the_list(
    field: bytes, value: bytes, unreadable: tuple[str, ...], description: str
) -> None:
    row = backup(description="x")
    row.pop(field.decode(), None)
    broken = json.dumps(row).encode()[:-1] + b', "' + field + b'": ' + value + b"}"
    page = page_of(
        b'{"count": 2, "results": [' + json.dumps(ROW).encode() + b", " + broken.replace(b"501", b"502", 1) + b"]}"
    )
    assert [row.id for row in page.rows] == [501, 502]
    assert (page.rows[1].unreadable, page.rows[1].description) == (unreadable, description)
    assert page.rows[1].keep == ("description" in unreadable)


def test_a_byte_order_mark_is_passed_over() -> None:
    assert page_of(b"\xef\xbb\xbf" + WHOLE) == page_of(WHOLE)


@pytest.mark.parametrize(
    ("rest", "status", "headers", "following"),
    [
        ({"next": "?page=2"}, 200, {}, "?page=2"),
        ({"links": {"next": "/backups/?page=2"}}, 200, {}, "/backups/?page=2"),
        ({"_links": {"next": {"href": "/backups/?page=2"}}}, 200, {}, "/backups/?page=2"),
        ({"links": [{"rel": "prev", "href": "?p=0"}, {"rel": "next", "href": "?p=2"}]}, 200, {}, "?p=2"),
        ({"next": {"url": "?page=2"}}, 200, {}, "?page=2"),
        ({"nextPage": "?page=2"}, 200, {}, "?page=2"),
        ({"@odata.nextLink": "https://x/backups/?page=2"}, 200, {}, "https://x/backups/?page=2"),
        ({"next": None}, 200, {"link": '<?p=0>; rel="prev", <?p=2>; rel="next"'}, "?p=2"),
        ({}, 200, {"link": "<https://x/backups/?a=1,2&page=2>; rel=next"}, "https://x/backups/?a=1,2&page=2"),
        ({}, 200, {"link": "<?p=9>; rel=last, <?p=2>; title=next; REL='next'"}, "?p=2"),
    ],
)
def test_where_the_next_page_is_may_be_said_in_many_ways(
    rest: dict[str, Any], status: int, headers: dict[str, str], following: str
) -> None:
    page = page_of(json.dumps({"count": 1, "results": [ROW]} | rest).encode(), headers, status)
    assert (page.next, page.more) == (following, ())


@pytest.mark.parametrize(
    ("rest", "status", "headers"),
    [
        *(
            ({name: value}, 200, {})
            for name in ("has_more", "hasMore", "HasNext", "more", "truncated")
            for value in (True, 1, "true")
        ),
        ({"next_page_token": "abc"}, 200, {}),
        ({"nextPageToken": "abc"}, 200, {}),
        ({"next_cursor": "abc"}, 200, {}),
        ({"nextPage": 2}, 200, {}),
        ({"next": 2}, 200, {}),
        ({"next": True}, 200, {}),
        ({"next": {"page": 2}}, 200, {}),
        ({"next": "cD0y"}, 200, {}),
        ({"pagination": {"next_offset": 100}}, 200, {}),
        ({"meta": {"page_info": {"hasNextPage": True}}}, 200, {}),
        ({"continuation_token": "x"}, 200, {}),
        ({"response_metadata": {"next_cursor": "abc"}}, 200, {}),
        ({"LastEvaluatedKey": {"id": 4}}, 200, {}),
        ({"timed_out": True}, 200, {}),
        *(({name: False}, 200, {}) for name in ("last", "isLast", "is_last_page", "done", "complete", "lastPage")),
        ({"page": {"last": "false"}}, 200, {}),
        ({}, 206, {}),
        ({}, 200, {"x-next-page": "2"}),
        ({}, 200, {"X-Has-More": "true"}),
    ],
)
def test_a_sign_of_more_that_cannot_be_followed_is_told(
    rest: dict[str, Any], status: int, headers: dict[str, str]
) -> None:
    page = page_of(json.dumps({"count": 1, "results": [ROW]} | rest).encode(), headers, status)
    assert page.next == ""
    assert len(page.more) == 1
    assert page.more[0].startswith("VPS.org says that there is more (")


@pytest.mark.parametrize(
    ("rest", "headers"),
    [
        ({"next": None, "previous": "?page=1"}, {}),
        ({"has_more": False, "next_cursor": None, "nextPage": "", "next_page_token": ""}, {}),
        ({"links": {"next": None, "self": "?page=1"}, "pagination": {"has_next": "false", "next": 0}}, {}),
        ({"next_backup_at": "2025-01-17T03:00:00Z", "nextRun": 5, "total_size_mb": 9000, "limits": 3}, {}),
        ({"last": True, "done": True, "complete": None, "timed_out": False, "quota": {"total": 40}}, {}),
        ({"completed": 30, "failed": 3, "status": "ok", "error": None, "errors": [], "success": True}, {}),
        ({"page": 1, "pages": 1, "total": 1, "page_size": 100}, {}),
        ({}, {"link": '<?page=1>; rel="first", <https://x/next>; rel="help"', "x-ratelimit-remaining": "99"}),
        ({}, {"x-total-count": "1", "content-range": "items 0-0/1", "x-next-page": ""}),
    ],
)
def test_what_is_no_sign_of_more_is_taken_for_none(rest: dict[str, Any], headers: dict[str, str]) -> None:
    page = page_of(json.dumps({"count": 1, "results": [ROW]} | rest).encode(), headers)
    assert (page.next, page.more, page.missing) == ("", (), ())
    assert (page.total, page.pages) in {(0, 0), (1, 1), (1, 0)}


@pytest.mark.parametrize(
    ("rest", "headers", "total", "pages"),
    [
        ({"total": 250}, {}, 250, 0),
        ({"totalCount": "250"}, {}, 250, 0),
        ({"meta": {"pagination": {"total": 250, "count": 1, "total_pages": 3}}}, {}, 250, 3),
        ({"page": 1, "num_pages": 3}, {}, 0, 3),
        ({"pages": 3}, {}, 0, 3),
        ({"page": {"size": 1, "totalElements": 250, "totalPages": 3}}, {}, 250, 3),
        ({"total": 250.0, "pages": 3.0}, {}, 250, 3),
        ({"total": {"value": 250, "relation": "eq"}}, {}, 250, 0),
        ({"response_metadata": {"records_total": 250}}, {}, 250, 0),
        ({"total": True, "pages": -1, "total_count": 10**12}, {}, 0, 0),
        ({}, {"content-range": "backups 0-99/250"}, 250, 0),
        ({}, {"x-total-count": "250", "X-Total-Pages": "3"}, 250, 3),
        ({}, {"content-range": "items 0-99/250"}, 250, 0),
    ],
)
def test_how_many_there_are_may_be_said_in_many_ways(
    rest: dict[str, Any], headers: dict[str, str], total: int, pages: int
) -> None:
    page = page_of(json.dumps({"results": [ROW]} | rest).encode(), headers)
    assert (page.total, page.pages) == (total, pages)


@pytest.mark.parametrize("total", [True, -1, 10**12, "1,040", "many", 40.5, [40], {"value": "x"}, {}])
def test_a_total_in_a_form_of_no_use_is_told_and_is_no_word_that_these_are_all(total: Any) -> None:
    page = page_of(json.dumps({"results": [ROW], "total": total}).encode())
    assert page.missing == ("how many rows there are could not be read (total)",)


@pytest.mark.parametrize(
    ("age", "is_old"),
    [("", False), ("0", False), ("60", False), ("61", True), ("86400", True), ("-1", False), ("soon", False)],
)
def test_a_list_that_a_cache_has_kept_for_long_does_not_show_what_there_is(age: str, is_old: bool) -> None:
    """By a copy of yesterday a backup that is gone by now was left as the last good one."""
    page = page_of(json.dumps({"count": 1, "results": [ROW]}).encode(), {"age": age})
    assert page.missing == ((f"this is a copy that something on the way has kept for {age} s",) if is_old else ())


@pytest.mark.parametrize(
    "no",
    [
        *({"error": "backend unavailable"}, {"errors": ["shard 3"]}, {"Error": {"code": 5}}, {"success": False}),
        *({"status": "error"}, {"status": 503}, {"code": 500}, {"is_error": True}, {"hasErrors": "true"}, {"ok": 0}),
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("found", [[], [ROW]])
def test_a_list_that_says_no_lacks_something_whatever_its_count_says(no: dict[str, Any], found: list[object]) -> None:
    """Taken for all there is, an empty one said that a backup is deleted."""
    page = page_of(json.dumps({"count": len(found), "results": found} | no).encode())
    (name,) = no
    assert page.missing == (f"VPS.org says that something failed ({name.lower().replace('_', '')})",)


@pytest.mark.parametrize(
    ("count", "rest", "is_full"),
    [
        *((count, None, True) for count in (5, 10, 15, 20, 25, 30, 40, 50, 100, 200, 1000)),
        *((count, None, False) for count in (0, 1, 19, 21, 99, 101)),
        (100, {"count": 100}, False),
        (100, {"next": None}, False),
        (100, {"has_more": False}, False),
        *((100, {name: None}, True) for name in ("count", "total", "pages")),
        (30, {"per_page": 30, "page": 1}, True),
        (29, {"per_page": 30, "page": 1}, False),
    ],
)
def test_a_page_is_full_if_its_size_says_so_and_nothing_says_that_it_is_all(
    count: int, rest: dict[str, Any] | None, is_full: bool
) -> None:
    rows = [backup(number) for number in range(1, count + 1)]
    assert page_of(json.dumps(rows if rest is None else {"results": rows} | rest).encode()).is_full is is_full


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
    assert bodies.read_account(bodies.Body(json.dumps(body).encode(), {})) == Account(
        token_name="ci", permissions=("servers:*",), email="a@example.com"
    )


@pytest.mark.parametrize(
    "body", [b"{}", b'{"token": null}', b'{"token": {"name": "a"}}', b'{"token": {"permissions": [1]}}', b"[]"]
)
def test_an_account_that_does_not_tell_is_unreadable(body: bytes) -> None:
    with pytest.raises(BodyUnreadableError):
        bodies.read_account(bodies.Body(body, {}))
