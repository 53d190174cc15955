"""An operation: one write, from its plan to its outcome."""

import secrets
from base64 import b32encode
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mcp_backups.clock import Moment
from mcp_backups.errors import BackupsError, Changed
from mcp_backups.health import CLOCK_SKEW
from mcp_backups.models import Backup, Identity

ActionName = Literal["create_backup", "delete_backup", "restore_server", "prune_backups"]
"""What an operation does; each is named after its tool."""


class Status(StrEnum):
    """How far an operation has come. docs/architecture.md draws every arrow between these."""

    PLANNED = "planned"
    """Somebody was shown what it would do. It is sent only once somebody consents."""
    WAITING = "waiting"
    """Somebody asked for it, and an approver has yet to decide outside the chat."""
    APPROVED = "approved"
    """Somebody consented."""
    PREPARING = "preparing"
    """A restore waits for its safety backup; a prune is between two of its deletes."""
    SENDING = "sending"
    """The intent is durable: from here on the request may have arrived."""
    ACCEPTED = "accepted"
    """VPS.org said yes, and the effect has not been seen. A restore stays so: VPS.org does not tell of its end."""
    SUCCEEDED = "succeeded"
    """The effect was seen."""
    FAILED = "failed"
    """VPS.org said no, or the effect was looked for and did not come."""
    UNKNOWN = "unknown"
    """It was sent, and the answer is not certain. Only looking settles it."""
    DECLINED = "declined"
    """A person said no, or could not be asked; or an approver said no, or took an approval back."""
    EXPIRED = "expired"
    """The plan was not confirmed, not decided on, or not finished, in its time."""
    REFUSED = "refused"
    """A rule stood against it, or what the plan showed was no longer so. Nothing was sent."""


OPEN = frozenset({Status.PLANNED, Status.WAITING, Status.APPROVED, Status.PREPARING})
"""Nothing has been sent for it yet, and something may be."""
VAIN = frozenset({Status.REFUSED, Status.DECLINED, Status.EXPIRED, Status.FAILED})
"""It has ended, and what its plan told of the effect is not so."""
UNSETTLED = frozenset({Status.SENDING, Status.UNKNOWN})
"""The effect is not known."""
EFFECTIVE = UNSETTLED | {Status.ACCEPTED, Status.SUCCEEDED}
"""The effect is there, or may be: what budgets count and what is not done again."""

ApprovedBy = Literal["", "not_required", "plan", "flag", "person", "approver"]
"""Who consented: nobody yet, nobody needed to, the caller who was shown the plan, the caller's flag, the client's user,
an approver outside the chat."""

Approver = Literal["caller", "person", "approver"]
"""Who can approve a plan: the caller by confirming, the user when asked, or an approver outside the chat."""

Arguments = dict[str, int | bool | str]

PLAN_LIFE = timedelta(minutes=10)
APPROVED_LIFE = timedelta(hours=1)
PREPARING_LIFE = timedelta(hours=2)
REPEAT_WINDOW = timedelta(minutes=10)
"""Within it, the same request again is the same operation."""

_ID_BYTES = 10

_CHANGED: dict[Status, Changed] = {
    Status.SENDING: "unknown",
    Status.UNKNOWN: "unknown",
    Status.ACCEPTED: "started",
    Status.SUCCEEDED: "done",
}
"""What is known of the effect; every other status changed nothing."""

_LEAST_KNOWN_FIRST: tuple[Changed, ...] = ("unknown", "started", "done")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Budget(_Frozen):
    """What a budget allows once a plan is carried out.

    Attributes:
        left: How many more.
        more_from: When there is more, if none is left then.
    """

    left: int
    more_from: datetime | None = None


class Leave(_Frozen):
    """How long an operation may stay in its present state.

    Attributes:
        since: When it came into it.
        lasts: How long from then on.
    """

    since: Moment
    lasts: timedelta

    @property
    def end(self) -> datetime:
        """UTC, by our clock or VPS.org's, whichever is ahead."""
        return self.since.latest + self.lasts


class Decision(_Frozen):
    """What an approver decided outside the chat; the operation's status tells which way.

    Attributes:
        by: The approver: a system user, or a login.
        how: Where they decided.
        at: When.
        plan: The MAC of the plan as they were shown it.
        reason: Why, in their own words, cleaned; empty if they gave none.
    """

    by: str
    how: Literal["terminal", "console"]
    at: Moment
    plan: str
    reason: str = ""


class CreateDetails(_Frozen):
    """What is special about making a backup.

    Attributes:
        marked: Whether the operation's id stands in the description of the backup that it makes.
        baseline: Ids of the server's backups before the new one was asked for.
        baseline_complete: Whether those are all there were.
        is_safety: Whether it is a restore's safety backup, for which there is no budget.
        candidates: Ids of the backups that may be it, as long as there are several.
    """

    kind: Literal["create_backup"] = "create_backup"
    marked: bool = True
    baseline: tuple[int, ...] = ()
    baseline_complete: bool = True
    is_safety: bool = False
    candidates: tuple[int, ...] = ()


class DeleteDetails(_Frozen):
    """What is special about deleting a backup.

    Attributes:
        part_of: The prune that it belongs to, which is the plan that somebody was shown; else empty.
        good_left: How many proven backups the server keeps.
        newest_left: The newest of them.
        all_left_expire_by: When the last of them expires; None where one does not expire by itself.
        way_back_of: The restore that it takes back, which then could not be undone.
        being_restored_by: The restore that puts the backup back, and may not be done with it.
        listed_again: When the backup was seen listed after it had been seen to be gone.
        lapsed: Whether the deletion was given up without a refusal: its backup was still listed 24 h later, or the
            operator said so. It stays so when the backup is seen to be gone after all.
        budget: Of deletes, when it was planned.
    """

    kind: Literal["delete_backup"] = "delete_backup"
    part_of: str = ""
    good_left: int = 0
    newest_left: Backup | None = None
    all_left_expire_by: datetime | None = None
    way_back_of: str = ""
    being_restored_by: str = ""
    listed_again: Moment | None = None
    lapsed: bool = False
    budget: Budget | None = None


class StatusSeen(_Frozen):
    """A server's status, as VPS.org showed it from a time on."""

    status: str
    at: datetime


class RestoreDetails(_Frozen):
    """What is special about restoring a server.

    Attributes:
        way_back: The backup that takes it back: as the plan showed it and, once it is sent, as it was then; None where
            one is yet to be made, or none is.
        safety_operation: The operation that makes this restore's safety backup.
        undo_backup_id: The backup to restore to take it back, 0 if there is none.
        undo_lost: Whether that backup was gone, or of no use, when it was last looked for.
        takes_back: The restore that this one undoes, outside the budget; empty where it is an ordinary one.
        budget: Of restores of the server, when it was planned; None where it is outside of that.
        statuses: The server's status since the restore was sent, wherever it changed, oldest first.
    """

    kind: Literal["restore_server"] = "restore_server"
    way_back: Backup | None = None
    safety_operation: str = ""
    undo_backup_id: int = 0
    undo_lost: bool = False
    takes_back: str = ""
    budget: Budget | None = None
    statuses: tuple[StatusSeen, ...] = ()


Fate = Literal["delete", "keep", "later", "leave"]
"""What a prune plans for a backup: delete it now, keep it by a rule, delete it with another prune, or leave it alone,
since it is not known what it is worth, or it goes by itself."""


class PruneItem(_Frozen):
    """What a prune plans for one backup.

    Attributes:
        backup: As the plan showed it.
        reason: The rule that keeps it, or why it is left alone; empty where nothing keeps it.
        fate: What the plan says.
        operation_id: The operation that deletes it, once that is approved; what became of it stands there.
    """

    backup: Backup
    reason: str
    fate: Fate
    operation_id: str = ""


class PruneDetails(_Frozen):
    """What is special about a prune.

    Attributes:
        items: What is planned for each manual backup, newest first.
        budget: Of deletes, when it was planned.
        all_left_expire_by: When the last proven backup that would be left expires; None where one lasts.
    """

    kind: Literal["prune_backups"] = "prune_backups"
    items: tuple[PruneItem, ...] = ()
    budget: Budget | None = None
    all_left_expire_by: datetime | None = None

    def planned(self, fate: Fate) -> list[PruneItem]:
        """The items of one fate, newest first."""
        return [item for item in self.items if item.fate == fate]

    def covered(self, *, by_approver: bool) -> list[PruneItem]:
        """What consent covers, newest first: an approver's also what only a later budget allows."""
        return [item for item in self.items if item.fate == "delete" or (by_approver and item.fate == "later")]


AnyDetails = CreateDetails | DeleteDetails | RestoreDetails | PruneDetails
Details = TypeVar("Details", CreateDetails, DeleteDetails, RestoreDetails, PruneDetails)


class Operation(_Frozen):
    """One write, as the ledger keeps it.

    Attributes:
        id: `op_` and 16 random base32 characters.
        arguments: What the caller asked for; a confirmation must repeat it.
        server_id: The server concerned.
        backup_id: The backup concerned; for one being made 0 until VPS.org has named it.
        backup: The backup as it was last seen: as the plan showed it, or as it came to be.
        details: What is special about this action.
        leave: How long it may stay as it is, where that is not counted from its plan.
        decision: What an approver decided last.
        sent: When the intent to send was recorded.
        owner: The process that sends, see `Liveness`.
        address: Of the API that it was planned for, see `Identity`.
        credential: Which token at which address it was planned with.
        account: Which account it was planned for.
        principal: Who asked for it, over HTTP; empty for whoever started the process.
        policy: A digest of the operator's rules that it was planned under, see `policy_digest`.
        evidence: How the outcome is known.
        error: The error's sentence, when it failed or was refused.
        advice: What the error said to do next.
        said: VPS.org's own words for a refusal.
    """

    id: str
    action: ActionName
    status: Status
    arguments: Arguments
    server_id: int
    server_name: str = ""
    backup_id: int = 0
    backup: Backup | None = None
    details: Annotated[AnyDetails, Field(discriminator="kind")]
    approved_by: ApprovedBy = ""
    created: Moment
    leave: Leave | None = None
    decision: Decision | None = None
    sent: Moment | None = None
    owner: str = ""
    address: str = ""
    credential: str = ""
    account: str = ""
    principal: str = ""
    policy: str = ""
    evidence: str = ""
    error_code: str = ""
    error: str = ""
    advice: str = ""
    said: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read(cls, document: Any) -> Any:
        """Details that say nothing are left out of a document, and stood beside the rest in one of version 0.1.0."""
        if not isinstance(document, dict):
            return document
        details = document["details"] if "details" in document else _details_of_0_1_0(document)
        return document | {
            "details": {"kind": document.get("action")} | details if isinstance(details, dict) else details
        }

    def of(self, kind: type[Details]) -> Details:
        """What is special about it.

        Raises:
            TypeError: It is another action's: a fault of this program.
        """
        if not isinstance(self.details, kind):
            raise TypeError(f"{self.action} has no {kind.__name__}")
        return self.details

    @property
    def since(self) -> Moment:
        """When it was sent, or else planned."""
        return self.sent or self.created

    @property
    def identity(self) -> Identity:
        """On whose behalf it was planned."""
        return Identity(self.address, self.credential, self.account)

    @property
    def changed(self) -> Changed:
        """What is known of its effect, but of a prune, whose effect is that of its deletes."""
        if self.status is Status.FAILED and self.action == "create_backup" and self.backup_id:
            return "done"  # a backup was started, though it came to nothing
        return _CHANGED.get(self.status, "nothing")

    @property
    def is_for_approver(self) -> bool:
        """Whether an approver decides on it outside the chat, or did."""
        return self.status is Status.WAITING or self.approved_by == "approver"

    @property
    def as_planned(self) -> Self:
        """The same as when it was only planned."""
        return self.updated(status=Status.PLANNED)

    @property
    def call(self) -> str:
        """The tool call that asked for it, as a model writes it."""
        given = (
            f"{name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in self.arguments.items()
        )
        return f"{self.action}({', '.join(given)})"

    @property
    def confirming_call(self) -> str:
        """The tool call that confirms it, or goes on with it, as a model writes it."""
        return f"{self.call.removesuffix(')')}, confirm=true, operation_id={self.id!r})"

    def is_expired(self, now: Moment) -> bool:
        """Whether its plan no longer counts."""
        return self.status in OPEN and self.life.since.outlived(self.life.lasts, now)

    @property
    def life(self) -> Leave:
        """How long it may stay as it is, while it is open."""
        lasts = PREPARING_LIFE if self.status is Status.PREPARING else PLAN_LIFE  # as it was before 0.2.0
        return self.leave or Leave(since=self.created, lasts=lasts)

    def updated(self, **changes: object) -> Self:
        """A copy with some fields changed, its own or those of its details; checked as any other.

        Raises:
            TypeError: There is no such field.
        """
        own = {name: value for name, value in changes.items() if name in type(self).model_fields}
        special = {name: value for name, value in changes.items() if name not in own}
        if unknown := special.keys() - type(self.details).model_fields.keys():
            raise TypeError(f"{self.action} has no {', '.join(sorted(unknown))}")
        if special:
            own["details"] = type(self.details).model_validate(dict(self.details) | special)
        return self.model_validate(dict(self) | own)

    def entering(self, status: Status, now: Moment, lasts: timedelta, **changes: object) -> Self:
        """A copy in a state in which it may stay for so long from now on."""
        return self.updated(status=status, leave=Leave(since=now, lasts=lasts), **changes)

    def with_error(self, status: Status, error: BackupsError) -> Self:
        """A copy that ended so, with why."""
        advice = error.next_step.replace(error.fleeting, "")
        return self.updated(status=status, error_code=error.code, error=error.what, advice=advice, said=error.said)

    def revised(self) -> Self:
        """What is to be recorded now of what 0.1.0 recorded; itself where that holds.

        It took a delete for failed that it could not see to the end, and that may still take effect.
        """
        is_unsure = self.status is Status.FAILED and self.error_code == "upstream_unavailable"
        if self.action == "delete_backup" and self.sent and is_unsure:
            return self.without_error(status=Status.UNKNOWN, evidence="version 0.1.0 gave it up")
        return self

    def without_error(self, **changes: object) -> Self:
        """A copy of which something is known now, whatever error was told before."""
        return self.updated(error_code="", error="", advice="", said="", **changes)


def is_later(backup: Backup, delete: Operation) -> bool:
    """Whether a backup was made after the deletion of one of the same id was sent: VPS.org gave the id once more.

    One that is of before is the one that was deleted, however it is dated now.
    """
    is_newer = delete.backup is not None and backup.created_at > delete.backup.created_at
    return is_newer and backup.created_at > delete.since.at_upstream - CLOCK_SKEW


def new_id() -> str:
    """A fresh operation id; 80 random bits."""
    return f"op_{b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()}"


def combined(deletes: Iterable[Operation]) -> Changed:
    """What is known of the effect of several deletes together."""
    known = {delete.changed for delete in deletes}
    return next((each for each in _LEAST_KNOWN_FIRST if each in known), "nothing")


def _details_of_0_1_0(document: Mapping[str, Any]) -> dict[str, Any]:
    """The details of an operation as version 0.1.0 recorded it."""
    facts = document.get("facts", {})
    names = {"marked", "baseline", "baseline_complete", "safety_operation", "undo_backup_id", "items"}
    told = {"good_left": "good_backups_left"} | {n: n for n in ("way_back_of", "being_restored_by", "part_of")}
    old = {name: document[name] for name in names & document.keys()}
    old |= {name: facts[fact] for name, fact in told.items() if fact in facts}
    return {"kind": document.get("action")} | old
