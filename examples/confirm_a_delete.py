"""Delete a backup, if the person at the terminal agrees to what the server says would be lost.

    python examples/confirm_a_delete.py 499 -- mcp-backups --sandbox

The question comes from the server, before it sends anything: this client only shows it and hands the answer back.
Without a command after `--` it starts `mcp-backups`, which takes the account from VPS_API_TOKEN.

Exit code: 0 when the backup is deleted, 1 when it is not.
"""

import argparse
import os
import sys

import anyio
import anyio.to_thread
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult


async def ask(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """Show the server's question, and take the answer: `yes`, and nothing else, is one."""
    del context
    assert isinstance(params, ElicitRequestFormParams)
    (field,) = params.requested_schema["properties"]
    print(params.message)
    answer = await anyio.to_thread.run_sync(input, "Type yes to go on: ")
    print()
    return ElicitResult(action="accept", content={field: True}) if answer == "yes" else ElicitResult(action="decline")


async def delete(command: list[str], backup_id: int) -> bool:
    """Ask for the deletion; whether the backup is gone."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    server = StdioServerParameters(command=command[0], args=command[1:], env=settings)
    async with Client(server, elicitation_callback=ask) as client:
        result = await client.call_tool("delete_backup", {"backup_id": backup_id, "confirm": True})
    (content,) = result.content
    assert content.type == "text"
    print(content.text)
    if result.is_error:
        return False
    assert result.structured_content is not None
    assert result.structured_content["approved_by"] == "person"
    return bool(result.structured_content["status"] == "succeeded")


def main() -> int:
    """Read the arguments, ask, delete."""
    parser = argparse.ArgumentParser(description="Delete a backup, if you agree.")
    parser.add_argument("backup_id", type=int)
    parser.add_argument("command", nargs="*", default=["mcp-backups"], help="starts the server")
    options = parser.parse_args()
    return 0 if anyio.run(delete, options.command, options.backup_id) else 1


if __name__ == "__main__":
    sys.exit(main())
