"""Who consents: one table, for every setting, call and client."""

import itertools
from typing import Literal

import pytest

from mcp_backups.errors import DeclinedError
from mcp_backups.operations.consent import Question, Reply, approver, check_reply, consent
from mcp_backups.settings import Approval

APPROVALS: tuple[Approval, ...] = ("auto", "plan", "human", "operator", "flag")

# approval, the plan was shown, the client can ask: whose consent a call with confirm=true carries or needs.
TABLE: list[tuple[Approval, bool, bool, str]] = [
    ("auto", False, False, ""),
    ("auto", True, False, "plan"),
    ("auto", False, True, "ask"),
    ("auto", True, True, "ask"),
    ("plan", False, False, ""),
    ("plan", True, False, "plan"),
    ("plan", False, True, ""),
    ("plan", True, True, "plan"),
    ("human", False, False, "approver"),
    ("human", True, False, "approver"),
    ("human", False, True, "ask"),
    ("human", True, True, "ask"),
    ("operator", False, False, "approver"),
    ("operator", True, False, "approver"),
    ("operator", False, True, "approver"),
    ("operator", True, True, "approver"),
    ("flag", False, False, "flag"),
    ("flag", True, False, "plan"),
    ("flag", False, True, "flag"),
    ("flag", True, True, "plan"),
]


def test_the_table_is_complete() -> None:
    assert [row[:3] for row in TABLE] == sorted(
        itertools.product(APPROVALS, (False, True), (False, True)),
        key=lambda row: (APPROVALS.index(row[0]), row[2], row[1]),
    )


@pytest.mark.parametrize(("approval", "shown", "can_ask", "needed"), TABLE)
def test_a_confirmed_call_carries_the_consent_that_the_operator_asks_for(
    approval: Approval, shown: bool, can_ask: bool, needed: str
) -> None:
    assert consent(approval, confirm=True, shown=shown, can_ask=can_ask) == needed


@pytest.mark.parametrize(("approval", "shown", "can_ask", "_"), TABLE)
def test_a_call_without_confirm_carries_none(approval: Approval, shown: bool, can_ask: bool, _: str) -> None:
    assert consent(approval, confirm=False, shown=shown, can_ask=can_ask) == ""


@pytest.mark.parametrize(
    ("approval", "can_ask", "told"),
    [
        ("auto", True, "person"),
        ("auto", False, "caller"),
        ("plan", True, "caller"),
        ("plan", False, "caller"),
        ("human", True, "person"),
        ("human", False, "approver"),
        ("operator", True, "approver"),
        ("operator", False, "approver"),
        ("flag", True, "caller"),
        ("flag", False, "caller"),
    ],
)
def test_a_plan_tells_who_can_approve_it(approval: Approval, can_ask: bool, told: str) -> None:
    assert approver(approval, can_ask=can_ask) == told


YES = Question("Delete backup 501 for good?", "delete", "Yes, delete it", True)


@pytest.mark.parametrize(
    ("action", "content", "agreed"),
    [
        ("accept", {"delete": True}, True),
        ("accept", {"delete": False}, False),
        ("accept", {"delete": "true"}, False),
        ("accept", {"delete": 1}, False),
        ("accept", {"delete": None}, False),
        ("accept", {}, False),
        ("accept", None, False),
        ("accept", {"delete": True, "more": 1}, False),
        ("accept", {"approve": True}, False),
        ("accept", [True], False),
        ("decline", {"delete": True}, False),
        ("cancel", {"delete": True}, False),
        ("none", {"delete": True}, False),
        ("decline", None, False),
    ],
)
def test_only_the_very_answer_that_was_asked_for_is_a_yes(
    action: Literal["accept", "decline", "cancel", "none"], content: object, agreed: bool
) -> None:
    """F76, T16: a client that answers by itself may say accept without a word."""
    reply = Reply(action, content)
    if agreed:
        check_reply(YES, reply)
    else:
        with pytest.raises(DeclinedError) as declined:
            check_reply(YES, reply)
        assert declined.value.changed == "nothing"


@pytest.mark.parametrize(
    ("expected", "given", "agreed"),
    [
        ("web-server-01", "web-server-01", True),
        ("web-server-01", " web-server-01\n", True),
        ("web-server-01", "Web-Server-01", False),
        (3, 3, True),
        (3, 3.0, True),
        (3, 3.5, False),
        (3, float("inf"), False),
        (3, "3", False),
        (1, True, False),
    ],
)
def test_a_value_is_a_yes_only_as_the_very_type_and_but_for_blanks_around_it(
    expected: str | int, given: object, agreed: bool
) -> None:
    asked = Question("Sure?", "value", "Type it", expected)
    assert asked.is_confirmed_by({"value": given}) is agreed


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("accept", "passed on nothing"),
        ("decline", "answered no to the question. A client without a person at it does so by itself"),
        ("cancel", "dismissed the question without an answer. A client without a person"),
        ("none", "in time"),
        ("unreadable", "brought no answer back"),
    ],
)
def test_a_refusal_says_what_came_back_and_who_may_have_said_it(
    action: Literal["accept", "decline", "cancel", "none", "unreadable"], said: str
) -> None:
    with pytest.raises(DeclinedError, match=said):
        check_reply(YES, Reply(action))
