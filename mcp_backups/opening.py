"""The beginning of a session, answered at once from a table while the rest of the program is imported.

Nearly all of a start is the import of the SDK, and some hosts wait a second for a server's tools and then go on without
them. Until the SDK is there, the few messages with which every client begins are answered here: `initialize`,
`server/discover` and the lists. A yes of this module is one that the SDK would say too, and in the same words: only
what is exactly as clients write it is taken. With the first other line the SDK takes over, and is told what was said.

`python -m tests.opening_table` makes the table anew, and a test compares it with what the SDK answers.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from mcp_backups.instructions import instructions
from mcp_backups.settings import Settings
from mcp_backups.stdio import ENVELOPE, Eras, Message, Opened, endings, lines_of, read_line, take_over

log = logging.getLogger(__name__)

TABLE = Path(__file__).with_name("opening.json")
MODERN = "2026-07-28"
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")

_MOST_BYTES = 2**14
_OF_ANSWERS = re.compile(rb'"(result|error)"')
"""In a line that may be an answer, which is read by the SDK's side alone: what is wrong with it is logged once."""

_SWITCH_SECONDS = 0.0005
"""How long the import may keep an answer waiting; Python's own 5 ms would be most of the time that one takes."""

_CLIENT_INFO, _CAPABILITIES = (f"io.modelcontextprotocol/{name}" for name in ("clientInfo", "clientCapabilities"))


class Opening:
    """What can be answered without the SDK.

    Args:
        table: As in the file.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self._begun: set[str] = set()
        self.kept: list[tuple[Message, Message | None]] = []
        self.eras = Eras()

    def answer(self, line: bytes) -> bytes | None:
        """What to write to a line, empty for nothing; None if it is not one for this module."""
        message = _plain(line)
        result = None if message is None else self._result(message)
        if message is None or result is None:
            return None
        said = {"jsonrpc": "2.0", "id": message["id"], "result": result} if "id" in message else None
        era = "modern" if self.eras.of(message) == ("modern",) else message["method"]
        if era not in {*self._begun, *LISTS}:  # what is kept: the handshake, and what began 2026-07-28
            self._begun.add(era)
            self.kept.append((message, said))
        if said is None:
            return b""
        return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def _result(self, message: Message) -> dict[str, Any] | None:
        method, params, table = message["method"], message.get("params", {}), self._table
        lists: dict[str, Message] = table["lists"]
        if method == "notifications/initialized":
            is_due = "initialize" in self._begun and method not in self._begun
            return {} if is_due and "id" not in message and not params else None
        if "id" not in message:
            return None
        if method == "initialize":
            is_taken = method not in self._begun and _is_handshake(params, table["versions"])
            return table["initialize"] | {"protocolVersion": params["protocolVersion"]} if is_taken else None
        if set(params) - {"_meta"}:
            return None
        meta = params.get("_meta", {})
        if _is_enveloped(meta):
            found = table["discover"] if method == "server/discover" else lists.get(method)
            return None if found is None else found | table["modern"]
        is_begun = "notifications/initialized" in self._begun
        return lists.get(method) if is_begun and _is_progress(meta) else None


def open_session(settings: Settings) -> Opened:
    """Take over standard input and output, and answer the beginning while what serves the rest is imported.

    Returns when there is more to do; the process ends when the client leaves before.

    Args:
        settings: Whether the operator wants the beginning answered here, and the policy that clients are told of.
    """
    incoming, outgoing = take_over()
    table = _table(settings) if settings.fast_start else None
    if table is None:
        return Opened(lines_of(incoming), outgoing.write)
    for each in endings():
        signal.signal(each, lambda *_: os._exit(0))  # nothing has begun that would have to be ended
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    importing = threading.Thread(target=_import_the_rest, daemon=True)
    importing.start()
    opened = _answer(Opening(table), incoming, outgoing)
    if opened is None:
        sys.stderr.flush()
        os._exit(0)  # no end of the interpreter waits for an import under way
    importing.join()
    sys.setswitchinterval(before)
    return opened


def _answer(opening: Opening, incoming: BinaryIO, outgoing: BinaryIO) -> Opened | None:
    lines = lines_of(incoming)
    for line in lines:
        answer = opening.answer(line)
        if answer is None:
            log.debug("answered before the SDK was there: %s", [message["method"] for message, _ in opening.kept])
            rest = chain([line], lines)
            return Opened(rest, outgoing.write, opening.kept, opening.eras)
        try:
            outgoing.write(answer)
        except OSError:
            return None
    return None


def _import_the_rest() -> None:
    try:
        import_module("mcp_backups.transport")
    except BaseException:
        log.exception("the rest of the program cannot be imported")
        sys.stderr.flush()
        os._exit(1)  # the client waits for what would never come


def _table(settings: Settings) -> dict[str, Any] | None:
    """The table, if it was made with the SDK that is installed, as the name of a folder tells at next to no cost."""
    table: dict[str, Any] = json.loads(TABLE.read_bytes())
    found = find_spec("mcp")
    places = [] if found is None else [Path(place).parent for place in found.submodule_search_locations or ()]
    if not any((place / f"mcp-{table['sdk']}.dist-info").is_dir() for place in places):
        return None
    told = {"instructions": instructions(settings)}
    tools = table["lists"]["tools/list"]
    if settings.read_only:
        tools = tools | {"tools": [tool for tool in tools["tools"] if tool["annotations"]["readOnlyHint"]]}
    return (
        table
        | {"initialize": table["initialize"] | told, "discover": table["discover"] | told}
        | {"lists": table["lists"] | {"tools/list": tools}}
    )


def _plain(line: bytes) -> Message | None:
    """A request or notification that is written as clients write them: no escapes, and nothing beside what is known."""
    if len(line) > _MOST_BYTES or b"\\u" in line or _OF_ANSWERS.search(line) or not _is_utf8(line):
        return None
    match read_line(line):
        case [dict() as message] if {"jsonrpc", "method"} <= message.keys() <= {"jsonrpc", "method", "id", "params"}:
            return message if isinstance(message.get("params", {}), dict) else None
    return None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_handshake(params: Message, versions: list[str]) -> bool:
    return (
        params.keys() == {"protocolVersion", "capabilities", "clientInfo"}
        and params["protocolVersion"] in versions
        and _are_capabilities(params["capabilities"])
        and _is_client_info(params["clientInfo"])
    )


def _is_enveloped(meta: object) -> bool:
    return (
        isinstance(meta, dict)
        and meta.keys() - {"progressToken"} == {ENVELOPE, _CLIENT_INFO, _CAPABILITIES}
        and meta[ENVELOPE] == MODERN
        and _are_capabilities(meta[_CAPABILITIES])
        and _is_client_info(meta[_CLIENT_INFO])
        and _is_progress({name: value for name, value in meta.items() if name == "progressToken"})
    )


def _is_progress(meta: object) -> bool:
    return meta == {} or (
        isinstance(meta, dict) and meta.keys() == {"progressToken"} and type(meta["progressToken"]) in {int, str}
    )


def _is_client_info(info: object) -> bool:
    return (
        isinstance(info, dict)
        and {"name", "version"} <= info.keys() <= {"name", "version", "title"}
        and all(isinstance(value, str) for value in info.values())
    )


def _are_capabilities(told: object) -> bool:
    """Objects in objects, but for `listChanged`; of what is still deeper only tasks are more than names to the SDK."""
    return isinstance(told, dict) and all(
        isinstance(each, dict)
        and all(
            isinstance(value, dict) or (name == "listChanged" and isinstance(value, bool))
            for name, value in each.items()
        )
        and (capability != "tasks" or _are_objects(each))
        for capability, each in told.items()
    )


def _are_objects(value: object) -> bool:
    return isinstance(value, dict) and all(map(_are_objects, value.values()))
