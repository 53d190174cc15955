"""The MCP clients: where each keeps its servers, and how an entry there looks."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from mcp_backups.clients.launch import TOKEN, Launch
from mcp_backups.settings import home

NAME = "backups"
"""What the server is called in a client."""

INPUT = "vps-api-token"
"""The id under which VS Code asks for the token; one of our own, so that no other server's secret is taken for it."""

Entry = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """Where clients keep their files.

    Attributes:
        home: The user's.
        project: The folder to which a client's project files belong.
        config: The system's folder for settings of programs.
    """

    home: Path
    project: Path
    config: Path
    windows: bool = os.name == "nt"


def this_machine() -> Machine:
    return Machine(home(), Path.cwd(), platformdirs.user_config_path(roaming=True))


def _plain(launch: Launch, env: Entry) -> Entry:
    return {"command": launch.command, "args": list(launch.arguments)} | ({"env": env} if env else {})


def _vscode(launch: Launch, env: Entry) -> Entry:
    return {"type": "stdio"} | _plain(launch, env)


def _copilot(launch: Launch, env: Entry) -> Entry:
    return {"type": "local"} | _plain(launch, env) | {"tools": ["*"]}


def _opencode(launch: Launch, env: Entry) -> Entry:
    return {"type": "local", "command": list(launch.words), "environment": env, "enabled": True}


def _codex(launch: Launch, env: Entry) -> Entry:
    return _plain(launch, env) | ({"env_vars": [TOKEN]} if launch.refers else {})


@dataclass(frozen=True)
class Client:
    """One MCP client.

    Attributes:
        key: Its name on our command line.
        file: How its file is called for people.
        path: Where that file is; None for a client that only takes a link.
        section: The object (in TOML the table) in it that holds the servers by name.
        reference: How the file names the token in the client's own environment; empty where it cannot.
        entry: Makes the entry of this server.
        add: Its own command that adds a server; {name}, {env} and {command} are put in.
        add_option: What stands before each variable in it.
        add_reference: As `reference`, where `add` takes one; else a person types the token.
        toml: Whether its file is TOML instead of JSON.
    """

    key: str
    title: str
    file: str = ""
    path: Callable[[Machine], Path] | None = None
    section: str = "mcpServers"
    reference: str = ""
    entry: Callable[[Launch, Entry], Entry] = _plain
    add: str = ""
    add_option: str = ""
    add_reference: str = ""
    toml: bool = False


CLIENTS = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "claude_desktop_config.json",
        lambda machine: machine.config / "Claude" / "claude_desktop_config.json",
    ),
    Client(
        "claude-code",
        "Claude Code",
        ".mcp.json",
        lambda machine: machine.project / ".mcp.json",
        # With a default: without one, a variable that is not set would be taken as it is spelt here.
        reference=f"${{{TOKEN}:-}}",
        add="claude mcp add {name} {env} -- {command}",
        add_option="-e",
    ),
    Client(
        "cursor",
        "Cursor",
        "~/.cursor/mcp.json",
        lambda machine: machine.home / ".cursor" / "mcp.json",
        reference=f"${{env:{TOKEN}}}",
    ),
    Client(
        "vscode",
        "VS Code",
        ".vscode/mcp.json",
        lambda machine: machine.project / ".vscode" / "mcp.json",
        section="servers",
        reference=f"${{input:{INPUT}}}",
        entry=_vscode,
    ),
    Client(
        "codex",
        "Codex",
        "~/.codex/config.toml",
        lambda machine: machine.home / ".codex" / "config.toml",
        section="mcp_servers",
        entry=_codex,
        add="codex mcp add {name} {env} -- {command}",
        add_option="--env",
        toml=True,
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "~/.gemini/settings.json",
        lambda machine: machine.home / ".gemini" / "settings.json",
        reference=f"${TOKEN}",
        add="gemini mcp add {name} {command} {env}",
        add_option="-e",
        add_reference=f"${TOKEN}",
    ),
    Client(
        "copilot",
        "Copilot CLI",
        "~/.copilot/mcp-config.json",
        lambda machine: machine.home / ".copilot" / "mcp-config.json",
        reference=f"${{{TOKEN}}}",
        entry=_copilot,
        add="copilot mcp add {name} {env} -- {command}",
        add_option="--env",
        add_reference=f"${{{TOKEN}}}",
    ),
    Client(
        "opencode",
        "opencode",
        "opencode.json",
        lambda machine: machine.home / ".config" / "opencode" / "opencode.json",
        section="mcp",
        reference=f"{{env:{TOKEN}}}",
        entry=_opencode,
    ),
    Client(
        "windsurf",
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        lambda machine: machine.home / ".codeium" / "windsurf" / "mcp_config.json",
        reference=f"${{env:{TOKEN}}}",
    ),
    Client(
        "zed",
        "Zed",
        "settings.json",
        lambda machine: (
            (machine.config / "Zed" if machine.windows else machine.home / ".config" / "zed") / "settings.json"
        ),
        section="context_servers",
    ),
    Client(
        "junie",
        "JetBrains Junie",
        ".junie/mcp/mcp.json",
        lambda machine: machine.project / ".junie" / "mcp" / "mcp.json",
    ),
    Client("goose", "goose"),
)
