"""Makes the table of what clients are told at the beginning: `python -m tests.opening_table`.

The SDK is asked, for every version of the protocol, and what differs by version only is left out.
"""

import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from mcp_backups.opening import LISTS, MODERN, TABLE, Opening
from mcp_backups.operations import Context
from mcp_backups.server import build_server
from mcp_backups.settings import Settings
from mcp_backups.stdio import Opened, serve_lines
from tests.stage import PATIENCE

Message = dict[str, Any]

INFO = {"name": "test", "version": "1"}
ENVELOPE: Message = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": INFO,
    }
}


def request(method: str, params: Message | None = None, number: int | str = 1) -> Message:
    return {"jsonrpc": "2.0", "id": number, "method": method} | ({} if params is None else {"params": params})


def handshake(protocol_version: str, number: int | str = 0) -> list[Message]:
    told = {"protocolVersion": protocol_version, "capabilities": {}, "clientInfo": INFO}
    return [request("initialize", told, number), {"jsonrpc": "2.0", "method": "notifications/initialized"}]


def asked(messages: Sequence[Message], settings: Settings | None = None, front: Opening | None = None) -> list[Message]:
    """What the SDK answers to each of these requests, in turn, on a session that a front may have begun."""
    answers: list[Message] = []
    answered = threading.Semaphore(0)

    def lines() -> Iterator[bytes]:
        for message in messages:
            yield json.dumps(message).encode()
            if "id" in message:
                assert answered.acquire(timeout=PATIENCE), message

    def write(line: bytes) -> None:
        answers.append(json.loads(line))
        answered.release()

    begun = (front.kept, front.eras) if front else ()
    anyio.run(serve_lines, build_server(settings or Settings(), _no_context), Opened(lines(), write, *begun))
    return answers


@asynccontextmanager
async def _no_context() -> AsyncIterator[Context]:
    yield None  # type: ignore[misc]  # a list asks nothing


def results(*messages: Message) -> list[Message]:
    return [answer["result"] for answer in asked(messages)]


def make_table() -> dict[str, Any]:
    begun, *lists = results(*handshake("2025-11-25"), *map(request, LISTS))
    discovered, first, *_ = results(request("server/discover", ENVELOPE), request(LISTS[0], ENVELOPE))
    modern = {name: value for name, value in first.items() if name not in lists[0]}
    return {
        "sdk": version("mcp"),
        "versions": list(HANDSHAKE_PROTOCOL_VERSIONS),
        "initialize": {name: begun[name] for name in begun.keys() - {"protocolVersion", "instructions"}},
        "discover": {name: discovered[name] for name in discovered.keys() - {"instructions", *modern}},
        "lists": dict(zip(LISTS, lists, strict=True)),
        "modern": modern,
    }


if __name__ == "__main__":
    TABLE.write_text(json.dumps(make_table(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
