"""The MCP server: started as a client starts it, and spoken to in both protocol eras."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import anyio

from mcp_backups.commands.demo.agent import connect
from mcp_backups.commands.demo.step import DemoError
from mcp_backups.commands.doctor.finding import Finding
from mcp_backups.text import plural
from mcp_backups.tools import TOOLS

_PATIENCE = 40.0
"""Seconds for both eras."""

_Mode = Literal["auto", "legacy"]


async def examine_server(command: tuple[str, ...] = ()) -> Finding:
    """Whether a server can be started, and lists its tools.

    Args:
        command: The server; by default this program on its sandbox.
    """
    expected = [tool.name for tool in TOOLS]
    spoken = []
    mode: _Mode
    try:
        with anyio.fail_after(_PATIENCE):
            for mode in get_args(_Mode):
                version, listed = await _listed(command, mode)
                if listed != expected:
                    what = f"It lists {plural(len(listed), 'tool')} instead of its {len(expected)}."
                    return Finding("server", "failure", what, "Install mcp-backups again.")
                spoken.append(version)
    except (DemoError, TimeoutError) as error:
        what = str(error) or f"It did not answer within {_PATIENCE:.0f} s."
        return Finding("server", "failure", what, "Start `mcp-backups --sandbox` by hand to see what it says.")
    return Finding("server", "ok", f"Starts and lists its {len(expected)} tools; protocol {' and '.join(spoken)}.")


async def _listed(command: tuple[str, ...], mode: _Mode) -> tuple[str, list[str]]:
    """The protocol spoken with a client of this era, and the tools it is told of."""
    with TemporaryDirectory(prefix="mcp-backups-doctor-") as folder:
        async with connect(Path(folder), command, mode) as client:
            tools = (await client.list_tools()).tools
            return str(client.protocol_version), [tool.name for tool in tools]
