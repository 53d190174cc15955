"""What a client needs to reach a server over HTTP. Where its file can name a variable, no token ever stands in it."""

import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

from mcp_backups.access import LOCAL, local_token_file
from mcp_backups.commands.config.catalogue import Address, Client, Entry
from mcp_backups.commands.config.forms import UNTOLD, in_file
from mcp_backups.commands.config.launch import ENTRY_NAME
from mcp_backups.settings import Settings
from mcp_backups.text import visible
from mcp_backups.values import is_loopback

_VARIABLE = "BACKUPS_ACCESS_TOKEN"
"""In a client's environment. Names that begin as our settings do would be taken for a misspelt one."""


def told_over_http(client: Client, settings: Settings, url: str, name: str, file: str) -> Iterator[str]:
    """What to put where, and what holds the access token.

    Args:
        client: Whose form it is.
        settings: Where the access token is kept.
        url: The server's address.
        name: What the server is called in the client.
        file: The client's file.
    """
    variable = _VARIABLE if name == ENTRY_NAME else f"{_VARIABLE}_{name.upper().replace('-', '_')}"
    asks = client.key == "vscode" and not settings.oauth_issuer
    spelt = _input(name) if asks else client.variable.format(variable=variable)
    address = Address(url, name, "" if settings.oauth_issuer else f"Bearer {spelt or UNTOLD}", variable)
    if client.remote:
        shown = in_file(client, name, client.remote(address), _inputs(name) if asks else [])
        yield f"Put this into {file}:\n\n{shown}\n"
        yield _where(client, settings, address, spelt)
    else:
        header = f", with the header `Authorization: {address.authorization}`" if address.authorization else ""
        yield f"It is reached at {url}{header}."
    if client.remote_note:
        yield client.remote_note


def _input(name: str) -> str:
    return f"${{input:{_asked(name)}}}"


def _inputs(name: str) -> list[Entry]:
    about = "Access token of mcp-backups"
    return [{"type": "promptString", "id": _asked(name), "description": about, "password": True}]


def _asked(name: str) -> str:
    return f"{name}-access-token"


def _where(client: Client, settings: Settings, address: Address, spelt: str) -> str:
    """What the client shows to be let in, and where that is."""
    if settings.oauth_issuer:
        return f"{client.title} logs in at {settings.oauth_issuer} when it first connects."
    token_file = local_token_file(settings.state_dir)
    kept = f"On the machine that serves, it is in {visible(str(token_file))}, which only its user can read."
    value = f"$(cat {shlex.quote(str(token_file))})" if str(token_file).isprintable() else UNTOLD
    is_elsewhere = bool(settings.http_url) or not is_loopback(urlsplit(address.url).hostname or "")
    if is_elsewhere or (settings.account and LOCAL not in settings.accounts[settings.account].principals):
        kept, value = "It is the one that `mcp-backups tokens add NAME --role ROLE` prints.", UNTOLD
    if client.key == "vscode":
        return f"VS Code asks for the access token once and keeps it safe. {kept}"
    if not spelt:
        return f"Write the access token in place of {UNTOLD}, in a file that is yours alone. {kept}"
    variable = address.variable
    export = f'export {variable}="{value}"'
    return f"{client.title} takes the access token from {variable} where it is started. {kept} So, there:\n\n{export}\n"
