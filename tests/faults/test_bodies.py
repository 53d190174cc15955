"""3.2: bodies and lists that are not as documented."""

from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.faults.conftest import OpenBench
from tests.faults.stage import (
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
    Case("F44", "nested-arrays", a_list, (on_get(body(b"[" * 100_000), None),), "upstream_protocol", "nothing", 1),
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
    Case(
        "F44", "bad-utf-8", a_list, (on_get(body(b'{"results": ["\xff"]}'), None),), "upstream_protocol", "nothing", 1
    ),
]


@table(UNREADABLE)
async def test_a_list_that_cannot_be_read_is_an_error_and_never_an_empty_list(bench: Bench, case: Case) -> None:
    await assert_case(bench, case)
    assert (await bench.agent.call("get_operation", operation_id="op_none")).code == "confirmation_invalid"


INCOMPLETE = [
    Case(
        "F45", "bad-row", a_list, (on_get(first_row(id=True)),), gets=1, gist=("INCOMPLETE", "1 row could not be read")
    ),
    Case("F47", "count-too-high", a_list, (on_get(edited(count=99)),), gets=1, gist=("INCOMPLETE", "counts 99 rows")),
    Case(
        "F47",
        "rows-twice",
        a_list,
        (on_get(Fault.edited(lambda page: page | {"results": page["results"][:1] + page["results"][:-1]})),),
        gets=1,
        gist=("INCOMPLETE",),
    ),
    Case(
        "F48",
        "next-on-another-path",
        a_list,
        (on_get(edited(next="https://elsewhere.example/steal/?page=2")),),
        gets=1,
        gist=("INCOMPLETE", "not part of this list"),
    ),
]


@table(INCOMPLETE)
async def test_a_list_of_which_something_is_missing_says_what(bench: Bench, case: Case) -> None:
    answer = await assert_case(bench, case)
    assert answer.data["complete"] is False
    assert answer.data["missing"]


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


DENIED = [
    Case(
        "F46",
        "bad-row-at-plan",
        a_delete_plan,
        (on_get(first_row(id=True)),),
        "policy_denied",
        "nothing",
        1,
        0,
        0,
        gist=("incomplete",),
    ),
    Case(
        "F46",
        "bad-row-at-execution",
        a_delete,
        (on_get(first_row(id=True)),),
        "policy_denied",
        "nothing",
        1,
        0,
        0,
        gist=("incomplete",),
    ),
    Case(
        "F46",
        "page-missing-at-execution",
        a_delete,
        (on_get(edited(count=99)),),
        "policy_denied",
        "nothing",
        1,
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
async def test_rows_of_other_servers_are_dropped_where_one_was_asked_for(bench_on: OpenBench, row: str) -> None:
    async with Emulator(honour_filters=False) as api, bench_on(api) as bench:
        answer = await bench.agent.call("list_backups", server_id=WEB, limit=100)
        assert {backup["server_id"] for backup in answer.data["backups"]} == {WEB}, row
        assert answer.data["complete"] is False
        assert "filter was not honoured" in answer.text
