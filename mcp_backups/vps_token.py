"""The VPS.org token: which text can be one, which is a placeholder for one, and the file that holds it."""

import re
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.private import read_secret_text

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_QUOTES = "\"'`"
_UNFILLED = re.compile(r"\$\{.*\}|\$\(.*\)|\$+(env:)?[A-Za-z_]\w*|\{.*\}|%[A-Za-z_]\w*%|<.*>", re.DOTALL)
_UNFILLED_PART = re.compile(r"\$\{[^}]*\}|\{(env|file|input):[^}]*\}|^\$\w+[/\\]|^%\w+%[/\\]")
_SAMPLE_TOKEN = re.compile(
    r"(vps_)?(your[ _-].*|x{4,}|\.{3,}|\*{3,}|null|none|nil|undefined|token|secret|change[_-]?me|placeholder|example)"
    r"|[a-z][a-z0-9+.-]*://.*|@.*",
    re.IGNORECASE,
)
"""What stands for a token in examples and empty variables, and the names of a secret that something should look up."""


def is_unfilled(value: str) -> bool:
    """Whether a value is a placeholder that a client was to fill in."""
    bare = value.strip().strip(_QUOTES)
    return bool(_UNFILLED.fullmatch(bare) or _UNFILLED_PART.search(bare))


def token_fault(token: str) -> str:
    """Why a text cannot be the token, which then is never sent; empty if it may be."""
    if is_unfilled(token) or _SAMPLE_TOKEN.fullmatch(token):
        return "must hold the token itself, not a placeholder for it"
    if token.strip()[:1] in {*_QUOTES} or token.strip()[-1:] in {*_QUOTES}:
        return "must hold the token without quotation marks"
    if "=" in token and token.partition("=")[0].upper() == "VPS_API_TOKEN":
        return "must hold the token alone, without the setting's name before it"
    return "" if _TOKEN.fullmatch(token) else "must be 1 to 512 visible ASCII characters, without spaces or line ends"


def read_token(path: Path, name: str) -> str:
    """The token in a file that is for its owner alone, or a mounted secret.

    Args:
        path: The file.
        name: Of the setting that names it.

    Raises:
        ConfigError: It holds none, or others may read it.
    """
    token = read_secret_text(path, name)
    if fault := token_fault(token):
        raise ConfigError(f"{name} names a file of which the content {fault}.")
    return token
