"""list_backups by time: from when, before when, and in which order, page by page."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.sandbox import Backup, Emulator
from tests.stage import ManualClock, Session

from .refusals import assert_refused

pytestmark = pytest.mark.anyio

AGES = (1, 2, 3, 5, 8)
"""Days since each of the backups of one server was made; their ids are 901, 902, …"""

WANTED: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2, 3, 5, 8]),
    ({"order": "oldest"}, [8, 5, 3, 2, 1]),
    ({"created_after": "7d"}, [1, 2, 3, 5]),
    ({"created_after": "1w"}, [1, 2, 3, 5]),
    ({"created_after": "48h"}, [1, 2]),
    ({"created_before": "3d"}, [5, 8]),
    ({"created_before": "72h", "order": "oldest"}, [8, 5]),
    ({"created_after": "5d", "created_before": "2d"}, [3, 5]),
    ({"created_after": "2026-11-20T09:30Z"}, [1, 2, 3]),
    ({"created_after": "2026-11-20T09:30:01Z"}, [1, 2]),
    ({"created_before": "2026-11-20T09:30Z"}, [5, 8]),
    ({"created_after": "2026-11-20T10:30+01:00"}, [1, 2, 3]),
    ({"created_after": "2026-11-21"}, [1, 2]),
    ({"created_after": " 7d "}, [1, 2, 3, 5]),
    ({"created_after": "99999w"}, [1, 2, 3, 5, 8]),
    ({"created_after": "0h"}, []),
]


@pytest.fixture(autouse=True)
def five(emulator: Emulator, clock: ManualClock) -> None:
    for days in AGES:
        made = clock.now() - timedelta(days=days)
        emulator.fleet.backups[900 + days] = Backup(900 + days, 12360, made, "manual", size_mb=1)


@pytest.mark.parametrize(("filters", "days"), WANTED, ids=str)
async def test_only_what_was_made_then_is_listed_in_that_order(
    agent: Session, filters: dict[str, Any], days: list[int]
) -> None:
    answer = await agent.call("list_backups", server_id=12360, **filters)
    assert [row["id"] - 900 for row in answer.data["backups"]] == days
    assert answer.data["total"] == len(days)
    assert f"{filters.get('order', 'newest')} first" in answer.text


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_follow_each_other_in_either_order(agent: Session, order: str) -> None:
    shown: list[int] = []
    cursor = ""
    while True:
        page = await agent.call("list_backups", server_id=12360, order=order, limit=2, cursor=cursor)
        shown += [row["id"] - 900 for row in page.data["backups"]]
        cursor = page.data.get("next_cursor", "")
        if not cursor:
            break
    assert shown == (list(AGES) if order == "newest" else list(AGES)[::-1])


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"created_after": "yesterday"}, "created_after must be a time as ISO 8601"),
        ({"created_before": "7"}, "got text '7'"),
        ({"created_before": "7 days"}, "or an age, such as 36h, 7d or 4w"),
        ({"created_after": "-3d"}, "created_after must be"),
        ({"created_after": "2026-13-01"}, "created_after must be"),
        ({"created_after": "2d", "created_before": "5d"}, "created_after must be an earlier time than created_before"),
        ({"order": "random"}, "order must be one of newest, oldest"),
        ({"created_after": 7}, "created_after must be text"),
    ],
    ids=str,
)
async def test_what_is_no_time_is_refused_with_what_would_be_one(
    agent: Session, filters: dict[str, Any], told: str
) -> None:
    answer = await agent.call("list_backups", **filters)
    assert_refused(answer, "invalid_argument")
    assert told in answer.text


@pytest.mark.parametrize("filters", [{"created_before": "0001-01-01"}, {"created_after": "9999-12-31T23:59:59.9999Z"}])
async def test_a_time_beyond_every_backup_is_told_of_by_itself(agent: Session, filters: dict[str, Any]) -> None:
    answer = await agent.call("list_backups", **filters)
    assert (answer.is_error, answer.data["total"]) == (False, 0)


async def test_a_cursor_counts_only_for_the_same_times_and_order(agent: Session) -> None:
    first = await agent.call("list_backups", server_id=12360, created_after="7d", limit=2)
    cursor = first.data["next_cursor"]
    for other in ({"created_after": "6d"}, {"order": "oldest"}, {"created_before": "1d"}):
        arguments = {"server_id": 12360, "created_after": "7d", "limit": 2, "cursor": cursor} | other
        assert (await agent.call("list_backups", **arguments)).code == "invalid_argument"
    again = await agent.call("list_backups", server_id=12360, created_after="7d", limit=2, cursor=cursor)
    assert [row["id"] - 900 for row in again.data["backups"]] == [3, 5]


@pytest.mark.parametrize(
    ("filters", "only"),
    [
        ({}, ""),
        ({"created_after": "7d"}, "created from 2026-11-16T09:30Z on"),
        ({"created_before": "2026-11-22"}, "created before 2026-11-22T00:00Z"),
        ({"created_after": "2026-11-22T05:30+02:00"}, "created from 2026-11-22T03:30Z on"),
        ({"created_after": "2027-01-01"}, "created from 2027-01-01T00:00Z on"),
        (
            {"created_after": "2026-W47", "created_before": "0h"},
            "created from 2026-11-16T00:00Z on, created before 2026-11-23T09:30Z",
        ),
        ({"backup_type": "automatic"}, "automatic"),
        ({"backup_type": "manual", "status": "other"}, "manual, status other"),
    ],
    ids=str,
)
async def test_it_is_told_what_was_asked_for_and_how_an_age_was_read(
    agent: Session, filters: dict[str, Any], only: str
) -> None:
    """ "0 of 0 backups of server 12360" read as if it had none."""
    answer = await agent.call("list_backups", server_id=12360, **filters)
    assert answer.data.get("only", "") == only
    told = f" (only: {only})" if only else ""
    assert f" backups of server 12360 (staging-01){told}, newest first" in answer.text
