"""What the operator sets: where VPS.org is, with which token, and the policy. From the environment and a TOML file.

pydantic checks the values. That the environment is read here and not by pydantic-settings has its reasons: that reads
the process's own environment and not one that is handed in; it takes one of two spellings of a name and does not tell
of the other, where two that differ must stop the start; it strips nothing, and drops an empty list, which must be
refused, with what else is empty; and it sees neither names that are misspelt nor placeholders. A source of our own
would have to do all that, and would leave it nothing but to take the prefix off, for two more packages and a third more
time until the first answer.
"""

import logging
import os
import re
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import platformdirs
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from mcp_backups.accounts import NamedAccount, account_named, read_accounts
from mcp_backups.errors import ConfigError, extra_missing
from mcp_backups.private import folder_fault, is_kept_private, mode_of
from mcp_backups.spelling import did_you_mean, is_misspelt, name_shown
from mcp_backups.text import visible, without_line_end
from mcp_backups.values import (
    Addresses,
    Flag,
    Hosts,
    HttpsUrl,
    Ids,
    Location,
    LoginHeader,
    Names,
    Number,
    Origins,
    https_url,
    is_unfilled,
    location,
    read_token,
    require,
    spelt,
    token_fault,
    url_parts,
)

APP = "mcp-backups"
PREFIX = "MCP_BACKUPS_"
CONFIG = PREFIX + "CONFIG"
STATE_DIR = PREFIX + "STATE_DIR"
DEFAULT_URL = "https://admin.vps.org/api/v1"

Approval = Literal["auto", "plan", "human", "operator", "flag"]

_log = logging.getLogger(__name__)


def _usual_state_dir() -> Path:
    try:
        return platformdirs.user_state_path(APP, appauthor=False)
    except RuntimeError:
        return Path("~", APP)  # which is no absolute path, and refused as such


class Settings(BaseModel):
    """Every setting, with its default; the environment wins over the file.

    A TOML file uses the names as they stand. In the environment they are in capitals, and all
    but the five `VPS_API_…` begin with `MCP_BACKUPS_`. Text is read as the number, flag or list that it spells;
    numbers and flags of a TOML file must be that.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    vps_api_token: SecretStr | None = Field(default=None, description="API token, as VPS.org showed it once.")
    vps_api_token_file: Location | None = Field(
        default=None, description="File that holds the API token; readable by its owner only, or a mounted secret."
    )
    vps_api_url: HttpsUrl = Field(
        default=DEFAULT_URL, description="Base URL of the API; https, or http on this machine."
    )
    vps_api_ca_file: Location | None = Field(
        default=None, description="File of certificates in PEM form that are trusted beside the system's."
    )
    vps_api_proxy: SecretStr | None = Field(
        default=None, description="URL of the HTTP proxy that https goes through, with its password if it wants one."
    )
    accounts: dict[str, NamedAccount] = Field(
        default_factory=dict,
        description="Several accounts instead of one, each with its token file and who may use it.",
    )
    approval: Approval = Field(
        default="auto",
        description="Who consents to a destructive operation: auto, plan, human, operator or flag.",
    )
    approval_hours: Number = Field(
        default=24, ge=1, le=168, description="Hours that an operation waits for an approver outside the chat."
    )
    approvers: Names = Field(
        default=frozenset(),
        description="System users and logins that may approve; whoever reaches it if it is not set.",
    )
    notify: Addresses = Field(
        default=(), description="Apprise addresses that are told what waits and what was decided; each is a secret."
    )
    console_url: str | None = Field(
        default=None, description="Where people reach the console, such as https://backups.example.com."
    )
    console_login_header: LoginHeader = Field(
        default="",
        description="Header in which a proxy tells who is logged in; it must drop any that comes from outside.",
    )
    console_secret_file: Location | None = Field(
        default=None, description="File of the secret that the proxy sends as X-Mcp-Backups-Secret; for a TCP port."
    )
    read_only: Flag = Field(default=False, description="Refuse every write.")
    servers: Ids = Field(default=frozenset(), description="Only these servers may be changed; all if it is not set.")
    protected_servers: Ids = Field(default=frozenset(), description="Servers of which nothing is deleted or restored.")
    protected_backups: Ids = Field(default=frozenset(), description="Backups that are never deleted.")
    ignored_servers: Ids = Field(default=frozenset(), description="Servers that are left out of checks.")
    keep_min: Number = Field(
        default=1, ge=0, le=1000, description="Proven backups that a delete must leave on a server."
    )
    deletes_per_hour: Number = Field(default=10, ge=0, le=100_000, description="Most deletes within an hour.")
    deletes_per_day: Number = Field(default=30, ge=0, le=100_000, description="Most deletes within 24 hours.")
    restores_per_hour: Number = Field(
        default=1, ge=0, le=1000, description="Most restores of one server within an hour."
    )
    creates_per_hour: Number = Field(
        default=30, ge=0, le=100_000, description="Most backups made within an hour, safety backups not counted."
    )
    require_safety_backup: Flag = Field(default=False, description="Refuse a restore without a safety backup.")
    mark_backups: Flag = Field(
        default=True,
        description="Add the operation's id to the description of each backup made, so that it can be found again.",
    )
    state_dir: Location = Field(default_factory=_usual_state_dir, description="Folder of the ledger.")
    key_file: Location | None = Field(
        default=None,
        description="File that holds the installation's key, 32 random bytes or more; else one is made in that folder.",
    )
    ledger_url: SecretStr | None = Field(
        default=None,
        description="Address of the PostgreSQL database that holds the ledger, for several machines; else a file does.",
    )
    http_url: str = Field(
        default="",
        description="Where clients from other machines reach it, through a proxy: such as https://backups.example.com.",
    )
    http_hosts: Hosts = Field(default=frozenset(), description="More that the Host header of a request may be.")
    http_origins: Origins = Field(default=frozenset(), description="More that the Origin header may be.")
    oauth_issuer: str = Field(
        default="",
        description="The authorization server whose tokens count over HTTP, exactly as it names itself.",
    )
    oauth_audience: str = Field(
        default="", max_length=1000, description="For whom its tokens must be; the address of /mcp if it is not set."
    )
    principal_claim: Annotated[
        str, spelt(r"[A-Za-z0-9_:/.-]{1,100}", "must be the name of a claim: 1 to 100 letters, digits and _ : / . -")
    ] = Field(
        default="sub",
        description="The claim of its tokens that tells who somebody is.",
    )
    http_secret_file: Location | None = Field(
        default=None, description="File of the secret that the proxy sends as X-Mcp-Backups-Secret; for a TCP port."
    )
    fast_start: Flag = Field(
        default=True, description="Answer the beginning of a session over standard input before all is loaded."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="Least severe messages logged to standard error."
    )

    @property
    def account(self) -> str:
        """Which of several accounts these are the settings of; empty for none of them. No two have the same token."""
        return next(
            (name for name, each in self.accounts.items() if each.token and each.token == self.vps_api_token), ""
        )

    def for_account(self, name: str) -> Self:
        """The same with the address and token of one of several accounts; without a name of the only one.

        Raises:
            ConfigError: There is none of that name, or there are several to choose from.
        """
        if not self.accounts and not name:
            return self
        account = self.accounts[account_named(self.accounts, name)]
        of_it = {"vps_api_url": account.vps_api_url or self.vps_api_url, "vps_api_token": account.token}
        return self.model_copy(update=of_it)

    def account_of(self, recorded: str) -> str:
        """The name of the account that an operation is of; empty where there is one alone, or it is none of these."""
        return recorded if recorded in self.accounts else ""

    def for_each_account(self) -> list[Self]:
        """The same for each of several accounts, or as they are where there is one alone."""
        return [self.for_account(name) for name in self.accounts] or [self]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What is never to be shown: tokens, addresses, the proxy's password as it is written and as it is meant."""
        tokens = (self.vps_api_token, *(account.token for account in self.accounts.values()))
        password = urlsplit(self.vps_api_proxy.get_secret_value()).password if self.vps_api_proxy else ""
        ledger = self.ledger_url.get_secret_value() if self.ledger_url else ""
        told = (each.get_secret_value() for each in (*tokens, *self.notify) if each)
        every = (password, unquote(password or ""), *told, ledger, *passwords_in(ledger))
        return tuple(dict.fromkeys(secret for secret in every if secret))

    @field_validator("vps_api_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is None:
            return None
        value = without_line_end(token.get_secret_value())
        if fault := token_fault(value):
            raise ValueError(fault)
        return SecretStr(value)

    @field_validator("http_url")
    @classmethod
    def _check_http_url(cls, url: str) -> str:
        if not url:
            return url
        origin = https_url(url).lower()
        require(origin.startswith("https://"), "must be https: the proxy does TLS")
        require(not urlsplit(origin).path, "must end after the host and port")
        return origin

    @field_validator("oauth_issuer")
    @classmethod
    def _check_issuer(cls, url: str) -> str:
        if url:
            https_url(url)
        return url  # exactly as it stands: with or without a slash at its end are two issuers

    @field_validator("console_url")
    @classmethod
    def _check_console_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        origin = https_url(url).lower()
        require(not urlsplit(origin).path, "must end after the host and port")
        return origin

    @field_validator("ledger_url")
    @classmethod
    def _check_ledger_url(cls, secret: SecretStr | None) -> SecretStr | None:
        url = secret.get_secret_value() if secret else ""
        if not url:
            return None
        told = "must be an address such as postgresql://backups@db.example.com/ledger, with the database's name"
        parts = url_parts(url, told)
        require(parts.scheme in {"postgresql", "postgres"} and len(parts.path) > 1, told)
        return secret

    @field_validator("vps_api_proxy")
    @classmethod
    def _check_proxy(cls, proxy: SecretStr | None) -> SecretStr | None:
        url = proxy.get_secret_value() if proxy else ""
        if not url:
            return None
        told = "must be an address such as http://proxy.example.com:3128"
        parts = url_parts(url, told)
        require(parts.scheme in {"http", "https"} and bool(parts.hostname), told)
        require(parts.path in {"", "/"} and not {"?", "#"} & set(url), "must not hold a path, query or fragment")
        return proxy


def load_settings(environ: Mapping[str, str] = os.environ, *, needs_key: bool = True) -> Settings:
    """Read the settings of this process from its environment and the settings file.

    Args:
        environ: The environment.
        needs_key: Whether a ledger in a database is to be read or written, and not only migrated.

    Raises:
        ConfigError: A setting is wrong; the message names it, never its value. Or the state folder is none that can be
            relied on; the message names it too.
    """
    given = environment(environ)
    path = config_path(environ)
    values: dict[str, Any] = _read_toml(path, is_named=CONFIG in given) if path else {}
    values |= {name.removeprefix(PREFIX).lower(): value for name, value in given.items() if name != CONFIG}
    _leave_out_unfilled(values)
    if "accounts" in values:
        values["accounts"] = read_accounts(values["accounts"])
    try:
        settings = Settings(**values)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ConfigError(f"{setting_name(first['loc'])} {_rule(first)}.") from None
    if settings.vps_api_token and settings.vps_api_token_file:
        raise ConfigError("VPS_API_TOKEN and VPS_API_TOKEN_FILE are both set: set one of them.")
    if settings.accounts and (settings.vps_api_token or settings.vps_api_token_file):
        raise ConfigError(
            "VPS_API_TOKEN and VPS_API_TOKEN_FILE do not go with accounts: each names a token file of its own."
        )
    if settings.vps_api_token_file:
        token = SecretStr(read_token(settings.vps_api_token_file, "VPS_API_TOKEN_FILE"))
        settings = settings.model_copy(update={"vps_api_token": token})
    if settings.vps_api_ca_file:
        _check_certificates(settings.vps_api_ca_file)
    if settings.ledger_url and find_spec("psycopg") is None:
        raise extra_missing("MCP_BACKUPS_LEDGER_URL", "postgres")
    if settings.ledger_url and not settings.key_file and needs_key:
        raise ConfigError(
            "MCP_BACKUPS_LEDGER_URL needs MCP_BACKUPS_KEY_FILE: a file of 32 random bytes or more, the same for every"
            " process on that ledger."
        )
    if settings.notify and find_spec("apprise") is None:
        raise extra_missing("MCP_BACKUPS_NOTIFY", "notify")
    check_state_dir(settings.state_dir)
    return settings


def passwords_in(url: str) -> tuple[str, ...]:
    """The password in a database's address, as it is written and as it is meant; nothing where it has none."""
    parts = urlsplit(url)
    written = [parts.password or "", *(value for name, value in parse_qsl(parts.query) if name.endswith("password"))]
    return tuple(form for each in written if each for form in (each, unquote(each)))


def setting_name(loc: tuple[int | str, ...]) -> str:
    """The name of a setting as it stands in the environment."""
    name = str(loc[0]) if loc else "settings"
    return name.upper() if name.lower().startswith("vps_api_") else PREFIX + name.upper()


def setting_names(kind: type[Settings] = Settings) -> list[str]:
    """The names of all settings as they stand in the environment, that of the settings file first."""
    return [CONFIG, *(setting_name((name,)) for name in kind.model_fields)]


def environment(environ: Mapping[str, str], kind: type[Settings] = Settings) -> dict[str, str]:
    """What an environment sets of ours, by its name in capitals, in whatever case it stands there.

    White space around a value is cut, and what is empty then is as good as not set: a client's form that leaves a field
    blank hands that on. But an empty list is kept, to be refused.

    Raises:
        ConfigError: A name looks like one of ours and is none, or stands there twice with different values.
    """
    known = setting_names(kind)
    found: dict[str, str] = {}
    for name, value in environ.items():
        capitals = name.upper()
        if capitals not in known:
            if is_misspelt(name, known):  # a misspelt rule is no rule: better not to start than to run without it
                raise ConfigError(f"{name_shown(name)} is not a setting{did_you_mean(name, known)}")
        elif found.setdefault(capitals, value) != value:
            raise ConfigError(f"{capitals} is set twice, in capitals and in small letters: set it once.")
    return {
        name: value if name == "VPS_API_TOKEN" else value.strip()
        for name, value in found.items()
        if value.strip() or name in _LISTS
    }


_LISTS = {
    setting_name((name,)) for name, field in Settings.model_fields.items() if isinstance(field.default, frozenset)
}


def _rule(fault: ErrorDetails) -> str:
    """What a value must be, in words for people who know no types."""
    if fault["type"] == "int_type":
        is_listed = len(fault["loc"]) > 1
        return (
            "must be ids, which are whole numbers, with a comma between two" if is_listed else "must be a whole number"
        )
    if fault["type"] == "bool_type":
        return "must be true or false"
    return fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _leave_out_unfilled(values: dict[str, Any]) -> None:
    """Refuse what a client was to fill in and did not; of the token and its file, one that is filled in is enough.

    Raises:
        ConfigError: A value is a placeholder.
    """
    unfilled = [name for name, value in values.items() if isinstance(value, str) and is_unfilled(value)]
    of_token = {"vps_api_token", "vps_api_token_file"}
    for name in unfilled:
        if name not in of_token or of_token & values.keys() <= set(unfilled):
            raise ConfigError(
                f"{setting_name((name,))} is a placeholder that the client did not fill in: set the variable that it"
                f" names where the client is started, or write the value itself."
            )
        del values[name]
        other = setting_name(tuple(of_token - {name}))
        _log.warning(
            "%s is a placeholder that the client did not fill in; %s is used instead.", setting_name((name,)), other
        )


def config_path(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The settings file, None if there is none.

    Raises:
        ConfigError: It is named by a path that is not absolute, or its usual place cannot be looked at.
    """
    if named := environment(environ).get(CONFIG):
        if is_unfilled(named):
            raise ConfigError(f"{CONFIG} is a placeholder that the client did not fill in.")
        try:
            return location(named)
        except ValueError as wrong:
            raise ConfigError(f"{CONFIG} {wrong}.") from None
    try:
        default = platformdirs.user_config_path(APP, appauthor=False) / "config.toml"
        default.lstat()
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # the last where there is no home folder
        return None
    except OSError:
        raise ConfigError(
            f"The settings file {visible(str(default))} cannot be looked for by this user: set HOME to the folder of"
            f" this user, or {CONFIG} to a settings file."
        ) from None
    return default if default.is_absolute() else None


def _read_toml(path: Path, *, is_named: bool) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most starts have no file to read

    where = f"{CONFIG} names a settings file that" if is_named else f"The settings file {visible(str(path))}"
    mode = mode_of(path, where)
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{where} can be written to by anyone; take that right away (chmod o-w).")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{where} cannot be read as text.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as invalid:
        line = re.search(r"at line (\d+)", str(invalid))
        raise ConfigError(f"{where} is not valid TOML{f' in line {line[1]}' if line else ''}.") from None
    for name in values:
        if name not in Settings.model_fields:
            raise ConfigError(
                f"{name_shown(name)} in the settings file is not a setting{did_you_mean(name, Settings.model_fields)}"
                " The names there are in small letters."
            )
    secrets = {
        "the token": "vps_api_token" in values,
        "the proxy's password": "@" in str(values.get("vps_api_proxy")),
        "addresses that are secrets": "notify" in values,
        "the ledger's password": any(passwords_in(str(values.get("ledger_url", "")))),
    }
    held = next((secret for secret, is_there in secrets.items() if is_there), "")
    if held and not is_kept_private(path, mode):
        raise ConfigError(f"{where} holds {held} and can be read by others; make it private (chmod 600).")
    return values


def _check_certificates(path: Path) -> None:
    import ssl  # noqa: PLC0415 - few starts have such a file

    name = "VPS_API_CA_FILE"
    if mode_of(path, f"{name} names a file that") & stat.S_IWOTH:
        raise ConfigError(f"{name} names a file that can be written to by anyone; take that right away (chmod o-w).")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"{name} names a file that holds no certificates in PEM form.") from None
    except OSError:
        raise ConfigError(f"{name} names a file that cannot be read.") from None


def check_state_dir(folder: Path) -> None:
    """Whether a state folder, which may still have to be made, is this user's own.

    Raises:
        ConfigError: It is not; the message names the folder.
    """
    if fault := folder_fault(folder):
        raise ConfigError(
            f"{STATE_DIR}: the state folder {visible(str(folder))} {fault}. Set it to a folder that only this user may"
            " write to; where it is not set, HOME says where that is."
        )
