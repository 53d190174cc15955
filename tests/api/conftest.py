from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from mcp_backups.api import VpsClient
from mcp_backups.sandbox import Emulator

from .stage import NOW, Time, client_of


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def vps() -> AsyncIterator[Emulator]:
    async with Emulator(now=lambda: NOW) as emulator:
        yield emulator


@pytest.fixture
async def client(vps: Emulator, time: Time) -> AsyncIterator[VpsClient]:
    async with client_of(vps.base_url, time) as client:
        yield client


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A company's own."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"
