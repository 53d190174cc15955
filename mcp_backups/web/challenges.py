"""What a client is told that is not let in.

One that lacks a token or a right is told where to get them (RFC 6750, RFC 9728).
"""

import json
from http import HTTPStatus

from starlette.responses import JSONResponse, PlainTextResponse, Response

from mcp_backups.access import ROLES, Principal, Role
from mcp_backups.server import role_for

from .oauth import SCOPES, Issuer

METADATA = "/.well-known/oauth-protected-resource"
"""Before the path of a server, where clients look for its authorization server."""


def refused(status: HTTPStatus, why: str, **headers: str) -> Response:
    """A refusal in a few words; the connection ends with it."""
    # What else would come on this connection is the rest of a body that nobody reads.
    return PlainTextResponse(why, status, {"Connection": "close"} | headers)


class Challenges:
    """What clients are told.

    Args:
        url: What clients put before a path.
        issuer: Where clients can log in; None where nobody can.
    """

    def __init__(self, url: str, issuer: Issuer | None) -> None:
        self._url, self._issuer = url, issuer

    def metadata(self, path: str) -> Response:
        """Who issues tokens for the server at a path, and with which scopes."""
        return JSONResponse(
            {
                "resource": f"{self._url}{path}",
                "authorization_servers": [self._issuer.name] if self._issuer else [],
                "scopes_supported": list(SCOPES.values()),
                "bearer_methods_supported": ["header"],
            }
        )

    def unauthorized(self, path: str, *, has_token: bool) -> Response:
        """There is no token that counts at a path."""
        if self._issuer is None:
            # No metadata: there is nobody to log in with.
            why = "An access token is needed: `mcp-backups config CLIENT --http` tells how a client sends it."
            return refused(HTTPStatus.UNAUTHORIZED, why, **{"WWW-Authenticate": "Bearer"})
        error = 'error="invalid_token", ' if has_token else ""
        challenge = f'Bearer {error}scope="{SCOPES["read"]}", {self._where(path)}'
        return refused(HTTPStatus.UNAUTHORIZED, "An access token is needed.", **{"WWW-Authenticate": challenge})

    def insufficient(self, path: str, principal: Principal, needed: Role) -> Response:
        """The token has not the right; names those that it needs, beside what it has, lest that be lost."""
        scopes = " ".join(SCOPES[role] for role in ROLES if role in {"read", principal.role, needed})
        challenge = f'Bearer error="insufficient_scope", scope="{scopes}", {self._where(path)}'
        return refused(HTTPStatus.FORBIDDEN, f"This needs {scopes}.", **{"WWW-Authenticate": challenge})

    def _where(self, path: str) -> str:
        return f'resource_metadata="{self._url}{METADATA}{path}"'


def needed_for(message: bytes) -> Role:
    """Which right a message needs that was read before."""
    read = json.loads(message)
    params = read.get("params") if read.get("method") == "tools/call" else None
    name = params.get("name") if isinstance(params, dict) else None
    return role_for(name) if isinstance(name, str) else "read"
