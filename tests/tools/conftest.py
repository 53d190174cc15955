from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest

from mcp_backups.sandbox import Emulator
from mcp_backups.sandbox.fleet import Backup
from tests.stage import AgentWith, Era, MakeSettings, ManualClock, Session, session


def in_turns(name: str, cases: Mapping[str, object]) -> pytest.MarkDecorator:
    """`@in_turns("fault", FAULTS)`: the test once for each, in one era and the other in turns; the first in both.

    Only the second run of the first is named after its era, so that who leaves out one era leaves out no case.
    """
    (first, case), *_ = cases.items()
    rows = [pytest.param(case, "legacy", id=f"{first}-legacy")]
    for number, (label, each) in enumerate(cases.items()):
        rows.append(pytest.param(each, "legacy" if number % 2 else "auto", id=label))
    return pytest.mark.parametrize((name, "era"), rows)


AgentOn = Callable[..., AbstractAsyncContextManager[Session]]


@pytest.fixture
def agent_on(clock: ManualClock, era: Era, make_settings: MakeSettings) -> AgentOn:
    """`async with Emulator(…) as api, agent_on(api) as agent`: a session on an emulator of the test's own."""
    return lambda emulator, **overrides: session(emulator, make_settings(**overrides), clock, era)


@pytest.fixture
async def trusted(agent_with: AgentWith) -> AsyncIterator[Session]:
    """A session where `confirm=true` alone consents."""
    async with agent_with(approval="flag") as served:
        yield served


@pytest.fixture
def add(emulator: Emulator, clock: ManualClock) -> Callable[..., int]:
    """`add(12360, hours=30, size_mb=10)`: one more backup in the account, so old; returns its id."""

    def put(server_id: int, hours: float = 48, **fields: Any) -> int:
        number = max(emulator.fleet.backups) + 1
        made = clock.now() - timedelta(hours=hours)
        emulator.fleet.backups[number] = Backup(number, server_id, made, **{"size_mb": 100} | fields)
        return number

    return put
