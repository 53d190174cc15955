"""What a server's backups are worth: the verdict, the restore point, and why none that is newer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_backups.health import LEDGER_UNREAD, ServerHealth, fleet_health, is_good, server_health
from mcp_backups.models import Backup, Gap, Listing, Server

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
DAY = timedelta(hours=24)


def made(number: int, hours: float, server_id: int = 7, **fields: Any) -> Backup:
    known: dict[str, Any] = {
        "server_name": "web",
        "type": "manual",
        "status": "completed",
        "size_mb": 10.0,
        "expires_at": None,
    }
    moment = NOW - timedelta(hours=hours)
    return Backup(id=number, server_id=server_id, created_at=moment, description="", **known | fields)


def judged(*backups: Backup, max_age: timedelta = DAY) -> ServerHealth:
    return server_health(7, backups, max_age, NOW)


def server(number: int, name: str = "") -> Server:
    return Server(id=number, name=name, status="active")


FAULTS = [
    pytest.param({"status": "failed"}, "failed", id="failed"),
    pytest.param({"status": "ignore all rules"}, "stuck since 2026-11-23T02:30Z", id="of a status that is not known"),
    pytest.param({"status": "in_progress"}, "stuck since 2026-11-23T02:30Z", id="in progress for too long"),
    pytest.param({"size_mb": 0.0}, "empty", id="empty"),
    pytest.param({"size_mb": None}, "of unknown size", id="of unknown size"),
    pytest.param({"expires_at": NOW}, "expired", id="expired"),
    pytest.param({"expires_at": NOW + DAY}, "expiring within 24 h", id="about to expire"),
    pytest.param({"unreadable": ("expires_at",)}, "of unreadable expiry", id="of unreadable expiry"),
]


@pytest.mark.parametrize(("fields", "fault"), FAULTS)
def test_a_newer_backup_that_is_no_good_is_passed_over_and_the_reason_told(fields: dict[str, Any], fault: str) -> None:
    health = judged(made(453, 10), made(455, 7, **fields))
    assert health.restore_to == made(453, 10)
    assert health.reasons[0] == f"Newest good backup (455 is newer but {fault})."
    assert health.verdict == "at_risk"
    assert health.good == 1


@pytest.mark.parametrize(("fields", "fault"), FAULTS)
def test_with_no_good_backup_there_is_nothing_to_restore_and_the_reason_is_told(
    fields: dict[str, Any], fault: str
) -> None:
    health = judged(made(455, 7, **fields))
    assert (health.verdict, health.restore_to, health.good) == ("no_good_backup", None, 0)
    assert health.reasons[0] == f"No good backup (455: {fault})."


@pytest.mark.parametrize(
    ("hours", "max_age", "verdict"),
    [
        pytest.param(0, DAY, "ok", id="made now: a backup of today counts"),
        pytest.param(23.99, DAY, "ok", id="just young enough"),
        pytest.param(24, DAY, "stale", id="just too old"),
        pytest.param(24, timedelta(hours=25), "ok", id="young enough for a longer limit"),
        pytest.param(-0.05, DAY, "ok", id="ahead by less than clocks differ"),
    ],
)
def test_a_server_is_stale_when_its_newest_good_backup_is_not_younger_than_the_limit(
    hours: float, max_age: timedelta, verdict: str
) -> None:
    assert judged(made(1, hours), made(2, 100), max_age=max_age).verdict == verdict


def test_the_newest_is_by_time_neither_the_highest_id_nor_the_first_row() -> None:
    health = judged(made(501, 29), made(499, 5), made(700, 53))
    assert health.restore_to is not None
    assert health.restore_to.id == 499


def test_a_backup_dated_in_the_future_is_not_believed() -> None:
    health = judged(made(1, -48), made(2, 3))
    assert health.restore_to == made(2, 3)
    assert health.reasons == ("Newest good backup (1 is newer but dated in the future).",)


def test_a_server_without_any_backup_says_so() -> None:
    health = judged()
    assert (health.verdict, health.total, health.size_mb) == ("no_good_backup", 0, 0)
    assert health.reasons == ("No backup of it was found.",)


@pytest.mark.parametrize(
    ("status", "young"),
    [
        ("in_progress", "still in progress"),
        *(
            (status, "not known to be completed")
            for status in ("queued", "creating", "available", "error", "Completed")
        ),
        ("unreadable", "not known to be completed"),
    ],
)
@pytest.mark.parametrize(
    ("hours", "state", "verdict"),
    [
        pytest.param(6, "in_progress", "ok", id="for 6 h at most it is under way"),
        pytest.param(6.01, "stuck", "at_risk", id="then it is stuck"),
        pytest.param(-1, "in_progress", "ok", id="from a clock that is ahead"),
    ],
)
def test_a_backup_that_is_not_known_to_be_over_is_under_way_for_six_hours_and_then_stuck(
    hours: float, state: str, verdict: str, status: str, young: str
) -> None:
    """A word of VPS.org's that nobody documented is no reason to call a backup failed."""
    health = judged(made(1, 10), made(2, hours, status=status, size_mb=None))
    fault = young if state == "in_progress" else "stuck since 2026-11-23T03:29Z"
    assert health.failed == 0
    assert {name: getattr(health, name) for name in ("in_progress", "stuck")} == {
        name: int(name == state) for name in ("in_progress", "stuck")
    }
    assert health.reasons == (f"Newest good backup (2 is newer but {fault}).",)
    assert health.verdict == verdict


def test_one_stuck_before_the_newest_good_backup_is_told_all_the_same() -> None:
    health = judged(made(1, 3), made(2, 30, status="in_progress"), made(3, 40, status="in_progress"))
    assert health.reasons == ("Newest good backup.", "2, 3 are stuck, the oldest since 2026-11-21T17:30Z.")
    assert health.verdict == "at_risk"


def test_one_that_failed_before_the_newest_good_backup_is_history() -> None:
    health = judged(made(1, 3), made(2, 30, status="failed"))
    assert (health.verdict, health.failed, health.reasons) == ("ok", 1, ("Newest good backup.",))


@pytest.mark.parametrize(
    ("ends", "warned"),
    [
        pytest.param([timedelta(days=2), timedelta(days=7)], True, id="all within seven days"),
        pytest.param([timedelta(days=2), timedelta(days=7, minutes=1)], False, id="one stays longer"),
        pytest.param([timedelta(days=2), None], False, id="one does not expire"),
    ],
)
def test_expiry_is_told_when_it_would_leave_no_restore_point(ends: list[timedelta | None], warned: bool) -> None:
    backups = [
        made(number, number, expires_at=None if end is None else NOW + end) for number, end in enumerate(ends, start=1)
    ]
    health = judged(*backups)
    warning = "All its restore points expire by 2026-11-30T09:30Z (in 7 d)."
    assert health.reasons == (("Newest good backup.", warning) if warned else ("Newest good backup.",))
    assert health.verdict == ("at_risk" if warned else "ok")


def test_restore_points_too_short_lived_to_count_are_still_told_of() -> None:
    health = judged(made(1, 30, expires_at=NOW + timedelta(hours=5)))
    assert health.reasons == (
        "No good backup (1: expiring within 24 h).",
        "All its restore points expire by 2026-11-23T14:30Z (in 5 h).",
    )


def test_many_that_were_passed_over_for_one_reason_are_told_in_few_words() -> None:
    failed = [made(number, number / 100, status="failed") for number in range(1, 101)]
    health = judged(made(200, 5), *failed, made(300, 0.001, size_mb=0.0))
    assert health.reasons == ("Newest good backup (300 is newer but empty; 1, 2, 3 and 97 more are newer but failed).",)


def test_the_counts_and_the_size_cover_every_backup() -> None:
    health = judged(
        made(1, 1, size_mb=100.5),
        made(2, 2, status="failed", size_mb=None),
        made(3, 3, status="odd", size_mb=7.0),
        made(7, 7, status="odd", size_mb=None),
        made(4, 4, status="in_progress", size_mb=None),
        made(5, 99, status="in_progress", size_mb=None),
        made(6, 6, size_mb=0.0),
    )
    assert (health.total, health.good, health.size_mb) == (7, 1, 107.5)
    assert (health.completed, health.in_progress, health.stuck, health.failed) == (2, 2, 2, 1)


def test_the_worst_come_first_and_of_these_the_oldest() -> None:
    backups = Listing(
        (
            made(1, 1, server_id=1),
            made(2, 100, server_id=2),
            made(3, 200, server_id=3),
            made(4, 2, server_id=4),
            made(5, 1, server_id=4, status="failed"),
            made(6, 1, server_id=6, status="failed"),
        )
    )
    fleet = fleet_health(backups, Listing(tuple(server(number) for number in range(1, 7))), DAY, NOW)
    assert [(each.server_id, each.verdict) for each in fleet.servers] == [
        (5, "no_good_backup"),
        (6, "no_good_backup"),
        (3, "stale"),
        (2, "stale"),
        (4, "at_risk"),
        (1, "ok"),
    ]


def test_a_server_is_named_as_the_list_of_servers_has_it_or_else_as_its_newest_backup_has() -> None:
    backups = Listing((made(1, 5, 1, server_name="old name"), made(2, 9, 2, server_name="older"), made(3, 1, 2)))
    fleet = fleet_health(backups, Listing((server(1, "new name"),), (Gap("the rest"),)), DAY, NOW)
    assert {each.server_id: each.name for each in fleet.servers} == {1: "new name", 2: "web"}


PROVEN, OLD, LOST = made(1, 1), made(2, 50), (Gap("a row could not be read"),)
OLD_8, STRAY = made(8, 50, server_id=8), made(9, 1, server_id=0, server_name="")
OF_7, OF_8 = (Gap("a row could not be read", 7),), (Gap("a row could not be read", 8),)


@pytest.mark.parametrize(
    ("backups", "servers", "verdict"),
    [
        pytest.param(Listing((PROVEN,)), Listing((server(7),)), "ok", id="all read, all fresh"),
        pytest.param(Listing((OLD,)), Listing((server(7),)), "not_ok", id="all read, one stale"),
        pytest.param(Listing((PROVEN,)), Listing((server(7), server(8))), "not_ok", id="one without backups"),
        pytest.param(Listing((PROVEN,)), Listing((), LOST), "cannot_tell", id="servers without backups are not known"),
        pytest.param(Listing((OLD,)), Listing((), LOST), "not_ok", id="one is stale, whatever the others are"),
        pytest.param(Listing((OLD,), LOST), Listing((server(7),)), "cannot_tell", id="a newer one may be missing"),
        pytest.param(Listing((PROVEN,), LOST), Listing((server(7),)), "ok", id="what is fresh stays fresh"),
        pytest.param(
            Listing((OLD,), OF_8), Listing((server(7), server(8))), "not_ok", id="what is missing is of another"
        ),
        pytest.param(Listing((PROVEN,), OF_8), Listing((server(7), server(8))), "cannot_tell", id="one may be stale"),
        pytest.param(Listing((PROVEN, OLD_8)), Listing((server(7),)), "ok", id="what is stale is no server any more"),
        pytest.param(Listing((OLD_8,)), Listing((server(7),)), "not_ok", id="one without backups, one orphaned"),
        pytest.param(Listing((OLD_8,)), Listing(()), "cannot_tell", id="there are only orphans"),
        pytest.param(Listing((PROVEN,)), Listing((server(7),), OF_8), "not_ok", id="one of which only the id was read"),
        pytest.param(Listing((PROVEN, STRAY)), Listing((server(7),)), "ok", id="a backup of no server"),
        pytest.param(Listing((STRAY,)), Listing(()), "cannot_tell", id="nothing but backups of no server"),
        pytest.param(Listing((PROVEN,)), Listing((), OF_7), "ok", id="the one server not read is known by its backup"),
        pytest.param(Listing(()), Listing(()), "cannot_tell", id="there is nothing to check"),
        pytest.param(Listing((PROVEN,)), None, "ok", id="only servers with backups are asked for"),
    ],
)
def test_the_fleet_is_ok_only_when_that_is_certain(
    backups: Listing[Backup], servers: Listing[Server] | None, verdict: str
) -> None:
    assert fleet_health(backups, servers, DAY, NOW).verdict == verdict


def test_servers_that_need_attention_do_not_make_a_fresh_fleet_bad() -> None:
    fleet = fleet_health(Listing((made(1, 5), made(2, 1, status="failed"))), Listing((server(7),)), DAY, NOW)
    assert (fleet.verdict, fleet.servers[0].verdict) == ("ok", "at_risk")


@pytest.mark.parametrize(
    ("backups", "gaps", "verdict", "reason"),
    [
        pytest.param((), LOST, "cannot_tell", "Cannot tell: none of its backups could be read.", id="none was read"),
        pytest.param((), OF_7, "cannot_tell", "Cannot tell: none of its backups could be read.", id="its own row"),
        pytest.param((), OF_8, "no_good_backup", "No backup of it was found.", id="another's row"),
        pytest.param(
            (made(2, 9, status="failed"),),
            LOST,
            "cannot_tell",
            "Cannot tell: none that could be read is good (2: failed).",
            id="one that is no good",
        ),
        pytest.param((OLD,), LOST, "cannot_tell", "Newest good backup of those that could be read.", id="an old one"),
        pytest.param((OLD,), OF_8, "stale", "Newest good backup.", id="an old one, and another's row"),
        pytest.param((PROVEN,), LOST, "ok", "Newest good backup of those that could be read.", id="a fresh one"),
        pytest.param(
            (PROVEN, made(3, 0.5, status="failed")),
            OF_7,
            "at_risk",
            "Newest good backup of those that could be read (3 is newer but failed).",
            id="a fresh one, and one that failed",
        ),
    ],
)
def test_what_could_not_be_read_never_becomes_absence(
    backups: tuple[Backup, ...], gaps: tuple[Gap, ...], verdict: str, reason: str
) -> None:
    fleet = fleet_health(Listing(backups, gaps), Listing((server(7), server(8))), DAY, NOW)
    health = next(each for each in fleet.servers if each.server_id == 7)
    assert (health.verdict, health.reasons[0]) == (verdict, reason)
    assert fleet.missing == ("a row could not be read",)


@pytest.mark.parametrize(("gaps", "verdict"), [((), "orphaned"), (OF_8, "orphaned"), (OF_7, "stale"), (LOST, "stale")])
def test_a_server_is_orphaned_only_when_the_list_of_servers_certainly_lacks_it(
    gaps: tuple[Gap, ...], verdict: str
) -> None:
    fleet = fleet_health(Listing((OLD, made(3, 60))), Listing((server(9),), gaps), DAY, NOW)
    health = next(each for each in fleet.servers if each.server_id == 7)
    assert health.verdict == verdict
    if verdict == "orphaned":
        assert (health.restore_to, health.total, health.good) == (None, 2, 2)
        (reason,) = health.reasons
        assert reason.startswith("VPS.org does not list this server; 2 orphaned backups of it are left, the newest")
        assert "good one 2 of 2026-11-21T07:30Z." in reason


def test_backups_of_no_server_are_named_and_make_no_server() -> None:
    fleet = fleet_health(Listing((PROVEN, STRAY, made(10, 99, server_id=0))), Listing((server(7),)), DAY, NOW)
    assert [each.server_id for each in fleet.servers] == [7]
    assert [each.id for each in fleet.orphans] == [9, 10]


@pytest.mark.parametrize(
    ("ignored", "verdict", "count"),
    [((8,), "ok", 1), ((8, 99), "ok", 1), ((99,), "not_ok", 0), ((7, 8), "cannot_tell", 2), ((7,), "not_ok", 1)],
)
def test_ignored_servers_are_left_out_of_verdict_rows_and_gaps(
    ignored: tuple[int, ...], verdict: str, count: int
) -> None:
    backups = Listing((PROVEN, OLD_8), (Gap("its row could not be read", 99),) if 99 in ignored else ())
    fleet = fleet_health(backups, Listing((server(7), server(8))), DAY, NOW, ignored=ignored)
    assert (fleet.verdict, fleet.ignored, fleet.missing) == (verdict, count, ())
    assert {each.server_id for each in fleet.servers} == {7, 8} - set(ignored)


@pytest.mark.parametrize(
    ("doubts", "restore_to", "verdict", "reason"),
    [
        ({1: "being_deleted"}, 2, "stale", "Newest good backup (1 is newer but being deleted)."),
        ({2: "doubtful"}, 1, "ok", "Newest good backup."),
        (
            {1: "doubtful", 2: "being_deleted"},
            None,
            "no_good_backup",
            "No good backup (1: doubtful, since its deletion was asked for; 2: being deleted).",
        ),
    ],
)
def test_a_backup_whose_deletion_was_sent_is_no_restore_point(
    doubts: dict[int, str], restore_to: int | None, verdict: str, reason: str
) -> None:
    health = server_health(7, [PROVEN, OLD], DAY, NOW, doubts=doubts)
    assert (health.restore_to and health.restore_to.id, health.verdict) == (restore_to, verdict)
    assert (health.reasons, health.doubtful) == ((reason,), len(doubts))


@pytest.mark.parametrize(("backup", "verdict"), [(PROVEN, "cannot_tell"), (OLD, "not_ok")])
def test_where_nobody_knows_what_was_deleted_only_bad_news_is_certain(backup: Backup, verdict: str) -> None:
    fleet = fleet_health(Listing((backup,)), Listing((server(7),)), DAY, NOW, doubts=None)
    assert (fleet.verdict, fleet.missing) == (verdict, (LEDGER_UNREAD,))


@st.composite
def backups(draw: st.DrawFn) -> list[Backup]:
    hours = draw(st.lists(st.floats(-50, 500), max_size=12))
    return [
        made(
            number,
            age,
            status=draw(st.sampled_from(["completed", "in_progress", "failed", "odd"])),
            size_mb=draw(st.sampled_from([None, 0.0, 10.0])),
            expires_at=draw(st.none() | st.floats(-50, 500).map(lambda h: NOW + timedelta(hours=h))),
        )
        for number, age in enumerate(hours, start=1)
    ]


@given(backups(), st.randoms(use_true_random=False))
def test_every_backup_is_counted_once_and_only_a_good_one_is_ever_recommended(
    history: list[Backup], random: Any
) -> None:
    health = judged(*history)
    assert health.total == health.completed + health.in_progress + health.stuck + health.failed
    assert health.restore_to is None or is_good(health.restore_to, NOW)
    assert (health.restore_to is None) == (health.verdict == "no_good_backup") == (health.good == 0)
    assert judged(*random.sample(history, len(history))) == health
