"""Which backups can be relied on, one at a time."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.health import expires_within, is_good, is_restorable, is_younger, newest
from tests.stage import NOW

from .made import backup


@pytest.mark.parametrize(
    ("fields", "restorable"),
    [
        ({}, True),
        ({"size_mb": 0.5}, True),
        ({"size_mb": 0}, False),
        ({"size_mb": None}, False),
        ({"status": "in_progress"}, False),
        ({"status": "failed"}, False),
        ({"status": "Completed"}, False),
        ({"type": "weekly"}, True),
        ({"expires_at": NOW}, True),
    ],
)
def test_a_backup_can_be_restored_when_it_is_completed_and_holds_something(
    fields: dict[str, Any], restorable: bool
) -> None:
    assert is_restorable(backup(**fields)) is restorable


@pytest.mark.parametrize(
    ("left", "span", "expires"),
    [
        (None, timedelta(days=1000), False),
        (timedelta(hours=24), timedelta(hours=24), True),
        (timedelta(hours=24, seconds=1), timedelta(hours=24), False),
        (timedelta(seconds=-1), timedelta(0), True),
        (timedelta(0), timedelta(0), True),
        (timedelta(seconds=1), timedelta(0), False),
    ],
)
def test_a_backup_expires_within_a_span_or_has_already(left: timedelta | None, span: timedelta, expires: bool) -> None:
    ends = None if left is None else NOW + left
    assert expires_within(backup(expires_at=ends), span, NOW) is expires


@pytest.mark.parametrize(
    ("fields", "made_here", "good"),
    [
        ({}, (), True),
        ({}, (499,), True),
        ({}, (501,), False),
        ({"expires_at": NOW + timedelta(hours=25)}, (), True),
        ({"expires_at": NOW + timedelta(hours=23)}, (), False),
        ({"status": "in_progress"}, (), False),
        ({"size_mb": 0}, (), False),
    ],
)
def test_a_backup_counts_when_it_can_be_restored_lasts_and_was_not_made_here_just_now(
    fields: dict[str, Any], made_here: tuple[int, ...], good: bool
) -> None:
    assert is_good(backup(**fields), NOW, made_here) is good


@pytest.mark.parametrize(
    ("hours", "younger"),
    [(0, True), (0.99, True), (1, False), (48, False), (-0.05, True), (-0.2, False), (-1000, False)],
)
def test_a_backup_from_the_future_is_not_young(hours: float, younger: bool) -> None:
    assert is_younger(backup(hours=hours), timedelta(hours=1), NOW) is younger


def test_the_newest_is_by_time_then_by_id_and_of_none_there_is_none() -> None:
    rows = [backup(501, 5), backup(499, 2), backup(498, 2), backup(502, 9)]
    assert newest(rows) == rows[1]
    assert newest([]) is None
