"""Fleets to start from: a believable account, and large ones for scale. Both depend on `now` alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .fleet import AUTOMATIC_LIFETIME, Backup, Fleet, Plan, Server

SMALL = Plan(11, "Standard 2", vcpus=2, memory=4096, storage=80)
MEDIUM = Plan(12, "Standard 4", vcpus=4, memory=8192, storage=160)
LARGE = Plan(14, "Memory 8", vcpus=8, memory=32768, storage=480)


@dataclass(frozen=True)
class Machine:
    """What stays the same about a server."""

    id: int
    name: str
    hostname: str
    location: str
    plan: Plan
    os: str
    status: str = "active"


@dataclass(frozen=True)
class History:
    """What was backed up of a server.

    size_mb: of its disk now; every backup is smaller the older it is.
    automatic: hours since the newest and the oldest of its daily automatic backups; None = it has none.
    manual: hours since each backup made by hand, and its description.
    """

    size_mb: int
    automatic: tuple[int, int] | None = None
    manual: tuple[tuple[int, str], ...] = ()


MACHINES = (
    Machine(12345, "web-server-01", "web01.example.com", "us-west", SMALL, "Debian 12"),
    Machine(12346, "db-server-01", "db01.example.com", "us-west", LARGE, "Ubuntu 24.04"),
    Machine(12351, "mail-server-01", "mail.example.com", "us-east", MEDIUM, "Debian 12"),
    Machine(12360, "staging-01", "staging.example.com", "us-west", SMALL, "Ubuntu 24.04"),
    Machine(12362, "build-runner-01", "build01.example.com", "us-west", MEDIUM, "Ubuntu 24.04"),
    Machine(12370, "shop-server-01", "shop.example.com", "eu-central", MEDIUM, "Debian 12"),
    Machine(12371, "analytics-01", "analytics.example.com", "eu-central", LARGE, "Rocky Linux 9"),
    Machine(12384, "crm-legacy-01", "crm.example.com", "us-east", SMALL, "Debian 11", "stopped"),
)

HISTORIES = {
    12345: History(4300, (53, 341), ((180, "Before PHP 8.3"), (700, "Before the move to Debian 12"))),
    12346: History(
        38210, (3, 507), ((9, "Before migration 214"), (200, "Before migration 209"), (900, "Year end [keep]"))
    ),
    12351: History(12840, (216, 480)),
    12362: History(7020, manual=((31, "Fresh runner image"),)),
    12370: History(15990, (30, 198), ((102, "Before the spring campaign"),)),
    12371: History(51230, (76, 244)),
    12384: History(2260, (600, 720)),
}


def seeded_fleet(now: datetime) -> Fleet:
    """Eight servers with the histories one meets in practice.

    web-server-01 (12345): fresh, with the three documented backups 501, 499 and 495 among many good ones.
    db-server-01 (12346): fresh, the largest history, one backup marked [keep].
    mail-server-01 (12351): stale for nine days.
    staging-01 (12360): never backed up.
    build-runner-01 (12362): exactly one good backup.
    shop-server-01 (12370): the newest failed.
    analytics-01 (12371): one in progress for three days, stuck.
    crm-legacy-01 (12384): stopped, and all it has expires within seven days.
    """
    now = now.replace(microsecond=0)
    servers = {machine.id: _server(machine, number, now) for number, machine in enumerate(MACHINES)}
    told = [backup for server_id, history in HISTORIES.items() for backup in _told(server_id, history, now)]
    failed = replace(_automatic(12370, now - timedelta(hours=6)), status="failed")
    stuck = replace(_automatic(12371, now - timedelta(days=3)), status="in_progress")
    backups = [*_documented(now), *_numbered([*told, failed, stuck])]
    return Fleet(servers, {backup.id: backup for backup in backups})


def large_fleet(servers: int, backups: int, now: datetime) -> Fleet:
    """Many servers, 1 or more, that share many completed backups evenly, one made every minute before `now`."""
    now = now.replace(microsecond=0)
    fleet = Fleet()
    for number in range(1, servers + 1):
        name = f"host-{number:05d}"
        machine = Machine(number, name, f"{name}.example.com", "us-west", SMALL, "Debian 12")
        fleet.servers[number] = _server(machine, number, now)
    for number in range(1, backups + 1):
        make = _manual if number % 5 == 0 else _automatic
        backup = make(number % servers + 1, now - timedelta(minutes=number), 4000 + number % 977)
        fleet.backups[number] = replace(backup, id=number)
    return fleet


def _server(machine: Machine, number: int, now: datetime) -> Server:
    """A server of the account, the `number`th; its address is of the range reserved for documentation."""
    return Server(
        id=machine.id,
        name=machine.name,
        hostname=machine.hostname,
        ip_address=f"203.0.113.{10 + number % 240}",
        location=machine.location,
        plan=machine.plan,
        os=machine.os,
        created_at=now - timedelta(days=400 - number % 300),
        updated_at=now - timedelta(days=2),
        status=machine.status,
    )


def _told(server_id: int, history: History, now: datetime) -> Iterator[Backup]:
    """A history's backups, all completed, and like those of the next two functions not yet numbered."""
    newest, oldest = history.automatic or (0, -1)
    for age in range(newest, oldest + 1, 24):
        yield _automatic(server_id, now - timedelta(hours=age), history.size_mb - age // 3)
    for age, description in history.manual:
        yield _manual(server_id, now - timedelta(hours=age), history.size_mb - age // 3, description)


def _automatic(server_id: int, made: datetime, size_mb: int | None = None) -> Backup:
    return Backup(0, server_id, made, "automatic", size_mb=size_mb, expires_at=made + AUTOMATIC_LIFETIME)


def _manual(server_id: int, made: datetime, size_mb: int, description: str = "Before an update") -> Backup:
    return Backup(0, server_id, made, "manual", size_mb=size_mb, description=description)


def _documented(now: datetime) -> tuple[Backup, Backup, Backup]:
    """The three of the vendor's example: the newest, one of two days ago, and the one of yesterday between them."""
    newest = now - timedelta(hours=5)
    return (
        replace(_automatic(12345, newest, 4523), id=501),
        replace(_manual(12345, newest - timedelta(hours=40.5), 4456, "Pre-update backup"), id=499),
        replace(_automatic(12345, newest - timedelta(hours=24), 4389), id=495),
    )


def _numbered(backups: list[Backup]) -> Iterator[Backup]:
    """Ids that grow with time on the whole, but not from one to the next: neighbours change places."""
    for rank, backup in enumerate(sorted(backups, key=lambda backup: (backup.created_at, backup.server_id))):
        yield replace(backup, id=301 + 2 * (rank ^ 1))
