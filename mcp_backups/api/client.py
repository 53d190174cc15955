"""The VPS.org client: one method per endpoint."""

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import anyio.to_thread
from pydantic import SecretStr

from mcp_backups.clock import Clock, Moment
from mcp_backups.errors import NotFoundError, RejectedError
from mcp_backups.models import UNREADABLE, Account, Backup, Listing, Row, Server

from . import bodies
from .attempts import Attempts, OnAttempt, unheard
from .bodies import Body, ListBody, Page, RowReader
from .call import ApiCall, ResultT
from .classify import BodyUnreadableError, Lookup
from .link import Link, Network, Reaching
from .pages import Fetch, ListRequest, read_list

_PAGE_SIZE = 100
_LIST_DEADLINES = 1.25
"""After this many times the deadline of one request no further page is asked for: a list takes 45 s at most."""


_KEPT_BODIES = 8
"""Of the last pages, as they were read: some hundred rows."""

_BodyKey = tuple[str, str, int]
"""Path, query, and a hash of the bytes."""

_STRAIGHT = Network()
_SMALLER = "It stays so until there is less to list at VPS.org; tell the user."
"""What to do about a list that is too large and cannot be asked for in parts."""


Connect = Callable[..., "VpsClient"]
"""Makes a client of an address and a token, with a `clock` and a `network`; so does the class itself."""


class VpsClient:
    """VPS.org's backups, over HTTP. Usable until its `async with` ends; free of I/O before the first call.

    Every method raises `ApiError` (its `failure` tells whether a write may have taken effect) or `ConfigError`;
    without a token `AuthFailedError`, and nothing is sent.

    Args:
        base_url: The API's address, with or without a slash at the end.
        token: None if there is none.
        clock: Where time comes from.
        jitter: From 0 up to 1, how much of each backoff is waited.
        deadline: Seconds for one request in all its attempts.
        network: The way there; by default straight, with the certificates that the system trusts.
        asked: Is told of each attempt: endpoint, outcome, seconds.

    Attributes:
        last_servers: The last complete list of servers that was read; None before the first.
    """

    def __init__(
        self,
        base_url: str,
        token: SecretStr | None,
        *,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        deadline: float = 20.0,
        network: Network = _STRAIGHT,
        asked: OnAttempt = unheard,
    ) -> None:
        # A quarter: a connection that cannot be made leaves time for the other attempts.
        self._link = Link(base_url, token, network, connect_seconds=deadline / 4)
        self._attempts = Attempts(self._link, clock, jitter, deadline, asked)
        self._clock = clock
        self._list_seconds = _LIST_DEADLINES * deadline
        # Most pages that are got once more are the same to the byte, and their rows need not be read once more.
        self._bodies: dict[_BodyKey, ListBody[Any]] = {}
        self.last_servers: Listing[Server] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._link.aclose()

    @property
    def clock_offset(self) -> timedelta | None:
        """How far VPS.org's clock was ahead of ours at its last answer, whatever that said; None if it told no time."""
        return self._attempts.clock_offset

    @property
    def credential(self) -> str:
        """Which token at which address this is, by a fingerprint that tells neither."""
        return self._link.credential

    @property
    def address(self) -> str:
        """Which address this is, by a fingerprint."""
        return self._link.address

    def moment(self) -> Moment:
        """Now, by our clocks and by VPS.org's as far as its last answer tells."""
        return self._clock.moment(self.clock_offset)

    async def list_backups(self, server_id: int = 0, backup_type: str = "") -> Listing[Backup]:
        """Every backup, or those of one server (0 = all) and one type (empty = both). In no order.

        One whose type cannot be read may be of any; one that names no server may be of the asked one, if nothing of
        another came with it. Where VPS.org does not list those of one server, as it may not once that is gone, what is
        left of it is taken from the list of all.
        """
        asked, types = {"server_id": server_id, "backup_type": backup_type}, (backup_type, UNREADABLE)
        request = ListRequest[Backup](
            path="/backups/",
            query=urlencode({name: value for name, value in asked.items() if value} | {"page_size": _PAGE_SIZE}),
            wanted=lambda row: server_id in (0, row.server_id) and (not backup_type or row.type in types),
            in_time=self._in_time(),
            ownerless=lambda row: not row.server_id and (not backup_type or row.type in types),
            server_id=server_id,
        )
        action = f"list backups of server {server_id}" if server_id else "list backups"
        if server_id:
            with suppress(NotFoundError, RejectedError):
                fetch = self._fetch(request, action, bodies.backups(), Lookup.OBJECT)
                return await read_list(request, fetch)
            request = request._replace(query=request.query.removeprefix(f"server_id={server_id}&"))
        return await read_list(request, self._fetch(request, action, bodies.backups()))

    async def create_backup(self, server_id: int, description: str) -> Backup:
        """Start a manual backup. An empty description is left out."""

        def read(body: Body) -> Backup:
            backup = bodies.read_backup(body)
            if backup.server_id != server_id:
                raise BodyUnreadableError("is about another server")
            return backup

        call = ApiCall(
            "POST",
            "/backups/",
            f"back up server {server_id}",
            read,
            body={"server_id": server_id} | ({"description": description} if description else {}),
            subject=f"server {server_id}",
        )
        return await self._run(call)

    async def delete_backup(self, backup_id: int) -> None:
        """Delete a backup for good. Accepted with a 2xx, unless what comes with that says no."""
        call = ApiCall(
            "DELETE",
            f"/backups/{backup_id}/",
            f"delete backup {backup_id}",
            bodies.nothing,
            subject=f"backup {backup_id}",
            needs_body=False,
        )
        await self._run(call)

    async def restore_server(self, server_id: int, backup_id: int) -> None:
        """Start to put a backup on its server's disk. Accepted with a 2xx, unless what comes with that says no."""
        call = ApiCall(
            "POST",
            f"/servers/{server_id}/restore/",
            f"restore server {server_id} from backup {backup_id}",
            bodies.nothing,
            body={"backup_id": backup_id},
            subject=f"server {server_id}, or no backup {backup_id} of it",
            needs_body=False,
        )
        await self._run(call)

    async def list_servers(self) -> Listing[Server]:
        """Every server that the token may see: id, name and status, nothing else of what VPS.org tells."""
        request = ListRequest[Server](
            path="/servers/",
            query=urlencode({"page_size": _PAGE_SIZE}),
            wanted=lambda _row: True,
            in_time=self._in_time(),
        )
        servers = await read_list(request, self._fetch(request, "list servers", bodies.servers()))
        if servers.complete:
            self.last_servers = servers
        return servers

    async def account(self) -> Account:
        """Whether the token is good, and what it may do."""
        path = "/account/me/"
        return await self._run(ApiCall("GET", path, "read the account", bodies.read_account, lookup=Lookup.ADDRESS))

    async def account_fingerprint(self) -> str:
        """Which account the token is of, by a fingerprint of what VPS.org names it by; empty where it names none."""
        email = (await self.account()).email.casefold()
        return await anyio.to_thread.run_sync(self._link.account, email) if email else ""

    async def _run(self, call: ApiCall[ResultT]) -> ResultT:
        self._link.check_token()
        return await self._attempts.run(call)

    def _fetch(
        self, request: ListRequest[Row], action: str, reader: RowReader[Row], first: Lookup = Lookup.ADDRESS
    ) -> Fetch[Row]:
        got: dict[_BodyKey, ListBody[Row]] = {}  # by this list, which may have more pages than are kept

        def read(query: str, body: Body) -> Page[Row]:
            key = request.path, query, hash(body.content)
            if key not in got:
                is_kept = key in self._bodies
                got[key] = self._bodies.pop(key) if is_kept else bodies.read_list_body(body.content, reader)
                self._bodies[key] = got[key]  # as the last that was wanted
                if len(self._bodies) > _KEPT_BODIES:
                    del self._bodies[next(iter(self._bodies))]
            return bodies.read_page(body, got[key])

        async def fetch(query: str) -> Page[Row]:
            lookup = first if query == request.query else Lookup.PAGE
            too_large = _SMALLER if request.server_id or request.path != "/backups/" else ""
            reading = partial(read, query)
            call = ApiCall("GET", request.path, action, reading, query=query, lookup=lookup, too_large=too_large)
            return await self._run(call)

        return fetch

    def _in_time(self) -> Callable[[], bool]:
        end = self._clock.ticks() + self._list_seconds
        return lambda: self._clock.ticks() < end


def client_for(settings: Reaching, clock: Clock, connect: Connect = VpsClient, asked: OnAttempt = unheard) -> VpsClient:
    """A client of the account that the settings name, over the network that they name."""
    network = Network.of(settings)
    return connect(settings.vps_api_url, settings.vps_api_token, clock=clock, network=network, asked=asked)
