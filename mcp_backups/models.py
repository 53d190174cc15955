"""The nouns: what VPS.org holds, and what was read of it."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from mcp_backups.errors import Changed

MAX_ID = 2**53 - 1
"""The largest id: the largest integer that every JSON reader keeps exact."""

Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
"""An id of a server or a backup, as VPS.org documents it."""

OPERATION_ID = re.compile(r"op_[a-z2-7]{16}")

COMPLETED = "completed"
IN_PROGRESS = "in_progress"
FAILED = "failed"
"""What VPS.org is believed to call a backup that came to nothing; it is not documented."""
MANUAL = "manual"
ACTIVE = "active"
"""What a server is that runs."""
UNREADABLE = "unreadable"
"""Stands for a status or type that VPS.org told in a form of no use."""

NO_SERVER = -1
"""The server of what is known to belong to none: a gap of that "server" is in no server's way."""

_TEXTS = 10
"""Gaps that are told one by one."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup, as VPS.org last told it; texts are already safe to show.

    Attributes:
        type: `manual` or `automatic`, or a word that VPS.org has not documented.
        status: `completed`, `in_progress`, or a word that VPS.org has not documented.
        size_mb: MB, None while it is not known.
        created_at: UTC.
        expires_at: UTC, None for a backup that does not expire by itself.
        server_id: 0, with an empty name, for a backup that VPS.org says belongs to no server.
        keep: Its description contains `[keep]`, or may contain it.
        mark: The id of the operation that made it, found in its description; else empty.
        unreadable: The fields that held a value of no use, in the order above; then a type or status is the word
            `unreadable`, and any other field is as if it had not been told.
    """

    id: Id
    server_id: int
    server_name: str
    type: str
    status: str
    size_mb: float | None
    created_at: datetime
    expires_at: datetime | None
    description: str
    keep: bool = False
    mark: str = ""
    unreadable: tuple[str, ...] = ()


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


class Identity(NamedTuple):
    """On whose behalf something is done, each by a fingerprint; empty where it is not known.

    Attributes:
        address: Of VPS.org's API.
        credential: Which token at which address.
        account: Its name in the settings, where there are several; else which account at which address, as far as
            VPS.org names it; else as credential.
    """

    address: str = ""
    credential: str = ""
    account: str = ""

    def owns(self, other: "Identity") -> bool:
        """Whether that is the same account. Version 0.1.0 recorded no more than the credential."""
        is_same = bool(self.account) and (other.account, other.address) == (self.account, self.address)
        return is_same or other.credential in {"", self.credential}

    def shares_servers(self, other: "Identity") -> bool:
        """Whether both may be about the same servers: whatever the token, and of version 0.1.0 whatever the address."""
        return other.address in {"", self.address}


Row = TypeVar("Row", Backup, Server)


class Gap(NamedTuple):
    """Something of a list that could not be read.

    Attributes:
        what: What it is, as a clause; safe to show.
        server_id: The only server that it can concern; 0 for any, `NO_SERVER` for none.
    """

    what: str
    server_id: int = 0


class Listing(NamedTuple, Generic[Row]):
    """What could be read of a list.

    Attributes:
        rows: Every row that was understood, once each, in the order of the answer.
        gaps: What could not be read; empty when the list is complete.
        to_its_end: Whether it was read to its end; not, where it is longer than is read.
    """

    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...] = ()
    to_its_end: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """What could not be read, one clause each; of many gaps the first ten."""
        return self.missing_for(0)

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(row.id for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether every row that VPS.org holds is here: only then absence means anything."""
        return not self.gaps

    def missing_for(self, server_id: int) -> tuple[str, ...]:
        """What could not be read and may concern this server, as `missing`; of every server for 0."""
        gaps = (gap for gap in self.gaps if not server_id or gap.server_id in (0, server_id))
        texts: tuple[str, ...] = tuple(dict.fromkeys(gap.what for gap in gaps))
        more = len(texts) - _TEXTS
        return texts if more <= 0 else (*texts[:_TEXTS], f"{more} more like these")

    def complete_for(self, server_id: int) -> bool:
        """Whether everything that VPS.org holds of this server is here; of every server for 0."""
        return not self.missing_for(server_id)


_T = TypeVar("_T")

Maybe = Annotated[_T | SkipJsonSchema[None], Field(exclude_if=lambda value: value is None)]
"""A field that is left out when it holds nothing, never null."""


Told = Annotated[_T, Field(exclude_if=lambda value: not value)]
"""A field that is left out when it has nothing to tell: 0, or empty."""


class Answer(BaseModel):
    """What a tool answers, or a part of it; built when it is first used, so that a server starts sooner."""

    model_config = ConfigDict(defer_build=True)


class BackupRow(Answer):
    """One backup as a model sees it: flat, and without the fields that hold nothing.

    Attributes:
        size_mb: MB; absent while it is not known.
        created_at: UTC, to the minute.
        age: Since it was created, in words.
        expires_at: UTC, to the minute; `unreadable` where VPS.org tells it in a form of no use; absent when it does not
            expire by itself.
        flags: `being_deleted` (VPS.org accepted its deletion), `doubtful` (its deletion was sent, and may take effect),
            `stuck` (unfinished for over 6 h), `orphaned` (VPS.org lists no server for it), `protected` (a rule of the
            operator's), `keep` (marked with [keep]): the last two are not deleted.
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
    flags: Maybe[list[str]] = None


class ServerName(Answer):
    """A server: its id, and its name as VPS.org has it (empty when it was not told)."""

    id: int
    name: str


class BackupPage(Answer):
    """One page of `list_backups`.

    Attributes:
        total: Backups that fit the filters.
        returned: Those on this page.
        complete: Whether every backup that VPS.org holds was read.
        missing: What was not; absent when it is complete.
        as_of: When it was read; UTC, to the minute.
        server: The server that was asked for; absent for every server.
        only: What the filters by type, status and time let through; absent for everything.
        order: `oldest` where those come first; absent where the newest do.
        next_cursor: What to call again with for the next page; absent on the last.
        defaults: What the rows on this page hold in the fields that they leave out.
    """

    total: int
    returned: int
    complete: bool
    missing: Told[list[str]] = Field(default_factory=list)
    as_of: str
    server: Maybe[ServerName] = None
    only: Told[str] = ""
    order: Maybe[str] = None
    next_cursor: Told[str] = ""
    defaults: Told[dict[str, str]] = Field(default_factory=dict)
    backups: list[BackupRow]


class PruneRow(Answer):
    """What a prune makes of one backup.

    Attributes:
        created_at: UTC, to the minute.
        reason: The rule that keeps it, or why it is left alone, or why it was not deleted; absent where there is none.
        outcome: `deleted`, `being deleted` (VPS.org accepted it), `gone` (already, not by this), `not deleted` or
            `unknown`; absent before it was tried.
    """

    id: int
    created_at: str
    age: str
    size_mb: Annotated[Maybe[int | float], WithJsonSchema({"type": "number"})] = None
    status: str
    description: Maybe[str] = None
    reason: Maybe[str] = None
    outcome: Maybe[str] = None


class OperationAnswer(Answer):
    """What every write, and `get_operation`, answers.

    Attributes:
        status: How far it has come; `accepted` is not yet `succeeded`.
        changed: What is known of its effect on the account.
        made: What was made beside that; absent where nothing was.
        backup: The backup that it is about, where there is one.
        facts: What bears on the decision, or is known of the outcome.
        to_delete: Of a prune, the backups that it deletes, newest first after those that were tried; absent of
            anything else.
        kept: Those that stay by a rule, each with it.
        later: Those that it leaves to another prune; `later_from` says when.
        left_alone: Those that it does not touch, each with why.
        undo: The call that would take it back, where there is one.
        approved_by: Who consented, once somebody has.
        replayed: It was done by an earlier call, and this one sent nothing; absent where that is not so.
    """

    operation_id: str
    action: str
    status: str
    changed: Changed
    made: Maybe[str] = None
    server: ServerName
    backup: Maybe[BackupRow] = None
    summary: str
    facts: dict[str, str | int | float | bool]
    to_delete: Maybe[list[PruneRow]] = None
    kept: Maybe[list[PruneRow]] = None
    later: Maybe[list[PruneRow]] = None
    left_alone: Maybe[list[PruneRow]] = None
    undo: Maybe[str] = None
    approved_by: Maybe[str] = None
    replayed: Maybe[bool] = None
    next_step: str
