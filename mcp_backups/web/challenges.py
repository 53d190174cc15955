"""What a client is told that lacks a token or a right: where to get them (RFC 6750, RFC 9728)."""

import json
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from mcp_backups.access import ROLES, Principal, Role
from mcp_backups.server import role_for

from .oauth import SCOPES, Issuer
from .refusals import refused

_WELL_KNOWN = "/.well-known/oauth-protected-resource"
METADATA = frozenset({_WELL_KNOWN, f"{_WELL_KNOWN}/mcp"})
"""Where clients look for the authorization server."""


class Challenges:
    """What clients are told.

    Args:
        resource: The address that tokens are for.
        issuer: Where clients can log in; None where nobody can.
    """

    def __init__(self, resource: str, issuer: Issuer | None) -> None:
        self._resource, self._issuer = resource, issuer
        self._where = f'resource_metadata="{resource.removesuffix("/mcp")}{_WELL_KNOWN}/mcp"'

    def metadata(self) -> Response:
        """Who issues tokens, and with which scopes."""
        return JSONResponse(
            {
                "resource": self._resource,
                "authorization_servers": [self._issuer.name] if self._issuer else [],
                "scopes_supported": list(SCOPES.values()),
                "bearer_methods_supported": ["header"],
            }
        )

    def unauthorized(self, *, has_token: bool) -> Response:
        """There is no token that counts."""
        if self._issuer is None:
            # No metadata: there is nobody to log in with.
            why = "An access token is needed: `mcp-backups config CLIENT --http` tells how a client sends it."
            return refused(HTTPStatus.UNAUTHORIZED, why, **{"WWW-Authenticate": "Bearer"})
        error = 'error="invalid_token", ' if has_token else ""
        challenge = f'Bearer {error}scope="{SCOPES["read"]}", {self._where}'
        return refused(HTTPStatus.UNAUTHORIZED, "An access token is needed.", **{"WWW-Authenticate": challenge})

    def insufficient(self, principal: Principal, needed: Role) -> Response:
        """The token has not the right; names those that it needs, beside what it has, lest that be lost."""
        scopes = " ".join(SCOPES[role] for role in ROLES if role in {"read", principal.role, needed})
        challenge = f'Bearer error="insufficient_scope", scope="{scopes}", {self._where}'
        return refused(HTTPStatus.FORBIDDEN, f"This needs {scopes}.", **{"WWW-Authenticate": challenge})


def needed_for(message: bytes) -> Role:
    """Which right a message needs that was read before."""
    read = json.loads(message)
    params = read.get("params") if read.get("method") == "tools/call" else None
    name = params.get("name") if isinstance(params, dict) else None
    return role_for(name) if isinstance(name, str) else "read"
