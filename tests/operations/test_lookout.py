"""Waiting for what another process records: one look a second, however many wait."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest

from mcp_backups.operations import Context, Status
from mcp_backups.operations.reconcile import follow
from tests.operations.made import begun, silent
from tests.stage import RealTime

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
        result = await follow(real, waiting[number], 4.0, silent)
        statuses.append(result.operation.status)

    async with anyio.create_task_group() as group:
        for number in range(30):
            group.start_soon(wait, number)
        await anyio.sleep(1.6)
        assert looks <= 2
        for each in waiting:
            await context.record(each.updated(status="declined", approved_by=""))
    assert statuses == ["declined"] * 30
    assert looks <= 4
