"""What `check_backups` answers: a fleet, its servers in full, and its servers in short; and a server as a resource."""

from pydantic import Field

from mcp_backups.models import Answer, BackupRow, Maybe, Told


class ServerRow(Answer):
    """What the backups of one server are worth, as `check_backups` tells it in full.

    Attributes:
        verdict: `ok`, `at_risk` (fresh, but something is wrong), `stale`, `no_good_backup`, `cannot_tell` (what could
            be read does not tell) or `orphaned` (VPS.org does not list the server).
        restore_to: Id of the newest good backup; absent when there is none, or no server to restore.
        created_at: When that one was made; UTC, to the minute.
        expires_at: When that one expires; absent where it does not by itself.
        reason: Why that one and none that is newer, and what else is wrong.
        backups: All of the server's; good, in progress, stuck (over 6 h), failed and doubtful ones (a deletion was sent
            for them), where there are any.
        size_mb: MB in total, as far as sizes are known.
        flags: `protected`: a rule of the operator's forbids to delete or restore anything of it.
    """

    server_id: int
    server: str
    verdict: str
    restore_to: Maybe[int] = None
    created_at: Maybe[str] = None
    age: Maybe[str] = None
    expires_at: Maybe[str] = None
    reason: str
    backups: int
    good: Maybe[int] = None
    in_progress: Maybe[int] = None
    stuck: Maybe[int] = None
    failed: Maybe[int] = None
    doubtful: Maybe[int] = None
    size_mb: int
    flags: Maybe[list[str]] = None


class LeanServerRow(Answer):
    """The same in short.

    Attributes:
        verdict: Absent where it is that of most such rows.
        expires_at: Where there are few rows.
    """

    server_id: int
    server: str
    verdict: Maybe[str] = None
    restore_to: Maybe[int] = None
    age: Maybe[str] = None
    expires_at: Maybe[str] = None
    backups: int
    size_mb: int
    flags: Maybe[list[str]] = None


class FleetReport(Answer):
    """What `check_backups` answers.

    Attributes:
        summary: One sentence.
        verdict: `ok`: every server has a good backup younger than max_age_hours; `not_ok`; or `cannot_tell`. Orphaned
            servers, and those that the operator wants ignored, do not count.
        as_of: When it was read; UTC, to the minute.
        good_means: What makes a backup good.
        complete: Whether every backup and every server was read.
        missing: What was not, when it is not complete.
        totals: Servers in all and by verdict; backups in all, good, and by status; MB in all.
        orphaned_backups: Ids of backups that belong to no server; the first where there are many.
        servers: The worst first, in full.
        others: The next, in short, the largest first of those in order; `others_verdict` is that of the rows that
            name none.
        not_shown: How many more servers there are.
    """

    summary: str
    verdict: str
    as_of: str
    max_age_hours: int
    good_means: str
    complete: bool
    missing: Told[list[str]] = Field(default_factory=list)
    totals: dict[str, int]
    orphaned_backups: Maybe[list[int]] = None
    servers: list[ServerRow]
    others: Told[list[LeanServerRow]] = Field(default_factory=list)
    others_verdict: Told[str] = ""
    not_shown: Told[int] = 0
    next_step: str


class ServerBackups(Answer):
    """The backups of one server, newest first: those that fit, and how many more there are."""

    as_of: str
    server_id: int
    server: str
    total: int
    not_shown: Told[int] = 0
    complete: bool
    missing: Told[list[str]] = Field(default_factory=list)
    backups: list[BackupRow]
