"""What each client is given: its file's text, its own command, or a link.

Where a client's file can name a variable, no token ever stands in it.
"""

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlencode, urlsplit

from mcp_backups.access import LOCAL, local_token_file
from mcp_backups.commands.config.catalogue import CLIENTS, INPUT, Address, Client, Entry
from mcp_backups.commands.config.launch import ENTRY_NAME, INSTALLED, TOKEN, Launch
from mcp_backups.settings import Settings
from mcp_backups.text import visible
from mcp_backups.values import is_loopback

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


# A server that is reached over HTTP

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
    place = urlsplit(url)
    if place.scheme == "http" and not is_loopback(place.hostname or ""):
        yield "Beware: over http, whoever is on the way there can read the access token. Use https."


def _input(name: str) -> str:
    return f"${{input:{_asked_over_http(name)}}}"


def _inputs(name: str) -> list[Entry]:
    about = "Access token of mcp-backups"
    return [{"type": "promptString", "id": _asked_over_http(name), "description": about, "password": True}]


def _asked_over_http(name: str) -> str:
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


# The part of docs/clients.md that tells how to add this server to each client

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
