"""`mcp-backups config`: what an MCP client needs to start this server, printed or put into its file."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from mcp_backups.accounts import NAME as ACCOUNT_NAME
from mcp_backups.commands.config.catalogue import CLIENTS, Client, Entry, Machine, this_machine
from mcp_backups.commands.config.files import LeftAloneError, read_file, replace_file
from mcp_backups.commands.config.forms import UNTOLD, add_command, entry, link, shown, told_over_http
from mcp_backups.commands.config.launch import ENTRY_NAME, TOKEN, Launch, on_sandbox, own_command, with_settings
from mcp_backups.commands.config.merge import ENVIRONMENTS, entry_in, merged
from mcp_backups.commands.usage import DEFAULT_ADDRESS
from mcp_backups.errors import ConfigError, extra_missing
from mcp_backups.settings import Settings, load_settings
from mcp_backups.text import visible
from mcp_backups.values import is_web_address

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_MOST_ADDRESS = 500
_FILLED_IN = re.compile(r"\$|\{env:")
"""How what a client fills in begins, in the forms that we write."""


def list_clients() -> int:
    """Print the clients that are known. Returns the exit code."""
    for client in CLIENTS:
        sys.stdout.write(f"{client.key:<15} {client.title}{f', {client.file}' if client.file else ''}\n")
    sys.stdout.write("\nPrint what one needs with `mcp-backups config CLIENT`; put it there with --write.\n")
    return 0


def configure(
    key: str,
    *,
    write: bool,
    token_in_file: bool,
    sandbox: bool = False,
    name: str = ENTRY_NAME,
    http: str = "",
    account: str = "",
    machine: Machine | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Print what a client needs, or put it into its file. Returns the exit code: 1 when it could not be put there.

    Args:
        key: The client's name on the command line.
        write: Put it into the client's file; a copy of that is kept.
        token_in_file: Write the token itself down, instead of where the client finds it.
        sandbox: Have the client start the server on an emulated account.
        name: What the server is called in the client.
        http: The address of a server that is reached over HTTP; empty for one that the client starts.
        account: Which of several; without it the only one.
        machine: Where clients keep their files; this machine if none is given.
        environ: What holds the settings to carry over.

    Raises:
        ConfigError: There is no such client, a setting is wrong, or what is asked for does not go together.
    """
    client = _named(key)
    _check(client, name, http, account, write=write, token_in_file=token_in_file, sandbox=sandbox)
    settings = load_settings()
    path = client.path(machine or this_machine())
    if http:
        settings, url = _reached(settings, http, account)
        told = told_over_http(client, settings, url, name, visible(str(path)))
        sys.stdout.writelines(f"{line}\n" for line in told)
        return 0
    launch = replace(own_command(Path(sys.executable), Path(sys.prefix)), name=name)
    settings = settings if sandbox else settings.for_account(account)
    if settings.account:
        if token_in_file:
            raise ConfigError("--token-in-file does not go with accounts, each of which has a token file.")
        launch = replace(launch, arguments=(*launch.arguments, "serve", "--account", settings.account))
    launch = with_settings(launch, settings, environ, token_in_file=token_in_file)
    if sandbox:
        launch = on_sandbox(launch)
    if write:
        return _write(client, launch, path)
    sys.stdout.writelines(f"{line}\n" for line in _told(client, launch, visible(str(path))))
    return 0


def _named(key: str) -> Client:
    for client in CLIENTS:
        if client.key == key:
            return client
    raise ConfigError(f"There is no client of that name; take one of {', '.join(each.key for each in CLIENTS)}.")


def _check(
    client: Client, name: str, http: str, account: str, *, write: bool, token_in_file: bool, sandbox: bool
) -> None:
    """Whether what is asked for goes together.

    Raises:
        ConfigError: It does not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "--name takes up to 32 small letters, digits, '-' and '_', and begins with a letter or digit."
        )
    if http and account and not ACCOUNT_NAME.fullmatch(account):
        raise ConfigError("--account takes a name of up to 64 letters, digits, - and _.")
    if http and (write or sandbox or token_in_file):
        raise ConfigError("--http is only printed: --write, --token-in-file and --sandbox do not go with it.")
    if http and not (is_web_address(http) and len(http) <= _MOST_ADDRESS):
        raise ConfigError("--http takes the address of a server, such as https://backups.example.com/mcp.")
    if account and sandbox:
        raise ConfigError("--account names one of the settings file; --sandbox does not go with it.")
    if token_in_file and sandbox:
        raise ConfigError("--token-in-file does not go with --sandbox, which needs no token.")
    if write and client.form == "YAML" and find_spec("yaml") is None:
        raise extra_missing(f"`mcp-backups config {client.key}` prints what to put there; with --write it", "yaml")
    if token_in_file and not write:
        raise ConfigError("--token-in-file goes with --write: the token is never printed.")


def _reached(settings: Settings, http: str, account: str) -> tuple[Settings, str]:
    """The settings of the account that is meant, and where it is reached over HTTP."""
    is_ours = http == DEFAULT_ADDRESS
    url = f"{settings.http_url}/mcp" if settings.http_url and is_ours else http
    if settings.accounts and (account or is_ours):
        settings = settings.for_account(account)
        account = settings.account
    return settings, f"{url.rstrip('/')}/{account}" if account else url  # of another machine's no file tells


def _told(client: Client, launch: Launch, file: str) -> Iterator[str]:
    """Each way to add this server to a client, and where the token comes from."""
    ways = [(f"put this into {file} (or call this again with --write)", shown(client, launch))]
    if command := add_command(client, launch):
        kept = f" ({UNTOLD} is your token, which {client.title} then keeps in its file)" if UNTOLD in command else ""
        ways.append((f"run{kept}", command))
    if address := link(client, launch):
        ways.append(("open", address))
    for number, (how, what) in enumerate(ways):
        yield f"{'Or ' if number else ''}{how if number else how[0].upper() + how[1:]}:\n\n{what}\n"
    yield from _notes(client, launch, entry(client, launch))


def _notes(client: Client, launch: Launch, own: Entry) -> Iterator[str]:
    """Where the server gets its token from, once the client starts it as the entry says; and what else to know."""
    yield _token_note(client, launch, own)
    if launch.left_out:
        yield f"Left out, since it may hold a secret: {', '.join(launch.left_out)}. Set it in the settings file."
    if client.note:
        yield client.note


def _token_note(client: Client, launch: Launch, own: Entry) -> str:
    variables = {name: value for key in ENVIRONMENTS for name, value in own.get(key, {}).items()}
    if TOKEN in variables and not _FILLED_IN.match(str(variables[TOKEN])):
        return "The token stands in it: keep the file to yourself, and out of version control."
    if launch.on_sandbox:
        return (
            "It needs no token: the account is an emulated one, and new at every start. So with a client that starts a"
            " process for each call no plan can ever be confirmed."
        )
    if not launch.refers:
        return "The token is read from where your settings say; it is not written down here."
    if client.key == "vscode":
        return "VS Code asks for the token once and keeps it safe."
    if client.reference or client.key in {"codex", "goose"}:
        other = (
            ""
            if launch.name == ENTRY_NAME
            else ", which is the same for every entry: name a token file for another account"
        )
        return f"The token is taken from {TOKEN} in the environment in which {client.title} is started{other}."
    return (
        "Nothing here tells the token: keep it in a file that only you may read, and name that as vps_api_token_file"
        " in the settings file, or write it down with --write --token-in-file."
    )


def _write(client: Client, launch: Launch, path: Path) -> int:
    try:
        before = read_file(path, secret=TOKEN in launch.variables)
        text = (before or b"").decode()  # as bytes, so that line ends stay as they are
        after = merged(text, client, launch)
        own = entry_in(after, client, launch.name)
        copy = replace_file(path, before, after.encode()) if after != text else None
    except (LeftAloneError, UnicodeError, OSError, RuntimeError) as error:
        return _left_alone(client, launch, path, error)
    if after == text:
        sys.stdout.write(f"{visible(str(path))} has it already.\n")
        return 0
    sys.stdout.write(f"{visible(str(path))} has it now.{f' As it was before: {visible(str(copy))}.' if copy else ''}\n")
    sys.stdout.writelines(f"{line}\n" for line in _notes(client, launch, own))
    if own.get("enabled") is False or own.get("disabled") is True:
        sys.stdout.write(f"It is switched off there, and stays so until you switch it on in {client.title}.\n")
    sys.stdout.write(f"Start {client.title} again.\n")
    return 0


def _left_alone(client: Client, launch: Launch, path: Path, error: Exception) -> int:
    reason, by_hand = "it cannot be read or written", True
    if isinstance(error, LeftAloneError):
        reason, by_hand = str(error), error.by_hand
    elif isinstance(error, UnicodeError):
        reason = "it, or what is to be put there, is no UTF-8 text"
    sys.stderr.write(
        f"mcp-backups: {visible(str(path))} is left as it was: {reason}.{' Add this by hand:' if by_hand else ''}\n"
    )
    if by_hand:
        secrets = {name: UNTOLD if name in launch.secrets else value for name, value in launch.variables.items()}
        sys.stdout.write(shown(client, replace(launch, variables=secrets)) + "\n")
    return 1
