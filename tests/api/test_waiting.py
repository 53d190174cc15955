"""How long is waited before a request is sent again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.api.attempts import RetryBudget, backoff, retry_after

from .stage import NOW


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("2", 2),
        (" 60 ", 60),
        ("86399", 86399),
        ("100000000", 10**8),
        ("Thu, 16 Jan 2025 08:00:30 GMT", 30),
        ("Thu, 16 Jan 2025 09:00:30 +0100", 30),
        ("Thursday, 16-Jan-25 08:00:30 GMT", 30),
    ],
)
def test_seconds_and_dates_with_a_zone_are_understood(value: str, seconds: float) -> None:
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", "-1", "+1", "1.5", "1e9", "soon", "٣", "³", "2, 3", "1_0", "0x10", "nan", "inf"),
        *("100000001", "9" * 5_000, "Thu, 16 Jan 2025 07:59:59 GMT"),
        "Thu, 16 Jan 2025 08:00:30",
        "Thu, 16 Jan 2025 08:00:30 -0000",
        "Thu, 16 Jan 9999 08:00:30 GMT",
        "Thu, 32 Jan 2025 08:00:30 GMT",
        "Thu, 16 Jan 2025 08:00:30 +999999999999",
    ],
)
def test_anything_else_is_ignored(value: str) -> None:
    assert retry_after(value, NOW) is None


@given(st.text() | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(str))
def test_no_header_breaks_the_reader(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 10**8


@given(st.lists(st.sampled_from([*"0123456789 ,:+-", "Thu", "Jan", "GMT", "16", "2025", "99999999999"])).map("".join))
def test_no_near_date_breaks_the_reader(value: str) -> None:
    seconds = retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 10**8


@given(st.integers(min_value=0, max_value=10**8))
def test_every_number_of_seconds_is_read_back_from_digits_and_from_a_date(seconds: int) -> None:
    assert retry_after(str(seconds), NOW) == seconds
    assert retry_after(format_datetime(NOW + timedelta(seconds=seconds), usegmt=True), NOW) == seconds


def test_a_date_is_compared_in_its_own_zone() -> None:
    now = datetime(2025, 1, 16, 8, 0, tzinfo=UTC).astimezone()
    assert retry_after("Thu, 16 Jan 2025 08:00:30 GMT", now) == 30


@pytest.mark.parametrize(("attempt", "most"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 4), (60, 4)])
def test_backoff_doubles_up_to_four_seconds_and_is_all_jitter(attempt: int, most: float) -> None:
    assert backoff(attempt, lambda: 1.0) == most
    assert backoff(attempt, lambda: 0.25) == most / 4
    assert backoff(attempt, lambda: 0.0) == 0


def test_the_budget_allows_retries_only_above_half() -> None:
    budget = RetryBudget()
    for _ in range(4):
        budget.failed()
    assert budget.allows_retry
    budget.failed()
    assert not budget.allows_retry


def test_ten_successes_make_up_for_one_failure() -> None:
    budget = RetryBudget()
    for _ in range(6):
        budget.failed()
    for _ in range(10):
        budget.succeeded()
    assert not budget.allows_retry
    for _ in range(10):
        budget.succeeded()
    assert budget.allows_retry


def test_the_budget_neither_overflows_nor_runs_up_debts() -> None:
    budget = RetryBudget()
    for _ in range(1_000):
        budget.succeeded()
    for _ in range(5):
        budget.failed()
    assert not budget.allows_retry
    for _ in range(1_000):
        budget.failed()
    for _ in range(51):
        budget.succeeded()
    assert budget.allows_retry
