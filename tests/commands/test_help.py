"""The command line explains itself, and says in one clear line what is wrong."""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_backups.cli import _parser, main
from mcp_backups.commands.usage import HELP


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """Every command, by its words, and the parser itself."""
    yield [], parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from (([name, *words], each) for words, each in parsers(below))


COMMANDS = list(parsers(_parser()))
IDS = [" ".join(words) or "none" for words, _ in COMMANDS]


def words_of(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("words", "parser"), COMMANDS, ids=IDS)
def test_a_commands_help_says_what_it_does_and_what_its_exit_code_means(
    words: list[str], parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    said = words_of(capsys.readouterr().out)
    assert ended.value.code == 0
    assert "Exit codes: 0 " in said
    assert parser.description
    assert parser.description in said
    if words:
        does, more, exits = HELP[words[-1]]
        assert does[1:] in said
        assert more in said
        assert exits in said


@pytest.mark.parametrize(("words", "parser"), COMMANDS, ids=IDS)
def test_every_option_is_explained(words: list[str], parser: argparse.ArgumentParser) -> None:
    unexplained = [
        action.dest
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert unexplained == [], words


def test_no_help_is_left_over() -> None:
    assert {words[-1] for words, _ in COMMANDS if words} == HELP.keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "x"], "argument --port: a port is a number from 0 to 65535"),
        (["serve", "--port", "65536"], "argument --port: a port is a number from 0 to 65535"),
        (["sandbox", "--port", "\u0668\u0660"], "argument --port: a port is a number from 0 to 65535"),
        (["sandbox", "--port", "0000099999"], "argument --port: a port is a number from 0 to 65535"),
        (["operations", "--limit", "none"], "argument --limit: a whole number, 1 or more"),
        (["operations", "--limit", "0"], "argument --limit: a whole number, 1 or more"),
        (["check", "--server", "9" * 5000], "argument --server: a whole number, 1 or more"),
        (["check", "--server", "\u0661\u0662"], "argument --server: a whole number, 1 or more"),
        (["freeze", "--reason", ""], "argument --reason: a few words that say why"),
        (["freeze", "--reason", " \t "], "argument --reason: a few words that say why"),
        (["freeze", "--reason", "\u200b"], "argument --reason: a few words that say why"),
        (["check", "--max-age", "1w"], "argument --max-age: an age from 1h to 365d, such as 36h or 7d"),
        (["operations", "settle", "op_a"], "the following arguments are required: --as"),
        (["audit", "--verify", "--export"], "not allowed with argument"),
        (["sandbox", "--backup-seconds", "nan"], "argument --backup-seconds: seconds are a number from 0 to 99999"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_wrong_usage_is_said_in_one_clear_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    *usage, line = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert usage[0].startswith("usage: mcp-backups")
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--port 80", "--port is where --http listens; call again with --http, or leave it out."),
        ("--port 8765", "--port is where --http listens"),
        ("--port 0 --sandbox", "--port is where --http listens"),
        ("--host localhost", "--host is where --http listens"),
        ("--socket /run/backups.sock", "--socket is where --http listens"),
    ],
)
def test_where_to_listen_is_not_passed_over_without_http(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would serve standard input, and whoever started it would wait for a port that never opens."""
    assert main(["serve", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mcp-backups: ")
    assert said in line


@pytest.mark.parametrize("command", ["config", "config cursor", "operations", "audit --verify", "doctor", "demo"])
def test_a_reader_that_has_seen_enough_is_no_failure(command: str, tmp_path: Path) -> None:
    """As `mcp-backups audit | head`: neither a traceback nor a complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "mcp_backups", *command.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={"HOME": str(tmp_path), "MCP_BACKUPS_STATE_DIR": str(tmp_path)},
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /dev/full, or no such shell")
@pytest.mark.parametrize(
    ("how", "code", "lines"),
    [
        ("check >&-", 3, 1),
        ("check <&- >&- 2>&-", 3, 0),
        ("config nosuch 2>&-", 2, 0),
        ("config >/dev/full", 2, 1),
        ("--sandbox <&- >&-", 0, 0),
    ],
)
def test_where_a_standard_stream_is_closed_or_full_the_exit_code_stays_true(
    how: str, code: int, lines: int, tmp_path: Path
) -> None:
    """A traceback ends a process with 1, which of `check` means that a server certainly has no fresh backup."""
    ended = subprocess.run(
        ["sh", "-c", f"exec {shlex.quote(sys.executable)} -W error -m mcp_backups {how}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"HOME": str(tmp_path), "MCP_BACKUPS_STATE_DIR": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (code, b"", lines)


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_what_reads_the_real_account_does_not_pretend_to_read_the_sandbox(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--sandbox", command]) == 2
    assert "--sandbox does not go with it" in capsys.readouterr().err
