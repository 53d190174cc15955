"""How a client starts this server: the command, and what stands in its environment."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mcp_backups.errors import ConfigError
from mcp_backups.settings import CONFIG, Settings, environment, setting_name

TOKEN, TOKEN_FILE = "VPS_API_TOKEN", "VPS_API_TOKEN_FILE"

ENTRY_NAME = "backups"
"""What the server is called in a client, if no other name is given."""

_UV_CACHE = re.compile(r"(archive|builds|environments)-v[0-9]+")
"""The folders of uv's cache in which uvx keeps what it runs."""

_PIPX_RUN = re.compile(r"[0-9a-f]{2,64}")
"""What `pipx run` calls an environment; one that is there to stay bears the name of a package or a project."""


@dataclass(frozen=True)
class Launch:
    """A command with its environment.

    Attributes:
        variables: What is set, by name; the token only if it is to be written down.
        refers: Whether the client is to take the token from its own environment, where it can.
        name: What the server is called in the client: small letters, digits, `-` and `_`.
        left_out: Settings that hold a secret, and are not written down.
        secrets: Which of the variables are never to be shown.
    """

    command: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]
    refers: bool
    name: str = ENTRY_NAME
    left_out: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return (self.command, *self.arguments)

    @property
    def on_sandbox(self) -> bool:
        return "--sandbox" in self.arguments


INSTALLED = Launch("mcp-backups", (), {}, refers=True)
"""As anybody starts it who has installed it, where its folder is on PATH."""


def own_command(executable: Path, prefix: Path, *, windows: bool = os.name == "nt") -> Launch:
    """As this installation is started, by an absolute path: its console script, else its module.

    A client with windows does not see a shell's PATH. And what is found under a name need not be this program, and
    would be given the token: so a name alone, as `uvx mcp-backups` is one too, is never written.

    Args:
        executable: The Python that runs now.
        prefix: Its environment's folder.
        windows: Whether programs end in `.exe`.

    Raises:
        ConfigError: The environment is one that uvx or `pipx run` made for this call, and may remove at any time.
    """
    parts = prefix.parts
    if any(_UV_CACHE.fullmatch(part) for part in parts) or ("pipx" in parts and _PIPX_RUN.fullmatch(prefix.name)):
        raise ConfigError(
            "This copy of mcp-backups lies in a cache, from which it may vanish. Install it, with `uv tool install .`"
            " or `pipx install .` in the folder of its source, and call `mcp-backups config` again."
        )
    script = executable.parent / ("mcp-backups.exe" if windows else "mcp-backups")
    if script.is_file():
        return Launch(str(script), (), {}, refers=True)
    return Launch(str(executable), ("-P", "-m", "mcp_backups"), {}, refers=True)


def with_settings(launch: Launch, settings: Settings, environ: Mapping[str, str], *, token_in_file: bool) -> Launch:
    """The same with the settings of this environment, so that no rule is lost on the way to the client.

    A token file is named, which is no secret. The token and other secrets are written down only if that is asked for.

    Raises:
        ConfigError: The token is to be written down, and there is none.
    """
    given = environment(environ, type(settings))
    kinds = {setting_name((name,)): repr(field.annotation) for name, field in type(settings).model_fields.items()}
    kinds[CONFIG] = "Path"
    variables = {name: given[name] for name in sorted(kinds.keys() & given.keys())}
    for name, value in variables.items():
        if "Path" in kinds[name]:  # a client starts the server in some other folder
            variables[name] = str(Path(value).expanduser())
    variables.pop(TOKEN, None)
    secrets = tuple(name for name in variables if "SecretStr" in kinds[name])
    if token_in_file:
        if settings.vps_api_token is None:
            raise ConfigError(f"--token-in-file needs a token: set {TOKEN} or {TOKEN_FILE}.")
        variables.pop(TOKEN_FILE, None)
        told = {TOKEN: settings.vps_api_token.get_secret_value()} | variables
        return replace(launch, variables=told, refers=False, secrets=(TOKEN, *secrets))
    public = {name: value for name, value in variables.items() if name not in secrets}
    in_settings_file = settings.vps_api_token is not None and TOKEN not in given
    return replace(launch, variables=public, refers=not in_settings_file, left_out=secrets)


def on_sandbox(launch: Launch) -> Launch:
    """The same on an emulated account: every rule stays, what names the real account goes."""
    rules = {name: value for name, value in launch.variables.items() if not name.startswith("VPS_API_")}
    left_out = tuple(name for name in launch.left_out if not name.startswith("VPS_API_"))
    words = (*launch.arguments, "--sandbox")
    return replace(launch, arguments=words, variables=rules, refers=False, left_out=left_out)
