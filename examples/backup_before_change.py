"""Back up a server before a change, and let the change begin only when the backup is finished.

    python examples/backup_before_change.py 12345 && ./upgrade.sh

It talks to `mcp-backups`, which takes the account from VPS_API_TOKEN. After `--` another command can start the server,
for example one that needs no account:

    python examples/backup_before_change.py 12345 -- mcp-backups --sandbox

Exit code: 0 when the backup is finished, 1 when it is not.
"""

import argparse
import os
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

MOST_CALLS = 40
"""Half an hour of waiting, at 45 s a call."""


def server(command: list[str]) -> StdioServerParameters:
    """How to start the server; the SDK hands on no setting of its own accord."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    return StdioServerParameters(command=command[0], args=command[1:], env=settings)


async def call(client: Client, tool: str, **arguments: Any) -> CallToolResult:
    """A tool's answer, which is printed when it is an error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        (content,) = result.content
        assert content.type == "text"
        print(content.text, file=sys.stderr)
    return result


async def back_up(command: list[str], server_id: int, description: str) -> bool:
    """Make a backup and wait for its end; whether it is finished."""
    async with Client(server(command)) as client:
        result = await call(client, "create_backup", server_id=server_id, description=description, wait_seconds=45)
        for _ in range(MOST_CALLS):
            operation = result.structured_content
            if operation is None or operation["status"] not in {"sending", "accepted", "unknown"}:
                break
            result = await call(client, "get_operation", operation_id=operation["operation_id"], wait_seconds=45)
    if operation is None:
        return False
    print(operation["summary"])
    if operation["status"] != "succeeded":
        return False
    assert operation["backup"]["server_id"] == server_id
    assert operation["backup"]["status"] == "completed"
    return True


def main() -> int:
    """Read the arguments, make the backup."""
    parser = argparse.ArgumentParser(description="Back up a server before a change.")
    parser.add_argument("server_id", type=int)
    parser.add_argument("--description", default="before a change")
    parser.add_argument("command", nargs="*", default=["mcp-backups"], help="starts the server")
    options = parser.parse_args()
    return 0 if anyio.run(back_up, options.command, options.server_id, options.description) else 1


if __name__ == "__main__":
    sys.exit(main())
