"""What every operation works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock
from mcp_backups.errors import BackupsError
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.ledger import Ledger, Transaction
from mcp_backups.operations.operation import EFFECTIVE, Action, Approver, Operation
from mcp_backups.operations.policy import Holdings
from mcp_backups.operations.presence import Presence
from mcp_backups.settings import Settings

Progress = Callable[[float, float, str], Awaitable[None]]
"""Tells a waiting caller how far it is (seconds waited, or backups done), of how much, and what is going on."""

_MADE_HERE = timedelta(hours=24)


@dataclass(frozen=True)
class Told:
    """What a caller is told of an operation.

    Attributes:
        operation: As it is now.
        replayed: The caller asked for it before, and nothing was sent this time.
        safety: The operation that makes a restore's safety backup, while the restore waits for it.
        server_status: The server's status as VPS.org shows it now, if it was asked.
        approver: Who can approve it, while it is only planned.
        unseen: Why VPS.org could not be asked just now, as an error code; what is told may be out of date.
        obstacle: Why a prune did not go on, or could not be recorded, just now; the same call takes it up again.
    """

    operation: Operation
    replayed: bool = False
    safety: Operation | None = None
    server_status: str = ""
    approver: Approver = "caller"
    unseen: str = ""
    obstacle: BackupsError | None = None


@dataclass(frozen=True)
class Desk:
    """What every operation works with."""

    settings: Settings
    api: VpsClient
    ledger: Ledger
    presence: Presence
    clock: Clock

    async def holdings(self, server_id: int, backups: Listing[Backup]) -> Holdings:
        """What a destructive operation on a server is judged by."""
        now = self.clock.moment()

        def effective(entries: Transaction, action: Action) -> list[Operation]:
            return entries.find(action=action, server_id=server_id, statuses=EFFECTIVE, limit=1000)

        made, deleted = await self.ledger.read(
            lambda entries: (effective(entries, "create_backup"), effective(entries, "delete_backup"))
        )
        return Holdings(
            backups,
            frozenset(each.backup_id for each in made if each.created.within(_MADE_HERE, now)),
            now.wall,
            frozenset(each.backup_id for each in deleted),
        )

    async def record(self, operation: Operation) -> Operation:
        """Make an operation durable as it is now."""
        return await self.ledger.write(lambda transaction: transaction.save(operation))


def with_error(operation: Operation, error: BackupsError) -> Operation:
    """The operation with why it failed or was refused."""
    return operation.but(error_code=error.code, error=error.what, advice=error.next_step)
