"""An operation: one write, from its plan to its outcome."""

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mcp_backups.clock import Moment
from mcp_backups.errors import BackupsError, Changed
from mcp_backups.models import Backup, Identity

ActionName = Literal["create_backup", "delete_backup", "restore_server", "prune_backups"]
"""What an operation does; each is named after its tool."""


class Status(StrEnum):
    """How far an operation has come. docs/architecture.md draws every arrow between these."""

    PLANNED = "planned"
    """Somebody was shown what it would do. It is sent only once somebody consents."""
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
    """A person said no, or could not be asked."""
    EXPIRED = "expired"
    """The plan was not confirmed, or not finished, in its time."""
    REFUSED = "refused"
    """A rule stood against it, or what the plan showed was no longer so. Nothing was sent."""


OPEN = frozenset({Status.PLANNED, Status.APPROVED, Status.PREPARING})
"""Nothing has been sent for it yet, and something may be."""
UNSETTLED = frozenset({Status.SENDING, Status.UNKNOWN})
"""The effect is not known."""
EFFECTIVE = UNSETTLED | {Status.ACCEPTED, Status.SUCCEEDED}
"""The effect is there, or may be: what budgets count and what is not done again."""

ApprovedBy = Literal["", "not_required", "plan", "flag", "person"]
"""Who consented: nobody yet, nobody needed to, the caller who was shown the plan, the caller's flag, a person."""

Approver = Literal["caller", "person", "nobody"]
"""Who can approve a plan: the caller by confirming, the user when asked, or nobody through this client."""

Arguments = dict[str, int | bool | str]

PLAN_LIFE = timedelta(minutes=10)
PREPARING_LIFE = timedelta(hours=2)
REPEAT_WINDOW = timedelta(minutes=10)
"""Within it, the same request again is the same operation."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 16

_CHANGED: dict[Status, Changed] = {
    Status.SENDING: "unknown",
    Status.UNKNOWN: "unknown",
    Status.ACCEPTED: "done",
    Status.SUCCEEDED: "done",
}
"""What is known of the effect; every other status changed nothing."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class CreateDetails(_Frozen):
    """What is special about making a backup.

    Attributes:
        marked: Whether the operation's id stands in the description of the backup that it makes.
        baseline: Ids of the server's backups before the new one was asked for.
        baseline_complete: Whether those are all there were.
        is_safety: Whether it is a restore's safety backup, for which there is no budget.
    """

    kind: Literal["create_backup"] = "create_backup"
    marked: bool = True
    baseline: tuple[int, ...] = ()
    baseline_complete: bool = True
    is_safety: bool = False


class DeleteDetails(_Frozen):
    """What is special about deleting a backup.

    Attributes:
        part_of: The prune that it belongs to, which is the plan that somebody was shown; else empty.
        good_left: How many proven backups the server keeps.
        newest_left: The newest of them.
        all_left_expire_by: When the last of them expires; None where one does not expire by itself.
        way_back_of: The last restore of the server, which then could not be undone.
        being_restored_by: The restore that puts the backup back, and may not be done with it.
        listed_again: When the backup was seen listed after it had been seen to be gone.
        lapsed: Whether the deletion was given up without a refusal: its backup was still listed 24 h later, or the
            operator said so.
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


class RestoreDetails(_Frozen):
    """What is special about restoring a server.

    Attributes:
        way_back: The recent backup that the plan showed as the way back; None where one is made first, or none is.
        safety_operation: The operation that makes this restore's safety backup.
        undo_backup_id: The backup to restore to take it back, 0 if there is none.
        undo_from: When the budget of restores allows that; None if it does at once.
    """

    kind: Literal["restore_server"] = "restore_server"
    way_back: Backup | None = None
    safety_operation: str = ""
    undo_backup_id: int = 0
    undo_from: datetime | None = None


class PruneItem(_Frozen):
    """What a prune plans for one backup.

    Attributes:
        backup: As the plan showed it.
        reason: The rule that keeps it, or why it is not kept, or not now.
        fate: What the plan says.
        operation_id: The operation that deletes it, once that is approved; what became of it stands there.
    """

    backup: Backup
    reason: str
    fate: Literal["keep", "delete", "later"]
    operation_id: str = ""


class PruneDetails(_Frozen):
    """What is special about a prune.

    Attributes:
        items: What is planned for each manual backup, newest first.
        room: How many deletes the budgets allowed when it was planned.
        all_left_expire_by: When the last proven backup that would be left expires; None where one lasts.
    """

    kind: Literal["prune_backups"] = "prune_backups"
    items: tuple[PruneItem, ...] = ()
    room: int = 0
    all_left_expire_by: datetime | None = None

    def planned(self, fate: Literal["keep", "delete", "later"]) -> list[PruneItem]:
        """The items of one fate, newest first."""
        return [item for item in self.items if item.fate == fate]


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
        sent: When the intent to send was recorded.
        owner: The process that sends, see `Liveness`.
        address: Of the API that it was planned for, see `Identity`.
        credential: Which token at which address it was planned with.
        account: Which account it was planned for.
        principal: Who asked for it, over HTTP; empty for whoever started the process.
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
    sent: Moment | None = None
    owner: str = ""
    address: str = ""
    credential: str = ""
    account: str = ""
    principal: str = ""
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
    def confirming_call(self) -> str:
        """The tool call that confirms it, or goes on with it, as a model writes it."""
        given = (
            f"{name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in self.arguments.items()
        )
        return f"{self.action}({', '.join(given)}, confirm=true, operation_id={self.id!r})"

    def is_expired(self, now: Moment) -> bool:
        """Whether its plan no longer counts."""
        life = PREPARING_LIFE if self.status is Status.PREPARING else PLAN_LIFE
        return self.status in OPEN and self.created.outlived(life, now)

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

    def with_error(self, status: Status, error: BackupsError) -> Self:
        """A copy that ended so, with why."""
        return self.updated(
            status=status, error_code=error.code, error=error.what, advice=error.next_step, said=error.said
        )

    def without_error(self, **changes: object) -> Self:
        """A copy of which something is known now, whatever error was told before."""
        return self.updated(error_code="", error="", advice="", said="", **changes)


def new_id() -> str:
    """A fresh operation id; 80 random bits."""
    return "op_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def combined(deletes: Iterable[Operation]) -> Changed:
    """What is known of the effect of several deletes together."""
    known = {delete.changed for delete in deletes}
    return "unknown" if "unknown" in known else "done" if "done" in known else "nothing"


def _details_of_0_1_0(document: Mapping[str, Any]) -> dict[str, Any]:
    """The details of an operation as version 0.1.0 recorded it."""
    facts = document.get("facts", {})
    names = {"marked", "baseline", "baseline_complete", "safety_operation", "undo_backup_id", "undo_from", "items"}
    told = {"good_left": "good_backups_left"} | {n: n for n in ("way_back_of", "being_restored_by", "part_of")}
    old = {name: document[name] for name in names & document.keys()}
    old |= {name: facts[fact] for name, fact in told.items() if fact in facts}
    return {"kind": document.get("action")} | old
