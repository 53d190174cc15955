"""What was left open: named in the log at the next start, or settled by the operator's word."""

import logging
from dataclasses import replace
from typing import Any, cast

import pytest

from mcp_backups.errors import BackupsError, BusyError, ConfirmationInvalidError, InvalidArgumentError
from mcp_backups.ledger import Ledger
from mcp_backups.operations import Context
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.reconciliation import SettledAs, settle_by_word, settle_left_open
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import ManualClock, on_both_stores

from .made import as_recorded, operation

pytestmark = [pytest.mark.anyio, on_both_stores]

DEAD = "0" * 16


async def left(context: Context, clock: ManualClock, action: str = "delete_backup", **fields: Any) -> Operation:
    """An operation that was sent, and of which no more is known."""
    known: dict[str, Any] = {
        "status": "unknown",
        "sent": clock.moment(),
        "backup_id": 999,
        "error_code": "outcome_unknown",
        "error": "No certain answer.",
        "advice": "Look.",
    }
    return await context.record(operation(action, **known | fields))


async def by_word(context: Context, operation_id: str, verdict: SettledAs = "failed") -> Operation:
    return await settle_by_word(context.ledger, context.liveness, operation_id, verdict)


@pytest.mark.parametrize(
    ("verdict", "error_code", "error"),
    [
        ("succeeded", "", ""),
        ("failed", "upstream_unavailable", "The operator found that it did not take effect."),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"status": "sending", "owner": DEAD}, {"lapsed": True}])
async def test_what_the_operator_found_is_recorded_in_the_place_of_what_was_not_known(
    context: Context, clock: ManualClock, fields: dict[str, Any], verdict: SettledAs, error_code: str, error: str
) -> None:
    before = await left(context, clock, **fields)
    settled = before.updated(
        status=verdict,
        evidence="settled by the operator",
        error_code=error_code,
        error=error,
        advice="",
        lapsed=verdict == "failed",  # no refusal: being seen gone corrects it
    )
    assert await by_word(context, before.id, verdict) == settled == await as_recorded(context, before)


async def test_a_backup_that_was_not_made_can_be_settled_but_none_that_was(
    context: Context, clock: ManualClock
) -> None:
    made = await left(context, clock, "create_backup")
    with pytest.raises(InvalidArgumentError) as refusal:
        await by_word(context, made.id, "succeeded")
    assert refusal.value.what == f"{made.id} makes a backup, and one that was made is found by looking."
    assert refusal.value.next_step == (
        "Have an agent call get_operation, which looks for it; what is not found is settled as failed."
    )
    assert await as_recorded(context, made) == made
    assert (await by_word(context, made.id)).status == "failed"


async def test_an_accepted_deletion_is_for_the_operator_to_settle(context: Context, clock: ManualClock) -> None:
    """Its backup is counted on for nothing until it is seen to be gone, unless somebody knows better."""
    asked = await left(context, clock, status="accepted")
    assert (await by_word(context, asked.id)).evidence == "settled by the operator"


@pytest.mark.parametrize("status", ["planned", "preparing", "succeeded", "failed", "refused"])
async def test_what_is_known_is_not_for_the_operator_to_say(context: Context, clock: ManualClock, status: str) -> None:
    known = await left(context, clock, status=status)
    with pytest.raises(InvalidArgumentError) as refusal:
        await by_word(context, known.id)
    assert refusal.value.what == f"{known.id} is {status}: that is known."
    assert refusal.value.next_step == "Nothing is to be done."


async def test_what_a_process_is_still_at_is_not_settled(context: Context, clock: ManualClock) -> None:
    sending = operation(status="sending", sent=clock.moment())
    async with context.liveness.at_work(sending.id) as owner:
        await context.record(sending.updated(owner=owner))
        with pytest.raises(BusyError) as refusal:
            await by_word(context, sending.id)
        unknown = await left(context, clock, owner=owner)
        async with context.liveness.at_work(unknown.id):
            assert (await by_word(context, unknown.id)).status == "failed"
    assert refusal.value.what == f"A process is still at work on {sending.id}."
    assert refusal.value.next_step == "Wait until it has ended."


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_there_is_not_cannot_be_settled(context: Context, clock: ManualClock, is_there: bool) -> None:
    if is_there:
        await left(context, clock)
    with pytest.raises(ConfirmationInvalidError) as refusal:
        await by_word(context, "op_" + "a" * 16)
    assert refusal.value.what == "There is no operation of that id."
    assert refusal.value.next_step == "`mcp-backups operations` lists them."
    assert list(context.settings.state_dir.glob("*.sqlite3")) == [] or is_there


ABSENT = ": absent from the complete list"
ENDED = ": the process that sent it ended before the answer came"
UNSEEN = "; VPS.org could not be asked (auth_failed)"


@pytest.mark.parametrize(
    ("fields", "fault", "became"),
    [
        ({}, False, f"succeeded{ABSENT}"),
        ({"backup_id": 501}, False, "unknown"),
        ({"backup_id": 501}, True, f"unknown{UNSEEN}"),
        ({"status": "sending", "owner": DEAD}, True, f"unknown{ENDED}{UNSEEN}"),
    ],
)
async def test_the_log_names_each_that_was_left_open_and_what_became_of_it(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any],
    fault: bool,
    became: str,
) -> None:
    before = await left(context, clock, **fields)
    if fault:
        emulator.fail(Fault.status(401), method="GET", times=None)
    with caplog.at_level(logging.WARNING):
        await settle_left_open(context)
    told = [each.getMessage() for each in caplog.records if each.name == "mcp_backups.operations.reconciliation"]
    assert told == [f"{before.id} (delete_backup on server 12345) was left open; it is now {became}"]


async def test_what_is_just_being_sent_is_left_alone_and_the_oldest_is_named_first(
    context: Context, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await left(context, clock), await left(context, clock)
    sending = operation(status="sending", sent=clock.moment())
    async with context.liveness.at_work(sending.id) as owner:
        await context.record(sending.updated(owner=owner))
        await settle_left_open(context)
    told = [each.getMessage()[:19] for each in caplog.records if each.name == "mcp_backups.operations.reconciliation"]
    assert told == [first.id, second.id]


class Broken:
    """A ledger that something is wrong with."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def exists(self) -> bool:
        return True

    def is_begun(self) -> bool:
        return True

    async def read(self, _work: object) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "code"), [(BusyError("Held."), "busy"), (OSError("No."), "ledger_unavailable")])
async def test_a_ledger_that_cannot_be_read_keeps_no_server_from_starting(
    context: Context, clock: ManualClock, caplog: pytest.LogCaptureFixture, error: BackupsError | OSError, code: str
) -> None:
    await left(context, clock)
    broken = cast("Ledger[Operation]", Broken(error))
    await settle_left_open(replace(context, ledger=broken))
    (told,) = [each.getMessage() for each in caplog.records if each.name == "mcp_backups.operations.reconciliation"]
    assert told == f"What was left open could not be looked into: {code}"
