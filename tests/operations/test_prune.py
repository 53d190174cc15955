"""What a prune makes of each backup: the keep rules first, then the operator's rules, then the budget."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcp_backups.models import Backup, Listing
from mcp_backups.operations.desk import Desk
from mcp_backups.operations.operation import PruneItem
from mcp_backups.operations.policy import Holdings
from mcp_backups.operations.prune import _go_on
from mcp_backups.operations.prune_plan import judge
from mcp_backups.retention import Keep
from mcp_backups.settings import Settings
from tests.stage import ManualClock

from .made import operation

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


async def no_progress(*_: object) -> None:
    pass


def made(number: int, **fields: Any) -> Backup:
    """A good manual backup; the higher its number, the older."""
    known: dict[str, Any] = {
        "server_id": 1,
        "server_name": "web",
        "type": "manual",
        "status": "completed",
        "size_mb": 10.0,
        "created_at": NOW - timedelta(days=number),
        "expires_at": None,
        "description": "",
    }
    return Backup(id=number, **known | fields)


def judged(
    *backups: Backup,
    keep: Keep | None = None,
    room: int = 100,
    made_here: tuple[int, ...] = (),
    deleted_here: tuple[int, ...] = (),
    **rules: Any,
) -> tuple[PruneItem, ...]:
    holdings = Holdings(Listing(backups), made_here, NOW, deleted_here)
    return judge(Settings(**rules), holdings, 1, keep or Keep(last=1), room)


def fates(items: tuple[PruneItem, ...]) -> str:
    """`k` for each that is kept, `d` deleted, `l` left for later; newest first."""
    return "".join(item.fate[0] for item in items)


FIVE = tuple(made(number) for number in range(1, 6))

TABLE: list[tuple[dict[str, Any], str]] = [
    ({}, "kdddd"),
    ({"keep": Keep(last=3)}, "kkkdd"),
    ({"keep": Keep(last=1, daily=2)}, "kkddd"),
    ({"keep": Keep(last=9)}, "kkkkk"),
    ({"room": 4}, "kdddd"),
    ({"room": 2}, "klldd"),
    ({"room": 0}, "kllll"),
    ({"keep_min": 0}, "kdddd"),
    ({"keep_min": 3}, "kkkdd"),
    ({"keep_min": 5}, "kkkkk"),
    ({"keep_min": 9}, "kkkkk"),
    ({"keep_min": 3, "room": 1}, "kkkld"),
    ({"protected_backups": {3}}, "kdkdd"),
    ({"protected_servers": {1}}, "kkkkk"),
    ({"made_here": (1,)}, "kkddd"),
    ({"made_here": (1, 2, 3, 4, 5), "keep_min": 1}, "kkkkk"),
]


@pytest.mark.parametrize(("given", "expected"), TABLE, ids=lambda each: str(each)[:50])
def test_of_five_backups_a_day_apart(given: dict[str, Any], expected: str) -> None:
    assert fates(judged(*FIVE, **given)) == expected


ONE_OF_FIVE: list[tuple[dict[str, Any], str, str]] = [
    ({"keep": True}, "keep", "Backup 3 is marked to be kept."),
    ({"status": "in_progress", "size_mb": None}, "keep", "left alone: in progress"),
    ({"size_mb": None}, "keep", "left alone: size unknown"),
    ({"expires_at": NOW + timedelta(hours=1)}, "keep", "left alone: expires by itself"),
    ({"status": "failed", "size_mb": None}, "delete", "no rule"),
    ({"size_mb": 0.0}, "delete", "no rule"),
    ({}, "delete", "no rule"),
]


@pytest.mark.parametrize(("fields", "fate", "reason"), ONE_OF_FIVE, ids=str)
def test_what_is_special_about_one_decides_about_that_one(fields: dict[str, Any], fate: str, reason: str) -> None:
    items = judged(*FIVE[:2], made(3, **fields), *FIVE[3:])
    (item,) = [item for item in items if item.backup.id == 3]
    assert (item.fate, item.reason) == (fate, reason)


def test_automatic_backups_and_those_of_other_servers_are_not_in_a_plan() -> None:
    items = judged(made(1), made(2, type="automatic"), made(3, server_id=2), made(4, type="imported"), made(5))
    assert [item.backup.id for item in items] == [1, 5]


def test_an_automatic_backup_counts_as_one_that_stays() -> None:
    """What must stay on a server is good backups, whoever made them; no keep rule looks at them."""
    unsure = made(1, status="failed")
    assert fates(judged(unsure, made(2), made(3), keep=Keep(last=1), keep_min=2)) == "dkk"
    assert fates(judged(unsure, made(2), made(3), made(4, type="automatic"), keep=Keep(last=1), keep_min=2)) == "dkd"


def test_the_oldest_go_first_when_the_budget_does_not_suffice() -> None:
    items = judged(*FIVE, room=2)
    assert [item.backup.id for item in items if item.fate == "delete"] == [4, 5]
    assert {item.reason for item in items if item.fate == "later"} == {"later"}


def test_the_plan_is_newest_first_in_whatever_order_the_list_comes() -> None:
    items = judged(*(FIVE[index] for index in (3, 0, 4, 2, 1)))
    assert [item.backup.id for item in items] == [1, 2, 3, 4, 5]


def test_one_that_was_deleted_and_is_still_listed_takes_up_no_place() -> None:
    """Else it would be kept by the rule, and the one that is there would go."""
    items = judged(*FIVE, deleted_here=(1,))
    assert [(item.backup.id, item.fate) for item in items[:2]] == [(2, "keep"), (3, "delete")]
    assert len(items) == 4


def test_there_is_nothing_to_judge_on_a_server_without_manual_backups() -> None:
    assert judged(made(1, type="automatic")) == ()


@pytest.mark.anyio
async def test_a_prune_that_another_call_has_ended_meanwhile_is_not_taken_up(desk: Desk, clock: ManualClock) -> None:
    before = operation("prune_backups", "preparing", created=clock.moment())
    ended = await desk.record(before.but(status="succeeded", evidence="each is absent"))
    told = await _go_on(no_progress, desk, before, "plan")
    assert (told.operation, told.replayed) == (ended, True)
