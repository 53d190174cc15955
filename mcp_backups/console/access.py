"""Who is let in: whoever opens the one-time address, or whom a login in front of the console names."""

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import NamedTuple, Protocol

from starlette.requests import Request

SECRET_HEADER = "x-mcp-backups-secret"  # noqa: S105 - its name, not its value
"""In which a proxy that is reached over TCP proves that it is the one that asks for a login."""

ONCE_SECONDS = 60.0
"""How long the one-time address holds."""

SESSION_SECONDS = 12 * 3600.0
"""How long a browser stays let in."""

_LOGIN = re.compile(r"[^\s,]{1,256}")


class Visitor(NamedTuple):
    """Somebody who was let in.

    Attributes:
        name: A system user, or a login.
        form_token: What every form that they send has to bring back.
    """

    name: str
    form_token: str


class Access(Protocol):
    """One way to be let in."""

    refusal: str
    """What somebody is told who is not."""

    def visitor(self, request: Request) -> Visitor | None:
        """Who sends a request; None for somebody who is not let in."""
        ...


class OneTimeAddress:
    """Lets in the browser that opens an address that only this user can read, once, and then knows it by a cookie.

    Args:
        user: Who started the console.
        port: What it listens on: a browser sends cookies to every port of a host, so their name tells them apart.
        ticks: Seconds, by a clock that nobody sets.
    """

    refusal = (
        "Nobody is let in without the console's one-time address. It holds once, and for 60 seconds. "
        "For a new one end the console with Ctrl-C, and start it again."
    )

    def __init__(self, user: str, port: int, ticks: Callable[[], float]) -> None:
        self.cookie = f"mcp-backups-console-{port}"
        self._port, self._user, self._ticks = port, user, ticks
        self._once = secrets.token_urlsafe(32)
        self._page: Path | None = None
        self._once_until = ticks() + ONCE_SECONDS
        self._session, self._session_until = "", 0.0
        self._tokens = _FormTokens()

    @contextmanager
    def written(self, folder: Path, host: str) -> Iterator[Path]:
        """The one-time address in a page that only this user can read, and which leads a browser there.

        On a command line every user of the machine could see it, and take it first.

        Args:
            folder: Where to write it; made, for its owner only, when it is not there.
            host: Where the console is reached, without the port.
        """
        address = escape(f"http://{host}:{self._port}/enter?once={self._once}")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        page = folder / f"console-{self._port}.html"
        page.unlink(missing_ok=True)
        with os.fdopen(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(
                '<!doctype html><html lang="en"><meta charset="utf-8"><title>mcp-backups</title>'
                f'<meta http-equiv="refresh" content="0; url={address}">'
                f'<p><a href="{address}">To the console</a></p></html>\n'
            )
        self._page = page
        try:
            yield page
        finally:
            page.unlink(missing_ok=True)

    def enter(self, once: str) -> str:
        """What to set as the cookie for whoever brings the address; empty if it does not hold, or not any more."""
        if self._ticks() >= self._once_until or not _same(once, self._once):
            return ""
        self._once_until = 0.0
        if self._page:
            self._page.unlink(missing_ok=True)
        self._session, self._session_until = secrets.token_urlsafe(32), self._ticks() + SESSION_SECONDS
        return self._session

    def visitor(self, request: Request) -> Visitor | None:
        if self._ticks() >= self._session_until or not _same(request.cookies.get(self.cookie, ""), self._session):
            return None
        return Visitor(self._user, self._tokens.of(self._session))


class Login:
    """Lets in whom the login in front of it names in a header, never by the address that a request comes from.

    Args:
        header: Which header that is.
        secret: What the proxy sends too; empty where it comes through a Unix socket, whose file says who may.
    """

    refusal = "The login in front of the console names nobody, or the request did not come through it."

    def __init__(self, header: str, secret: str = "") -> None:
        self._header, self._secret = header, secret
        self._tokens = _FormTokens()

    def visitor(self, request: Request) -> Visitor | None:
        if self._secret and not _same(_only(request, SECRET_HEADER), self._secret):
            return None
        name = _as_utf8(_only(request, self._header))
        return Visitor(name, self._tokens.of(name)) if _LOGIN.fullmatch(name) and name.isprintable() else None


class _FormTokens:
    """Form tokens, each bound to one visitor and to this process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def of(self, visitor: str) -> str:
        return hmac.digest(self._key, visitor.encode(), "sha256").hex()


def _only(request: Request, header: str) -> str:
    """A header that stands there once; of two nobody knows which the proxy wrote."""
    values = request.headers.getlist(header)
    return values[0] if len(values) == 1 else ""


def _as_utf8(value: str) -> str:
    """A header as logins send it; empty for one that is spelt otherwise, which would name somebody else.

    It is read as Latin-1, as HTTP has it, in which `é` comes out as two letters: nobody would be known again by it.
    """
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return ""


def _same(given: str, expected: str) -> bool:
    """Whether they are the same, in a time that tells nothing; nothing is the same as an empty one."""
    digests = (hashlib.sha256(each.encode("utf-8", "surrogatepass")).digest() for each in (given, expected))
    return bool(expected) and hmac.compare_digest(*digests)
