"""The JSON of every object, exactly as VPS.org documents it."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from .fleet import Backup, Fleet, Restore, Server

JsonObject = dict[str, Any]


def timestamp(moment: datetime | None) -> str | None:
    """ISO 8601 with `Z`; microseconds only where there are any. None stays null."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def backup_shape(backup: Backup, fleet: Fleet) -> JsonObject:
    """One row of `GET /backups/`."""
    return {
        "id": backup.id,
        "server": {"id": backup.server_id, "name": fleet.servers[backup.server_id].name},
        "backup_type": backup.backup_type,
        "status": backup.status,
        "size_mb": backup.size_mb,
        "created_at": timestamp(backup.created_at),
        "expires_at": timestamp(backup.expires_at),
        "description": backup.description,
    }


def started_shape(backup: Backup, fleet: Fleet) -> JsonObject:
    """The answer to `POST /backups/`."""
    message = "Backup is being created. This may take several minutes depending on server size."
    return backup_shape(backup, fleet) | {"message": message}


def restore_shape(restore: Restore) -> JsonObject:
    """The answer to a restore. Undocumented: this is a guess, so nobody should lean on it."""
    return {
        "message": "Restore has been started. The server will be unavailable until it is finished.",
        "server_id": restore.server_id,
        "backup_id": restore.backup_id,
    }


def server_shape(server: Server) -> JsonObject:
    """One row of `GET /servers/`."""
    return {
        "id": server.id,
        "name": server.name,
        "hostname": server.hostname,
        "status": server.status,
        "ip_address": server.ip_address,
        "location": server.location,
        "plan": asdict(server.plan),
        "os": {"id": server.os.lower().replace(" ", "-"), "name": server.os},
        "created_at": timestamp(server.created_at),
        "updated_at": timestamp(server.updated_at),
    }


def server_detail_shape(server: Server) -> JsonObject:
    """`GET /servers/{id}/`: the row, and the root password that no client may echo."""
    return server_shape(server) | {"password": server.password}


def account_shape(permissions: list[str]) -> JsonObject:
    """`GET /account/me/`: whose token this is, and what it may do."""
    account = {
        "email": "ops@example.com",
        "first_name": "Sandy",
        "last_name": "Box",
        "company_name": "Example Hosting",
        "created_at": "2024-06-15",
    }
    token = {
        "name": "Sandbox token",
        "permissions": permissions,
        "created_at": "2024-06-15T09:00:00Z",
        "last_used_at": None,
        "expires_at": None,
    }
    return {"account": account, "token": token}
