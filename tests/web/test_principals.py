"""Who asked is recorded, and nobody confirms, repeats or is answered what another asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.cli import main
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Approval
from tests.consent.user import agreeing
from tests.stage import Answer, Era, MakeSettings, ManualClock, Session, recorded, session
from tests.web.stage import serving

PLANS: list[tuple[str, dict[str, Any]]] = [
    ("delete_backup", {"backup_id": 499}),
    ("restore_server", {"server_id": 12345, "backup_id": 499}),
    ("prune_backups", {"server_id": 12345, "keep_last": 1}),
]
UNKNOWN = "confirmation_invalid: There is no operation of that id."


@pytest.mark.anyio
@pytest.mark.parametrize(("tool", "arguments"), PLANS, ids=lambda each: each if isinstance(each, str) else "")
async def test_a_plan_is_redeemed_by_who_made_it_only(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era, tool: str, arguments: dict[str, Any]
) -> None:
    async with (
        serving(emulator, make_settings(approval="plan"), clock) as served,
        served.client(served.token("her", "destroy"), era) as her,
        served.client(served.token("him", "destroy"), era) as him,
        served.client(served.token("", "destroy"), era) as local,
    ):
        plan = await her.call(tool, **arguments)
        again = {**arguments, "confirm": True, "operation_id": plan.operation}
        sent = [request.method for request in emulator.requests]
        refused = [await each.call(tool, **again) for each in (him, local)]
        never = await him.call(tool, **{**again, "operation_id": "op_" + "a" * 16})
        assert [each.text for each in (*refused, never)] == [never.text] * 3
        assert never.text.startswith(UNKNOWN)
        assert [request.method for request in emulator.requests] == sent
        assert (await her.call(tool, **again)).code == ""
    assert {each.principal for each in recorded(served.folder)} == {"her"}


@pytest.mark.anyio
async def test_a_plan_of_another_is_not_shown_and_what_was_sent_is(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era
) -> None:
    async with (
        serving(emulator, make_settings(approval="plan"), clock) as served,
        served.client(served.token("her", "destroy"), era) as her,
        served.client(served.token("him", "read"), era) as him,
    ):
        plan = await her.call("delete_backup", backup_id=499)
        assert (await her.call("get_operation", operation_id=plan.operation)).status == "needs_confirmation"
        shown = await him.call("get_operation", operation_id=plan.operation)
        assert shown.text == (await him.call("get_operation", operation_id="op_" + "a" * 16)).text
        assert plan.operation not in await _operations(him)
        await her.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
        assert (await him.call("get_operation", operation_id=plan.operation)).status == "succeeded"
        (told,) = json.loads(await _operations(him))["operations"]
        assert (told["operation_id"], told["asked_by"]) == (plan.operation, "her")


async def _operations(agent: Session) -> str:
    (content,) = (await agent.client.read_resource("backups://operations")).contents
    return str(getattr(content, "text", ""))


@pytest.mark.anyio
async def test_a_backup_that_another_asked_for_is_not_taken_for_ones_own(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    async with (
        serving(emulator, make_settings(), clock) as served,
        served.client(served.token("her", "write")) as her,
        served.client(served.token("him", "write")) as him,
    ):
        answers = [await each.call("create_backup", server_id=12345) for each in (her, him, her, him)]
    assert [each.data.get("replayed", False) for each in answers] == [False, False, True, True]
    assert [each.operation for each in answers[2:]] == [each.operation for each in answers[:2]]
    assert emulator.count("POST") == 2
    assert [each.principal for each in recorded(served.folder)] == ["her", "him"]


@pytest.mark.anyio
async def test_with_a_flag_nobody_is_answered_what_another_did(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    restore = {"server_id": 12345, "backup_id": 499, "safety_backup": False, "confirm": True}
    settings = make_settings(approval="flag", restores_per_hour=5)
    async with (
        serving(emulator, settings, clock) as served,
        served.client(served.token("her", "destroy")) as her,
        served.client(served.token("him", "destroy")) as him,
    ):
        first, again = await her.call("restore_server", **restore), await her.call("restore_server", **restore)
        other = await him.call("restore_server", **restore)
    assert (first.data.get("replayed", False), again.data["replayed"], again.operation) == (
        False,
        True,
        first.operation,
    )
    assert other.data.get("operation_id") != first.operation
    assert other.data.get("replayed") is not True


@pytest.mark.anyio
@pytest.mark.parametrize("approval", ["auto", "human"])
async def test_an_answer_to_a_question_counts_for_who_was_asked(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, era: Era, approval: Approval
) -> None:
    async with (
        serving(emulator, make_settings(approval=approval), clock) as served,
        served.client(served.token("her", "destroy"), era, elicitation_callback=agreeing()) as her,
    ):
        answer: Answer = await her.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.status, answer.data["approved_by"]) == ("succeeded", "person")
    assert [each.principal for each in recorded(served.folder)] == ["her"]


@pytest.mark.anyio
async def test_who_started_the_process_is_another_than_who_came_over_http(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    settings = make_settings(approval="plan")
    async with (
        serving(emulator, settings, clock) as served,
        served.client(served.token("", "destroy")) as over_http,
        session(emulator, settings, clock) as started,
    ):
        plan = await started.call("delete_backup", backup_id=499)
        confirm = {"backup_id": 499, "confirm": True, "operation_id": plan.operation}
        assert (await over_http.call("delete_backup", **confirm)).text.startswith(UNKNOWN)
        assert (await started.call("delete_backup", **confirm)).status == "succeeded"
    assert [each.principal for each in recorded(served.folder)] == [""]


@pytest.mark.anyio
async def test_the_commands_tell_who_asked(
    emulator: Emulator,
    clock: ManualClock,
    make_settings: MakeSettings,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(emulator, make_settings(), clock) as served:
        for name in ("her", "him", "her2"):
            async with served.client(served.token(name, "write")) as agent:
                await agent.call("create_backup", server_id=12345)
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(state_dir))

    def told(*arguments: str) -> str:
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    assert [name in told("operations") for name in ("asked for by", "her", "him", "her2")] == [True] * 4
    only = [json.loads(line) for line in told("operations", "--principal", "her", "--json").splitlines()]
    assert [each["principal"] for each in only] == ["her"]
    assert told("operations", "--principal", "nobody", "--json") == ""
    assert told("audit").count("asked for by him") == 1
    assert told("audit", "--export").count("him") > 0
