"""What an approver decides in the console, and what becomes of it."""

import re
from collections.abc import Callable

import httpx2
import pytest

from mcp_backups.operations import Status, set_frozen
from mcp_backups.sandbox import Fault
from tests.console.stage import ORIGIN, USER, Desk, client, form, let_in, send, stay
from tests.stage import recorded, spoil_ledger

pytestmark = pytest.mark.anyio


def named(stage: Desk, description: str) -> int:
    """The backup of a description."""
    return next(each.id for each in stage.emulator.fleet.backups.values() if each.description == description)


ASKED: dict[str, Callable[[Desk], dict[str, object]]] = {
    "delete_backup": lambda _: {"backup_id": 499},
    "restore_server": lambda _: {"server_id": 12345, "backup_id": 499, "safety_backup": False},
    "prune_backups": lambda _: {"server_id": 12346, "keep_last": 1},
}
RIGHT = {"delete_backup": "499", "restore_server": "web-server-01", "prune_backups": "1"}


@pytest.mark.parametrize("tool", ASKED)
async def test_what_is_approved_is_done_when_it_is_called_again(
    stage: Desk, browser: httpx2.AsyncClient, tool: str
) -> None:
    arguments = ASKED[tool](stage)
    operation_id = await stage.ask(tool, **arguments)
    answer = await send(browser, operation_id, "approve", typed=RIGHT[tool])
    assert (answer.status_code, answer.headers["location"]) == (303, f"/?decided={operation_id}")
    page = (await browser.get(answer.headers["location"])).text
    assert "is <strong>approved</strong>" in page
    assert "Approved, and not begun" in page
    assert not [each for each in stage.emulator.requests if each.method != "GET"]
    done = await stage.agent.call(tool, **arguments, confirm=True, operation_id=operation_id)
    assert done.status in {"succeeded", "accepted"}
    (decided,) = (each for each in recorded(stage.context.settings.state_dir) if each.id == operation_id)
    assert decided.decision
    assert (decided.decision.by, decided.decision.how, decided.approved_by) == (USER, "console", "approver")


@pytest.mark.parametrize(
    ("tool", "typed"),
    [
        ("delete_backup", ""),
        ("delete_backup", "yes"),
        ("delete_backup", "4990"),
        ("delete_backup", "web-server-01"),
        ("restore_server", "web-server-02"),
        ("restore_server", "WEB-SERVER-01"),
        ("restore_server", "499"),
        ("prune_backups", "2"),
        ("prune_backups", "12346"),
    ],
)
async def test_what_is_typed_wrong_decides_nothing(
    stage: Desk, browser: httpx2.AsyncClient, tool: str, typed: str
) -> None:
    operation_id = await stage.ask(tool, **ASKED[tool](stage))
    answer = await send(browser, operation_id, "approve", typed=typed)
    assert answer.status_code == 422
    assert f'aria-invalid="true" aria-describedby="fault-{operation_id}"' in answer.text
    assert "Nothing was decided." in answer.text
    assert (await stage.agent.call("get_operation", operation_id=operation_id)).status == "needs_approval"


async def test_what_is_typed_is_compared_as_people_see_it(stage: Desk, browser: httpx2.AsyncClient) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    assert (await send(browser, operation_id, "approve", typed=" \u200b\uff1499 ")).status_code == 303


async def test_a_no_carries_its_reason_to_the_agent(stage: Desk, browser: httpx2.AsyncClient) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    answer = await send(browser, operation_id, "decline", reason="Keep it\nuntil \x1b[31mFriday")
    page = (await browser.get(answer.headers["location"])).text
    assert "is <strong>declined</strong>" in page
    assert "Nothing waits for an approver." in page
    told = await stage.agent.call("get_operation", operation_id=operation_id)
    assert (told.status, told.data["facts"]["approver_said"]) == ("declined", '"Keep it until Friday"')


async def test_a_no_also_takes_an_approval_back(stage: Desk, browser: httpx2.AsyncClient) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    await send(browser, operation_id, "approve", typed="499")
    assert "Take it back" in (await browser.get(f"/operations/{operation_id}")).text
    await send(browser, operation_id, "decline")
    refused = await stage.agent.call("delete_backup", backup_id=499, confirm=True, operation_id=operation_id)
    assert refused.code == "declined" or refused.status == "declined"
    assert stage.emulator.count("DELETE") == 0


async def test_a_form_decides_on_the_plan_that_it_was_shown_with(stage: Desk, browser: httpx2.AsyncClient) -> None:
    first = await stage.ask("delete_backup", backup_id=499)
    second = await stage.ask("delete_backup", backup_id=495)
    other = form((await browser.get("/")).text, f"/operations/{second}/approve")["plan"]
    for plan, status in ((other, 409), ("0" * 64, 409), ("", 409), ("é", 400)):
        assert (await send(browser, first, "approve", typed="499", plan=plan)).status_code == status
    assert {each.status for each in recorded(stage.context.settings.state_dir)} == {Status.WAITING}


@pytest.mark.parametrize(
    ("operation_id", "status"), [("op_aaaaaaaaaaaaaaaa", 409), ("op_AAAA", 404), ("..%2fx", 404), ("1", 404)]
)
async def test_there_is_nothing_to_decide_on_what_is_not_there(
    stage: Desk, browser: httpx2.AsyncClient, operation_id: str, status: int
) -> None:
    waiting = await stage.ask("delete_backup", backup_id=499)
    fields = form((await browser.get("/")).text, f"/operations/{waiting}/approve")
    for verb in ("approve", "decline"):
        answer = await browser.post(
            f"/operations/{operation_id}/{verb}", data=fields | {"typed": "499"}, headers={"Origin": ORIGIN}
        )
        assert answer.status_code == status


async def test_a_decision_is_made_once_and_in_time(stage: Desk, browser: httpx2.AsyncClient) -> None:
    first = await stage.ask("delete_backup", backup_id=499)
    second = await stage.ask("delete_backup", backup_id=495)
    page = (await browser.get("/")).text
    yes = form(page, f"/operations/{first}/approve") | {"typed": "499"}
    late = form(page, f"/operations/{second}/approve") | {"typed": "495"}
    sent = [await browser.post(f"/operations/{first}/approve", data=yes, headers={"Origin": ORIGIN}) for _ in "12"]
    assert [each.status_code for each in sent] == [303, 409]
    assert f"is approved by {USER}" in sent[1].text
    stay(stage)
    stage.clock.advance(hours=24)
    answer = await browser.post(f"/operations/{second}/approve", data=late, headers={"Origin": ORIGIN})
    assert answer.status_code == 410
    assert "no longer valid" in answer.text


async def test_only_named_approvers_decide_and_others_may_look(stage: Desk) -> None:
    operation_id = await stage.ask("delete_backup", backup_id=499)
    async with client(stage) as approver:
        cookies = let_in(stage)
        approver.cookies.update(cookies)
        fields = form((await approver.get("/")).text, f"/operations/{operation_id}/approve") | {"typed": "499"}
    settings = stage.context.settings.model_copy(update={"approvers": frozenset({"grace"})})
    object.__setattr__(stage.context, "settings", settings)
    async with client(stage) as other:
        other.cookies.update(cookies)
        page = (await other.get("/")).text
        assert "Only approvers can decide, and nobody who may ask for this" in page
        assert "<form" not in page
        for verb in ("approve", "decline"):
            path = f"/operations/{operation_id}/{verb}"
            assert (await other.post(path, data=fields, headers={"Origin": ORIGIN})).status_code == 403


async def test_what_is_there_now_stands_beside_what_the_plan_shows(stage: Desk, browser: httpx2.AsyncClient) -> None:
    prune = await stage.ask("prune_backups", server_id=12345, keep_last=1)
    delete = await stage.ask("delete_backup", backup_id=495)
    same = (await browser.get("/")).text
    assert same.count("As the plan shows it.") == 2
    assert same.count("<dt>proven backups left</dt>") == 3  # of both by now, and of one by its plan
    fleet = stage.emulator.fleet
    stage.emulator.fleet.delete_backup(named(stage, "Before PHP 8.3"))
    fleet.backups[495].status = "failed"
    other = (await browser.get("/")).text
    assert other.count("Not as the plan shows it.") == 2
    assert "<dt>gone</dt>" in _card(other, prune)
    assert "<dt>changed</dt><dd>495</dd>" in _card(other, delete)
    stage.emulator.fail(Fault.status(503), times=None)
    assert (await browser.get("/")).text.count("<strong>Not known</strong> (upstream unavailable)") == 2


def _card(page: str, operation_id: str) -> str:
    found = re.search(rf'<article class="card" id="{operation_id}".*?</article>', page, re.DOTALL)
    assert found
    return found[0]


async def test_a_freeze_is_told_on_every_page(stage: Desk, browser: httpx2.AsyncClient) -> None:
    await stage.ask("delete_backup", backup_id=499)
    await set_frozen(stage.context.ledger, "grace", "Look <b>first</b>", freeze=True)
    for path in ("/", "/fleet", "/operations", "/log"):
        page = (await browser.get(path)).text
        assert "<strong>Everything is frozen</strong> since 2026-11-23 09:30 UTC by grace" in page
        assert "Look &lt;b&gt;first&lt;/b&gt;" in page


async def test_where_the_ledger_cannot_be_read_that_is_said(stage: Desk, browser: httpx2.AsyncClient) -> None:
    spoil_ledger(stage.context.settings.state_dir)
    for path in ("/", "/operations", "/log"):
        answer = await browser.get(path)
        assert answer.status_code == 503
        assert "The ledger cannot be" in answer.text
    assert (await browser.get("/fleet")).status_code == 200
