"""What was left open: named in the log at the next start, or settled by the operator's word."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from mcp_backups.errors import BackupsError, BusyError, ConfirmationInvalidError, InvalidArgumentError
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.ledger import Ledger
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.unsettled import Verdict, settle_by_word, settle_left_open
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import ManualClock

from .made import as_recorded, operation

pytestmark = pytest.mark.anyio

DEAD = "0" * 16


async def left(desk: Desk, clock: ManualClock, action: str = "delete_backup", **fields: Any) -> Operation:
    """An operation that was sent, and of which no more is known."""
    known: dict[str, Any] = {
        "status": "unknown",
        "sent": clock.moment(),
        "backup_id": 999,
        "error_code": "outcome_unknown",
        "error": "No certain answer.",
        "advice": "Look.",
    }
    return await desk.record(operation(action, **known | fields))


async def by_word(desk: Desk, operation_id: str, verdict: Verdict = "failed") -> Operation:
    return await settle_by_word(desk.ledger, desk.presence, operation_id, verdict)


@pytest.mark.parametrize(
    ("verdict", "error_code", "error"),
    [
        ("succeeded", "", ""),
        ("failed", "upstream_unavailable", "The operator found that it did not take effect."),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"status": "sending", "owner": DEAD}])
async def test_what_the_operator_found_is_recorded_in_the_place_of_what_was_not_known(
    desk: Desk, clock: ManualClock, fields: dict[str, Any], verdict: Verdict, error_code: str, error: str
) -> None:
    before = await left(desk, clock, **fields)
    settled = before.but(
        status=verdict, evidence="settled by the operator", error_code=error_code, error=error, advice=""
    )
    assert await by_word(desk, before.id, verdict) == settled == await as_recorded(desk, before)


async def test_a_backup_that_was_not_made_can_be_settled_but_none_that_was(desk: Desk, clock: ManualClock) -> None:
    made = await left(desk, clock, "create_backup")
    with pytest.raises(InvalidArgumentError) as refusal:
        await by_word(desk, made.id, "succeeded")
    assert refusal.value.what == f"{made.id} makes a backup, and one that was made is found by looking."
    assert refusal.value.next_step == "Let get_operation look for it; what cannot be found is settled as failed."
    assert await as_recorded(desk, made) == made
    assert (await by_word(desk, made.id)).status == "failed"


@pytest.mark.parametrize("status", ["planned", "preparing", "accepted", "succeeded", "failed", "refused"])
async def test_what_is_known_is_not_for_the_operator_to_say(desk: Desk, clock: ManualClock, status: str) -> None:
    known = await left(desk, clock, status=status)
    with pytest.raises(InvalidArgumentError) as refusal:
        await by_word(desk, known.id)
    assert refusal.value.what == f"{known.id} is {status}: that is known."
    assert refusal.value.next_step == "Nothing is to be done."


async def test_what_a_process_is_still_at_is_not_settled(desk: Desk, clock: ManualClock) -> None:
    sending = operation(status="sending", sent=clock.moment())
    with desk.presence.at_work(sending.id) as owner:
        await desk.record(sending.but(owner=owner))
        with pytest.raises(BusyError) as refusal:
            await by_word(desk, sending.id)
        unknown = await left(desk, clock, owner=owner)
        with desk.presence.at_work(unknown.id):
            assert (await by_word(desk, unknown.id)).status == "failed"
    assert refusal.value.what == f"A process is still at work on {sending.id}."
    assert refusal.value.next_step == "Wait until it has ended."


@pytest.mark.parametrize("is_there", [True, False])
async def test_what_there_is_not_cannot_be_settled(desk: Desk, clock: ManualClock, is_there: bool) -> None:
    if is_there:
        await left(desk, clock)
    with pytest.raises(ConfirmationInvalidError) as refusal:
        await by_word(desk, "op_" + "a" * 16)
    assert refusal.value.what == "There is no operation of that id."
    assert refusal.value.next_step == "`mcp-backups operations` lists them."
    assert desk.ledger.path.exists() is is_there


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
    desk: Desk,
    emulator: Emulator,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any],
    fault: bool,
    became: str,
) -> None:
    before = await left(desk, clock, **fields)
    if fault:
        emulator.fail(Fault.status(401), method="GET", times=None)
    with caplog.at_level(logging.WARNING):
        await settle_left_open(desk)
    (told,) = [each.getMessage() for each in caplog.records if each.name == "mcp_backups.operations.unsettled"]
    assert told == f"{before.id} (delete_backup on server 12345) was left open; it is now {became}"


async def test_what_is_just_being_sent_is_left_alone_and_the_oldest_is_named_first(
    desk: Desk, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await left(desk, clock), await left(desk, clock)
    sending = operation(status="sending", sent=clock.moment())
    with desk.presence.at_work(sending.id) as owner:
        await desk.record(sending.but(owner=owner))
        await settle_left_open(desk)
    told = [each.getMessage()[:19] for each in caplog.records if each.name == "mcp_backups.operations.unsettled"]
    assert told == [first.id, second.id]


class Broken:
    """A ledger that something is wrong with."""

    def __init__(self, path: Path, error: Exception) -> None:
        self.path, self.error = path, error

    def is_begun(self) -> bool:
        return True

    async def read(self, _work: object) -> None:
        raise self.error


@pytest.mark.parametrize(("error", "code"), [(BusyError("Held."), "busy"), (OSError("No."), "ledger_unavailable")])
async def test_a_ledger_that_cannot_be_read_keeps_no_server_from_starting(
    desk: Desk, clock: ManualClock, caplog: pytest.LogCaptureFixture, error: BackupsError | OSError, code: str
) -> None:
    await left(desk, clock)
    broken = cast("Ledger", Broken(desk.ledger.path, error))
    await settle_left_open(replace(desk, ledger=broken))
    (told,) = [each.getMessage() for each in caplog.records if each.name == "mcp_backups.operations.unsettled"]
    assert told == f"What was left open could not be looked into: {code}"
