"""What the operator sets: where VPS.org is, with which token, and the policy. From the environment and a TOML file."""

import os
import re
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mcp_backups.errors import ConfigError
from mcp_backups.models import MAX_ID
from mcp_backups.text import safe_text

APP = "mcp-backups"
PREFIX = "MCP_BACKUPS_"
CONFIG = PREFIX + "CONFIG"
DEFAULT_URL = "https://admin.vps.org/api/v1"

Approval = Literal["auto", "plan", "human", "flag"]

_TOKEN = re.compile(r"[\x21-\x7e]{1,512}")
_TOKEN_FILE_BYTES = 4096


def _ids(raw: object) -> object:
    """`"12345, 12346"` as a list; anything else as it is."""
    return [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw


Ids = Annotated[
    frozenset[Annotated[int, Field(ge=1, le=MAX_ID)]],
    NoDecode,
    BeforeValidator(_ids),
]


class Settings(BaseSettings):
    """Every setting, with its default; the environment wins over the file.

    A TOML file uses the names as they stand. In the environment they are in capitals, and all
    but the three `VPS_API_…` begin with `MCP_BACKUPS_`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    vps_api_token: SecretStr | None = Field(
        default=None, validation_alias="vps_api_token", description="API token, as VPS.org showed it once."
    )
    vps_api_token_file: Path | None = Field(
        default=None,
        validation_alias="vps_api_token_file",
        description="File that holds the API token; readable by its owner only.",
    )
    vps_api_url: str = Field(
        default=DEFAULT_URL,
        validation_alias="vps_api_url",
        description="Base URL of the API; https, or http on this machine.",
    )
    approval: Approval = Field(
        default="auto",
        description="Who consents to a destructive operation: auto, plan, human or flag.",
    )
    read_only: bool = Field(default=False, description="Refuse every write.")
    servers: Ids = Field(default=frozenset(), description="Only these servers may be changed; empty: all.")
    protected_servers: Ids = Field(default=frozenset(), description="Servers of which nothing is deleted or restored.")
    protected_backups: Ids = Field(default=frozenset(), description="Backups that are never deleted.")
    keep_min: int = Field(default=1, ge=0, le=1000, description="Good backups that a delete must leave on a server.")
    deletes_per_hour: int = Field(default=10, ge=0, le=100_000, description="Most deletes within an hour.")
    deletes_per_day: int = Field(default=30, ge=0, le=100_000, description="Most deletes within 24 hours.")
    restores_per_hour: int = Field(default=1, ge=0, le=1000, description="Most restores of one server within an hour.")
    require_safety_backup: bool = Field(default=False, description="Refuse a restore without a safety backup.")
    mark_backups: bool = Field(
        default=True,
        description="Add the operation's id to the description of each backup made, so that it can be found again.",
    )
    state_dir: Path = Field(
        default_factory=lambda: platformdirs.user_state_path(APP, appauthor=False),
        description="Folder of the ledger.",
    )
    key_file: Path | None = Field(
        default=None,
        description="File that holds the installation's key, 32 random bytes or more; else one is made in that folder.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="Least severe messages logged to standard error."
    )

    @field_validator("vps_api_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("must be 1 to 512 visible ASCII characters, without spaces or line ends")
        return token

    @field_validator("vps_api_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        _require(url.isascii() and url.isprintable() and " " not in url and "\\" not in url, "is not a URL")
        parts = urlsplit(url)
        _require(_is_port_or_none(parts.netloc), "has a bad port")
        _require("@" not in parts.netloc, "must not hold a user name or password")
        _require("?" not in url and "#" not in url, "must not hold a query or fragment")
        _require(parts.scheme in {"https", "http"} and bool(parts.hostname), "must be an https:// URL")
        _require(
            parts.scheme == "https" or is_loopback(parts.hostname or ""), "must be https, unless it is on this machine"
        )
        return url.rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then what `load_settings` read from the file; nothing is read from a `.env`."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load_settings() -> Settings:
    """Read the settings of this process from its environment and the settings file.

    Raises:
        ConfigError: A setting is wrong; the message names it, never its value.
    """
    _refuse_unknown()
    path = config_path()
    try:
        settings = Settings(**(_read_toml(path) if path else {}))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConfigError(f"{setting_name(first['loc'])} {_rule(first['msg'])}.") from None
    if settings.vps_api_token and settings.vps_api_token_file:
        raise ConfigError("VPS_API_TOKEN and VPS_API_TOKEN_FILE are both set: set one of them.")
    if settings.vps_api_token_file:
        token = SecretStr(_read_token(settings.vps_api_token_file))
        settings = settings.model_copy(update={"vps_api_token": token})
    return settings


def setting_name(loc: tuple[int | str, ...]) -> str:
    """The name of a setting as it stands in the environment."""
    name = str(loc[0]) if loc else "settings"
    return name.upper() if name.lower().startswith("vps_api_") else PREFIX + name.upper()


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _refuse_unknown() -> None:
    """A misspelt rule is no rule: better not to start than to run without it."""
    known = {setting_name((name,)) for name in Settings.model_fields} | {CONFIG}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigError(f"{name} is not a setting.")


def config_path() -> Path | None:
    """The settings file, None if there is none."""
    if named := os.environ.get(CONFIG):
        return Path(named)
    default = platformdirs.user_config_path(APP, appauthor=False) / "config.toml"
    return default if default.exists() or default.is_symlink() else None


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most starts have no file to read

    where = f"{CONFIG} names a settings file that"
    if path.is_symlink():
        raise ConfigError(f"{where} is a link; name the file itself.")
    mode = _mode(path, where)
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{where} anyone may write to; take that right away (chmod o-w).")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{where} cannot be read as text.") from None
    except tomllib.TOMLDecodeError as invalid:
        line = re.search(r"at line (\d+)", str(invalid))
        raise ConfigError(f"{where} is not valid TOML{f' in line {line[1]}' if line else ''}.") from None
    if unknown := [name for name in values if name not in Settings.model_fields]:
        raise ConfigError(
            f"{safe_text(unknown[0])} in the settings file is not a setting; the names there are in small letters."
        )
    if "vps_api_token" in values and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise ConfigError(f"{where} holds the token and can be read by others; make it private (chmod 600).")
    return values


def _read_token(path: Path) -> str:
    name = "VPS_API_TOKEN_FILE"
    if _mode(path, f"{name} names a file that") & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{name} names a file that others may read; make it private (chmod 600).")
    try:
        with path.open("rb") as file:
            raw = file.read(_TOKEN_FILE_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{name} names a file that cannot be read as ASCII text.") from None
    token = raw.removesuffix("\n").removesuffix("\r")
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{name} must hold the token alone: 1 to 512 visible ASCII characters on one line.")
    return token


def _mode(path: Path, where: str) -> int:
    """The permission bits of a regular file; 0 on Windows, which has none."""
    try:
        status = path.stat()
    except OSError:
        raise ConfigError(f"{where} cannot be found or read.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{where} is not a regular file.")
    return 0 if os.name == "nt" else stat.S_IMODE(status.st_mode)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(rule)


def _is_port_or_none(netloc: str) -> bool:
    try:
        urlsplit(f"//{netloc}").port  # noqa: B018 - reading it is what checks it
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
