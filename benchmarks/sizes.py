"""What the definitions and the answers cost a model, against the API's own JSON."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from pydantic import SecretStr

from benchmarks.measure import Figure, figure, timed
from mcp_backups.sandbox import Emulator, large_fleet, utc_now
from mcp_backups.server import build_server, definition
from mcp_backups.settings import Settings
from mcp_backups.tools import TOOLS, Tool
from mcp_backups.transport import open_context

_CHARS_PER_TOKEN = 4.0
"""A usual figure for English and JSON; what a model really counts depends on the model."""

_MOST_CHARS = 8_000
_CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("list_backups", {}),
    ("list_backups", {"limit": 100}),
    ("check_backups", {}),
    ("create_backup", {"server_id": 12345, "description": "benchmark"}),
    ("delete_backup", {"backup_id": 499}),
    ("restore_server", {"server_id": 12345, "backup_id": 499}),
    ("prune_backups", {"server_id": 12345, "keep_last": 1}),
)


async def size_figures(folder: Path) -> list[Figure]:
    """Bytes of the definitions, characters and tokens of each answer, and a page against the API's JSON."""
    whole = [definition(tool).model_dump(mode="json", by_alias=True, exclude_none=True) for tool in TOOLS]
    figures = [
        Figure(
            "definitions of all tools, as models are told", _compact(list(map(_told, TOOLS))), "bytes", limit=10_000
        ),
        Figure("definitions of all tools, with hints and the schemas of answers", _compact(whole), "bytes"),
    ]
    async with Emulator(backup_seconds=0) as emulator, _client(emulator, folder) as client:
        for tool, arguments in _CALLS:
            figures += await _answer(client, tool, arguments)
        figures += await _against_api(emulator, client)
    return figures


async def growth_figures(folder: Path, most: int, times: int) -> list[Figure]:
    """The time of a first page as the account grows from 10 backups to `most`, and our own CPU time of the largest."""
    figures, backups = [], 10
    while backups <= most:
        fleet = large_fleet(max(1, backups // 40), backups, utc_now())
        async with Emulator(fleet, page_size=100) as emulator, _client(emulator, folder / str(backups)) as client:
            samples = await timed(lambda: client.call_tool("list_backups", {}), times)
        figures.append(figure(f"list_backups of {backups} backups", samples, "ms"))
        backups *= 10
    return figures


def _client(emulator: Emulator, state_dir: Path) -> Client:
    account = {"vps_api_url": emulator.base_url, "vps_api_token": SecretStr(emulator.token)}
    settings = Settings(state_dir=state_dir).model_copy(update=account)
    return Client(build_server(settings, partial(open_context, settings)))


def _told(tool: Tool) -> dict[str, Any]:
    """Name, description and arguments: what a tool consists of in the APIs of models."""
    told = definition(tool)
    return {"name": told.name, "description": told.description, "inputSchema": told.input_schema}


async def _answer(client: Client, tool: str, arguments: dict[str, Any]) -> list[Figure]:
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise ValueError(str(result.content))
    text, data = len(result.content[0].text), _compact(result.structured_content)  # type: ignore[union-attr]
    name = f"{tool}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
    limit = None if "limit" in arguments else _MOST_CHARS
    return [
        Figure(f"{name}: text", text / _CHARS_PER_TOKEN, "tokens"),
        Figure(f"{name}: structured", data / _CHARS_PER_TOKEN, "tokens"),
        Figure(f"{name}: both", text + data, "chars", limit=limit),
    ]


async def _against_api(emulator: Emulator, client: Client) -> list[Figure]:
    page = await client.call_tool("list_backups", {})
    assert page.structured_content is not None
    shown = [row["id"] for row in page.structured_content["backups"]]
    headers = {"Authorization": f"Bearer {emulator.token}"}
    async with httpx2.AsyncClient(headers=headers) as http:
        rows = (await http.get(f"{emulator.base_url}/backups/")).json()["results"]
    told = _compact([row for row in rows if row["id"] in shown])
    text = len(page.content[0].text.encode())  # type: ignore[union-attr]
    return [
        Figure(
            "a page's structured content, against the API's JSON",
            _compact(page.structured_content) / told,
            "x",
            limit=0.75,
        ),
        Figure("a page's text, against the API's JSON", text / told, "x", limit=0.45),
    ]


def _compact(value: object) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
