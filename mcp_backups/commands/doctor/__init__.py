"""`mcp-backups doctor`: what is set, whether it works, and what to do where it does not. Changes nothing."""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict

import anyio

from mcp_backups import __version__
from mcp_backups.api import Connect, VpsClient
from mcp_backups.clock import Clock, system_clock
from mcp_backups.commands.doctor.account import examine_account
from mcp_backups.commands.doctor.approval import examine_approval
from mcp_backups.commands.doctor.finding import Finding, Severity
from mcp_backups.commands.doctor.local import examine_ledger, examine_settings
from mcp_backups.commands.doctor.server import examine_server
from mcp_backups.commands.terminal import ACCENT, open_console
from mcp_backups.errors import ConfigError
from mcp_backups.settings import Settings, load_settings

_WRONG_SETTINGS = 2
_STYLES: dict[Severity, str] = {"ok": "", "warning": ACCENT, "failure": "bold red"}
_INDENT = " " * 19


def doctor(
    *,
    as_json: bool,
    account: str = "",
    clock: Clock | None = None,
    connect: Connect = VpsClient,
    command: tuple[str, ...] = (),
) -> int:
    """Print what was found. Returns the exit code: 0 nothing is broken, 1 something is, 2 wrong settings.

    Args:
        as_json: Print one JSON object.
        account: Which of several.
        clock: Where time comes from; the machine's if none is given.
        connect: Makes the API's client, from its address, token and clock.
        command: The MCP server to test; by default this program on its sandbox.
    """
    try:
        settings = load_settings().for_account(account)
    except ConfigError as error:
        _report([Finding("settings", "failure", error.what, "Correct it; nothing else was checked.")], as_json=as_json)
        return _WRONG_SETTINGS
    findings = anyio.run(_examine, settings, clock or system_clock(), connect, command)
    _report(findings, as_json=as_json)
    return 1 if any(finding.verdict == "failure" for finding in findings) else 0


async def _examine(settings: Settings, clock: Clock, connect: Connect, command: tuple[str, ...]) -> list[Finding]:
    return [
        examine_settings(settings),
        examine_approval(settings),
        *await examine_account(settings, clock, connect),
        await examine_ledger(settings, clock),
        await examine_server(command),
    ]


def _report(findings: list[Finding], *, as_json: bool) -> None:
    about = {"mcp-backups": __version__, "python": platform.python_version(), "system": platform.system()}
    if as_json:
        worst = max((finding.verdict for finding in findings), key=list(_STYLES).index)
        told = {"verdict": worst, "about": about, "findings": [asdict(finding) for finding in findings]}
        sys.stdout.write(json.dumps(told) + "\n")
        return
    console = open_console()
    console.print(", ".join(f"{name} {version}" for name, version in about.items()), soft_wrap=True)
    for finding in findings:
        for line in _lines(finding):
            console.print(line, style=_STYLES[finding.verdict], soft_wrap=True)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.verdict:<8} {finding.part:<9} {finding.what}"
    yield from (_INDENT + detail for detail in finding.details)
    if finding.todo:
        yield f"{_INDENT}-> {finding.todo}"
