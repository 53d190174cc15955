"""Several servers on one database, which goes away, comes back, and does not always answer."""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from mcp_backups.errors import BackupsError, UnconfirmedError
from mcp_backups.operations import Operation
from mcp_backups.sandbox import Emulator, Fault
from tests.faults.stage import SOURCE, TARGET, WEB
from tests.operations.made import begun
from tests.postgres.cluster import SERVER, Cluster, Database
from tests.postgres.conftest import OpenLedger
from tests.postgres.relay import relay_before
from tests.stage import PATIENCE, MakeSettings, ManualClock, Session, recorded, session, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("store", ["postgres"], indirect=True)]

Plan = dict[str, Any]


@pytest.fixture
async def agents(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, store: str) -> Any:
    """Two servers on one ledger, each with a client."""
    assert store == "postgres"
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(session(emulator, make_settings(), clock)) for _ in range(2)]


async def planned(agent: Session, backup_id: int) -> Plan:
    answer = await agent.call("delete_backup", backup_id=backup_id)
    assert answer.status == "needs_confirmation", answer.text
    return {"backup_id": backup_id, "confirm": True, "operation_id": answer.operation}


def statuses(state_dir: Path) -> list[str]:
    return [each.status for each in recorded(state_dir)]


def once(emulator: Emulator, event: Callable[[], object], *, method: str = "DELETE") -> Fault:
    """Have something happen at the first look after a write arrived."""
    left = [event]

    def happen(_content: Any) -> None:
        if left and emulator.count(method):
            left.pop()()

    return Fault.edited(happen)


# Two at once


@pytest.mark.parametrize("attempt", range(3))
async def test_of_the_last_two_good_backups_exactly_one_goes(
    agents: list[Session], emulator: Emulator, attempt: int
) -> None:
    """Each of the two servers deletes one, and each alone would be allowed to."""
    kept = sorted(each.id for each in emulator.fleet.backups.values() if each.server_id == WEB)[-2 - attempt :][:2]
    for each in list(emulator.fleet.backups.values()):
        if each.server_id == WEB and each.id not in kept:
            del emulator.fleet.backups[each.id]
    plans = [await planned(agent, backup) for agent, backup in zip(agents, kept, strict=True)]
    answers = []

    async def confirm(agent: Session, plan: Plan) -> None:
        answers.append(await agent.call("delete_backup", **plan))

    async with anyio.create_task_group() as group:
        for agent, plan in zip(agents, plans, strict=True):
            group.start_soon(confirm, agent, plan)
    assert emulator.count("DELETE") == 1
    assert sorted(each.is_error for each in answers) == [False, True], [each.text for each in answers]
    assert len([each for each in emulator.fleet.backups.values() if each.server_id == WEB]) == 1


class Unhurried(ManualClock):
    """Whoever waits for another process gives it some time."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await anyio.sleep(0.02)


async def test_the_same_plan_confirmed_at_both_is_carried_out_once(
    emulator: Emulator, make_settings: MakeSettings
) -> None:
    clock, answers = Unhurried(), []

    async with (
        session(emulator, make_settings(), clock) as one,
        session(emulator, make_settings(), clock) as other,
    ):
        plan = await planned(one, TARGET)

        async def confirm(agent: Session) -> None:
            answers.append(await agent.call("delete_backup", **plan))

        async with anyio.create_task_group() as group:
            for agent in (one, other) * 3:
                group.start_soon(confirm, agent)
    assert emulator.count("DELETE") == 1
    assert not any(each.is_error for each in answers), [each.text for each in answers]
    assert {each.status for each in answers} == {"succeeded"}
    assert sorted(each.replayed for each in answers) == [False] + [True] * 5


async def test_budgets_are_of_all_servers_together(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    settings = make_settings(deletes_per_hour=1)
    async with session(emulator, settings, clock) as one, session(emulator, settings, clock) as other:
        done = await one.call("delete_backup", **await planned(one, TARGET))
        assert done.status == "succeeded"
        assert (await other.call("delete_backup", backup_id=SOURCE)).code == "budget_exhausted"


# The database is away


async def test_while_the_database_is_away_backups_are_read_and_nothing_is_changed_and_then_it_goes_on(
    agents: list[Session], emulator: Emulator, cluster: Cluster, state_dir: Path
) -> None:
    agent, plan = agents[0], await planned(agents[0], TARGET)
    cluster.execute("CHECKPOINT")  # a plan waits for no disk
    cluster.stop()
    try:
        listed = await agent.call("list_backups", server_id=WEB)
        assert not listed.is_error
        assert "what was deleted here lately is not known" in listed.text
        for tool, arguments in (("delete_backup", plan), ("create_backup", {"server_id": WEB})):
            refused = await agent.call(tool, **arguments)
            assert refused.code == "ledger_unavailable"
            assert "Nothing was changed." in refused.text
            assert SERVER not in refused.text
    finally:
        cluster.start()
    assert emulator.count("POST") + emulator.count("DELETE") == 0
    listed = await agent.call("list_backups", server_id=WEB)
    assert "not known" not in listed.text
    assert (await agent.call("delete_backup", **plan)).status == "succeeded"
    assert statuses(state_dir) == ["succeeded"]


async def test_an_outcome_that_could_not_be_recorded_is_recorded_when_the_database_is_back(
    agents: list[Session], emulator: Emulator, cluster: Cluster, state_dir: Path
) -> None:
    agent, other = agents
    plan = await planned(agent, TARGET)
    emulator.fail(once(emulator, cluster.stop), method="GET", times=None)
    try:
        told = await agent.call("delete_backup", **plan)
    finally:
        cluster.start()
    assert told.code == "ledger_unavailable"
    assert "The change was made." in told.text
    assert (await agent.call("get_operation", operation_id=plan["operation_id"])).status == "succeeded"
    with anyio.fail_after(PATIENCE):
        while statuses(state_dir) != ["succeeded"]:  # noqa: ASYNC110 - in the background
            await anyio.sleep(0.05)
    assert (await other.call("delete_backup", **plan)).replayed
    assert emulator.count("DELETE") == 1


async def test_an_intent_that_was_not_confirmed_is_not_sent_and_is_withdrawn(
    agents: list[Session],
    emulator: Emulator,
    clock: ManualClock,
    make_settings: MakeSettings,
    database: Database,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcp_backups.ledger.postgres.LOCK_WAIT_SECONDS", 0.2)
    with relay_before(database) as (relay, url):
        settings = make_settings(ledger_url=url)
        async with session(emulator, settings, clock) as agent:
            plan = await planned(agent, TARGET)

            relay.closes, relay.lose = True, "answer"
            told = await agent.call("delete_backup", **plan)
            assert told.code == "ledger_unavailable"
            assert "Nothing was changed." in told.text
            assert emulator.count("DELETE") == 0
            assert statuses(state_dir) == ["sending"], "so the database has it"
            at_other = await agents[1].call("delete_backup", backup_id=SOURCE)
            assert at_other.code == "busy", "its process lives"
            relay.is_open = True
            with anyio.fail_after(PATIENCE):
                while statuses(state_dir) != ["failed"]:  # noqa: ASYNC110 - in the background
                    await anyio.sleep(0.05)
    again = await agents[1].call("delete_backup", **await planned(agents[1], TARGET))
    assert (again.status, again.replayed, emulator.count("DELETE")) == ("succeeded", False, 1)


async def test_a_server_held_for_dead_leads_to_looking_and_never_to_sending(
    agents: list[Session], emulator: Emulator, database: Database, state_dir: Path
) -> None:
    """Its connection broke while VPS.org had the request; it lives, and so does the request."""
    agent, other = agents
    plan, seen = await planned(agent, TARGET), []

    def cut() -> None:
        database.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{SERVER}'")
        seen.append(statuses(state_dir))

    emulator.fail(once(emulator, cut), method="GET", times=None)
    done = await agent.call("delete_backup", **plan)
    assert (done.status, seen) == ("succeeded", [["sending"]])
    told = await other.call("delete_backup", **plan)
    assert (told.status, told.replayed, emulator.count("DELETE")) == ("succeeded", True, 1)


# Killed in mid-write


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_database_killed_in_mid_write_loses_nothing_and_doubles_nothing(
    open_ledger: OpenLedger, cluster: Cluster, how: str, store: str
) -> None:
    """What was told to be recorded is, once; of what was not told it may be."""
    del store
    ledgers, told, unsure, is_over = [open_ledger() for _ in range(2)], [], [], False

    async def write(number: int) -> None:
        while not is_over:
            saved: Operation = begun()
            try:
                await ledgers[number % 2].write(lambda entries, saved=saved: entries.save(saved))  # type: ignore[misc]
                told.append(saved.id)
            except UnconfirmedError:
                unsure.append(saved.id)
            except BackupsError:
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(write, number)
        for crash in range(3):
            await until(lambda count=10 * (crash + 1): len(told) >= count)  # type: ignore[misc]
            await anyio.to_thread.run_sync(getattr(cluster, how))
            await anyio.to_thread.run_sync(partial(_start_again, cluster))
        await until(lambda: len(told) >= 50)
        is_over = True
    found = await ledgers[0].read(lambda entries: (entries.verify(), [each.operation_id for each in entries.events()]))
    fault, recorded_ids = found
    assert fault == ""
    assert len(recorded_ids) == len(set(recorded_ids)), "each once"
    assert set(told) <= set(recorded_ids) <= {*told, *unsure}


def _start_again(cluster: Cluster) -> None:
    """Start it once what was left of it has ended."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return cluster.start()
        except AssertionError:
            assert time.monotonic() < end
            time.sleep(0.05)
