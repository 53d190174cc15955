"""create_backup: one backup for one request, and never said to be finished before it is."""

import math
from typing import Any

import anyio
import pytest

from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.sandbox.fleet import Backup
from tests.stage import AgentWith, Answer, ManualClock, Session
from tests.test_text import NO_PLACE

from .conftest import AgentOn

pytestmark = pytest.mark.anyio


def made(emulator: Emulator) -> list[Backup]:
    """The backups made since the start."""
    emulator.settle()
    return [backup for number, backup in emulator.fleet.backups.items() if number > 501]


def assert_strictly_increasing(answer: Answer) -> None:
    told = [so_far for so_far, _, _ in answer.progress]
    assert told
    assert told == sorted(set(told))


async def test_a_backup_is_started_and_said_to_be_no_more_than_started(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("create_backup", server_id=12345, description="Before the upgrade")
    (backup,) = made(emulator)
    assert (answer.status, answer.data["changed"], answer.replayed) == ("accepted", "started", False)
    assert answer.data["server"] == {"id": 12345, "name": "web-server-01"}
    assert (answer.data["backup"]["id"], answer.data["backup"]["status"]) == (backup.id, "in_progress")
    assert backup.description == f"Before the upgrade [{answer.operation}]"
    assert f"get_operation(operation_id='{answer.operation}'" in answer.data["next_step"]
    assert emulator.count("POST") == emulator.count("POST", "/backups/") == 1
    assert answer.progress == []


async def test_two_backups_that_may_be_it_are_told(agent: Session, emulator: Emulator) -> None:
    """VPS.org made two of one request: which of them is meant is not known, and another one is not made."""

    def twice(listing: dict[str, Any]) -> None:
        rows = [row | {"id": 503} for row in listing["results"] if row["id"] == 502]
        listing["results"] += rows
        listing["count"] += len(rows)

    emulator.fail(Fault.status(500, apply=True), method="POST")
    emulator.fail(Fault.edited(twice), method="GET", times=None)
    answer = await agent.call("create_backup", server_id=12345, description="nightly")
    assert answer.code == "outcome_unknown"
    assert "and 2 backups may be it (502, 503)." in answer.text
    again = await agent.call("create_backup", server_id=12345, description="nightly")
    assert (again.status, again.replayed, emulator.count("POST")) == ("unknown", True, 1)
    assert "was started: 2 backups may be it (502, 503)." in again.data["summary"]
    emulator.clear_faults()
    known = await agent.call("get_operation", operation_id=again.operation)
    assert (known.status, known.data["backup"]["id"]) == ("accepted", 502)


async def test_waiting_tells_progress_and_ends_as_soon_as_the_backup_is_finished(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    answer = await agent.call("create_backup", server_id=12345, wait_seconds=45)
    (backup,) = made(emulator)
    assert (answer.status, backup.status) == ("succeeded", "completed")
    assert answer.data["backup"]["size_mb"] == backup.size_mb
    assert_strictly_increasing(answer)
    assert all(total == 45 and answer.operation in (message or "") for _, total, message in answer.progress)
    assert 8 <= clock.passed < 15


@pytest.mark.parametrize(
    ("backup_seconds", "wait", "status"), [(120, 45, "accepted"), (40, 45, "succeeded"), (2, 1, "accepted")]
)
async def test_waiting_says_truthfully_whether_the_backup_is_finished(
    agent_on: AgentOn, clock: ManualClock, backup_seconds: float, wait: int, status: str
) -> None:
    async with Emulator(now=clock.now, backup_seconds=backup_seconds) as emulator, agent_on(emulator) as agent:
        answer = await agent.call("create_backup", server_id=12345, wait_seconds=wait)
        (backup,) = made(emulator)
    assert (answer.status, answer.data["backup"]["status"]) == (status, backup.status)
    assert clock.passed <= wait
    assert_strictly_increasing(answer)
    assert emulator.count("POST") == 1


@pytest.mark.parametrize("backup_seconds", [3, 45, 46, 90, 300, 1800])
async def test_a_backup_is_awaited_in_as_few_calls_as_the_longest_wait_allows(
    agent_on: AgentOn, clock: ManualClock, backup_seconds: int
) -> None:
    """Clients give up on longer calls, so that an agent must be able to go on waiting in the next one."""
    async with Emulator(now=clock.now, backup_seconds=backup_seconds) as emulator, agent_on(emulator) as agent:
        answer = await agent.call("create_backup", server_id=12345, wait_seconds=45)
        calls, longest = 1, clock.passed
        while answer.status == "accepted":
            began = clock.passed
            answer = await agent.call("get_operation", operation_id=answer.operation, wait_seconds=45)
            calls, longest = calls + 1, max(longest, clock.passed - began)
    assert answer.status == "succeeded"
    assert calls <= 1 + math.ceil(backup_seconds / 40)  # the rest of a call is for its last look and its record
    assert longest < 45


async def test_the_same_request_within_10_minutes_is_the_same_backup(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    first = await agent.call("create_backup", server_id=12345, description="Before the upgrade")
    clock.advance(minutes=9, seconds=59)
    again = await agent.call("create_backup", server_id=12345, description="Before the upgrade")
    assert (again.operation, again.replayed, again.status) == (first.operation, True, "succeeded")
    assert (emulator.count("POST"), len(made(emulator))) == (1, 1)


async def test_a_repeated_request_may_wait_for_the_first_ones_backup(agent: Session, emulator: Emulator) -> None:
    first = await agent.call("create_backup", server_id=12345)
    again = await agent.call("create_backup", server_id=12345, wait_seconds=30)
    assert (again.operation, again.replayed, again.status) == (first.operation, True, "succeeded")
    assert_strictly_increasing(again)
    assert emulator.count("POST") == 1


async def test_the_same_request_through_another_server_process_is_the_same_backup(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    async with agent_with() as one, agent_with() as other:
        first = await one.call("create_backup", server_id=12345)
        again = await other.call("create_backup", server_id=12345)
    assert (again.operation, again.replayed) == (first.operation, True)
    assert emulator.count("POST") == 1


async def test_of_many_equal_requests_at_once_one_is_sent(agent_with: AgentWith, emulator: Emulator) -> None:
    answers: list[Answer] = []
    async with agent_with() as one, agent_with() as other, anyio.create_task_group() as group:

        async def ask(agent: Session) -> None:
            answers.append(await agent.call("create_backup", server_id=12345, description="Once"))

        for agent in (one, other) * 8:
            group.start_soon(ask, agent)
    assert emulator.count("POST") == len(made(emulator)) == 1
    assert len({answer.operation for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1


@pytest.mark.parametrize(
    "other",
    [{"allow_duplicate": True}, {"description": "Another"}, {"server_id": 12346}],
    ids=str,
)
async def test_another_request_is_another_backup(agent: Session, emulator: Emulator, other: dict[str, Any]) -> None:
    first = await agent.call("create_backup", server_id=12345, description="One")
    second = await agent.call("create_backup", **{"server_id": 12345, "description": "One"} | other)
    assert second.operation != first.operation
    assert second.replayed is False
    assert (emulator.count("POST"), len(made(emulator))) == (2, 2)


async def test_the_same_request_after_10_minutes_is_another_backup(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    first = await agent.call("create_backup", server_id=12345)
    clock.advance(minutes=10)
    second = await agent.call("create_backup", server_id=12345)
    assert (second.operation != first.operation, second.replayed) == (True, False)
    assert emulator.count("POST") == 2


@pytest.mark.parametrize("days", [-1, 1])
async def test_no_step_of_the_wall_clock_makes_a_repeated_request_another_one(
    agent: Session, emulator: Emulator, clock: ManualClock, days: int
) -> None:
    await agent.call("create_backup", server_id=12345)
    clock.step(days=days)
    assert (await agent.call("create_backup", server_id=12345)).data["replayed"] is True
    assert emulator.count("POST") == 1


@pytest.mark.parametrize(
    "description",
    [
        "two\nlines",
        "two\r\nlines",
        "tab\tin it",
        "isolate\u2066d",
        "\ufe0fselects nothing",
        "joins \u200dnothing",
        "\U0001f3f4\U000e0067\U000e007f",
        "soft\u00adhyphen",
        "private\ue000",
        "nul\0",
        "bell\a",
        "\x1b[31mred",
        "right\u202eto left",
        "zero\u200bwidth",
        "tag\U000e0041",
        " padded ",
        "double  space",
        "line\u2028end",
        "x" * 151,
        "mine [op_aaaaaaaaaaaaaaaa]",
    ],
)
async def test_a_description_that_would_not_come_back_as_it_was_given_is_refused_and_nothing_is_sent(
    agent: Session, emulator: Emulator, description: str
) -> None:
    answer = await agent.call("create_backup", server_id=12345, description=description)
    assert (answer.code, emulator.requests) == ("invalid_argument", [])
    assert "description" in answer.text
    assert description not in answer.text


@pytest.mark.parametrize("description", ["", "x" * 150, "Ünïcode ✓ 日本", "[keep] | 'quoted'"])
async def test_every_other_description_comes_back_as_it_was_given(
    agent: Session, emulator: Emulator, description: str
) -> None:
    answer = await agent.call("create_backup", server_id=12345, description=description)
    listed = await agent.call("list_backups", server_id=12345, limit=1)
    expected = f"{description} [{answer.operation}]".lstrip()
    assert listed.data["backups"][0]["description"] == answer.data["backup"]["description"] == expected
    assert made(emulator)[0].description == expected


@pytest.mark.parametrize(
    ("description", "sent", "shown"),
    [
        ("Release \U0001f680", "Release \U0001f680", "Release \U0001f680"),
        ("love \u2764\ufe0f", "love \u2764\ufe0f", "love \u2764"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 day", None, "\U0001f468\U0001f469\U0001f467 day"),
        ("\U0001f1e9\U0001f1ea flag", None, "\U0001f1e9\U0001f1ea flag"),
        ("\U0001f3f3\ufe0f\u200d\U0001f308 1\ufe0f\u20e3", None, "\U0001f3f3\U0001f308 1\u20e3"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None, "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("before\u00a0the upgrade", "before the upgrade", "before the upgrade"),
        ("before \u00a0the\u202fupgrade\u3000", "before the upgrade", "before the upgrade"),
    ],
)
async def test_emoji_and_spaces_of_all_kinds_are_taken_and_found_again_without_a_mark(
    description: str, sent: str | None, shown: str, agent_with: AgentWith, emulator: Emulator
) -> None:
    emulator.fail(Fault.reset_after(), method="POST")
    async with agent_with(mark_backups=False) as agent:
        answer = await agent.call("create_backup", server_id=12345, description=description)
    (backup,) = made(emulator)
    assert backup.description == (sent or description)
    assert (answer.data["backup"]["id"], answer.data["backup"]["description"]) == (backup.id, shown)
    assert emulator.count("POST") == 1


@pytest.mark.parametrize(("description", "named"), NO_PLACE)
async def test_what_has_no_place_in_a_description_is_named(agent: Session, description: str, named: str) -> None:
    answer = await agent.call("create_backup", server_id=12345, description=description)
    assert answer.text.startswith(
        f"invalid_argument: description must be one line of visible characters; it holds {named}. Nothing was changed."
    )


async def test_without_marks_the_description_is_the_callers_alone(agent_with: AgentWith, emulator: Emulator) -> None:
    async with agent_with(mark_backups=False) as agent:
        await agent.call("create_backup", server_id=12345, description="Mine")
        await agent.call("create_backup", server_id=12346)
    assert [backup.description for backup in made(emulator)] == ["Mine", ""]


async def test_an_unknown_server_is_not_found_and_the_request_may_be_made_again(
    agent: Session, emulator: Emulator
) -> None:
    """F04."""
    for attempt in (1, 2):
        answer = await agent.call("create_backup", server_id=99999)
        assert answer.code == "not_found"
        assert "99999" in answer.text
        assert "Nothing was changed." in answer.text
        assert emulator.count("POST") == attempt
    assert made(emulator) == []


@pytest.mark.parametrize(
    ("status", "told"), [("failed", "failed"), ("error", "accepted"), ("queued", "accepted"), ("FAILED", "accepted")]
)
async def test_a_backup_that_ends_without_completing_is_told_as_failed_where_its_status_is_known_to_mean_that(
    agent: Session, emulator: Emulator, status: str, told: str
) -> None:
    def fail(content: Any) -> None:
        next(row for row in content["results"] if row["id"] == 502)["status"] = status

    emulator.fail(Fault.edited(fail), method="GET", skip=2, times=None)
    answer = await agent.call("create_backup", server_id=12345, wait_seconds=45)
    assert (answer.status, answer.is_error) == (told, False)
    assert "502" in answer.data["summary"]
    assert "502 of server 12345 is finished" not in answer.text
    assert emulator.count("POST") == 1


async def test_a_failed_backup_may_be_asked_for_again(agent: Session, emulator: Emulator) -> None:
    first = await agent.call("create_backup", server_id=12345)
    backup = made(emulator)[0]
    backup.status, backup.ready_at = "failed", None
    assert (await agent.call("get_operation", operation_id=first.operation)).status == "failed"
    second = await agent.call("create_backup", server_id=12345)
    assert (second.replayed, second.operation != first.operation) == (False, True)
    assert emulator.count("POST") == 2


@pytest.mark.parametrize(
    ("rule", "code"), [({"read_only": True}, "read_only"), ({"servers": {12346}}, "policy_denied")], ids=str
)
async def test_the_operators_rules_hold_before_anything_is_sent(
    agent_with: AgentWith, emulator: Emulator, rule: dict[str, Any], code: str
) -> None:
    async with agent_with(**rule) as agent:
        answer = await agent.call("create_backup", server_id=12345)
    assert (answer.code, emulator.requests) == (code, [])


async def test_a_protected_server_may_be_backed_up(agent_with: AgentWith) -> None:
    async with agent_with(protected_servers={12345}, servers={12345}) as agent:
        assert (await agent.call("create_backup", server_id=12345)).status == "accepted"


async def test_while_servers_cannot_be_read_only_a_whole_name_chooses_one(agent: Session, emulator: Emulator) -> None:
    """One of those that could not be read may be called what is only the beginning of another one's name."""
    emulator.fail(Fault.status(500), path="^/servers/$", times=None)
    refused = await agent.call("create_backup", server_name="web")
    assert "Cannot tell whether a server has that name" in refused.text
    assert emulator.count("POST") == 0
    made = await agent.call("create_backup", server_name="web-server-01")
    assert (made.status, made.data["server"]["id"]) == ("accepted", 12345)
