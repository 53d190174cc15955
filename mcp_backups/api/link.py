"""The connections to VPS.org: the one place that puts the VPS.org token on the wire, and only to the address set."""

import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import httpx2
from pydantic import SecretStr

from mcp_backups import __version__
from mcp_backups.errors import AuthFailedError, ConfigError

from .call import ApiCall, ResultT

_KEPT_ALIVE = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)
# A kept connection may be closed by the other side just as a write goes out, and nobody could tell whether it arrived.
_FRESH = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
_TOKEN_ROUNDS = 10_000
"""4 ms once in a process; tokens are long and random, so that there is little to guess."""
_NAME_ROUNDS = 200_000
"""80 ms once in a process: an e-mail address can be guessed."""


class Reaching(Protocol):
    """The settings that say how VPS.org is reached."""

    @property
    def vps_api_url(self) -> str: ...
    @property
    def vps_api_token(self) -> SecretStr | None: ...
    @property
    def vps_api_ca_file(self) -> Path | None: ...
    @property
    def vps_api_proxy(self) -> SecretStr | None: ...


@dataclass(frozen=True)
class Network:
    """The way out of this network, as the operator set it; the environment's usual variables are not followed.

    Attributes:
        ca_file: Certificates in PEM form that are trusted beside the system's.
        proxy: Address of an HTTP proxy, with user name and password if it wants them. It serves https alone, by a
            tunnel: what is sent to plain http, which is only allowed on this machine, it never sees.
    """

    ca_file: Path | None = None
    proxy: SecretStr | None = None

    @classmethod
    def of(cls, settings: Reaching) -> Self:
        """As the settings name it."""
        return cls(settings.vps_api_ca_file, settings.vps_api_proxy)

    def has_proxy_for(self, url: str) -> bool:
        return self.proxy is not None and _is_https(url)

    def trust(self, url: str) -> ssl.SSLContext:
        """What certificates are checked by; nothing for plain http, which spares the time."""
        if not _is_https(url):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusted = httpx2.create_ssl_context(trust_env=False)
        if self.ca_file:
            trusted.load_verify_locations(self.ca_file)
        return trusted

    def transport(self, url: str, trusted: ssl.SSLContext, limits: httpx2.Limits) -> httpx2.AsyncHTTPTransport:
        """Connections to an address, without httpx2's client: nothing follows redirects or logs whole addresses.

        Args:
            url: The address.
            trusted: See `trust`.
            limits: How many connections there are, and are kept.
        """
        proxy = None
        if self.proxy and _is_https(url):
            address = httpx2.URL(self.proxy.get_secret_value())
            proxy = httpx2.Proxy(address, ssl_context=trusted if address.scheme == "https" else None)
        return httpx2.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=limits, proxy=proxy, retries=0)


@dataclass
class Progress:
    """How far an attempt has come, told by httpcore's tracing.

    Anything counts as sent but a connection being made, and what is said to a proxy, by a CONNECT, until its tunnel
    stands.
    """

    sent: bool = True
    _tunnel_is_open: bool = True

    def begin(self) -> None:
        """Another attempt, which counts as sent until tracing says that it is still connecting."""
        self.sent = self._tunnel_is_open = True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.started" and info["request"].method == b"CONNECT":
            self._tunnel_is_open = False
        elif event == "proxy.start_tls.complete":
            self._tunnel_is_open = True
        self.sent = self._tunnel_is_open and not event.startswith("connection.")


class Link:
    """Sends requests over kept connections (reads) or fresh ones (writes).

    It uses httpx2's transport without its client: there are no redirects, cookies, environment proxies, default
    headers or retries to switch off, and no log of whole addresses. TLS and pools are made when first used.

    Args:
        base_url: The API's address, with or without a slash at the end.
        token: None or empty if there is none; then nothing is ever sent.
        network: The way there.
        connect_seconds: How long making a connection may take.
    """

    def __init__(self, base_url: str, token: SecretStr | None, network: Network, connect_seconds: float) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token or SecretStr("")
        self._network = network
        self._timeout = httpx2.Timeout(None, connect=connect_seconds).as_dict()
        self._transports: dict[bool, httpx2.AsyncHTTPTransport] = {}

    @property
    def has_proxy(self) -> bool:
        return self._network.has_proxy_for(self._base_url)

    @cached_property
    def credential(self) -> str:
        """Which token at which address this is: 16 hex digits that tell neither, slow to make lest one be guessed."""
        return self._fingerprint(self._token.get_secret_value(), _TOKEN_ROUNDS)

    @cached_property
    def address(self) -> str:
        """Which address this is, in 16 hex digits."""
        return self._fingerprint("", 1)

    def account(self, name: str) -> str:
        """Which account at which address that name is: 16 hex digits that tell neither."""
        return self._fingerprint(name, _NAME_ROUNDS)

    def _fingerprint(self, secret: str, rounds: int) -> str:
        raw, address = secret.encode(errors="replace"), self._base_url.encode()
        return hashlib.pbkdf2_hmac("sha256", raw, address, rounds, dklen=8).hex()

    async def send(self, call: ApiCall[ResultT], progress: Progress) -> httpx2.Response:
        """The answer as soon as its header is in; the caller reads and closes it.

        Raises:
            httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError: See `classify`.
        """
        request = self._request(call, progress)
        return await self._transport(write=call.write).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()
        self._transports.clear()

    def check_token(self) -> None:
        """That there is a token which can be sent.

        Raises:
            AuthFailedError: There is none.
            ConfigError: It holds characters that a header cannot.
        """
        token = self._token.get_secret_value()
        if not token:
            raise AuthFailedError("No token for VPS.org is set.")
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise ConfigError("The token for VPS.org holds characters that cannot be part of a token.")

    def without_token(self, words: str) -> str:
        """What VPS.org said, without the token that it may have quoted, and without any other."""
        token = self._token.get_secret_value()
        return re.sub(r"vps_[\w-]+", "vps_...", words.replace(token, "vps_...") if token else words)

    def url(self, call: ApiCall[ResultT]) -> str:
        """Where a request goes; nothing in it is a secret."""
        return self._base_url + call.path + (f"?{call.query}" if call.query else "")

    def _request(self, call: ApiCall[ResultT], progress: Progress) -> httpx2.Request:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {self._token.get_secret_value()}",
            "Cache-Control": "no-cache",
            "User-Agent": f"mcp-backups/{__version__}",
        }
        content = None
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(call.body).encode()
        return httpx2.Request(
            call.method,
            self.url(call),
            headers=headers,
            content=content,
            extensions={"timeout": self._timeout, "trace": progress.trace},
        )

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return self._network.trust(self._base_url)

    def _transport(self, *, write: bool) -> httpx2.AsyncHTTPTransport:
        if write not in self._transports:
            limits = _FRESH if write else _KEPT_ALIVE
            self._transports[write] = self._network.transport(self._base_url, self._trusted, limits)
        return self._transports[write]


def _is_https(url: str) -> bool:
    return url.lower().startswith("https:")
