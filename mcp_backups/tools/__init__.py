"""What the model calls: thin functions over the operations, in one table."""

from mcp_backups.tools.answers import operation_text
from mcp_backups.tools.checking import check_backups, report_text
from mcp_backups.tools.reading import get_operation, list_backups, page_text
from mcp_backups.tools.tool import Safety, Tool, ToolCall, make_tool
from mcp_backups.tools.writing import create_backup, delete_backup, prune_backups, restore_server

TOOLS: tuple[Tool, ...] = (
    make_tool(list_backups, page_text, title="List backups", safety="reads"),
    make_tool(create_backup, operation_text, title="Create a backup", safety="writes", idempotent=False),
    make_tool(delete_backup, operation_text, title="Delete a backup", safety="destroys"),
    make_tool(restore_server, operation_text, title="Restore a server", safety="destroys", idempotent=False),
    make_tool(get_operation, operation_text, title="Get an operation", safety="reads"),
    make_tool(check_backups, report_text, title="Check backups", safety="reads"),
    make_tool(prune_backups, operation_text, title="Prune backups", safety="destroys"),
)

__all__ = ["TOOLS", "Safety", "Tool", "ToolCall"]
