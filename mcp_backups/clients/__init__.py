"""`mcp-backups config`: what an MCP client needs to start this server, printed or put into its file."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mcp_backups.clients.catalogue import CLIENTS, Client, Machine, this_machine
from mcp_backups.clients.files import CannotMergeError, merged, replace_file
from mcp_backups.clients.forms import UNTOLD, add_command, link, shown
from mcp_backups.clients.launch import TOKEN, Launch, on_sandbox, own_command, with_settings
from mcp_backups.errors import ConfigError
from mcp_backups.settings import load_settings

_OTHERS_MAY_READ = 0o077


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
    machine: Machine | None = None,
    environ: Mapping[str, str] = os.environ,
) -> int:
    """Print what a client needs, or put it into its file. Returns the exit code: 1 when it could not be put there.

    Args:
        key: The client's name on the command line.
        write: Put it into the client's file; a copy of that is kept.
        token_in_file: Write the token itself down, instead of where the client finds it.
        sandbox: Have the client start the server on an emulated account.
        machine: Where clients keep their files; this machine if none is given.
        environ: What holds the settings to carry over.

    Raises:
        ConfigError: There is no such client, or a setting is wrong.
    """
    client = _named(key)
    launch = own_command(Path(sys.executable), Path(sys.prefix))
    if sandbox:
        launch = on_sandbox(launch)
    else:
        launch = with_settings(launch, load_settings(), environ, token_in_file=token_in_file)
    path = client.path(machine or this_machine()) if client.path else None
    if write and path is None:
        raise ConfigError(
            f"{client.title} has no file to write to; `mcp-backups config {key}` prints the link to open."
        )
    if path is None or not write:
        sys.stdout.writelines(f"{line}\n" for line in _told(client, launch, path))
        return 0
    return _write(client, launch, path)


def _named(key: str) -> Client:
    for client in CLIENTS:
        if client.key == key:
            return client
    raise ConfigError(f"There is no client of that name; take one of {', '.join(each.key for each in CLIENTS)}.")


def _told(client: Client, launch: Launch, path: Path | None) -> Iterator[str]:
    """Each way to add this server to a client, and where the token comes from."""
    ways = []
    if path is not None:
        ways.append((f"put this into {path} (or call this again with --write)", shown(client, launch)))
    if command := add_command(client, launch):
        kept = f" ({UNTOLD} is your token, which {client.title} then keeps in its file)" if UNTOLD in command else ""
        ways.append((f"run{kept}", command))
    if address := link(client, launch):
        ways.append(("open", address))
    for number, (how, what) in enumerate(ways):
        yield f"{'Or ' if number else ''}{how if number else how[0].upper() + how[1:]}:\n\n{what}\n"
    yield _token_note(client, launch)


def _token_note(client: Client, launch: Launch) -> str:
    """Where the server gets its token from, once the client starts it."""
    if "--sandbox" in launch.arguments:
        return "It needs no token: the account is an emulated one."
    if TOKEN in launch.variables:
        return "The token stands in it: keep the file to yourself, and out of version control."
    if not launch.refers:
        return "The token is read from where your settings say; it is not written down here."
    if client.key == "vscode":
        return "VS Code asks for the token once and keeps it safe."
    if client.reference or client.toml:
        return f"The token is taken from {TOKEN} in the environment in which {client.title} is started."
    or_else = ", or write it down with --token-in-file" if client.path else ""
    return (
        "Nothing here tells the token: keep it in a file that only you may read, and name that as vps_api_token_file"
        f" in the settings file{or_else}."
    )


def _write(client: Client, launch: Launch, path: Path) -> int:
    try:
        # Bytes, so that line ends stay as they are.
        before = path.read_bytes().decode() if path.exists() else ""
        after = merged(before, client, launch)
        if after == before:
            sys.stdout.write(f"{path} has it already.\n")
            return 0
        backup = replace_file(path, after)
    except (CannotMergeError, UnicodeDecodeError, OSError) as error:
        reason = str(error) if isinstance(error, CannotMergeError) else "it cannot be read or written"
        sys.stderr.write(f"mcp-backups: {path} is left as it was: {reason}. Add this by hand:\n")
        sys.stdout.write(shown(client, launch) + "\n")
        return 1
    sys.stdout.write(f"{path} has it now.{f' As it was before: {backup}.' if backup else ''}\n")
    sys.stdout.write(f"{_token_note(client, launch)}\nStart {client.title} again.\n")
    if TOKEN in launch.variables and os.name != "nt" and path.stat().st_mode & _OTHERS_MAY_READ:
        sys.stderr.write(f"mcp-backups: others may read the token in {path}; make it private (chmod 600).\n")
    return 0
