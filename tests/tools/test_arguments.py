"""Arguments are as the schema says or refused by name, before anything is asked of VPS.org or recorded."""

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator
from mcp_backups.tools import TOOLS
from mcp_backups.tools.tool import HOST_ARGUMENTS, as_sent
from tests.stage import Answer, Session

pytestmark = pytest.mark.anyio

VALID: dict[str, dict[str, Any]] = {
    "list_backups": {},
    "create_backup": {"server_id": 12345},
    "delete_backup": {"backup_id": 501},
    "restore_server": {"server_id": 12345, "backup_id": 501},
    "get_operation": {"operation_id": "op_aaaaaaaaaaaaaaaa"},
    "check_backups": {},
    "prune_backups": {"server_id": 12345, "keep_last": 3},
}
"""The least that each tool takes."""

CANARY = "canary-1f2e3d"


def of_type(kind: str) -> list[tuple[str, str]]:
    return [
        (tool.name, name)
        for tool in TOOLS
        for name, schema in tool.input_schema["properties"].items()
        if schema["type"] == kind
    ]


def assert_refused(answer: Answer, emulator: Emulator, *named: str) -> None:
    """Refused in our own words that name the argument, and nothing was asked of VPS.org."""
    assert answer.code == "invalid_argument", answer.text
    assert answer.structured is None
    assert all(name in answer.text for name in named), answer.text
    assert "Nothing was changed." in answer.text
    assert not re.search(r"pydantic|https?://|validation error|input_value|Input should|type=", answer.text), (
        answer.text
    )
    assert answer.text.isprintable()
    assert "x" * 41 not in answer.text
    assert len(answer.text) < 700
    assert emulator.requests == []
    assert emulator.connections == 0


def test_the_table_of_valid_calls_names_every_tool() -> None:
    assert {tool.name for tool in TOOLS} <= set(VALID)


BAD_FLAGS: list[tuple[Any, str]] = [
    ("yes", "text 'yes'"),
    ("on", "text 'on'"),
    ("True", "text 'True'"),
    ("TRUE", "text 'TRUE'"),
    (" true", "text 'true', with spaces or invisible characters left out here"),
    ("true\n", "text 'true', with spaces or invisible characters left out here"),
    ("", "text ''"),
    (1, "1"),
    (0, "0"),
    (1.0, "1.0"),
    ([], "a list"),
    ([True], "a list"),
    ({}, "an object"),
]
BAD_IDS: list[tuple[Any, str]] = [
    (True, "true"),
    (False, "false"),
    ("yes", "text 'yes'"),
    ("", "text ''"),
    ("5_01", "text '5_01'"),
    ("501abc", "text '501abc'"),
    ("0501", "text '0501'"),
    ("+501", "text '+501'"),
    ("-1", "text '-1'"),
    ("501.0", "text '501.0'"),
    ("5e2", "text '5e2'"),
    ("0x1f5", "text '0x1f5'"),
    (" 501", "text '501', with spaces or invisible characters left out here"),
    ("501\n", "text '501', with spaces or invisible characters left out here"),
    ("\x1b[31m501\u202e", "text '501', with spaces or invisible characters left out here"),
    ("\u0665\u0660\u0661", "text '\u0665\u0660\u0661'"),
    ("null", "text 'null'"),
    ("9" * 16, "text '9999999999999999'"),
    ("9" * 17, "text '99999999999999999'"),
    ("x" * 500, "text '" + "x" * 40 + "…' of 500 characters"),
    ("x" * 5000, "text '" + "x" * 40 + "…' of 5000 characters"),
    (501.5, "501.5"),
    (1e300, "1e+300"),
    (float(2**53), "9007199254740992.0"),
    (-1, "-1"),
    (-1.0, "-1.0"),
    (2**53, "9007199254740992"),
    (10**30, "1000000000000000000000000000000"),
    (10**100, "a number of more than 38 digits"),
    ([501], "a list"),
    ({"id": 501}, "an object"),
]
BAD_TEXTS: list[Any] = [1, True, 1.5, ["op_aaaaaaaaaaaaaaaa"], {"text": "x"}, "x" * 1000]


@pytest.mark.parametrize(("tool", "name"), of_type("boolean"))
async def test_a_flag_is_true_or_false_and_nothing_like_it(
    agent: Session, emulator: Emulator, tool: str, name: str
) -> None:
    """F66: clients and models send words and numbers for flags."""
    for value, came in BAD_FLAGS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be true or false; got {came}. Nothing")


@pytest.mark.parametrize(("tool", "name"), of_type("integer"))
async def test_a_number_is_an_integer_within_its_range_and_nothing_like_it(
    agent: Session, emulator: Emulator, tool: str, name: str
) -> None:
    """F67: true is not 1, and "5_01" is not 501."""
    for value, came in BAD_IDS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be an integer from", f"; got {came}. Nothing")


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        (12345, 12345),
        (12345.0, 12345),
        ("12345", 12345),
        ("9007199254740991", 2**53 - 1),
        ("0", 0),
        (0.0, 0),
        ("01", "01"),
        ("12345 ", "12345 "),
        ("-1", "-1"),
        (True, True),
        (12345.5, 12345.5),
        (float("inf"), float("inf")),
    ],
)
def test_what_a_host_does_to_an_integer_without_loss_is_undone(sent: object, meant: object) -> None:
    """Some hosts have no integers, others send every value as text."""
    told = as_sent(sent, {"type": "integer"})
    assert (type(told), told) == (type(meant), meant)
    assert as_sent(sent, {"type": "string"}) == sent


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("party \ud83d", "party \ufffd"),
        ("\ude00 party", "\ufffd party"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ufeffparty \U0001f600", "\ufeffparty \U0001f600"),
        ("", ""),
    ],
)
def test_half_an_emoji_in_a_text_becomes_a_sign_that_something_is_missing(sent: str, meant: str) -> None:
    assert as_sent(sent, {"type": "string"}) == meant


async def test_an_id_as_a_float_or_as_text_is_that_id_and_a_flag_as_text_that_flag(agent: Session) -> None:
    plans = [await agent.call("delete_backup", backup_id=each) for each in (501, 501.0, "501")]
    assert [plan.data["backup"]["id"] for plan in plans] == [501] * 3
    told = await agent.call("delete_backup", backup_id="501", confirm="true", operation_id=plans[0].operation)
    assert told.status == "succeeded"
    told = await agent.call("list_backups", server_id="0", limit="1")
    assert told.data["returned"] == 1
    told = await agent.call("restore_server", server_id=12345.0, backup_id="499", confirm="false", safety_backup="true")
    assert told.status == "needs_confirmation"


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
async def test_what_hosts_add_of_their_own_is_dropped(agent: Session, tool: str) -> None:
    noise: dict[str, Any] = dict.fromkeys(HOST_ARGUMENTS, "x") | {"_meta": {"a": []}, "wait_for_previous": True}
    plain = await agent.call(tool, **VALID[tool])
    told = await agent.call(tool, **VALID[tool] | noise)
    assert (told.is_error, told.code) == (plain.is_error, plain.code)
    assert set(told.data) - {"replayed"} == set(plain.data)
    assert "argument" not in told.text


def test_of_hosts_arguments_there_are_these_and_no_others() -> None:
    known = {"toolCallId", "sessionId", "task_progress", "_meta", "random_string", "wait_for_previous"}
    assert known == HOST_ARGUMENTS
    assert not any(HOST_ARGUMENTS & set(tool.input_schema["properties"]) for tool in TOOLS)


@pytest.mark.parametrize(("tool", "name"), of_type("string"))
async def test_a_text_is_a_text_of_bounded_length(agent: Session, emulator: Emulator, tool: str, name: str) -> None:
    for value in BAD_TEXTS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be", "; got ")


REQUIRED = [(tool.name, name) for tool in TOOLS for name in tool.input_schema["required"]]


@pytest.mark.parametrize("given", [{}, {"null": None}], ids=["missing", "null"])
@pytest.mark.parametrize(("tool", "name"), REQUIRED)
async def test_a_required_argument_is_asked_for_by_name(
    agent: Session, emulator: Emulator, tool: str, name: str, given: dict[str, None]
) -> None:
    arguments = {key: value for key, value in VALID[tool].items() if key != name}
    answer = await agent.call(tool, **arguments, **({name: None} if given else {}))
    assert_refused(answer, emulator, "; got null" if given else f"{name} is required")


@pytest.mark.parametrize("name", ["backup_id", "server_id"])
async def test_zero_is_no_id_where_one_is_needed(agent: Session, emulator: Emulator, name: str) -> None:
    answer = await agent.call("restore_server", **VALID["restore_server"] | {name: 0})
    assert_refused(answer, emulator, f"{name} must be an integer from 1")


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
async def test_an_unknown_argument_is_refused_by_name(agent: Session, emulator: Emulator, tool: str) -> None:
    """F68: a dry_run that is silently dropped is a real run."""
    for unknown in ("dry_run", "confirmed", "Confirm", "toolcallid", "__class__", "session_id", "meta"):
        answer = await agent.call(tool, **VALID[tool] | {unknown: CANARY})
        assert_refused(answer, emulator, f"unknown argument '{unknown}'")


async def test_the_name_of_an_unknown_argument_is_made_safe_and_cut(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("delete_backup", backup_id=501, **{"\x1b[31m\u202eevil\n" + "y" * 500: 1})
    assert_refused(answer, emulator, "unknown argument 'evil")
    assert answer.text.isprintable()
    assert "y" * 41 not in answer.text


async def test_every_fault_is_told_at_once(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("restore_server", server_id="5_01", confirm="yes", dry_run=True)
    assert_refused(answer, emulator, "server_id", "backup_id is required", "confirm", "'dry_run'")


async def test_a_null_where_an_argument_may_be_left_out_leaves_it_out(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("delete_backup", backup_id=501, confirm=None, operation_id=None)
    assert answer.status == "needs_confirmation"
    assert emulator.count("DELETE") == 0


@pytest.mark.parametrize("name", ["deletebackup", "", "delete_backup ", "__init__", CANARY])
async def test_a_tool_that_does_not_exist_is_refused_with_the_names_of_those_that_do(
    agent: Session, emulator: Emulator, name: str
) -> None:
    answer = await agent.call(name, backup_id=501)
    assert_refused(answer, emulator, *(tool.name for tool in TOOLS))


async def test_a_refused_call_leaves_no_trace(agent: Session, emulator: Emulator, state_dir: Path) -> None:
    for tool, name in REQUIRED:
        await agent.call(tool, **VALID[tool] | {name: True})
    assert emulator.requests == []
    assert not await anyio.Path(state_dir).exists()
