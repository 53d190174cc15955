"""The rows of the ledger's tables: how they are found, and what an event or an operation is read from."""

from collections.abc import Collection
from typing import NamedTuple

from mcp_backups.models import OPERATION_ID

from .documents import Fields, unpack
from .events import Event

UNDER_WAY = "'approved', 'preparing', 'sending', 'unknown'"
"""The statuses of what is not over, of which there is an index."""

_ROW = "o.seq, o.id, o.action, o.status, o.server_id"
COLUMNS = f"{_ROW}, o.sent, o.event, o.document, o.backup_id, o.account, o.credential, lower(hex(o.mac))"
COLUMNS_OF_0_1_0 = f"{_ROW}, o.sent, o.event, o.document"
COLUMNS_OF_PLANS = f"{_ROW}, 0, 0, o.packed, o.backup_id, o.account, o.credential, lower(hex(o.mac))"

_EVENT = "e.seq, e.at, e.operation_id, e.status"
EVENT_COLUMNS = f"{_EVENT}, iif(e.packed = x'', e.document, e.packed), e.hash, lower(hex(e.mac))"
EVENT_COLUMNS_OF_0_1_0 = f"{_EVENT}, e.document, e.hash, ''"


class Row(NamedTuple):
    """By which an operation is found. Its document stands in events; that of a plan, and of 0.1.0, here."""

    seq: int
    id: str
    action: str
    status: str
    server_id: int
    sent: int
    event: int
    document: str | bytes
    backup_id: int = 0
    account: str = ""
    credential: str = ""
    mac: str = ""

    def fits(self, fields: Fields) -> bool:
        """Whether it can be found by what its document says."""
        return (
            (self.id, self.action, self.status, self.server_id)
            == tuple(fields[name] for name in ("id", "action", "status", "server_id"))
            and self.backup_id == fields.get("backup_id", 0)
            and (self.account, self.credential) == (fields.get("account", ""), fields.get("credential", ""))
            and bool(self.sent) == bool(fields.get("sent"))
            and self.sent <= self.event
            and bool(OPERATION_ID.fullmatch(self.id))
        )


def terms(action: str | None, server_id: int, statuses: Collection[str]) -> tuple[str, list[object]]:
    """A condition by which rows are found, and its values."""
    found: list[tuple[str, list[object]]] = [("1", [])]
    if action:
        found.append(("o.action = ?", [action]))
    if server_id:
        found.append(("o.server_id = ?", [server_id]))
    if statuses:
        found.append((f"o.status IN ({','.join('?' * len(statuses))})", list(statuses)))
    return " AND ".join(term for term, _ in found), [value for _, values in found for value in values]


def event_of(seq: int, at: str, operation_id: str, status: str, document: str | bytes, hash_: str, mac: str) -> Event:
    """An event as it was recorded; one that cannot be unpacked has a document that fits no MAC."""
    if isinstance(document, bytes):
        try:
            document = unpack(document)
        except ValueError:
            document = ""
    return Event(seq, at, operation_id, status, document, hash_, mac)
