"""What a client needs to reach a server over HTTP. Where its file can name a variable, no token ever stands in it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from mcp_backups.access import local_token_file
from mcp_backups.commands.config.catalogue import Address, Client, Entry
from mcp_backups.commands.config.forms import UNTOLD, in_file
from mcp_backups.commands.config.launch import ENTRY_NAME
from mcp_backups.settings import Settings

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
    spelt = _input(name) if client.key == "vscode" else client.variable.format(variable=variable)
    address = Address(url, name, f"Bearer {spelt or UNTOLD}", variable)
    if client.remote:
        asked = _inputs(name) if client.key == "vscode" else []
        yield f"Put this into {file}:\n\n{in_file(client, name, client.remote(address), asked)}\n"
        yield _where(client, settings.state_dir, spelt, variable)
    else:
        yield f"It is reached at {url}, with the header `Authorization: Bearer {UNTOLD}`."
    if client.remote_note:
        yield client.remote_note


def _input(name: str) -> str:
    return f"${{input:{_asked(name)}}}"


def _inputs(name: str) -> list[Entry]:
    about = "Access token of mcp-backups"
    return [{"type": "promptString", "id": _asked(name), "description": about, "password": True}]


def _asked(name: str) -> str:
    return f"{name}-access-token"


def _where(client: Client, folder: Path, spelt: str, variable: str) -> str:
    token_file = local_token_file(folder)
    kept = f"On the machine that serves, it is in {token_file}, which only its user can read."
    if client.key == "vscode":
        return f"VS Code asks for the access token once and keeps it safe. {kept}"
    if not spelt:
        return f"Write the access token in place of {UNTOLD}, in a file that is yours alone. {kept}"
    export = f'export {variable}="$(cat {shlex.quote(str(token_file))})"'
    return f"{client.title} takes the access token from {variable} where it is started. {kept} So, there:\n\n{export}\n"
