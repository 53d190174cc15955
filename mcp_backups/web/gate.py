"""The gate before everything that is served over HTTP: whose requests are taken, and how they are passed on."""

import logging
from http import HTTPStatus

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_backups.access import AccessTokens
from mcp_backups.text import safe_text

log = logging.getLogger(__name__)

PATH = "/mcp"

_QUESTION = b'"elicitation/create"'


class Gate:
    """Takes what clients with an access token send; refuses all else, above all what a web page makes a browser send.

    Args:
        app: What is behind it.
        names: What the Host header may be.
        tokens: What lets a client in.

    Attributes:
        calls: A token for each request that came whole and is not answered yet, unless it waits for a person.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str], tokens: AccessTokens) -> None:
        self._app, self._names, self._tokens = app, names, tokens
        self._origins = frozenset(f"http://{name}" for name in names)
        self.calls: set[object] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            await refusal(scope, receive, send)
        else:
            await self._pass(_mended(scope), receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        # First what a browser cannot forge, so that a page learns nothing of paths and tokens.
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._names:
            log.warning("refused a request to host %s", safe_text(", ".join(hosts)))
            return _refused(HTTPStatus.MISDIRECTED_REQUEST, "Invalid Host header")
        if not self._origins.issuperset(origin.lower() for origin in origins):
            log.warning("refused a request from origin %s", safe_text(", ".join(origins)))
            return _refused(HTTPStatus.FORBIDDEN, "Invalid Origin header")
        if scope["path"] not in {PATH, f"{PATH}/"}:
            return _refused(HTTPStatus.NOT_FOUND, "Not Found")
        return None if self._is_let_in(scope) else _unauthorized()

    def _is_let_in(self, scope: Scope) -> bool:
        given = _values(scope, b"authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        return scheme.lower() == "bearer" and self._tokens.admits(token.strip())

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = object()

        async def received() -> Message:
            message = await receive()
            if scope["method"] == "POST" and message["type"] == "http.request" and not message.get("more_body"):
                self.calls.add(call)
            return message

        async def sent(message: Message) -> None:
            if _QUESTION in message.get("body", b""):
                self.calls.discard(call)
            await send(message)

        try:
            await self._app(scope, received, sent)
        finally:
            self.calls.discard(call)


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def _refused(status: HTTPStatus, why: str, **headers: str) -> Response:
    # What else would come on this connection is the rest of a body that nobody reads.
    return PlainTextResponse(why, status, {"Connection": "close"} | headers)


def _unauthorized() -> Response:
    # No metadata: there is nobody to log in with.
    why = "An access token is needed: `mcp-backups config CLIENT --http` tells how a client sends it."
    return _refused(HTTPStatus.UNAUTHORIZED, why, **{"WWW-Authenticate": "Bearer"})


def _mended(scope: Scope) -> Scope:
    """The request as the SDK can take it."""
    if scope["path"] == f"{PATH}/":
        scope = {**scope, "path": PATH, "raw_path": PATH.encode()}
    # No stream is kept to be resumed, and the SDK fails where a client asks for that: it gets a new one.
    return {**scope, "headers": [each for each in scope["headers"] if each[0] != b"last-event-id"]}
