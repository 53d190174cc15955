"""mcp-backups: an MCP server that lets AI agents look after the backups of VPS.org servers."""

__version__ = "0.1.0"
