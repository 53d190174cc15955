"""How a setting's text becomes the number, flag, path, address, list or VPS.org token that it spells."""

import re
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from mcp_backups.errors import ConfigError
from mcp_backups.models import MAX_ID
from mcp_backups.private import read_secret_text

_USUAL_PORTS = {"https": 443, "http": 80}
_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)

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


def _number(raw: object) -> object:
    """Digits as the number that they are; anything else as it is, for pydantic to refuse."""
    return int(raw) if isinstance(raw, str) and re.fullmatch(r"-?[0-9]{1,16}", raw) else raw


def _flag(raw: object) -> object:
    return _FLAGS.get(raw.lower(), raw) if isinstance(raw, str) else raw


def _listed(noun: str, raw: object) -> object:
    """`"12345, 12346"` as a list; anything else that is a list as it is."""
    if isinstance(raw, frozenset | set):
        return raw
    if isinstance(raw, str):
        # As a file would have it; here the signs would be part of a name, which then nobody has.
        is_of_a_file = re.match(r"\s*(\[\s*\]|\[?\s*[\"'])", raw)
        require(not is_of_a_file, f"must be {noun}s{_BETWEEN}, and no brackets or quotation marks around them")
        raw = [part.strip() for part in raw.split(",")] if raw.strip(" ,") else []
    require(isinstance(raw, list | tuple), f"must be a list of {noun}s")
    # Whoever sets an empty list may have meant "none of them", and would get "all of them".
    require(bool(raw), f"is set, but names no {noun}; take it out, or name some")
    return raw


def _addresses(raw: object) -> object:
    """Addresses with spaces between them as a list; each is a secret."""
    listed = raw.split() if isinstance(raw, str) else list(raw) if isinstance(raw, list | tuple) else [None]
    told = [each.get_secret_value() if isinstance(each, SecretStr) else each for each in listed]
    require(
        bool(told) and all(isinstance(each, str) and re.fullmatch(r"[A-Za-z0-9.+-]+://\S+", each) for each in told),
        "must be Apprise addresses, such as mailto://… and ntfy://…, with a space between two",
    )
    return tuple(told)


def location(raw: object) -> Path:
    """A path with its `~` expanded, which must then be absolute: a client starts servers in any folder."""
    if not isinstance(raw, str | Path):
        raise ValueError("must be a path")  # noqa: TRY004 - a TypeError is none that pydantic tells of
    try:
        path = Path(raw).expanduser()
    except RuntimeError:
        raise ValueError("begins with ~, and it is not known which folder that is; set HOME") from None
    require("\0" not in str(raw) and path.is_absolute(), "must be an absolute path, or begin with ~/")
    return path


def https_url(url: str) -> str:
    """An https address, or an http one of this machine, always spelt the same: what is recorded goes by it.

    Scheme and host are in small letters, the port is left out where it is the usual one, and so are slashes at the end.
    """
    parts = url_parts(url)
    require("@" not in parts.netloc, "must not hold a user name or password")
    require("?" not in url and "#" not in url, "must not hold a query or fragment")
    require(parts.scheme in {"https", "http"} and bool(parts.hostname), "must be an https:// URL")
    require(parts.scheme == "https" or is_loopback(parts.hostname or ""), "must be https, unless it is on this machine")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port not in (None, _USUAL_PORTS[parts.scheme]) else ""
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def url_parts(url: str, otherwise: str = "is not a URL") -> SplitResult:
    """An address in its parts.

    Raises:
        ValueError: It is none, of which `otherwise` is said, or its port is none.
    """
    require(url.isascii() and url.isprintable() and not {" ", "\\"} & set(url), otherwise)
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed, or that has no address in it
        raise ValueError(otherwise) from None
    try:
        _ = parts.port  # reading it is what checks it
    except ValueError:
        raise ValueError("has a bad port") from None
    return parts


def is_web_address(url: str) -> bool:
    """Whether it is an address over HTTP, without a user name or password."""
    try:
        parts = url_parts(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require(holds: bool, rule: str) -> None:
    """Pass, or raise ValueError with the rule, as pydantic expects of a validator."""
    if not holds:
        raise ValueError(rule)


def spelt(pattern: str, rule: str) -> AfterValidator:
    """Passes what a pattern fits as a whole; of anything else it tells the rule, which people can read."""

    def check(text: str) -> str:
        require(bool(re.fullmatch(pattern, text)), rule)
        return text

    return AfterValidator(check)


# The kinds of settings

_BETWEEN = ", with a comma between two"

_OF_REQUESTS = (
    "host|cookie|origin|referer|user-agent|connection|upgrade|te|trailer|transfer-encoding|expect|range|date|dnt|from"
    "|pragma|cache-control|priority|authorization|proxy-authorization|forwarded|via|x-real-ip|x-request-id"
    "|x-mcp-backups-secret|x-forwarded-(for|host|port|proto|server)|(accept|content|if|sec)(-.*)?"
)
"""Headers that requests have anyway, or that clients set as they like: none tells who is logged in."""

Number = Annotated[int, BeforeValidator(_number), Field(strict=True)]
Flag = Annotated[bool, BeforeValidator(_flag), Field(strict=True)]
HttpsUrl = Annotated[str, AfterValidator(https_url)]
Location = Annotated[Path, BeforeValidator(location)]
Ids = Annotated[frozenset[Annotated[Number, Field(ge=1, le=MAX_ID)]], BeforeValidator(partial(_listed, "id"))]
Addresses = Annotated[tuple[SecretStr, ...], BeforeValidator(_addresses)]
Name = Annotated[str, Field(strict=True, max_length=256), spelt(r"[^\s,]+", "must be names without spaces" + _BETWEEN)]
Host = Annotated[str, Field(strict=True), spelt(r"[^\s,/*]+", "must be hosts such as 10.0.0.5:8765" + _BETWEEN)]
Origin = Annotated[
    str,
    Field(strict=True),
    spelt(r"https?://[^\s,/*]+", "must be origins such as https://tools.example.com" + _BETWEEN),
]
LoginHeader = Annotated[
    str,
    spelt(r"([A-Za-z][A-Za-z0-9-]{0,63})?", "must be the name of a header: letters, digits and -"),
    spelt(rf"(?i)(?!({_OF_REQUESTS})$).*", "must be a header that the proxy alone sets, such as Remote-User"),
]
Names = Annotated[frozenset[Name], BeforeValidator(partial(_listed, "name"))]
Hosts = Annotated[frozenset[Host], BeforeValidator(partial(_listed, "host"))]
Origins = Annotated[frozenset[Origin], BeforeValidator(partial(_listed, "origin"))]


# The VPS.org token


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
