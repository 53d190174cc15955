from datetime import timedelta

import pytest

from mcp_backups.sandbox import Backup, Fleet, large_fleet, seeded_fleet

from .stage import Clock


@pytest.fixture
def fleet(clock: Clock) -> Fleet:
    return seeded_fleet(clock())


def history(fleet: Fleet, name: str) -> list[Backup]:
    """The backups of a server, newest first."""
    server = next(server for server in fleet.servers.values() if server.name == name)
    return sorted(fleet.backups_of(server.id), key=lambda backup: backup.created_at, reverse=True)


def test_it_depends_on_the_time_alone(clock: Clock) -> None:
    assert seeded_fleet(clock()) == seeded_fleet(clock())


def test_it_has_eight_servers_and_over_seventy_backups(fleet: Fleet) -> None:
    assert len(fleet.servers) == 8
    assert len(fleet.backups) == 81


def test_the_web_server_is_fresh_and_can_spare_the_documented_backups(fleet: Fleet, clock: Clock) -> None:
    backups = history(fleet, "web-server-01")
    assert [backup.id for backup in backups[:2]] == [501, 495]
    assert clock() - backups[0].created_at == timedelta(hours=5)
    assert all(backup.status == "completed" and backup.size_mb for backup in backups)
    assert len(backups) == 18
    assert {backup.backup_type for backup in backups} == {"automatic", "manual"}


def test_the_database_server_is_fresh_too_and_keeps_one_backup_on_purpose(fleet: Fleet, clock: Clock) -> None:
    backups = history(fleet, "db-server-01")
    assert clock() - backups[0].created_at == timedelta(hours=3)
    assert len(backups) == 25
    assert [backup.description for backup in fleet.backups.values() if "[keep]" in backup.description] == [
        "Year end [keep]"
    ]


def test_the_mail_server_is_stale_for_nine_days(fleet: Fleet, clock: Clock) -> None:
    assert clock() - history(fleet, "mail-server-01")[0].created_at == timedelta(days=9)


def test_the_staging_server_was_never_backed_up(fleet: Fleet) -> None:
    assert history(fleet, "staging-01") == []


def test_the_build_runner_has_exactly_one_good_backup(fleet: Fleet) -> None:
    (only,) = history(fleet, "build-runner-01")
    assert (only.status, only.expires_at) == ("completed", None)


def test_the_newest_backup_of_the_shop_failed(fleet: Fleet) -> None:
    newest, *others = history(fleet, "shop-server-01")
    assert (newest.status, newest.size_mb) == ("failed", None)
    assert {backup.status for backup in others} == {"completed"}


def test_a_backup_of_analytics_is_stuck_for_three_days(fleet: Fleet, clock: Clock) -> None:
    newest, *others = history(fleet, "analytics-01")
    assert (newest.status, newest.size_mb, newest.ready_at) == ("in_progress", None, None)
    assert clock() - newest.created_at == timedelta(days=3)
    assert {backup.status for backup in others} == {"completed"}


def test_all_that_the_old_crm_has_expires_within_a_week(fleet: Fleet, clock: Clock) -> None:
    ends = [backup.expires_at for backup in history(fleet, "crm-legacy-01")]
    assert len(ends) == 6
    assert all(end and clock() < end < clock() + timedelta(days=7) for end in ends)


def test_automatic_backups_live_31_days_and_none_has_outlived_them(fleet: Fleet, clock: Clock) -> None:
    for backup in fleet.backups.values():
        end = backup.created_at + timedelta(days=31)
        assert backup.expires_at == (end if backup.backup_type == "automatic" else None)
        assert backup.backup_type == "manual" or end > clock()


def test_sizes_grow_slowly(fleet: Fleet) -> None:
    sizes = [backup.size_mb or 0 for backup in history(fleet, "db-server-01")]
    assert sizes == sorted(sizes, reverse=True)
    assert 0.9 < sizes[-1] / sizes[0] < 1


def test_ids_are_not_in_the_order_of_time(fleet: Fleet) -> None:
    by_id = [backup.created_at for _, backup in sorted(fleet.backups.items())]
    assert by_id != sorted(by_id)
    assert all(number == backup.id for number, backup in fleet.backups.items())


def test_a_large_fleet_shares_its_backups_evenly(clock: Clock) -> None:
    fleet = large_fleet(servers=40, backups=1000, now=clock())
    assert fleet == large_fleet(servers=40, backups=1000, now=clock())
    assert (len(fleet.servers), len(fleet.backups)) == (40, 1000)
    assert {len(list(fleet.backups_of(number))) for number in fleet.servers} == {25}
    assert all(backup.status == "completed" and backup.size_mb for backup in fleet.backups.values())
