from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_backups.commands.config.catalogue import Machine
from mcp_backups.sandbox import Emulator, serve_in_thread
from mcp_backups.settings import Settings
from tests.stage import MakeSettings, ManualClock, on_emulator


@pytest.fixture
def api(clock: ManualClock) -> Iterator[Emulator]:
    """The seeded fleet in a thread of its own: a command runs an event loop itself."""
    with serve_in_thread(Emulator(now=clock.now)) as served:
        yield served


@pytest.fixture
def settings(api: Emulator, make_settings: MakeSettings) -> Settings:
    return on_emulator(make_settings(), api)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home", tmp_path / "project", tmp_path / "config")


@pytest.fixture
def settings_file(make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty settings file, in an environment without settings."""
    make_settings()
    config = tmp_path / "config.toml"
    config.touch(mode=0o600)
    monkeypatch.setenv("MCP_BACKUPS_CONFIG", str(config))
    return config
