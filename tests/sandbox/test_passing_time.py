import pytest

from mcp_backups.sandbox import Emulator

from .stage import Clock, client

pytestmark = pytest.mark.anyio


async def test_a_backup_completes_when_its_time_is_over(clock: Clock) -> None:
    async with Emulator(now=clock, backup_seconds=8) as emulator, client(emulator) as http:
        created = (await http.post("/backups/", json={"server_id": 12345})).json()
        clock.advance(7.9)
        before = (await http.get("/backups/")).json()["results"][0]
        clock.advance(0.1)
        after = (await http.get("/backups/")).json()["results"][0]
    assert created["id"] == before["id"] == after["id"] == 502
    assert (before["status"], before["size_mb"]) == ("in_progress", None)
    assert (after["status"], after["size_mb"]) == ("completed", 4534)
    assert after["expires_at"] is None


@pytest.mark.parametrize(
    ("statuses", "size"),
    [
        (("queued", "completed"), 4534),
        (("creating", "COMPLETED"), 4534),
        (("available", "completed"), 4534),
        (("completed", "archived"), 4534),
        (("in_progress", "error"), None),
        (("in_progress", "failed"), None),
    ],
)
async def test_a_backup_goes_through_any_words_and_what_failed_has_no_size(
    statuses: tuple[str, str], size: int | None, clock: Clock
) -> None:
    async with Emulator(now=clock, backup_seconds=8, statuses=statuses) as emulator, client(emulator) as http:
        created = (await http.post("/backups/", json={"server_id": 12345})).json()
        clock.advance(8)
        after = (await http.get("/backups/")).json()["results"][0]
    assert (created["status"], created["size_mb"]) == (statuses[0], None)
    assert (after["status"], after["size_mb"]) == (statuses[1], size)


async def test_the_size_of_a_backup_may_be_told_later_than_that_it_is_finished(clock: Clock) -> None:
    seen = []
    async with Emulator(now=clock, backup_seconds=8, size_seconds=25) as emulator, client(emulator) as http:
        await http.post("/backups/", json={"server_id": 12345})
        for seconds in (8, 24.9, 0.1):
            clock.advance(seconds)
            row = (await http.get("/backups/")).json()["results"][0]
            seen.append((row["status"], row["size_mb"]))
    assert seen == [("completed", None), ("completed", None), ("completed", 4534)]


async def test_lists_that_lag_show_what_was_there_so_long_ago(clock: Clock) -> None:
    seen = []
    async with Emulator(now=clock, backup_seconds=8, lag_seconds=30) as emulator, client(emulator) as http:
        await http.post("/backups/", json={"server_id": 12360})
        clock.advance(5)
        await http.delete("/backups/501/")
        for seconds in (24, 2, 5, 2):
            clock.advance(seconds)
            statuses = {row["id"]: row["status"] for row in (await http.get("/backups/")).json()["results"]}
            seen.append((statuses.get(502), statuses.get(501)))
    assert seen == [(None, "completed"), ("in_progress", "completed"), ("in_progress", None), ("completed", None)]


async def test_what_a_test_deletes_itself_no_list_shows_any_more(clock: Clock) -> None:
    async with Emulator(now=clock, lag_seconds=30) as emulator, client(emulator) as http:
        emulator.fleet.delete_backup(501)
        assert 501 not in {row["id"] for row in (await http.get("/backups/")).json()["results"]}


async def test_its_behaviour_can_be_changed_while_it_serves(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        emulator.change(honour_filters=False, statuses=("queued", "available"))
        created = (await http.post("/backups/", json={"server_id": 12345})).json()
        answer = (await http.get("/backups/", params={"server_id": 12360})).json()
    assert (created["status"], answer["count"]) == ("queued", 82)


async def test_the_first_backup_of_a_server_has_a_size_too(clock: Clock) -> None:
    async with Emulator(now=clock, backup_seconds=0) as emulator, client(emulator) as http:
        await http.post("/backups/", json={"server_id": 12360})
        rows = (await http.get("/backups/", params={"server_id": 12360})).json()["results"]
    assert [(row["status"], row["size_mb"]) for row in rows] == [("completed", 8000)]


async def test_a_server_says_restoring_until_the_restore_is_over(clock: Clock) -> None:
    statuses = []
    async with Emulator(now=clock, restore_seconds=20) as emulator, client(emulator) as http:
        await http.post("/servers/12345/restore/", json={"backup_id": 499})
        for seconds in (0, 19, 1):
            clock.advance(seconds)
            statuses.append((await http.get("/servers/12345/")).json()["status"])
    assert statuses == ["restoring", "restoring", "active"]
    assert emulator.fleet.servers[12345].disk == 499


async def test_everything_but_the_stuck_backup_can_be_finished_at_once(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        await http.post("/backups/", json={"server_id": 12345})
        await http.post("/servers/12345/restore/", json={"backup_id": 499})
        emulator.finish_all()
    unfinished = [backup for backup in emulator.fleet.backups.values() if backup.status == "in_progress"]
    assert [backup.server_id for backup in unfinished] == [12371]
    assert emulator.fleet.servers[12345].status == "active"


async def test_the_fleet_is_brought_up_to_date_on_demand(clock: Clock) -> None:
    async with Emulator(now=clock) as emulator, client(emulator) as http:
        await http.post("/backups/", json={"server_id": 12345})
        clock.advance(3600)
        assert emulator.fleet.backups[502].status == "in_progress"
        emulator.settle()
        assert emulator.fleet.backups[502].status == "completed"
