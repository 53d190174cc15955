"""While the person thinks, a call that waits for the answer stays alive, and ends by itself."""

from datetime import timedelta
from typing import Any

import anyio
import pytest
from mcp_types import ElicitResult

from mcp_backups.operations.consent import ANSWER_TIME
from mcp_backups.sandbox import Emulator
from mcp_backups.tools.asking import PATIENCE, Patience
from tests.consent.test_replies import TOO_LATE
from tests.consent.user import agreeing
from tests.stage import MakeSettings, ManualClock, recorded, session

pytestmark = pytest.mark.anyio

SHORT = Patience(seconds=0.3, progress_seconds=0.05)


async def never(context: object, params: object) -> ElicitResult:
    del context, params
    await anyio.sleep_forever()
    raise AssertionError


def test_a_person_has_five_minutes_and_the_client_hears_of_it_every_15_seconds() -> None:
    assert timedelta(seconds=PATIENCE.seconds) == ANSWER_TIME == timedelta(minutes=5)
    assert PATIENCE.progress_seconds <= 15


async def test_no_answer_in_time_is_a_no_and_progress_is_told_until_then(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    settings = make_settings()
    async with session(emulator, settings, clock, "legacy", patience=SHORT, elicitation_callback=never) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
        still_there = await agent.call("list_backups", server_id=12345)
    assert answer.text == TOO_LATE
    told = [so_far for so_far, _, _ in answer.progress]
    assert len(told) >= 3
    assert told == sorted(set(told))
    assert {(total, message) for _, total, message in answer.progress} == {(0.3, "Waiting for the user's answer")}
    assert emulator.count("DELETE") == 0
    assert not still_there.is_error
    assert [operation.status for operation in recorded(settings.state_dir)] == ["declined"]


async def test_an_answer_in_time_ends_the_waiting(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with session(
        emulator, make_settings(), clock, "legacy", patience=SHORT, elicitation_callback=agreeing()
    ) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.status, emulator.count("DELETE")) == ("succeeded", 1)


async def test_the_time_that_a_person_takes_is_not_taken_from_the_call(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    agree = agreeing()

    async def after_four_minutes(context: Any, params: Any) -> ElicitResult:
        clock.advance(minutes=4)
        return await agree(context, params)

    async with session(emulator, make_settings(), clock, "legacy", elicitation_callback=after_four_minutes) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.status, emulator.count("DELETE")) == ("succeeded", 1)


async def test_a_call_that_is_cancelled_while_the_user_thinks_deletes_nothing(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    settings, asked = make_settings(), anyio.Event()

    async def think(context: object, params: object) -> ElicitResult:
        asked.set()
        return await never(context, params)

    async with session(emulator, settings, clock, "legacy", elicitation_callback=think) as agent:
        async with anyio.create_task_group() as calls:

            async def call() -> None:
                await agent.call("delete_backup", backup_id=499, confirm=True)

            calls.start_soon(call)
            await asked.wait()
            calls.cancel_scope.cancel()
        assert not (await agent.call("list_backups")).is_error
    assert emulator.count("DELETE") == 0
    assert [operation.status for operation in recorded(settings.state_dir)] == ["planned"]
