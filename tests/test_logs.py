"""Whatever reaches a log or a terminal is one line of it, and nothing in it is obeyed."""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from mcp_backups.cli import main
from mcp_backups.commands.terminal import open_console
from mcp_backups.logs import LineFormatter, SeldomFilter, configure_logging
from tests.process import server_process

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\r\n2026-11-23 09:30:00,000 ERROR mcp_backups: forged",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\",
    "\x9b2J",
    "back\x08space",
    "line\u2028and\u2029paragraph",
    "next\x85line",
    "right\u202eto left\u2066",
    "zero\u200bwidth\ufeff",
    "tag\U000e0041",
    "half \ud83d",
    "nul\x00",
]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers, logging.raiseExceptions = before, raises
    root.setLevel(level)
    logging.getLogger("mcp_backups").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("name", "level", "told"),
    [
        ("uvicorn.error", logging.WARNING, 3),
        ("uvicorn.error", logging.ERROR, 300),
        ("mcp_backups.web.gate", logging.WARNING, 3),
        ("mcp_backups.operations.reconciliation", logging.WARNING, 300),
    ],
)
def test_what_strangers_cause_is_told_once_a_minute(name: str, level: int, told: int) -> None:
    now = 0.0
    seldom = SeldomFilter(lambda: now)
    passed = 0
    for number in range(100):
        for text in ("refused a request to host %s", "Invalid HTTP request received.", "a third"):
            passed += seldom.filter(logging.LogRecord(name, level, "", 0, text, (number,), None))
        now += 0.5
    assert passed == told
    now += 60
    assert seldom.filter(logging.LogRecord(name, level, "", 0, "a third", (), None))


def is_plain(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", ["mcp_backups.server", "uvicorn.error", "mcp.server.transport_security", "asyncio"])
def test_a_record_is_one_line_whoever_writes_it(name: str, hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("INFO", "vps_s3cret", "proxy_s3cret")
    log = logging.getLogger(name)
    log.warning("Invalid Host header: %s", hostile)
    log.warning(f"Invalid Host header: {hostile} vps_s3cret proxy_s3cret")  # noqa: G004 - as the SDK does
    log.error("%s failed", hostile, exc_info=(ValueError, ValueError(hostile), None))
    lines = written.getvalue().split("\n")
    assert [bool(line) for line in lines] == [True, True, True, False]
    assert is_plain(written.getvalue())
    assert "ValueError" in lines[2]
    assert "s3cret" not in written.getvalue()
    assert all(f" {name}: " in line for line in lines[:3])


def test_a_record_that_is_far_too_long_keeps_its_beginning_and_its_end() -> None:
    record = logging.LogRecord("x", logging.ERROR, "", 0, "begin" + "x" * 300_000 + "end", None, None)
    line = LineFormatter().format(record)
    assert len(line) < 9_000
    assert ("begin" in line, line.endswith("end")) == (True, True)


def test_no_tool_or_argument_name_makes_a_line_of_a_servers_log(tmp_path: Path) -> None:
    with server_process(tmp_path / "state", MCP_BACKUPS_LOG_LEVEL="DEBUG") as server:
        server.shake_hands()
        for hostile in HOSTILE[:-2]:
            server.call(hostile)
            server.call("list_backups", **{hostile: 1})
        server.close_input()
        assert server.wait() == 0
        lines = server.stderr.splitlines()
    assert len(lines) >= len(HOSTILE)
    assert all(re.match(r"\d{4}-\d\d-\d\d .* (DEBUG|INFO|WARNING) [\w.]+: ", line) for line in lines)
    assert is_plain(server.stderr)


def test_what_cannot_be_formatted_is_not_printed_as_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    logging.getLogger("mcp_backups").warning("%d", "\x1b[31m")
    assert "\x1b" not in capsys.readouterr().err


def test_a_warning_before_the_log_is_set_up_is_a_line_of_it_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setenv("VPS_API_TOKEN", "${TOKEN}")
    monkeypatch.setenv("VPS_API_TOKEN_FILE", "/nowhere/token")
    assert main(["audit"]) == 2
    warning, error, end = capsys.readouterr().err.split("\n")
    assert " WARNING mcp_backups.settings: VPS_API_TOKEN is a placeholder" in warning
    assert error == "mcp-backups: VPS_API_TOKEN_FILE names a file that cannot be found or read."
    assert end == ""


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_console_prints_nothing_that_a_terminal_obeys(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    table = Table(box=None)
    table.add_column(hostile)
    table.add_row(hostile)
    open_console().print(hostile, Text(hostile, style="red"), table)
    assert is_plain(written.getvalue())


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(
    "command", [["{}"], ["audit", "{}", "{}"], ["operations", "settle", "x", "--as", "{}"], ["config", "{}"]]
)
def test_an_argument_comes_back_as_nothing_that_a_terminal_obeys(
    command: list[str], hostile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        assert main([word.format(hostile) for word in command]) == 2
    told = capsys.readouterr()
    assert told.err
    assert is_plain(told.out + told.err)
