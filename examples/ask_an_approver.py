"""Delete a backup with nobody in the chat: a person decides outside of it, and the same command goes on then.

    python examples/ask_an_approver.py --wait-minutes 30 499

It runs the server with MCP_BACKUPS_APPROVAL=operator: whatever the program or its model says, nothing is deleted before
an approver has said yes to this very plan, with `mcp-backups approve ID` on a terminal. For cron: each run asks for the
same, which is one operation, and carries it out once it is approved.
It starts `mcp-backups`, which takes the account from VPS_API_TOKEN; after `--` another command can start the server.

Exit code: 0 when the backup is deleted, 1 when it was declined or something stands against it, 3 when it still waits.
"""

import argparse
import os
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

DONE, NOT_DONE, WAITS = 0, 1, 3
LOOK_SECONDS = 45
"""The longest that one look waits; a decision ends it within a second."""


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The operation that a tool answers; empty, and told why, when it is an error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        (content,) = result.content
        assert content.type == "text"
        print(content.text, file=sys.stderr)
    return result.structured_content or {}


async def run(options: argparse.Namespace) -> int:
    """Ask, wait for the decision, and have it carried out; the exit code."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    command, *arguments = options.command
    server = StdioServerParameters(command=command, args=arguments, env=settings | {"MCP_BACKUPS_APPROVAL": "operator"})
    wanted = {"backup_id": options.backup_id, "confirm": True}
    async with Client(server) as client:
        operation = await call(client, "delete_backup", **wanted)
        if operation.get("status") == "needs_approval":
            print(f"{operation['operation_id']} waits: {operation['summary']}", flush=True)
        with anyio.move_on_after(options.wait_minutes * 60):
            while operation.get("status") == "needs_approval":
                look = {"operation_id": operation["operation_id"], "wait_seconds": LOOK_SECONDS}
                operation = await call(client, "get_operation", **look)
        if operation.get("status") == "approved":
            operation = await call(client, "delete_backup", **wanted, operation_id=operation["operation_id"])
    return verdict(operation)


def verdict(operation: dict[str, Any]) -> int:
    """Say what became of it; the exit code."""
    if not operation:
        return NOT_DONE
    if operation["status"] == "needs_approval":
        return WAITS
    print(operation["summary"])
    if said := operation["facts"].get("approver_said"):
        print(f"The approver said: {said}")
    return DONE if operation["status"] == "succeeded" else NOT_DONE


def main() -> int:
    """Read the arguments, ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--wait-minutes", type=float, default=0.0, help="how long to wait for the decision; 0 by default"
    )
    parser.add_argument("backup_id", type=int)
    parser.add_argument("command", nargs="*", default=["mcp-backups"])
    return anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
