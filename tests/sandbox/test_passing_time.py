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
