"""What every operation works with, what it is asked, and what its caller is told."""

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import anyio

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock, Moment
from mcp_backups.errors import BackupsError, BusyError, Changed, LedgerUnavailableError, UpstreamTimeoutError
from mcp_backups.ledger import Ledger, Liveness, Transaction
from mcp_backups.metrics import Meter, Unmetered
from mcp_backups.models import Backup, Identity, Listing
from mcp_backups.operations.consent import Person, Question
from mcp_backups.operations.operation import (
    EFFECTIVE,
    OPEN,
    UNSETTLED,
    ActionName,
    ApprovedBy,
    Approver,
    Arguments,
    Operation,
    RestoreDetails,
    Status,
    combined,
)
from mcp_backups.operations.policy import Doubt, Inventory, doubts, is_contradicted, may_have_made, policy_digest
from mcp_backups.settings import Settings

Entries = Transaction[Operation]
"""The ledger's entries, within one transaction."""

ReportProgress = Callable[[float, float, str], Awaitable[None]]
"""Tells a waiting caller how far it is (seconds waited, or backups done), of how much, and what is going on."""

Facts = dict[str, str | int | float | bool]
"""What bears on a decision or is known of an outcome, made to be shown; nothing is read back from it."""

ANSWER_SECONDS = 45.0
"""Within this a call is answered: many clients give up after 60 s."""

_SENDING_SHARE = 5 / 9
"""How much of a call is kept for a write: 25 s, which is 20 s for the request and time for a look at its effect."""

_OVERTIME_SHARE = 1 / 3
"""By how much a call may go on that has waited for a safety backup: 15 s, so that the restore is sent within 35 s."""

_IDENTIFYING_SHARE = 1 / 9
"""How much of a call the question which account this is may take: 5 s."""

_RECORDING_SHARE = 4 / 45
"""How much of a call is kept for what another process that holds the ledger may take: 4 s."""

LOOKOUT_SECONDS = 1.0
"""How soon an approver's decision is seen; many who wait for one ask no more often than one does."""

_FORGET_SECONDS = 5.0
_AGAIN_SECONDS = 1.0

_RECENT = timedelta(hours=24)
RESTORING = timedelta(hours=1)
"""How long a restore may take, as far as is known."""
_LONGEST_SENDING = timedelta(minutes=10)
"""Far longer than a call takes: what is still being sent after that has lost its outcome."""
_OLDER_IN_A_ROW = 10


class Result(NamedTuple):
    """What a caller is told of an operation.

    Attributes:
        operation: As it is now.
        replayed: The caller asked for it before, and nothing was sent this time.
        safety: The operation that makes a restore's safety backup, while the restore waits for it.
        deletes: Of a prune, the deletes that it began.
        approver: Who can approve it, while it is only planned.
        unseen: Why VPS.org could not be asked just now, by an error code or in words; what is told may be out of date.
        obstacle: Why it did not go on, or could not be recorded, just now; the same call takes it up again.
        is_undoable: Nothing that was sent since may take the way back from a restore.
        undo_from: When the budget allows to take a restore back; None if it does at once.
        undo_counts: Taking a restore back counts in the budget: it is not the server's last one any more.
        is_gone: The backup that it made is no longer in the complete list.
        deleted_by: The operation that deletes, or deleted, the backup that it made, or that would undo it.
    """

    operation: Operation
    replayed: bool = False
    safety: Operation | None = None
    deletes: tuple[Operation, ...] = ()
    approver: Approver = "caller"
    unseen: str = ""
    obstacle: BackupsError | None = None
    is_undoable: bool = True
    undo_from: datetime | None = None
    undo_counts: bool = False
    is_gone: bool = False
    deleted_by: str = ""

    @property
    def changed(self) -> Changed:
        """What is known of its effect on the account."""
        return combined(self.deletes) if self.operation.action == "prune_backups" else self.operation.changed


class Action(Protocol):
    """One kind of write: all that is special about it, and all its words. Each is a module of `actions/`."""

    async def send(self, context: "Context", operation: Operation) -> Operation:
        """Send the request of an operation whose intent is recorded; returns it with its outcome.

        Raises:
            BackupsError: It was refused, or its outcome is not known.
        """
        ...

    async def look(self, context: "Context", operation: Operation) -> Result:
        """Look once what became of an operation.

        Raises:
            ApiError, ConfigError: VPS.org could not be asked.
        """
        ...

    def may_change(self, operation: Operation) -> bool:
        """Whether looking can tell more of it: no status is so final that seeing the opposite does not correct it."""
        ...

    def summary(self, result: Result) -> str:
        """What happened, or would, in a sentence or two."""
        ...

    def facts(self, result: Result, now: datetime) -> Facts:
        """What bears on the decision, or is known of the outcome, beside what every operation tells."""
        ...

    def next_step(self, result: Result, now: datetime) -> str:
        """What the caller can do next; empty where that is the same for all actions."""
        ...

    def question(self, operation: Operation) -> Question:
        """What to ask a person about a plan: the same words as long as the plan is the same."""
        ...


class Request(NamedTuple):
    """A destructive call as it came in.

    Attributes:
        confirm: The caller says that the plan is agreed to.
        operation_id: The plan; empty for a new one.
        person: The user behind the client.
    """

    action: ActionName
    arguments: Arguments
    confirm: bool
    operation_id: str
    person: Person


class Steps(NamedTuple):
    """How a destructive action comes from a request to its outcome.

    Attributes:
        plan: Looks what the request would do and records that as a plan.
        execute: Carries out a plan that was consented to.
    """

    plan: Callable[["Context", Request], Awaitable[Operation]]
    execute: Callable[["Context", Operation, ApprovedBy], Awaitable[Result]]


class Lookout:
    """Who waits for which operation, and how these were at the last look."""

    def __init__(self) -> None:
        self._asked: dict[str, float] = {}
        self._found: dict[str, Operation | None] = {}
        self._looked = -math.inf
        self._lock = anyio.Lock()

    async def find(self, ledger: Ledger[Operation], ticks: float, operation_id: str) -> Operation | None:
        """An operation as it was less than a second ago; None where it was not looked at yet, or is not there.

        Raises:
            BusyError, LedgerUnavailableError: The ledger cannot be read.
        """
        self._asked[operation_id] = ticks
        async with self._lock:
            if ticks - self._looked >= LOOKOUT_SECONDS:
                self._asked = {each: at for each, at in self._asked.items() if ticks - at < _FORGET_SECONDS}
                ids = tuple(self._asked)
                self._found = await ledger.read(lambda entries: {each: entries.get(each) for each in ids})
                self._looked = ticks
            return self._found.get(operation_id)


class Unrecorded:
    """Outcomes, and intents of which the ledger did not say that they are recorded, and which were not sent then.

    Others hold such an operation for being sent, as long as this process lives; only this one knows better.
    """

    def __init__(self) -> None:
        self._known: dict[str, Operation] = {}
        self._news = anyio.Event()

    def keep(self, operation: Operation) -> None:
        """Keep how an operation came to be, until that is recorded."""
        self._known[operation.id] = operation
        self._news.set()

    def better(self, operation: Operation) -> Operation:
        """How an operation came to be, as far as this process knows better than the ledger."""
        known = self._known.get(operation.id)
        return known if known and operation.status in UNSETTLED and operation.owner == known.owner else operation

    async def record_all(self, ledger: Ledger[Operation]) -> None:
        """Record each as soon as that can be done, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            while self._known:
                for known in list(self._known.values()):
                    with suppress(BusyError, LedgerUnavailableError):
                        await self._record(ledger, known)
                await anyio.sleep(_AGAIN_SECONDS)

    async def _record(self, ledger: Ledger[Operation], known: Operation) -> None:
        def record(entries: Transaction[Operation]) -> None:
            current = entries.get(known.id)
            if current and self.better(current) != current:
                entries.save(known)

        await ledger.write(record)
        del self._known[known.id]


@dataclass
class AccountName:
    """Which account the token is of, as far as the settings or VPS.org have named it.

    Attributes:
        name: In the settings, where there are several; else empty.
        fingerprint: Of its name at its address; empty while that is not known.
        is_asked: Whether this process has asked.
    """

    name: str = ""
    fingerprint: str = ""
    is_asked: bool = False


@dataclass(frozen=True)
class Context:
    """What every operation works with.

    Attributes:
        actions: Every action, by its name.
        account: The one that the token is of.
        principal: Who makes the present call, over HTTP; empty for whoever started the process.
        meter: Is told of what goes on.
        unrecorded: What is known here of operations and could not be recorded.
        lookout: Where calls wait for what others record.
        answer_seconds: How long a call may take.
        answer_by: When the present call must be answered, by the clock's ticks; infinite outside a call.
    """

    settings: Settings
    api: VpsClient
    ledger: Ledger[Operation]
    liveness: Liveness
    clock: Clock
    actions: Mapping[str, Action]
    account: AccountName = field(default_factory=AccountName)
    principal: str = ""
    meter: Meter = field(default_factory=Unmetered)
    unrecorded: Unrecorded = field(default_factory=Unrecorded)
    lookout: Lookout = field(default_factory=Lookout)
    answer_seconds: float = ANSWER_SECONDS
    answer_by: float = math.inf

    def moment(self) -> Moment:
        """Now, by every clock that is known of."""
        return self.api.moment()

    @property
    def now(self) -> datetime:
        """UTC, by our clock or VPS.org's, whichever is ahead."""
        return self.moment().latest

    def for_a_call(self, principal: str | None = None) -> "Context":
        """The same for a call whose time begins now, of this principal; of the same one as before if none is given."""
        principal = self.principal if principal is None else principal
        return replace(self, principal=principal, answer_by=self.clock.ticks() + self.answer_seconds)

    def with_overtime(self) -> "Context":
        """The same for a call that may have to wait before it sends something."""
        return replace(self, answer_by=self.answer_by + self.answer_seconds * _OVERTIME_SHARE)

    @property
    def called_at(self) -> float:
        """When the present call came, by the clock's ticks; outside a call that is now."""
        return min(self.answer_by - self.answer_seconds, self.clock.ticks())

    @property
    def seconds_left(self) -> float:
        """Until the present call must be answered, 0 at least."""
        return max(0.0, self.answer_by - self.clock.ticks())

    @property
    def recording_seconds(self) -> float:
        """What is kept of a call to record what came of it."""
        return self.answer_seconds * _RECORDING_SHARE

    def seconds_to_read(self, *, before_sending: bool) -> float:
        """How long there may be read, so that what comes of it is recorded in time or, `before_sending`, sent too."""
        return self.seconds_left - (self.answer_seconds * _SENDING_SHARE if before_sending else self.recording_seconds)

    @contextmanager
    def reading(self, *, before_sending: bool = False) -> Iterator[None]:
        """Whatever is read inside ends in time to record it or, `before_sending`, for the write and its answer.

        Raises:
            UpstreamTimeoutError: It did not.
        """
        try:
            with anyio.fail_after(self.seconds_to_read(before_sending=before_sending)):
                yield
        except TimeoutError:
            raise UpstreamTimeoutError("VPS.org's lists could not be read in the time that a call may take.") from None

    @property
    def identity(self) -> Identity:
        """On whose behalf this process works, as far as that is known by now."""
        credential = self.api.credential
        return Identity(self.api.address, credential, self.account.name or self.account.fingerprint or credential)

    def origin(self) -> dict[str, Any]:
        """What every new operation is told of where it comes from: its time, its account, who asked, the rules."""
        rules = policy_digest(self.settings)
        return {"created": self.moment(), "policy": rules, "principal": self.principal, **self.identity._asdict()}

    async def identify(self) -> None:
        """Ask VPS.org once which account the token is of, so that all its tokens share budgets and plans.

        For writes alone, and nothing depends on the answer: without it a token is an account of its own.
        """
        if not self.account.is_asked and not self.account.name:
            self.account.is_asked = True
            with anyio.move_on_after(self.answer_seconds * _IDENTIFYING_SHARE), suppress(BackupsError):
                self.account.fingerprint = await self.api.account_fingerprint()

    def can_see(self, operation: Operation) -> bool:
        """Whether what VPS.org shows here can be about an operation: what another account sees proves nothing."""
        return self.identity.owns(operation.identity)

    def may_be_told(self, operation: Operation) -> bool:
        """Whether the present caller may look at it: what was sent concerns everybody, a plan who can confirm it.

        Of another of several accounts nobody is told anything, not even that it is there.
        """
        is_own = operation.principal == self.principal
        return (is_own or operation.status not in OPEN) and (self.can_see(operation) or not self.account.name)

    def asked_for(self, operation: Operation) -> bool:
        """Whether it is the present caller's own: nobody confirms another's plan, or is told another's outcome."""
        return operation.principal == self.principal and self.can_see(operation)

    def concerns(self, operation: Operation) -> bool:
        """Whether an operation may be about servers that are seen here, whoever asked for it."""
        return self.identity.shares_servers(operation.identity)

    def is_being_sent(self, operation: Operation) -> bool:
        """Whether a process may still be at work on it: one that lives, and not for longer than any of them takes."""
        is_recent = operation.since.ago(self.moment()) < _LONGEST_SENDING
        return is_recent and self.liveness.is_at_work(operation.owner, operation.id)

    async def find(self, operation_id: str) -> Operation | None:
        """An operation as the ledger has it now."""
        return await self.ledger.read(lambda entries: entries.get(operation_id))

    async def find_soon(self, operation_id: str) -> Operation | None:
        """The same for one who waits: as it was less than a second ago, if it was looked at."""
        return await self.lookout.find(self.ledger, self.clock.ticks(), operation_id)

    async def record(self, operation: Operation) -> Operation:
        """Make an operation durable as it is now."""
        return await self.ledger.write(lambda entries: entries.save(operation))

    async def doubtful(self, backups: Listing[Backup]) -> dict[int, Doubt]:
        """Which of the listed backups are counted on for nothing, because their deletion was sent.

        Raises:
            LedgerUnavailableError, BusyError: The ledger cannot be read now, so it is not known.
        """
        now = self.moment()
        return await self.ledger.read(lambda entries: doubts_in(entries, backups, self.identity, now))

    async def inventory(self, server_id: int, backups: Listing[Backup]) -> Inventory:
        """What a destructive operation on a server is judged by."""
        now = self.moment()

        def read(entries: Entries) -> _Before:
            return _Before.read(entries, server_id, backups.ids, self, now)

        before = await self.ledger.read(read)
        undone_by = {
            each.of(RestoreDetails).undo_backup_id: each.id
            for each in reversed(before.restored)
            if each.created.within(_RECENT, now)
        }
        return Inventory(
            backups=backups,
            made_here={
                backup.id for backup in backups.rows if any(may_have_made(each, backup) for each in before.created)
            },
            now=now.latest,
            earliest=now.earliest,
            doubtful=doubts(before.deleted, backups.rows, now),
            ways_back=undone_by | {safety.backup_id: each.id for each, safety in before.prepared if safety},
            sources={each.backup_id: each.id for each in reversed(before.restored) if _may_be_reading(each, now)}
            | {each.backup_id: each.id for each, _ in before.prepared},
            restored=next((each.sent for each in before.restored if each.sent), None),
            contradicted=[
                each for each in before.deleted if any(is_contradicted(each, backup) for backup in backups.rows)
            ],
        )


class _Before(NamedTuple):
    """What was done on a server before, newest first.

    Attributes:
        prepared: Each restore that waits, with the operation that makes its safety backup.
    """

    created: list[Operation]
    deleted: list[Operation]
    restored: list[Operation]
    prepared: list[tuple[Operation, Operation | None]]

    @classmethod
    def read(
        cls, entries: Entries, server_id: int, backup_ids: Collection[int], context: Context, now: Moment
    ) -> "_Before":
        def concerned(found: Iterable[Operation]) -> Iterator[Operation]:
            return (each for each in found if context.concerns(each))

        waiting = concerned(entries.under_way({Status.PREPARING}, action="restore_server", server_id=server_id))
        restored = concerned(entries.sent("restore_server", server_id=server_id, statuses=EFFECTIVE))
        last = next(restored, None)
        return cls(
            created=list(recent(concerned(entries.sent("create_backup", server_id=server_id)), _RECENT, now)),
            # Whichever server they were on then: a backup may be another's by now.
            deleted=list(concerned(entries.sent_for_backups("delete_backup", backup_ids, EFFECTIVE))),
            restored=[last, *recent(restored, _RECENT, now)] if last else [],
            prepared=[
                (each, entries.get(each.of(RestoreDetails).safety_operation))
                for each in waiting
                if not each.is_expired(now)
            ],
        )


def doubts_in(entries: Entries, backups: Listing[Backup], identity: Identity, now: Moment) -> dict[int, Doubt]:
    """The doubtful ones of these backups, by the ledger, whichever token their deletion was sent with."""
    deletes = entries.sent_for_backups("delete_backup", backups.ids, EFFECTIVE)
    return doubts([each for each in deletes if identity.shares_servers(each.identity)], backups.rows, now)


def recent(sent: Iterable[Operation], window: timedelta, now: Moment) -> Iterator[Operation]:
    """Those of what was sent, newest first, that are younger than `window`.

    Read no further than to some in a row that are older: of a year's operations all but a few are, and a clock that was
    set wrong when these were sent hides none that came before.
    """
    older = 0
    for each in sent:
        older = 0 if each.since.within(window, now) else older + 1
        if not older:
            yield each
        elif older == _OLDER_IN_A_ROW:
            return


def _may_be_reading(restore: Operation, now: Moment) -> bool:
    """Whether a restore that was sent may still be at it."""
    return restore.sent is not None and restore.sent.within(RESTORING, now)
