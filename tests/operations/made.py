"""Backups and operations for the tables of these tests."""

from datetime import timedelta
from typing import Any

from mcp_backups.clock import Moment
from mcp_backups.models import Backup
from mcp_backups.operations.operation import Operation, new_id
from tests.stage import NOW

MOMENT = Moment(wall=NOW, ticks=1000.0, boot="first boot")


def backup(number: int = 501, hours: float = 48, **fields: Any) -> Backup:
    """A good backup of server 12345, so old."""
    known: dict[str, Any] = {
        "created_at": NOW - timedelta(hours=hours),
        "server_id": 12345,
        "server_name": "web-server-01",
        "type": "manual",
        "status": "completed",
        "size_mb": 100.0,
        "expires_at": None,
        "description": "",
    }
    return Backup(id=number, **known | fields)


def operation(action: str = "delete_backup", status: str = "planned", **fields: Any) -> Operation:
    known: dict[str, Any] = {"id": new_id(), "arguments": {"backup_id": 501}, "server_id": 12345, "created": MOMENT}
    return Operation.model_validate({"action": action, "status": status} | known | fields)


def ago(ticking: float = 0, **span: float) -> Moment:
    """A moment so long before now by the wall clock, and `ticking` seconds before by the other."""
    return Moment(wall=NOW - timedelta(**span), ticks=MOMENT.ticks - ticking, boot=MOMENT.boot)
