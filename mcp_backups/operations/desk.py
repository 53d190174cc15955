"""What every operation works with."""

import math
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import anyio

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock, Moment
from mcp_backups.errors import BackupsError, UpstreamTimeoutError
from mcp_backups.models import Backup, Listing
from mcp_backups.operations.judge import may_have_made
from mcp_backups.operations.ledger import Ledger, Transaction
from mcp_backups.operations.operation import EFFECTIVE, Action, Approver, Identity, Operation, Status
from mcp_backups.operations.policy import CLOSED_FOR, Holdings
from mcp_backups.operations.presence import Presence
from mcp_backups.retention import MAY_BE_UNDER_WAY
from mcp_backups.settings import Settings

Progress = Callable[[float, float, str], Awaitable[None]]
"""Tells a waiting caller how far it is (seconds waited, or backups done), of how much, and what is going on."""

ANSWER_SECONDS = 45.0
"""Within this a call is answered: many clients give up after 60 s."""

_SENDING_SHARE = 5 / 9
"""How much of a call is kept for a write: 25 s, which is 20 s for the request and time for a look at its effect."""

_IDENTIFYING_SHARE = 1 / 9
"""How much of a call the question which account this is may take: 5 s."""
_RECORDING_SHARE = 4 / 45
"""How much of a call is kept for what another process that holds the ledger may take: 4 s."""
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
    """

    operation: Operation
    replayed: bool = False
    safety: Operation | None = None
    server_status: str = ""
    approver: Approver = "caller"
    unseen: str = ""
    obstacle: BackupsError | None = None
    is_undoable: bool = True


@dataclass
class Account:
    """Which account the token is of, as far as VPS.org has named it.

    Attributes:
        fingerprint: Of its name at its address; empty while that is not known.
        is_asked: Whether this process has asked.
    """

    fingerprint: str = ""
    is_asked: bool = False


@dataclass(frozen=True)
class Desk:
    """What every operation works with.

    Attributes:
        account: The one that the token is of.
        answer_seconds: How long a call may take.
        answer_by: When the present call must be answered, by the clock's ticks; infinite outside a call.
    """

    settings: Settings
    api: VpsClient
    ledger: Ledger
    presence: Presence
    clock: Clock
    account: Account = field(default_factory=Account)
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

    @property
    def recording_seconds(self) -> float:
        """What is kept of a call to record what came of it."""
        return self.answer_seconds * _RECORDING_SHARE

    @contextmanager
    def reading(self, *, before_sending: bool = False) -> Iterator[None]:
        """Whatever is read inside ends in time to record it or, `before_sending`, for the write and its answer.

        Raises:
            UpstreamTimeoutError: It did not.
        """
        kept = self.answer_seconds * _SENDING_SHARE if before_sending else self.recording_seconds
        try:
            with anyio.fail_after(self.seconds_left - kept):
                yield
        except TimeoutError:
            raise UpstreamTimeoutError("VPS.org's lists could not be read in the time that a call may take.") from None

    @property
    def identity(self) -> Identity:
        """On whose behalf this process works, as far as that is known by now."""
        credential = self.api.credential
        return Identity(self.api.address, credential, self.account.fingerprint or credential)

    async def identify(self) -> None:
        """Ask VPS.org once which account the token is of, so that all its tokens share budgets and plans.

        For writes alone, and nothing depends on the answer: without it a token is an account of its own.
        """
        if not self.account.is_asked:
            self.account.is_asked = True
            with anyio.move_on_after(self.answer_seconds * _IDENTIFYING_SHARE), suppress(BackupsError):
                self.account.fingerprint = await self.api.account_fingerprint()

    def can_see(self, operation: Operation) -> bool:
        """Whether what VPS.org shows here can be about an operation: what another account sees proves nothing."""
        return self.identity.owns(operation.identity)

    def concerns(self, operation: Operation) -> bool:
        """Whether an operation may be about servers that are seen here, whoever asked for it."""
        return self.identity.shares_servers(operation.identity)

    def is_being_sent(self, operation: Operation) -> bool:
        """Whether a process may still be at work on it: one that lives, and not for longer than any of them takes."""
        sent = operation.sent or operation.created
        return sent.ago(self.moment()) < _LONGEST_SENDING and self.presence.is_at_work(operation.owner, operation.id)

    async def holdings(self, server_id: int, backups: Listing[Backup]) -> Holdings:
        """What a destructive operation on a server is judged by."""
        now = self.moment()

        def found(entries: Transaction, action: Action, statuses: Collection[Status]) -> list[Operation]:
            every = entries.find(action=action, server_id=server_id, statuses=statuses, limit=_MOST)
            return [each for each in every if self.concerns(each)]

        def waiting(entries: Transaction) -> list[tuple[Operation, Operation | None]]:
            restores = found(entries, "restore_server", {"preparing"})
            return [(each, entries.get(each.safety_operation)) for each in restores if not each.is_expired(now)]

        created, deleted, restored, prepared = await self.ledger.read(
            lambda entries: (
                found(entries, "create_backup", ()),
                found(entries, "delete_backup", EFFECTIVE),
                found(entries, "restore_server", EFFECTIVE),
                waiting(entries),
            )
        )
        recent = [each for each in created if each.created.within(_RECENT, now)]
        return Holdings(
            backups=backups,
            made_here={backup.id for backup in backups.rows if any(may_have_made(each, backup) for each in recent)},
            now=now.latest,
            deleted_here={each.backup_id for each in deleted if _may_still_come(each, now)},
            ways_back={each.undo_backup_id: each.id for each in reversed(restored) if each.created.within(_RECENT, now)}
            | {safety.backup_id: each.id for each, safety in prepared if safety},
            sources={each.backup_id: each.id for each in reversed(restored) if _may_be_reading(each, now)}
            | {each.backup_id: each.id for each, _ in prepared},
            restored=next((each.sent for each in restored if each.sent), None),
            earliest=now.earliest,
        )

    async def record(self, operation: Operation) -> Operation:
        """Make an operation durable as it is now."""
        return await self.ledger.write(lambda transaction: transaction.save(operation))


def _may_still_come(delete: Operation, now: Moment) -> bool:
    """Whether a backup that is still listed may yet be gone by a deletion that was sent."""
    time = CLOSED_FOR if delete.status == "unknown" else MAY_BE_UNDER_WAY
    return (delete.sent or delete.created).within(time, now)


def _may_be_reading(restore: Operation, now: Moment) -> bool:
    """Whether a restore that was sent may still be at it."""
    return restore.sent is not None and restore.sent.within(_RESTORING, now)


def with_error(operation: Operation, error: BackupsError) -> Operation:
    """The operation with why it failed or was refused."""
    return operation.but(error_code=error.code, error=error.what, advice=error.next_step)
