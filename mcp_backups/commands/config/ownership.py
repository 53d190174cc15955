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
_STARTS: dict[str, list[list[str]]] = {
    "mcp-backups": [[]],
    "uvx": [["mcp-backups"]],
    "python": [["-m", "mcp_backups"], ["-P", "-m", "mcp_backups"]],
}
"""What we write, or have written, between a program and what this one is told."""

_TOLD = re.compile(r"(serve )?(--account [A-Za-z0-9_-]+ )?(--sandbox )?")
"""What we have it told. Another program of that name is told something else, and so is ours by its user, to whom it is
not to be lost."""

_PASSED = ("env_vars", "env_keys")
"""What clients call the variables of their own that a server gets."""

_COMMANDS = ("command", "cmd", "args")
_ADDRESSES = {"url", "httpurl", "serverurl", "uri"}
_LOCAL = ("stdio", "local")
"""What clients call a server that they start."""

_OPTIONS, _WITH_VALUE = {"-i", "--rm"}, {"-e", "--env", "-v", "--volume"}


class Gone(Enum):
    """In a change's place for a value: there is to be none."""

    GONE = "gone"


Change = tuple[tuple[str, ...], Any]


def is_ours(entry: object) -> bool:
    """Whether an entry starts this program, by a command that we write or have written; one of like name does not."""
    if not isinstance(entry, dict) or any(value for name, value in entry.items() if str(name).lower() in _ADDRESSES):
        return False
    commands: list[Any] = [entry[name] for name in ("command", "cmd") if name in entry]
    arguments: Any = entry.get("args", [])
    if len(commands) != 1 or entry.get("type", "stdio") not in _LOCAL:
        return False
    words: list[Any] = commands[0] if isinstance(commands[0], list) else commands
    words = words + (arguments if _texts(arguments) else [None])
    told = _told(words) if _texts(words) and words else None
    return told is not None and bool(_TOLD.fullmatch("".join(f"{word} " for word in told)))


def _told(words: list[str]) -> list[str] | None:
    """What a command has this program told; None if it starts another."""
    program, rest = PureWindowsPath(words[0]).name.removesuffix(".exe"), words[1:]  # which reads both kinds of paths
    if program == "docker":
        return _told_in_image(rest)
    starts = _STARTS.get("python" if _PYTHON.fullmatch(program) else program, [])
    return next((rest[len(start) :] for start in starts if rest[: len(start)] == start), None)


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
        passed, own = there.get(key, []), wanted.get(key, [])
        if isinstance(passed, list):
            names = [each.get("name") if isinstance(each, dict) else each for each in passed]
            if (TOKEN in names) != (TOKEN in own):
                yield (key,), [each for each, name in zip(passed, names, strict=True) if name != TOKEN] + own
    for key in _COMMANDS:
        if key in wanted and there.get(key, []) != wanted[key]:
            yield (key,), wanted[key]
    set_above = {*ENVIRONMENTS, *_PASSED, *_COMMANDS}
    yield from (((key,), value) for key, value in wanted.items() if key not in set_above | there.keys())


def _texts(words: object) -> bool:
    return isinstance(words, list) and all(isinstance(word, str) for word in words)


def _told_in_image(words: list[str]) -> list[str] | None:
    """What `docker run` has our image told, among options that we write."""
    if words[:1] != ["run"]:
        return None
    rest = iter(words[1:])
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, "")
        elif word not in _OPTIONS:
            return list(rest) if word == "mcp-backups" else None
    return None
