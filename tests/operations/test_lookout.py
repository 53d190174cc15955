"""Waiting for what another process records: one look a second, however many wait."""

from dataclasses import replace
from datetime import timedelta
from time import perf_counter
from typing import Any

import anyio
import pytest

from mcp_backups.operations import Context, Status
from mcp_backups.operations.reconciliation import follow
from tests.operations.made import begun, silent
from tests.stage import RealTime, until

pytestmark = pytest.mark.anyio


async def test_many_who_wait_look_once_a_second_and_all_see_what_comes(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    read = context.ledger.read

    async def counted(work: Any) -> Any:
        nonlocal looks
        looks += 1
        return await read(work)

    monkeypatch.setattr(context.ledger, "read", counted)
    clock = RealTime().clock()
    waiting = [begun().entering(Status.WAITING, context.moment(), timedelta(hours=1)) for _ in range(30)]
    for each in waiting:
        await context.record(each)
    real, statuses = replace(context, clock=clock), []

    async def wait(number: int) -> None:
        await anyio.sleep(number / 30)  # they came one after the other
        result = await follow(real, waiting[number], 20.0, silent)
        statuses.append(result.operation.status)

    began = perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(wait, number)
        await anyio.sleep(1.6)
        for each in waiting:
            await context.record(each.updated(status="declined", approved_by=""))
    assert statuses == ["declined"] * 30
    assert looks <= 1 + (perf_counter() - began)


async def test_who_comes_while_another_looks_waits_for_what_that_one_sees(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, looks, is_looking, read = await context.record(begun()), 0, anyio.Event(), context.ledger.read

    async def slow(work: Any) -> Any:
        nonlocal looks
        looks += 1
        is_looking.set()
        await until(lambda: context.lookout._lock.statistics().tasks_waiting > 0)
        return await read(work)

    monkeypatch.setattr(context.ledger, "read", slow)
    found = []

    async def find() -> None:
        found.append(await context.lookout.find(context.ledger, 5.0, one.id))

    async with anyio.create_task_group() as group:
        group.start_soon(find)
        await is_looking.wait()
        group.start_soon(find)
    assert (found, looks) == ([one, one], 1)
