"""Certificates: one that fails is a wrong setting, found with one connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from mcp_backups.api import Network
from mcp_backups.errors import ConfigError
from mcp_backups.sandbox import Emulator

from .stage import ALL, NOW, BareServer, Time, answer, client_of, error_of, says

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path) -> Network:
    """A company's own authority, beside the system's."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return Network(tmp_path / "ca.pem")


def serving(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def counted(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[int]]]:
    """A TLS server behind a gate that counts TCP connections, of which a failed handshake leaves no other trace."""
    connections: list[int] = []
    async with BareServer(says(answer([])), context) as behind:
        port = int(behind.base_url.split(":")[2].split("/")[0])

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(1)
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                try:
                    while data := await source.read(65536):
                        sink.write(data)
                finally:
                    sink.close()

            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer), return_exceptions=True)

        gate = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        async with gate:
            yield f"https://localhost:{gate.sockets[0].getsockname()[1]}/api/v1", connections


@pytest.mark.parametrize("name", ["list", "create", "delete", "restore"])
@pytest.mark.parametrize("flaw", ["unknown authority", "another host", "expired"])
async def test_a_certificate_that_fails_is_a_wrong_setting(
    flaw: str, name: str, authority: trustme.CA, trusting: Network, time: Time
) -> None:
    """F55."""
    certificates = {
        "unknown authority": lambda: trustme.CA().issue_cert("localhost"),
        "another host": lambda: authority.issue_cert("other.example.com"),
        "expired": lambda: authority.issue_cert("localhost", not_after=datetime(2024, 1, 1, tzinfo=UTC)),
    }
    async with (
        counted(serving(certificates[flaw]())) as (url, connections),
        client_of(url, time, network=trusting) as client,
    ):
        raised = await error_of(ALL[name](client))
    assert isinstance(raised, ConfigError)
    assert raised.changed == "nothing"
    assert raised.what.startswith("TLS verification failed")
    assert len(connections) == 1
    assert time.slept == []


async def test_the_systems_authorities_are_trusted_and_no_others(authority: trustme.CA, time: Time) -> None:
    async with BareServer(says(answer([])), serving(authority.issue_cert("localhost"))) as vps:
        async with client_of(vps.base_url, time) as client:
            assert isinstance(await error_of(client.list_backups()), ConfigError)
        assert vps.asked == []


async def test_the_environment_cannot_widen_trust(
    authority: trustme.CA, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        context = serving(authority.issue_cert("localhost"))
        async with BareServer(says(answer([])), context) as vps, client_of(vps.base_url, time) as client:
            assert isinstance(await error_of(client.list_backups()), ConfigError)


async def test_a_trusted_certificate_lets_every_call_through(
    authority: trustme.CA, trusting: Network, time: Time
) -> None:
    context = serving(authority.issue_cert("localhost", "127.0.0.1"))
    async with Emulator(now=lambda: NOW, ssl=context) as vps, client_of(vps.base_url, time, network=trusting) as client:
        await client.list_backups()
        await client.list_servers()
        await client.account()
        await client.restore_server(12345, 501)
        await client.delete_backup(499)
        await client.create_backup(12346, "")
    assert len(vps.requests) == 6
