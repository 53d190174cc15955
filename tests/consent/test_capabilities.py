"""Whether a client can ask its user is taken from what it declares, with each request where the protocol has it so."""

from functools import partial

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_backups.access import LOCAL, PRINCIPAL, Principal
from mcp_backups.sandbox import Emulator
from mcp_backups.server import build_server
from mcp_backups.settings import Approval
from mcp_backups.transport import open_context
from tests.consent.conftest import House
from tests.consent.test_matrix import accept
from tests.consent.user import agreeing
from tests.consent.wire import MODERN, VERSIONS, Caller, Message, as_answer
from tests.stage import PROMPT, Answer, MakeSettings, ManualClock, Session, on_emulator

DECLARED: list[tuple[Message, bool]] = [
    ({"elicitation": {}}, True),
    ({"elicitation": {"form": {}}}, True),
    ({"elicitation": {"form": {}, "url": {}}}, True),
    ({"elicitation": {"url": {}}}, False),
    ({}, False),
    ({"sampling": {}, "roots": {}}, False),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("capabilities", "can_ask"), DECLARED)
def test_a_client_can_ask_if_it_declares_forms(
    house: House, version: str, capabilities: Message, can_ask: bool
) -> None:
    backup_id = house.new_backup()
    caller = house.caller("auto", "HTTP", version, capabilities)
    answer = caller.call("delete_backup", accept, backup_id=backup_id, confirm=True)
    assert (len(caller.asked), house.deletes(backup_id)) == (can_ask, can_ask)
    assert answer.status == ("succeeded" if can_ask else "needs_confirmation")


@pytest.mark.parametrize("approval", ["auto", "human"])
def test_each_request_is_taken_at_its_own_word(house: House, approval: str) -> None:
    backup_id = house.new_backup()
    can, cannot = callers(house, approval)
    assert can.round("delete_backup", {"backup_id": backup_id, "confirm": True})["result"]["inputRequests"]
    answer = cannot.call("delete_backup", backup_id=backup_id, confirm=True)
    assert (answer.code or answer.status) == ("needs_approval" if approval == "human" else "needs_confirmation")
    assert house.deletes(backup_id) == 0


@pytest.mark.parametrize("approval", ["auto", "human"])
@pytest.mark.parametrize("named", [False, True])
def test_a_no_counts_even_if_the_request_that_brings_it_declares_nothing(
    house: House, approval: str, named: bool
) -> None:
    """A user's no must not turn into the consent of a client that cannot ask."""
    backup_id = house.new_backup()
    can, cannot = callers(house, approval)
    arguments: Message = {"backup_id": backup_id}
    if named:
        arguments["operation_id"] = can.call("delete_backup", backup_id=backup_id).operation
    question = can.round("delete_backup", arguments | {"confirm": True})
    no = can.answered(question, lambda _: {"action": "decline"})
    answer = as_answer(cannot.round("delete_backup", arguments | {"confirm": True}, **no)["result"])
    assert answer.text.startswith("declined: The client answered no to the question.")
    assert house.deletes(backup_id) == 0


def test_a_question_left_unanswered_is_not_consent(house: House) -> None:
    backup_id = house.new_backup()
    can, cannot = callers(house, "auto")
    arguments = {"backup_id": backup_id, "confirm": True}
    question = can.round("delete_backup", arguments)
    state = question["result"]["requestState"]
    answer = as_answer(cannot.round("delete_backup", arguments, requestState=state)["result"])
    assert (answer.status, house.deletes(backup_id)) == ("needs_confirmation", 0)


def callers(house: House, approval: str) -> tuple[Caller, Caller]:
    """The same client, declaring that it can ask, and declaring nothing."""
    return (
        house.caller(approval, "HTTP", MODERN, {"elicitation": {}}),
        house.caller(approval, "HTTP", MODERN, {}),
    )


def as_local_user(app: ASGIApp) -> ASGIApp:
    """What is behind the gate, for a request that was let in."""

    async def passed(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, PRINCIPAL: Principal(LOCAL)}, receive, send)

    return passed


@pytest.mark.anyio
@pytest.mark.parametrize("form", [{"stateless_http": True}, {"json_response": True}])
@pytest.mark.parametrize("approval", ["auto", "human"])
async def test_without_a_way_back_to_the_client_it_cannot_ask(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings, form: dict[str, bool], approval: Approval
) -> None:
    """Before 2026-07-28 a question is a request of the server's, for which these two forms of HTTP have no way."""
    user = agreeing()
    settings = on_emulator(make_settings(approval=approval), emulator)
    server = build_server(settings, partial(open_context, settings, clock.clock, PROMPT))
    app = as_local_user(server.streamable_http_app(**form))  # type: ignore[arg-type]
    async with server.session_manager.run(), httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http:
        over = streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)
        async with Client(over, mode="legacy", elicitation_callback=user) as client:
            agent = Session(client)
            answer: Answer = await agent.call("delete_backup", backup_id=499, confirm=True)
            tools = await client.list_tools()
    assert (answer.code or answer.status) == ("needs_approval" if approval == "human" else "needs_confirmation")
    assert "delete_backup" in {tool.name for tool in tools.tools}
    assert (user.asked, emulator.count("DELETE")) == ([], 0)
