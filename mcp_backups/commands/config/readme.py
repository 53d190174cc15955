"""The part of docs/clients.md that tells how to add this server to each client."""

import json

from mcp_backups.commands.config.catalogue import CLIENTS, Client
from mcp_backups.commands.config.forms import add_command, entry, inputs, web_link
from mcp_backups.commands.config.launch import ENTRY_NAME, INSTALLED

BEGIN, END = "<!-- clients -->", "<!-- /clients -->"

ABOUT = """\
Any client: `mcp-backups config CLIENT` prints what it needs, with your path and your settings; `--write` puts it into
the client's file, keeps a copy and changes nothing else there (goose's is YAML, which needs the extra
`yaml`). `--name NAME` adds an account beside the first.
"""
HEAD = """\
| client | `CLIENT` | by hand |
|---|---|---|"""
AFTERWARDS = """
A program that is not started from a shell may see neither its `PATH` nor its variables. The settings file is always
read: name a file with the token there, `vps_api_token_file = "/path/to/token"`; the token itself is only written down
with `--token-in-file`. For Claude Desktop, each release has an `.mcpb` bundle that asks for the token."""


def section() -> str:
    """Markdown, from one marker to the other."""
    web = ((client.title, web_link(client, INSTALLED)) for client in CLIENTS)
    one_click = [f"[{title}]({address})" for title, address in web if address]
    rows = (f"| {client.title} | `{client.key}` | {_by_hand(client)} |" for client in CLIENTS)
    return "\n".join([BEGIN, f"One click: {', '.join(one_click)}.", ABOUT, HEAD, *rows, AFTERWARDS, END])


def _by_hand(client: Client) -> str:
    if command := add_command(client, INSTALLED):
        return f"`{command}`"
    asked = inputs(client, INSTALLED)
    whole = ({"inputs": asked} if asked else {}) | {client.section: {ENTRY_NAME: entry(client, INSTALLED)}}
    return f"`{client.file}`: `{json.dumps(whole)}`"
