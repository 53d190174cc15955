"""What agents do in practice, in the fewest calls that there can be, by answers that can be acted on at once."""

import json
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator, Fault
from tests.stage import AgentWith, Answer, ManualClock, Session

pytestmark = pytest.mark.anyio

WEB = 12345


async def confirmed(agent: Session, tool: str, **arguments: Any) -> tuple[Answer, Answer]:
    """The plan, and what came of the call that its next step says."""
    plan = await agent.call(tool, **arguments)
    assert "Show these facts to the user" in plan.data["next_step"]
    return plan, await agent.call(tool, **arguments, confirm=True, operation_id=plan.operation)


async def test_a_restore_with_its_safety_backup_takes_two_calls_and_its_undo_two_more(
    agent: Session, emulator: Emulator
) -> None:
    plan, done = await confirmed(agent, "restore_server", server_id=WEB, backup_id=499)
    assert plan.data["facts"]["can_be_undone"] is True
    assert "outside the budget" in plan.data["facts"]["undo_terms"]
    assert (done.status, done.data["changed"], done.data["made"]) == ("accepted", "started", "safety backup 502")
    assert done.undo == "restore_server(server_id=12345, backup_id=502)"
    assert "restoring" in done.data["facts"]["server_status"]
    _, back = await confirmed(agent, "restore_server", server_id=WEB, backup_id=502)
    assert (back.status, emulator.fleet.servers[WEB].disk) == ("accepted", 502)


async def test_the_number_space_and_expiry_of_every_server_take_one_call(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("check_backups")
    rows = {row["server_id"]: row for row in (*answer.data["servers"], *answer.data["others"])}
    assert rows.keys() == emulator.fleet.servers.keys()
    for server_id, row in rows.items():
        held = list(emulator.fleet.backups_of(server_id))
        assert (row["backups"], row["size_mb"]) == (len(held), sum(backup.size_mb or 0 for backup in held))
        assert row["server"] == emulator.fleet.servers[server_id].name
        newest = emulator.fleet.backups.get(row.get("restore_to", 0))
        assert bool(newest and newest.expires_at) == ("expires_at" in row)
    sizes = [row["size_mb"] for row in answer.data["others"]]
    assert sizes == sorted(sizes, reverse=True)


async def test_what_was_made_within_seven_days_takes_one_call(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    answer = await agent.call("list_backups", created_after="7d", backup_type="manual")
    week = clock.now() - timedelta(days=7)
    made = [each.id for each in emulator.fleet.backups.values() if each.created_at >= week]
    assert {row["id"] for row in answer.data["backups"]} == {
        number for number in made if emulator.fleet.backups[number].backup_type == "manual"
    }
    assert "next_cursor" not in answer.data
    assert (await agent.call("list_backups", created_after="7d", limit=1)).data["total"] == len(made)


async def test_a_prune_by_age_takes_two_calls_and_shows_what_a_person_can_judge(
    agent: Session, emulator: Emulator
) -> None:
    plan, done = await confirmed(agent, "prune_backups", server_id=WEB, older_than_days=6)
    assert [row["id"] for row in plan.data["to_delete"]] == [395, 307]
    assert {"id", "created_at", "age", "size_mb", "status", "description"} <= plan.data["to_delete"][0].keys()
    facts = plan.data["facts"]
    assert facts["manual_backups"] == facts["to_delete"] + facts["to_keep"] == 3
    assert [row["reason"] for row in plan.data["kept"]] == ["younger than 6 days"]
    assert (done.status, {row["outcome"] for row in done.data["to_delete"]}) == ("succeeded", {"deleted"})
    assert not {395, 307} & emulator.fleet.backups.keys()


async def test_a_backup_of_a_named_server_takes_one_call(agent: Session, emulator: Emulator) -> None:
    answer = await agent.call("create_backup", server_name="mail", wait_seconds=45)
    assert (answer.status, answer.data["server"]) == ("succeeded", {"id": 12351, "name": "mail-server-01"})
    assert emulator.fleet.backups[answer.data["backup"]["id"]].server_id == 12351


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"server_name": "web"}, ""),
        ({"server_name": "WEB-server-01"}, ""),
        ({"server_id": WEB}, ""),
        ({}, "Give one of server_id and server_name."),
        ({"server_id": WEB, "server_name": "web"}, "Give one of server_id and server_name."),
        ({"server_name": "nowhere"}, "No server has that name"),
        ({"server_name": "m"}, "server_name fits several servers: 12351 (mail-server-01), 12399 (monitoring-01)."),
    ],
    ids=str,
)
async def test_a_server_is_meant_by_its_id_or_by_a_name_that_only_it_has(
    agent: Session, emulator: Emulator, arguments: dict[str, Any], told: str
) -> None:
    emulator.fleet.servers[12399] = type(emulator.fleet.servers[WEB])(**vars(emulator.fleet.servers[WEB]))
    emulator.fleet.servers[12399].id, emulator.fleet.servers[12399].name = 12399, "monitoring-01"
    answer = await agent.call("create_backup", **arguments)
    assert (told in answer.text, answer.is_error) == (True, bool(told))
    assert emulator.count("POST") == (not told)
    checked = await agent.call("check_backups", **arguments)
    if not told:
        assert [row["server_id"] for row in checked.data["servers"]] == [WEB]


async def test_protected_and_marked_backups_show_before_anybody_plans(
    agent_with: AgentWith, emulator: Emulator
) -> None:
    emulator.fleet.backups[499].description = "Before the upgrade [keep]"
    async with agent_with(protected_servers={12351}, protected_backups={501}) as agent:
        page = await agent.call("list_backups", server_id=WEB, limit=3)
        flags = {row["id"]: row.get("flags") for row in page.data["backups"]}
        assert flags == {501: ["protected"], 495: None, 499: ["keep"]}
        assert "|protected\n" in page.text
        checked = await agent.call("check_backups")
        rows = {row["server_id"]: row.get("flags") for row in (*checked.data["servers"], *checked.data["others"])}
        assert {server_id for server_id, told in rows.items() if told} == {12351}


READS = {"list_backups", "check_backups", "get_operation"}


@pytest.mark.parametrize("read_only", [True, False])
async def test_read_only_hides_the_tools_that_write_and_says_so(agent_with: AgentWith, read_only: bool) -> None:
    async with agent_with(read_only=read_only) as agent:
        told = {tool.name for tool in (await agent.client.list_tools()).tools}
        assert (told == READS, told > READS) == (read_only, not read_only)
        words = agent.client.instructions or ""
        assert ("set to read only" in words) is read_only
        refused = await agent.call("create_backup", server_id=WEB)
        assert (refused.code == "read_only") is read_only


POLICIES: list[tuple[dict[str, Any], str]] = [
    ({}, "at most 30 new backups an hour; at most 1 restore of a server an hour, and its undo, once."),
    ({"keep_min": 3}, "at least 3 proven backups"),
    ({"protected_servers": {1, 2}}, "nothing of these servers is deleted or restored: 1, 2."),
    ({"protected_backups": set(range(1, 8))}, "these backups are not deleted: 1, 2, 3, 4, 5 and 2 more."),
    ({"servers": {7}}, "only these servers may be changed: 7."),
    ({"require_safety_backup": True}, "no restore without a safety backup"),
    ({"approval": "human"}, "The user is asked where the client can ask; else somebody outside this chat decides."),
    ({"approval": "operator"}, "Somebody outside this chat decides on each plan."),
    ({"approval": "plan"}, "confirm=true counts with a plan's operation_id."),
]


@pytest.mark.parametrize(("rules", "told"), POLICIES, ids=str)
async def test_the_instructions_tell_the_policy_in_force(
    agent_with: AgentWith, rules: dict[str, Any], told: str
) -> None:
    async with agent_with(**rules) as agent:
        words = agent.client.instructions or ""
    assert told in words
    assert len(words) < 2_000


async def test_a_backup_that_was_made_and_deleted_here_is_told_as_that(agent: Session) -> None:
    made = await agent.call("create_backup", server_id=WEB, wait_seconds=45)
    number = made.data["backup"]["id"]
    _, gone = await confirmed(agent, "delete_backup", backup_id=number)
    told = await agent.call("get_operation", operation_id=made.operation)
    became = f"was finished. It is no longer there; its deletion was sent since, by {gone.operation}."
    assert became in told.data["summary"]
    assert told.data["next_step"] == "Do not count on it; list_backups shows what is there."


async def test_a_backup_that_was_deleted_here_before_it_was_finished_is_not_waited_for(agent: Session) -> None:
    """It was told as under way for another half hour, to be waited for."""
    made = await agent.call("create_backup", server_id=WEB)
    _, gone = await confirmed(agent, "delete_backup", backup_id=made.data["backup"]["id"])
    told = await agent.call("get_operation", operation_id=made.operation)
    became = f"was started. It is no longer there; its deletion was sent since, by {gone.operation}."
    assert became in told.data["summary"]
    assert told.data["next_step"] == "Do not count on it; list_backups shows what is there."


SO_FAR: list[tuple[dict[str, Any], str]] = [
    ({"status": "in_progress"}, "was started and is not finished yet."),
    ({"status": "completed", "size_mb": None}, "is completed, but its size may not be told yet."),
    ({"status": "completed", "size_mb": 0}, "is completed, but its size may not be told yet."),
    ({"status": "success", "size_mb": 7}, "was started and is not known to be finished."),
]


@pytest.mark.parametrize(("row", "told"), SO_FAR, ids=str)
async def test_how_far_a_backup_is_agrees_with_its_row(
    agent: Session, emulator: Emulator, row: dict[str, Any], told: str
) -> None:
    made = await agent.call("create_backup", server_id=WEB)
    number = made.data["backup"]["id"]
    emulator.fail(Fault.rows(row, backup_id=number), path="^/backups/$", times=None)
    looked = await agent.call("get_operation", operation_id=made.operation)
    assert (looked.status, looked.data["summary"]) == ("accepted", f"Backup {number} of server {WEB} {told}")


async def test_a_backup_that_was_made_and_deleted_elsewhere_is_told_as_that(agent: Session, emulator: Emulator) -> None:
    made = await agent.call("create_backup", server_id=WEB, wait_seconds=45)
    emulator.fleet.delete_backup(made.data["backup"]["id"])
    told = await agent.call("get_operation", operation_id=made.operation)
    assert "not in the complete list now: deleted elsewhere, expired, or the list is behind." in told.data["summary"]


@pytest.mark.parametrize("backups", [40, 300])
@pytest.mark.parametrize("words", ["x" * 200, '"\\' * 100], ids=["long", "quoted"])
async def test_every_answer_stays_under_eight_thousand_characters_and_a_plan_shows_all_that_goes(
    agent_with: AgentWith, emulator: Emulator, clock: ManualClock, backups: int, words: str
) -> None:
    """What does not fit is left for later: nobody consents to what they were not shown."""
    held = type(emulator.fleet.backups[499])
    for number in range(1000, 1000 + backups):
        made = clock.now() - timedelta(days=number - 990)
        emulator.fleet.backups[number] = held(number, 12360, made, "manual", size_mb=123_456, description=words)
    emulator.fleet.servers[12360].name = words
    async with agent_with(deletes_per_hour=1000, deletes_per_day=1000) as agent:
        plan = await agent.call("prune_backups", server_id=12360, keep_last=2)
        facts = plan.data["facts"]
        assert len(plan.data["to_delete"]) == facts["to_delete"] > 5
        assert facts["left_for_later"] == backups - 2 - facts["to_delete"]
        assert facts["later_from"] == "as soon as this prune has ended"
        oldest = [1000 + backups - 1 - number for number in range(facts["to_delete"])]
        assert [row["id"] for row in plan.data["to_delete"]] == sorted(oldest)
        answers = [plan]
        for tool, arguments in {
            "list_backups": {"limit": 100},
            "check_backups": {},
            "delete_backup": {"backup_id": 1000 + backups - 1},
            "restore_server": {"server_id": 12360, "backup_id": 1000},
        }.items():
            answers.append(await agent.call(tool, **arguments))
    assert all(not answer.is_error for answer in answers)
    assert max(len(answer.text) + len(json.dumps(answer.data)) for answer in answers) < 8_000


async def test_what_the_budget_leaves_for_later_is_told_with_from_when(
    agent: Session, emulator: Emulator, clock: ManualClock
) -> None:
    held = type(emulator.fleet.backups[499])
    for number in range(1000, 1014):
        emulator.fleet.backups[number] = held(
            number, 12360, clock.now() - timedelta(days=number - 990), "manual", size_mb=1
        )
    plan, done = await confirmed(agent, "prune_backups", server_id=12360, keep_last=2)
    facts = plan.data["facts"]
    assert (facts["to_delete"], facts["left_for_later"], facts["later_from"]) == (10, 2, "2026-11-23T10:30Z")
    assert [row["id"] for row in plan.data["later"]] == [1002, 1003]
    assert facts["budget"] == "after this, no more deletes may be sent before 2026-11-23T10:30Z"
    assert "possible from: 2026-11-23T10:30Z" in done.data["next_step"]
