"""How a client starts this server: the command, and what stands in its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.settings import CONFIG, Settings, setting_name

TOKEN, TOKEN_FILE = "VPS_API_TOKEN", "VPS_API_TOKEN_FILE"

_UV_CACHE = "archive-v0"
"""The folder of uv's cache in which uvx keeps what it runs."""

_PATHS = {TOKEN_FILE, CONFIG, setting_name(("state_dir",)), setting_name(("key_file",))}


@dataclass(frozen=True)
class Launch:
    """A command with its environment.

    Attributes:
        variables: What is set, by name; the token only if it is to be written down.
        refers: Whether the client is to take the token from its own environment, where it can.
    """

    command: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    refers: bool

    @property
    def words(self) -> tuple[str, ...]:
        return (self.command, *self.arguments)


PUBLISHED = Launch("uvx", ("mcp-backups",), {}, refers=True)
"""As anybody starts it who has uv."""


def own_command(executable: Path, prefix: Path, *, windows: bool = os.name == "nt") -> Launch:
    """As this installation is started: through uvx if that runs it, else its console script, else its module.

    Args:
        executable: The Python that runs now.
        prefix: Its environment's folder.
        windows: Whether programs end in `.exe`.
    """
    if _UV_CACHE in prefix.parts:
        return PUBLISHED
    script = executable.parent / ("mcp-backups.exe" if windows else "mcp-backups")
    if script.is_file():
        return Launch(str(script), (), {}, refers=True)
    return Launch(str(executable), ("-P", "-m", "mcp_backups"), {}, refers=True)


def with_settings(launch: Launch, settings: Settings, environ: Mapping[str, str], *, token_in_file: bool) -> Launch:
    """The same with the settings of this environment, so that no rule is lost on the way to the client.

    A token file is named, which is no secret. The token itself is written down only if that is asked for.

    Raises:
        ConfigError: The token is to be written down, and there is none.
    """
    known = {setting_name((name,)) for name in Settings.model_fields} | {CONFIG}
    variables = {name: environ[name] for name in sorted(known - {TOKEN}) if environ.get(name)}
    for name in _PATHS & variables.keys():
        variables[name] = str(Path(variables[name]).absolute())
    if token_in_file:
        if settings.vps_api_token is None:
            raise ConfigError(f"--token-in-file needs a token: set {TOKEN} or {TOKEN_FILE}.")
        variables.pop(TOKEN_FILE, None)
        return replace(launch, variables={TOKEN: settings.vps_api_token.get_secret_value()} | variables, refers=False)
    in_settings_file = settings.vps_api_token is not None and not environ.get(TOKEN)
    return replace(launch, variables=variables, refers=not in_settings_file)


def on_sandbox(launch: Launch) -> Launch:
    """The same on an emulated account: no token, no settings."""
    return replace(launch, arguments=(*launch.arguments, "--sandbox"), variables={}, refers=False)
