"""Guards measure time by two clocks, so that setting one of them neither lifts a limit nor prolongs a leave."""

from datetime import UTC, datetime, timedelta

import pytest

from mcp_backups.clock import Moment, system_clock

HOUR = timedelta(hours=1)
START = Moment(wall=datetime(2026, 11, 23, 9, 30, tzinfo=UTC), ticks=5_000.0, boot="one")


def later(passed: float, *, step: float = 0, boot: str = "one", ticks: float | None = None) -> Moment:
    """`passed` minutes after START, by a wall clock that was meanwhile set forward by `step` minutes."""
    ticks = START.ticks + passed * 60 if ticks is None else ticks
    return Moment(wall=START.wall + timedelta(minutes=passed + step), ticks=ticks, boot=boot)


@pytest.mark.parametrize(
    ("now", "within", "outlived"),
    [
        pytest.param(later(0), True, False, id="at once"),
        pytest.param(later(59), True, False, id="before the end"),
        pytest.param(later(60), False, True, id="at the end"),
        pytest.param(later(61), False, True, id="after the end"),
        pytest.param(later(10, step=+600), True, True, id="set forward: the limit stays, the leave ends"),
        pytest.param(later(10, step=-600), True, True, id="set back: the limit stays, the leave ends"),
        pytest.param(later(90, step=-80), True, True, id="set back after the end: both by the careful clock"),
        pytest.param(later(90, step=-600), True, True, id="set back before the beginning"),
        pytest.param(later(0, step=-0.05), True, False, id="corrected by 3 s: no step"),
        pytest.param(later(0, step=-0.1), True, True, id="set back by 6 s: a step"),
        pytest.param(later(30, boot="two", ticks=12.0), True, False, id="restarted, before the end"),
        pytest.param(later(90, boot="two", ticks=12.0), False, True, id="restarted, after the end"),
        pytest.param(later(90, boot="two", ticks=9_000.0), False, True, id="restarted: the ticks tell nothing"),
        pytest.param(later(30, step=-60, boot="two", ticks=12.0), True, True, id="restarted and set back"),
    ],
)
def test_a_clock_step_lifts_no_limit_and_prolongs_no_leave(now: Moment, within: bool, outlived: bool) -> None:
    assert START.within(HOUR, now) is within
    assert START.outlived(HOUR, now) is outlived


def test_where_the_machine_does_not_tell_its_start_only_the_wall_clock_counts() -> None:
    start, now = START.model_copy(update={"boot": ""}), later(90, boot="", ticks=START.ticks)
    assert not start.within(HOUR, now)
    assert start.outlived(HOUR, now)


def test_a_moment_survives_being_written_down() -> None:
    assert Moment.model_validate_json(START.model_dump_json()) == START


def test_the_machines_own_clocks_run_forward_in_utc() -> None:
    clock = system_clock()
    first, second = clock.moment(), clock.moment()
    assert first.wall.utcoffset() == timedelta(0)
    assert first.ticks <= second.ticks
    assert first.boot == second.boot
    assert first.within(HOUR, second)
    assert not first.outlived(HOUR, second)
