"""Which entry of a client is ours, and what of it is renewed: only what we write, since the rest is its user's."""

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import PureWindowsPath
from typing import Any

from mcp_backups.commands.config.catalogue import Entry
from mcp_backups.commands.config.launch import TOKEN, TOKEN_FILE

ENVIRONMENTS = ("env", "environment", "envs")
"""What clients call the variables of an entry."""

_PYTHON = re.compile(r"python[0-9.]*")
_PASSED = ("env_vars", "env_keys")
"""What clients call the variables of their own that a server gets."""

_COMMANDS = ("command", "cmd", "args")
_ADDRESSES = ("url", "httpUrl", "serverUrl", "uri")
_WITH_VALUE = {"-e", "--env", "-v", "--volume"}


class Gone(Enum):
    """In a change's place for a value: there is to be none."""

    GONE = "gone"


Change = tuple[tuple[str, ...], Any]


def is_ours(entry: object) -> bool:
    """Whether an entry starts this program, by a command that we write or have written; one of like name does not."""
    if not isinstance(entry, dict) or any(entry.get(name) for name in _ADDRESSES):
        return False
    command, arguments = entry.get("command", entry.get("cmd")), entry.get("args", [])
    words = [*(command if isinstance(command, list) else [command]), *(arguments if _texts(arguments) else [None])]
    if not _texts(words) or not words:
        return False
    program, rest = PureWindowsPath(words[0]).name.removesuffix(".exe"), words[1:]  # which reads both kinds of paths
    if program == "uvx":
        return rest[:1] == ["mcp-backups"]
    if program == "docker":
        return _image(rest) == "mcp-backups"
    if _PYTHON.fullmatch(program):
        return rest[:2] == ["-m", "mcp_backups"] or rest[:3] == ["-P", "-m", "mcp_backups"]
    return bool(program == "mcp-backups")


def changes(there: Entry, wanted: Entry, reference: str) -> Iterator[Change]:
    """What of our own entry is to be put or to go, each by its path in it.

    The command and its variables are renewed. Whatever else a user has set stays, above all what switches it off.

    Args:
        there: The entry as it is.
        wanted: As it would be made anew.
        reference: How the client names a variable of its own that holds the token.
    """
    for key in ENVIRONMENTS:
        new, old = wanted.get(key, {}), there.get(key, {})
        if not isinstance(old, dict):
            yield (key,), new
            continue
        told = {TOKEN, TOKEN_FILE} & new.keys()
        stale = {name for name in (TOKEN, TOKEN_FILE) if name in old and (told or old[name] == reference)}
        yield from (((key, name), Gone.GONE) for name in sorted(stale - told))
        if key not in there and key in wanted:
            yield (key,), new
        else:
            yield from (((key, name), value) for name, value in new.items() if old.get(name) != value)
    for key in _PASSED:
        passed = there.get(key, [])
        if isinstance(passed, list):
            kept = [name for name in passed if name != TOKEN] + wanted.get(key, [])
            if sorted(map(str, kept)) != sorted(map(str, passed)):
                yield (key,), kept
    for key in _COMMANDS:
        if key in wanted and there.get(key, []) != wanted[key]:
            yield (key,), wanted[key]
    set_above = {*ENVIRONMENTS, *_PASSED, *_COMMANDS}
    yield from (((key,), value) for key, value in wanted.items() if key not in set_above | there.keys())


def _texts(words: object) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _image(words: list[str]) -> str:
    """The image that `docker run` is given among options that we write."""
    if words[:1] != ["run"]:
        return ""
    rest = iter(words[1:])
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, "")
        elif not word.startswith("-"):
            return word
    return ""
