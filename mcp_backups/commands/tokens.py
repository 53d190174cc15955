"""`mcp-backups tokens`: who is let in over HTTP, and what they may do."""

import sys
from pathlib import Path

from rich.table import Table

from mcp_backups.access import Role, add_token, kept_tokens, remove_token
from mcp_backups.clock import system_clock
from mcp_backups.commands.terminal import Whole, open_console, printable


def add(folder: Path, name: str, role: Role) -> None:
    """Add an access token and print it, alone on standard output, so that it can be handed on; it is shown only now.

    Raises:
        ConfigError: The name cannot be one, or is taken.
    """
    token = add_token(folder, name, role, system_clock().wall())
    sys.stderr.write(f"{name} may {role}. This is the access token; it is not shown again:\n")
    sys.stdout.write(f"{token}\n")


def show(folder: Path) -> None:
    """Print whom there are access tokens for.

    Raises:
        ConfigError: The file that holds them is damaged.
    """
    kept = kept_tokens(folder)
    if not kept:
        sys.stdout.write("There is no access token beside that of this machine's user.\n")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("name", "role", "since"):
        table.add_column(column, no_wrap=True)
    for each in kept:
        table.add_row(printable(each.name), each.role, f"{each.created:%Y-%m-%d %H:%MZ}")
    open_console().print(Whole(table))


def remove(folder: Path, name: str) -> None:
    """Remove an access token.

    Raises:
        ConfigError: There is none of that name.
    """
    remove_token(folder, name)
    sys.stdout.write(f"{name} is removed: nobody is let in with that access token any more.\n")
