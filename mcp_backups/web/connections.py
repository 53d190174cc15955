"""A connection: closed when no request comes in time, or when another one needs its place."""

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_BACKLOG = 128
"""How many are accepted all at once, before the first of them is looked at."""


class Config(uvicorn.Config):
    """How uvicorn serves, with what is allowed.

    Args:
        app: What is served.
        limits: What is allowed.
        options: More for uvicorn.
    """

    def __init__(self, app: "ASGIApp", limits: Limits, **options: Any) -> None:
        super().__init__(app, http=Connection, ws="none", backlog=_BACKLOG, **options)
        self.limits = limits


class Connection(H11Protocol):
    """A connection that waits for a request, or answers one.

    Attributes:
        waiting_since: When it began to wait, in seconds by a clock that nobody sets.
    """

    config: Config
    waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take its place, in that of another one where there is no room."""
        super().connection_made(transport)
        self.waiting_since = time.monotonic()
        if len(self.connections) > self.config.limits.connections:
            waiting = [each for each in _of_ours(self.connections) if each.is_waiting]
            longest = min(waiting, key=lambda each: each.waiting_since)
            longest.transport.abort()
            self.connections.discard(longest)  # which else it is only some time later

    def on_response_complete(self) -> None:
        """Begin to wait again."""
        self.waiting_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_waiting(self) -> bool:
        """Whether the whole head of the next request has not come."""
        return bool(getattr(self.cycle, "response_complete", True))  # there is none before the first request

    def close_if_silent(self) -> None:
        """Close it if no request has come in time."""
        if self.is_waiting and time.monotonic() - self.waiting_since > self.config.limits.head_seconds:
            self.transport.abort()


def _of_ours(connections: Iterable[object]) -> list[Connection]:
    return [each for each in connections if isinstance(each, Connection)]  # which all of them are


def close_silent(server: uvicorn.Server) -> None:
    """Close the connections on which no request has come in time."""
    for each in _of_ours(server.server_state.connections):
        each.close_if_silent()


def close_all(server: uvicorn.Server) -> None:
    """Close every connection, once what was written to it is sent."""
    for each in _of_ours(server.server_state.connections):
        each.transport.close()
