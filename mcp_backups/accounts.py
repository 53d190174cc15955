"""Several VPS.org accounts of one installation: where each is, with which token, and who may use it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from mcp_backups.errors import ConfigError
from mcp_backups.spelling import did_you_mean
from mcp_backups.text import safe_text
from mcp_backups.values import HttpsUrl, Location, Names, read_token

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""It becomes a part of an address."""


class NamedAccount(BaseModel):
    """One account, as the settings file tells of it.

    Attributes:
        vps_api_url: The general one if it is empty.
        principals: Who may use it over HTTP: names of access tokens, `local` for this machine's user, and
            `ISSUER#SUBJECT` for who logs in.
        token: What the file holds, once that was read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    vps_api_url: HttpsUrl = ""
    vps_api_token_file: Location
    principals: Names
    token: SecretStr | None = None


def read_accounts(table: object) -> dict[str, NamedAccount]:
    """The accounts of a settings file, each with its token.

    Args:
        table: Its table `accounts`.

    Raises:
        ConfigError: One of them is wrong; it is named, its values are not.
    """
    if not isinstance(table, dict) or not table:
        raise ConfigError("MCP_BACKUPS_ACCOUNTS must be tables of the settings file, one or more: [accounts.NAME].")
    _check_names(table)
    accounts = {name: _account(name, told) for name, told in table.items()}
    by_token: dict[str, str] = {}
    for name, account in accounts.items():
        token = account.token.get_secret_value() if account.token else ""
        if (other := by_token.setdefault(token, name)) != name:
            raise ConfigError(f"accounts.{name} has the same token as accounts.{other}; one account has one name.")
    return accounts


def _check_names(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"accounts.{safe_text(name)} in the settings file: a name has up to 64 letters, digits, - and _, and"
                " begins with a letter or digit."
            )
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ConfigError(f"accounts.{name} and accounts.{other} are told apart by capitals alone: rename one.")


def _account(name: str, told: object) -> NamedAccount:
    known = NamedAccount.model_fields.keys() - {"token"}
    where = f"accounts.{name}"
    if not isinstance(told, Mapping):
        raise ConfigError(f"{where} in the settings file must be a table.")
    for each in told:
        if each not in known:
            raise ConfigError(
                f"{where}.{safe_text(each)} in the settings file is not a setting{did_you_mean(each, known)}"
            )
    for each, why in _NEEDED.items():
        if each not in told:
            raise ConfigError(f"{where} needs {each}: {why}.")
    try:
        account = NamedAccount.model_validate(told)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        raise ConfigError(f"{where}.{first['loc'][0]} {rule}.") from None
    token = read_token(account.vps_api_token_file, f"{where}.vps_api_token_file")
    return account.model_copy(update={"token": SecretStr(token)})


_NEEDED = {
    "vps_api_token_file": "a file that holds its token",
    "principals": "who may use it, such as names of access tokens, and local for this machine's user",
}


def account_named(accounts: Mapping[str, Any], name: str) -> str:
    """The name of the account that is meant; the only one, if none is given.

    Raises:
        ConfigError: There is none of that name, or several to choose from.
    """
    if name in accounts:
        return name
    if not accounts:
        raise ConfigError("--account is for a settings file with several accounts; this one names none.")
    if not name and len(accounts) == 1:
        return next(iter(accounts))
    choose = f"--account takes one of {', '.join(sorted(accounts))}."
    raise ConfigError(f"The settings file has several accounts. {choose}" if not name else choose)
