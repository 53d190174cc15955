"""Delete a server's old manual backups, unattended: plan each, judge the plan by a rule of one's own, confirm it.

    python examples/runbook.py --older-than-days 7 --leave 5 12345 -- mcp-backups --sandbox

No person is there, so it runs the server with MCP_BACKUPS_APPROVAL=plan: a delete needs the operation_id of its plan.
Without a command after `--` it starts `mcp-backups`, which takes the account from VPS_API_TOKEN.

Exit code: 0 when every old backup is deleted, 1 when one had to stay.
"""

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

MOST_CALLS = 10


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """A tool's structured answer; empty, and told why, when it is an error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        (content,) = result.content
        assert content.type == "text"
        print(content.text)
    return result.structured_content or {}


async def old_backups(client: Client, server_id: int, age: timedelta) -> list[int]:
    """The server's manual backups of at least that age, the oldest first."""
    page = await call(client, "list_backups", server_id=server_id, backup_type="manual", limit=100)
    assert page["complete"], "an incomplete list is no ground to delete on"
    before = datetime.now(UTC) - age
    old = [row for row in page["backups"] if datetime.fromisoformat(row["created_at"]) <= before]
    return [row["id"] for row in reversed(old)]


async def delete(client: Client, backup_id: int, leave: int) -> bool:
    """Plan a delete, confirm the plan if enough would be left, and wait; whether the backup is gone."""
    plan = await call(client, "delete_backup", backup_id=backup_id)
    if not plan:
        return False
    assert (plan["status"], plan["changed"]) == ("needs_confirmation", "nothing")
    if plan["facts"]["proven_backups_left"] < leave:
        print(f"Backup {backup_id} stays: {plan['facts']['proven_backups_left']} proven backups would be left.")
        return False
    operation = await call(
        client, "delete_backup", backup_id=backup_id, confirm=True, operation_id=plan["operation_id"]
    )
    for _ in range(MOST_CALLS):
        if operation.get("status") not in {"accepted", "unknown"}:
            break
        operation = await call(client, "get_operation", operation_id=plan["operation_id"], wait_seconds=45)
    if operation.get("status") != "succeeded":
        return False
    assert operation["approved_by"] == "plan"
    print(operation["summary"])
    return True


async def clean_up(command: list[str], server_id: int, age: timedelta, leave: int) -> bool:
    """Delete what is old; whether all of it is gone."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    settings["MCP_BACKUPS_APPROVAL"] = "plan"
    async with Client(StdioServerParameters(command=command[0], args=command[1:], env=settings)) as client:
        return all([await delete(client, old, leave) for old in await old_backups(client, server_id, age)])


def main() -> int:
    """Read the arguments, clean up."""
    parser = argparse.ArgumentParser(description="Delete a server's old manual backups.")
    parser.add_argument("server_id", type=int)
    parser.add_argument("--older-than-days", type=float, default=30, help="30 by default")
    parser.add_argument("--leave", type=int, default=5, help="good backups to leave on the server, 5 by default")
    parser.add_argument("command", nargs="*", default=["mcp-backups"], help="starts the server")
    options = parser.parse_args()
    age = timedelta(days=options.older_than_days)
    return 0 if anyio.run(clean_up, options.command, options.server_id, age, options.leave) else 1


if __name__ == "__main__":
    sys.exit(main())
