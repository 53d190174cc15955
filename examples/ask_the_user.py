"""Restore a server to a backup, if the person at the terminal types what the server asks for.

    python examples/ask_the_user.py 12351 383 -- mcp-backups --sandbox

The question says what would be lost and whether it can be undone; this client shows it and passes the answer on. If a
safety backup must be made first, it waits for that and then goes on: the person is asked once.
Without a command after `--` it starts `mcp-backups`, which takes the account from VPS_API_TOKEN.

Exit code: 0 when the restore is under way, 1 when it is not.
"""

import argparse
import os
import sys
from typing import Any

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestFormParams, ElicitRequestParams, ElicitResult

MOST_CALLS = 40
"""Some twenty minutes of waiting, at 35 s a call."""


async def ask(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """Show the server's question and hand back what is typed; nothing typed is a no."""
    del context
    assert isinstance(params, ElicitRequestFormParams)
    ((field, schema),) = params.requested_schema["properties"].items()
    assert schema["type"] == "string"
    print(params.message)
    answer = await anyio.to_thread.run_sync(input, f"{schema['title']}: ")
    print()
    return ElicitResult(action="accept", content={field: answer}) if answer else ElicitResult(action="decline")


async def call(client: Client, tool: str, **arguments: Any) -> CallToolResult:
    """A tool's answer, which is printed when it is an error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        (content,) = result.content
        assert content.type == "text"
        print(content.text)
    return result


async def restore(command: list[str], server_id: int, backup_id: int) -> bool:
    """Ask for the restore, and see it through; whether it is under way."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    server = StdioServerParameters(command=command[0], args=command[1:], env=settings)
    wanted = {"server_id": server_id, "backup_id": backup_id, "confirm": True}
    async with Client(server, elicitation_callback=ask) as client:
        result = await call(client, "restore_server", **wanted)
        for _ in range(MOST_CALLS):
            operation = result.structured_content
            if operation is None or operation["status"] != "preparing":
                break
            print(operation["summary"])
            result = await call(client, "restore_server", **wanted, operation_id=operation["operation_id"])
    if operation is None or operation["status"] != "accepted":
        return False
    assert operation["approved_by"] == "person"
    print(operation["summary"])
    print(f"To undo it: {operation['undo']}")
    return True


def main() -> int:
    """Read the arguments, ask, restore."""
    parser = argparse.ArgumentParser(description="Restore a server, if you agree.")
    parser.add_argument("server_id", type=int)
    parser.add_argument("backup_id", type=int)
    parser.add_argument("command", nargs="*", default=["mcp-backups"], help="starts the server")
    options = parser.parse_args()
    return 0 if anyio.run(restore, options.command, options.server_id, options.backup_id) else 1


if __name__ == "__main__":
    sys.exit(main())
