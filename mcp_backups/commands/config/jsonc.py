"""Editing JSON in place, with comments and trailing commas as clients allow them.

A text is only ever cut where something is put or dropped, so whatever else stands in it stays to the byte: comments,
numbers that no float can hold, names that stand twice. What is published for this needs Node.js, or Python 3.12, or
reads every file anew into a form of its own.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_backups.commands.config.files import LeftAloneError

_BOM = "\ufeff"
_COMMENT = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_GAP = re.compile(rf"(?:[ \t\r\n]+|{_COMMENT.pattern})*", re.DOTALL)
_REST_OF_LINE = re.compile(r"(?:[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/))*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![0-9A-Za-z.+-])")
_WORD = re.compile(r"(?:true|false|null)(?![0-9A-Za-z_])")
_DEEPEST = 100


class JsonNumber(str):
    """A number as it is spelt: none is ever counted with here."""

    __slots__ = ()


@dataclass(frozen=True)
class Node:
    """A value and where it stands; `members` are those of an object or array."""

    start: int
    end: int
    value: Any
    members: tuple["Member", ...] = ()


@dataclass(frozen=True)
class Member:
    """A value in an object or array.

    Attributes:
        key: Its name; empty in an array.
        start: Where that begins.
        comma: The place behind the comma that follows; 0 if none does.
    """

    key: str
    start: int
    node: Node
    comma: int


def read(text: str) -> dict[str, Any]:
    """The object that a text holds; an empty one if it holds nothing but comments. The last of two names counts.

    Raises:
        LeftAloneError: It is not valid, or no object.
    """
    root = _parse(text)
    if root is not None and not isinstance(root.value, dict):
        raise LeftAloneError("it holds no JSON object")
    return {} if root is None else dict(root.value)


def put(text: str, path: Sequence[str], value: object) -> str:
    """The text with a value at a path of names; objects that are missing on the way are made.

    Raises:
        LeftAloneError: It is not valid, something on the way is no object, or a name on the way stands twice.
    """
    root = node = _parse(text)
    if root is None or node is None:
        return _after_comments(text, _nested(path, value))
    for depth, key in enumerate(path):
        member = _find(node, key)
        if member is None:
            return _insert(
                text, root, node, f"{json.dumps(key, ensure_ascii=False)}: ", _nested(path[depth + 1 :], value)
            )
        node = member.node
    was = text[node.start : node.end]
    spelt = (
        _spelt(value, text, root, _margin(text, node.start)) if "\n" in was else json.dumps(value, ensure_ascii=False)
    )
    return text[: node.start] + spelt + text[node.end :]


def append(text: str, path: Sequence[str], value: object) -> str:
    """The same with a value at the end of the array at a path, which is made where it is missing."""
    root = node = _parse(text)
    for key in path:
        member = _find(node, key) if node is not None else None
        if root is None or member is None:
            return put(text, path, [value])
        node = member.node
    if root is None or node is None or not isinstance(node.value, list):
        raise LeftAloneError(f"its '{path[-1]}' is no list")
    return _insert(text, root, node, "", value)


def drop(text: str, path: Sequence[str]) -> str:
    """The same without what stands at a path, and without its comma and its line."""
    node = _parse(text)
    for key in path[:-1]:
        member = _find(node, key) if node is not None else None
        node = member.node if member is not None else None
    gone = _find(node, path[-1]) if node is not None else None
    if node is None or gone is None:
        return text
    before, end = text[: gone.start], gone.comma or gone.node.end
    line = before.rstrip(" \t")
    alone = line.endswith("\n") and re.match(r"[ \t]*\r?\n", text[end:])
    if alone:
        before = line.removesuffix("\n").removesuffix("\r")
    earlier = [member for member in node.members if member.start < gone.start]
    if not gone.comma and earlier and earlier[-1].comma:
        at = earlier[-1].comma
        before = before[: at - 1] + before[at:]
    rest = text[end:] if alone or not gone.comma else text[end:].lstrip(" \t")
    if not gone.comma or rest.startswith(("\n", "\r")):
        before = before.rstrip(" \t")
    return before + rest


def _parse(text: str) -> Node | None:
    """The text's only value, None if it has none."""
    start = _past_gap(text, 1 if text.startswith(_BOM) else 0)
    if start == len(text):
        return None
    root = _value(text, start, 0)
    end = _past_gap(text, root.end)
    if end < len(text):
        raise _invalid(text, end)
    return root


def _value(text: str, at: int, depth: int) -> Node:
    if depth > _DEEPEST:
        raise LeftAloneError("it is nested too deeply")
    if text[at : at + 1] == "{" or text[at : at + 1] == "[":
        return _container(text, at, depth)
    for pattern, made in ((_STRING, json.loads), (_NUMBER, JsonNumber), (_WORD, json.loads)):
        if match := pattern.match(text, at):
            return Node(at, match.end(), made(match[0]))
    raise _invalid(text, at)


def _container(text: str, start: int, depth: int) -> Node:
    named = text[start] == "{"
    members = list(_members(text, start, depth, named=named))
    end = _past_gap(text, (members[-1].comma or members[-1].node.end) if members else start + 1)
    if text[end : end + 1] != ("}" if named else "]"):
        raise _invalid(text, end)
    values: Any = [member.node.value for member in members]
    if named:
        values = {member.key: member.node.value for member in members}
    return Node(start, end + 1, values, tuple(members))


def _members(text: str, start: int, depth: int, *, named: bool) -> Iterator[Member]:
    """What stands in an object or array, until what can be none: its end, or what makes it invalid."""
    at = _past_gap(text, start + 1)
    while text[at : at + 1] not in {"}", "]", ""}:
        begin, key = at, ""
        if named:
            spelt = _STRING.match(text, at)
            colon = _past_gap(text, spelt.end()) if spelt else at
            if spelt is None or text[colon : colon + 1] != ":":
                raise _invalid(text, colon)
            key, at = json.loads(spelt[0]), _past_gap(text, colon + 1)
        node = _value(text, at, depth + 1)
        behind = _past_gap(text, node.end)
        comma = behind + 1 if text[behind : behind + 1] == "," else 0
        yield Member(key, begin, node, comma)
        if not comma:
            return
        at = _past_gap(text, comma)


def _find(node: Node, key: str) -> Member | None:
    if not isinstance(node.value, dict):
        raise LeftAloneError(f"'{key}' would have to stand in what is no object")
    found = [member for member in node.members if member.key == key]
    if len(found) > 1:
        raise LeftAloneError(f"its '{key}' stands there twice")
    return found[0] if found else None


def _insert(text: str, root: Node, into: Node, name: str, value: object) -> str:
    """The text with a member at the end of an object or array, in the manner of what is there."""
    end = _line_end(text)
    if not into.members:
        inside = text[into.start + 1 : into.end - 1]
        at = into.start + 1 + max((match.end() for match in _COMMENT.finditer(inside)), default=0)
        outer = _margin(text, into.start)
        margin = outer + _unit(text, root)
        closing = "" if "\n" in text[at : into.end] else end + outer
        return f"{text[:at]}{end}{margin}{name}{_spelt(value, text, root, margin)}{closing}{text[at:]}"
    last = into.members[-1]
    at = last.comma or last.node.end
    if "\n" not in text[into.start : into.end]:
        gap = " " if last.comma else ", "
        return f"{text[:at]}{gap}{name}{json.dumps(value, ensure_ascii=False)}{text[at:]}"
    margin = _margin(text, last.start)
    if "\n" not in text[into.start : last.start]:  # on the line on which the whole begins
        margin += _unit(text, root)
    comment = _REST_OF_LINE.match(text, at)
    behind = comment.end() if comment else at
    comma = "" if last.comma else ","
    spelt = _spelt(value, text, root, margin)
    return f"{text[:at]}{comma}{text[at:behind]}{end}{margin}{name}{spelt}{text[behind:]}"


def _after_comments(text: str, value: object) -> str:
    end = _line_end(text)
    gap = "" if text in {"", _BOM} or text.endswith("\n") else end
    return text + gap + json.dumps(value, indent=2, ensure_ascii=False).replace("\n", end) + end


def _nested(path: Sequence[str], value: object) -> object:
    for key in reversed(path):
        value = {key: value}
    return value


def _spelt(value: object, text: str, root: Node, margin: str) -> str:
    spelt = json.dumps(value, indent=_unit(text, root), ensure_ascii=False)
    return spelt.replace("\n", _line_end(text) + margin)


def _unit(text: str, root: Node) -> str:
    """What indents one level here."""
    first = root.members[0].start if root.members else 0
    return _margin(text, first) if "\n" in text[root.start : first] and _margin(text, first) else "  "


def _margin(text: str, at: int) -> str:
    """What stands before the first word of the line of a place."""
    line = text[text.rfind("\n", 0, at) + 1 :].removeprefix(_BOM)
    return line[: len(line) - len(line.lstrip(" \t"))]


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _past_gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


def _invalid(text: str, at: int) -> LeftAloneError:
    line = text.count("\n", 0, at) + 1
    return LeftAloneError(f"it is not valid JSON {'where it ends' if at >= len(text) else f'in line {line}'}")
