"""What every request has to pass, and every answer carries: addresses, origins, limits, and what a page may load."""

import logging
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_backups.text import safe_text

log = logging.getLogger(__name__)

_MOST_BYTES = 16 * 2**10
_MOST_FIELDS = 20
_FORM = "application/x-www-form-urlencoded"

_CARRIED = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Without any referrer a browser would not tell the origin of a form either.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class HostGate:
    """Takes what a browser sends that was led here by its user, and nothing that another page makes it send.

    Args:
        app: What is behind it.
        origins: Where the console is reached, such as `http://127.0.0.1:8766`; in small letters.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        self._app, self._origins = app, origins
        self._hosts = frozenset(origin.partition("://")[2] for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def carry(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_CARRIED)
            await send(message)

        await (self._refusal(scope) or self._app)(scope, receive, carry)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        hosts, origins = ([value.strip().lower() for value in headers.getlist(name)] for name in ("host", "origin"))
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            log.warning("refused a request to host %s", safe_text(", ".join(hosts)))
            return PlainTextResponse("This is not the console's address.\n", 421)
        is_told = len(origins) == 1 if scope["method"] not in {"GET", "HEAD"} else not origins[1:]
        if not is_told or not self._origins.issuperset(origins):
            log.warning("refused a request from origin %s", safe_text(", ".join(origins)))
            return PlainTextResponse("This request comes from another page than the console's.\n", 403)
        return None


async def read_form(request: Request, form_token: str) -> Mapping[str, str]:
    """The fields of a form that was sent from one of our pages.

    Args:
        request: The request that brings it.
        form_token: What it must hold as `form_token`.

    Raises:
        HTTPException: It is none, is too large, or was not made for this visitor.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(415, "This is no form.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "This form is too large.")
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise HTTPException(400, "This form cannot be read.") from None
    if not secrets.compare_digest(fields.get("form_token", "").encode(), form_token.encode()):
        raise HTTPException(403, "This form is out of date. Load the page again, then decide.")
    return fields
