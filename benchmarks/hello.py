"""The smallest server on the same SDK, for comparison: one tool that says hello."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("hello", log_level="ERROR")


@server.tool()
async def hello(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"


if __name__ == "__main__":
    server.run()
