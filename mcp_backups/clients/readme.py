"""The part of the README that tells how to add this server to each client."""

import json

from mcp_backups.clients.catalogue import CLIENTS, NAME, Client
from mcp_backups.clients.forms import add_command, entry, inputs, link, web_link
from mcp_backups.clients.launch import PUBLISHED

BEGIN, END = "<!-- clients -->", "<!-- /clients -->"

ABOUT = """\
Any client: `uvx mcp-backups config CLIENT` prints what it needs, for your installation and with your settings;
`--write` puts it into the client's file, of which a copy is kept. The token is only written down with
`--token-in-file`.
"""
HEAD = """\
| client | `CLIENT` | by hand |
|---|---|---|"""
AFTERWARDS = """
A program that is not started from a shell may not see its variables. The settings file is always read: name a file
with the token there, `vps_api_token_file = "/path/to/token"`. For Claude Desktop, each release has an `.mcpb` bundle
that asks for the token."""


def section() -> str:
    """Markdown, from one marker to the other."""
    web = ((client.title, web_link(client, PUBLISHED)) for client in CLIENTS)
    one_click = [f"[{title}]({address})" for title, address in web if address]
    rows = (f"| {client.title} | `{client.key}` | {_by_hand(client)} |" for client in CLIENTS)
    return "\n".join([BEGIN, f"One click: {', '.join(one_click)}.", ABOUT, HEAD, *rows, AFTERWARDS, END])


def _by_hand(client: Client) -> str:
    if command := add_command(client, PUBLISHED):
        return f"`{command}`"
    if not client.file:
        return f"open `{link(client, PUBLISHED)}`"
    asked = inputs(client, PUBLISHED)
    whole = ({"inputs": asked} if asked else {}) | {client.section: {NAME: entry(client, PUBLISHED)}}
    return f"`{client.file}`: `{json.dumps(whole)}`"
