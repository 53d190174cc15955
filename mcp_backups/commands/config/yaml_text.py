"""Editing YAML in place. PyYAML tells where each value stands, and a text is only ever cut where one is put or dropped.

So whatever else stands in it stays to the byte. What is put is spelt so that YAML 1.1 and 1.2 read the same.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import yaml

from mcp_backups.commands.config.files import InvalidError, LeftAloneError

_BOM = "\ufeff"
_PLAIN_KEY = re.compile(r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z_][A-Za-z0-9_-]*", re.IGNORECASE)
_NOT_SHOWN = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff]")
_UNIT = "  "


class _Loader(yaml.BaseLoader):
    """Reads every scalar as it is spelt, but for true and false."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?i:true|false)$"), list("tTfF"))


def _bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return loader.construct_scalar(node).lower() == "true"


_Loader.add_constructor("tag:yaml.org,2002:bool", _bool)


def read_yaml(text: str) -> dict[str, Any]:
    """The mapping that a text holds; a name with nothing behind it holds an empty one.

    Raises:
        LeftAloneError: It is not valid, more than one document, or no mapping.
    """
    if _root(text) is None:
        return {}
    found: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - makes nothing but texts, lists and mappings
    return {name: {} if value == "" else value for name, value in found.items()}


def put_in_yaml(text: str, path: Sequence[str], value: object) -> str:
    """The text with a value at a path of names; mappings that are missing on the way are made.

    Raises:
        LeftAloneError: It is not valid, something on the way is no mapping, or a name on the way stands twice.
    """
    node = _root(text)
    if node is None:
        end = _line_end(text)
        gap = "" if text in {"", _BOM} or text.endswith("\n") else end
        return text + gap + _block(_nested(path, value), "", end).removeprefix(end) + end
    for depth, name in enumerate(path):
        pair = _find(node, name)
        rest = _nested(path[depth + 1 :], value)
        if pair is None:
            return _insert(text, node, name, rest)
        key, node = pair
        if _is_empty(node):
            return _replace(text, key, node, rest, margin=" " * key.start_mark.column)
    return _replace(text, key, node, value)


def drop_from_yaml(text: str, path: Sequence[str]) -> str:
    """The same without what stands at a path, and without its comma or its line."""
    node = _root(text)
    for name in path[:-1]:
        pair = _find(node, name) if node is not None else None
        node = pair[1] if pair else None
    gone = _find(node, path[-1]) if node is not None else None
    if node is None or gone is None:
        return text
    if len(node.value) == 1:
        return put_in_yaml(text, path[:-1], {})
    at = [key for key, _ in node.value].index(gone[0])
    start, end = gone[0].start_mark.index, _end(text, gone[1])
    if not node.flow_style:
        return text[: start - gone[0].start_mark.column] + text[_line_after(text, end) :]
    if at + 1 < len(node.value):
        return text[:start] + text[node.value[at + 1][0].start_mark.index :]
    return text[: _end(text, node.value[at - 1][1])] + text[end:]


def _root(text: str) -> Any:
    """The text's only mapping, None if it holds nothing."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidError(f"it is not valid YAML{f' in line {mark.line + 1}' if mark else ''}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidError("it is not valid YAML") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise LeftAloneError("it holds no YAML mapping")
    return root


def _find(node: Any, name: str) -> tuple[Any, Any] | None:
    if not isinstance(node, yaml.MappingNode):
        raise LeftAloneError(f"'{name}' would have to stand in what is no mapping")
    found = [(key, value) for key, value in node.value if key.value == name]
    if len(found) > 1:
        raise LeftAloneError(f"its '{name}' stands there twice")
    return found[0] if found else None


def _is_empty(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.start_mark.index == node.end_mark.index


def _insert(text: str, into: Any, name: str, value: object) -> str:
    """The text with a member at the end of a mapping, in the manner of what is there."""
    if into.flow_style:
        own = f"{json.dumps(name)}: {_flow(value)}"
        if not into.value:
            at = into.end_mark.index - 1
            return f"{text[:at]}{own}{text[at:]}"
        at = _end(text, into.value[-1][1])
        return f"{text[:at]}, {own}{text[at:]}"
    end, at = _line_end(text), _end(text, into.value[-1][1])
    behind = _line_after(text, at)
    margin = min(into.start_mark.column, into.value[0][0].start_mark.column)  # the first is that of an anchor before it
    own = _block({name: value}, " " * margin, end).removeprefix(end)
    gap = "" if text[:behind].endswith("\n") else end
    return f"{text[:behind]}{gap}{own}{end if not gap else ''}{text[behind:]}"


def _replace(text: str, key: Any, node: Any, value: object, margin: str | None = None) -> str:
    """The text with another value behind a key; with a margin, in lines of its own below."""
    start, end = node.start_mark.index, _end(text, node)
    if _is_empty(node) or not getattr(node, "flow_style", True):
        start = text.index(":", key.end_mark.index) + 1
    if margin is not None and value and isinstance(value, dict):
        behind = _line_after(text, start)
        line = text[:behind].rstrip("\r\n")
        return line + _block(value, margin + _UNIT, _line_end(text)) + text[len(line) :]
    gap = "" if text[:start].endswith((" ", "\t")) else " "
    return text[:start] + gap + _flow(value) + text[end:]


def _end(text: str, node: Any) -> int:
    """Where a value ends: PyYAML says of one in lines of its own where the next begins."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        end = int(node.end_mark.index)
        return len(text[:end].rstrip("\r\n")) if getattr(node, "style", None) in {"|", ">"} else end
    last = node.value[-1]
    return _end(text, last[1] if isinstance(last, tuple) else last)


def _line_after(text: str, at: int) -> int:
    """Where the next line begins."""
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1


def _nested(path: Sequence[str], value: object) -> object:
    for name in reversed(path):
        value = {name: value}
    return value


def _block(value: object, margin: str, end: str) -> str:
    """A mapping in lines of its own, each after a line end; anything else as in JSON."""
    if not isinstance(value, dict) or not value:
        return f" {_flow(value)}"
    return "".join(f"{end}{margin}{_key(name)}:{_block(each, margin + _UNIT, end)}" for name, each in value.items())


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else json.dumps(name)


def _flow(value: object) -> str:
    """What is JSON is YAML too, but for characters that YAML wants escaped."""
    return _NOT_SHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
