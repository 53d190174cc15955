"""`check --ping URL`: a monitor is told that a check begins, and how it ended, as healthchecks.io wants it.

Such a monitor also notices when nothing is told any more, which no program can tell of itself.
"""

import sys
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx2

from mcp_backups.api import Network
from mcp_backups.clock import Clock

_SECONDS = 5.0
"""For one attempt."""

_ATTEMPTS = 3
_PAUSE = 1.0
_ONE_CONNECTION = httpx2.Limits(max_connections=1, max_keepalive_connections=0)


class Ping:
    """What a monitor is told. Nothing of it goes wrong for its caller; what fails is a line on standard error.

    Args:
        url: The monitor's address, which is a secret and never shown: whoever knows it can call off an alarm.
        network: The way there.
        clock: Waits between attempts.
    """

    def __init__(self, url: str, network: Network, clock: Clock) -> None:
        self._url = url
        self._network = network
        self._clock = clock

    async def start(self) -> None:
        """A check begins. Told once: the check is not kept waiting for it."""
        await self._tell("/start", attempts=1)

    async def end(self, *, ok: bool) -> None:
        """How it ended."""
        await self._tell("" if ok else "/fail", attempts=_ATTEMPTS)

    async def _tell(self, what: str, attempts: int) -> None:
        fault = ""
        for number in range(attempts):
            if number:
                await self._clock.sleep(_PAUSE)
            fault = await self._ask(what)
            if not fault:
                return
        sys.stderr.write(f"mcp-backups: The monitor that --ping names was not told: {fault}.\n")

    async def _ask(self, what: str) -> str:
        """Why it was not told; empty if it was."""
        parts = urlsplit(self._url)
        url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + what))
        try:
            with anyio.fail_after(_SECONDS):
                transport = self._network.transport(url, self._network.trust(url), _ONE_CONNECTION)
                async with transport:
                    response = await transport.handle_async_request(httpx2.Request("GET", url))
                    await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            return type(error).__name__  # its words may quote the address
        return "" if response.is_success else f"HTTP {response.status_code}"
