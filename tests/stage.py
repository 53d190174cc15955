"""What tests across folders share: a clock turned by hand, and an MCP client's session with the server under test."""

from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.clock import Clock, Moment, system_clock
from mcp_backups.ledger import Ledger, Transaction, ledger_for
from mcp_backups.operations.operation import Operation
from mcp_backups.sandbox import SANDBOX_TOKEN, Emulator
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.tools.asking import Patience
from mcp_backups.transport import open_context

Given = ParamSpec("Given")
Opened = TypeVar("Opened", bound=Ledger[Operation])

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""

on_both_stores = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)
"""For what depends on how the ledger is kept."""
on_file = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
"""For what is about the ledger's file, about a ledger of 0.1.0, or turns the clock of another process."""

Era = Literal["auto", "legacy"]
"""The client's `mode`: protocol 2026-07-28, or the handshake of 2025-11-25."""


@dataclass
class ManualClock:
    """Time that passes only when it is slept or told to.

    The emulator lives by `now`, the true time; the server by `clock`, whose wall clock may be set wrong.

    Attributes:
        passed: Seconds since the test began.
        wrong: How far the wall clock is from the true time.
        slept: Every sleep that was asked for, in seconds.
        boot: Which start of the machine this is.
    """

    passed: float = 0.0
    wrong: timedelta = timedelta(0)
    slept: list[float] = field(default_factory=list)
    boot: str = "first boot"

    @property
    def clock(self) -> Clock:
        return Clock(wall=self.wall, ticks=self.ticks, boot=self.boot, sleep=self.sleep)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def wall(self) -> datetime:
        return self.now() + self.wrong

    def ticks(self) -> float:
        return 1000.0 + self.passed

    def moment(self) -> Moment:
        return self.clock.moment()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds
        await anyio.lowlevel.checkpoint()

    def advance(self, **span: float) -> None:
        """Let time pass: `advance(minutes=11)`."""
        self.passed += timedelta(**span).total_seconds()

    def step(self, **span: float) -> None:
        """Set the wall clock forward, or back if negative, while no time passes: `step(days=-1)`."""
        self.wrong += timedelta(**span)

    def restart(self) -> "ManualClock":
        """The same time after the machine was started again, so that ticks cannot be compared."""
        return replace(self, boot=f"{self.boot}, again")


class RealTime:
    """Time as processes live in, which can be put forward for VPS.org and for the servers that come after."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def clock(self) -> Clock:
        real = system_clock()
        return replace(real, wall=self.now, ticks=lambda: real.ticks() + self.ahead.total_seconds())


@dataclass(frozen=True)
class Answer:
    """What a client was told.

    Attributes:
        data: The structured content; empty when there is none.
        structured: The same as it came, None when there is none.
        progress: Every progress notification: so far, in all, what is going on.
    """

    is_error: bool
    text: str
    structured: dict[str, Any] | None
    progress: list[tuple[float, float | None, str | None]]

    @property
    def data(self) -> dict[str, Any]:
        return self.structured or {}

    @property
    def code(self) -> str:
        """The error's code, empty for an answer that is none."""
        return self.text.partition(":")[0] if self.is_error else ""

    @property
    def replayed(self) -> bool:
        """Whether an earlier call did it."""
        return bool(self.data.get("replayed"))

    @property
    def undo(self) -> str:
        """The call that takes it back, empty where there is none."""
        return str(self.data.get("undo", ""))

    @property
    def approved_by(self) -> str:
        """Who consented, empty where nobody has."""
        return str(self.data.get("approved_by", ""))

    @property
    def operation(self) -> str:
        return str(self.data["operation_id"])

    @property
    def status(self) -> str:
        return str(self.data["status"])


def stays(plan: Answer) -> list[dict[str, Any]]:
    """The backups that a prune does not delete, now or later, each with the reason."""
    return [*plan.data.get("kept", []), *plan.data.get("left_alone", [])]


@dataclass(frozen=True)
class Session:
    """A client that talks to the server."""

    client: Client

    async def call(self, tool: str, /, **arguments: Any) -> Answer:
        """Call a tool and wait for its answer, within bounds."""
        told: list[tuple[float, float | None, str | None]] = []

        async def note(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, total, message))

        with anyio.fail_after(PATIENCE):
            result = await self.client.call_tool(tool, arguments, progress_callback=note)
        (content,) = result.content
        assert content.type == "text"
        assert SANDBOX_TOKEN not in result.model_dump_json()
        return Answer(bool(result.is_error), content.text, result.structured_content, told)


MakeSettings = Callable[..., Settings]
AgentWith = Callable[..., AbstractAsyncContextManager[Session]]
Connect = Callable[..., VpsClient]


class Nameless(VpsClient):
    """A client that does not ask whose account it is: a test's first request is then the one that it is about."""

    async def account_fingerprint(self) -> str:
        return ""


PROMPT: Connect = partial(Nameless, jitter=lambda: 0.0)
"""The client, without its random part. For a shorter deadline: `partial(PROMPT, deadline=0.5)`."""


@asynccontextmanager
async def session(
    emulator: Emulator,
    settings: Settings,
    clock: Clock | ManualClock,
    era: Era = "auto",
    connect: Connect = PROMPT,
    patience: Patience | None = None,
    **options: Any,
) -> AsyncIterator[Session]:
    """A server with these settings on the emulator, and a client of this era that talks to it.

    Args:
        emulator: What it looks after; the settings' address and token are replaced by the emulator's.
        settings: The account and the policy.
        clock: Where the server takes its time from.
        era: Of the protocol.
        connect: Makes the HTTP client.
        patience: How long a person is waited for; the server's own measure if none is given.
        options: More for `mcp.Client`, such as an `elicitation_callback`.
    """
    settings = on_emulator(settings, emulator)
    time = clock.clock if isinstance(clock, ManualClock) else clock
    server = build_server(settings, partial(open_context, settings, time, connect), patience=patience or Patience())
    async with Client(server, mode=era, **options) as client:
        yield Session(client)


async def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait, within bounds, for what another task or process brings about."""
    with anyio.fail_after(patience):
        while not condition():  # noqa: ASYNC110 - it may happen in another process
            await anyio.sleep(0.01)


def on_emulator(settings: Settings, emulator: Emulator) -> Settings:
    """The settings with the emulator's address, and its token unless they name one."""
    token = settings.vps_api_token or SecretStr(emulator.token)
    return settings.model_copy(update={"vps_api_url": emulator.base_url, "vps_api_token": token})


@contextmanager
def let_go_at_the_end(make: Callable[Given, Opened]) -> Iterator[Callable[Given, Opened]]:
    """Makes ledgers, each one that a process of its own would have; at the end it is closed, and its process gone."""
    with ExitStack() as made:

        def make_one(*args: Given.args, **kwargs: Given.kwargs) -> Opened:
            ledger = make(*args, **kwargs)
            made.callback(ledger.close)
            made.callback(ledger.liveness.leave)
            return ledger

        yield make_one


_elsewhere: dict[Path, Settings] = {}


@contextmanager
def ledger_of(state_dir: Path, settings: Settings) -> Iterator[None]:
    """While inside, what asks for the ledger of a state folder finds it where these settings have it."""
    _elsewhere[state_dir] = settings
    try:
        yield
    finally:
        del _elsewhere[state_dir]


def place_of(state_dir: Path) -> Settings:
    """The settings by which the ledger of a state folder is found."""
    return _elsewhere.get(state_dir) or Settings(state_dir=state_dir)


def recorded(state_dir: Path) -> list[Operation]:
    """Every operation in the ledger, oldest first; the ledger is whole."""
    with closing(ledger_for(place_of(state_dir), Operation, system_clock())) as ledger, ledger.audit() as entries:
        return _all_of(entries) if entries else []


def write_now(ledger: Ledger[Operation], work: Callable[[Transaction[Operation]], Any]) -> None:
    """Record something while the event loop stands still, as another process would."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(anyio.run, ledger.write, work).result(PATIENCE)


def spoil_ledger(state_dir: Path) -> None:
    """Put there what is no ledger."""
    state_dir.mkdir()
    (state_dir / "ledger.sqlite3").write_bytes(b"certainly not a database" * 100)


def _all_of(entries: Transaction[Operation]) -> list[Operation]:
    assert entries.verify() == ""
    return entries.find(limit=100_000)[::-1]
