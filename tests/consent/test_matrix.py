"""Who consents, cell by cell: approval, protocol version, transport, client, and what its user does.

What should happen is read from the table in docs/safety.md, so that it says what is so.
"""

import re
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.consent.conftest import House
from tests.consent.wire import MODERN, VERSIONS, Message
from tests.stage import Answer

PAGE = Path(__file__).parent.parent.parent / "docs" / "safety.md"
APPROVALS = ("auto", "plan", "human", "operator", "flag")
HOW = ALONE, WITH_PLAN = "confirm alone", "with the plan's id"
ASKED, PLAN, DONE, WAITS = "asks the user", "returns a plan", "does it", "asks an approver"

Row = dict[bool, str]
"""What happens when the client can ask its user, and when it cannot."""


def rows_in_page() -> dict[tuple[str, str], Row]:
    between = re.search(r"<!-- consent -->(.*)<!-- /consent -->", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert between
    _, _, *lines = (line for line in between[1].splitlines() if line.startswith("|"))
    rows = {}
    for line in lines:
        approval, can, cannot = (cell.strip() for cell in line.strip("|").split("|"))
        for how, when_it_can, when_it_cannot in zip(HOW, can.split(" / "), cannot.split(" / "), strict=True):
            rows[approval.strip("`"), how] = {True: when_it_can, False: when_it_cannot}
    return rows


def accept(schema: Message) -> Message:
    (name,) = schema["properties"]
    return {"action": "accept", "content": {name: True if name == "delete" else "web-server-01"}}


def wrong(schema: Message) -> Message:
    (name,) = schema["properties"]
    return {"action": "accept", "content": {name: False if name == "delete" else "web-server-02"}}


REPLIES = {
    "accept": accept,
    "decline": lambda _: {"action": "decline"},
    "cancel": lambda _: {"action": "cancel"},
    "wrong": wrong,
}
USERS = [(True, reply) for reply in REPLIES] + [(False, "")]
"""A client that can ask, and what its user does; or one that cannot."""


class Cell(NamedTuple):
    """One cell of the matrix."""

    approval: str
    version: str
    transport: str
    how: str
    user: tuple[bool, str]


CELLS = [Cell(*cell) for cell in product(APPROVALS, VERSIONS, ("stdio", "HTTP"), HOW, USERS)]

OVER_STDIO = [cell for cell in CELLS if cell.transport == "stdio"]
"""The half that is enough where the transport makes no difference any more."""


def name(cell: Cell) -> str:
    can_ask, reply = cell.user
    return ", ".join((*cell[:-1], reply if can_ask else "cannot ask"))


def test_the_readme_has_a_row_for_every_way_to_confirm() -> None:
    assert set(rows_in_page()) == set(product(APPROVALS, HOW))
    assert {what for row in rows_in_page().values() for what in row.values()} == {ASKED, PLAN, DONE, WAITS}


@pytest.mark.parametrize("cell", CELLS, ids=name)
def test_a_delete_is_sent_exactly_when_the_readme_says_so(house: House, cell: Cell) -> None:
    backup_id = house.new_backup()
    answer, asked = confirmed(house, cell, "delete_backup", backup_id=backup_id)
    check(cell, answer, asked, house.deletes(backup_id))
    assert (backup_id in house.emulator.fleet.backups) == (house.deletes(backup_id) == 0)


@pytest.mark.parametrize("cell", OVER_STDIO, ids=name)
def test_a_restore_is_sent_exactly_when_the_readme_says_so(house: House, cell: Cell) -> None:
    backup_id = house.new_backup()
    answer, asked = confirmed(
        house, cell, "restore_server", server_id=12345, backup_id=backup_id, safety_backup=False, wait_seconds=0
    )
    check(cell, answer, asked, house.restores(backup_id))


@pytest.mark.parametrize("transport", ["stdio", "HTTP"])
@pytest.mark.parametrize(
    "brought", [None, [], "yes", {}, {"action": "ACCEPT"}, {"action": "accept", "content": {"delete": {"value": True}}}]
)
def test_what_a_client_brings_that_is_no_answer_is_told_at_once_and_no_yes(
    house: House, transport: str, brought: Any
) -> None:
    """The call waits for it: dropped, it would be waited for until it is too late to answer."""
    backup_id = house.new_backup()
    caller = house.caller("auto", transport, "2025-06-18", {"elicitation": {}})
    answer = caller.call("delete_backup", lambda _: brought, backup_id=backup_id, confirm=True)
    assert (answer.code, house.deletes(backup_id)) == ("declined", 0)
    assert "brought no answer back" in answer.text


def test_of_an_answer_that_is_none_only_what_was_asked_for_is_told(house: House) -> None:
    """MCP allows three kinds of answers, and two of them are to what is never asked here."""
    caller = house.caller("auto", "stdio", MODERN, {"elicitation": {}})
    arguments = {"backup_id": house.new_backup(), "confirm": True}
    question = caller.round("delete_backup", arguments)
    told = caller.round("delete_backup", arguments, **caller.answered(question, lambda _: {"action": "ACCEPT"}))
    name = "params.inputResponses.consent.ElicitResult.action"
    assert told["error"]["message"] == f"Invalid params: {name} must be as MCP defines it."


def confirmed(house: House, cell: Cell, tool: str, **arguments: Any) -> tuple[Answer, list[str]]:
    """The answer to the confirmed call, and what the user was asked."""
    can_ask, reply = cell.user
    if WAITS in rows_in_page()[cell.approval, cell.how].values():
        house.decide_what_waits(cell.approval)
    caller = house.caller(cell.approval, cell.transport, cell.version, {"elicitation": {}} if can_ask else {})
    if cell.how == WITH_PLAN:
        arguments["operation_id"] = caller.call(tool, **arguments).operation
    return caller.call(tool, REPLIES.get(reply), confirm=True, **arguments), caller.asked


def check(cell: Cell, answer: Answer, asked: list[str], effects: int) -> None:
    can_ask, reply = cell.user
    expected = rows_in_page()[cell.approval, cell.how][can_ask]
    assert len(asked) == (expected == ASKED)
    assert effects == (expected == DONE or (expected == ASKED and reply == "accept"))
    if effects:
        by = "person" if expected == ASKED else "plan" if cell.how == WITH_PLAN else "flag"
        assert (answer.data["changed"], answer.approved_by) == (
            "started" if answer.status == "accepted" else "done",
            by,
        )
    elif expected in {PLAN, WAITS}:
        assert answer.status == ("needs_confirmation" if expected == PLAN else "needs_approval")
    else:
        assert answer.code == "declined"
        assert "Do not try again unless the user asks for it." in answer.text
        assert "Nothing was changed." in answer.text
