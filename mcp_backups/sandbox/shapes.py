"""The JSON of every object, exactly as VPS.org documents it, and of lists of them.

A list comes all at once as documented, or in pages as DRF's PageNumberPagination makes them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from . import refusals
from .fleet import Backup, Fleet, Restore, Server
from .received import PREFIX, Received
from .reply import Reply, json_reply

JsonObject = dict[str, Any]

Row = TypeVar("Row")


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


# Lists


@dataclass(frozen=True)
class Pages:
    """How lists are cut. scheme: of the links to other pages.

    size: rows on a page unless the client asks for another number; None = no pages at all. largest: the most it gets.
    """

    size: int | None = None
    largest: int = 100
    scheme: str = "http"


def listed(rows: Sequence[Row], shape: Callable[[Row], JsonObject], received: Received, pages: Pages) -> Reply:
    """A list answer: `count` and `results`, and with pages `next` and `previous` in between."""
    if pages.size is None:
        return json_reply(200, {"count": len(rows), "results": [shape(row) for row in rows]})
    size = _size(received.query.get("page_size", ""), pages.size, pages.largest)
    last = max(1, -(-len(rows) // size))
    number = _number(received.query.get("page", "1"), last)
    content = {
        "count": len(rows),
        "next": _link(received, pages, number + 1) if number < last else None,
        "previous": _link(received, pages, number - 1) if number > 1 else None,
        "results": [shape(row) for row in rows[(number - 1) * size : number * size]],
    }
    return json_reply(200, content)


def _size(asked: str, usual: int, largest: int) -> int:
    """What the client asked for, cut to the largest; the usual size if that is no positive number."""
    wanted = int(asked) if _digits(asked) else 0
    return min(wanted, largest) if wanted > 0 else usual


def _number(asked: str, last: int) -> int:
    """The page asked for, from 1 to `last`, or refused with 404."""
    number = last if asked == "last" else int(asked) if _digits(asked) else 0
    if not 1 <= number <= last:
        raise refusals.no_such_page()
    return number


def _digits(text: str) -> bool:
    return re.fullmatch("[0-9]{1,18}", text) is not None


def _link(received: Received, pages: Pages, number: int) -> str:
    """The whole URL of another page; the first has no `page`, as DRF has it."""
    query = {name: value for name, value in received.query.items() if name != "page"}
    if number > 1:
        query["page"] = str(number)
    host = received.headers.get("host", "")
    path = f"{pages.scheme}://{host}{PREFIX}{received.path}"
    return f"{path}?{urlencode(sorted(query.items()))}" if query else path
