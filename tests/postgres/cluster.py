"""PostgreSQL for the tests: a server of their own, which ends with them, and databases that hold an empty ledger."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

USER = "postgres"
OWNER, SERVER = "ledger_owner", "ledger_server"
PASSWORD = "pw-of-the-ledger"
"""Of the serving role; the server lets everybody in, and no answer, log or file may show it all the same."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "off",  # as a role's default may be
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "200",
    "unix_socket_directories": "",
}
_TEMPLATE = "empty"
_PREFIX = "mcp-backups-postgres-"
_NUMBERS = count()


def missing() -> str:
    """Why there is no PostgreSQL here, empty where there is."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    return "" if programs() else "PostgreSQL is not installed: /usr/lib/postgresql/*/bin/initdb"


def programs() -> Path | None:
    """The folder of its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    path = found[-1] if found else Path(shutil.which("initdb") or "")
    return path.parent if path.name else None


@dataclass
class Database:
    """One database on the cluster.

    Attributes:
        url: As servers log in there.
        owner_url: As whoever migrates does.
        admin_url: As somebody who may do anything.
    """

    cluster: "Cluster"
    name: str

    @property
    def url(self) -> str:
        return self.cluster.url(self.name, f"{SERVER}:{PASSWORD}")

    @property
    def owner_url(self) -> str:
        return self.cluster.url(self.name, OWNER)

    @property
    def admin_url(self) -> str:
        return self.cluster.url(self.name, USER)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Done as somebody who may do anything; the rows of the last one."""
        return self.cluster.execute(*statements, database=self.name)


@dataclass
class Cluster:
    """A running server.

    Attributes:
        folder: Its data.
    """

    folder: Path
    port: int

    def url(self, database: str, role: str) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` is what a crash is, with no time to write anything."""
        self._run("pg_ctl", "-D", str(self.folder), "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """End its first process with SIGKILL; the others end when they notice, and only then can it start again."""
        os.kill(int((self.folder / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def execute(self, *statements: str, database: str = USER) -> list[tuple[Any, ...]]:
        import psycopg

        rows: list[tuple[Any, ...]] = []
        with psycopg.connect(self.url(database, USER), autocommit=True) as connection:
            for statement in statements:
                found = connection.execute(statement.encode())
                rows = found.fetchall() if found.description else []
        return rows

    @contextmanager
    def database(self, *, template: str = _TEMPLATE) -> Iterator[Database]:
        """A database of its own with an empty ledger in it, or a copy of another."""
        name = f"ledger_{os.getpid()}_{next(_NUMBERS)}"
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        try:
            yield Database(self, name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def prepare(self) -> None:
        """Make what every database of a test is a copy of."""
        import psycopg

        from mcp_backups.ledger.postgres_tables import SCHEMA_NAME, migrate_tables

        self.execute(f"CREATE ROLE {OWNER} LOGIN", f"CREATE ROLE {SERVER} LOGIN")
        self.execute(f"CREATE DATABASE {_TEMPLATE} OWNER {OWNER}")
        with psycopg.connect(self.url(_TEMPLATE, OWNER), autocommit=True) as connection:
            connection.execute(f"SET search_path = {SCHEMA_NAME}".encode())
            migrate_tables(connection, SERVER)

    def _run(self, program: str, *arguments: str) -> None:
        folder = programs()
        assert folder is not None
        user = USER if os.geteuid() == 0 else None  # it refuses to run as root
        command = [str(folder / program), *arguments]
        done = subprocess.run(
            command, user=user, cwd="/", check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster in memory where there is such a place: what a disk does to it is PostgreSQL's concern."""
    place = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
    _remove_what_was_left(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    if os.geteuid() == 0:
        shutil.chown(folder, USER)
    cluster = Cluster(folder / "data", _free_port())
    try:
        initdb = ("-D", str(cluster.folder), "-U", USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        cluster._run("initdb", *initdb)
        lines = [f"{name} = '{value}'\n" for name, value in (_SETTINGS | {"port": str(cluster.port)}).items()]
        with (cluster.folder / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        cluster.start()
        cluster.prepare()
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_what_was_left(place: Path) -> None:
    """Remove the clusters of tests that were killed; without its files a server ends by itself within a minute."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        try:
            os.kill(int(folder.name.removeprefix(_PREFIX).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
