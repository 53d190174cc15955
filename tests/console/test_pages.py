"""What the pages show of the fleet, of operations and of the log."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import get_args

import httpx2
import pytest

from mcp_backups.console import records
from mcp_backups.console.timeline import Kind, rows, ticks
from mcp_backups.health import fleet_health
from mcp_backups.models import Backup, Listing, Server
from mcp_backups.sandbox import SANDBOX_TOKEN, Fault
from mcp_backups.sandbox.seed import large_fleet
from mcp_backups.tools.observation import AccountObservation
from tests.console.stage import HOSTILE, Desk, client, send, stay
from tests.stage import NOW, recorded

DAY = timedelta(days=1)


def backup(number: int, age: timedelta, **changes: object) -> Backup:
    fields: dict[str, object] = {
        "id": number,
        "server_id": 1,
        "server_name": "web",
        "type": "automatic",
        "status": "completed",
        "size_mb": 100,
        "created_at": NOW - age,
        "expires_at": None,
        "description": "",
    }
    return Backup(**(fields | changes))  # type: ignore[arg-type]


MARKS = [
    (backup(1, DAY), "good", "good"),
    (backup(2, DAY, status="in_progress", created_at=NOW), "in_progress", "still in progress"),
    (backup(3, DAY, status="copying", created_at=NOW), "in_progress", "not known to be completed"),
    (backup(4, DAY, status="in_progress"), "stuck", "stuck"),
    (backup(5, DAY, status="failed"), "failed", "failed"),
    (backup(6, DAY), "doubtful", "doubtful, since its deletion was asked for"),
    (backup(7, DAY), "doubtful", "being deleted"),
    (backup(8, DAY, expires_at=NOW + timedelta(hours=23)), "expiring", "expiring within 24 h"),
    (backup(9, DAY, expires_at=NOW), "expiring", "expired"),
    (backup(10, DAY, size_mb=0), "unusable", "empty"),
    (backup(11, DAY, size_mb=None), "unusable", "of unknown size"),
    (backup(12, -DAY), "unusable", "dated in the future"),
]


def observed(*backups: Backup) -> AccountObservation:
    servers = Listing((Server(1, "web", "active"),))
    return AccountObservation(Listing(backups), servers, {6: "doubtful", 7: "being_deleted"}, NOW)


def test_every_kind_of_backup_has_a_mark_and_a_word() -> None:
    seen = observed(*(each for each, _, _ in MARKS))
    (row,) = rows(fleet_health(seen.backups, seen.servers, DAY, NOW, doubts=seen.doubts), seen)
    told = {mark.backup.id: (mark.kind, mark.word) for mark in row.marks}
    assert told == {each.id: (kind, word) for each, kind, word in MARKS}
    assert {kind for kind, _ in told.values()} == set(get_args(Kind))
    assert row.drawn[0].kind == "good"
    assert row.told == (
        "12 backups within 31 days: 1 good, 2 in progress, 1 stuck, 1 failed, 2 doubtful, 2 expiring, 3 unusable"
    )


@pytest.mark.parametrize(
    ("age", "at"),
    [
        (timedelta(0), 100.0),
        (timedelta(days=15.5), 50.0),
        (timedelta(days=31), 0.0),
        (timedelta(days=62), -100.0),
        (timedelta(days=-3), 100.0),
    ],
)
def test_a_mark_stands_where_its_time_is(age: timedelta, at: float) -> None:
    seen = observed(backup(1, age))
    (row,) = rows(fleet_health(seen.backups, seen.servers, DAY, NOW), seen)
    assert row.marks[0].at == at
    assert [mark.at for mark in row.drawn] == ([at] if at >= 0 else [])


def test_the_days_are_those_of_utc_and_mondays_bear_their_date() -> None:
    days = list(ticks(datetime(2026, 11, 23, 12, tzinfo=UTC)))
    assert len(days) == 31
    assert [day.label for day in days if day.label] == ["26 Oct", "2 Nov", "9 Nov", "16 Nov", "23 Nov"]
    assert days[-1].at == round(100 - 50 / 31, 2)


@pytest.mark.anyio
async def test_the_fleet_stands_the_worst_first_with_every_backup(stage: Desk, browser: httpx2.AsyncClient) -> None:
    page = (await browser.get("/fleet")).text
    assert re.search(r"Of 8 servers \d have a good backup younger than 24 h, \d have not", page)
    names = re.findall(r'<h2><span class="foreign">([\w-]+)', page)
    assert names[0] == "staging-01"
    assert sorted(names) == sorted(server.name for server in stage.emulator.fleet.servers.values())
    assert 'aria-label="10 backups within 31 days: 9 good, 1 failed"' in page
    assert page.count('<th scope="row">') == len(stage.emulator.fleet.backups)
    assert [each for each in stage.emulator.requests if each.method != "GET"] == []


@pytest.mark.anyio
async def test_a_large_fleet_is_shown_by_pages(stage: Desk, browser: httpx2.AsyncClient) -> None:
    stage.emulator.fleet = large_fleet(120, 300, NOW)
    shown: list[str] = []
    for path in ("/fleet", "/fleet?from=50", "/fleet?from=100"):
        page = (await browser.get(path)).text
        shown += re.findall(r'<h2><span class="foreign">([\w-]+)', page)
    assert len(shown) == len(set(shown)) == 120
    assert "101 to 120 of 120, the worst first" in page
    for odd in ("-1", "x", "9" * 30, "٣", "500"):
        assert (await browser.get("/fleet", params={"from": odd})).status_code == 200


@pytest.mark.anyio
async def test_what_cannot_be_read_is_said(stage: Desk, browser: httpx2.AsyncClient) -> None:
    stage.emulator.fail(Fault.status(503), times=None)
    answer = await browser.get("/fleet")
    assert answer.status_code == 502
    assert "That did not work" in answer.text


@pytest.mark.anyio
async def test_names_and_descriptions_of_others_stand_as_text(stage: Desk, browser: httpx2.AsyncClient) -> None:
    fleet = stage.emulator.fleet
    fleet.servers[12345].name = fleet.backups[499].description = HOSTILE
    operation_id = await stage.ask("delete_backup", backup_id=499)
    await send(browser, operation_id, "decline", reason=HOSTILE)
    waiting = await stage.ask("delete_backup", backup_id=499)
    paths = ("/", "/fleet", "/operations", f"/operations/{operation_id}", f"/operations/{waiting}", "/log")
    for path in (*paths, f"/operations?server={HOSTILE}"):
        page = (await browser.get(path)).text
        assert "&lt;script&gt;" in page, path
        assert not re.search(r"<script|<img|javascript:|href=\"https?:|\u202e", page), path
        assert "{{ 7*7 }}" in page, path
        assert SANDBOX_TOKEN not in page


@pytest.mark.anyio
async def test_operations_are_filtered_by_server_status_and_time(stage: Desk, browser: httpx2.AsyncClient) -> None:
    await stage.agent.call("create_backup", server_id=12362)
    stay(stage)
    stage.clock.advance(days=2)
    waiting = await stage.ask("delete_backup", backup_id=499)
    planned = (await stage.agent.call("delete_backup", backup_id=495)).operation
    stage.clock.advance(minutes=11)
    (made,) = (each.id for each in recorded(stage.context.settings.state_dir) if each.action == "create_backup")
    for query, expected in {
        "": [planned, waiting, made],
        "server=12362": [made],
        "server=web": [planned, waiting],
        "server=RUNNER": [made],
        "server=12": [],
        "status=waiting": [waiting],
        "status=expired": [planned],
        "status=planned": [],
        "status=nonsense": [planned, waiting, made],
        "since=2026-11-24": [planned, waiting],
        "until=2026-11-23": [made],
        "since=2026-11-24&until=2026-11-24": [],
        "since=soon": [planned, waiting, made],
        "since=0001-01-01&until=9999-12-31": [planned, waiting, made],
        "since=9999-12-31": [],
        "until=0001-01-01": [],
        f"before={planned}": [waiting, made],
        "before=op_nothing": [planned, waiting, made],
        "server=web&status=waiting&since=2026-11-25&until=2026-11-25": [waiting],
    }.items():
        page = (await browser.get(f"/operations?{query}")).text
        assert re.findall(r'<li>\s*<a href="/operations/(\w+)"', page) == expected, query


@pytest.mark.anyio
async def test_many_operations_are_shown_by_pages(stage: Desk, browser: httpx2.AsyncClient) -> None:
    first = await stage.agent.call("create_backup", server_id=12362)
    (one,) = recorded(stage.context.settings.state_dir)
    ids = [f"op_{number:a>16}".translate(str.maketrans("0189", "wxyz")) for number in range(270)]
    await stage.context.ledger.write(
        lambda entries: [entries.save(one.model_copy(update={"id": each})) for each in ids]
    )
    shown, path = list[str](), "/operations?status=" + one.status
    while path:
        page = (await browser.get(path)).text
        shown += re.findall(r'<li>\s*<a href="/operations/(\w+)"', page)
        more = re.search(r'href="(/operations\?[^"]+)">Older', page)
        path = more[1].replace("&amp;", "&") if more else ""
    assert shown == [*reversed(ids), first.operation]


@pytest.mark.anyio
async def test_one_operation_is_shown_with_its_events(stage: Desk, browser: httpx2.AsyncClient) -> None:
    operation_id = await stage.ask("prune_backups", server_id=12346, keep_last=1)
    await send(browser, operation_id, "approve", typed="1")
    await stage.agent.call("prune_backups", server_id=12346, keep_last=1, confirm=True, operation_id=operation_id)
    page = (await browser.get(f"/operations/{operation_id}")).text
    statuses = re.findall(r'<span class="pill \w+">.*?</svg>(\w+)</span>\s*<span class="when">', page)
    assert statuses[:2] == ["waiting", "approved"]
    assert statuses[-1] == "succeeded"
    assert "decided by ada (console) at 2026-11-23T09:30Z" in page
    assert "<form" not in page
    plan = (await stage.agent.call("delete_backup", backup_id=499)).operation
    page = (await browser.get(f"/operations/{plan}")).text
    assert "a plan, which is no event yet" in page
    assert re.findall(r'</svg>(\w+)</span>\s*<span class="when">', page) == ["planned"]
    for missing in ("op_aaaaaaaaaaaaaaaa", "op_x"):
        assert (await browser.get(f"/operations/{missing}")).status_code == 404


@pytest.mark.anyio
async def test_the_log_is_shown_newest_first_and_verified(stage: Desk, browser: httpx2.AsyncClient) -> None:
    assert "Nothing has been recorded yet." in (await browser.get("/log")).text
    await stage.ask("delete_backup", backup_id=499)
    (one,) = recorded(stage.context.settings.state_dir)
    await stage.context.ledger.write(lambda entries: [entries.save(one) for _ in range(103)])
    newest = (await browser.get("/log")).text
    assert "<strong>The chain is intact.</strong> 104 events checked" in newest
    older = (await browser.get("/log?before=5")).text
    shown = [int(each) for page in (newest, older) for each in re.findall(r"event </span>(\d+)", page)]
    assert shown == list(range(104, 0, -1))
    assert 'href="/log?before=5"' in newest
    assert "Not readable" not in newest + older
    assert (newest + older).count("server 12345, backup 499") == 104
    assert "Older events" not in older


@pytest.mark.anyio
async def test_a_long_chain_is_checked_when_that_is_asked_for(
    stage: Desk, browser: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_CHECKED_AT_ONCE", 0)
    await stage.ask("delete_backup", backup_id=499)
    page = (await browser.get("/log")).text
    assert "<strong>The chain was not checked</strong>" in page
    assert 'href="/log?verify=yes"' in page
    assert "<strong>The chain is intact.</strong> 1 event checked" in (await browser.get("/log?verify=yes")).text


@pytest.mark.anyio
async def test_a_broken_chain_is_told_and_the_rest_still_shown(stage: Desk, browser: httpx2.AsyncClient) -> None:
    await stage.ask("delete_backup", backup_id=499)
    with sqlite3.connect(stage.context.settings.state_dir / "ledger.sqlite3") as connection:
        connection.execute("UPDATE events SET packed = x'00' WHERE seq = 1")
    connection.close()
    page = (await browser.get("/log")).text
    assert "<strong>The chain is broken:</strong> event 1 was changed or taken out." in page
    assert "Not readable" in page


@pytest.mark.anyio
async def test_before_anything_is_recorded_every_page_stands_and_no_ledger_is_made(
    stage: Desk, browser: httpx2.AsyncClient
) -> None:
    for path in ("/", "/fleet", "/operations", "/log"):
        assert (await browser.get(path)).status_code == 200
    assert (await browser.get("/operations/op_aaaaaaaaaaaaaaaa")).status_code == 404
    assert not stage.context.ledger.exists()


@pytest.mark.anyio
async def test_what_every_page_needs_is_served_to_anybody(stage: Desk) -> None:
    async with client(stage) as stranger:
        style, icon = await stranger.get("/console.css"), await stranger.get("/icon.svg")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert "url(" not in style.text
