"""Which operation a destructive call goes on with: the one it names, the same call's of a moment ago, or a new one."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mcp_backups.actions.delete import delete
from mcp_backups.actions.restore import restore
from mcp_backups.errors import (
    BackupsError,
    BusyError,
    ConfirmationExpiredError,
    ConfirmationInvalidError,
    DeclinedError,
    ReadOnlyError,
)
from mcp_backups.operations import Context, Request, Result, Steps, authorize, outcome_of_other
from mcp_backups.operations.consent import Question, Reply
from mcp_backups.operations.operation import Operation
from mcp_backups.operations.policy import policy_digest
from mcp_backups.sandbox import Emulator
from tests.stage import ManualClock

from .made import AT_ONCE, Nobody, ago, as_recorded, backup, operation, question_of, record_all, under

pytestmark = pytest.mark.anyio

WEB, TARGET = 12345, 499
CHANGED_RULES = "The rules here are no longer those under which the plan {id} was made."
DEAD = "0" * 16
"""A process that has ended."""


@dataclass
class Somebody:
    """A user behind a client that can ask them; keeps what they were asked."""

    reply: Reply
    answers_about: str = ""
    can_be_asked: bool = True
    asked: list[tuple[str, Question]] = field(default_factory=list)

    async def ask(self, operation_id: str, question: Question) -> Reply:
        self.asked.append((operation_id, question))
        return self.reply


@pytest.fixture
def trusting(context: Context) -> Context:
    """Where the caller's flag alone consents."""
    return under(context, approval="flag")


async def deleting(
    context: Context, backup_id: int = TARGET, *, confirm: bool = True, operation_id: str = ""
) -> Result:
    return await delete(context, backup_id, confirm=confirm, operation_id=operation_id, person=Nobody())


async def restoring(context: Context) -> Result:
    return await restore(
        context, WEB, TARGET, safety_backup=True, waiting=AT_ONCE, confirm=True, operation_id="", person=Nobody()
    )


async def test_what_another_call_has_done_is_told_as_done_before(context: Context) -> None:
    done = await context.record(operation(status="succeeded"))
    assert await outcome_of_other(context, done.id) == Result(done, replayed=True)


async def test_what_a_process_was_sending_that_has_ended_is_looked_at_and_told_as_done_before(
    context: Context, clock: ManualClock
) -> None:
    sending = await context.record(operation(status="sending", backup_id=999, sent=clock.moment(), owner=DEAD))
    told = await outcome_of_other(context, sending.id)
    assert (told.operation.status, told.replayed, clock.slept) == ("succeeded", True, [])


async def test_what_another_call_finishes_meanwhile_is_waited_for(context: Context, clock: ManualClock) -> None:
    sending = operation(status="sending", sent=clock.moment())

    async def finish(seconds: float) -> None:
        await clock.sleep(seconds)
        if len(clock.slept) == 3:
            await context.record(sending.updated(status="succeeded"))

    waiting = replace(context, clock=replace(clock.clock, sleep=finish))
    async with context.liveness.at_work(sending.id) as owner:
        await context.record(sending.updated(owner=owner))
        told = await outcome_of_other(waiting, sending.id)
    assert told == Result(sending.updated(status="succeeded"), replayed=True)
    assert clock.slept == [0.2] * 3


@pytest.mark.parametrize("status", ["sending", "planned", "approved", "preparing"])
async def test_what_another_call_is_still_at_after_20_seconds_is_for_the_caller_to_look_at(
    context: Context, clock: ManualClock, status: str
) -> None:
    sending = operation(status=status, sent=clock.moment())
    async with context.liveness.at_work(sending.id) as owner:
        await context.record(sending.updated(owner=owner))
        with pytest.raises(BusyError) as busy:
            await outcome_of_other(context, sending.id)
    assert busy.value.what == f"Another call is carrying out {sending.id}."
    assert busy.value.next_step == f"Call get_operation(operation_id={sending.id!r})."
    assert sum(clock.slept) == pytest.approx(20)


@pytest.mark.parametrize(
    ("fields", "is_repeat"),
    [
        ({}, True),
        ({"status": "succeeded"}, True),
        ({"status": "unknown"}, True),
        ({"status": "sending", "owner": DEAD}, True),
        ({"status": "failed"}, False),
        ({"status": "refused"}, False),
        ({"status": "declined"}, False),
        ({"status": "planned", "sent": None}, False),
        ({"status": "approved", "sent": None}, False),
        ({"arguments": {"backup_id": 495}}, False),
        ({"action": "restore_server"}, False),
        ({"sent": ago(minutes=9.9, ticking=594)}, True),
        ({"sent": ago(minutes=10, ticking=600)}, False),
        ({"sent": ago(days=1, ticking=599)}, True),
        ({"sent": ago(minutes=9, ticking=600)}, False),
    ],
)
async def test_the_same_flagged_call_within_ten_minutes_by_the_clock_nobody_sets_is_told_what_became_of_the_first(
    trusting: Context, emulator: Emulator, clock: ManualClock, fields: dict[str, Any], is_repeat: bool
) -> None:
    known: dict[str, Any] = {
        "status": "accepted",
        "arguments": {"backup_id": TARGET},
        "backup_id": TARGET,
        "sent": clock.moment(),
    }
    before = await trusting.record(operation(**known | fields))
    told = await deleting(trusting)
    assert (told.operation.id == before.id, told.replayed) == (is_repeat, is_repeat)
    assert emulator.count("DELETE") == (0 if is_repeat else 1)


@pytest.mark.parametrize("others", [{"action": "create_backup"}, {"status": "failed"}, {"status": "planned"}])
async def test_the_same_flagged_call_is_found_behind_however_much_else_was_done(
    trusting: Context, emulator: Emulator, clock: ManualClock, others: dict[str, Any]
) -> None:
    known: dict[str, Any] = {"status": "accepted", "arguments": {"backup_id": TARGET}, "backup_id": TARGET}
    before = await trusting.record(operation(**known, sent=clock.moment()))
    other: dict[str, Any] = {"status": "succeeded", "sent": clock.moment()}
    await record_all(trusting, [operation(**other | others) for _ in range(100)])
    assert await deleting(trusting) == Result(before, replayed=True)
    assert [request.method for request in emulator.requests] == ["GET"]


@pytest.mark.parametrize("approval", ["plan", "auto"])
async def test_where_no_flag_consents_the_same_call_is_a_new_plan(
    context: Context, emulator: Emulator, clock: ManualClock, approval: str
) -> None:
    known: dict[str, Any] = {"status": "succeeded", "arguments": {"backup_id": TARGET}, "sent": clock.moment()}
    await context.record(operation(**known))
    told = await deleting(under(context, approval=approval))
    assert (told.operation.status, told.replayed, emulator.count("DELETE")) == ("planned", False, 0)


async def test_a_call_without_confirm_is_a_new_plan_even_where_a_flag_consents(
    trusting: Context, emulator: Emulator, clock: ManualClock
) -> None:
    known: dict[str, Any] = {"status": "succeeded", "arguments": {"backup_id": TARGET}, "sent": clock.moment()}
    await trusting.record(operation(**known))
    told = await deleting(trusting, confirm=False)
    assert (told.operation.status, told.replayed, emulator.count("DELETE")) == ("planned", False, 0)


@pytest.mark.parametrize(("minutes", "goes_on"), [(59, True), (120, False)])
async def test_the_same_flagged_call_goes_on_with_a_restore_that_waits_for_its_safety_backup_for_two_hours(
    trusting: Context, emulator: Emulator, clock: ManualClock, minutes: float, goes_on: bool
) -> None:
    emulator.fleet.backups[501].created_at = clock.now()
    arguments = {"server_id": WEB, "backup_id": TARGET, "safety_backup": True}
    target = next(each for each in (await trusting.api.list_backups(WEB)).rows if each.id == TARGET)
    safety = operation("create_backup", "succeeded", backup_id=501, backup=backup(501, hours=0), sent=clock.moment())
    waiting = operation("restore_server", "preparing", arguments=arguments, backup_id=TARGET, backup=target)
    waiting = waiting.updated(policy=policy_digest(trusting.settings))
    await trusting.record(safety)
    await trusting.record(waiting.updated(safety_operation=safety.id, approved_by="flag", created=clock.moment()))
    clock.advance(minutes=minutes)
    told = await restoring(trusting)
    assert (told.operation.id == waiting.id, told.operation.status) == (goes_on, "accepted" if goes_on else "preparing")
    assert len(emulator.fleet.restores) == int(goes_on)


@pytest.mark.parametrize(
    ("fields", "minutes", "error", "what"),
    [
        (None, 0, ConfirmationInvalidError, "There is no operation of that id."),
        (
            {"action": "restore_server"},
            0,
            ConfirmationInvalidError,
            "{id} is a plan for another tool or other arguments.",
        ),
        (
            {"arguments": {"backup_id": 495}},
            0,
            ConfirmationInvalidError,
            "{id} is a plan for another tool or other arguments.",
        ),
        ({}, 10, ConfirmationExpiredError, "The plan {id} is no longer valid."),
        ({"status": "expired"}, 0, ConfirmationExpiredError, "The plan {id} is no longer valid."),
        ({"policy": "0" * 16}, 0, ConfirmationExpiredError, CHANGED_RULES),
        ({"policy": "0" * 16, "status": "preparing"}, 0, ConfirmationExpiredError, CHANGED_RULES),
        (
            {"credential": "another"},
            0,
            ConfirmationInvalidError,
            "{id} was planned for another account, or for another address.",
        ),
    ],
)
async def test_a_call_that_names_a_plan_which_is_not_its_own_is_refused_and_told_why(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    fields: dict[str, Any] | None,
    minutes: float,
    error: type[BackupsError],
    what: str,
) -> None:
    known: dict[str, Any] = {"arguments": {"backup_id": TARGET}, "created": clock.moment()}
    plan = operation(**known | (fields or {}))
    if fields is not None:
        await context.record(plan)
    clock.advance(minutes=minutes)
    with pytest.raises(error) as refusal:
        await deleting(context, operation_id=plan.id)
    assert refusal.value.what == what.format(id=plan.id)
    assert refusal.value.next_step == error.advice
    assert emulator.requests == []
    if error is ConfirmationExpiredError and what != CHANGED_RULES:
        assert (await as_recorded(context, plan)).status == "expired"


@pytest.mark.parametrize("status", ["succeeded", "accepted", "failed", "refused", "declined"])
async def test_a_call_that_names_what_is_over_is_told_what_became_of_it(
    context: Context, emulator: Emulator, clock: ManualClock, status: str
) -> None:
    known: dict[str, Any] = {"arguments": {"backup_id": TARGET}, "backup_id": TARGET, "sent": clock.moment()}
    if status == "succeeded":
        emulator.fleet.delete_backup(TARGET)
        known["evidence"] = "absent from the complete list"
    over = await context.record(operation(status=status, **known))
    assert await deleting(context, operation_id=over.id) == Result(over, replayed=True)
    assert emulator.count("DELETE") == 0


async def test_a_call_that_names_what_was_done_is_told_that_the_list_says_otherwise_by_now(
    context: Context, emulator: Emulator, clock: ManualClock
) -> None:
    """Nothing is so final that seeing the opposite does not correct it."""
    known: dict[str, Any] = {"arguments": {"backup_id": TARGET}, "backup_id": TARGET, "sent": clock.moment()}
    done = await context.record(operation(status="succeeded", **known))
    told = await deleting(context, operation_id=done.id)
    assert (told.operation.id, told.operation.status, told.replayed) == (done.id, "unknown", True)
    assert await as_recorded(context, done) == told.operation
    assert emulator.count("DELETE") == 0


async def test_a_call_that_names_what_a_process_was_sending_that_has_ended_is_told_what_became_of_it(
    context: Context, clock: ManualClock
) -> None:
    known: dict[str, Any] = {"arguments": {"backup_id": 999}, "backup_id": 999, "sent": clock.moment()}
    sending = await context.record(operation(status="sending", owner=DEAD, **known))
    told = await deleting(context, 999, operation_id=sending.id)
    assert (told.operation.id, told.operation.status, told.replayed) == (sending.id, "succeeded", True)


async def test_where_only_reading_is_allowed_not_even_the_recorded_outcome_is_told(context: Context) -> None:
    with pytest.raises(ReadOnlyError):
        await deleting(under(context, read_only=True))


OTHER = "The answer is to a question about something else; about this the user was not asked."
NO = "The client answered no to the question. A client without a person at it does so by itself."
LATE = "The question was put, and no answer came in time."


YES = Reply("accept", {"delete": True})


async def answered(context: Context, named: str, person: Somebody) -> Result:
    return await delete(context, TARGET, confirm=True, operation_id=named, person=person)


@pytest.mark.parametrize(
    ("named", "about", "minutes", "reply", "what"),
    [
        ("", "", 0, Reply("decline"), NO),
        ("", "own", 0, Reply("decline"), NO),
        ("own", "own", 0, Reply("decline"), NO),
        ("own", "other", 0, YES, OTHER),
        ("own", "twin", 0, YES, OTHER),
        ("", "other", 0, YES, OTHER),
        ("", "op_none", 0, YES, OTHER),
        ("", "own", 10, YES, LATE),
    ],
)
async def test_a_person_who_did_not_agree_to_this_very_plan_has_declined_it(
    context: Context,
    emulator: Emulator,
    clock: ManualClock,
    named: str,
    about: str,
    minutes: float,
    reply: Reply,
    what: str,
) -> None:
    plans = {"own": TARGET, "twin": TARGET, "other": 495}
    ids = {name: (await deleting(context, backup_id)).operation.id for name, backup_id in plans.items()}
    clock.advance(minutes=minutes)
    with pytest.raises(DeclinedError) as no:
        await answered(context, ids.get(named, named), Somebody(reply, ids.get(about, about)))
    assert no.value.what == what
    assert no.value.next_step.startswith("Tell the user" if what in {NO, LATE} else "Do not try again")
    assert emulator.count("DELETE") == 0


async def test_what_a_person_declined_is_recorded_with_what_they_said(context: Context) -> None:
    plan = (await deleting(context)).operation
    with pytest.raises(DeclinedError):
        await answered(context, plan.id, Somebody(Reply("decline")))
    declined = await as_recorded(context, plan)
    assert (declined.status, declined.error_code, declined.error) == ("declined", "declined", NO)


@pytest.mark.parametrize(("named", "about"), [("", ""), ("own", ""), ("own", "own"), ("", "own")])
async def test_what_a_person_agreed_to_is_done_and_recorded_as_theirs(
    context: Context, emulator: Emulator, named: str, about: str
) -> None:
    plan = (await deleting(context)).operation
    ids = {"own": plan.id, "": ""}
    person = Somebody(YES, ids[about])
    told = await answered(context, ids[named], person)
    assert person.asked == [(told.operation.id, question_of(told.operation))]
    assert (told.operation.status, told.operation.approved_by) == ("succeeded", "person")
    assert (told.operation.id == plan.id, emulator.count("DELETE")) == (bool(named or about), 1)


@pytest.mark.parametrize("approved_by", ["plan", "flag", "person", "approver", ""])
@pytest.mark.parametrize("approval", ["auto", "plan", "flag", "human", "operator"])
async def test_the_consent_that_a_plan_has_counts_unless_only_a_persons_or_an_approvers_does(
    context: Context, clock: ManualClock, approval: str, approved_by: str
) -> None:
    waiting = await context.record(
        operation(
            status="approved",
            arguments={"backup_id": TARGET},
            backup_id=TARGET,
            approved_by=approved_by,
            created=clock.moment(),
            policy=policy_digest(under(context, approval=approval).settings),
        )
    )
    went_on: list[str] = []

    async def note(_: Context, __: Operation, consent: str) -> Result:
        went_on.append(consent)
        return Result(waiting)

    async def no_plan(_: Context, __: Request) -> Operation:
        raise AssertionError("there is a plan")

    request = Request("delete_backup", {"backup_id": TARGET}, True, waiting.id, Nobody())
    enough = {"human": {"person", "approver"}, "operator": {"approver"}}
    if approved_by not in enough.get(approval, {approved_by}):
        with pytest.raises(DeclinedError):
            await authorize(under(context, approval=approval), request, Steps(no_plan, note))
        assert went_on == []
    else:
        await authorize(under(context, approval=approval), request, Steps(no_plan, note))
        assert went_on == [approved_by or "plan"]
