"""Guards measure time by several clocks, so that setting one of them neither lifts a limit nor prolongs a leave."""

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
        pytest.param(later(90, step=-80), False, True, id="set back after the end: the ticks tell"),
        pytest.param(later(90, step=-600), False, True, id="set back before the beginning: the ticks tell"),
        pytest.param(later(10, ticks=4_000.0), True, False, id="the ticks went back: they tell nothing"),
        pytest.param(later(90, ticks=4_000.0), False, True, id="the ticks went back, after the end"),
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


def by_vps_org(now: Moment, passed: float) -> Moment:
    """The same when VPS.org's clock, which was an hour ahead of START's, shows that `passed` minutes have gone by."""
    return now.model_copy(update={"upstream": START.wall + HOUR + timedelta(minutes=passed)})


@pytest.mark.parametrize(
    ("passed", "left", "outlived"),
    [
        pytest.param(10, 50, True, id="set forward and restarted: the limit stays"),
        pytest.param(60, 0, True, id="at the end"),
        pytest.param(0, 60, True, id="at once"),
        pytest.param(-1, 60, True, id="VPS.org's clock runs backwards: for a limit no time has passed"),
    ],
)
def test_vps_orgs_clock_counts_where_the_machine_was_restarted(passed: float, left: float, outlived: bool) -> None:
    start, now = by_vps_org(START, 0), by_vps_org(later(600, boot="two", ticks=12.0), passed)
    assert start.left(HOUR, now) == timedelta(minutes=left)
    assert start.within(HOUR, now) is (left > 0)
    assert start.outlived(HOUR, now) is outlived
    assert START.left(HOUR, now) == start.left(HOUR, later(600, boot="two", ticks=12.0)) == -9 * HOUR  # known once only


def test_how_long_ago_it_was_tells_the_clock_that_nobody_sets_or_else_vps_orgs() -> None:
    start = by_vps_org(START, 0)
    assert start.ago(by_vps_org(later(5, step=100), 7)) == timedelta(minutes=5)
    assert start.ago(by_vps_org(later(5, step=100, boot="two"), 7)) == timedelta(minutes=7)
    assert start.ago(later(5, step=100, boot="two")) == timedelta(minutes=105)


@pytest.mark.parametrize(
    ("passed", "date", "within", "outlived"),
    [
        pytest.param(59, 60, True, False, id="a minute ahead"),
        pytest.param(1, 24 * 60, True, False, id="a day ahead"),
        pytest.param(1, -30, True, False, id="stale"),
        pytest.param(59, 600, True, False, id="hours ahead before the end"),
        pytest.param(61, 5, False, True, id="stale after the end"),
        pytest.param(61, -24 * 60, False, True, id="a day behind after the end"),
    ],
)
def test_what_vps_orgs_answers_are_dated_matters_to_nothing_where_the_ticks_tell(
    passed: float, date: float, within: bool, outlived: bool
) -> None:
    """A cache before VPS.org, or one machine of it, may date its answers wrong."""
    for start, now in (
        (by_vps_org(START, 0), by_vps_org(later(passed), date)),
        (by_vps_org(START, date), by_vps_org(later(passed), passed)),
    ):
        assert (start.within(HOUR, now), start.outlived(HOUR, now)) == (within, outlived)


@pytest.mark.parametrize(
    ("ahead", "step"),
    [(30, 120), (30, 0), (600, 10_000), (5, 60), (-30, 120)],
    ids=["half an hour, and ours two", "half an hour", "hours, and ours days", "five minutes", "behind"],
)
def test_a_wrong_date_a_restart_and_a_wrong_clock_together_lift_no_limit(ahead: float, step: float) -> None:
    """`Date` was wrong when the request went out, and is right again; ten minutes have passed."""
    start = by_vps_org(START, ahead)
    assert start.within(HOUR, by_vps_org(later(10, step=step, boot="two", ticks=12.0), 10))


def test_the_latest_is_whichever_clock_is_ahead() -> None:
    assert START.latest == START.wall
    assert by_vps_org(START, 0).latest == START.wall + HOUR
    assert by_vps_org(START, -61).latest == START.wall


def test_a_moment_survives_being_written_down() -> None:
    for moment in (START, by_vps_org(START, 0)):
        assert Moment.model_validate_json(moment.model_dump_json()) == moment


def test_the_machines_own_clocks_run_forward_in_utc() -> None:
    clock = system_clock()
    first, second = clock.moment(), clock.moment()
    assert first.wall.utcoffset() == timedelta(0)
    assert first.ticks <= second.ticks
    assert first.boot == second.boot
    assert first.within(HOUR, second)
    assert not first.outlived(HOUR, second)
