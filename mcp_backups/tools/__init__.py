"""What the model calls: thin functions over the operations, in one table."""

from mcp_backups.tools.answers import operation_text
from mcp_backups.tools.checking import check_backups, report_text
from mcp_backups.tools.reading import get_operation, list_backups, page_text
from mcp_backups.tools.tool import Safety, Tool, ToolCall
from mcp_backups.tools.writing import create_backup, delete_backup, prune_backups, restore_server

TOOLS: tuple[Tool, ...] = (
    Tool(list_backups, page_text, title="List backups", safety="reads"),
    Tool(create_backup, operation_text, title="Create a backup", safety="writes", idempotent=False),
    Tool(delete_backup, operation_text, title="Delete a backup", safety="destroys"),
    Tool(restore_server, operation_text, title="Restore a server", safety="destroys", idempotent=False),
    Tool(get_operation, operation_text, title="Get an operation", safety="reads"),
    Tool(check_backups, report_text, title="Check backups", safety="reads"),
    Tool(prune_backups, operation_text, title="Prune backups", safety="destroys"),
)

__all__ = ["TOOLS", "Safety", "Tool", "ToolCall"]
