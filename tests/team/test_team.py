"""Two replicas behind nginx, by the file of the example: what each protocol needs, and what a killed replica leaves."""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import httpx2
import pytest
from mcp import MCPError

from mcp_backups.sandbox import Fault
from tests.consent.test_matrix import accept
from tests.consent.wire import MODERN as WIRE_MODERN
from tests.consent.wire import Caller, Web
from tests.postgres.cluster import Database
from tests.process import PATIENCE
from tests.stage import until
from tests.team.proxy import NGINX
from tests.team.replicas import LEGACY, MODERN, Team, team
from tests.team.run import run

pytestmark = [
    pytest.mark.skipif(not NGINX, reason="nginx is not installed"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # by the SDK's client, where a replica is killed
    pytest.mark.anyio,
    pytest.mark.unmeasured,
]


@pytest.fixture(scope="module")
def served() -> Iterator[Team]:
    with team() as served:
        yield served


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The SDK's client warns of each session that it cannot end, and leaves streams open where an answer is cut off."""
    caplog.set_level(logging.ERROR, "mcp.client.streamable_http")
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


async def test_replicas_that_are_killed_lose_double_and_mix_up_nothing(database: Database) -> None:
    result = await run(calls=150, clients=15, ledger_url=database.url, kills=3)
    assert result.wrong == []
    assert result.kills >= 3
    assert len(result.day.writes) > 20
    assert result.made + result.gone > 20
    assert result.day.begun_anew > 0


@pytest.mark.parametrize("version", [MODERN, LEGACY])
async def test_a_replica_that_is_updated_fails_no_call_but_ends_its_sessions(served: Team, version: str) -> None:
    statuses: list[int] = []
    async with anyio.create_task_group() as tasks:

        async def update() -> None:
            for each in served.replicas:
                assert await anyio.to_thread.run_sync(each.end) == 0
                assert not each.unix.exists()
                each.start()
                await until(each.is_ready)
            tasks.cancel_scope.cancel()

        tasks.start_soon(update)
        while True:
            async with served.client("watch", version, statuses) as agent:
                with suppress(MCPError):
                    await agent.call("list_backups", server_id=1)
    assert statuses.count(200) > 5
    # A session is kept to its replica, so that the last of its calls may still reach one that is ending.
    assert set(statuses) <= ({200} if version == MODERN else {200, 202, 404, 503})


async def test_a_session_that_was_killed_is_not_found_and_begun_anew(served: Team) -> None:
    statuses: list[int] = []
    async with served.client("watch", LEGACY, statuses) as agent:
        assert not (await agent.call("list_backups", server_id=1)).is_error
        for each in served.replicas:
            each.kill()
            each.start()
            await until(each.is_ready)
        with pytest.raises(MCPError):
            await agent.call("list_backups", server_id=1)
    assert statuses[-1] == 404
    async with served.client("watch", LEGACY, statuses) as agent:
        assert not (await agent.call("list_backups", server_id=1)).is_error


async def test_what_was_sent_to_a_replica_is_never_sent_to_the_other(served: Team) -> None:
    emulator, statuses = served.emulator, list[int]()
    made = len(served.fleet.made)
    emulator.fail(Fault(pause=1.0), method="POST")
    wish: dict[str, Any] = {"server_id": 7, "description": "sent once"}
    async with anyio.create_task_group() as tasks, served.client("ci", MODERN, statuses) as agent:
        before = emulator.count("POST")

        async def kill_in_the_middle() -> None:
            await until(lambda: emulator.count("POST") > before)
            for each in served.replicas:  # one of them has it
                each.kill()
                each.start()

        tasks.start_soon(kill_in_the_middle)
        with pytest.raises(MCPError):
            await agent.call("create_backup", **wish)
    assert 502 in statuses or statuses[-1] == 200  # where the head of the answer had gone out, it ends in the middle
    await until(lambda: len(served.fleet.made) > made)
    for each in served.replicas:
        await until(each.is_ready)
    async with served.client("ci", MODERN, statuses) as agent:
        again = await agent.call("create_backup", **wish)
    assert (again.data["status"], again.replayed) in {("succeeded", True), ("accepted", True)}
    assert emulator.count("POST") == before + 1
    assert [each.arguments for each in served.recorded()].count(wish) == 1


def test_any_replica_takes_the_answer_to_a_question_from_who_was_asked_only(served: Team) -> None:
    with (
        httpx2.Client(verify=served.proxy.trusted, timeout=PATIENCE) as her,
        httpx2.Client(verify=served.proxy.trusted, timeout=PATIENCE) as him,
    ):
        callers = {}
        for name, http in (("ada", her), ("bob", him)):
            http.headers["Authorization"] = f"Bearer {served.tokens[name]}"
            callers[name] = Caller(Web(f"{served.proxy.url}/mcp", http), WIRE_MODERN, {"elicitation": {}})
        wanted = {"backup_id": 100, "confirm": True}
        question = callers["ada"].round("delete_backup", wanted)
        answer = callers["ada"].answered(question, accept)
        for _ in range(4):  # each goes to a replica by chance
            taken = callers["bob"].round("delete_backup", wanted, **answer)
            assert 100 in served.fleet.backups
            assert taken.get("result", {}).get("structuredContent", {}).get("status") != "succeeded"
        answers = [callers["ada"].round("delete_backup", wanted, **answer) for _ in range(4)]
    assert {each["result"]["structuredContent"]["status"] for each in answers} == {"succeeded"}
    assert served.fleet.gone.count(100) == 1


async def test_ids_of_requests_metrics_and_streams_pass_the_proxy(served: Team) -> None:
    token = {"Authorization": f"Bearer {served.tokens['watch']}"}
    async with httpx2.AsyncClient(verify=served.proxy.trusted, headers=token, timeout=PATIENCE) as http:
        assert (await http.get(f"{served.proxy.url}/readyz")).headers["x-request-id"]
        for number in (1, 2):
            told = await http.get(f"{served.proxy.url}/replica-{number}/metrics")
            assert "mcp_backups_tool_calls" in told.text
        assert (await http.get(f"{served.proxy.url}/replica-3/metrics")).status_code == 404
    async with served.client("ci", LEGACY, []) as agent:
        answer = await agent.call("create_backup", server_id=9, wait_seconds=5)
    assert answer.data["status"] == "succeeded"
    assert answer.progress
