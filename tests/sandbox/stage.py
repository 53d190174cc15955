"""What these tests share: a clock they turn by hand, a client, and a bare socket."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2

from mcp_backups.sandbox import Emulator

PATIENCE = 20.0
"""Seconds after which a test gives up waiting."""


@dataclass
class Clock:
    """A clock that stands still until it is told to go on."""

    time: datetime = datetime(2025, 1, 16, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def client(emulator: Emulator, token: str = "", verify: bool = True) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {token or emulator.token}"}
    return httpx2.AsyncClient(
        base_url=emulator.base_url, headers=headers, timeout=PATIENCE, trust_env=False, verify=verify
    )


def request(emulator: Emulator, line: str = "GET /api/v1/account/me/", *headers: str) -> bytes:
    """A bare request with a good token."""
    lines = (f"{line} HTTP/1.1", "Host: sandbox", f"Authorization: Bearer {emulator.token}", *headers, "", "")
    return "\r\n".join(lines).encode()


async def converse(emulator: Emulator, sent: bytes) -> bytes:
    """Send bytes, and read until the other side ends the connection. Raises ConnectionResetError at an RST."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
        try:
            writer.write(sent)
            return await reader.read(-1)
        finally:
            writer.transport.abort()
