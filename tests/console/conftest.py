from collections.abc import AsyncIterator

import httpx2
import pytest

from mcp_backups.sandbox import Emulator
from tests.console.stage import Desk, client, desk, let_in
from tests.stage import MakeSettings, ManualClock


@pytest.fixture
async def stage(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> AsyncIterator[Desk]:
    async with desk(emulator, make_settings(), clock) as opened:
        yield opened


@pytest.fixture
async def browser(stage: Desk) -> AsyncIterator[httpx2.AsyncClient]:
    """What somebody uses who was let in."""
    async with client(stage) as opened:
        opened.cookies.update(let_in(stage))
        yield opened
