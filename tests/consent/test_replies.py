"""Whatever is not the user's own yes to this very question changes nothing, and the model is told so."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp_types import ElicitResult, ErrorData, InputRequiredResult, InputResponse, ListRootsResult

from mcp_backups.sandbox import Backup, Emulator
from tests.consent.user import Action, User, agreeing
from tests.consent.wire import as_answer
from tests.stage import Answer, Era, MakeSettings, ManualClock, Session, recorded, session

pytestmark = pytest.mark.anyio

AgentOf = Callable[..., AbstractAsyncContextManager[Session]]

NOT_AGAIN = "Nothing was changed. Do not try again unless the user asks for it."
BY_ITSELF = "A client without a person at it does so by itself."
TELL = "Nothing was changed. Tell the user what came back. Do not try again unless the user asks for it."
NOT_CONFIRMED = f"declined: The question was answered, and the answer did not confirm it. {TELL}"
BLANK = (
    "declined: The client says that the user accepted, but passed on nothing of what they filled in: "
    "that is no consent. Nothing was changed. Do not try again with this client. "
    "Tell the user that it did not pass their answer on."
)
SAID_NO = f"declined: The client answered no to the question. {BY_ITSELF} {TELL}"
DISMISSED = f"declined: The client dismissed the question without an answer. {BY_ITSELF} {TELL}"
TOO_LATE = f"declined: The question was put, and no answer came in time. {TELL}"
OTHER = f"declined: The answer is to a question about something else; about this the user was not asked. {NOT_AGAIN}"
FORGED = f"declined: The answer is to no question that was asked here; the user was not asked. {NOT_AGAIN}"
NO_ANSWER = (
    f"declined: The client was to ask the user, but brought no answer back; they may not have been asked. {TELL}"
)

REPLIES: list[tuple[Action, dict[str, Any] | None, str]] = [
    ("decline", None, SAID_NO),
    ("decline", {"delete": True}, SAID_NO),
    ("cancel", None, DISMISSED),
    ("cancel", {"delete": True}, DISMISSED),
    ("accept", None, BLANK),
    ("accept", {}, BLANK),
    ("accept", {"delete": None}, BLANK),
    ("accept", {"delete": ""}, NOT_CONFIRMED),
    ("accept", {"delete": 1.0}, NOT_CONFIRMED),
    ("accept", {"delete": False}, NOT_CONFIRMED),
    ("accept", {"delete": "true"}, NOT_CONFIRMED),
    ("accept", {"delete": "yes"}, NOT_CONFIRMED),
    ("accept", {"delete": 1}, NOT_CONFIRMED),
    ("accept", {"delete": ["true"]}, NOT_CONFIRMED),
    ("accept", {"Delete": True}, NOT_CONFIRMED),
    ("accept", {"confirm": True}, NOT_CONFIRMED),
    ("accept", {"delete": True, "everything": True}, NOT_CONFIRMED),
]


@pytest.fixture
def agent_of(emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings) -> AgentOf:
    """`async with agent_of(user) as agent`: a session whose client asks this user."""

    def open_session(user: ElicitationFnT, **settings: Any) -> AbstractAsyncContextManager[Session]:
        return session(emulator, make_settings(**settings), clock, era, elicitation_callback=user)

    return open_session


@pytest.mark.parametrize(("action", "content", "told"), REPLIES)
async def test_only_the_very_yes_deletes(
    agent_of: AgentOf, emulator: Emulator, action: Action, content: dict[str, Any] | None, told: str
) -> None:
    user = User(action, content)
    async with agent_of(user) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.text, answer.is_error, len(user.asked)) == (told, True, 1)
    assert emulator.count("DELETE") == 0
    assert 499 in emulator.fleet.backups


@pytest.mark.parametrize("typed", ["mail-server-02", "MAIL-SERVER-01", "12351", "yes", "", True])
async def test_only_the_servers_name_restores(agent_of: AgentOf, emulator: Emulator, typed: object) -> None:
    async with agent_of(agreeing(server_name=typed)) as agent:
        answer = await agent.call("restore_server", server_id=12351, backup_id=383, confirm=True)
    assert answer.text == NOT_CONFIRMED
    assert emulator.count("POST") == 0


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Caf\u00e9-01", "Cafe\u0301-01"),
        ("Cafe\u0301-01", "Caf\u00e9-01"),
        ("web \u2764", "web \u2764\ufe0f"),
        ("web \u2764\ufe0f", "web \u2764"),
        ("\U0001f468\u200d\U0001f469 home", "\U0001f468\U0001f469 home"),
        ("web\u00a001", "web 01"),
        ("web 01", "web\u00a001"),
        ("web  01", "web 01"),
        ("web 01", " web  01 "),
        ("\uff57\uff45\uff42-01", "web-01"),
        ("web-01", "\uff57\uff45\uff42-01"),
        ("soft\u00adhyphen", "softhyphen"),
        ("web\u200b-01", "web-01\ufeff"),
        ("Anna's web", "Anna\u2019s web"),
        ("\ud55c\uad6d", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
    ],
)
async def test_a_name_counts_as_people_see_it(agent_of: AgentOf, emulator: Emulator, name: str, typed: str) -> None:
    """Keyboards and systems spell the same letters in several ways."""
    emulator.fleet.servers[12351].name = name
    async with agent_of(agreeing(server_name=typed)) as agent:
        answer = await agent.call("restore_server", server_id=12351, backup_id=383, safety_backup=False, confirm=True)
    assert (answer.status, answer.approved_by) == ("accepted", "person")
    assert [restore.backup_id for restore in emulator.fleet.restores] == [383]


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Café-01", "Cafe-01"),
        ("web-01", "Web-01"),
        ("web 01", "web01"),
        ("\u0430-01", "a-01"),
        ("web-01", "web\u201001"),
    ],
)
async def test_another_name_does_not(agent_of: AgentOf, emulator: Emulator, name: str, typed: str) -> None:
    emulator.fleet.servers[12351].name = name
    async with agent_of(agreeing(server_name=typed)) as agent:
        answer = await agent.call("restore_server", server_id=12351, backup_id=383, safety_backup=False, confirm=True)
    assert (answer.text, emulator.count("POST")) == (NOT_CONFIRMED, 0)


@pytest.mark.parametrize("name", ["x" * 65, "x" * 300, "web " * 60, "cut\u2026", "\u200b\u2800"])
async def test_for_a_name_that_nobody_can_type_the_servers_id_is_asked_for(
    agent_of: AgentOf, emulator: Emulator, name: str
) -> None:
    emulator.fleet.servers[12351].name = name
    user = agreeing(server_id="12351")
    async with agent_of(user) as agent:
        answer = await agent.call("restore_server", server_id=12351, backup_id=383, safety_backup=False, confirm=True)
    assert user.questions[0].requested_schema["properties"]["server_id"]["title"] == (
        "Type the server's id to restore it"
    )
    assert (answer.status, len(emulator.fleet.restores)) == ("accepted", 1)


@pytest.mark.parametrize(
    ("count", "deletes"), [(2, 2), (2.0, 2), (2.5, 0), ("2", 0), (True, 0), (3, 0), (3.0, 0), (float(10**300), 0)]
)
async def test_a_whole_number_counts_however_it_is_written(
    agent_of: AgentOf, emulator: Emulator, clock: ManualClock, count: object, deletes: int
) -> None:
    """JSON has one kind of number; some clients send every one with a decimal point."""
    old = [Backup(number, 12360, clock.now() - timedelta(days=9), "manual", size_mb=1) for number in (901, 902)]
    young = [Backup(number, 12360, clock.now() - timedelta(days=2), "manual", size_mb=1) for number in (903, 904)]
    emulator.fleet.backups |= {backup.id: backup for backup in old + young}
    async with agent_of(agreeing(count=count)) as agent:
        await agent.call("prune_backups", server_id=12360, keep_last=2, confirm=True)
    assert emulator.count("DELETE") == deletes


async def test_no_safety_backup_is_made_before_the_user_agreed(agent_of: AgentOf, emulator: Emulator) -> None:
    async with agent_of(User("decline")) as agent:
        await agent.call("restore_server", server_id=12351, backup_id=383, confirm=True)
    assert emulator.count("POST") == 0


async def test_a_restore_waits_for_its_safety_backup_and_asks_only_once(agent_of: AgentOf, emulator: Emulator) -> None:
    user = agreeing(server_name="mail-server-01")
    async with agent_of(user) as agent:
        first = {"server_id": 12351, "backup_id": 383, "wait_seconds": 0, "confirm": True}
        preparing = await agent.call("restore_server", **first)
        assert (preparing.status, emulator.fleet.restores) == ("preparing", [])
        emulator.finish_all()
        again = {"server_id": 12351, "backup_id": 383, "confirm": True, "operation_id": preparing.operation}
        done = await agent.call("restore_server", **again)
        replayed = await agent.call("restore_server", **again)
    assert (done.status, done.approved_by, replayed.replayed) == ("accepted", "person", True)
    assert (len(emulator.fleet.restores), len(user.asked)) == (1, 1)


async def test_a_client_that_fails_to_ask_has_not_asked(
    emulator: Emulator, clock: ManualClock, make_settings: MakeSettings
) -> None:
    """Some clients declare that they can ask, and then cannot. Since 2026-07-28 they find that out themselves."""

    async def broken(context: object, params: object) -> ErrorData:
        del context, params
        return ErrorData(code=-32603, message="no window to show it in")

    async with session(emulator, make_settings(), clock, "legacy", elicitation_callback=broken) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.text, emulator.count("DELETE")) == (NO_ANSWER, 0)


async def test_a_no_is_recorded_and_the_same_plan_cannot_be_confirmed_any_more(
    agent_of: AgentOf, emulator: Emulator, make_settings: MakeSettings
) -> None:
    user = User("decline")
    async with agent_of(user) as agent:
        plan = await agent.call("delete_backup", backup_id=499)
        await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
        user.action, user.content = "accept", {"delete": True}
        answer = await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
    assert answer.text.startswith("declined: The client answered no to the question. ")
    assert answer.data["next_step"].endswith("Do not try again unless the user asks for it.")
    assert (len(user.asked), emulator.count("DELETE")) == (1, 0)
    (operation,) = recorded(make_settings().state_dir)
    assert (operation.status, operation.approved_by) == ("declined", "")


async def test_a_yes_redeems_the_plan_that_was_shown_and_only_once(
    agent_of: AgentOf, emulator: Emulator, make_settings: MakeSettings
) -> None:
    async with agent_of(agreeing()) as agent:
        plan = await agent.call("delete_backup", backup_id=499)
        confirmed = {"backup_id": 499, "confirm": True, "operation_id": plan.operation}
        done = await agent.call("delete_backup", **confirmed)
        again = await agent.call("delete_backup", **confirmed)
    assert (done.operation, done.status, done.approved_by) == (plan.operation, "succeeded", "person")
    assert (again.operation, again.replayed, emulator.count("DELETE")) == (plan.operation, True, 1)
    assert [each.approved_by for each in recorded(make_settings().state_dir)] == ["person"]


async def test_the_user_is_not_asked_about_what_the_rules_forbid(agent_of: AgentOf) -> None:
    user = agreeing()
    async with agent_of(user, protected_backups=[499]) as agent:
        forbidden = await agent.call("delete_backup", backup_id=499, confirm=True)
        last_good = await agent.call("delete_backup", backup_id=447, confirm=True)
    assert (forbidden.code, last_good.code, user.asked) == ("policy_denied", "policy_denied", [])


async def test_a_yes_does_not_help_when_the_backup_changed_meanwhile(agent_of: AgentOf, emulator: Emulator) -> None:
    def change() -> None:
        emulator.fleet.backups[499].description = "Precious"

    async with agent_of(User("accept", {"delete": True}, change)) as agent:
        answer = await agent.call("delete_backup", backup_id=499, confirm=True)
    assert (answer.code, emulator.count("DELETE")) == ("target_changed", 0)


class Rounds:
    """A client of 2026-07-28 that carries question and answer by hand."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, tool: str = "delete_backup", /, **arguments: Any) -> str:
        """The sealed state that comes with a question."""
        asked = await self._client.session.call_tool(tool, arguments, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        assert asked.request_state
        return asked.request_state

    async def answer(
        self, state: str, reply: InputResponse, tool: str = "delete_backup", /, **arguments: Any
    ) -> Answer:
        """The same or another call, with an answer."""
        result = await self._client.session.call_tool(
            tool, arguments, input_responses={"consent": reply}, request_state=state, allow_input_required=True
        )
        return as_answer(result.model_dump(mode="json", by_alias=True, exclude_none=True))


YES = ElicitResult(action="accept", content={"delete": True})
ROUND = {"backup_id": 499, "confirm": True}


@pytest.fixture
async def rounds(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> AsyncIterator[Rounds]:
    async with session(emulator, make_settings(), clock, "auto", elicitation_callback=User()) as agent:
        yield Rounds(agent.client)


async def test_an_answer_counts_once_however_often_it_is_sent(rounds: Rounds, emulator: Emulator) -> None:
    state = await rounds.ask(**ROUND)
    first = await rounds.answer(state, YES, **ROUND)
    again = [await rounds.answer(state, YES, **ROUND) for _ in range(3)]
    assert (first.status, first.replayed, first.approved_by) == ("succeeded", False, "person")
    assert [each.replayed for each in again] == [True] * 3
    assert {each.operation for each in again} == {first.operation}
    assert emulator.count("DELETE") == 1


async def test_a_yes_after_a_no_to_the_same_question_counts_for_nothing(rounds: Rounds, emulator: Emulator) -> None:
    state = await rounds.ask(**ROUND)
    no = await rounds.answer(state, ElicitResult(action="decline"), **ROUND)
    yes = await rounds.answer(state, YES, **ROUND)
    assert (no.text, yes.status, yes.replayed) == (SAID_NO, "declined", True)
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("delete_backup", {"backup_id": 495, "confirm": True}),
        ("restore_server", {"server_id": 12345, "backup_id": 499, "confirm": True}),
    ],
)
async def test_an_answer_about_one_thing_is_none_about_another(
    rounds: Rounds, emulator: Emulator, tool: str, arguments: dict[str, Any]
) -> None:
    state = await rounds.ask(**ROUND)
    answer = await rounds.answer(state, YES, tool, **arguments)
    assert answer.text == OTHER
    assert emulator.count("DELETE") + emulator.count("POST") == 0


async def test_an_answer_about_one_plan_is_none_about_another(rounds: Rounds, emulator: Emulator) -> None:
    state = await rounds.ask(**ROUND)
    about = await rounds.answer(await rounds.ask(**ROUND), ElicitResult(action="decline"), **ROUND)
    assert about.text == SAID_NO
    other = await rounds.answer(state, YES, **ROUND, operation_id="op_aaaaaaaaaaaaaaaa")
    assert (other.text, emulator.count("DELETE")) == (OTHER, 0)


@pytest.mark.parametrize(
    "forge",
    [
        lambda _: "",
        lambda _: "nonsense",
        lambda _: "v1.é",
        lambda _: '{"operation_id": "op_aaaaaaaaaaaaaaaa"}',
        lambda state: state[: len(state) // 2],
        lambda state: state[:-8] + "AAAABBBB",
        lambda state: state.replace("v1.", "v2."),
        lambda state: state * 100,
    ],
)
async def test_a_state_that_was_not_sealed_here_is_no_answer(
    rounds: Rounds, emulator: Emulator, forge: Callable[[str], str]
) -> None:
    state = await rounds.ask(**ROUND)
    assert (await rounds.answer(forge(state), YES, **ROUND)).text == FORGED
    assert emulator.count("DELETE") == 0


async def test_what_is_no_answer_to_a_form_is_none(rounds: Rounds, emulator: Emulator) -> None:
    state = await rounds.ask(**ROUND)
    assert (await rounds.answer(state, ListRootsResult(roots=[]), **ROUND)).text == NO_ANSWER
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize("minutes", [5, 9, 11, 60 * 24])
async def test_an_answer_after_five_minutes_is_none(
    rounds: Rounds, emulator: Emulator, clock: ManualClock, minutes: int
) -> None:
    state = await rounds.ask(**ROUND)
    clock.advance(minutes=minutes)
    assert (await rounds.answer(state, YES, **ROUND)).text == TOO_LATE
    assert emulator.count("DELETE") == 0


async def test_an_answer_within_five_minutes_counts(rounds: Rounds, emulator: Emulator, clock: ManualClock) -> None:
    state = await rounds.ask(**ROUND)
    clock.advance(minutes=4, seconds=59)
    assert (await rounds.answer(state, YES, **ROUND)).status == "succeeded"
    assert emulator.count("DELETE") == 1


async def test_setting_the_clock_back_gives_no_more_time(
    rounds: Rounds, emulator: Emulator, clock: ManualClock
) -> None:
    state = await rounds.ask(**ROUND)
    clock.step(hours=-1)
    assert (await rounds.answer(state, YES, **ROUND)).text == TOO_LATE
    assert emulator.count("DELETE") == 0


async def test_a_call_that_brings_no_answer_is_asked_the_same_again(rounds: Rounds, emulator: Emulator) -> None:
    client = rounds._client.session
    first = await client.call_tool("delete_backup", ROUND, allow_input_required=True)
    assert isinstance(first, InputRequiredResult)
    second = await client.call_tool(
        "delete_backup", ROUND, request_state=first.request_state, allow_input_required=True
    )
    assert isinstance(second, InputRequiredResult)
    assert second.input_requests == first.input_requests
    assert emulator.count("DELETE") == 0
