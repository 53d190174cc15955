"""Why an approver cannot decide, in the words that they are told."""

from typing import Any

import pytest

from mcp_backups.errors import BackupsError
from mcp_backups.operations import Context, Decision, Operation, decide, pending_one

from .made import MOMENT, ago, operation, record_all, under

pytestmark = pytest.mark.anyio

OWN = "op_aaaaaaaaaaaaaaaa"
OVER: dict[str, Any] = {"leave": {"since": ago(hours=3, ticking=3 * 3600), "lasts": "PT2H"}}
DECIDED = Decision(by="anna", how="terminal", at=MOMENT, plan="")
ELSE, NOTHING = "Let somebody else decide.", "There is nothing to decide on it."


def waits(status: str = "waiting", **fields: Any) -> Operation:
    made = operation("delete_backup", status, id=OWN, approved_by="", principal="https://id.example#her", **fields)
    return made.updated(sent=fields.get("sent"))


@pytest.mark.parametrize("approve", [True, False])
@pytest.mark.parametrize(
    ("asked", "by", "rules", "told", "advice"),
    [
        (None, "anna", {}, "There is no operation of that id.", "`mcp-backups approvals` lists what waits."),
        (waits(**OVER), "anna", {}, f"The plan {OWN} is no longer valid.", "It has to be asked for again."),
        (waits("expired"), "anna", {}, f"The plan {OWN} is no longer valid.", "It has to be asked for again."),
        (
            waits("planned"),
            "anna",
            {},
            f"The status of {OWN} is planned.",
            "There is something to decide once the agent has confirmed its plan.",
        ),
        (waits("succeeded", sent=MOMENT), "anna", {}, f"The status of {OWN} is succeeded.", NOTHING),
        (waits("approved", sent=MOMENT), "anna", {}, f"The status of {OWN} is approved.", NOTHING),
        (waits("declined"), "anna", {}, f"The status of {OWN} is declined.", NOTHING),
        (waits("declined", decision=DECIDED), "anna", {}, f"{OWN} is declined by anna.", NOTHING),
        (waits("refused", decision=DECIDED), "anna", {}, f"The status of {OWN} is refused.", NOTHING),
        (waits(), "", {}, "It is not known who decides: their name is empty.", ELSE),
        (waits(), "zoë", {"approvers": {"anna"}}, '"zoë" is none of the approvers.', "Let one of them decide."),
    ],
)
async def test_who_cannot_decide_is_told_why_and_what_to_do(
    context: Context, asked: Operation | None, by: str, rules: dict[str, Any], told: str, advice: str, *, approve: bool
) -> None:
    context = under(context, approval="operator", **rules)
    await record_all(context, [asked or operation("create_backup", "succeeded")])
    with pytest.raises(BackupsError) as refusal:
        await decide(context, OWN, DECIDED.model_copy(update={"by": by}), approve=approve)
    assert (refusal.value.what, refusal.value.next_step) == (told, advice)


async def test_without_a_ledger_nothing_is_there_to_decide_on(context: Context) -> None:
    with pytest.raises(BackupsError) as refusal:
        await pending_one(context, OWN, approve=True)
    assert refusal.value.what == "There is no operation of that id."


async def test_who_asked_is_told_that_another_must_decide(context: Context) -> None:
    context = under(context, approval="operator")
    await record_all(context, [waits().updated(principal="https://id.example#zoë")])
    shown = await pending_one(context, OWN, approve=True)
    with pytest.raises(BackupsError) as refusal:
        await decide(context, OWN, DECIDED.model_copy(update={"by": "zoë", "plan": shown.mac}), approve=True)
    assert refusal.value.what == '"zoë" asked for this, and so may not approve it.'
    assert refusal.value.next_step == ELSE


async def test_who_asked_for_something_else_lately_is_told_so(context: Context) -> None:
    """What makes a backup needs no such right."""
    context = under(context, approval="operator")
    others = [
        operation("create_backup", "succeeded", principal="https://id.example#jim"),
        operation("delete_backup", "planned", principal="https://id.example#zoë"),
        operation("delete_backup", "planned", principal="tom"),
    ]
    await record_all(context, [waits(), *others])
    shown = await pending_one(context, OWN, approve=True)

    async def decided(by: str) -> Operation:
        return await decide(context, OWN, DECIDED.model_copy(update={"by": by, "plan": shown.mac}), approve=True)

    with pytest.raises(BackupsError) as refusal:
        await decided("zoë")
    assert refusal.value.what == '"zoë" may ask for this over HTTP, and so may not approve it.'
    assert refusal.value.next_step == ELSE
    assert (await decided("jim")).status == "approved"


@pytest.mark.parametrize("approve", [True, False])
async def test_a_decision_on_another_plan_than_was_shown_is_refused(context: Context, *, approve: bool) -> None:
    context = under(context, approval="operator")
    await record_all(context, [waits()])
    with pytest.raises(BackupsError) as refusal:
        await decide(context, OWN, DECIDED, approve=approve)
    assert refusal.value.what == f"{OWN} is not the plan that was shown."
    assert refusal.value.next_step == "Look at it again, then decide."


@pytest.mark.parametrize("approve", [True, False])
async def test_a_decision_is_recorded_with_who_and_why_and_begins_a_time_of_its_own(
    context: Context, *, approve: bool
) -> None:
    context = under(context, approval="operator")
    await record_all(context, [waits(leave={"since": MOMENT, "lasts": "P3D"})])
    shown = await pending_one(context, OWN, approve=approve)
    said = {"by": "anna\u200b", "reason": "Friday\x07", "plan": shown.mac}
    decided = await decide(context, OWN, DECIDED.model_copy(update=said), approve=approve)
    assert decided.decision == DECIDED.model_copy(update={"by": "anna", "reason": "Friday", "plan": shown.mac})
    if approve:
        assert (decided.status, decided.approved_by, decided.life.lasts.seconds) == ("approved", "approver", 3600)
    else:
        assert (decided.status, decided.approved_by, decided.leave) == ("declined", "", None)
        assert (decided.error, decided.error_code) == ("An approver declined it.", "declined")
