"""What a client, an agent or its user may do wrong."""

import json
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.consent.user import Action, User
from tests.faults.conftest import OpenBench
from tests.faults.stage import DB, TARGET, WEB, Bench, on_post
from tests.faults.tricks import PAYLOADS
from tests.stage import PATIENCE, Answer, Era, MakeSettings, ManualClock, session

pytestmark = pytest.mark.anyio

NOT_BOOLEANS = ["yes", 1, "True", "on"]
NOT_IDS = [True, " 501", "5_01", "0501", "501.0", -1, 0, 10**30, 501.5, None]
STRANGERS = [{"dry_run": True}, {"confirmed": True}]


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        *(("F66", {"backup_id": TARGET, "confirm": value}) for value in NOT_BOOLEANS),
        *(("F67", {"backup_id": value, "confirm": True}) for value in NOT_IDS),
        *(("F68", {"backup_id": TARGET, "confirm": True} | more) for more in STRANGERS),
    ],
)
async def test_arguments_are_taken_literally_or_not_at_all(bench: Bench, row: str, arguments: dict[str, Any]) -> None:
    answer = await bench.agent.call("delete_backup", **arguments)
    assert answer.code == "invalid_argument", row
    assert "Nothing was changed." in answer.text
    assert bench.requests() == (0, 0, 0)


@pytest.mark.parametrize("row", ["F69"])
async def test_confirm_without_a_plan_is_a_plan(bench: Bench, row: str) -> None:
    answer = await bench.agent.call("delete_backup", backup_id=TARGET, confirm=True)
    assert (answer.status, answer.data["changed"]) == ("needs_confirmation", "nothing"), row
    assert bench.requests()[2] == 0


@pytest.mark.parametrize("row", ["F70"])
@pytest.mark.parametrize("of", ["another backup", "another tool", "nobody"])
async def test_a_plan_confirms_itself_alone(bench: Bench, row: str, of: str) -> None:
    other = {
        "another backup": await bench.plan("delete_backup", backup_id=501),
        "another tool": await bench.plan("restore_server", server_id=WEB, backup_id=TARGET),
        "nobody": {"operation_id": "op_" + "a" * 16},
    }[of]
    bench.spoil()
    answer = await bench.agent.call("delete_backup", backup_id=TARGET, confirm=True, operation_id=other["operation_id"])
    assert answer.code == "confirmation_invalid", row
    assert bench.requests() == (0, 0, 0)


@pytest.mark.parametrize("row", ["F71"])
@pytest.mark.parametrize("step", [{"minutes": 10}, {"days": -1}])
async def test_a_plan_does_not_outlive_10_minutes_or_a_clock_set_back(
    bench: Bench, row: str, step: dict[str, float]
) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    bench.clock.step(**step)
    bench.spoil()
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert answer.code == "confirmation_expired", row
    assert bench.requests() == (0, 0, 0)


@pytest.mark.parametrize("row", ["F72"])
async def test_a_plan_confirmed_twice_is_carried_out_once(bench: Bench, row: str) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    first, second = [await bench.agent.call("delete_backup", **confirmation) for _ in range(2)]
    assert (first.replayed, second.replayed) == (False, True), row
    assert first.data | {"replayed": True} == second.data
    assert bench.requests()[2] == 1


@pytest.mark.parametrize("row", ["F73"])
async def test_of_64_confirmations_at_once_one_is_carried_out(bench: Bench, row: str) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    answers: list[Answer] = []

    async def confirm() -> None:
        answers.append(await bench.agent.call("delete_backup", **confirmation))

    async with anyio.create_task_group() as calls:
        for _ in range(64):
            calls.start_soon(confirm)
    assert bench.requests()[2] == 1, row
    done = [answer for answer in answers if not answer.is_error]
    assert [answer.replayed for answer in done].count(False) == 1
    assert {answer.code for answer in answers} <= {"", "busy"}
    assert {answer.status for answer in done} == {"succeeded"}


def _status(emulator: Emulator) -> None:
    emulator.fleet.backups[TARGET].status = "failed"


def _description(emulator: Emulator) -> None:
    emulator.fleet.backups[TARGET].description = "Before the audit"


def _size(emulator: Emulator) -> None:
    emulator.fleet.backups[TARGET].size_mb = 1


def _server(emulator: Emulator) -> None:
    emulator.fleet.backups[TARGET].server_id = DB


def _gone(emulator: Emulator) -> None:
    emulator.fleet.delete_backup(TARGET)


@pytest.mark.parametrize("row", ["F75"])
@pytest.mark.parametrize("change", [_status, _description, _size, _server, _gone])
async def test_what_changed_since_the_plan_is_left_alone(bench: Bench, row: str, change: Any) -> None:
    confirmation = await bench.plan("delete_backup", backup_id=TARGET)
    change(bench.emulator)
    answer = await bench.agent.call("delete_backup", **confirmation)
    assert answer.code == ("not_found" if change is _gone else "target_changed"), row
    assert bench.requests()[2] == 0
    assert bench.operations()[0].status == "refused"


@pytest.mark.parametrize("row", ["F76"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("action", "content"),
    [
        ("decline", {"delete": True}),
        ("cancel", {"delete": True}),
        ("accept", {"delete": False}),
        ("accept", {"delete": ["true"]}),
    ],
)
async def test_only_a_users_yes_deletes(
    emulator: Emulator,
    clock: ManualClock,
    make_settings: MakeSettings,
    row: str,
    mode: Era,
    action: Action,
    content: dict[str, Any],
) -> None:
    user = User(action, content)
    async with session(emulator, make_settings(), clock, mode, elicitation_callback=user) as agent:
        answer = await agent.call("delete_backup", backup_id=TARGET, confirm=True)
    assert (answer.code, len(user.asked)) == ("declined", 1), row
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize("row", ["F77"])
async def test_a_call_that_is_cancelled_while_it_sends_is_still_recorded(
    clock: ManualClock, bench_on: OpenBench, row: str
) -> None:
    arrived, released = anyio.Event(), anyio.Event()

    async def hold(_seconds: float) -> None:
        arrived.set()
        await released.wait()

    async with Emulator(now=clock.now, sleep=hold) as api, bench_on(api) as bench:
        bench.spoil(on_post(Fault.delay(1)))
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as calls:
                calls.start_soon(lambda: bench.agent.call("create_backup", server_id=WEB))
                await arrived.wait()
                calls.cancel_scope.cancel()
                released.set()
            again = await bench.agent.call("create_backup", server_id=WEB, wait_seconds=30)
        assert (again.status, again.replayed) == ("succeeded", True), row
        assert bench.requests()[1] == 1


@pytest.mark.parametrize("row", ["F80"])
async def test_the_words_of_strangers_stay_in_the_fields_for_them(bench: Bench, row: str) -> None:
    """They come back cleaned, in fields and in the quotation that ends an error, and never in a sentence of ours."""
    backup, server = bench.emulator.fleet.backups[TARGET], bench.emulator.fleet.servers[WEB]
    for payload in PAYLOADS:
        backup.description = server.name = payload
        listed = await bench.agent.call("list_backups", server_id=WEB, limit=100)
        planned = await bench.agent.call("delete_backup", backup_id=TARGET)
        bench.emulator.fail(Fault.status(400, {"detail": payload, "server_id": [payload]}), method="POST")
        refused = await bench.agent.call("create_backup", server_id=WEB)
        (told,) = (each for each in listed.data["backups"] if each["id"] == TARGET)
        shown = planned.data["backup"]
        for text in (told["description"], told["server"], shown["description"], planned.data["server"]["name"]):
            assert text.isprintable(), row
            assert len(text) <= 200
        assert listed.data["total"] == 18
        shown, more = listed.data["returned"], bool(listed.data.get("next_cursor", ""))
        assert len(listed.text.splitlines()) == 4 + shown + more
        assert all(line.isprintable() for answer in (listed, planned) for line in answer.text.splitlines())
        assert "EVIL" not in str(planned.data | {"backup": None, "server": None})
        ours, _, quoted = refused.text.partition(" VPS.org said: ")
        assert (refused.code, "EVIL" in ours) == ("invalid_argument", False)
        quotation = json.loads(quoted)  # it is the last thing in the text, and nothing in it ends it earlier
        assert quotation.isprintable()
        assert len(quotation) <= 200
