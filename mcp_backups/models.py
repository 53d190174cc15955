"""The nouns: what VPS.org holds, and what was read of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from mcp_backups.errors import Changed

MAX_ID = 2**53 - 1
"""The largest id: the largest integer that every JSON reader keeps exact."""

Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
"""An id of a server or a backup, as VPS.org documents it."""

COMPLETED = "completed"
IN_PROGRESS = "in_progress"
MANUAL = "manual"

BackupType = Literal["manual", "automatic"]


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup, as VPS.org last told it; texts are already safe to show.

    Attributes:
        type: `manual` or `automatic`, or a word that VPS.org has not documented.
        status: `completed`, `in_progress`, or a word that VPS.org has not documented.
        size_mb: MB, None while it is not known.
        created_at: UTC.
        expires_at: UTC, None for a backup that does not expire by itself.
        keep: Its description contains `[keep]`.
        mark: The id of the operation that made it, found in its description; else empty.
    """

    id: Id
    server_id: Id
    server_name: str
    type: str
    status: str
    size_mb: float | None
    created_at: datetime
    expires_at: datetime | None
    description: str
    keep: bool = False
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """One server; of all that VPS.org tells of it only what backups need."""

    id: Id
    name: str
    status: str


class Account(BaseModel):
    """Who the token belongs to, and what it may do."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    token_name: str
    permissions: tuple[str, ...]
    email: str = ""


Row = TypeVar("Row")


class Listing(NamedTuple, Generic[Row]):
    """What could be read of a list.

    Attributes:
        rows: Every row that was understood, once each, in the order of the answer.
        missing: What could not be read, one clause each; empty when the list is complete.
    """

    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every row that VPS.org holds is here: only then absence means anything."""
        return not self.missing


Value = TypeVar("Value")

Maybe = Annotated[Value | SkipJsonSchema[None], Field(exclude_if=lambda value: value is None)]
"""A field that is left out when it holds nothing, never null."""


class Answer(BaseModel):
    """What a tool answers, or a part of it; built when it is first used, so that a server starts sooner."""

    model_config = ConfigDict(defer_build=True)


class BackupRow(Answer):
    """One backup as a model sees it: flat, and without the fields that hold nothing.

    Attributes:
        size_mb: MB; absent while it is not known.
        created_at: UTC, to the minute.
        age: Since it was created, in words.
        expires_at: UTC, to the minute; absent when it does not expire by itself.
    """

    id: int
    server_id: int
    server: str
    type: Maybe[str] = None
    status: Maybe[str] = None
    size_mb: Annotated[Maybe[int | float], WithJsonSchema({"type": "number"})] = None
    created_at: str
    age: str
    expires_at: Maybe[str] = None
    description: Maybe[str] = None


class BackupPage(Answer):
    """One page of `list_backups`.

    Attributes:
        total: Backups that fit the filters.
        returned: Those on this page.
        complete: Whether every backup that VPS.org holds was read.
        missing: What was not, when it is not complete.
        as_of: When it was read; UTC, to the minute.
        next_cursor: What to call again with for the next page; empty on the last.
        defaults: What the rows on this page hold in the fields that they leave out.
        backups: Newest first.
    """

    total: int
    returned: int
    complete: bool
    missing: list[str]
    as_of: str
    next_cursor: str
    defaults: dict[str, str]
    backups: list[BackupRow]


class ServerName(Answer):
    """A server: its id, and its name as VPS.org has it (empty when it was not told)."""

    id: int
    name: str


class PruneRow(Answer):
    """What a prune makes of one backup.

    Attributes:
        created_at: UTC, to the minute.
        reason: The rule that keeps it, or `later` for what the budget leaves to another prune; absent for what no rule
            keeps.
        outcome: `deleted`, `not deleted` or `unknown`; absent before it was tried.
    """

    id: int
    created_at: str
    reason: Maybe[str] = None
    outcome: Maybe[str] = None


class OperationAnswer(Answer):
    """What every write, and `get_operation`, answers.

    Attributes:
        status: How far it has come; `accepted` is not yet `succeeded`.
        changed: What is known of its effect on the account.
        facts: What bears on the decision, or is known of the outcome.
        kept: The backups that a prune keeps, newest first, each with the rule; absent of anything else.
        no_rule: The backups that no rule keeps, which a prune deletes.
        undo: The call that would take it back, null when there is none.
        approved_by: Who consented; empty while nobody has.
        replayed: It was done by an earlier call, and this one sent nothing.
    """

    operation_id: str
    action: str
    status: str
    changed: Changed
    server: ServerName
    backup: BackupRow | None
    summary: str
    facts: dict[str, str | int | float | bool]
    kept: Maybe[list[PruneRow]] = None
    no_rule: Maybe[list[PruneRow]] = None
    undo: str | None
    approved_by: str
    replayed: bool
    next_step: str
