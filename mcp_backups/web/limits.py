"""How much clients may ask of a server at once, so that none keeps the others out.

A connection is closed when no request comes in time, or when another one needs its place.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp


_KEPT_FILES = 256
"""Open files that are not for connections: the ledger's, those to VPS.org, and what is accepted all at once."""

_LEAST_CONNECTIONS = 64

_BACKLOG = 128
"""How many are accepted all at once, before the first of them is looked at."""


class Limits(NamedTuple):
    """What is allowed.

    Attributes:
        connections: That are open at once; where there is no room, the one that has waited longest for a request goes.
        head_seconds: Until the whole head of a request has come, from its connection or the request before.
        body_seconds: Until the whole body has come after that.
        calls: Of one principal that are under way at once.
        sessions: That are open at once, before 2026-07-28; the one that was not used for longest ends.
        own_sessions: The same of one principal.
    """

    connections: int = 4096
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    calls: int = 64
    sessions: int = 1000
    own_sessions: int = 200


LIMITS = Limits()


def within_open_files(limits: Limits) -> Limits:
    """The same with no more connections than this process may have open files, of which it takes all that it may."""
    try:
        import resource  # noqa: PLC0415 - not there on Windows, which does not count them
    except ImportError:
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _KEPT_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        wanted = most
    return limits._replace(connections=min(limits.connections, max(_LEAST_CONNECTIONS, wanted - _KEPT_FILES)))


class Calls:
    """The calls of each principal that are under way."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def one_more(self, principal: str) -> Iterator[bool]:
        """While inside, one more is under way; False if that would be too many, and it is not."""
        if self._under_way[principal] >= self._most:
            yield False
            return
        self._under_way[principal] += 1
        try:
            yield True
        finally:
            self._under_way[principal] -= 1
            if not self._under_way[principal]:
                del self._under_way[principal]


class Session(NamedTuple):
    """A session of a protocol before 2026-07-28.

    Attributes:
        id: As the client names it.
        owner: The principal that began it.
        path: Of the server that it was begun with.
    """

    id: str
    owner: str
    path: str


class Sessions:
    """The sessions that are open, those that were not used for longest first."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # With how many calls are under way in each: one of these is never ended.
        self._open: OrderedDict[Session, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, session: Session) -> None:
        self._open.setdefault(session, 0)  # a client that names it twice would else have its calls forgotten

    def end(self, session: Session) -> None:
        self._open.pop(session, None)

    @contextmanager
    def using(self, session: Session) -> Iterator[None]:
        """While inside, a call is under way in it; of one that there is not, nothing is kept."""
        if session in self._open:
            self._open[session] += 1
            self._open.move_to_end(session)
        try:
            yield
        finally:
            if session in self._open:
                self._open[session] -= 1

    def too_many(self) -> Session | None:
        """A session that is to end; None while there are not too many."""
        counts = Counter(session.owner for session in self._open)
        crowded = {owner for owner, count in counts.items() if count > self._limits.own_sessions}
        if len(self._open) > self._limits.sessions:
            crowded = {counts.most_common(1)[0][0]}
        return next((each for each, calls in self._open.items() if each.owner in crowded and not calls), None)


# Connections


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
