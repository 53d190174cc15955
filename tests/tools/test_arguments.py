"""Arguments are as the schema says or refused by name, before anything is asked of VPS.org or recorded."""

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator
from mcp_backups.tools import TOOLS
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
    assert CANARY not in answer.text
    assert len(answer.text) < 700
    assert emulator.requests == []
    assert emulator.connections == 0


def test_the_table_of_valid_calls_names_every_tool() -> None:
    assert {tool.name for tool in TOOLS} <= set(VALID)


BAD_FLAGS = ["yes", "true", "on", "True", 1, 0, 1.0, [], {}, "", CANARY]
BAD_IDS = [
    True,
    False,
    "501",
    "5_01",
    "501abc",
    " 501 ",
    501.0,
    501.5,
    -1,
    2**53,
    10**30,
    -(10**30),
    [501],
    {"id": 501},
    CANARY,
    "\u0665",
]
BAD_TEXTS = [1, True, 1.5, ["op_aaaaaaaaaaaaaaaa"], {"text": CANARY}, CANARY * 100]


@pytest.mark.parametrize(("tool", "name"), of_type("boolean"))
async def test_a_flag_is_true_or_false_and_nothing_like_it(
    agent: Session, emulator: Emulator, tool: str, name: str
) -> None:
    """F66: clients and models send words and numbers for flags."""
    for value in BAD_FLAGS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be true or false")


@pytest.mark.parametrize(("tool", "name"), of_type("integer"))
async def test_a_number_is_an_integer_within_its_range_and_nothing_like_it(
    agent: Session, emulator: Emulator, tool: str, name: str
) -> None:
    """F67: true is not 1, and "5_01" is not 501."""
    for value in BAD_IDS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be an integer from")


@pytest.mark.parametrize(("tool", "name"), of_type("string"))
async def test_a_text_is_a_text_of_bounded_length(agent: Session, emulator: Emulator, tool: str, name: str) -> None:
    for value in BAD_TEXTS:
        answer = await agent.call(tool, **VALID[tool] | {name: value})
        assert_refused(answer, emulator, f"{name} must be")


REQUIRED = [(tool.name, name) for tool in TOOLS for name in tool.input_schema.get("required", ())]


@pytest.mark.parametrize("given", [{}, {"null": None}], ids=["missing", "null"])
@pytest.mark.parametrize(("tool", "name"), REQUIRED)
async def test_a_required_argument_is_asked_for_by_name(
    agent: Session, emulator: Emulator, tool: str, name: str, given: dict[str, None]
) -> None:
    arguments = {key: value for key, value in VALID[tool].items() if key != name}
    answer = await agent.call(tool, **arguments, **({name: None} if given else {}))
    assert_refused(answer, emulator, f"{name} must be" if given else f"{name} is required")


@pytest.mark.parametrize("name", ["backup_id", "server_id"])
async def test_zero_is_no_id_where_one_is_needed(agent: Session, emulator: Emulator, name: str) -> None:
    answer = await agent.call("restore_server", **VALID["restore_server"] | {name: 0})
    assert_refused(answer, emulator, f"{name} must be an integer from 1")


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
async def test_an_unknown_argument_is_refused_by_name(agent: Session, emulator: Emulator, tool: str) -> None:
    """F68: a dry_run that is silently dropped is a real run."""
    for unknown in ("dry_run", "confirmed", "Confirm", "toolCallId", "__class__"):
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
