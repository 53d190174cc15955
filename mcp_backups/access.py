"""Access tokens: what a client shows to be let in over HTTP."""

import hmac
import os
import re
import secrets
import stat
from hashlib import sha256
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.private import is_kept_private, write_whole
from mcp_backups.text import visible

_FILE, _LOCK = "access.token", "access.lock"
_LOCK_SECONDS = 10.0
_PREFIX = "mcpb_"
"""By it a scanner for secrets finds one that was put where it should not be."""

_TOKEN = re.compile(_PREFIX + r"[A-Za-z0-9_-]{43}")


def new_token() -> str:
    """A fresh access token: 256 random bits, so that a plain hash of it cannot be guessed back."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is kept of an access token, and compared."""
    return sha256(token.encode()).hexdigest()


def local_token_file(folder: Path) -> Path:
    """Where the access token of this machine's user is kept.

    Args:
        folder: The state folder.
    """
    return folder / _FILE


def local_token(folder: Path) -> str:
    """The access token of this machine's user, made at its first use; all processes on a state folder share it.

    Raises:
        ConfigError: The file that should hold it does not, or others may read it.
        OSError, TimeoutError: It cannot be read or kept.
    """
    path = local_token_file(folder)
    if not path.exists():
        from filelock import FileLock  # noqa: PLC0415 - needed once in the life of an installation

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / _LOCK, timeout=_LOCK_SECONDS, mode=0o600):
            if not path.exists():
                write_whole(path, new_token().encode() + b"\n")
    token = path.read_text(encoding="ascii", errors="replace").strip()
    mode = 0 if os.name == "nt" else stat.S_IMODE(path.stat().st_mode)
    fault = "does not hold one" if not _TOKEN.fullmatch(token) else ""
    fault = fault or ("can be read by others" if not is_kept_private(path, mode) else "")
    if fault:
        raise ConfigError(
            f"The file of the access token, {visible(str(path))}, {fault}: remove it, and a new one is made."
        )
    return token


class AccessTokens:
    """The access tokens that let a client in.

    Args:
        folder: The state folder.

    Raises:
        ConfigError, OSError, TimeoutError: As `local_token`.
    """

    def __init__(self, folder: Path) -> None:
        self._local = digest(local_token(folder))
        self._folder = folder

    @property
    def told(self) -> str:
        """What clients are to send, in words."""
        where = visible(str(local_token_file(self._folder)))
        return f"the access token in {where}; `mcp-backups config CLIENT --http` tells how"

    def admits(self, token: str) -> bool:
        """Whether a token is one of them; how long that takes tells nothing about it."""
        return hmac.compare_digest(digest(token), self._local)
