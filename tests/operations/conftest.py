from collections.abc import AsyncIterator

import pytest

from mcp_backups.operations import Context
from mcp_backups.sandbox import Emulator
from mcp_backups.transport import open_idle_context
from tests.stage import PROMPT, MakeSettings, ManualClock, on_emulator


@pytest.fixture
async def context(emulator: Emulator, clock: ManualClock, make_settings: MakeSettings) -> AsyncIterator[Context]:
    """What operations work with, on the seeded fleet and under the default settings; nothing is looked at behind it."""
    async with open_idle_context(on_emulator(make_settings(), emulator), clock.clock, PROMPT) as opened:
        yield opened
