from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator
from tests.faults.stage import Bench
from tests.stage import PROMPT, Connect, Era, MakeSettings, ManualClock, session

OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def era() -> Era:
    """One era is enough here: what becomes of a request to VPS.org does not depend on it."""
    return "auto"


@pytest.fixture
def bench_on(clock: ManualClock, make_settings: MakeSettings) -> OpenBench:
    """`async with Emulator(…) as api, bench_on(api, keep_min=2) as bench`: on an emulator of the test's own."""

    @asynccontextmanager
    async def open_bench(emulator: Emulator, connect: Connect = PROMPT, **overrides: Any) -> AsyncIterator[Bench]:
        settings = make_settings(**overrides)
        async with session(emulator, settings, clock, "auto", connect) as agent:
            yield Bench(agent, emulator, clock, settings.state_dir)

    return open_bench


@pytest.fixture
async def bench(emulator: Emulator, bench_on: OpenBench) -> AsyncIterator[Bench]:
    """A server under the default settings on the seeded fleet, and a client of it."""
    async with bench_on(emulator) as opened:
        yield opened
