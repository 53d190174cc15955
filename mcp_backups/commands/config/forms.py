"""What each client is given: its file's text, its own command, or a link."""

import base64
import json
import re
import shlex
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from mcp_backups.commands.config.catalogue import INPUT, Client, Entry
from mcp_backups.commands.config.launch import ENTRY_NAME, TOKEN, Launch

_NOT_PRINTED = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

UNTOLD = "…"
"""What stands for a token that a person is to type."""


def entry(client: Client, launch: Launch) -> Entry:
    """What stands under the server's name in the client's file."""
    told = reference(client, launch) if launch.refers else ""
    env = {TOKEN: told} if told else {}
    return client.entry(launch, env | dict(launch.variables))


def reference(client: Client, launch: Launch) -> str:
    """How the client's file names the token; empty where it cannot."""
    return f"${{input:{_asked(launch)}}}" if client.key == "vscode" else client.reference


def _asked(launch: Launch) -> str:
    """The id of VS Code's question: each name has its own, since a second account has a second token."""
    return INPUT if launch.name == ENTRY_NAME else f"{INPUT}-{launch.name}"


def inputs(client: Client, launch: Launch) -> list[Entry]:
    """What the client asks its user for, beside the entry."""
    if client.key != "vscode" or not launch.refers:
        return []
    return [{"type": "promptString", "id": _asked(launch), "description": "VPS.org API token", "password": True}]


def shown(client: Client, launch: Launch) -> str:
    """The client's file with this server in it, an entry a line."""
    return in_file(client, launch.name, entry(client, launch), inputs(client, launch))


def in_file(client: Client, name: str, value: Entry, asked: list[Entry]) -> str:
    """The client's file with one entry in it, and what the client asks its user for."""
    if client.form == "TOML":
        return _table(client, name, value).rstrip("\n")
    own = f'"{name}": {_json(value)}'
    if client.form == "YAML":
        return f"{client.section}:\n  {own}"  # what is JSON is YAML too
    lines = [f'  "inputs": {_json(asked)},'] if asked else []
    lines.append(f'  "{client.section}": {{')
    lines.append(f"    {own}")
    return "\n".join(["{", *lines, "  }", "}"])


def toml_table(client: Client, launch: Launch) -> str:
    """The same as a TOML table, to stand at the end of a file."""
    return _table(client, launch.name, entry(client, launch))


def _table(client: Client, name: str, own: Entry) -> str:
    values = (f"{key} = {_toml(value)}\n" for key, value in own.items())
    return f"[{client.section}.{name}]\n{''.join(values)}"


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return _json(value)  # whose strings and lists of strings are TOML's, but for a character that is escaped here


def _json(value: object) -> str:
    """As JSON in which a terminal obeys nothing: what is not printed is spelt out."""
    return _NOT_PRINTED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def add_command(client: Client, launch: Launch) -> str:
    """The client's own command that adds this server; empty where it has none that could.

    Where that cannot refer to the token, `…` stands for it. One that a terminal would obey is none that could.
    """
    before_options = "-- {command}" in client.add
    if not client.add or (not before_options and any(word.startswith("-") for word in launch.arguments)):
        return ""
    variables = dict(launch.variables)
    if launch.refers:
        variables = {TOKEN: client.add_reference or UNTOLD} | variables
    env = " ".join(f"{client.add_option} {_quoted(f'{name}={value}')}" for name, value in variables.items())
    template = client.add if env else client.add.replace(" {env}", "")
    command = template.format(name=launch.name, env=env, command=shlex.join(launch.words))
    return command if command.isprintable() else ""


def _quoted(word: str) -> str:
    return word if word.endswith(f"={UNTOLD}") else shlex.quote(word)


def link(client: Client, launch: Launch) -> str:
    """An address that has the client ask whether to add this server; empty where it has none, or would hold a token."""
    if TOKEN in launch.variables:
        return ""
    if client.key == "cursor":
        config = base64.b64encode(json.dumps(entry(client, launch)).encode()).decode()
        return "cursor://anysphere.cursor-deeplink/mcp/install?" + urlencode({"name": launch.name, "config": config})
    if client.key == "vscode":
        asked = inputs(client, launch)
        content = {"name": launch.name} | entry(client, launch) | ({"inputs": asked} if asked else {})
        return "vscode:mcp/install?" + quote(json.dumps(content, separators=(",", ":")), safe="")
    return ""


def web_link(client: Client, launch: Launch) -> str:
    """The same for web pages, which may not point to programs; empty where the client has no such page."""
    address = link(client, launch)
    if client.key == "cursor":
        return "https://cursor.com/en/install-mcp?" + address.partition("?")[2]
    if client.key == "vscode":
        return "https://insiders.vscode.dev/redirect?" + urlencode({"url": address})
    return ""
