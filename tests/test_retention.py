"""The keep rules: those of restic and borg, by hand-worked tables, and by properties that hold for any history."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.errors import InvalidArgumentError
from mcp_backups.health import is_good
from mcp_backups.models import Backup
from mcp_backups.retention import Keep, Ruling, rulings

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
LONG_AFTER = datetime(2100, 1, 1, tzinfo=UTC)
NO_RULE = ""


def reason(ruling: Ruling) -> str:
    """Why a backup stays, empty if it goes."""
    return ruling.left_alone or ", ".join(ruling.kept_by)


def made(when: str | datetime, number: int = 1, **fields: Any) -> Backup:
    moment = datetime.fromisoformat(when).replace(tzinfo=UTC) if isinstance(when, str) else when
    known: dict[str, Any] = {
        "server_name": "",
        "type": "manual",
        "status": "completed",
        "size_mb": 10.0,
        "expires_at": None,
    }
    return Backup(id=number, server_id=1, created_at=moment, description="", **known | fields)


def history(*whens: str) -> list[Backup]:
    return [made(when, number) for number, when in enumerate(whens, start=1)]


def told(backups: list[Backup], keep: Keep, now: datetime = LONG_AFTER) -> dict[str, str]:
    return {f"{each.backup.created_at:%Y-%m-%dT%H:%M}": reason(each) for each in rulings(backups, keep, now)}


TABLES = [
    pytest.param(
        Keep(last=3),
        {
            "2026-11-23T03:00": "keep-last 3",
            "2026-11-23T02:00": "keep-last 3",
            "2026-11-01T00:00": "keep-last 3",
            "2025-01-01T00:00": NO_RULE,
        },
        id="the newest, whatever their dates",
    ),
    pytest.param(
        Keep(daily=2),
        {
            "2026-11-23T03:00": "keep-daily 2026-11-23",
            "2026-11-23T02:00": NO_RULE,
            "2026-11-01T23:59": "keep-daily 2026-11-01",
            "2026-11-01T00:00": NO_RULE,
            "2026-10-31T23:59": NO_RULE,
        },
        id="days without a backup take up no place",
    ),
    pytest.param(
        Keep(daily=4),
        {
            "2024-03-01T00:00": "keep-daily 2024-03-01",
            "2024-02-29T23:59": "keep-daily 2024-02-29",
            "2024-02-29T00:00": NO_RULE,
            "2024-02-28T12:00": "keep-daily 2024-02-28",
            "2023-03-01T00:00": "keep-daily 2023-03-01",
            "2023-02-28T23:59": NO_RULE,
        },
        id="a leap day is a day of its own",
    ),
    pytest.param(
        Keep(monthly=2),
        {
            "2024-03-01T00:00": "keep-monthly 2024-03",
            "2024-02-29T23:59": "keep-monthly 2024-02",
            "2024-02-28T23:59": NO_RULE,
        },
        id="a leap day ends its month",
    ),
    pytest.param(
        Keep(daily=4),
        {
            "2026-10-25T23:30": "keep-daily 2026-10-25",
            "2026-10-25T01:30": NO_RULE,
            "2026-10-25T00:30": NO_RULE,
            "2026-10-24T23:30": "keep-daily 2026-10-24",
            "2026-03-29T01:30": "keep-daily 2026-03-29",
            "2026-03-28T23:30": "keep-daily 2026-03-28",
        },
        id="the days on which clocks change in Europe are days like others",
    ),
    pytest.param(
        Keep(weekly=4),
        {
            "2027-01-04T00:00": "keep-weekly 2027-W01",
            "2027-01-03T23:59": "keep-weekly 2026-W53",
            "2027-01-01T00:00": NO_RULE,
            "2026-12-28T00:00": NO_RULE,
            "2026-12-27T23:59": "keep-weekly 2026-W52",
            "2026-01-01T00:00": "keep-weekly 2026-W01",
            "2025-12-29T00:00": NO_RULE,
            "2025-12-28T23:59": NO_RULE,
        },
        id="ISO week 53 reaches into January, and week 1 into December",
    ),
    pytest.param(
        Keep(last=1, daily=2, weekly=2, monthly=2),
        {
            "2026-11-23T09:00": "keep-last 1, keep-daily 2026-11-23, keep-weekly 2026-W48, keep-monthly 2026-11",
            "2026-11-23T08:00": NO_RULE,
            "2026-11-22T09:00": "keep-daily 2026-11-22, keep-weekly 2026-W47",
            "2026-11-21T09:00": NO_RULE,
            "2026-10-31T09:00": "keep-monthly 2026-10",
            "2026-10-30T09:00": NO_RULE,
        },
        id="what any rule keeps is kept, and a backup may count for several",
    ),
    pytest.param(
        Keep(daily=3),
        {
            "2026-11-23T09:00": "keep-daily 2026-11-23",
            "2026-11-22T09:00": "keep-daily 2026-11-22",
            "2026-11-22T08:00": NO_RULE,
            "2026-11-22T07:00": "keep-daily 2026-11-22 (oldest)",
        },
        id="while places are free the oldest is kept too, as in restic and borg",
    ),
]


@pytest.mark.parametrize(("keep", "expected"), TABLES)
def test_the_rules_keep_what_was_worked_out_by_hand(keep: Keep, expected: dict[str, str]) -> None:
    assert told(history(*expected), keep) == expected
    assert told(history(*reversed(expected)), keep) == expected


def test_the_newest_is_told_first_and_the_higher_id_of_two_at_once() -> None:
    backups = [made("2026-11-01", 3), made("2026-11-02", 1), made("2026-11-01", 9)]
    assert [ruling.backup.id for ruling in rulings(backups, Keep(last=1), NOW)] == [1, 9, 3]


def test_days_are_those_of_utc_whatever_zone_a_time_was_told_in() -> None:
    late = datetime(2026, 11, 22, 23, 30, tzinfo=timezone(timedelta(hours=-8)))
    (ruling,) = rulings([made(late)], Keep(daily=1), LONG_AFTER)
    assert reason(ruling) == "keep-daily 2026-11-23"


USELESS = [
    pytest.param({"status": "in_progress", "size_mb": None}, "in progress", id="in progress"),
    pytest.param({"status": "failed"}, NO_RULE, id="failed"),
    *(
        pytest.param({"status": word}, "it is not known what its status means", id=f"status {word!r}")
        for word in ("available", "queued", "creating", "archived", "error", "", "Completed", "FAILED", "unreadable")
    ),
    pytest.param({"size_mb": 0.0}, NO_RULE, id="empty"),
    pytest.param({"size_mb": None}, "size unknown", id="of unknown size"),
    pytest.param({"unreadable": ("expires_at",)}, "it cannot be read when it expires", id="of unreadable expiry"),
    pytest.param({"expires_at": NOW}, "expires by itself", id="expired"),
    pytest.param({"expires_at": NOW + timedelta(hours=24)}, "expires by itself", id="about to expire"),
]


@pytest.mark.parametrize(("fields", "why"), USELESS)
@pytest.mark.parametrize("keep", [Keep(last=1), Keep(daily=1), Keep(weekly=1), Keep(monthly=1)])
def test_what_cannot_be_relied_on_never_pushes_a_good_backup_out(
    fields: dict[str, object], why: str, keep: Keep
) -> None:
    newer, good = made("2026-11-19T12:00", 2, **fields), made("2026-11-18T12:00", 1)
    first, second = rulings([newer, good], keep, NOW)
    assert reason(first) == why
    assert reason(second)


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=25), timedelta(days=400), timedelta(days=-2)])
def test_what_no_one_knows_to_be_finished_or_failed_is_left_alone_at_any_age(age: timedelta) -> None:
    """`available` may be somebody's word for completed: a backup is not junk because its status is not known here."""
    (ruling,) = rulings([made(NOW - age, status="available")], Keep(last=1), NOW)
    assert reason(ruling) == "it is not known what its status means"


@pytest.mark.parametrize("fields", [{}, {"status": "failed"}, {"status": "available"}, {"size_mb": None}])
def test_what_may_still_be_deleted_fills_no_place_and_is_no_candidate(fields: dict[str, object]) -> None:
    doubtful, good = made("2026-11-19T12:00", 2, **fields), made("2026-11-18T12:00", 1)
    first, second = rulings([doubtful, good], Keep(last=1), NOW, {2})
    assert reason(first) == "its deletion was sent before"
    assert reason(second) == "keep-last 1"


@pytest.mark.parametrize("minutes", [6, 120, 2 * 24 * 60])
def test_what_is_dated_in_the_future_fills_no_place_and_is_left_alone(minutes: int) -> None:
    ahead, good = made(NOW + timedelta(minutes=minutes), 2), made("2026-11-18T12:00", 1)
    first, second = rulings([ahead, good], Keep(last=1), NOW)
    assert (reason(first), reason(second)) == ("dated in the future", "keep-last 1")


@pytest.mark.parametrize("keep", [Keep(last=1), Keep(daily=1), Keep(weekly=1), Keep(monthly=1)])
@pytest.mark.parametrize("hours", [25, 24 * 300])
def test_of_two_made_at_once_the_one_that_lasts_is_kept(hours: int, keep: Keep) -> None:
    lasting, ending = made("2026-11-19T12:00", 1), made("2026-11-19T12:00", 2, expires_at=NOW + timedelta(hours=hours))
    first, second = rulings([ending, lasting], keep, NOW)
    assert (first.backup.id, bool(reason(first)), bool(reason(second))) == (1, True, False)


AGES: list[tuple[int, float, str]] = [
    (7, 6.99, "younger than 7 days"),
    (7, 7, ""),
    (1, 0, "younger than 1 day"),
    (36_500, 400, "younger than 36500 days"),
    (0, 0, "keep-last 1"),
]


@pytest.mark.parametrize(("older_than", "days", "why"), AGES)
def test_an_age_alone_lets_all_that_is_older_go(older_than: int, days: float, why: str) -> None:
    keep = Keep(older_than_days=older_than) if older_than else Keep(last=1)
    (ruling,) = rulings([made(NOW - timedelta(days=days))], keep, NOW)
    assert reason(ruling) == why


def test_what_goes_is_older_and_kept_by_no_rule() -> None:
    backups = [made(NOW - timedelta(days=days), 10 - days) for days in (1, 5, 8, 9)]
    said = [reason(each) for each in rulings(backups, Keep(last=3, older_than_days=7), NOW)]
    assert said == ["keep-last 3, younger than 7 days", "keep-last 3, younger than 7 days", "keep-last 3", ""]


@pytest.mark.parametrize("fields", [{}, {"status": "failed", "size_mb": None}, {"size_mb": 0.0}])
def test_an_age_is_judged_by_the_clock_that_is_behind(fields: dict[str, Any]) -> None:
    """A clock that is years ahead would let everything go."""
    (ruling,) = rulings([made("2026-11-22", **fields)], Keep(older_than_days=7), LONG_AFTER, earliest=NOW)
    assert reason(ruling) == "younger than 7 days"


@pytest.mark.parametrize(
    "counts",
    [{}, {"last": -1}, {"daily": 3, "monthly": -1}, {"older_than_days": -1}, {"last": 1, "older_than_days": -1}],
)
def test_rules_that_keep_nothing_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError):
        Keep(**counts)


def test_the_histories_of_two_servers_are_not_mixed() -> None:
    """One server's backups would push the other's out."""
    backups = [made("2026-11-01", 1), replace_server(made("2026-11-02", 2), 2)]
    with pytest.raises(ValueError, match="several servers"):
        rulings(backups, Keep(last=1), NOW)


def replace_server(backup: Backup, server_id: int) -> Backup:
    return replace(backup, server_id=server_id)


def test_nothing_at_all_is_fine() -> None:
    assert rulings([], Keep(last=1), NOW) == []


moments = st.datetimes(datetime(2019, 12, 20), datetime(2026, 11, 25), timezones=st.just(UTC))  # noqa: DTZ001
statuses = st.sampled_from(["completed", "completed", "completed", "in_progress", "failed", "queued"])
expiries = st.none() | moments
sizes = st.sampled_from([None, 0.0, 10.0, 10.0])
counts = st.integers(0, 6)
keeps = st.tuples(counts, counts, counts, counts).filter(any).map(lambda numbers: Keep(*numbers))


@st.composite
def histories(draw: st.DrawFn) -> list[Backup]:
    # Few days, so that periods hold several backups; and many, so that rules fill up.
    days = draw(st.lists(moments | st.sampled_from([NOW - timedelta(hours=h) for h in range(72)]), max_size=30))
    return [
        made(moment, number, status=draw(statuses), size_mb=draw(sizes), expires_at=draw(expiries))
        for number, moment in enumerate(days, start=1)
    ]


def kept(backups: list[Backup], keep: Keep) -> set[int]:
    return {ruling.backup.id for ruling in rulings(backups, keep, NOW) if bool(reason(ruling))}


def places(keep: Keep) -> list[tuple[int, str]]:
    return [(keep.daily, "%Y-%m-%d"), (keep.weekly, "%G-%V"), (keep.monthly, "%Y-%m")]


@given(histories(), keeps)
def test_never_less_is_kept_than_the_rules_say(backups: list[Backup], keep: Keep) -> None:
    good = [backup for backup in backups if is_good(backup, NOW)]
    left = [backup for backup in good if backup.id in kept(backups, keep)]
    assert len(left) >= min(keep.last, len(good))
    for count, period in places(keep):
        periods = sorted({backup.created_at.strftime(period) for backup in good}, reverse=True)
        for wanted in periods[:count]:
            newest = max(backup.created_at for backup in good if backup.created_at.strftime(period) == wanted)
            assert any(backup.created_at == newest for backup in left)


@given(histories(), keeps, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(backups: list[Backup], keep: Keep, random: Random) -> None:
    mixed = random.sample(backups, len(backups))
    assert rulings(mixed, keep, NOW) == rulings(backups, keep, NOW)


@given(histories(), keeps, counts, st.sampled_from(["last", "daily", "weekly", "monthly"]))
def test_another_rule_or_a_larger_one_never_drops_a_kept_backup(
    backups: list[Backup], keep: Keep, more: int, rule: str
) -> None:
    larger = replace(keep, **{rule: getattr(keep, rule) + more})
    assert kept(backups, keep) <= kept(backups, larger)


@given(histories(), keeps)
def test_what_was_kept_is_kept_when_the_rules_are_applied_again(backups: list[Backup], keep: Keep) -> None:
    survivors = [ruling.backup for ruling in rulings(backups, keep, NOW) if bool(reason(ruling))]
    assert kept(survivors, keep) == {backup.id for backup in survivors}


@given(histories(), keeps)
def test_what_cannot_be_relied_on_changes_nothing_for_the_rest(backups: list[Backup], keep: Keep) -> None:
    good = [backup for backup in backups if is_good(backup, NOW)]
    assert kept(good, keep) == kept(backups, keep) & {backup.id for backup in good}


@given(histories(), keeps)
def test_a_backup_in_progress_is_always_kept(backups: list[Backup], keep: Keep) -> None:
    assert {backup.id for backup in backups if backup.status == "in_progress"} <= kept(backups, keep)


@given(histories(), keeps)
def test_a_good_backup_is_kept_unless_a_newer_one_is(backups: list[Backup], keep: Keep) -> None:
    """Whoever has a good backup still has one afterwards."""
    good = {backup.id for backup in backups if is_good(backup, NOW)}
    assert bool(good) == bool(good & kept(backups, keep))
