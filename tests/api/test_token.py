"""The token: nothing without it, and it stays between us and VPS.org."""

import logging
import re

import pytest
from pydantic import SecretStr

from mcp_backups.api import VpsClient
from mcp_backups.clock import system_clock
from mcp_backups.errors import AuthFailedError, ConfigError
from mcp_backups.sandbox import Emulator, Fault

from .stage import ALL, TOKEN, Time, client_of, error_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_nothing_is_sent(vps: Emulator, name: str, token: str | None) -> None:
    async with client_of(vps.base_url, token=token) as client:
        raised = await error_of(ALL[name](client))
    assert isinstance(raised, AuthFailedError)
    assert raised.changed == "nothing"
    assert "VPS_API_TOKEN" in str(raised)
    assert vps.requests == []


@pytest.mark.parametrize("token", ["vps_SECRET\n", "vps_SECRET\r\nX: y", "vps_SÉCRET", "vps_ SECRET", "vps_\x00SECRET"])
@pytest.mark.parametrize("name", ALL)
async def test_a_token_that_no_header_can_carry_is_a_wrong_setting(vps: Emulator, name: str, token: str) -> None:
    """The usual slip is the newline at the end of a token file."""
    async with client_of(vps.base_url, token=token) as client:
        raised = await error_of(ALL[name](client))
    assert isinstance(raised, ConfigError)
    assert "CRET" not in str(raised)
    assert vps.requests == []


@pytest.mark.parametrize("name", ALL)
async def test_every_request_carries_the_token(vps: Emulator, client: VpsClient, name: str) -> None:
    await ALL[name](client)
    assert [request.authorization for request in vps.requests] == [f"Bearer {TOKEN}"]


async def test_the_token_is_in_no_message_log_or_repr(
    vps: Emulator, client: VpsClient, caplog: pytest.LogCaptureFixture
) -> None:
    """The deepest log of httpcore2 included."""
    caplog.set_level(logging.DEBUG)
    for fault in (Fault.status(401, {"detail": TOKEN}), Fault.status(503, TOKEN), Fault.reset_after()):
        for name, call in ALL.items():
            vps.fail(fault, times=3)
            assert TOKEN not in str(await error_of(call(client))), name
            vps.clear_faults()
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(client) + repr(vars(client)) + repr(vars(client._link))


async def test_every_attempt_leaves_one_line_without_query_or_body(
    vps: Emulator, client: VpsClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mcp_backups")
    vps.fail(Fault.status(503))
    vps.fail(Fault.reset_after())
    await client.list_backups(12345, "manual")
    await client.create_backup(12345, "SECRET plans")
    lines = [
        record.getMessage().rsplit(",", 1)[0] for record in caplog.records if record.name.startswith("mcp_backups.api")
    ]
    assert lines == [
        "GET /backups/: 503",
        "GET /backups/: ReadError",
        "GET /backups/: 200",
        "POST /backups/: 201",
    ]


async def test_nothing_is_made_before_the_first_call() -> None:
    """TLS and pools cost 50 ms, which a server that is only listed for its tools need not spend."""
    client = client_of("https://vps.test/api/v1", Time())
    assert client._link._transports == {}


def test_a_fingerprint_tells_which_token_at_which_address_and_neither_of_them() -> None:
    def credential(base_url: str, token: str | None) -> str:
        secret = SecretStr(token) if token is not None else None
        return VpsClient(base_url, secret, clock=system_clock()).credential

    known = credential("https://vps.example/api/v1", "vps_canary")
    assert known == credential("https://vps.example/api/v1/", "vps_canary")
    others = {
        credential("https://vps.example/api/v2", "vps_canary"),
        credential("https://vps.example/api/v1", "vps_canary2"),
        credential("https://vps.example/api/v1", None),
        credential("https://vps.example/api/v1", "vps_\udc80"),
    }
    assert len(others | {known}) == 5
    assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in others | {known})
