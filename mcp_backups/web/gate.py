"""The gate before everything that is served over HTTP: whose requests are taken, which, and how they are passed on.

An account's path is `/mcp`, or `/mcp/NAME` where there are several. A body is taken whole, in bounds, and only as a
message that the SDK can read; what is none is answered here.
"""

import hmac
import json
import logging
import re
import secrets
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import NamedTuple

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pydantic_core import from_json
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_backups.access import PRINCIPAL, AccessTokens, Principal
from mcp_backups.logs import REQUEST_ID
from mcp_backups.metrics import Prometheus
from mcp_backups.stdio import INVALID_REQUEST, PARSE_ERROR, Refusal, read_line
from mcp_backups.text import safe_text, visible

from .challenges import METADATA, Challenges, needed_for, refused
from .limits import LIMITS, Calls, Limits, Session, Sessions
from .listening import Place
from .oauth import Issuer, IssuerAwayError

log = logging.getLogger(__name__)

HEALTHY, READY, METRICS = "/healthz", "/readyz", "/metrics"
_READS = {"GET", "HEAD"}

_SECRET_HEADER, _SESSION_HEADER, _REQUEST_HEADER = b"x-mcp-backups-secret", b"mcp-session-id", b"x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUESTION = b'"elicitation/create"'
PATH = "/mcp"
_OF_ACCOUNT = re.compile(rf"{PATH}/([A-Za-z0-9_-]{{1,64}})")
MAX_BODY = 256 * 2**10


def path_of(account: str) -> str:
    """Where an account is served; of an empty name the only one."""
    return f"{PATH}/{account}" if account else PATH


class Paths(NamedTuple):
    """The accounts that are served.

    Attributes:
        users: The principals who may use each of several accounts; empty where there is one, for whoever is let in.
    """

    users: Mapping[str, Collection[str]] = {}

    @property
    def accounts(self) -> Collection[str]:
        """Their names; the only one's is empty."""
        return self.users or [""]

    def meant(self, path: str) -> str:
        """The path without a slash at its end, if it could be an account's; empty if it could not.

        That there is no such account must not show before it is known who asks.
        """
        path = path.removesuffix("/")
        could_be = _OF_ACCOUNT.fullmatch(path) if self.users else path == PATH
        return path if could_be else ""

    def open_to(self, principal: Principal) -> list[str]:
        """The accounts that somebody may use."""
        return [name for name in self.accounts if not self.users or principal.name in self.users[name]]


ONE_ACCOUNT = Paths()


class Gate:
    """Takes what clients with an access token send; refuses all else, above all what a web page makes a browser send.

    Args:
        app: What is behind it; each request's scope gets its principal.
        place: How requests reach it.
        tokens: What lets a client in.
        issuer: Whose tokens do too.
        limits: How much a client may ask at once.
        metrics: What is told at `/metrics`, which there is not without it.
        paths: Which accounts there are, and who may use them.

    Attributes:
        calls: A token for each request that came whole and is not answered yet, unless it waits for a person.
        is_stopping: Whether nothing new is begun any more.
    """

    def __init__(
        self,
        app: ASGIApp,
        place: Place,
        tokens: AccessTokens,
        issuer: Issuer | None = None,
        limits: Limits = LIMITS,
        metrics: Prometheus | None = None,
        paths: Paths = ONE_ACCOUNT,
    ) -> None:
        self._app, self._place, self._tokens, self._limits = app, place, tokens, limits
        self._challenges = Challenges(place.url, issuer)
        self._issuer, self._metrics, self._paths = issuer, metrics, paths
        self._calls, self._sessions = Calls(limits.calls), Sessions(limits)
        self.calls: set[object] = set()
        self.is_stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _only(scope, _REQUEST_HEADER)
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        REQUEST_ID.set(request_id)  # of this request's task, which ends with it

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (_REQUEST_HEADER, request_id.encode())]
            await send(message)

        await self._answer_to(scope, receive, sent)

    async def _answer_to(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self._refusal(scope) or self._public(scope)
        if answer is None:
            scope = {**scope, "path": scope["path"].removesuffix("/")}
            principal = await self._let_in(scope)
            if isinstance(principal, Principal):
                await self._serve(_mended(scope, principal), receive, send, principal)
                return
            answer = principal
        await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """What is said first, by what a browser cannot forge: so a page learns nothing of paths and tokens."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._place.names:
            log.warning("refused a request to host %s", safe_text(", ".join(hosts)))
            return refused(HTTPStatus.MISDIRECTED_REQUEST, "Invalid Host header")
        if not self._place.origins.issuperset(origin.lower() for origin in origins):
            log.warning("refused a request from origin %s", safe_text(", ".join(origins)))
            return refused(HTTPStatus.FORBIDDEN, "Invalid Origin header")
        return None

    def _public(self, scope: Scope) -> Response | None:
        """What is said whoever asks; None where that matters."""
        path = scope["path"]
        is_metrics = bool(self._metrics) and path == METRICS
        if is_metrics and scope["method"] not in _READS:
            return refused(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", Allow=", ".join(sorted(_READS)))
        if path in {HEALTHY, READY}:
            # Of this process alone: whether VPS.org or a database can be reached is no reason to end it.
            return PlainTextResponse("ok") if path == HEALTHY or not self.is_stopping else _busy("Stopping")
        if self._issuer and path.startswith(METADATA):
            meant = path.removeprefix(METADATA) or path_of("")
            return self._challenges.metadata(meant) if self._paths.meant(meant) == meant else _not_found()
        if not self._paths.meant(path) and not is_metrics:
            return _not_found()
        if self._place.secret and not _is_same(_only(scope, _SECRET_HEADER), self._place.secret):
            log.warning("refused a request that did not come through the proxy")
            return refused(HTTPStatus.FORBIDDEN, "Not through the proxy")
        return None

    async def _let_in(self, scope: Scope) -> Principal | Response:
        """Who sent a request, or why nobody is let in; to another's account as if there were none."""
        path, is_metrics = scope["path"], scope["path"] == METRICS
        served = {path_of(account) for account in self._paths.accounts}
        try:
            principal = await self._principal(scope, served if is_metrics else {path})
        except IssuerAwayError:
            return _busy("The authorization server cannot be reached")
        if principal is None:
            if self._tokens.is_unreadable and _values(scope, b"authorization"):
                return _busy("The access tokens of this server cannot be read; its operator must mend their file")
            return self._challenges.unauthorized(path, has_token=bool(_values(scope, b"authorization")))
        if not is_metrics and path not in map(path_of, self._paths.open_to(principal)):
            return _not_found()
        return principal if principal.may("read") else self._challenges.insufficient(path, principal, "read")

    async def _serve(self, scope: Scope, receive: Receive, send: Send, principal: Principal) -> None:
        if self._metrics and scope["path"] == METRICS:
            text, media_type = self._metrics.exposition(self._paths.open_to(principal))
            await Response(text, media_type=media_type)(scope, receive, send)
        elif scope["method"] == "POST":
            await self._take(scope, receive, send, principal)
        else:
            await self._pass(scope, receive, send, principal)

    async def _principal(self, scope: Scope, paths: Collection[str]) -> Principal | None:
        """Who sent a request, whose token is for one of these paths."""
        scheme, _, token = _only(scope, b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            return None
        principal = self._tokens.principal_of(token.strip())
        if principal or not self._issuer:
            return principal
        return await self._issuer.principal_of(token.strip(), [f"{self._place.url}{path}" for path in paths])

    async def _take(self, scope: Scope, receive: Receive, send: Send, principal: Principal) -> None:
        """Read a message, and pass it on."""
        session, call = Session(_only(scope, _SESSION_HEADER), principal.name, scope["path"]), object()
        with self._calls.one_more(principal.name) as has_room, self._sessions.using(session):
            read = await self._read(receive) if has_room else _too_many()
            if not isinstance(read, Response) and not principal.may(needed := needed_for(read)):
                # Who has a fixed role is told so by the tool: there is nothing that the client could do about it.
                read = read if principal.is_fixed else self._challenges.insufficient(scope["path"], principal, needed)
            if isinstance(read, Response):
                await read(scope, receive, send)
                return
            unread = [read]

            async def received() -> Message:
                return {"type": "http.request", "body": unread.pop(), "more_body": False} if unread else await receive()

            async def sent(message: Message) -> None:
                if _QUESTION in message.get("body", b""):
                    self.calls.discard(call)
                await send(message)

            self.calls.add(call)
            try:
                await self._pass(scope, received, sent, principal)
            finally:
                self.calls.discard(call)

    async def _read(self, receive: Receive) -> Response | bytes:
        with anyio.move_on_after(self._limits.body_seconds):
            body = await whole_body(receive)
            if self.is_stopping:
                return _busy("Stopping")
            # Of one that left before the end nobody reads the answer.
            return refused(HTTPStatus.BAD_REQUEST, "Incomplete body") if body is None else read_message(body)
        return refused(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time")

    async def _pass(self, scope: Scope, receive: Receive, send: Send, principal: Principal) -> None:
        session, begun = Session(_only(scope, _SESSION_HEADER), principal.name, scope["path"]), ""

        async def sent(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                if not session.id and (begun := dict(message["headers"]).get(_SESSION_HEADER, b"").decode()):
                    self._sessions.begin(session._replace(id=begun))
                elif scope["method"] == "DELETE" or message["status"] == HTTPStatus.NOT_FOUND:
                    self._sessions.end(session)
            await send(message)

        await self._app(scope, receive, sent)
        while begun and (surplus := self._sessions.too_many()):
            await self._end_session(scope, surplus)

    async def _end_session(self, scope: Scope, session: Session) -> None:
        """End a session as its client would."""
        self._sessions.end(session)
        headers = [(b"host", b"localhost"), (_SESSION_HEADER, session.id.encode())]
        scope = {**scope, "method": "DELETE", "path": session.path, "headers": headers}

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def unheard(_: Message) -> None:
            pass

        await self._app(_mended(scope, Principal(session.owner)), nothing, unheard)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def _only(scope: Scope, name: bytes) -> str:
    """A header that stands there once; of two nobody knows which counts."""
    values = _values(scope, name)
    return values[0] if len(values) == 1 else ""


def _is_same(given: str, expected: str) -> bool:
    """Whether they are the same, in a time that tells nothing."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _not_found() -> Response:
    return refused(HTTPStatus.NOT_FOUND, "Not Found")


def _busy(why: str) -> Response:
    return refused(HTTPStatus.SERVICE_UNAVAILABLE, why, **{"Retry-After": "1"})


def _too_many() -> Response:
    return refused(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests at once", **{"Retry-After": "1"})


def _mended(scope: Scope, principal: Principal) -> Scope:
    """The request as the SDK can take it, with who sent it; by that the SDK keeps each session to who began it."""
    user = AuthenticatedUser(AccessToken(token="", client_id=principal.name, scopes=[]))
    scope = {**scope, "raw_path": scope["path"].encode(), PRINCIPAL: principal, "user": user}
    # No stream is kept to be resumed, and the SDK fails where a client asks for that: it gets a new one.
    return {**scope, "headers": [each for each in scope["headers"] if each[0] != b"last-event-id"]}


async def whole_body(receive: Receive) -> bytes | None:
    """All that a client sends, and of what is too large a little more than is taken; None if it left before the end."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def read_message(body: bytes) -> Response | bytes:
    """A message for the SDK, or the answer to what is none: by its id, where that can be read, and in our words."""
    if len(body) > MAX_BODY:
        return Response("Request body too large", status_code=413)
    messages = read_line(body) or [Refusal("null", INVALID_REQUEST, "there is no message")]
    if isinstance(messages[0], dict):
        whole = json.dumps(messages[0]).encode()
        try:
            from_json(whole)
        except ValueError:  # by which the SDK reads it, and to a smaller depth than we do
            number = json.dumps(messages[0]["id"]) if "id" in messages[0] else None
            messages = [Refusal(number, PARSE_ERROR, "the message is nested too deeply")]
        else:
            return whole
    refusals = [each for each in messages if isinstance(each, Refusal)]
    for each in refusals:
        log.warning("refused a request: %s", visible(each.why))
    lines = [each._replace(id=each.id or "null").line.strip() for each in refusals]
    answer = lines[0] if len(lines) == 1 else b"[%s]" % b",".join(lines)
    return Response(answer, status_code=400, media_type="application/json")
