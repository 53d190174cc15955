"""Putting an entry into a client's file, without losing anything that is there."""

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from mcp_backups.clients.catalogue import NAME, Client, Entry
from mcp_backups.clients.forms import entry, inputs, toml_table
from mcp_backups.clients.launch import TOKEN, TOKEN_FILE, Launch

_OWN_WORDS = ("mcp-backups", "mcp_backups")
_ENVIRONMENTS = ("env", "environment")


class CannotMergeError(Exception):
    """The file is not touched; says why, in our own words."""


def merged(text: str, client: Client, launch: Launch) -> str:
    """The file's text with this server in it; the same text if it is in there already.

    Raises:
        CannotMergeError: The file cannot be read, or holds something else in its place.
    """
    return _merged_toml(text, client, launch) if client.toml else _merged_json(text, client, launch)


def replace_file(path: Path, text: str) -> Path | None:
    """Put a text in a file's place at once, its mode as it was; a new file is the user's alone.

    Returns:
        The copy of the file as it was before, None if there was none.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    target = path.resolve()  # where it is a link, the link stays
    target.parent.mkdir(parents=True, exist_ok=True)
    backup = _free_name(target) if target.exists() else None
    with NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as fresh:
        try:
            fresh.write(text.encode())
            fresh.flush()
            os.fsync(fresh.fileno())
            if backup is not None:
                shutil.copymode(target, fresh.name)
                shutil.copy2(target, backup)
        except BaseException:
            fresh.close()
            Path(fresh.name).unlink()
            raise
    Path(fresh.name).replace(target)
    return backup


def _free_name(target: Path) -> Path:
    names = (target.with_name(f"{target.name}.bak{number or ''}") for number in range(10_000))
    return next(name for name in names if not name.exists())


def _merged_json(text: str, client: Client, launch: Launch) -> str:
    content = _read_json(text)
    servers = _object(content, client.section)
    wanted = entry(client, launch)
    there = servers.get(NAME)
    after = content | {client.section: servers | {NAME: wanted if there is None else _renewed(there, wanted)}}
    if asked := inputs(client, launch):
        listed = content.get("inputs", [])
        if not isinstance(listed, list):
            raise CannotMergeError("its 'inputs' are no list")
        kept = [each for each in listed if not (isinstance(each, dict) and each.get("id") == asked[0]["id"])]
        after["inputs"] = listed if len(kept) < len(listed) else [*listed, *asked]
    return text if after == content else _as_json(after, text)


def _read_json(text: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(content := dict(pairs)) < len(pairs):
            raise ValueError("a name stands twice")
        return content

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    if not text.strip():
        return {}
    try:
        content = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError):
        raise CannotMergeError(
            "it is not plain JSON (comments, perhaps), and would not survive being rewritten"
        ) from None
    if not isinstance(content, dict):
        raise CannotMergeError("it holds no JSON object")
    return content


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise CannotMergeError(f"its '{name}' is no object")
    return value


def _renewed(there: object, wanted: Entry) -> Entry:
    """Our own entry as it is to be; what else the user has put into it stays."""
    if not isinstance(there, dict) or not any(word in json.dumps(there) for word in _OWN_WORDS):
        raise CannotMergeError(f"it has another server of the name '{NAME}'; rename that one")
    after = there | wanted
    for key in _ENVIRONMENTS:
        if isinstance(kept := there.get(key), dict):
            new = wanted.get(key, {})
            replaced = {TOKEN, TOKEN_FILE} if {TOKEN, TOKEN_FILE} & new.keys() else set()
            after[key] = {name: value for name, value in kept.items() if name not in replaced} | new
    return after


def _as_json(content: dict[str, Any], before: str) -> str:
    """JSON in the manner of the text before: its indent, line ends and last line."""
    manner = re.match(r"\{\r?\n([ \t]+)", before.lstrip())
    indent = manner[1] if manner else "  "
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, which JSON can only spell out
        text = json.dumps(content, indent=indent)
    text += "\n" if not before.strip() or before.endswith("\n") else ""
    return text.replace("\n", "\r\n") if "\r\n" in before else text


def _merged_toml(text: str, client: Client, launch: Launch) -> str:
    """The table is put at the end: not a byte of what is there changes."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise CannotMergeError("it is not valid TOML") from None
    wanted = entry(client, launch)
    there = _object(content, client.section).get(NAME)
    if there == wanted:
        return text
    if there is not None:
        raise CannotMergeError(f"it has another [{client.section}.{NAME}]; change that by hand")
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else end if text.endswith("\n") else end * 2
    after = text + gap + toml_table(client, launch).replace("\n", end)
    try:
        complete = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        raise CannotMergeError(f"its '{client.section}' is written in a form that takes no further table") from None
    if complete != content | {client.section: content.get(client.section, {}) | {NAME: wanted}}:
        raise CannotMergeError("the table would not be read as it is meant")
    return after
