"""An account of 10,000 backups in 100 pages: answered whole."""

import pytest

from mcp_backups.sandbox import Emulator
from mcp_backups.sandbox.seed import large_fleet
from tests.stage import ManualClock

from .conftest import AgentOn

pytestmark = pytest.mark.anyio


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
