"""OAuth 2.1 as a resource server: whose tokens of one issuer let a client in, and with which rights."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import httpx2
import jwt

from mcp_backups.access import ROLES, Principal, Role

log = logging.getLogger(__name__)

SCOPES: dict[Role, str] = {role: f"backups:{role}" for role in ROLES}

_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Those by which nobody can sign who can only check."""

_LEEWAY_SECONDS = 10
_KEYS_LAST = 600.0
"""How long keys are relied on: one that the issuer withdrew counts no longer than that."""
_AGAIN_AFTER = 60.0
"""How soon keys are fetched again for one that is not among them: any stranger can name one."""
_AGAIN_AFTER_FAILURE = 5.0
_FETCH_SECONDS = 10.0
"""How long all of that may take: whoever shows a token waits for it."""
_MOST_BYTES = 2**20
_MOST_NAME = 255


class IssuerAwayError(Exception):
    """The issuer's keys cannot be had, so it is not known whether a token counts."""


class Issuer:
    """The one issuer whose access tokens count.

    Args:
        issuer: As it names itself, exactly.
        audience: For whom its tokens must be; empty for the address that each is used at.
        principal_claim: Which claim tells who somebody is.
        ticks: Seconds, by a clock that nobody sets.
    """

    def __init__(
        self, issuer: str, audience: str, principal_claim: str, ticks: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self._audience, self._claim, self._ticks = issuer, audience, principal_claim, ticks
        self._keys: list[Mapping[str, Any]] = []
        self._fetched: float | None = None
        self._not_before = -_AGAIN_AFTER
        self._fetching = anyio.Lock()

    async def principal_of(self, token: str, addresses: Sequence[str] = ()) -> Principal | None:
        """Whom a token stands for, None for nobody.

        Args:
            token: As a client sent it.
            addresses: At which of these it is used.

        Raises:
            IssuerAwayError: That cannot be told now.
        """
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
                return None
            key = await self._key(header.get("kid"), algorithm)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience or addresses,
                issuer=self.name,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", self._claim]},
            )
        except jwt.PyJWTError as invalid:
            log.info("refused an access token: %s", type(invalid).__name__)
            return None
        subject = claims[self._claim]
        if not isinstance(subject, str) or not subject.isprintable() or not 0 < len(subject) <= _MOST_NAME:
            return None
        return Principal(self._principal(subject), role_of(claims), is_fixed=False)

    def names(self, principal: str) -> bool:
        """Whether that could be the name of somebody who logs in here."""
        return principal.startswith(self._principal("")) and principal != self._principal("")

    def _principal(self, subject: str) -> str:
        return f"{self.name}#{subject}"

    async def _key(self, key_id: object, algorithm: str) -> jwt.PyJWK | None:
        if self._fetched is None or self._ticks() - self._fetched > _KEYS_LAST:
            await self._fetch()
        found = self._named(key_id, algorithm)
        if found is None:
            await self._fetch()
            found = self._named(key_id, algorithm)
        return found

    def _named(self, key_id: object, algorithm: str) -> jwt.PyJWK | None:
        fit = [each for each in self._keys if _fits(each, algorithm) and (key_id is None or key_id == each.get("kid"))]
        if len(fit) != 1:  # without a name only the one that there is can be meant
            return None
        try:
            return jwt.PyJWK(dict(fit[0]), algorithm)
        except jwt.PyJWTError:
            return None

    async def _fetch(self) -> None:
        """Get the issuer's keys, at most as often as is allowed; who comes meanwhile waits for them too.

        Raises:
            IssuerAwayError: They cannot be had, and those that were are too old.
        """
        async with self._fetching:
            now = self._ticks()
            is_old = self._fetched is None or now - self._fetched > _KEYS_LAST
            if now < self._not_before:
                if is_old:
                    raise IssuerAwayError
                return
            self._not_before = now + _AGAIN_AFTER_FAILURE
            try:
                self._keys = await self._asked_for_keys()
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError) as error:
                log.warning("the issuer's keys cannot be had: %s", type(error).__name__)
                if is_old:
                    raise IssuerAwayError from None
                return
            self._fetched, self._not_before = now, now + _AGAIN_AFTER

    async def _asked_for_keys(self) -> list[Mapping[str, Any]]:
        with anyio.fail_after(_FETCH_SECONDS):  # httpx2 counts each read of an answer anew
            async with httpx2.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False, trust_env=False) as http:
                keys = (await _json(http, await self._keys_url(http)))["keys"]
        if not isinstance(keys, list):
            raise TypeError("no list of keys")
        return [each for each in keys if isinstance(each, dict)]

    async def _keys_url(self, http: httpx2.AsyncClient) -> str:
        """Where the keys are, by the issuer's metadata: of OAuth (RFC 8414), or of OpenID Connect."""
        url = httpx2.URL(self.name)
        path = url.path.rstrip("/")
        oauth = url.copy_with(path=f"/.well-known/oauth-authorization-server{path}")
        openid = url.copy_with(path=f"{path}/.well-known/openid-configuration")
        try:
            metadata = await _json(http, str(oauth))
        except httpx2.HTTPStatusError:
            metadata = await _json(http, str(openid))
        keys = metadata["jwks_uri"]
        if metadata["issuer"] != self.name or not str(keys).startswith(f"{url.scheme}://"):
            raise ValueError("the metadata is another issuer's")
        return str(keys)


async def _json(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    async with http.stream("GET", url) as response:
        if not response.is_success:
            raise httpx2.HTTPStatusError("no success", request=response.request, response=response)
        content = bytearray()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > _MOST_BYTES:
                raise ValueError("too large")
    document = httpx2.Response(200, content=bytes(content)).json()
    if not isinstance(document, dict):
        raise TypeError("no object")
    return document


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a key is for signatures by that algorithm, and is none that signs."""
    return key.get("use", "sig") == "sig" and key.get("alg", algorithm) == algorithm and key.get("kty") != "oct"


def role_of(claims: Mapping[str, Any]) -> Role | None:
    """The greatest right among a token's scopes, wherever issuers put these; None if there is none of ours."""
    told: list[object] = []
    for name in ("scope", "scp"):
        value = claims.get(name, "")
        told.extend(value.split() if isinstance(value, str) else value if isinstance(value, list) else ())
    return next((role for role in reversed(ROLES) if SCOPES[role] in told), None)
