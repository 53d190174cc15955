"""Putting our entry into what a client's file holds. Not a byte of anything else changes, or nothing does."""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from pathlib import PureWindowsPath
from typing import Any, NamedTuple

from mcp_backups.commands.config import jsonc
from mcp_backups.commands.config.catalogue import Client, Entry
from mcp_backups.commands.config.files import InvalidError, LeftAloneError
from mcp_backups.commands.config.forms import entry, inputs, reference, toml_table
from mcp_backups.commands.config.launch import TOKEN, TOKEN_FILE, Launch

_BOM = "\ufeff"

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

_DOCKER_OPTIONS, _DOCKER_WITH_VALUE = {"-i", "--rm"}, {"-e", "--env", "-v", "--volume"}


# Which entry is ours, and what of it is renewed: only what we write, since the rest is its user's


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
        if word in _DOCKER_WITH_VALUE:
            next(rest, "")
        elif word not in _DOCKER_OPTIONS:
            return list(rest) if word == "mcp-backups" else None
    return None


# The file's text


def merged(text: str, client: Client, launch: Launch) -> str:
    """The file's text with this server in it; the same text if it is in there already.

    Raises:
        LeftAloneError: The file cannot be read, or holds something else in its place.
    """
    return _merged_toml(text, client, launch) if client.form == "TOML" else _merged(text, client, launch)


def entry_in(text: str, client: Client, name: str) -> Entry:
    """The entry of that name, as a text holds it that `merged` made."""
    is_toml = client.form == "TOML"
    content = tomllib.loads(text.removeprefix(_BOM)) if is_toml else _editing(client).read(text)
    found: Entry = content[client.section][name]
    return found


def _there(content: dict[str, Any], client: Client, launch: Launch) -> Entry | None:
    """Our own entry, None if there is none.

    Raises:
        LeftAloneError: The entry of that name is another's.
    """
    servers = content.get(client.section, {})
    if not isinstance(servers, dict):
        raise LeftAloneError(f"its '{client.section}' is no object")
    found = servers.get(launch.name)
    if launch.name in servers and not is_ours(found):
        raise LeftAloneError(
            f"'{launch.name}' in it is another server, or this one with arguments of your own; choose a name for"
            " this one with --name",
            by_hand=False,
        )
    return found if isinstance(found, dict) else None


class _Editing(NamedTuple):
    """How a client's file is read, and a value in it put or dropped."""

    read: Callable[[str], dict[str, Any]]
    put: Callable[[str, Sequence[str], object], str]
    drop: Callable[[str, Sequence[str]], str]


def _editing(client: Client) -> _Editing:
    if client.form == "JSON":
        return _Editing(jsonc.read, jsonc.put, jsonc.drop)
    from mcp_backups.commands.config import yaml_text  # noqa: PLC0415 - what it needs is an extra

    return _Editing(yaml_text.read_yaml, yaml_text.put_in_yaml, yaml_text.drop_from_yaml)


def _merged(text: str, client: Client, launch: Launch) -> str:
    editing = _editing(client)
    content = editing.read(text)
    there = _there(content, client, launch)
    try:
        after = _edited(text, content, there, client, launch)
        then = editing.read(after)
    except InvalidError:  # such as an alias, of which the anchor would be gone
        raise LeftAloneError("something else in it would change") from None
    _check(content, then, client, launch)
    return after


def _edited(text: str, content: dict[str, Any], there: Entry | None, client: Client, launch: Launch) -> str:
    editing, where, wanted = _editing(client), (client.section, launch.name), entry(client, launch)
    if there is None:
        text = editing.put(text, where, wanted)
    else:
        for path, value in changes(there, wanted, reference(client, launch)):
            full = (*where, *path)
            text = editing.drop(text, full) if value is Gone.GONE else editing.put(text, full, value)
    for asked in inputs(client, launch):
        listed = content.get("inputs", [])
        if not isinstance(listed, list) or not any(_id(each) == asked["id"] for each in listed):
            text = jsonc.append(text, ("inputs",), asked)
    return text


def _id(asked: object) -> object:
    return asked.get("id") if isinstance(asked, dict) else None


def _merged_toml(text: str, client: Client, launch: Launch) -> str:
    mark = _BOM if text.startswith(_BOM) else ""
    text = text.removeprefix(mark)
    content = _read_toml(text, "it is not valid TOML", tell_line=True)
    there = _there(content, client, launch)
    if there is not None:
        changed = list(changes(there, entry(client, launch), reference(client, launch)))
        after = _changed_toml(text, client, launch, changed) if changed else text
    else:
        end = "\r\n" if "\r\n" in text else "\n"
        gap = "" if not text else end if text.endswith("\n") else end * 2
        after = text + gap + toml_table(client, launch).replace("\n", end)
    odd_form = f"its '{client.section}' is written in a form that takes no further table"
    _check(content, _read_toml(after, odd_form), client, launch)
    return mark + after


def _read_toml(text: str, otherwise: str, *, tell_line: bool = False) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=str)  # as it is spelt, so that no-number is what it was
    except (ValueError, RecursionError) as error:
        line = re.search(r"at (line [0-9]+)", str(error)) if tell_line else None
        raise LeftAloneError(f"{otherwise}{f' in {line[1]}' if line else ''}") from None


def _changed_toml(text: str, client: Client, launch: Launch, changed: Iterable[Change]) -> str:
    """The text with our own table renewed in its place."""
    import tomlkit  # noqa: PLC0415 - only an entry of ours that differs needs it
    from tomlkit.exceptions import TOMLKitError  # noqa: PLC0415

    try:
        document = tomlkit.parse(text)
        faithful = document.as_string() == text
        own: Any = document[client.section][launch.name]
        for path, value in changed:
            table = own[path[0]] if len(path) > 1 else own
            if value is Gone.GONE:
                table.remove(path[-1])
            else:
                table[path[-1]] = _inline(value) if isinstance(value, dict) else value
        after = document.as_string()
    except (TOMLKitError, TypeError, ValueError):
        faithful, after = False, text
    if not faithful:
        raise LeftAloneError(f"its [{client.section}.{launch.name}] cannot be changed in place")
    only_crlf = "\r\n" in text and not re.search(r"(?<!\r)\n", text)
    return re.sub(r"(?<!\r)\n", "\r\n", after) if only_crlf else after


def _inline(values: dict[str, Any]) -> Any:
    import tomlkit  # noqa: PLC0415

    table = tomlkit.inline_table()
    table.update(values)
    return table


def _check(before: dict[str, Any], after: dict[str, Any], client: Client, launch: Launch) -> None:
    """Read as the client will: our entry is there, ready to run, and all else is as it was."""
    own = after[client.section][launch.name]
    if not is_ours(own) or list(changes(own, entry(client, launch), reference(client, launch))):
        raise LeftAloneError("the entry would not be read as it is meant")
    asked = inputs(client, launch)
    rest = [_without(content, client, launch, asked) for content in (before, after)]
    if rest[0] != rest[1]:
        raise LeftAloneError("something else in it would change")


def _without(content: dict[str, Any], client: Client, launch: Launch, asked: list[Entry]) -> dict[str, Any]:
    others = {name: each for name, each in content.get(client.section, {}).items() if name != launch.name}
    rest = content | {client.section: others}
    if asked:
        rest["inputs"] = [each for each in content.get("inputs", []) if _id(each) != asked[0]["id"]]
    return rest
