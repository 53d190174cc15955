"""Which backups can be relied on. Pure: facts in, judgement out."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, Backup, Listing, Server
from mcp_backups.text import age, listed, stamp

EXPIRES_SOON = timedelta(hours=24)
"""A backup that expires within this time is not counted on any more."""

FRESH = timedelta(hours=24)
"""A backup made here within this time is not counted on yet: nobody has had time to find it bad."""

STUCK = timedelta(hours=6)
"""A backup in progress for longer than this is not expected to finish any more."""

EXPIRY_WARNING = timedelta(days=7)
"""How long before it a server is in trouble because its last restore point expires."""

_NEVER = datetime.max.replace(tzinfo=UTC)

_CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a backup may seem to have been made."""

_UNDER_WAY = "still in progress"
_STUCK = "stuck in progress for over 6 h"

Verdict = Literal["ok", "at_risk", "stale", "no_good_backup"]
"""Whether a server's newest good backup is young enough (`at_risk`: but something is wrong), too old, or absent."""

FleetVerdict = Literal["ok", "not_ok", "cannot_tell"]
"""Whether every server has a good backup young enough, one certainly has not, or what could be read does not tell."""

_WORST_FIRST: tuple[Verdict, ...] = ("no_good_backup", "stale", "at_risk", "ok")


class ServerHealth(NamedTuple):
    """What the backups of one server are worth now.

    Attributes:
        restore_to: The newest good backup, which is the one to restore; None if there is none.
        reasons: Why that one and none that is newer, and what else needs attention; our words, ids and times only.
        total: All its backups; each is completed, in progress, stuck or failed.
        good: Of the completed, those that count.
        size_mb: MB in total, as far as sizes are known.
    """

    server_id: int
    name: str
    verdict: Verdict
    restore_to: Backup | None
    reasons: tuple[str, ...]
    total: int
    good: int
    completed: int
    in_progress: int
    stuck: int
    failed: int
    size_mb: float

    @property
    def fresh(self) -> bool:
        """It has a good backup that is young enough, whatever else."""
        return self.verdict in {"ok", "at_risk"}


class FleetHealth(NamedTuple):
    """What the backups of an account, or of one server, are worth now.

    Attributes:
        servers: The worst first, by verdict and the age of the newest good backup.
        now: UTC, when it was read.
        missing: What could not be read, one clause each.
        verdict: `cannot_tell` also when there is no server at all.
    """

    servers: tuple[ServerHealth, ...]
    max_age: timedelta
    now: datetime
    missing: tuple[str, ...]
    verdict: FleetVerdict


def is_restorable(backup: Backup) -> bool:
    """Whether the backup is finished and holds something: completed, with a known size above 0."""
    return backup.status == COMPLETED and bool(backup.size_mb)


def is_usable(backup: Backup, now: datetime) -> bool:
    """Whether the backup can be restored as far as is known: finished, holding something, and not expired."""
    return is_restorable(backup) and not expires_within(backup, timedelta(0), now)


def is_in_future(backup: Backup, now: datetime) -> bool:
    """Whether the backup is dated further in the future than clocks differ: nobody knows how old it is."""
    return now - backup.created_at < -_CLOCK_SKEW


def is_stuck(backup: Backup, now: datetime) -> bool:
    """Whether the backup is under way, by whatever word, for longer than one that will still finish."""
    return backup.status not in {COMPLETED, FAILED} and now - backup.created_at > STUCK


def expires_within(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether the backup has expired, or will within `span`."""
    return backup.expires_at is not None and backup.expires_at <= now + span


def is_good(backup: Backup, now: datetime, doubtful: Container[int] = ()) -> bool:
    """Whether the backup is a restore point to rely on.

    Args:
        backup: The backup.
        now: UTC.
        doubtful: Ids of the backups whose deletion was sent and may still take effect.
    """
    return (
        is_restorable(backup)
        and not expires_within(backup, EXPIRES_SOON, now)
        and not is_in_future(backup, now)
        and backup.id not in doubtful
    )


def is_proven(backup: Backup, now: datetime, doubtful: Container[int], made_here: Container[int]) -> bool:
    """Whether the backup may be left as the last one: good, and not made here within the last 24 h."""
    return is_good(backup, now, doubtful) and backup.id not in made_here


def is_younger(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether the backup was made within `span`; false for one from further in the future than clocks differ."""
    return now - backup.created_at < span and not is_in_future(backup, now)


def newest(backups: Iterable[Backup]) -> Backup | None:
    """The latest by creation time, among equals the one that lasts; it need not be the highest id nor the first row."""
    return max(backups, key=by_age, default=None)


def by_age(backup: Backup) -> tuple[datetime, datetime, int]:
    """What backups are sorted by: when they were made, then how long they last."""
    return backup.created_at, backup.expires_at or _NEVER, backup.id


def fleet_health(
    backups: Listing[Backup], servers: Listing[Server] | None, max_age: timedelta, now: datetime
) -> FleetHealth:
    """The health of every server that either list names.

    Args:
        backups: What was read of the backups.
        servers: What was read of the servers; None when only those with a backup are asked for.
        max_age: What a server's newest good backup must be younger than.
        now: UTC.
    """
    of_server: defaultdict[int, list[Backup]] = defaultdict(list)
    for backup in backups.rows:
        of_server[backup.server_id].append(backup)
    named = {server.id: server.name for server in servers.rows} if servers else {}
    health = []
    for server_id in of_server.keys() | named:
        strange = servers is not None and servers.complete and server_id not in named
        health.append(server_health(server_id, of_server[server_id], max_age, now, named.get(server_id, ""), strange))
    missing = backups.missing + (servers.missing if servers else ())
    known_bad = backups.complete and not all(server.fresh for server in health)
    verdict: FleetVerdict = "not_ok" if known_bad else "cannot_tell" if missing or not health else "ok"
    return FleetHealth(tuple(sorted(health, key=_worst_first)), max_age, now, missing, verdict)


def server_health(
    server_id: int,
    backups: Sequence[Backup],
    max_age: timedelta,
    now: datetime,
    name: str = "",
    strange: bool = False,
) -> ServerHealth:
    """The health of one server, by all its backups, in any order.

    `name` is what the list of servers calls it; without one its newest backup tells. It is `strange` when a complete
    list of servers does not have it.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.created_at, backup.id), reverse=True)
    faults = [(backup, _fault(backup, now)) for backup in newest_first]
    good = [backup for backup, fault in faults if not fault]
    restore_to = good[0] if good else None
    passed_over = faults[: newest_first.index(restore_to)] if restore_to else faults
    warnings = list(_warnings(newest_first, faults[len(passed_over) :], strange, now))
    trouble = bool(warnings) or any(fault != _UNDER_WAY for _, fault in passed_over)
    counts = Counter(_state(backup, now) for backup in backups)
    return ServerHealth(
        server_id=server_id,
        name=name or (newest_first[0].server_name if newest_first else ""),
        verdict=_verdict(restore_to, max_age, now, trouble),
        restore_to=restore_to,
        reasons=(_choice(restore_to, passed_over), *warnings),
        total=len(backups),
        good=len(good),
        completed=counts["completed"],
        in_progress=counts["in_progress"],
        stuck=counts["stuck"],
        failed=counts["failed"],
        size_mb=sum(backup.size_mb or 0 for backup in backups),
    )


def _verdict(restore_to: Backup | None, max_age: timedelta, now: datetime, trouble: bool) -> Verdict:
    if restore_to is None:
        return "no_good_backup"
    if not is_younger(restore_to, max_age, now):
        return "stale"
    return "at_risk" if trouble else "ok"


def _worst_first(server: ServerHealth) -> tuple[int, datetime, int]:
    made = server.restore_to.created_at if server.restore_to else datetime.min.replace(tzinfo=UTC)
    return (_WORST_FIRST.index(server.verdict), made, server.server_id)


def _state(backup: Backup, now: datetime) -> str:
    """One of four, whatever word VPS.org has for it: only `completed` is good, and `in_progress` for a while."""
    if backup.status == COMPLETED:
        return "completed"
    if backup.status != IN_PROGRESS:
        return "failed"
    return "stuck" if now - backup.created_at > STUCK else "in_progress"


def _fault(backup: Backup, now: datetime) -> str:
    """Why a backup is no restore point to rely on; empty if it is one."""
    if backup.status == IN_PROGRESS:
        return _UNDER_WAY if _state(backup, now) == "in_progress" else _STUCK
    if backup.status != COMPLETED:
        # Other words are VPS.org's own, and not known: they have no place in a sentence of ours.
        return "failed" if backup.status == "failed" else "not completed"
    if not backup.size_mb:
        return "of unknown size" if backup.size_mb is None else "empty"
    if expires_within(backup, EXPIRES_SOON, now):
        return "expired" if expires_within(backup, timedelta(0), now) else "expiring within 24 h"
    return "dated in the future" if is_in_future(backup, now) else ""


def _choice(restore_to: Backup | None, passed_over: Sequence[tuple[Backup, str]]) -> str:
    """Why this backup and none that is newer."""
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for backup, fault in passed_over:
        ids[fault].append(backup.id)
    if restore_to is None:
        told = "; ".join(f"{listed(each)}: {fault}" for fault, each in ids.items())
        return f"No good backup ({told})." if told else "No backup of it was found."
    told = "; ".join(
        f"{listed(each)} {'is' if len(each) == 1 else 'are'} newer but {fault}" for fault, each in ids.items()
    )
    return f"Newest good backup ({told})." if told else "Newest good backup."


def _warnings(
    backups: Sequence[Backup], older: Iterable[tuple[Backup, str]], strange: bool, now: datetime
) -> Iterator[str]:
    """What needs attention beside the restore point and those passed over for it."""
    if stuck := [backup.id for backup, fault in older if fault == _STUCK]:
        yield f"{listed(stuck)} {'is' if len(stuck) == 1 else 'are'} {_STUCK}."
    usable = [backup for backup in backups if is_usable(backup, now)]
    ends = [backup.expires_at for backup in usable if backup.expires_at and expires_within(backup, EXPIRY_WARNING, now)]
    if usable and len(ends) == len(usable):
        yield f"All its restore points expire by {stamp(max(ends))} ({age(max(ends), now)})."
    if strange:
        yield "VPS.org does not list this server."
