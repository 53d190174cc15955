"""What is special about each kind of write: one module per action, with all its words.

`operations/` knows an action by one protocol, and never imports one.
"""

from types import MappingProxyType

from mcp_backups.actions import create, delete, prune, restore
from mcp_backups.operations import Action

ACTIONS: MappingProxyType[str, Action] = MappingProxyType(
    {"create_backup": create, "delete_backup": delete, "restore_server": restore, "prune_backups": prune}
)

__all__ = ["ACTIONS"]
