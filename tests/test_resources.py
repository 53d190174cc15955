"""What can be read without a tool: the policy, one server's backups, the last operations; and what is said if not."""

import json
from datetime import timedelta
from typing import Any

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, TextResourceContents

from mcp_backups.api import VpsClient
from mcp_backups.models import Backup, Listing
from mcp_backups.sandbox import Backup as Held
from mcp_backups.sandbox import Emulator, Fault
from mcp_backups.settings import Settings, setting_name
from tests.stage import PATIENCE, AgentWith, Era, MakeSettings, ManualClock, Session, session

pytestmark = pytest.mark.anyio


async def read(agent: Session, uri: str) -> dict[str, Any]:
    with anyio.fail_after(PATIENCE):
        result = await agent.client.read_resource(uri)
    (content,) = result.contents
    assert isinstance(content, TextResourceContents)
    assert (content.uri, content.mime_type) == (uri, "application/json")
    document = json.loads(content.text)
    assert isinstance(document, dict)
    return document


async def refusal(agent: Session, uri: str) -> tuple[int, str]:
    with pytest.raises(MCPError) as refused, anyio.fail_after(PATIENCE):
        await agent.client.read_resource(uri)
    assert refused.value.data == ({"uri": uri} if refused.value.code == INVALID_PARAMS else None)
    return refused.value.code, refused.value.message


async def test_what_can_be_read_is_listed(agent: Session) -> None:
    resources = (await agent.client.list_resources()).resources
    templates = (await agent.client.list_resource_templates()).resource_templates
    assert {each.uri for each in resources} == {"backups://policy", "backups://operations"}
    assert [each.uri_template for each in templates] == ["backups://servers/{server_id}"]
    assert all(each.title and each.description and each.mime_type == "application/json" for each in resources)


async def test_every_listed_resource_can_be_read(agent: Session) -> None:
    for resource in (await agent.client.list_resources()).resources:
        assert await read(agent, resource.uri)


async def test_the_policy_is_that_in_force(agent_with: AgentWith) -> None:
    async with agent_with(
        approval="human",
        read_only=True,
        servers=frozenset({12346, 12345}),
        protected_servers=frozenset({12346}),
        protected_backups=frozenset({501, 499}),
        keep_min=3,
        deletes_per_hour=4,
        deletes_per_day=5,
        restores_per_hour=6,
        creates_per_hour=7,
        require_safety_backup=True,
        ignored_servers=frozenset({12384, 12360}),
    ) as agent:
        policy = await read(agent, "backups://policy")
    assert (policy["read_only"], policy["approval"], policy["keep_min"]) == (True, "human", 3)
    assert "a person's answer" in policy["approval_means"]
    assert policy["servers"] == [12345, 12346]
    assert policy["protected_servers"] == [12346]
    assert policy["protected_backups"] == [499, 501]
    assert policy["ignored_servers"] == [12360, 12384]
    assert policy["safety_backup_required"] is True
    assert policy["budgets"] == {
        "deletes_per_hour": 4,
        "deletes_per_day": 5,
        "restores_per_server_per_hour": 6,
        "creates_per_hour": 7,
    }


@pytest.mark.parametrize("approval", ["auto", "plan", "human", "operator", "flag"])
async def test_the_policy_never_tells_how_a_rule_could_be_lifted(agent_with: AgentWith, approval: str) -> None:
    """A model reads it: it names no environment variable, no file, no other value of a rule, and no secret."""
    async with agent_with(approval=approval) as agent:
        text = json.dumps(await read(agent, "backups://policy"))
    names = [setting_name((name,)) for name in Settings.model_fields]
    assert [
        name for name in [*names, "MCP_BACKUPS_", "VPS_API_", "config.toml", "vps_sandbox", "http"] if name in text
    ] == []
    others = {"auto", "plan", "human", "operator", "flag"} - {approval}
    assert [other for other in others if f'"{other}"' in text] == []


async def test_no_list_of_servers_means_all(agent: Session) -> None:
    assert (await read(agent, "backups://policy"))["servers"] == "all"


async def test_a_servers_backups_are_read_newest_first(agent: Session, emulator: Emulator) -> None:
    document = await read(agent, "backups://servers/12345")
    assert [row["id"] for row in document["backups"][:3]] == [501, 495, 499]
    assert {row["server_id"] for row in document["backups"]} == {12345}
    assert document["total"] == sum(each.server_id == 12345 for each in emulator.fleet.backups.values())
    assert (document["complete"], document.get("missing", []), document.get("not_shown", 0)) == (True, [], 0)
    assert document["as_of"] == "2026-11-23T09:30Z"
    assert document["backups"][0]["age"] == "5 h"


async def test_more_backups_than_fit_are_counted(agent: Session, emulator: Emulator, clock: ManualClock) -> None:
    for number in range(1000, 1110):
        made = clock.now() - timedelta(days=number)
        emulator.fleet.backups[number] = Held(number, 12360, made, size_mb=1)
    document = await read(agent, "backups://servers/12360")
    shown = len(document["backups"])
    assert (document["total"], document.get("not_shown", 0)) == (110, 110 - shown)
    assert 30 <= shown <= 100


@pytest.mark.parametrize("description", ["", "x" * 300, "é|漢" * 100, "\\" * 300])
async def test_a_servers_backups_are_as_bounded_as_what_a_tool_answers(
    agent: Session, emulator: Emulator, clock: ManualClock, description: str
) -> None:
    """A host cut 28,000 characters in the middle of the JSON."""
    for number in range(1000, 1095):
        made = clock.now() - timedelta(days=number)
        emulator.fleet.backups[number] = Held(number, 12360, made, size_mb=1, description=description)
    with anyio.fail_after(PATIENCE):
        (content,) = (await agent.client.read_resource("backups://servers/12360")).contents
    assert isinstance(content, TextResourceContents)
    assert len(content.text) < 8_000
    document = json.loads(content.text)
    assert len(document["backups"]) + document["not_shown"] == document["total"] == 95
    assert [row["id"] for row in document["backups"][:2]] == [1000, 1001]


async def test_a_row_is_marked_as_in_a_list(agent_with: AgentWith, emulator: Emulator) -> None:
    emulator.fail(Fault.status(202, b""), method="DELETE")
    emulator.fleet.backups[495].status = "queued"
    async with agent_with(approval="flag") as agent:
        await agent.call("delete_backup", backup_id=499, confirm=True)
        document = await read(agent, "backups://servers/12345")
    flags = {row["id"]: row["flags"] for row in document["backups"] if "flags" in row}
    assert flags == {499: ["being_deleted"], 495: ["stuck"]}


async def test_a_server_without_backups_is_told_apart_from_one_that_is_not_there(agent: Session) -> None:
    assert (await read(agent, "backups://servers/12360"))["total"] == 0
    code, message = await refusal(agent, "backups://servers/4")
    assert (code, message.partition(":")[0]) == (INVALID_PARAMS, "not_found")
    assert "VPS.org has no server 4." in message


async def test_a_gap_is_told(agent: Session, emulator: Emulator) -> None:
    emulator.fail(Fault.edited(lambda listing: listing["results"][0].pop("created_at") and None), path="^/backups/$")
    document = await read(agent, "backups://servers/12345")
    assert document["complete"] is False
    assert document["missing"] == ["row of backup 501 of server 12345 could not be read (created_at)"]


@pytest.mark.parametrize(
    "uri",
    [
        "backups://servers/abc",
        "backups://servers/",
        "backups://servers/0",
        "backups://servers/-5",
        "backups://servers/12345.0",
        "backups://servers/9007199254740992",
        "backups://servers/" + "9" * 5000,
        "backups://servers/١٢٣٤٥",
        "backups://servers/12345/",
        "backups://servers/12345?limit=1",
        "backups://servers/../policy",
        "backups://servers/{server_id}",
        "backups://server/12345",
        "backups://",
        "file:///etc/passwd",
        "policy",
        "",
    ],
)
async def test_an_address_that_leads_nowhere_is_refused_in_our_words(
    agent: Session, emulator: Emulator, uri: str
) -> None:
    code, message = await refusal(agent, uri)
    assert code == INVALID_PARAMS
    assert message.startswith("invalid_argument: ")
    assert "Nothing was changed." in message
    assert len(message) < 300
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.status(403, {"detail": "secret words"}), "forbidden"),
        (Fault.status(401, {"detail": "secret words"}), "auth_failed"),
        (Fault.status(500, "<html>secret words"), "upstream_unavailable"),
        (Fault.status(200, {"results": "secret words"}), "upstream_protocol"),
    ],
)
async def test_of_what_vps_org_refuses_its_words_are_at_most_quoted(
    agent: Session, emulator: Emulator, fault: Fault, code: str
) -> None:
    emulator.fail(fault, times=None)
    number, message = await refusal(agent, "backups://servers/12345")
    assert (number, message.partition(":")[0]) == (INTERNAL_ERROR, code)
    assert "secret" not in message.removesuffix(' VPS.org said: "secret words"')


class Broken(VpsClient):
    """A client with a fault of ours."""

    async def list_backups(self, server_id: int = 0, backup_type: str = "") -> Listing[Backup]:
        raise RuntimeError(f"secret words on {server_id}{backup_type}")


async def test_a_crash_is_not_shown_raw(
    emulator: Emulator, make_settings: MakeSettings, clock: ManualClock, era: Era
) -> None:
    async with session(emulator, make_settings(), clock, era, connect=Broken) as agent:
        code, message = await refusal(agent, "backups://servers/12345")
    assert (code, message.partition(":")[0]) == (INTERNAL_ERROR, "internal")
    assert "secret" not in message


async def test_the_last_operations_are_read_newest_first(agent: Session, clock: ManualClock) -> None:
    made = await agent.call("create_backup", server_id=12345, description="Before an upgrade")
    clock.advance(minutes=5)
    planned = await agent.call("delete_backup", backup_id=499)
    document = await read(agent, "backups://operations")
    assert [each["operation_id"] for each in document["operations"]] == [planned.operation, made.operation]
    assert document["operations"][0] == {
        "operation_id": planned.operation,
        "action": "delete_backup",
        "status": "planned",
        "changed": "nothing",
        "server_id": 12345,
        "server": "web-server-01",
        "backup_id": 499,
        "planned_at": "2026-11-23T09:35Z",
        "age": "0 min",
    }
    assert document["operations"][1]["age"] == "5 min"
    assert document["operations"][1]["changed"] == "started"


async def test_a_plan_that_no_longer_counts_is_not_called_planned(agent: Session, clock: ManualClock) -> None:
    await agent.call("delete_backup", backup_id=499)
    clock.advance(minutes=11)
    (operation,) = (await read(agent, "backups://operations"))["operations"]
    assert operation["status"] == "expired"


async def test_no_more_than_the_last_twenty_operations_are_read(agent: Session) -> None:
    for _ in range(22):
        await agent.call("delete_backup", backup_id=499)
    assert len((await read(agent, "backups://operations"))["operations"]) == 20


async def test_reading_changes_nothing(agent: Session, emulator: Emulator) -> None:
    for uri in ("backups://policy", "backups://operations", "backups://servers/12345"):
        await read(agent, uri)
    assert {request.method for request in emulator.requests} == {"GET"}
