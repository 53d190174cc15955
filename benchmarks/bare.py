"""A bare tool on the same SDK, for comparison: it makes the request and hands on what comes, unread and unguarded.

Over standard input and output; or over HTTP, at a port that is given.
"""

import os
import sys
from typing import Any

import httpx2
from mcp.server.mcpserver import MCPServer

server = MCPServer("bare", log_level="ERROR")
client = httpx2.AsyncClient(
    base_url=os.environ["VPS_API_URL"], headers={"Authorization": f"Bearer {os.environ['VPS_API_TOKEN']}"}
)


@server.tool()
async def list_backups(server_id: int = 0) -> dict[str, Any]:
    """List backups."""
    query = {"page_size": 100} | ({"server_id": server_id} if server_id else {})
    answer = await client.get("/backups/", params=query)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


@server.tool()
async def check_backups() -> dict[str, Any]:
    """List backups and servers."""
    backups = (await client.get("/backups/", params={"page_size": 100})).raise_for_status().json()
    servers = (await client.get("/servers/", params={"page_size": 100})).raise_for_status().json()
    return {"backups": backups, "servers": servers}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
