"""How many deletes and restores are allowed, and when there is more; and which restores count."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.clock import Moment
from mcp_backups.errors import BudgetExhaustedError
from mcp_backups.operations.limits import (
    budget_after,
    charged,
    check_budget,
    in_words,
    taken_back,
    undo_allowed_from,
)
from mcp_backups.operations.operation import ActionName, Budget, Operation
from tests.stage import NOW, MakeSettings

from .made import MOMENT, ago, operation


def sent(*minutes: float) -> list[Moment]:
    """When each was sent, so many minutes ago, newest first."""
    return [ago(minutes=each, ticking=each * 60) for each in sorted(minutes)]


BUDGETS: list[tuple[dict[str, Any], ActionName, list[Moment], str]] = [
    ({}, "delete_backup", [], ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1), ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1, 59), "in 1 min, at 2026-11-23T09:31Z"),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1, 59.9), "in 1 min, at 2026-11-23T09:31Z"),
    ({"deletes_per_hour": 2}, "delete_backup", sent(1, 60), ""),
    ({"deletes_per_hour": 2}, "delete_backup", sent(10, 20, 30), "in 40 min, at 2026-11-23T10:10Z"),
    ({"deletes_per_hour": 0}, "delete_backup", [], "only the operator"),
    ({"deletes_per_day": 0}, "delete_backup", [], "only the operator"),
    ({"deletes_per_day": 2}, "delete_backup", sent(100, 200), "in 20 h 40 min, at 2026-11-24T06:10Z"),
    ({"deletes_per_day": 2}, "delete_backup", sent(100, 24 * 60), ""),
    (
        {"deletes_per_hour": 2, "deletes_per_day": 2},
        "delete_backup",
        sent(1, 2),
        "in 23 h 58 min, at 2026-11-24T09:28Z",
    ),
    ({"deletes_per_hour": 1, "deletes_per_day": 2}, "delete_backup", sent(1, 1430), "in 59 min, at 2026-11-23T10:29Z"),
    ({"restores_per_hour": 1}, "restore_server", sent(30), "in 30 min, at 2026-11-23T10:00Z"),
    ({"restores_per_hour": 2}, "restore_server", sent(30), ""),
    ({"deletes_per_hour": 0}, "restore_server", [], ""),
    ({"restores_per_hour": 0}, "delete_backup", [], ""),
]


@pytest.mark.parametrize(("rule", "action", "before", "refusal"), BUDGETS)
def test_one_more_is_allowed_only_within_the_budget_and_a_refusal_says_when(
    make_settings: MakeSettings, rule: dict[str, Any], action: ActionName, before: list[Moment], refusal: str
) -> None:
    settings = make_settings(**rule)
    if not refusal:
        check_budget(settings, action, before, MOMENT)
        return
    with pytest.raises(BudgetExhaustedError) as exhausted:
        check_budget(settings, action, before, MOMENT)
    assert refusal in exhausted.value.next_step


@pytest.mark.parametrize(
    ("rule", "action", "before", "used_up"),
    [
        (
            {"restores_per_hour": 1},
            "restore_server",
            sent(30),
            "The budget of 1 restore of a server within an hour is used up.",
        ),
        ({"restores_per_hour": 0}, "restore_server", [], "There is no budget for a restore here."),
        ({"deletes_per_hour": 2}, "delete_backup", sent(1, 2), "The budget of 2 deletes within an hour is used up."),
        ({"deletes_per_day": 1}, "delete_backup", sent(61), "The budget of 1 delete within 24 h is used up."),
        (
            {"deletes_per_hour": 2, "deletes_per_day": 2},
            "delete_backup",
            sent(1, 2),
            "The budget of 2 deletes within 24 h is used up.",
        ),
        (
            {"deletes_per_hour": 1, "deletes_per_day": 2},
            "delete_backup",
            sent(1, 23 * 60 + 50),
            "The budget of 1 delete within an hour is used up.",
        ),
        (
            {"deletes_per_hour": 1, "deletes_per_day": 0},
            "delete_backup",
            sent(1),
            "There is no budget for a delete here.",
        ),
    ],
)
def test_a_refusal_names_the_budget_that_is_used_up(
    make_settings: MakeSettings, rule: dict[str, Any], action: ActionName, before: list[Moment], used_up: str
) -> None:
    with pytest.raises(BudgetExhaustedError) as exhausted:
        check_budget(make_settings(**rule), action, before, MOMENT)
    assert exhausted.value.what == used_up


@pytest.mark.parametrize("days", [-3, -1, 1, 3])
def test_a_step_of_the_wall_clock_gives_no_new_budget(make_settings: MakeSettings, days: int) -> None:
    with pytest.raises(BudgetExhaustedError):
        check_budget(make_settings(deletes_per_hour=1), "delete_backup", [ago(days=days, ticking=60)], MOMENT)


HOUR, DAY = timedelta(hours=1), timedelta(hours=24)
AFTER: list[tuple[dict[str, int], int, list[Moment], int, timedelta | None]] = [
    ({}, 0, [], 3, None),
    ({}, 1, [], 2, None),
    ({}, 3, [], 0, HOUR),
    ({}, 2, sent(20), 0, timedelta(minutes=40)),
    ({}, 2, sent(60), 1, None),
    ({}, 0, sent(1, 2, 3), 0, timedelta(minutes=57)),
    ({}, 0, sent(1, 2, 3, 4), 0, DAY - timedelta(minutes=4)),
    ({}, 0, sent(100, 200, 300), 1, None),
    ({}, 1, sent(100, 200, 300), 0, DAY - timedelta(minutes=300)),
    ({}, 0, sent(24 * 60), 3, None),
    ({"deletes_per_day": 3}, 3, [], 0, DAY),
    ({"deletes_per_hour": 0}, 0, [], 0, None),
]


@pytest.mark.parametrize(("rule", "many", "before", "left", "wait"), AFTER)
def test_what_is_left_after_some_is_the_lesser_of_both_budgets_and_more_comes_when_both_allow_it(
    make_settings: MakeSettings,
    rule: dict[str, int],
    many: int,
    before: list[Moment],
    left: int,
    wait: timedelta | None,
) -> None:
    settings = make_settings(**{"deletes_per_hour": 3, "deletes_per_day": 4} | rule)
    expected = Budget(left=left, more_from=NOW + wait if wait else None)
    assert budget_after(settings, "delete_backup", many, before, MOMENT) == expected


@pytest.mark.parametrize(
    ("budget", "noun", "words"),
    [
        (Budget(left=2), "delete", "after this, 2 more deletes may be sent now"),
        (Budget(left=1), "delete", "after this, 1 more delete may be sent now"),
        (Budget(left=0, more_from=NOW), "delete", "after this, no more deletes may be sent before 2026-11-23T09:30Z"),
        (Budget(left=0), "delete", ""),
        (Budget(left=1), "restore", "after this, 1 more restore of this server may be sent now"),
        (
            Budget(left=0, more_from=NOW),
            "restore",
            "after this, no more restores of this server may be sent before 2026-11-23T09:30Z",
        ),
        (Budget(left=0), "restore", ""),
    ],
)
def test_a_budget_in_words(budget: Budget, noun: str, words: str) -> None:
    assert in_words(budget, noun) == words


def restore(backup_id: int, undo: int, minutes: float = 0) -> Operation:
    (moment,) = sent(minutes)
    return operation("restore_server", "accepted", backup_id=backup_id, undo_backup_id=undo, sent=moment)


FIRST, BACK = restore(499, 502, 30), restore(502, 503, 20)
"""A restore, and what takes it back."""

HISTORIES: list[tuple[list[Operation], int, bool, int]] = [
    ([], 502, False, 0),
    ([FIRST], 502, True, 1),
    ([FIRST], 499, False, 1),
    ([FIRST], 0, False, 1),
    ([restore(499, 0)], 0, False, 1),
    ([BACK, FIRST], 503, False, 1),
    ([BACK, FIRST], 502, False, 1),
    ([restore(499, 504, 10), BACK, FIRST], 504, True, 2),
    ([restore(503, 504, 10), BACK, FIRST], 504, False, 2),
    ([restore(495, 504, 10), FIRST], 504, True, 2),
    ([restore(495, 504, 10), FIRST], 502, False, 2),
]


@pytest.mark.parametrize(("before", "backup_id", "is_free", "counted"), HISTORIES)
def test_taking_back_the_last_restore_once_counts_for_nothing(
    before: list[Operation], backup_id: int, is_free: bool, counted: int
) -> None:
    assert (taken_back(backup_id, before) is not None) is is_free
    assert len(charged(before)) == counted


@pytest.mark.parametrize(
    ("most", "before", "undo", "wait"),
    [
        (1, [FIRST], 502, None),
        (1, [BACK, FIRST], 503, timedelta(minutes=30)),
        (2, [BACK, FIRST], 503, None),
        (1, [restore(503, 504, 10), BACK, FIRST], 504, timedelta(minutes=50)),
    ],
)
def test_from_when_on_a_restore_can_be_taken_back(
    make_settings: MakeSettings, most: int, before: list[Operation], undo: int, wait: timedelta | None
) -> None:
    allowed = undo_allowed_from(make_settings(restores_per_hour=most), before, undo, MOMENT)
    assert allowed == (NOW + wait if wait else None)
