"""The MCP clients: where each keeps its servers, and how an entry there looks."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import platformdirs

from mcp_backups.commands.config.launch import TOKEN, Launch
from mcp_backups.errors import ConfigError

INPUT = "vps-api-token"
"""The id under which VS Code asks for the token; one of our own, so that no other server's secret is taken for it."""

_DESKTOP_FILE = "claude_desktop_config.json"

Entry = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """Where clients keep their files.

    Attributes:
        home: The user's.
        project: The folder to which a client's project files belong.
        config: The system's folder for settings of programs.
        environ: In it clients are told to keep their files elsewhere.
    """

    home: Path
    project: Path
    config: Path
    windows: bool = os.name == "nt"
    environ: Mapping[str, str] = field(default_factory=dict)

    def folder(self, variable: str, otherwise: Path) -> Path:
        """What a variable names, where it is set.

        Raises:
            ConfigError: It is no absolute path: each folder that this is called in would get a file of its own.
        """
        return _absolute(self.environ[variable], variable) if self.environ.get(variable) else otherwise


def _absolute(folder: str, variable: str) -> Path:
    if not Path(folder).is_absolute():
        raise ConfigError(f"{variable} must be an absolute path, which tells where the client keeps its file.")
    return Path(folder)


def this_machine(environ: Mapping[str, str] = os.environ, *, windows: bool = os.name == "nt") -> Machine:
    """This user's, and the folder that this is called in.

    Raises:
        ConfigError: There is no home folder, or the folder is gone.
    """
    try:
        config = platformdirs.user_config_path(roaming=True)
        if windows and environ.get("APPDATA"):
            config = Path(environ["APPDATA"])
        if not windows and environ.get("HOME") == "":
            raise RuntimeError  # noqa: TRY301 - an empty one means none, and would be taken for the root of all folders
        return Machine(_absolute(str(Path.home()), "HOME"), Path.cwd(), config, windows, environ)
    except (RuntimeError, OSError):
        raise ConfigError(
            "Your home folder or this folder cannot be found: set HOME, or go to another folder."
        ) from None


def _claude_desktop(machine: Machine) -> Path:
    """Its folder; that of the packaged program where there is one, since it sees no other."""
    if machine.windows:
        packages = machine.folder("LOCALAPPDATA", machine.home / "AppData" / "Local") / "Packages"
        found = sorted(packages.glob("Claude_*/LocalCache/Roaming/Claude"))
        found.sort(key=lambda folder: not (folder / _DESKTOP_FILE).exists())  # one that is in use comes first
        if found:
            return found[0] / _DESKTOP_FILE
    return machine.config / "Claude" / _DESKTOP_FILE


def _opencode_file(machine: Machine) -> Path:
    folder = machine.folder("XDG_CONFIG_HOME", machine.home / ".config") / "opencode"
    with_comments = folder / "opencode.jsonc"
    return with_comments if with_comments.exists() else folder / "opencode.json"


def _goose_file(machine: Machine) -> Path:
    if machine.windows:
        return machine.config / "Block" / "goose" / "config" / "config.yaml"
    return machine.folder("XDG_CONFIG_HOME", machine.home / ".config") / "goose" / "config.yaml"


def _zed_file(machine: Machine) -> Path:
    if machine.windows:
        return machine.config / "Zed" / "settings.json"
    return machine.folder("XDG_CONFIG_HOME", machine.home / ".config") / "zed" / "settings.json"


def _plain(launch: Launch, env: Entry) -> Entry:
    return {"command": launch.command, "args": list(launch.arguments)} | ({"env": env} if env else {})


def _vscode(launch: Launch, env: Entry) -> Entry:
    return {"type": "stdio"} | _plain(launch, env)


def _copilot(launch: Launch, env: Entry) -> Entry:
    return {"type": "local"} | _plain(launch, env) | {"tools": ["*"]}


def _opencode(launch: Launch, env: Entry) -> Entry:
    return {"type": "local", "command": list(launch.words), "environment": env, "enabled": True}


def _codex(launch: Launch, env: Entry) -> Entry:
    # Codex gives a server a second to start, and then goes on without it, silently, unless it is required.
    started = {"required": True, "startup_timeout_sec": 30}
    return _plain(launch, env) | ({"env_vars": [TOKEN]} if launch.refers else {}) | started


def _goose(launch: Launch, env: Entry) -> Entry:
    about = {"name": launch.name, "description": "VPS.org backups", "type": "stdio", "enabled": True, "timeout": 300}
    keys = [TOKEN] if launch.refers else []
    return about | {"cmd": launch.command, "args": list(launch.arguments), "envs": env, "env_keys": keys}


@dataclass(frozen=True)
class Address:
    """A server that is reached over HTTP.

    Attributes:
        authorization: The header that lets the client in, as its file spells it; empty where the client logs in.
        variable: The variable of the client's environment that holds the access token.
    """

    url: str
    name: str
    authorization: str
    variable: str

    @property
    def headers(self) -> Entry:
        return {"headers": {"Authorization": self.authorization}} if self.authorization else {}


def _address(address: Address) -> Entry:
    return {"url": address.url} | address.headers


def _remote(key: str, **more: Any) -> Callable[[Address], Entry]:
    """An entry that has the address under this key."""
    return lambda address: more | {key: address.url} | address.headers


def _codex_remote(address: Address) -> Entry:
    return {"url": address.url} | ({"bearer_token_env_var": address.variable} if address.authorization else {})


def _opencode_remote(address: Address) -> Entry:
    # It would take the 401 of a wrong token for an invitation to log in.
    login = {"oauth": False} if address.authorization else {}
    return {"type": "remote", "url": address.url, "enabled": True} | login | address.headers


def _goose_remote(address: Address) -> Entry:
    about = {"name": address.name, "description": "VPS.org backups", "type": "streamable_http", "enabled": True}
    keys = {"env_keys": [address.variable]} if address.authorization else {}
    return about | {"timeout": 300, "uri": address.url} | keys | address.headers


@dataclass(frozen=True)
class Client:
    """One MCP client.

    Attributes:
        key: Its name on our command line.
        file: How its file is called for people.
        path: Where that file is.
        section: The object (in TOML the table) in it that holds the servers by name.
        reference: How the file names the token in the client's own environment; empty where it cannot, or asks for it.
        entry: Makes the entry of this server.
        add: Its own command that adds a server; {name}, {env} and {command} are put in.
        add_option: What stands before each variable in it.
        add_reference: As `reference`, where `add` takes one; else a person types the token.
        form: What its file is written in.
        note: What else its user should know.
        remote: Makes the entry of a server that is reached over HTTP; None where its file takes none.
        variable: How its file names {variable} of its environment in a header; empty where it cannot, or asks for it.
        remote_note: What else to know of that.
    """

    key: str
    title: str
    file: str
    path: Callable[[Machine], Path]
    section: str = "mcpServers"
    reference: str = ""
    entry: Callable[[Launch, Entry], Entry] = _plain
    add: str = ""
    add_option: str = ""
    add_reference: str = ""
    form: Literal["JSON", "TOML", "YAML"] = "JSON"
    note: str = ""
    remote: Callable[[Address], Entry] | None = _address
    variable: str = ""
    remote_note: str = ""


CLIENTS = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        _DESKTOP_FILE,
        _claude_desktop,
        remote=None,
        remote_note="Claude Desktop starts the servers in its file itself: on this machine, take"
        " `mcp-backups config claude-desktop`. A server with an https address of its own, where people log in, is added"
        " under Settings, Connectors.",
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
        remote=_remote("url", type="http"),
        variable="${{{variable}:-}}",
    ),
    Client(
        "cursor",
        "Cursor",
        "~/.cursor/mcp.json",
        lambda machine: machine.home / ".cursor" / "mcp.json",
        reference=f"${{env:{TOKEN}}}",
        variable="${{env:{variable}}}",
    ),
    Client(
        "vscode",
        "VS Code",
        ".vscode/mcp.json",
        lambda machine: machine.project / ".vscode" / "mcp.json",
        section="servers",
        entry=_vscode,
        remote=_remote("url", type="http"),
    ),
    Client(
        "codex",
        "Codex",
        "~/.codex/config.toml",
        lambda machine: machine.folder("CODEX_HOME", machine.home / ".codex") / "config.toml",
        section="mcp_servers",
        entry=_codex,
        add="codex mcp add {name} {env} -- {command}",
        add_option="--env",
        form="TOML",
        remote=_codex_remote,
        variable="{variable}",
        note="Codex gives a server a second to start and then goes on without it, silently: `required = true` stands"
        " against that, which `codex mcp add` does not write. Unattended, Codex refuses every tool that does not only"
        ' read, unless `default_tools_approval_mode = "approve"` stands there too; the rules of mcp-backups remain.',
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
        remote=_remote("httpUrl"),
        variable="${variable}",
    ),
    Client(
        "copilot",
        "Copilot CLI",
        "~/.copilot/mcp-config.json",
        lambda machine: machine.folder("COPILOT_HOME", machine.home / ".copilot") / "mcp-config.json",
        reference=f"${{{TOKEN}:-}}",  # with a default: without one it arrives as it is spelt, where it is not set
        entry=_copilot,
        add="copilot mcp add {name} {env} -- {command}",
        add_option="--env",
        add_reference=f"${{{TOKEN}:-}}",
        remote=_remote("url", type="http", tools=["*"]),
        variable="${{{variable}:-}}",
    ),
    Client(
        "opencode",
        "opencode",
        "opencode.json",
        _opencode_file,
        section="mcp",
        reference=f"{{env:{TOKEN}}}",
        entry=_opencode,
        remote=_opencode_remote,
        variable="{{env:{variable}}}",
    ),
    Client(
        "windsurf",
        "Windsurf",
        "~/.codeium/windsurf/mcp_config.json",
        lambda machine: machine.home / ".codeium" / "windsurf" / "mcp_config.json",
        reference=f"${{env:{TOKEN}}}",
        remote=_remote("serverUrl"),
        variable="${{env:{variable}}}",
    ),
    Client(
        "zed",
        "Zed",
        "settings.json",
        _zed_file,
        section="context_servers",
    ),
    Client(
        "junie",
        "JetBrains Junie",
        ".junie/mcp/mcp.json",
        lambda machine: machine.project / ".junie" / "mcp" / "mcp.json",
        remote_note="That is a file of the project: write the token only into ~/.junie/mcp/mcp.json, which is yours.",
    ),
    Client(
        "goose",
        "goose",
        "~/.config/goose/config.yaml",
        _goose_file,
        section="extensions",
        entry=_goose,
        form="YAML",
        note="goose has no link for this: its links start uvx, npx, docker and few others, and carry no settings.",
        remote=_goose_remote,
        variable="${{{variable}}}",
    ),
)
