"""Which backups can be relied on. Pure: facts in, judgement out."""

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Literal, NamedTuple

from mcp_backups.models import COMPLETED, FAILED, IN_PROGRESS, Backup, Listing, Server
from mcp_backups.text import age, listed, plural, stamp

EXPIRES_SOON = timedelta(hours=24)
"""A backup that expires within this time is not counted on any more."""

STUCK = timedelta(hours=6)
"""A backup in progress for longer than this is not expected to finish any more."""

EXPIRY_WARNING = timedelta(days=7)
"""How long before it a server is in trouble because its last restore point expires."""

_NEVER = datetime.max.replace(tzinfo=UTC)

CLOCK_SKEW = timedelta(minutes=5)
"""How far clocks may differ: a backup may seem to have been made so far in the future."""

Verdict = Literal["ok", "at_risk", "stale", "no_good_backup", "cannot_tell", "orphaned"]
"""What a server's newest good backup says of it.

`ok`: it is young enough. `at_risk`: so it is, but something is wrong. `stale`: it is too old. `no_good_backup`: there
is none. `cannot_tell`: one that is young enough may be among what could not be read. `orphaned`: VPS.org's complete
list of servers lacks the server, so that nothing can be restored to it.
"""

FleetVerdict = Literal["ok", "not_ok", "cannot_tell"]
"""Whether every server has a good backup young enough, one certainly has not, or what could be read does not tell."""

State = Literal["completed", "in_progress", "stuck", "failed"]
"""How far a backup has come."""

LEDGER_UNREAD = "what was deleted here lately is not known, since the ledger cannot be read"
"""What is missing where nobody knows which backups a deletion was sent for."""

_WORST_FIRST: tuple[Verdict, ...] = ("no_good_backup", "stale", "cannot_tell", "at_risk", "orphaned", "ok")
_BAD: frozenset[Verdict] = frozenset({"no_good_backup", "stale"})

_STUCK = "stuck"
_UNFINISHED = "not known to be completed"
_DOUBTS = {"being_deleted": "being deleted", "doubtful": "doubtful, since its deletion was asked for"}
_NO_TROUBLE = frozenset({"still in progress", _UNFINISHED, _DOUBTS["being_deleted"]})
"""Faults that are in order for a while."""

Doubts = Mapping[int, str]
"""For each listed backup that a deletion was sent for: `being_deleted` after a plain yes, else `doubtful`."""

_NO_DOUBTS: Doubts = MappingProxyType({})


class ServerHealth(NamedTuple):
    """What the backups of one server are worth now.

    Attributes:
        restore_to: The newest good backup, which is the one to restore; None if there is none, or no server for it.
        reasons: Why that one and none that is newer, and what else needs attention; our words, ids and times only.
        total: All its backups that could be read; each is completed, in progress, stuck or failed.
        good: Of the completed, those that count.
        doubtful: Of all, those that a deletion was sent for.
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
    doubtful: int
    size_mb: float

    @property
    def fresh(self) -> bool:
        """It has a good backup that is young enough, whatever else."""
        return self.verdict in {"ok", "at_risk"}


class FleetHealth(NamedTuple):
    """What the backups of an account, or of one server, are worth now.

    Attributes:
        servers: The worst first, by verdict and the age of the newest good backup; those in order by their size.
        now: UTC, when it was read.
        missing: What could not be read, one clause each; of many gaps the first ten.
        verdict: Of the servers but for those that are orphaned; `cannot_tell` also when there is none.
        orphans: The backups that belong to no server.
        ignored: How many servers were left out because the operator wants them ignored.
    """

    servers: tuple[ServerHealth, ...]
    max_age: timedelta
    now: datetime
    missing: tuple[str, ...]
    verdict: FleetVerdict
    orphans: tuple[Backup, ...] = ()
    ignored: int = 0


def is_restorable(backup: Backup) -> bool:
    """Whether the backup is finished and holds something: completed, with a known size above 0."""
    return backup.status == COMPLETED and bool(backup.size_mb)


def is_usable(backup: Backup, now: datetime) -> bool:
    """Whether the backup can be restored as far as is known: finished, holding something, and not expired."""
    return is_restorable(backup) and not expires_within(backup, timedelta(0), now)


def is_in_future(backup: Backup, now: datetime) -> bool:
    """Whether the backup is dated further in the future than clocks differ: nobody knows how old it is."""
    return now - backup.created_at < -CLOCK_SKEW


def is_stuck(backup: Backup, now: datetime) -> bool:
    """Whether the backup is under way, by whatever word, for longer than one that will still finish."""
    return backup.status not in {COMPLETED, FAILED} and now - backup.created_at > STUCK


def expires_within(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether the backup has expired, or will within `span`."""
    return backup.expires_at is not None and backup.expires_at <= now + span


def lasts(backup: Backup, span: timedelta, now: datetime) -> bool:
    """Whether it is known that the backup will not have expired within `span`; not where its expiry cannot be read."""
    return "expires_at" not in backup.unreadable and not expires_within(backup, span, now)


def is_good(backup: Backup, now: datetime, doubtful: Container[int] = ()) -> bool:
    """Whether the backup is a restore point to rely on.

    Args:
        backup: The backup.
        now: UTC.
        doubtful: Ids of the backups whose deletion was sent and may still take effect.
    """
    return (
        is_restorable(backup)
        and lasts(backup, EXPIRES_SOON, now)
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


def state(backup: Backup, now: datetime) -> State:
    """How far a backup has come, whatever word VPS.org has for it.

    Only `failed` is failed: a word that is not known may stand for something that goes on, and is taken for that as
    long as for `in_progress`.
    """
    if backup.status == COMPLETED:
        return "completed"
    if backup.status == FAILED:
        return "failed"
    return "stuck" if is_stuck(backup, now) else "in_progress"


def fleet_health(
    backups: Listing[Backup],
    servers: Listing[Server] | None,
    max_age: timedelta,
    now: datetime,
    *,
    doubts: Doubts | None = _NO_DOUBTS,
    ignored: Collection[int] = (),
) -> FleetHealth:
    """The health of every server that either list names.

    Args:
        backups: What was read of the backups.
        servers: What was read of the servers; None when only those with a backup are asked for.
        max_age: What a server's newest good backup must be younger than.
        now: UTC.
        doubts: Which backups a deletion was sent for; None where that is not known.
        ignored: Ids of servers to leave out.
    """
    of_server: defaultdict[int, list[Backup]] = defaultdict(list)
    for backup in backups.rows:
        of_server[backup.server_id].append(backup)
    orphans = of_server.pop(0, [])
    # A server of which only the id could be read is there, whatever it is called.
    known, lost = (servers.rows, servers.gaps) if servers else ((), ())
    named = {gap.server_id: "" for gap in lost if gap.server_id} | {server.id: server.name for server in known}
    gaps = [gap for gap in (*backups.gaps, *lost) if gap.server_id not in ignored]
    found = of_server.keys() | named
    health = [
        server_health(
            server_id,
            of_server[server_id],
            max_age,
            now,
            name=named.get(server_id, ""),
            doubts=doubts or _NO_DOUBTS,
            complete=backups.complete_for(server_id),
            orphaned=servers is not None and server_id not in named and servers.complete_for(server_id),
        )
        for server_id in found.difference(ignored)
    ]
    return FleetHealth(
        servers=tuple(sorted(health, key=_worst_first)),
        max_age=max_age,
        now=now,
        missing=(*Listing((), tuple(gaps)).missing, *(() if doubts is not None else (LEDGER_UNREAD,))),
        verdict=_fleet_verdict(health, certain=doubts is not None and all(gap.server_id for gap in lost)),
        orphans=tuple(orphans),
        ignored=len(found.intersection(ignored)),
    )


def _fleet_verdict(health: Iterable[ServerHealth], *, certain: bool) -> FleetVerdict:
    """The verdict on all servers; those that no longer exist do not count."""
    verdicts = {server.verdict for server in health} - {"orphaned"}
    if verdicts & _BAD:
        return "not_ok"
    return "ok" if verdicts and certain and "cannot_tell" not in verdicts else "cannot_tell"


def server_health(
    server_id: int,
    backups: Sequence[Backup],
    max_age: timedelta,
    now: datetime,
    *,
    name: str = "",
    doubts: Doubts = _NO_DOUBTS,
    complete: bool = True,
    orphaned: bool = False,
) -> ServerHealth:
    """The health of one server.

    Args:
        server_id: Which.
        backups: All its backups that could be read, in any order.
        max_age: What its newest good backup must be younger than.
        now: UTC.
        name: What the list of servers calls it; without one its newest backup that has a name for it tells.
        doubts: Which backups a deletion was sent for.
        complete: Whether all its backups could be read.
        orphaned: Whether a complete list of servers lacks it.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.created_at, backup.id), reverse=True)
    faults = [(backup, fault_of(backup, now, doubts)) for backup in newest_first]
    good = [backup for backup, fault in faults if not fault]
    newest_good = good[0] if good else None
    passed_over = faults[: newest_first.index(newest_good)] if newest_good else faults
    warnings = list(_warnings(faults[len(passed_over) :], faults, now, complete=complete))
    trouble = bool(warnings) or any(fault not in _NO_TROUBLE for _, fault in passed_over)
    verdict = _verdict(newest_good, max_age, now, trouble=trouble, complete=complete)
    reasons = (_choice(newest_good, passed_over, complete=complete), *warnings)
    counts = Counter(state(backup, now) for backup in backups)
    return ServerHealth(
        server_id=server_id,
        name=name or next((backup.server_name for backup in newest_first if backup.server_name), ""),
        verdict="orphaned" if orphaned else verdict,
        restore_to=None if orphaned else newest_good,
        reasons=(_orphanage(len(backups), newest_good),) if orphaned else reasons,
        total=len(backups),
        good=len(good),
        completed=counts["completed"],
        in_progress=counts["in_progress"],
        stuck=counts["stuck"],
        failed=counts["failed"],
        doubtful=sum(backup.id in doubts for backup in backups),
        size_mb=sum(backup.size_mb or 0 for backup in backups),
    )


def _verdict(restore_to: Backup | None, max_age: timedelta, now: datetime, *, trouble: bool, complete: bool) -> Verdict:
    if restore_to is not None and is_younger(restore_to, max_age, now):
        return "at_risk" if trouble else "ok"
    if not complete:
        return "cannot_tell"
    return "stale" if restore_to else "no_good_backup"


def _worst_first(server: ServerHealth) -> tuple[int, datetime, float, int]:
    """By verdict, then by age; those in order by the space that they take."""
    is_ok = server.verdict == "ok"
    made = server.restore_to.created_at if server.restore_to and not is_ok else datetime.min.replace(tzinfo=UTC)
    return (_WORST_FIRST.index(server.verdict), made, -server.size_mb if is_ok else 0, server.server_id)


def fault_of(backup: Backup, now: datetime, doubts: Doubts) -> str:
    """Why a backup is no restore point to rely on; empty if it is one.

    Words for a status that are not known are VPS.org's own: they have no place in a sentence of ours.
    """
    if backup.status != COMPLETED:
        told = {"failed": "failed", "stuck": _STUCK}.get(state(backup, now))
        return told or ("still in progress" if backup.status == IN_PROGRESS else _UNFINISHED)
    if backup.id in doubts:
        return _DOUBTS[doubts[backup.id]]
    if not backup.size_mb:
        return "of unknown size" if backup.size_mb is None else "empty"
    if "expires_at" in backup.unreadable:
        return "of unreadable expiry"
    if expires_within(backup, EXPIRES_SOON, now):
        return "expired" if expires_within(backup, timedelta(0), now) else "expiring within 24 h"
    return "dated in the future" if is_in_future(backup, now) else ""


def _worded(fault: str, backups: Sequence[Backup]) -> str:
    """A fault that several may have; of what is stuck also since when."""
    if fault != _STUCK:
        return fault
    since = stamp(min(backup.created_at for backup in backups))
    return f"stuck since {since}" if len(backups) == 1 else f"stuck, the oldest since {since}"


def _choice(restore_to: Backup | None, passed_over: Sequence[tuple[Backup, str]], *, complete: bool) -> str:
    """Why this backup and none that is newer."""
    groups: defaultdict[str, list[Backup]] = defaultdict(list)
    for backup, fault in passed_over:
        groups[fault].append(backup)
    if restore_to is None:
        told = "; ".join(f"{_ids(each)}: {_worded(fault, each)}" for fault, each in groups.items())
        if not told:
            return "No backup of it was found." if complete else "Cannot tell: none of its backups could be read."
        return f"No good backup ({told})." if complete else f"Cannot tell: none that could be read is good ({told})."
    told = "; ".join(
        f"{_ids(each)} {'is' if len(each) == 1 else 'are'} newer but {_worded(fault, each)}"
        for fault, each in groups.items()
    )
    lead = "Newest good backup" if complete else "Newest good backup of those that could be read"
    return f"{lead} ({told})." if told else f"{lead}."


def _warnings(
    older: Iterable[tuple[Backup, str]], faults: Sequence[tuple[Backup, str]], now: datetime, *, complete: bool
) -> Iterator[str]:
    """What needs attention beside the restore point and those passed over for it."""
    if stuck := [backup for backup, fault in older if fault == _STUCK]:
        yield f"{_ids(stuck)} {'is' if len(stuck) == 1 else 'are'} {_worded(_STUCK, stuck)}."
    usable = [backup for backup, fault in faults if fault not in _DOUBTS.values() and is_usable(backup, now)]
    ends = [backup.expires_at for backup in usable if backup.expires_at and expires_within(backup, EXPIRY_WARNING, now)]
    if usable and len(ends) == len(usable):
        which = "All its restore points" if complete else "All its restore points that could be read"
        yield f"{which} expire by {stamp(max(ends))} ({age(max(ends), now)})."


def _orphanage(count: int, newest_good: Backup | None) -> str:
    """What is left of a server that is not there."""
    best = f"the newest good one {newest_good.id} of {stamp(newest_good.created_at)}" if newest_good else "none good"
    left = f"{plural(count, 'orphaned backup')} of it {'is' if count == 1 else 'are'} left"
    return f"VPS.org does not list this server; {left}, {best}."


def _ids(backups: Iterable[Backup]) -> str:
    return listed([backup.id for backup in backups])
