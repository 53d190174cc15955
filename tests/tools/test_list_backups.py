"""list_backups: the newest first, only what was asked for, every row once, and never more certain than it is."""

import ast
import itertools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault, large_fleet
from mcp_backups.sandbox.shapes import backup_shape
from tests.stage import AgentWith, Answer, ManualClock, Session, spoil_ledger

from .conftest import AgentOn

pytestmark = pytest.mark.anyio

COLUMNS = "id|server_id|server|type|status|size_mb|created_at|age|expires_at|description"
FLAGGED = f"{COLUMNS}|flags"
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
CELL = re.compile(rf"({QUOTED}|[^|]*)\|")


def ids(answer: Answer) -> list[int]:
    assert not answer.is_error, answer.text
    return [row["id"] for row in answer.data["backups"]]


def newest_first(emulator: Emulator, **wanted: Any) -> list[int]:
    fits = [b for b in emulator.fleet.backups.values() if all(getattr(b, name) == v for name, v in wanted.items())]
    return [b.id for b in sorted(fits, key=lambda b: (b.created_at, b.id), reverse=True)]


def size(answer: Answer) -> int:
    """Characters of its text and its structured content together."""
    return len(answer.text) + len(json.dumps(answer.data, ensure_ascii=False))


async def pages(agent: Session, **arguments: Any) -> list[Answer]:
    """Every page, following next_cursor."""
    answers = [await agent.call("list_backups", **arguments)]
    while cursor := answers[-1].data.get("next_cursor", ""):
        answers.append(await agent.call("list_backups", **arguments | {"cursor": cursor}))
        assert len(answers) < 100
    return answers


def read_table(text: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The shared values and the rows that a page's text shows, each row with the values that it shares."""
    shared, rows, columns = {}, [], COLUMNS
    for line in text.splitlines()[1:]:
        if line in (COLUMNS, FLAGGED):
            columns = line
        elif line.startswith("defaults, where a cell is -: "):
            shared = {name: ast.literal_eval(value) for name, value in re.findall(rf"(\w+) ({QUOTED})", line)}
        elif re.match(r"\d+\|", line):
            named = zip(columns.split("|"), CELL.findall(f"{line}|"), strict=True)
            rows.append({"flags": ""} | {name: read_cell(cell, shared.get(name)) for name, cell in named})
    return shared, rows


def read_cell(cell: str, shared: str | None) -> str:
    if cell == "-" and shared is not None:
        return shared
    return str(ast.literal_eval(cell)) if cell[:1] in ("'", '"') else cell


def full_row(row: dict[str, Any], defaults: dict[str, str]) -> dict[str, Any]:
    """A structured row with the values that it shares, as the text would show them."""
    told = defaults | row | {"flags": ", ".join(row.get("flags", []))}
    return {name: str(told.get(name, "")) for name in FLAGGED.split("|")}


async def test_the_newest_by_creation_comes_first_whatever_the_ids_and_the_order_of_the_answer(
    agent: Session, emulator: Emulator
) -> None:
    answer = await agent.call("list_backups", server_id=12345, limit=100)
    assert ids(answer) == newest_first(emulator, server_id=12345)
    assert ids(answer)[:3] == [501, 495, 499]
    assert [b.id for b in emulator.fleet.backups_of(12345)][:3] == [501, 499, 495]


async def test_backups_of_the_same_moment_are_told_apart_by_their_ids(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    for backup in emulator.fleet.backups.values():
        backup.created_at = clock.now()
    answers = await pages(agent, limit=7)
    assert [number for answer in answers for number in ids(answer)] == sorted(emulator.fleet.backups, reverse=True)


@pytest.mark.parametrize(
    ("limit", "page_size"), [(1, None), (7, None), (20, None), (81, None), (100, None), (7, 10), (100, 10)]
)
async def test_paging_goes_through_all_backups_without_loss_or_repetition(
    agent_on: AgentOn, clock: ManualClock, limit: int, page_size: int | None
) -> None:
    emulator = Emulator(now=clock.now, page_size=page_size, max_page_size=page_size or 100)
    async with emulator, agent_on(emulator) as agent:
        answers = await pages(agent, limit=limit)
    assert [number for answer in answers for number in ids(answer)] == newest_first(emulator)
    assert {answer.data["total"] for answer in answers} == {81}
    assert [answer.data["returned"] for answer in answers] == [len(ids(answer)) for answer in answers]
    assert all(answer.data["complete"] and "missing" not in answer.data for answer in answers)
    full = [len(ids(answer)) for answer in answers[:-1]]
    assert all(count == limit or 25 <= count < limit for count in full)
    assert all(size(answer) < 8_000 for answer in answers)


async def test_a_backup_made_between_two_pages_neither_repeats_nor_hides_another(
    agent: Session, emulator: Emulator, add: Callable[..., int]
) -> None:
    before = newest_first(emulator)
    first = await agent.call("list_backups", limit=20)
    add(12345, hours=0)
    later = await pages(agent, cursor=first.data.get("next_cursor", ""), limit=20)
    assert ids(first) + [number for answer in later for number in ids(answer)] == before


async def test_paging_is_exact_at_every_time_that_can_be_told(agent: Session, emulator: Emulator) -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    years = itertools.cycle([2000, 2001, 2026, 2038, 9999])
    for number, backup in enumerate(emulator.fleet.backups.values()):
        backup.created_at = (start + timedelta(microseconds=number // 2)).replace(year=next(years))
    answers = await pages(agent, limit=1)
    assert [number for answer in answers for number in ids(answer)] == newest_first(emulator)


@pytest.mark.parametrize("cursor", ["next", "0-0-00000000", "1-1-2df06203x", "\u0661-1-2df06203", "-", " "])
async def test_a_cursor_that_no_page_gave_is_refused_before_anything_is_read(
    agent: Session, emulator: Emulator, cursor: str
) -> None:
    answer = await agent.call("list_backups", cursor=cursor)
    assert (answer.code, emulator.requests) == ("invalid_argument", [])
    assert "cursor" in answer.text


async def test_a_cursor_of_other_filters_is_refused(agent: Session, emulator: Emulator) -> None:
    first = await agent.call("list_backups", limit=3)
    answer = await agent.call("list_backups", limit=3, server_id=12345, cursor=first.data.get("next_cursor", ""))
    assert (answer.code, emulator.count("GET", "/backups/")) == ("invalid_argument", 1)


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"server_id": 12346}, {"server_id": 12346}),
    ({"server_id": 12360}, {"server_id": 12360}),
    ({"backup_type": "manual"}, {"backup_type": "manual"}),
    ({"backup_type": "automatic", "server_id": 12370}, {"backup_type": "automatic", "server_id": 12370}),
    ({"status": "completed"}, {"status": "completed"}),
    ({"status": "in_progress"}, {"status": "in_progress"}),
    ({"status": "other"}, {"status": "failed"}),
    ({"server_name": "web-server-01"}, {"server_id": 12345}),
    ({"server_name": "WEB-Server-01"}, {"server_id": 12345}),
    ({"server_name": "db"}, {"server_id": 12346}),
    ({"server_name": "staging-01"}, {"server_id": 12360}),
    ({"server_name": "staging", "status": "completed"}, {"server_id": 12360}),
    ({"server_name": "mail-server", "backup_type": "manual"}, {"server_id": 12351, "backup_type": "manual"}),
]


@pytest.mark.parametrize(("arguments", "wanted"), FILTERS, ids=str)
async def test_filters_leave_exactly_what_was_asked_for(
    agent: Session, emulator: Emulator, arguments: dict[str, Any], wanted: dict[str, Any]
) -> None:
    answers = await pages(agent, limit=100, **arguments)
    found = [number for answer in answers for number in ids(answer)]
    assert found == newest_first(emulator, **wanted)
    assert {(answer.data["total"], answer.data["complete"]) for answer in answers} == {(len(found), True)}


async def test_a_status_that_is_not_documented_is_other(agent: Session, emulator: Emulator) -> None:
    emulator.fleet.backups[501].status = "archived"
    answer = await agent.call("list_backups", status="other")
    assert set(ids(answer)) == {501, 455}
    assert "archived" in answer.text


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [({"server_id": 12345}, {"server_id": 12345}), ({"backup_type": "manual"}, {"backup_type": "manual"})],
)
async def test_nothing_is_missing_where_the_filter_is_not_honoured_and_every_row_comes(
    agent_on: AgentOn, clock: ManualClock, arguments: dict[str, Any], wanted: dict[str, Any]
) -> None:
    """F53: an unknown query filter is silently ignored by VPS.org, and the whole list comes."""
    async with Emulator(now=clock.now, honour_filters=False) as emulator, agent_on(emulator) as agent:
        answer = await agent.call("list_backups", limit=100, **arguments)
    assert ids(answer) == newest_first(emulator, **wanted)
    assert (answer.data["complete"], answer.data.get("missing", [])) == (True, [])


async def test_a_name_that_is_one_servers_whole_name_means_that_server_though_others_begin_so(
    agent: Session, emulator: Emulator
) -> None:
    emulator.fleet.servers[12346].name = "web-server-011"
    assert ids(await agent.call("list_backups", server_name="web-server-01", limit=100)) == newest_first(
        emulator, server_id=12345
    )


async def test_a_beginning_is_not_taken_for_a_server_because_it_alone_has_backups_of_that_type(
    agent: Session, emulator: Emulator
) -> None:
    emulator.fleet.servers[12351].name = "db-server-02"
    answer = await agent.call("list_backups", server_name="db", backup_type="manual")
    assert answer.code == "invalid_argument"
    assert "12346 (db-server-01), 12351 (db-server-02)" in answer.text


@pytest.mark.parametrize(("other", "asked"), [("web-server-02", "web-server"), ("web-server-01", "web-server-01")])
async def test_a_name_that_fits_several_servers_is_refused_with_their_ids(
    agent: Session, emulator: Emulator, other: str, asked: str
) -> None:
    emulator.fleet.servers[12346].name = other
    answer = await agent.call("list_backups", server_name=asked)
    assert answer.code == "invalid_argument"
    assert f"12345 (web-server-01), 12346 ({other})" in answer.text


async def test_of_many_servers_that_a_name_fits_twenty_are_named(agent_on: AgentOn, clock: ManualClock) -> None:
    async with Emulator(large_fleet(300, 300, clock.now()), now=clock.now) as emulator, agent_on(emulator) as agent:
        answer = await agent.call("list_backups", server_name="host")
    assert answer.code == "invalid_argument"
    assert " and 280 more. " in answer.text
    assert len(answer.text) < 500


@pytest.mark.parametrize("name", ["nowhere", "server", "01", "web_server_01"])
async def test_a_name_that_no_server_has_is_not_found(agent: Session, name: str) -> None:
    assert (await agent.call("list_backups", server_name=name)).code == "not_found"


@pytest.mark.parametrize("arguments", [{"server_id": 12360}, {"server_name": "staging-01"}], ids=str)
async def test_a_server_without_a_backup_is_told_apart_from_one_that_is_not_there(
    agent: Session, arguments: dict[str, Any]
) -> None:
    answer = await agent.call("list_backups", **arguments)
    assert (answer.data["total"], answer.data["complete"]) == (0, True)
    assert answer.data["server"] == {"id": 12360, "name": "staging-01"}
    assert answer.text.startswith("0 of 0 backups of server 12360 (staging-01), newest first")


@pytest.mark.parametrize("arguments", [{}, {"backup_type": "manual"}, {"status": "completed"}], ids=str)
async def test_a_server_that_is_not_there_is_not_found(agent: Session, arguments: dict[str, Any]) -> None:
    answer = await agent.call("list_backups", server_id=99999, **arguments)
    assert answer.code == "not_found"
    assert "VPS.org has no server 99999." in answer.text


SEEN_ALIKE = [
    pytest.param("Caf\u00e9-01", "Cafe\u0301-01", id="decomposed as macOS does"),
    pytest.param("Cafe\u0301-01", "CAF\u00c9-01", id="composed, in capitals"),
    pytest.param("shop \u2764", "shop \u2764\ufe0f", id="what keyboards add to emoji"),
    pytest.param("web\u200d\u200b-02", "web-02", id="invisible characters"),
    pytest.param("my web", "my\u00a0\u00a0web", id="no-break and double spaces"),
    pytest.param("\uff57\uff45\uff42", "web", id="wide letters"),
    pytest.param("Stra\u00dfe", "STRASSE", id="capitals of a letter that has none"),
    pytest.param("x" * 300, "x" * 199 + "\u2026", id="a name cut, as it is shown"),
]


@pytest.mark.parametrize(("name", "typed"), SEEN_ALIKE)
@pytest.mark.parametrize("server_id", [12351, 12360], ids=["with backups", "without"])
async def test_names_are_compared_as_people_see_them(
    agent: Session, emulator: Emulator, name: str, typed: str, server_id: int
) -> None:
    emulator.fleet.servers[server_id].name = name
    answers = await pages(agent, server_name=typed, limit=100)
    assert [number for answer in answers for number in ids(answer)] == newest_first(emulator, server_id=server_id)
    assert answers[0].data["server"]["id"] == server_id


@pytest.mark.parametrize("name", ["mail-server-01", "post-01", "mail-2024"])
async def test_a_renamed_server_is_found_by_each_name_that_it_bears(
    agent: Session, emulator: Emulator, name: str
) -> None:
    """Its backups keep the names that it had when they were made; the list of servers has the present one."""

    def rename(listing: dict[str, Any]) -> None:
        rows = [row for row in listing["results"] if row["server"]["id"] == 12351]
        rows[0]["server"]["name"], rows[1]["server"]["name"] = "post-01", "mail-2024"

    emulator.fail(Fault.edited(rename), path="^/backups/$", times=None)
    answer = await agent.call("list_backups", server_name=name, limit=100)
    assert ids(answer) == newest_first(emulator, server_id=12351)
    assert answer.data["server"] == {"id": 12351, "name": "mail-server-01"}


async def test_a_server_without_a_name_in_the_list_of_servers_is_called_as_its_backups_are(
    agent: Session, emulator: Emulator
) -> None:
    nameless = Fault.edited(lambda page: page | {"results": [row | {"name": None} for row in page["results"]]})
    emulator.fail(nameless, path="^/servers/$", times=None)
    answer = await agent.call("list_backups", server_id=12351)
    assert answer.data["server"] == {"id": 12351, "name": "mail-server-01"}


async def test_a_name_that_one_server_had_and_another_has_fits_both(agent: Session, emulator: Emulator) -> None:
    emulator.fleet.servers[12346].name = "mail-server-01"
    emulator.fleet.servers[12351].name = "mail-server-01-old"

    def as_it_was(listing: dict[str, Any]) -> None:
        for row in listing["results"]:
            if row["server"]["id"] == 12351:
                row["server"]["name"] = "mail-server-01"

    emulator.fail(Fault.edited(as_it_was), path="^/backups/$")
    answer = await agent.call("list_backups", server_name="mail-server-01")
    assert answer.code == "invalid_argument"
    assert "12346 (mail-server-01), 12351 (mail-server-01-old)" in answer.text


def spoil_mail(listing: dict[str, Any]) -> None:
    for row in listing["results"]:
        if (row.get("server") or row)["name"].startswith("mail"):
            row["id"] = "a-uuid"


GAPS = [
    pytest.param({"^/servers/$": Fault.edited(spoil_mail), "^/backups/$": Fault.edited(spoil_mail)}, id="odd rows"),
    pytest.param({"^/servers/$": Fault.status(403)}, id="the servers cannot be read"),
    pytest.param({"^/servers/$": Fault.status(500)}, id="the servers fail"),
    pytest.param({"^/servers/$": Fault.edited(lambda listing: listing.update(count=9))}, id="a server is missing"),
    pytest.param({"^/backups/$": Fault.edited(lambda listing: listing.update(count=99))}, id="a backup is missing"),
]


@pytest.mark.parametrize("faults", GAPS)
async def test_where_something_could_not_be_read_no_name_is_said_to_be_absent(
    agent: Session, emulator: Emulator, faults: dict[str, Fault]
) -> None:
    for path, fault in faults.items():
        emulator.fail(fault, path=path, times=None)
    answer = await agent.call("list_backups", server_name="mail-server-02")
    assert answer.is_error
    assert answer.code != "not_found"
    assert "Cannot tell whether a server has that name" in answer.text
    assert "could not be read" in answer.text or "counts" in answer.text


@pytest.mark.parametrize("arguments", [{"server_id": 12384}, {"server_name": "crm"}], ids=str)
async def test_a_server_whose_rows_cannot_be_read_is_not_said_to_have_none(
    agent: Session, emulator: Emulator, arguments: dict[str, Any]
) -> None:
    def spoil(listing: dict[str, Any]) -> None:
        for row in listing["results"]:
            if row["server"]["id"] == 12384:
                row["created_at"] = "yesterday"

    emulator.fail(Fault.edited(spoil), path="^/backups/$", times=None)
    answer = await agent.call("list_backups", **arguments)
    assert (ids(answer), answer.data["complete"]) == ([], False)
    assert "INCOMPLETE: " in answer.text


def flagged(answer: Answer) -> dict[int, list[str]]:
    return {row["id"]: row["flags"] for row in answer.data["backups"] if "flags" in row}


async def test_what_is_stuck_is_marked_whatever_the_word(agent: Session, add: Callable[..., int]) -> None:
    words = ("queued", "creating", "in_progress", "available", "error")
    young = {add(12360, hours=5.9, status=word, size_mb=None) for word in words}
    old = {add(12360, hours=6.1, status=word, size_mb=None) for word in words}
    add(12360, hours=9, status="failed")
    answer = await agent.call("list_backups", server_id=12360, limit=100)
    assert flagged(answer) == {number: ["stuck"] for number in old}
    assert young < set(ids(answer))


async def test_backups_of_a_server_that_is_gone_are_marked_as_orphaned(agent: Session, emulator: Emulator) -> None:
    def gone(listing: dict[str, Any]) -> None:
        listing["results"] = [row for row in listing["results"] if row["id"] != 12384]
        listing["count"] = len(listing["results"])

    emulator.fail(Fault.edited(gone), path="^/servers/$", times=None)
    answers = await pages(agent, limit=100)
    marked = {number for answer in answers for number, flags in flagged(answer).items() if "orphaned" in flags}
    assert marked == set(newest_first(emulator, server_id=12384))
    assert all(answer.data["complete"] for answer in answers)
    assert ids(await agent.call("list_backups", server_id=12384, limit=100)) == newest_first(emulator, server_id=12384)


async def test_a_server_that_vps_org_does_not_filter_by_is_told_by_what_is_left_of_it(
    agent: Session, emulator: Emulator
) -> None:
    """Once it is gone: it was told that there is no API at the address, whoever asked for what is left of it."""
    none = Fault.edited(lambda page: page | {"count": 0, "results": list[object]()})
    emulator.fail(none, method="GET", path="^/servers/$", times=None)
    refused = Fault.status(404, {"detail": "Not found."})
    emulator.fail(refused, method="GET", path="^/backups/$")
    answer = await agent.call("list_backups", server_id=12362)
    assert (answer.data["complete"], answer.data["total"]) == (True, 1)
    assert {"orphaned"} == {flag for flags in flagged(answer).values() for flag in flags}
    emulator.fail(refused, method="GET", path="^/backups/$")
    assert (await agent.call("list_backups", server_id=99999)).code == "not_found"


async def test_a_backup_of_no_server_is_marked_as_orphaned(agent: Session, emulator: Emulator) -> None:
    def unowned(listing: dict[str, Any]) -> None:
        listing["results"][0]["server"] = None

    number = next(iter(emulator.fleet.backups_of(12345))).id
    emulator.fail(Fault.edited(unowned), path="^/backups/$")
    answer = await agent.call("list_backups", limit=100)
    assert flagged(answer)[number] == ["orphaned"]
    assert answer.data["complete"]


async def test_a_row_of_no_server_in_a_servers_own_list_is_told_with_the_others(
    agent: Session, emulator: Emulator
) -> None:
    """It was left out, and the list was said to be complete. Where the filter is ignored, it is no server's."""
    numbers = newest_first(emulator, server_id=12345)
    emulator.fail(Fault.rows({"server": None}, backup_id=numbers[0]), path="^/backups/$", times=None)
    answer = await agent.call("list_backups", server_id=12345)
    assert (ids(answer), answer.data["complete"]) == (numbers, True)
    assert flagged(answer)[numbers[0]] == ["orphaned"]
    manual = {each.id: each.backup_type == "manual" for each in emulator.fleet.backups_of(12345)}
    answer = await agent.call("list_backups", server_id=12345, backup_type="manual")
    assert ids(answer) == [number for number in numbers if manual[number]]
    emulator.change(honour_filters=False)
    assert ids(await agent.call("list_backups", server_id=12345)) == numbers[1:]


@pytest.mark.parametrize("fault", [Fault.status(403), Fault.edited(lambda listing: listing.update(count=99))])
async def test_nothing_is_called_orphaned_where_the_servers_are_not_all_known(
    agent: Session, emulator: Emulator, fault: Fault
) -> None:
    emulator.fail(fault, path="^/servers/$", times=None)
    for answer in await pages(agent, limit=100):
        assert not any("orphaned" in flags for flags in flagged(answer).values())
        assert answer.data["complete"]


@pytest.mark.parametrize(
    ("fault", "flag"),
    [
        pytest.param(Fault.status(202, b""), "being_deleted", id="accepted, still listed"),
        pytest.param(Fault.status(500), "doubtful", id="it failed each time"),
        pytest.param(Fault.reset_after(apply=False), "doubtful", id="no answer"),
    ],
)
async def test_a_backup_whose_deletion_was_sent_is_marked(
    trusted: Session, emulator: Emulator, fault: Fault, flag: str
) -> None:
    emulator.fail(fault, method="DELETE", times=None)
    await trusted.call("delete_backup", backup_id=499, confirm=True)
    assert 499 in emulator.fleet.backups
    answer = await trusted.call("list_backups", server_id=12345, limit=100)
    assert flagged(answer) == {499: [flag]}
    assert answer.data["complete"]


async def test_a_ledger_that_cannot_be_read_is_told_and_the_list_all_the_same(
    agent_with: AgentWith, emulator: Emulator, state_dir: Path
) -> None:
    spoil_ledger(state_dir)
    async with agent_with() as agent:
        answer = await agent.call("list_backups", limit=100)
    assert answer.data["total"] == len(emulator.fleet.backups)
    assert "what was deleted here lately is not known" in answer.data.get("missing", [])[0]


async def test_a_name_without_a_visible_character_fits_no_server(agent: Session) -> None:
    answer = await agent.call("list_backups", server_name="\u200b\u202e")
    assert answer.code == "invalid_argument"
    assert "server_name holds no visible character. Nothing was changed. Give a name, or server_id" in answer.text


async def test_an_id_and_a_name_together_are_refused(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("list_backups", server_id=12345, server_name="web-server-01")
    assert (answer.code, emulator.requests) == ("invalid_argument", [])


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": -1},
        {"limit": "twenty"},
        {"limit": 20.5},
        {"server_id": -1},
        {"backup_type": "weekly"},
        {"status": "failed"},
        {"cursor": "0" * 101},
        {"server_name": "x" * 201},
    ],
    ids=str,
)
async def test_what_is_out_of_bounds_is_refused_by_name_and_nothing_is_read(
    agent: Session, emulator: Emulator, arguments: dict[str, Any]
) -> None:
    answer = await agent.call("list_backups", **arguments)
    assert (answer.code, emulator.requests) == ("invalid_argument", [])
    assert next(iter(arguments)) in answer.text


def spoil_row(content: Any) -> None:
    content["results"][3]["id"] = True


def drop_row(content: Any) -> None:
    del content["results"][3]


@pytest.mark.parametrize(
    ("spoil", "missing"),
    [(spoil_row, "1 row of server 12370 could not be read (id)"), (drop_row, "VPS.org counts 81 rows but sent 80")],
)
async def test_a_row_that_cannot_be_read_costs_that_row_and_the_completeness(
    agent: Session, emulator: Emulator, spoil: Callable[[Any], None], missing: str
) -> None:
    """F45, F47."""
    emulator.fail(Fault.edited(spoil), method="GET")
    answer = await agent.call("list_backups", limit=100)
    assert answer.data["total"] == 80
    assert (answer.data["complete"], answer.data.get("missing", [])) == (False, [missing])
    assert f"INCOMPLETE: {missing}." in answer.text


async def test_an_empty_list_is_an_answer(agent: Session, emulator: Emulator) -> None:
    emulator.fleet.backups.clear()
    answer = await agent.call("list_backups")
    assert (answer.data["total"], answer.data["backups"], answer.data.get("next_cursor", "")) == (0, [], "")
    assert answer.text.startswith("0 of 0 backups")


HOSTILE = [
    "a|b",
    "-",
    "'quoted'",
    '"quoted"',
    'it\'s | "both"',
    "back\\slash|",
    "type 'manual', status 'failed'",
    "defaults, where a cell is -: status 'completed'",
    "",
    "Ünïcode ✓",
]


def everything(_: Emulator) -> None:
    """The seeded fleet as it is."""


def hostile_descriptions(emulator: Emulator) -> None:
    for number, backup in enumerate(emulator.fleet.backups.values()):
        backup.description = HOSTILE[number % len(HOSTILE)]


def one_hostile_description(emulator: Emulator) -> None:
    for backup in emulator.fleet.backups.values():
        backup.description = HOSTILE[4]


def undescribed(emulator: Emulator) -> None:
    for backup in emulator.fleet.backups.values():
        backup.description = ""


@pytest.mark.parametrize("arrange", [everything, hostile_descriptions, one_hostile_description, undescribed])
async def test_the_text_and_the_structured_content_carry_the_same_facts(
    agent: Session, emulator: Emulator, arrange: Callable[[Emulator], None]
) -> None:
    arrange(emulator)
    for answer in await pages(agent, limit=20):
        page = answer.data
        shared, rows = read_table(answer.text)
        assert shared == page.get("defaults", {})
        assert rows == [full_row(row, page.get("defaults", {})) for row in page["backups"]]
        head = f"{page['returned']} of {page['total']} backups, newest first, as of {page['as_of']}."
        assert answer.text.splitlines()[0] == head
        columns = FLAGGED if any("flags" in row for row in page["backups"]) else COLUMNS
        assert columns in answer.text.splitlines()
        cursor = re.search("^next_cursor: (.+)$", answer.text, re.MULTILINE)
        assert (cursor[1] if cursor else "") == page.get("next_cursor", "")


async def test_rows_with_their_defaults_say_what_vps_org_said(agent: Session, emulator: Emulator) -> None:
    hostile_descriptions(emulator)
    for answer in await pages(agent, limit=20):
        for row in answer.data["backups"]:
            backup = emulator.fleet.backups[row["id"]]
            told = answer.data.get("defaults", {}) | row
            assert told["server_id"] == backup.server_id
            assert told["server"] == emulator.fleet.servers[backup.server_id].name
            assert (told["type"], told["status"]) == (backup.backup_type, backup.status)
            assert told.get("size_mb") == backup.size_mb
            assert told["created_at"] == backup.created_at.strftime("%Y-%m-%dT%H:%MZ")
            assert told.get("expires_at") == (backup.expires_at and backup.expires_at.strftime("%Y-%m-%dT%H:%MZ"))
            assert told.get("description", "") == backup.description


async def test_rows_are_flat_and_hold_no_nulls(agent: Session) -> None:
    for answer in await pages(agent):
        values = [value for row in answer.data["backups"] for name, value in row.items() if name != "flags"]
        assert all(isinstance(value, str | int | float) for value in values)
        assert all(set(row) <= set(FLAGGED.split("|")) for row in answer.data["backups"])


def compact(content: object) -> int:
    return len(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode())


async def test_a_page_costs_far_less_than_the_apis_own_json(agent: Session, emulator: Emulator) -> None:
    for answer in await pages(agent, limit=20):
        if len(ids(answer)) < 20:
            continue
        own = compact([backup_shape(emulator.fleet.backups[number], emulator.fleet) for number in ids(answer)])
        assert compact(answer.data) <= 0.75 * own, compact(answer.data) / own
        assert len(answer.text.encode()) <= 0.45 * own, len(answer.text.encode()) / own


async def test_the_default_page_is_whole_and_under_8000_characters(agent: Session) -> None:
    answer = await agent.call("list_backups")
    assert len(ids(answer)) == 20
    assert size(answer) < 8_000


WORDS = ["x" * 300, "| - '\"" * 100, "é|漢" * 100, "\\" * 300]


@pytest.mark.parametrize("words", WORDS, ids=["plain", "signs", "letters", "backslashes"])
async def test_a_page_of_long_texts_ends_sooner_and_loses_none(agent: Session, emulator: Emulator, words: str) -> None:
    for number, backup in enumerate(emulator.fleet.backups.values()):
        backup.description = f"{number}{words}"
    for number, server in enumerate(emulator.fleet.servers.values()):
        server.name = f"{number}{words}"
    answers = await pages(agent, limit=100)
    assert [number for answer in answers for number in ids(answer)] == newest_first(emulator)
    assert all(size(answer) < 8_000 for answer in answers)
    assert all(len(answer.text) <= compact(answer.data) for answer in answers)


async def test_listing_changes_nothing_and_needs_no_ledger(
    agent_with: AgentWith, emulator: Emulator, state_dir: Any
) -> None:
    async with agent_with() as agent:
        await pages(agent)
    assert {request.method for request in emulator.requests} == {"GET"}
    assert not state_dir.exists()


@pytest.mark.parametrize(
    "name", ["web\u2011server\u201101", "WEB\u2013SERVER\u201301", "web\u2212server-01", "web\u2010s"]
)
async def test_a_server_is_found_by_its_name_whatever_hyphens_are_typed(agent: Session, name: str) -> None:
    """Word processors and models set others than keyboards do."""
    answer = await agent.call("list_backups", server_name=name, limit=1)
    assert answer.data["server"]["id"] == 12345


async def test_a_server_without_a_name_is_told_by_its_id_alone(agent: Session, emulator: Emulator) -> None:
    emulator.fleet.servers[12360].name = ""
    answer = await agent.call("list_backups", server_id=12360)
    assert answer.text.startswith("0 of 0 backups of server 12360, newest first")
