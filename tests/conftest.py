import hashlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from pydantic import SecretStr

from mcp_backups.sandbox import SANDBOX_TOKEN, Emulator
from mcp_backups.settings import Settings
from tests.postgres.cluster import Cluster, Database, missing, running_cluster
from tests.stage import AgentWith, Era, MakeSettings, ManualClock, Session, ledger_of, session

_MOST_BYTES_OF_FILES = 2 * 2**30
_OF_PARTS = {"tests", "api", "operations"}
_ROWS_MEASURED = 2


def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' folders in memory where that can be: half of what the tests took was waiting for the disk.

    The server waits for it as ever; what that costs is for the benchmarks to tell.
    """
    config.addinivalue_line("markers", "unmeasured: a test of which the coverage is not measured")
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        state = os.statvfs(memory)
        if not state.f_flag & os.ST_NOEXEC and state.f_bavail * state.f_frsize > _MOST_BYTES_OF_FILES:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measure-all", action="store_true", help="measure the coverage of every test, however long")
    parser.addoption("--store", default="sqlite", choices=["sqlite", "postgres"], help="where tests have their ledger")


# How long an example takes says something about the machine, not about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a process or a socket."""
    return (os.cpu_count() or 1) + 1


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a text so that its test can be asked for: pytest finds none with a backslash or two colons in its name."""
    if not isinstance(val, str | bytes):
        return None
    return ascii(val).lstrip("b")[1:-1].replace("\\", "^").replace("::", ":")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure the coverage of few tests, as it makes them take two or three times as long.

    Of those of the whole, that is: on one protocol era, and the first rows of each.
    """
    if config.getoption("--measure-all"):
        return
    for item in items:
        told = getattr(item, "callspec", None)  # of one without parameters there is none
        indices = told.indices if told else {}
        row = sum(index for name, index in indices.items() if name != "era")
        is_of_part = item.path.parent.name in _OF_PARTS
        if indices.get("era") or (row >= _ROWS_MEASURED and not is_of_part):
            item.add_marker("unmeasured")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Nothing is measured from before what a test needs is set up: no thread of it has to stop that in the middle.

    Nor do the processes that it starts measure anything.
    """
    coverage = sys.modules.get("coverage")
    measuring = coverage and coverage.Coverage.current()
    if not measuring or not item.get_closest_marker("unmeasured"):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        measuring.stop()
        try:
            return (yield)
        finally:
            measuring.start()


@pytest.fixture(scope="session", autouse=True)
def the_same_is_computed_once() -> Iterator[None]:
    """Every client checks the schema of every tool that it calls, and every server makes a slow digest of its token.

    That is a fifth of all that the tests compute.
    """
    validator: Any = import_module("jsonschema").Draft202012Validator  # it has no types
    check = validator.check_schema
    checked: set[str] = set()

    def check_once(schema: dict[str, Any]) -> None:
        as_text = json.dumps(schema)
        if as_text not in checked:
            check(schema)
            checked.add(as_text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validator, "check_schema", check_once)
        patch.setattr(hashlib, "pbkdf2_hmac", cache(hashlib.pbkdf2_hmac))
        yield


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    return cast("Era", request.param)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def emulator(clock: ManualClock) -> AsyncIterator[Emulator]:
    """The seeded fleet, on the same clock as the server under test."""
    async with Emulator(now=clock.now) as served:
        yield served


@pytest.fixture(autouse=True)
def token_stays_secret(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Iterator[None]:
    """Whatever a test is about: the token is in no log of any library at DEBUG, and in no file beside the ledger."""
    caplog.set_level(logging.DEBUG)
    yield
    assert SANDBOX_TOKEN not in caplog.text
    for path in tmp_path.joinpath("state").rglob("*"):
        assert not path.is_file() or SANDBOX_TOKEN.encode() not in path.read_bytes(), path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server; a test that has it may stop it, and start it again."""
    if why := missing():
        pytest.skip(why)
    with running_cluster() as running:
        yield running


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """A database of its own with an empty ledger in it."""
    with cluster.database() as made:
        yield made


@pytest.fixture
def store(request: pytest.FixtureRequest) -> str:
    """Where the ledger is; `on_both_stores` has a test run on each, and `--store postgres` all of them."""
    return str(getattr(request, "param", request.config.getoption("store")))


@pytest.fixture
def elsewhere(
    store: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The settings by which the ledger is not in the state folder."""
    if store == "sqlite":
        return {}
    database: Database = request.getfixturevalue("database")
    key_file = tmp_path / "key"
    key_file.write_bytes(os.urandom(32))
    key_file.chmod(0o600)
    # Time is turned by hand, and the database's cannot be; tests/postgres has that rule.
    monkeypatch.setattr("mcp_backups.ledger.postgres.PostgresLedger.common_clock", lambda _ledger, clock: clock)
    return {"ledger_url": SecretStr(database.url), "key_file": key_file}


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def make_settings(
    state_dir: Path, elsewhere: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeSettings]:
    """`make_settings(keep_min=2)`: the defaults but for what is given, whatever the environment holds."""
    for name in os.environ:
        if name.startswith(("MCP_BACKUPS_", "VPS_API_")):
            monkeypatch.delenv(name)

    def make(**overrides: Any) -> Settings:
        return Settings(**{"state_dir": state_dir} | elsewhere | overrides)

    with ledger_of(state_dir, make()):
        yield make


@pytest.fixture
def agent_with(emulator: Emulator, clock: ManualClock, era: Era, make_settings: MakeSettings) -> AgentWith:
    """`async with agent_with(keep_min=2) as agent`: a session under these settings; each is a server of its own."""
    return lambda **overrides: session(emulator, make_settings(**overrides), clock, era)


@pytest.fixture
async def agent(agent_with: AgentWith) -> AsyncIterator[Session]:
    """A session under the default settings."""
    async with agent_with() as served:
        yield served
