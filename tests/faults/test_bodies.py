"""Bodies and lists that are not as documented."""

import json
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
    DB,
    SOURCE,
    TARGET,
    WEB,
    Bench,
    Case,
    a_delete,
    a_delete_plan,
    a_list,
    assert_case,
    on_get,
    table,
)

pytestmark = pytest.mark.anyio

MIB = 2**20


def body(content: bytes) -> Fault:
    return Fault.status(200, content)


def edited(**changes: Any) -> Fault:
    return Fault.edited(lambda page: page | changes)


def first_row(**changes: Any) -> Fault:
    return Fault.edited(lambda page: page | {"results": [page["results"][0] | changes, *page["results"][1:]]})


UNREADABLE = [
    Case("F39", "truncated", a_list, (on_get(Fault.cut_body(), None),), "upstream_protocol", "nothing", (1, 3)),
    Case(
        "F39",
        "ends-early",
        a_list,
        (on_get(body(b'{"count": 1, "resu'), None),),
        "upstream_protocol",
        "nothing",
        (1, 3),
    ),
    Case(
        "F41",
        "6-MiB",
        a_list,
        (on_get(body(b'{"results": "' + b"x" * 6 * MIB + b'"}'), None),),
        "response_too_large",
        "nothing",
        1,
        gist=("5 MiB",),
    ),
    Case("F42", "endless", a_list, (on_get(Fault.endless_body(), None),), "response_too_large", "nothing", (1, 3)),
    Case(
        "F42",
        "gzip-bomb",
        a_list,
        (on_get(Fault.gzip_bomb(), None),),
        "upstream_protocol",
        "nothing",
        1,
        gist=("compressed",),
    ),
    Case("F44", "nested-arrays", a_list, (on_get(body(b"[" * 100_000), None),), "upstream_protocol", "nothing", (1, 3)),
    Case(
        "F44",
        "long-integer",
        a_list,
        (on_get(body(b'{"count": 1, "results": [' + b"9" * 5_000 + b"}"), None),),
        "upstream_protocol",
        "nothing",
        1,
    ),
    Case(
        "F44", "nan", a_list, (on_get(body(b'{"count": NaN, "results": [}'), None),), "upstream_protocol", "nothing", 1
    ),
    Case("F44", "byte-order-mark", a_list, (on_get(body(b"\xef\xbb\xbf{}"), None),), "upstream_protocol", "nothing", 1),
    Case("F44", "bad-utf-8", a_list, (on_get(body(b'"\xff"'), None),), "upstream_protocol", "nothing", 1),
]


@table(UNREADABLE)
async def test_a_list_that_cannot_be_read_is_an_error_and_never_an_empty_list(bench: Bench, case: Case) -> None:
    await assert_case(bench, case)
    assert (await bench.agent.call("get_operation", operation_id="op_none")).code == "confirmation_invalid"


INCOMPLETE = [
    Case(
        "F45",
        "bad-row",
        a_list,
        (on_get(first_row(id=True)),),
        gets=(1, 2),
        gist=("INCOMPLETE", "1 row of server 12345 could not be read (id)"),
    ),
    Case(
        "F47", "count-too-high", a_list, (on_get(edited(count=99)),), gets=(1, 2), gist=("INCOMPLETE", "counts 99 rows")
    ),
    Case("F47", "has-more", a_list, (on_get(edited(has_more=True)),), gets=(1, 2), gist=("INCOMPLETE", "(has_more)")),
    Case("F47", "total", a_list, (on_get(edited(total=99)),), gets=(1, 2), gist=("INCOMPLETE", "99 rows in all")),
    Case(
        "F47",
        "rows-twice",
        a_list,
        (on_get(Fault.edited(lambda page: page | {"results": page["results"][:1] + page["results"][:-1]})),),
        gets=(1, 2),
        gist=("INCOMPLETE",),
    ),
    Case(
        "F48",
        "next-on-another-path",
        a_list,
        (on_get(edited(next="https://elsewhere.example/steal/?page=2")),),
        gets=(1, 2),
        gist=("INCOMPLETE", "not part of this list"),
    ),
]


@table(INCOMPLETE)
async def test_a_list_of_which_something_is_missing_says_what(bench: Bench, case: Case) -> None:
    answer = await assert_case(bench, case)
    assert answer.data["complete"] is False
    assert answer.data.get("missing", [])


@pytest.mark.parametrize("row", ["F48"])
async def test_a_next_page_on_another_host_is_asked_of_vps_org_alone(bench: Bench, row: str) -> None:
    async with Emulator() as other:
        bench.spoil(on_get(edited(next=f"{other.base_url}/backups/?page=2")))
        answer = await bench.agent.call("list_backups")
        assert not answer.is_error, row
        assert other.connections == 0
    assert {request.headers["host"] for request in bench.emulator.requests} == {
        bench.emulator.base_url.split("/")[2],
    }


def of(server_id: int, **changes: Any) -> Fault:
    """The newest backup of that server, changed, in every list."""

    def edit(page: dict[str, Any]) -> dict[str, Any]:
        rows = page["results"]
        place = next((n for n, row in enumerate(rows) if (row.get("server") or {}).get("id") == server_id), None)
        if place is not None and "backup_type" in rows[place]:
            rows[place] |= changes
        return page

    return Fault.edited(edit)


DENIED = [
    Case(
        "F46",
        "bad-row-at-plan",
        a_delete_plan,
        (on_get(of(WEB, id=True), None),),
        "policy_denied",
        "nothing",
        2,
        0,
        0,
        gist=("incomplete",),
    ),
    Case(
        "F46",
        "bad-row-at-execution",
        a_delete,
        (on_get(of(WEB, id=True), None),),
        "policy_denied",
        "nothing",
        2,
        0,
        0,
        gist=("incomplete",),
    ),
    Case(
        "F46",
        "page-missing-at-execution",
        a_delete,
        (on_get(edited(count=99), None),),
        "policy_denied",
        "nothing",
        2,
        0,
        0,
        gist=("incomplete",),
    ),
]


@table(DENIED)
async def test_an_incomplete_list_is_no_ground_to_delete_on(bench: Bench, case: Case) -> None:
    await assert_case(bench, case)
    assert TARGET in bench.emulator.fleet.backups


@pytest.mark.parametrize("row", ["F51"])
@pytest.mark.parametrize(("field", "word"), [("status", "archived"), ("backup_type", "weekly")])
async def test_words_that_are_not_documented_are_listed_as_they_are(
    bench: Bench, row: str, field: str, word: str
) -> None:
    bench.spoil(on_get(first_row(**{field: word}), None))
    answer = await bench.agent.call("list_backups", limit=100)
    assert answer.data["complete"] is True, row
    name = "type" if field == "backup_type" else "status"
    assert word in [backup.get(name) for backup in answer.data["backups"]]


@pytest.mark.parametrize("row", ["F51"])
async def test_a_backup_of_unknown_status_is_not_restored(bench: Bench, row: str) -> None:
    bench.emulator.fleet.backups[SOURCE].status = "archived"
    bench.spoil()
    answer = await bench.agent.call("restore_server", server_id=WEB, backup_id=SOURCE)
    assert answer.code == "policy_denied", row
    assert "not completed" in answer.text
    assert bench.requests()[1] == 0


@pytest.mark.parametrize("row", ["F53"])
async def test_rows_of_other_servers_are_dropped_where_one_was_asked_for_and_cost_nothing(
    bench_on: OpenBench, row: str
) -> None:
    async with Emulator(honour_filters=False) as api, bench_on(api) as bench:
        answer = await bench.agent.call("list_backups", server_id=WEB, limit=100)
        assert {backup["server_id"] for backup in answer.data["backups"]} == {WEB}, row
        assert (answer.data["complete"], answer.data.get("missing", [])) == (True, [])
        plan = await bench.agent.call("prune_backups", server_id=DB, keep_last=1)
        assert plan.code == "", plan.text


# One odd row, and what it costs whom. The first row is of the database server, the target of the web server.


NOBODYS: list[dict[str, Any]] = [
    {"server": None},
    {"server": {"id": None}},
    {"server": {"id": None, "name": "gone"}, "created_at": "soon"},
]
LOST: list[dict[str, Any]] = [
    {"created_at": None},
    {"created_at": "2026-11-23"},
    {"created_at": 5},
    {"id": "453"},
    {"id": None},
]
ANYBODYS: list[dict[str, Any]] = [{"server": "db"}, {"server": True}, {"server": 12346}, {"server": {"id": "12346"}}]
ODD: list[dict[str, Any]] = [
    {"size_mb": "38209"},
    {"size_mb": -1},
    {"size_mb": 1e300},
    {"expires_at": "soon"},
    {"description": 5},
    {"description": ["[keep]"]},
    {"server": {"id": DB, "name": None}},
    {"server": {"id": DB, "name": 7}},
    {"status": None},
    {"status": "comp\u200bleted"},
    {"backup_type": 5},
]


@pytest.mark.parametrize("changes", [*NOBODYS, *LOST, *ODD], ids=ascii)
async def test_an_odd_row_of_one_server_is_in_no_other_s_way(bench: Bench, changes: dict[str, Any]) -> None:
    """One such row once stood in the way of every deletion of the account, and was not even named."""
    bench.spoil(on_get(of(DB, **changes), None))
    answer = await bench.agent.call("delete_backup", **await bench.plan("delete_backup", backup_id=TARGET))
    assert answer.status == "succeeded", answer.text
    assert bench.requests()[2] == 1
    assert TARGET not in bench.emulator.fleet.backups


@pytest.mark.parametrize("changes", LOST, ids=ascii)
async def test_of_the_server_of_a_row_that_cannot_be_read_nothing_is_deleted_and_the_row_is_named(
    bench: Bench, changes: dict[str, Any]
) -> None:
    bench.spoil(on_get(of(WEB, **changes), None))
    answer = await bench.agent.call("delete_backup", backup_id=TARGET)
    assert answer.code == "policy_denied", answer.text
    (field,) = changes
    which = f"1 row of server {WEB}" if field == "id" else f"row of backup 501 of server {WEB}"
    assert f"{which} could not be read ({field})" in answer.text
    assert bench.requests()[2] == 0


@pytest.mark.parametrize("changes", ANYBODYS, ids=ascii)
async def test_a_row_whose_server_cannot_be_read_may_be_of_any_in_whose_own_list_it_stands(
    bench: Bench, changes: dict[str, Any]
) -> None:
    bench.spoil(on_get(of(WEB, **changes), None))
    answer = await bench.agent.call("delete_backup", backup_id=TARGET)
    assert answer.code == "policy_denied", answer.text
    assert "row of backup 501 could not be read (server)" in answer.text
    bench.emulator.clear_faults()
    bench.spoil(on_get(of(DB, **changes), None))
    answer = await bench.agent.call("delete_backup", backup_id=TARGET)
    assert answer.status == "needs_confirmation", answer.text
    assert [request.query.get("server_id") for request in bench.emulator.requests] == [None, str(WEB)]


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(
    "changes",
    [
        {"server": {"id": DB, "name": "db-server-01"}},
        {"created_at": "2026-11-20T01:00:00Z"},
        {"expires_at": "2026-11-24T01:00:00Z"},
        {"size_mb": 1},
        {"status": "failed"},
        {"description": "[keep]"},
    ],
    ids=ascii,
)
async def test_what_two_rows_tell_differently_is_neither_restored_nor_deleted_nor_said_to_be_absent(
    bench: Bench, changes: dict[str, Any], is_first: bool
) -> None:
    """Of two rows that are both completed the later one was restored, be it of another server or another day."""

    def edit(page: dict[str, Any]) -> None:
        for row in [row for row in page["results"] if row["id"] == TARGET]:
            page["results"].insert(0 if is_first else len(page["results"]), row | changes)

    bench.spoil(on_get(Fault.edited(edit), None))
    for tool, arguments in {
        "restore_server": {"server_id": WEB, "backup_id": TARGET},
        "delete_backup": {"backup_id": TARGET},
        "prune_backups": {"server_id": WEB, "keep_last": 1},
    }.items():
        answer = await bench.agent.call(tool, **arguments)
        assert answer.code in {"policy_denied", "upstream_protocol"}, answer.text
    (web,) = (await bench.agent.call("check_backups", server_id=WEB)).data["servers"]
    assert web["restore_to"] != TARGET
    assert "stuck" not in web["reason"]
    assert bench.requests()[1:] == (0, 0)


@pytest.mark.parametrize("changes", [*NOBODYS[:2], *ODD], ids=ascii)
async def test_a_value_that_is_odd_leaves_the_list_complete(bench: Bench, changes: dict[str, Any]) -> None:
    bench.spoil(on_get(of(DB, **changes), None))
    answer = await bench.agent.call("list_backups", limit=100)
    assert answer.data["complete"] is True, answer.text
    assert answer.data["total"] == len(bench.emulator.fleet.backups)
    (row,) = (backup for backup in answer.data["backups"] if backup["id"] == 453)
    if changes in ODD[-3:-1]:
        assert row["status"] == "unreadable"
    if changes in ODD[:3]:
        assert "size_mb" not in row


@pytest.mark.parametrize("description", [5, True, ["[keep]"], {"text": "[keep]"}, "[ke\ufffdp]", "x [\u200bkeep]"])
async def test_no_odd_description_makes_a_keep_vanish(bench: Bench, description: object) -> None:
    bench.emulator.fleet.backups[TARGET].description = "[keep]"

    def edit(page: dict[str, Any]) -> None:
        for row in page["results"]:
            if row["id"] == TARGET:
                row["description"] = description

    bench.spoil(on_get(Fault.edited(edit), None))
    answer = await bench.agent.call("delete_backup", backup_id=TARGET)
    assert answer.code == "policy_denied", answer.text
    assert "marked to be kept" in answer.text


@pytest.mark.parametrize("text", [rb"party \ud83d", rb"\udc00", b"caf\xe9", b"two\nlines"], ids=ascii)
async def test_one_broken_text_costs_no_more_than_that_text(bench: Bench, text: bytes) -> None:
    """Half an emoji, as JavaScript leaves it when it cuts a text, once made the whole list unreadable."""
    page = {"count": 1, "results": [row_of(bench.emulator, TARGET)]}
    raw = json.dumps(page).encode().replace(b"Pre-update backup", text)
    bench.spoil(on_get(body(raw), 1))
    answer = await bench.agent.call("list_backups")
    assert (answer.data["complete"], answer.data["total"]) == (True, 1), answer.text


def row_of(emulator: Emulator, number: int) -> dict[str, Any]:
    backup = emulator.fleet.backups[number]
    return {
        "id": number,
        "server": {"id": backup.server_id, "name": "web-server-01"},
        "backup_type": backup.backup_type,
        "status": backup.status,
        "size_mb": backup.size_mb,
        "created_at": backup.created_at.isoformat(),
        "expires_at": None,
        "description": "Pre-update backup",
    }
