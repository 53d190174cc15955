"""Who consents: one table, for every setting, call and client."""

import itertools
from typing import Any, Literal

import pytest

from mcp_backups.errors import DeclinedError
from mcp_backups.operations.consent import Question, Reply, approver, check_reply, consent
from mcp_backups.operations.operation import PruneItem
from mcp_backups.settings import Approval

from .made import backup, operation, question_of

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
        ("decline", "said no"),
        ("cancel", "dismissed"),
        ("none", "in time"),
        ("unreadable", "brought no answer back"),
    ],
)
def test_a_refusal_says_what_the_person_did(
    action: Literal["accept", "decline", "cancel", "none", "unreadable"], said: str
) -> None:
    with pytest.raises(DeclinedError, match=said):
        check_reply(YES, Reply(action))


RESTORE = {"server_id": 12345, "backup_id": 501, "safety_backup": False}
LEFT: dict[str, Any] = {"good_left": 1, "newest_left": backup(499, hours=45.5)}


def test_of_many_backups_that_a_prune_deletes_ten_are_named_and_the_others_counted() -> None:
    items = [PruneItem(backup=backup(500 + n, 24 * n, description="x"), reason="", fate="delete") for n in range(12)]
    asked = question_of(operation("prune_backups", arguments={"keep_last": 1}, items=items))
    named = [line for line in asked.text.splitlines() if line.startswith("- ")]
    assert len(named) == 11
    assert named[0] == '- 500 of 2026-11-23T09:30Z, 100 MB "x"'
    assert named[10] == "- and 2 older backups"


def test_a_server_without_a_name_is_confirmed_by_its_id() -> None:
    asked = question_of(operation("restore_server", arguments=RESTORE, backup_id=501))
    assert (asked.field, asked.expected, asked.label) == ("server_id", "12345", "Type the server's id to restore it")
    assert asked.text.splitlines() == [
        "Restore server 12345 to backup 501?",
        "Server: 12345",
        "Lost: everything written to the server since 2026-11-23T09:30Z",
        "Safety backup of the server as it is now: none is made",
        "It cannot be undone.",
    ]


def test_a_server_with_a_name_is_confirmed_by_that() -> None:
    asked = question_of(operation("restore_server", arguments=RESTORE | {"safety_backup": True}, server_name="web"))
    assert (asked.field, asked.expected, asked.label) == ("server_name", "web", "Type the server's name to restore it")
    assert asked.text.splitlines()[-1] == (
        "It can be undone by restoring that backup; only what was written after it stays lost."
    )


def test_a_delete_is_asked_with_the_backup_and_what_is_left() -> None:
    asked = question_of(operation(**LEFT, backup_id=501, server_name="web", backup=backup()))
    assert (asked.field, asked.expected) == ("delete", True)
    assert asked.text.splitlines() == [
        "Delete backup 501 for good? This cannot be undone.",
        'Server: 12345 "web"',
        'Backup: made 2026-11-21T09:30Z, age 2 d, size 100 MB, type "manual", status "completed"',
        "Left on the server: 1 good backup; the newest is 499 of 2026-11-21T12:00Z",
    ]


def test_a_delete_of_the_way_back_of_a_restore_is_asked_with_that_as_its_last_words() -> None:
    asked = question_of(operation(**LEFT, way_back_of="op_restore", backup_id=501, backup=backup()))
    assert asked.text.splitlines()[-2:] == [
        "Left on the server: 1 good backup; the newest is 499 of 2026-11-21T12:00Z",
        "It is the way back from the server's last restore, op_restore, which then cannot be undone.",
    ]


def test_a_delete_of_what_may_just_be_restored_is_asked_with_that_as_its_last_words() -> None:
    asked = question_of(operation(**LEFT, being_restored_by="op_restore", backup_id=501, backup=backup()))
    assert asked.text.splitlines()[-1] == (
        "The restore op_restore puts it back on the server, and may not be done with it."
    )


@pytest.mark.parametrize(
    ("words", "quoted"),
    [
        ("Größe ✓ 备份", '"Größe ✓ 备份"'),
        ('say "yes"', r'"say \"yes\""'),
        ("a\\b", r'"a\\b"'),
    ],
)
def test_what_others_wrote_is_shown_in_quotes_that_it_cannot_close_and_readable_in_any_language(
    words: str, quoted: str
) -> None:
    text = question_of(operation(**LEFT, server_name=words, backup=backup(description=words))).text
    assert f"Server: 12345 {quoted}" in text
    assert f"Its description: {quoted}" in text


def test_a_prune_is_asked_with_its_rules_and_confirmed_by_the_number_of_backups() -> None:
    items = [("keep", 1), ("delete", 48), ("later", 60), ("delete", 72), ("keep", 96)]
    asked = question_of(
        operation(
            "prune_backups",
            arguments={"server_id": 12345, "keep_last": 1, "keep_daily": 0, "keep_weekly": 2, "keep_monthly": 0},
            items=[
                PruneItem(backup=backup(500 + number, hours), reason="", fate=fate)
                for number, (fate, hours) in enumerate(items)
            ],
        )
    )
    assert (asked.field, asked.expected, asked.label) == ("count", 2, "Type the number of backups to delete")
    assert asked.text.splitlines() == [
        "Delete 2 of 5 manual backups for good? This cannot be undone.",
        "Server: 12345",
        "Deleted: what no rule keeps, from 2026-11-20T09:30Z to 2026-11-21T09:30Z",
        "- 501 of 2026-11-21T09:30Z, 100 MB",
        "- 503 of 2026-11-20T09:30Z, 100 MB",
        "Kept: 2, by the rules keep-last 1, keep-weekly 2; automatic backups are left alone",
    ]
