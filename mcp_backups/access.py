"""Who may call over HTTP, and do what: access tokens, their roles, and the principals that they stand for."""

import hmac
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mcp_backups.errors import ConfigError
from mcp_backups.private import is_kept_private, mode_of, write_whole
from mcp_backups.text import seen, visible

log = logging.getLogger(__name__)

Role = Literal["read", "write", "destroy"]
"""What a principal may do: look; make backups too; delete, prune and restore too."""

ROLES: tuple[Role, ...] = get_args(Role)

PRINCIPAL = "mcp_backups.principal"
"""Under which a request's ASGI scope has the principal that sent it."""

LOCAL = "local"
"""The name of this machine's user, who can read the token that is made at the first start."""

_LOCAL_FILE, _FILE, _LOCK = "access.token", "access.json", "access.lock"
_LOCK_SECONDS = 10.0
_PREFIX = "mcpb_"
"""By it a scanner for secrets finds one that was put where it should not be."""

_TOKEN = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Principal:
    """Who a request is from.

    Attributes:
        name: Of an access token, or issuer and subject; empty for who started the process.
        role: None for no right at all.
        is_fixed: Whether the role stays as it is. Who logs in may get another one.
    """

    name: str = ""
    role: Role | None = "destroy"
    is_fixed: bool = True

    def may(self, role: Role) -> bool:
        """Whether that is within their role."""
        return self.role is not None and ROLES.index(role) <= ROLES.index(self.role)


def is_same_person(approver: str, principal: str) -> bool:
    """Whether an approver, by the name of their login or system user, is a principal.

    Names are compared as people see them, and in any case of letters. Of who logs in over HTTP the issuer counts for
    nothing: the login in front of the console tells none.
    """
    name, *known = (seen(each).casefold() for each in (approver, principal, principal.partition("#")[2]))
    return bool(name) and name in known


def caller(request: Any) -> Principal:
    """Who sent a request; without one, over standard input and output, that is who started the process.

    Raises:
        KeyError: It came past what lets clients in.
    """
    principal: Principal = Principal() if request is None else request.scope[PRINCIPAL]
    return principal


class KeptToken(BaseModel):
    """What is kept of an access token: never the token itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str = Field(pattern=rf"^{_NAME.pattern}$")
    role: Role
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime


_Kept = TypeAdapter(list[KeptToken], config=ConfigDict(defer_build=True))  # over HTTP alone any are read


def local_token_file(folder: Path) -> Path:
    """Where the access token of this machine's user is kept, in the state folder."""
    return folder / _LOCAL_FILE


def local_token(folder: Path) -> str:
    """The access token of this machine's user, made at its first use; all processes on a state folder share it.

    Raises:
        ConfigError: The file that should hold it does not, or others may read it.
        OSError, TimeoutError: It cannot be read or kept.
    """
    path = local_token_file(folder)
    if not path.exists():
        with _locked(folder):
            if not path.exists():
                write_whole(path, _new_token().encode() + b"\n")
    token = _read(path, "access token").decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise ConfigError(
            f"The file of the access token, {visible(str(path))}, does not hold one: remove it, and a new one is made."
        )
    return token


def kept_tokens(folder: Path) -> list[KeptToken]:
    """The access tokens that were added, by name.

    Raises:
        ConfigError: The file that holds them is damaged, or others may change or read it.
        OSError: It cannot be read.
    """
    path = folder / _FILE
    if not path.exists():
        return []
    try:
        return _Kept.validate_json(_read(path, "access tokens"))
    except ValidationError:
        raise ConfigError(f"The file of the access tokens, {visible(str(path))}, is damaged.") from None


def add_token(folder: Path, name: str, role: Role, now: datetime) -> str:
    """Add an access token, which is only told now.

    Raises:
        ConfigError: The name cannot be one, or stands for another token; or as `kept_tokens`.
        OSError, TimeoutError: It cannot be kept.
    """
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise ConfigError(
            f"A name has up to 64 letters, digits and . _ @ -, begins with a letter or digit, and is not {LOCAL!r}."
        )
    token = _new_token()
    with _locked(folder):
        kept = kept_tokens(folder)
        if any(each.name == name for each in kept):
            raise ConfigError(f"There is an access token {name!r} already; remove it first.")
        _write(folder, [*kept, KeptToken(name=name, role=role, sha256=_digest(token), created=now)])
    return token


def remove_token(folder: Path, name: str) -> None:
    """Remove an access token: servers that run let nobody in with it any more.

    Raises:
        ConfigError: There is none of that name; or as `kept_tokens`.
        OSError, TimeoutError: The others cannot be kept.
    """
    with _locked(folder):
        kept = kept_tokens(folder)
        rest = [each for each in kept if each.name != name]
        if rest == kept:
            raise ConfigError(f"There is no access token {visible(name)!r}; `mcp-backups tokens list` tells which are.")
        _write(folder, rest)


class AccessTokens:
    """The access tokens of an installation; what is added or removed counts at the next request.

    Attributes:
        is_unreadable: Whether those that were added could not be read last, so that nobody knows whose a token is.

    Args:
        folder: The state folder.
        local: Whether that of this machine's user counts too.

    Raises:
        ConfigError, OSError, TimeoutError: As `local_token` and `kept_tokens`.
    """

    def __init__(self, folder: Path, *, local: bool) -> None:
        self._path = folder / _FILE
        self._local = [(_digest(local_token(folder)), Principal(LOCAL))] if local else []
        self._state: object = ()  # of no file that was read, so that one that is gone by the first request is missed
        self.is_unreadable = False
        self._added = _principals(kept_tokens(folder))

    @property
    def is_empty(self) -> bool:
        return not self._local and not self._added

    def has(self, name: str) -> bool:
        """Whether somebody of that name could be let in."""
        return any(principal.name == name for _, principal in (*self._local, *self._added))

    def principal_of(self, token: str) -> Principal | None:
        """Whom a token stands for, None for nobody; how long that takes tells nothing about the tokens."""
        self._read_again()
        given, found = _digest(token), None
        for known, principal in (*self._local, *self._added):
            if hmac.compare_digest(given, known):
                found = principal
        return found

    def _read_again(self) -> None:
        try:
            status = self._path.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:  # there is none, or it cannot be reached: then nobody is let in
            state = None
        if state == self._state:
            return
        self._state, self.is_unreadable = state, False
        try:
            self._added = _principals(kept_tokens(self._path.parent))
        except (ConfigError, OSError) as error:
            log.error("%s Nobody is let in with one.", error)  # noqa: TRY400 - there is nothing to trace
            self._added, self.is_unreadable = [], True


def _principals(kept: list[KeptToken]) -> list[tuple[str, Principal]]:
    return [(each.sha256, Principal(each.name, each.role)) for each in kept]


def _new_token() -> str:
    """256 random bits: a plain hash of them cannot be guessed back."""
    return _PREFIX + secrets.token_urlsafe(32)


def _digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def _read(path: Path, what: str) -> bytes:
    if not is_kept_private(path, mode_of(path, f"The file of the {what}, {visible(str(path))},")):
        raise ConfigError(
            f"The file of the {what}, {visible(str(path))}, can be read by others: remove it, or make it private"
            " (chmod 600) if nobody else has read it."
        )
    return path.read_bytes()


def _write(folder: Path, kept: list[KeptToken]) -> None:
    write_whole(folder / _FILE, _Kept.dump_json(sorted(kept, key=lambda each: each.name), indent=1) + b"\n")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    from filelock import FileLock  # noqa: PLC0415 - needed when a token is made or removed

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(folder / _LOCK, timeout=_LOCK_SECONDS, mode=0o600):
        yield
