"""What every operation works with."""

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import anyio

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock, Moment
from mcp_backups.errors import BackupsError, UpstreamTimeoutError
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.doubt import Doubt, doubts, doubts_in
from mcp_backups.operations.judge import judge_delete, may_have_made
from mcp_backups.operations.ledger import Ledger, Transaction
from mcp_backups.operations.operation import EFFECTIVE, Action, Approver, Operation
from mcp_backups.operations.policy import Holdings
from mcp_backups.operations.presence import Presence
from mcp_backups.settings import Settings

Progress = Callable[[float, float, str], Awaitable[None]]
"""Tells a waiting caller how far it is (seconds waited, or backups done), of how much, and what is going on."""

ANSWER_SECONDS = 45.0
"""Within this a call is answered: many clients give up after 60 s."""

_SENDING_SHARE = 5 / 9
"""How much of a call is kept for a write: 25 s, which is 20 s for the request and time for a look at its effect."""

_RECENT = timedelta(hours=24)
_RESTORING = timedelta(hours=1)
_LONGEST_SENDING = timedelta(minutes=10)
"""Far longer than a call takes: what is still being sent after that has lost its outcome."""
_MOST = 1000


class Told(NamedTuple):
    """What a caller is told of an operation.

    Attributes:
        operation: As it is now.
        replayed: The caller asked for it before, and nothing was sent this time.
        safety: The operation that makes a restore's safety backup, while the restore waits for it.
        server_status: The server's status as VPS.org shows it now, if it was asked.
        approver: Who can approve it, while it is only planned.
        unseen: Why VPS.org could not be asked just now, by an error code or in words; what is told may be out of date.
        obstacle: Why it did not go on, or could not be recorded, just now; the same call takes it up again.
        is_undoable: Nothing that was sent since may take the way back from a restore.
        is_gone: The backup that it made is no longer in the complete list.
    """

    operation: Operation
    replayed: bool = False
    safety: Operation | None = None
    server_status: str = ""
    approver: Approver = "caller"
    unseen: str = ""
    obstacle: BackupsError | None = None
    is_undoable: bool = True
    is_gone: bool = False


@dataclass(frozen=True)
class Desk:
    """What every operation works with.

    Attributes:
        answer_seconds: How long a call may take.
        answer_by: When the present call must be answered, by the clock's ticks; infinite outside a call.
    """

    settings: Settings
    api: VpsClient
    ledger: Ledger
    presence: Presence
    clock: Clock
    answer_seconds: float = ANSWER_SECONDS
    answer_by: float = math.inf

    def moment(self) -> Moment:
        """Now, by every clock that is known of."""
        return self.api.moment()

    @property
    def now(self) -> datetime:
        """UTC, by our clock or VPS.org's, whichever is ahead."""
        return self.moment().latest

    def for_a_call(self) -> "Desk":
        """The same for a call whose time begins now."""
        return replace(self, answer_by=self.clock.ticks() + self.answer_seconds)

    @property
    def seconds_left(self) -> float:
        """Until the present call must be answered, 0 at least."""
        return max(0.0, self.answer_by - self.clock.ticks())

    @contextmanager
    def reading(self, *, before_sending: bool = False) -> Iterator[None]:
        """Whatever is read inside ends in time for the answer or, `before_sending`, for the write and its answer.

        Raises:
            UpstreamTimeoutError: It did not.
        """
        kept = self.answer_seconds * _SENDING_SHARE if before_sending else 0.0
        try:
            with anyio.fail_after(self.seconds_left - kept):
                yield
        except TimeoutError:
            raise UpstreamTimeoutError("VPS.org's lists could not be read in the time that a call may take.") from None

    def can_see(self, operation: Operation) -> bool:
        """Whether what VPS.org shows here can be about an operation: what another token sees proves nothing."""
        return operation.credential in {"", self.api.credential}

    def is_being_sent(self, operation: Operation) -> bool:
        """Whether a process may still be at work on it: one that lives, and not for longer than any of them takes."""
        sent = operation.sent or operation.created
        return sent.ago(self.moment()) < _LONGEST_SENDING and self.presence.is_at_work(operation.owner, operation.id)

    async def holdings(self, server_id: int, backups: Listing[Backup]) -> Holdings:
        """What a destructive operation on a server is judged by."""
        now = self.moment()

        def effective(entries: Transaction, action: Action) -> list[Operation]:
            return entries.find(action=action, server_id=server_id, statuses=EFFECTIVE, limit=_MOST)

        def waiting(entries: Transaction) -> list[tuple[Operation, Operation | None]]:
            found = entries.find(action="restore_server", server_id=server_id, statuses={"preparing"})
            return [(each, entries.get(each.safety_operation)) for each in found if not each.is_expired(now)]

        created, deleted, restored, prepared = await self.ledger.read(
            lambda entries: (
                entries.find(action="create_backup", server_id=server_id, limit=_MOST),
                effective(entries, "delete_backup"),
                effective(entries, "restore_server"),
                waiting(entries),
            )
        )
        again = [judge_delete(each, backups, now) for each in deleted if each.status == "succeeded"]
        if contradicted := [each for each in again if each.status == "unknown"]:
            await self.ledger.write(lambda entries: [entries.save(each) for each in contradicted])
        recent = [each for each in created if each.created.within(_RECENT, now)]
        return Holdings(
            backups=backups,
            made_here={backup.id for backup in backups.rows if any(may_have_made(each, backup) for each in recent)},
            now=now.latest,
            doubtful=doubts(deleted, backups.ids, now),
            ways_back={each.undo_backup_id: each.id for each in reversed(restored) if each.created.within(_RECENT, now)}
            | {safety.backup_id: each.id for each, safety in prepared if safety},
            sources={each.backup_id: each.id for each in reversed(restored) if _may_be_reading(each, now)}
            | {each.backup_id: each.id for each, _ in prepared},
            restored=next((each.sent for each in restored if each.sent), None),
        )

    async def doubtful(self, backups: Listing[Backup]) -> dict[int, Doubt]:
        """Which of the listed backups are counted on for nothing, because their deletion was sent.

        Raises:
            LedgerUnavailableError, BusyError: The ledger cannot be read now, so it is not known.
        """
        now = self.moment()
        return await self.ledger.read(lambda entries: doubts_in(entries, backups, now))

    async def record(self, operation: Operation) -> Operation:
        """Make an operation durable as it is now."""
        return await self.ledger.write(lambda transaction: transaction.save(operation))


def _may_be_reading(restore: Operation, now: Moment) -> bool:
    """Whether a restore that was sent may still be at it."""
    return restore.sent is not None and restore.sent.within(_RESTORING, now)


def with_error(operation: Operation, error: BackupsError) -> Operation:
    """The operation with why it failed or was refused."""
    return operation.but(error_code=error.code, error=error.what, advice=error.next_step)
