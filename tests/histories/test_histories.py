"""Some of the histories that `python -m tests.histories` runs by the thousand, and some of the kills."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_backups.sandbox import Emulator, serve_in_thread
from tests.histories.history import run
from tests.histories.kills import kill_one

pytestmark = pytest.mark.anyio

HISTORIES, KILLS = 200, 15


@settings(max_examples=HISTORIES, deadline=None, database=None)
@given(seed=st.integers(min_value=0, max_value=2**64 - 1))
async def test_nothing_is_lost_doubled_or_claimed_that_is_not_so(seed: int) -> None:
    """A seed, and not each choice, is what Hypothesis draws: a history cannot be broken off in its middle."""
    with tempfile.TemporaryDirectory() as folder:
        verdict = await run(Random(seed), Path(folder) / "state")
    assert verdict.wrong == [], "\n".join(verdict.steps)


@pytest.fixture(scope="module")
def account() -> Iterator[Emulator]:
    with serve_in_thread(Emulator(backup_seconds=3600)) as served:
        yield served


@pytest.mark.parametrize("number", range(KILLS))
async def test_a_process_killed_anywhere_loses_and_doubles_nothing(
    account: Emulator, tmp_path: Path, number: int
) -> None:
    verdict = await kill_one(Random(number), tmp_path / "state", account)
    assert verdict.wrong == [], "\n".join(verdict.steps)
