"""What is sent, and what is known of it afterwards: the evidence, or why there is none and what to do next."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import anyio
import pytest

from mcp_backups.api import VpsClient
from mcp_backups.errors import (
    BackupsError,
    BusyError,
    ConflictError,
    LedgerUnavailableError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)
from mcp_backups.ledger import Ledger
from mcp_backups.operations import Context, Entries, carry_out
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.reconciliation import settle_left_open
from mcp_backups.sandbox import Emulator, Fault
from tests.stage import ManualClock

from .made import as_recorded, operation, spoil_a_row

pytestmark = pytest.mark.anyio

Result = TypeVar("Result")

WEB, TARGET, NEXT = 12345, 499, 502
"""A server, one of its backups, and the id of the next one that is made."""

ANSWERED, ABSENT = f"VPS.org's answer named backup {NEXT}", "absent from the complete list"
SAID_YES = "VPS.org said yes, and the backup has not been seen to be gone"
LOST, NEVER_ARRIVED, FAILED = Fault.reset_after(), Fault.reset_after(apply=False), Fault.status(500)
REFUSED, MISSING = Fault.status(409, {"detail": "No."}), Fault.status(404, {"detail": "Not found."})

Make = Callable[[ManualClock], Operation]


def a_create(clock: ManualClock, description: str = "nightly", **fields: Any) -> Operation:
    arguments = {"server_id": WEB, "description": description}
    return operation("create_backup", "sending", **{"arguments": arguments, "sent": clock.moment()} | fields)


def a_delete(clock: ManualClock) -> Operation:
    return operation("delete_backup", "sending", arguments={"backup_id": TARGET}, backup_id=TARGET, sent=clock.moment())


def a_restore(clock: ManualClock) -> Operation:
    return operation("restore_server", "sending", arguments={}, backup_id=TARGET, sent=clock.moment())


async def send(context: Context, intended: Operation) -> Operation:
    """Send it; what comes back is what is recorded."""
    outcome = await carry_out(context, intended.id, lambda entries, owner: entries.save(intended.updated(owner=owner)))
    assert outcome == await as_recorded(context, intended)
    return outcome


async def refusal_of(context: Context, intended: Operation) -> BackupsError:
    """Why it failed, or that its outcome is not known; the ledger says the same."""
    with pytest.raises(BackupsError) as raised:
        await send(context, intended)
    error, recorded = raised.value, await as_recorded(context, intended)
    assert (recorded.error_code, recorded.error, recorded.advice) == (error.code, error.what, error.next_step)
    assert recorded.status == ("unknown" if isinstance(error, OutcomeUnknownError) else "failed")
    return error


@pytest.mark.parametrize(("make", "method"), [(a_create, "POST"), (a_delete, "GET"), (a_restore, "POST")])
async def test_a_caller_that_goes_away_in_mid_request_keeps_nothing_from_being_recorded(
    context: Context, emulator: Emulator, clock: ManualClock, make: Make, method: str
) -> None:
    intended = make(clock)
    with anyio.CancelScope() as caller:
        emulator.fail(Fault.edited(lambda _: caller.cancel()), method=method)
        await send(context, intended)
    assert caller.cancel_called
    assert (await as_recorded(context, intended)).changed == ("done" if make is a_delete else "started")


async def test_while_it_is_sent_its_process_is_at_work_on_it_and_not_afterwards(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    intended = a_delete(clock)
    seen: list[bool] = []
    emulator.fail(Fault.edited(lambda _: seen.append(context.liveness.is_here(intended.id))), method="GET")
    await send(context, intended)
    assert (seen, context.liveness.is_here(intended.id)) == ([True], False)


async def test_where_nothing_is_to_be_sent_any_more_nothing_is(context: Context, emulator: Emulator) -> None:
    assert await carry_out(context, "op_none", lambda _entries, _owner: None) is None
    assert emulator.requests == []


class HeldLedger:
    """The ledger, which another process holds for a while after the intent is recorded."""

    def __init__(self, ledger: Ledger[Operation], busy: int) -> None:
        self._ledger, self._busy, self._writes = ledger, busy, 0

    async def write(self, work: Callable[[Entries], Result]) -> Result:
        self._writes += 1
        if 1 < self._writes <= 1 + self._busy:
            raise BusyError("Another process holds the ledger.")
        return await self._ledger.write(work)


@pytest.mark.parametrize(("busy", "is_recorded"), [(1, True), (3, True), (4, False)])
async def test_an_outcome_is_tried_to_be_recorded_four_times_and_is_told_where_it_cannot_be(
    context: Context, emulator: Emulator, clock: ManualClock, busy: int, is_recorded: bool
) -> None:
    held = replace(context, ledger=cast("Ledger[Operation]", HeldLedger(context.ledger, busy)))
    intended = a_restore(clock)
    if is_recorded:
        outcome = await carry_out(held, intended.id, lambda entries, _: entries.save(intended))
        assert outcome == await as_recorded(context, intended)
    else:
        with pytest.raises(LedgerUnavailableError) as lost:
            await carry_out(held, intended.id, lambda entries, _: entries.save(intended))
        assert lost.value.what == (
            f"{intended.id} (restore_server) came to be 'accepted', but that could not be recorded."
        )
        assert lost.value.changed == "started"
        assert await as_recorded(context, intended) == intended
    assert emulator.count("POST") == 1


async def test_an_outcome_is_tried_to_be_recorded_once_where_the_call_must_be_answered(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    held = HeldLedger(context.ledger, 1)
    late = replace(
        context, ledger=cast("Ledger[Operation]", held), answer_by=clock.ticks() + 1.5 * context.recording_seconds
    )
    intended = a_restore(clock)
    with pytest.raises(LedgerUnavailableError, match="could not be recorded"):
        await carry_out(late, intended.id, lambda entries, _: entries.save(intended))
    assert (held._writes, emulator.count("POST")) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "marked", "told"),
    [
        ({"description": "nightly"}, True, "nightly [{id}]"),
        ({"description": ""}, True, "[{id}]"),
        ({}, True, "[{id}]"),
        ({"description": "nightly"}, False, "nightly"),
        ({"description": ""}, False, ""),
        ({}, False, ""),
    ],
)
async def test_a_backup_is_described_in_the_callers_words_and_marked_behind_them(
    context: Context, emulator: Emulator, clock: ManualClock, arguments: dict[str, Any], marked: bool, told: str
) -> None:
    intended = a_create(clock, arguments={"server_id": WEB} | arguments, marked=marked)
    await send(context, intended)
    (sent,) = [request.json() for request in emulator.requests if request.method == "POST"]
    assert sent.get("description", "") == emulator.fleet.backups[NEXT].description == told.format(id=intended.id)


@pytest.mark.parametrize("told", [{}, {"status": "completed", "size_mb": 7}, {"status": "queued"}])
async def test_a_backup_that_vps_org_says_is_started_is_known_by_that_and_is_finished_once_it_is_listed(
    context: Context, emulator: Emulator, clock: ManualClock, told: dict[str, Any]
) -> None:
    """What the list does not show yet nobody can restore."""
    emulator.fail(Fault.edited(lambda row: row | told), method="POST")
    started = await send(context, a_create(clock))
    assert (started.status, started.backup_id, started.evidence) == ("accepted", NEXT, ANSWERED)
    assert clock.slept == []


@pytest.mark.parametrize("fault", [LOST, Fault.edited(lambda told: told | {"id": TARGET})])
async def test_a_backup_is_looked_for_where_the_answer_is_lost_or_names_one_that_was_there_before(
    context: Context, emulator: Emulator, clock: ManualClock, fault: Fault
) -> None:
    emulator.fail(fault, method="POST")
    started = await send(context, a_create(clock, baseline=(TARGET,)))
    assert (started.status, started.backup_id) == ("accepted", NEXT)
    assert started.evidence == "its row in the list of backups"


OLD = {
    "id": TARGET,
    "server": {"id": WEB, "name": "web-server-01"},
    "backup_type": "manual",
    "status": "completed",
    "size_mb": 100,
    "created_at": "2026-11-21T12:00:00Z",
    "expires_at": None,
    "description": "nightly",
}


@pytest.mark.parametrize(
    ("fault", "cause"), [(NEVER_ARRIVED, UnavailableError), (FAILED, UnavailableError), (Fault.status(201, OLD), None)]
)
async def test_a_backup_that_is_not_found_may_have_been_started_and_is_not_asked_for_again(
    context: Context, emulator: Emulator, clock: ManualClock, fault: Fault, cause: type[Exception] | None
) -> None:
    emulator.fail(fault, method="POST")
    intended = a_create(clock, baseline=(TARGET,))
    error = await refusal_of(context, intended)
    assert isinstance(error, OutcomeUnknownError)
    assert error.what == (
        f"VPS.org gave no certain answer to {intended.id} (create_backup on server 12345), "
        "and no backup of it has been seen yet."
    )
    assert error.next_step == (
        f"Do not repeat it. Call get_operation(operation_id={intended.id!r}) in 5 minutes, and once more after "
        "2026-11-23T10:00Z; if it is not known then, ask the user whether VPS.org's panel shows a new backup of server "
        "12345."
    )
    assert isinstance(error.__cause__, cause or type(None))
    assert emulator.count("POST") == 1


@pytest.mark.parametrize(("make", "method"), [(a_create, "POST"), (a_delete, "DELETE"), (a_restore, "POST")])
@pytest.mark.parametrize(("fault", "error"), [(REFUSED, ConflictError), (MISSING, NotFoundError)])
async def test_what_vps_org_refuses_has_failed_and_is_not_looked_for(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    make: Make,
    method: str,
    fault: Fault,
    error: type[BackupsError],
) -> None:
    emulator.fail(fault, method=method)
    assert type(await refusal_of(context, make(clock))) is error
    looks = int(method == "DELETE" and fault is MISSING)  # whether it is gone, as it is in a list that lacks it
    assert (emulator.count("GET"), emulator.count(method)) == (looks, 1)


STILL_LISTED = Fault.edited(lambda page: page | {"results": [*page["results"], OLD], "count": page["count"] + 1})


@pytest.mark.parametrize(
    ("look", "status", "evidence"),
    [
        (None, "succeeded", ABSENT),
        (Fault.status(401), "accepted", SAID_YES),
        (Fault.edited(spoil_a_row), "accepted", SAID_YES),
        (STILL_LISTED, "accepted", SAID_YES),
    ],
)
async def test_a_delete_that_vps_org_says_is_done_is_known_by_its_list_or_else_by_its_answer(
    context: Context, emulator: Emulator, clock: ManualClock, look: Fault | None, status: str, evidence: str
) -> None:
    if look:
        emulator.fail(look, method="GET")
    deleted = await send(context, a_delete(clock))
    assert (deleted.status, deleted.evidence) == (status, evidence)
    assert (emulator.count("GET"), emulator.count("DELETE")) == (1, 1)


async def test_a_delete_whose_answer_is_lost_is_done_where_the_list_lacks_the_backup(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.fail(LOST, method="DELETE")
    deleted = await send(context, a_delete(clock))
    assert (deleted.status, deleted.evidence) == ("succeeded", ABSENT)


def taking_away(emulator: Emulator) -> Fault:
    """A list that still shows the backup, which is gone right after."""

    def take_away(_: object) -> None:
        del emulator.fleet.backups[TARGET]

    return Fault.edited(take_away)


async def test_a_delete_is_done_where_vps_org_no_longer_has_the_backup_after_an_unsure_answer(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    emulator.fail(FAILED, method="DELETE")
    emulator.fail(taking_away(emulator), method="GET")
    deleted = await send(context, a_delete(clock))
    assert (deleted.status, deleted.evidence) == ("succeeded", ABSENT)
    assert (emulator.count("DELETE"), emulator.count("GET")) == (2, 2)


NOT_TOLD, LISTED = "The list could not tell whether it is gone", "It is still listed so far"


@pytest.mark.parametrize(
    ("answers", "look", "deletes", "seen"),
    [
        ([LOST], Fault.status(401), 1, NOT_TOLD),
        ([LOST], Fault.edited(spoil_a_row), 1, NOT_TOLD),
        ([FAILED], Fault.status(401), 1, NOT_TOLD),
        ([FAILED] * 3, None, 3, LISTED),
        ([NEVER_ARRIVED] * 3, None, 3, LISTED),
        ([NEVER_ARRIVED, FAILED, FAILED], None, 3, LISTED),
        ([NEVER_ARRIVED, REFUSED], None, 2, LISTED),
        ([FAILED, MISSING], None, 2, LISTED),
        ([FAILED, Fault.status(401)], None, 2, LISTED),
        ([FAILED, FAILED, Fault.status(403)], None, 3, LISTED),
    ],
)
async def test_a_delete_that_was_not_plainly_refused_each_time_is_unknown_unless_it_is_seen_to_be_gone(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    answers: list[Fault],
    look: Fault | None,
    deletes: int,
    seen: str,
) -> None:
    """VPS.org may answer 500 three times, list the backup meanwhile, and remove it 15 s later."""
    for fault in answers:
        emulator.fail(fault, method="DELETE")
    if look:
        emulator.fail(look, method="GET")
    intended = a_delete(clock)
    error = await refusal_of(context, intended)
    assert isinstance(error, OutcomeUnknownError)
    assert error.what == (
        f"VPS.org gave no certain answer to {intended.id} (delete_backup of backup 499). "
        f"{seen}; it may still be deleted, for up to 24 h."
    )
    assert error.next_step == (
        "Do not count on backup 499, and do not repeat the delete. Call "
        f"get_operation(operation_id={intended.id!r}) in 30 minutes, and again after 2026-11-24T09:30Z: by "
        "then it is gone or it stays, as VPS.org's own list of backups shows too."
    )
    assert emulator.count("DELETE") == deletes


async def test_a_restore_that_vps_org_accepts_is_known_by_its_answer_and_no_more(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    restored = await send(context, a_restore(clock))
    assert (restored.status, restored.evidence, emulator.count("GET")) == (
        "accepted",
        "VPS.org said yes; no more is known for sure",
        0,
    )


@pytest.mark.parametrize("fault", [LOST, NEVER_ARRIVED, FAILED])
async def test_a_restore_without_a_sure_answer_may_be_running_and_is_for_the_user_to_look_at(
    context: Context, emulator: Emulator, clock: ManualClock, fault: Fault
) -> None:
    emulator.fail(fault, method="POST")
    intended = a_restore(clock)
    error = await refusal_of(context, intended)
    assert isinstance(error, OutcomeUnknownError)
    assert error.what == (
        f"VPS.org gave no certain answer to {intended.id} (restore of backup 499 to server 12345): "
        "the restore may be running."
    )
    assert error.next_step == (
        "Do not repeat it: no list tells whether it took effect. Ask the user to look at the server itself, whether it "
        "holds what was written since the backup was made. "
        f"get_operation(operation_id={intended.id!r}) shows the server's status; until 2026-11-23T10:00Z nothing else "
        "is deleted or restored on this server."
    )
    assert emulator.count("POST") == 1


class Faulty:
    """An API client with a fault of its own, whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


@pytest.mark.parametrize("make", [a_create, a_delete, a_restore])
async def test_a_fault_of_ours_while_sending_is_recorded_as_unknown(
    context: Context, clock: ManualClock, make: Make
) -> None:
    """The request may have gone out."""
    intended = make(clock)
    with pytest.raises(OutcomeUnknownError) as told:
        await send(replace(context, api=cast("VpsClient", Faulty())), intended)
    assert (
        told.value.what
        == f"Something went wrong in this server while {intended.id} ({intended.action}) was carried out."
    )
    assert told.value.next_step.startswith(f"Do not repeat it; call get_operation(operation_id={intended.id!r})")
    recorded = await as_recorded(context, intended)
    assert (recorded.status, recorded.error_code) == ("unknown", "outcome_unknown")


async def test_a_fault_of_ours_in_a_look_at_what_was_left_open_keeps_no_server_from_starting(
    context: Context, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    left = await context.record(a_delete(clock).updated(status="unknown"))
    await settle_left_open(replace(context, api=cast("VpsClient", Faulty())))
    assert "What was left open could not be looked into" in caplog.text
    assert await as_recorded(context, left) == left
