"""An account of 10,000 backups is answered whole; one whose list is too large to be read is asked server by server."""

from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.seed import large_fleet
from tests.stage import ManualClock, Session

from .conftest import AgentOn

pytestmark = pytest.mark.anyio


@pytest.mark.unmeasured
@pytest.mark.parametrize("era", ["auto"])
async def test_the_first_page_and_the_totals_of_10_000_backups(clock: ManualClock, agent_on: AgentOn) -> None:
    fleet = large_fleet(servers=200, backups=10_000, now=clock.now())
    async with Emulator(fleet, now=clock.now, page_size=100) as emulator, agent_on(emulator) as agent:
        await agent.call("list_backups", server_id=1)
        page = await agent.call("list_backups")
        report = await agent.call("check_backups")
    assert (page.data["total"], page.data["returned"], page.data["complete"]) == (10_000, 20, True)
    assert [row["id"] for row in page.data["backups"]] == list(range(1, 21))
    assert (report.data["complete"], report.data["verdict"]) == (True, "ok")
    assert report.data["totals"]["backups"] == 10_000


def beyond_what_is_read(content: dict[str, Any]) -> None:
    """A list of backups of several servers gets larger than 5 MiB."""
    if len({row["server"]["id"] for row in content.get("results", ()) if "server" in row}) > 1:
        content["padding"] = "x" * (6 * 2**20)


def with_a_server_that_cannot_be_read(content: dict[str, Any]) -> None:
    for row in content.get("results", ()):
        if row.get("server", {}).get("id") == 12346:
            row["id"] = "?"
    beyond_what_is_read(content)


@pytest.fixture
def vast(emulator: Emulator) -> Emulator:
    emulator.fail(Fault.edited(beyond_what_is_read), method="GET", path="^/backups/$", times=None)
    return emulator


async def test_where_the_list_of_all_is_too_large_a_backup_is_deleted_by_its_servers_own(
    vast: Emulator, trusted: Session
) -> None:
    answer = await trusted.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.status, 499 in vast.fleet.backups) == ("succeeded", False)
    assert "server_id=" in vast.requests[-1].target


async def test_where_no_servers_own_list_has_it_there_is_no_such_backup(vast: Emulator, trusted: Session) -> None:
    answer = await trusted.call("delete_backup", backup_id=77, confirm=True)
    assert (answer.code, vast.count("DELETE")) == ("not_found", 0)
    assert "VPS.org has no backup 77." in answer.text


async def test_where_one_servers_list_cannot_be_read_either_a_backup_may_exist(
    emulator: Emulator, trusted: Session
) -> None:
    emulator.fail(Fault.edited(with_a_server_that_cannot_be_read), method="GET", path="^/backups/$", times=None)
    answer = await trusted.call("delete_backup", backup_id=77, confirm=True)
    assert (answer.code, emulator.count("DELETE")) == ("upstream_protocol", 0)
    assert "so it may exist" in answer.text


async def test_a_backup_of_another_server_is_not_looked_for_in_a_list_that_is_not_read(
    vast: Emulator, trusted: Session
) -> None:
    answer = await trusted.call("restore_server", server_id=12360, backup_id=499)
    assert (answer.code, vast.fleet.restores) == ("not_found", [])
    assert "Server 12360 has no backup 499." in answer.text


async def test_of_a_list_with_gaps_the_target_is_judged_by_its_servers_own(
    emulator: Emulator, trusted: Session
) -> None:
    """The row that cannot be read may be of any server, as long as only the list of all has it."""
    mystery = {"server": {"id": "?"}, "id": "x"}
    emulator.fail(Fault.rows(mystery, backup_id=501), method="GET", path="^/backups/$")
    answer = await trusted.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.status, 499 in emulator.fleet.backups) == ("succeeded", False)
