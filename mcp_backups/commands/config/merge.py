"""Putting our entry into what a client's file holds. Not a byte of anything else changes, or nothing does."""

import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from mcp_backups.commands.config import jsonc
from mcp_backups.commands.config.catalogue import Client, Entry
from mcp_backups.commands.config.files import InvalidError, LeftAloneError
from mcp_backups.commands.config.forms import entry, inputs, reference, toml_table
from mcp_backups.commands.config.launch import Launch
from mcp_backups.commands.config.ownership import Change, Gone, changes, is_ours

_BOM = "\ufeff"


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
