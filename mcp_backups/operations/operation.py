"""An operation: one write, from its plan to its outcome."""

import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from mcp_backups.clock import Moment
from mcp_backups.errors import Changed
from mcp_backups.models import Backup

Action = Literal["create_backup", "delete_backup", "restore_server", "prune_backups"]
"""What an operation does; each is named after its tool."""

Status = Literal[
    "planned",
    "approved",
    "preparing",
    "sending",
    "accepted",
    "succeeded",
    "failed",
    "unknown",
    "declined",
    "expired",
    "refused",
]
"""How far it has come: planned, approved, perhaps preparing, sending, accepted, succeeded; or how else it ended.

Looking settles `unknown`, and `accepted` where VPS.org tells.
"""

ApprovedBy = Literal["", "not_required", "plan", "flag", "person"]
"""Who consented: nobody yet, nobody needed to, the caller who was shown the plan, the caller's flag, a person."""

Approver = Literal["caller", "person", "nobody"]
"""Who can approve a plan: the caller by confirming, the user when asked, or nobody through this client."""

Fact = str | int | float | bool
Arguments = dict[str, int | bool | str]

PLAN_LIFE = timedelta(minutes=10)
PREPARING_LIFE = timedelta(hours=2)
REPEAT_WINDOW = timedelta(minutes=10)
"""Within it, the same request again is the same operation."""

IN_FLIGHT: frozenset[Status] = frozenset({"sending"})
UNSETTLED: frozenset[Status] = frozenset({"sending", "unknown"})
"""The effect is not known."""
EFFECTIVE: frozenset[Status] = frozenset({"sending", "unknown", "accepted", "succeeded"})
"""The effect is there, or may be: what budgets count and what is not done again."""
OPEN: frozenset[Status] = frozenset({"planned", "approved", "preparing"})
"""Nothing has been sent for it yet, and something may be."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 16
OPERATION_ID = re.compile(r"op_[a-z2-7]{16}")

CHANGED: dict[Status, Changed] = {
    "sending": "unknown",
    "unknown": "unknown",
    "accepted": "done",
    "succeeded": "done",
}
"""What is known of the effect; every other status changed nothing."""


Outcome = Literal["", "deleted", "not deleted", "unknown"]

_OUTCOMES: dict[Changed, Outcome] = {"done": "deleted", "nothing": "not deleted", "unknown": "unknown"}


class PruneItem(BaseModel):
    """What a prune makes of one backup.

    Attributes:
        backup: As the plan showed it.
        reason: The rule that keeps it, or why it is not kept, or not now.
        fate: What the plan says.
        operation_id: The operation that deletes it, once that is approved.
        outcome: What became of that.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    backup: Backup
    reason: str
    fate: Literal["keep", "delete", "later"]
    operation_id: str = ""
    outcome: Outcome = ""


class Identity(NamedTuple):
    """On whose behalf something is done, each by a fingerprint; empty where it is not known.

    Attributes:
        address: Of VPS.org's API.
        credential: Which token at which address.
        account: Which account at which address, as far as VPS.org names it; else as credential.
    """

    address: str = ""
    credential: str = ""
    account: str = ""

    def owns(self, other: "Identity") -> bool:
        """Whether that is the same account. Version 0.1.0 recorded no more than the credential."""
        return other.credential in {"", self.credential} or (bool(self.account) and other.account == self.account)

    def shares_servers(self, other: "Identity") -> bool:
        """Whether both may be about the same servers: whatever the token, and of version 0.1.0 whatever the address."""
        return other.address in {"", self.address}


class Operation(BaseModel):
    """One write, as the ledger keeps it.

    Attributes:
        id: `op_` and 16 random base32 characters.
        arguments: What the caller asked for; a confirmation must repeat it.
        server_id: The server concerned.
        backup_id: The backup concerned; for one being made 0 until VPS.org has named it.
        backup: The backup as it was last seen: as the plan showed it, or as it came to be.
        facts: What the plan told, for the answer that repeats it.
        sent: When the intent to send was recorded.
        owner: The process that sends, see `Presence`.
        address: Of the API that it was planned for, see `Identity`.
        credential: Which token at which address it was planned with.
        account: Which account it was planned for.
        safety_operation: The operation that makes this restore's safety backup.
        undo_backup_id: The backup to restore to take a restore back, 0 if there is none.
        undo_from: When the budget of restores allows that; None if it does at once.
        marked: Whether its id stands in the description of the backup that it makes.
        baseline: Ids of the server's backups before a new one was asked for.
        baseline_complete: Whether those are all there were.
        items: What a prune makes of each backup, newest first.
        evidence: How the outcome is known.
        error: The error's sentence, when it failed or was refused.
        advice: What the error said to do next.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    id: str
    action: Action
    status: Status
    arguments: Arguments
    server_id: int
    server_name: str = ""
    backup_id: int = 0
    backup: Backup | None = None
    facts: dict[str, Fact] = {}
    approved_by: ApprovedBy = ""
    created: Moment
    sent: Moment | None = None
    owner: str = ""
    address: str = ""
    credential: str = ""
    account: str = ""
    safety_operation: str = ""
    undo_backup_id: int = 0
    undo_from: datetime | None = None
    marked: bool = True
    baseline: tuple[int, ...] = ()
    baseline_complete: bool = True
    items: tuple[PruneItem, ...] = ()
    evidence: str = ""
    error_code: str = ""
    error: str = ""
    advice: str = ""

    @property
    def identity(self) -> Identity:
        """On whose behalf it was planned."""
        return Identity(self.address, self.credential, self.account)

    @property
    def changed(self) -> Changed:
        """What is known of its effect; of a prune, of all its deletes so far."""
        if self.action == "prune_backups":
            outcomes = {item.outcome for item in self.items}
            return "unknown" if "unknown" in outcomes else "done" if "deleted" in outcomes else "nothing"
        if self.status == "failed" and self.action == "create_backup" and self.backup_id:
            return "done"  # a backup was started, though it came to nothing
        return CHANGED.get(self.status, "nothing")

    def is_expired(self, now: Moment) -> bool:
        """Whether its plan no longer counts."""
        life = PREPARING_LIFE if self.status == "preparing" else PLAN_LIFE
        return self.status in OPEN and self.created.outlived(life, now)

    def with_outcomes(self, deletes: Iterable["Operation"]) -> "Operation":
        """A prune with what became of some of its deletes."""
        outcomes = {delete.id: _OUTCOMES[delete.changed] for delete in deletes}
        items = (
            item.model_copy(update={"outcome": outcomes.get(item.operation_id, item.outcome)}) for item in self.items
        )
        return self.but(items=tuple(items))

    def but(self, **changes: object) -> "Operation":
        """A copy with some fields changed."""
        return self.model_copy(update=changes)


def new_id() -> str:
    """A fresh operation id; 80 random bits."""
    return "op_" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
