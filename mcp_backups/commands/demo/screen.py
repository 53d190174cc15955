"""How the demo looks: a title, the call, its answer, and what that shows; calm, whole at 80 columns.

The picture for the README shows the same words from the same screen, with ids and times that never change.
"""

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from mcp_backups.commands.audit import Record, histories
from mcp_backups.commands.config.launch import own_command
from mcp_backups.commands.demo.step import Step
from mcp_backups.commands.terminal import ACCENT, open_console, toned
from mcp_backups.errors import ConfigError
from mcp_backups.text import plural, size, stamp

NEXT = (
    ("{program} config claude-code --sandbox", "try it in Claude Code"),
    ("{program} config CLIENT", "add it to any client"),
    ("{program} doctor", "check token and settings"),
)
"""What to do after the demo, and why."""

_MOST_COLUMNS = 104
_INDENT = 4
_LABEL_COLUMNS = len("good backups left")
_ROWS_SHOWN = 6
_PLAIN_REASON = "Newest good backup."


class Screen:
    """Tells the demo on a console.

    Args:
        console: By default standard output.
        quiet: Say nothing.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or open_console(quiet=quiet, most_columns=_MOST_COLUMNS)
        self._parts = 0
        is_unicode = self._console.encoding.lower().startswith("utf")
        self._arrow, self._tick, self._cross = "→✓✗" if is_unicode else ">+x"

    @property
    def is_live(self) -> bool:
        """Whether somebody watches in a terminal."""
        return self._console.is_interactive and not self._console.quiet

    def opening(self) -> None:
        self._console.print()
        self._console.print(Text("mcp-backups demo", style=f"bold {ACCENT}"))
        self._console.print(
            "An agent looks after the backups of a few servers. The MCP session and the server process "
            "are real; the account is a sandbox on this machine. Every answer is checked."
        )

    def call(self, step: Step) -> None:
        self._title(step.title)
        arguments = ", ".join(f"{name}={json.dumps(value)}" for name, value in step.arguments.items())
        self._marked(self._arrow, Text.assemble((step.tool, f"bold {ACCENT}"), f"({arguments})"))

    @contextmanager
    def waiting(self, step: Step) -> Iterator[Callable[[], None]]:
        """While a call runs; what this yields is to be called after each progress notification."""
        if not self.is_live or "wait_seconds" not in step.arguments:
            yield lambda: self._print(Text(_progress_line(step), style="dim"))
            return
        columns = (
            TextColumn(" " * (_INDENT - 1)),
            SpinnerColumn(style=ACCENT, finished_text=" "),
            BarColumn(bar_width=24, complete_style=ACCENT, finished_style=ACCENT, pulse_style=ACCENT),
            TextColumn("{task.description}", style="dim"),
        )
        with Progress(*columns, console=self._console) as bars:
            bar = bars.add_task("waiting", total=None)

            def show() -> None:
                waited, at_most, words = step.progress[-1]
                bars.update(bar, completed=waited, total=at_most, description=words)

            yield show
            bars.update(bar, completed=1, total=1, description=f"answered after {bars.tasks[0].elapsed:.1f} s")

    def answer(self, step: Step) -> None:
        if step.is_error:
            code, _, rest = step.text.partition(":")
            self._print(Text.assemble((code, "bold red"), ":", rest))
        elif "backups" in step.structured:
            self._print(_backups_view(step))
        elif "servers" in step.structured:
            self._print(_report_view(step))
        else:
            self._print(_operation_view(step))

    def moral(self, step: Step) -> None:
        self._marked(self._tick, Text(step.moral))

    def audit(self, record: Record) -> None:
        self._title("Afterwards: every step stands in the ledger")
        for operation_id, operation, steps in histories(record.events):
            about = f" {operation.server_name}, backup {operation.backup_id}  " if operation else ""
            action = operation.action if operation else ""
            self._print(Text.assemble((action, f"bold {ACCENT}"), about, (operation_id, "dim")))
            states = Text(f" {self._arrow} ").join(toned(step) for step in steps)
            self._print(Padding(states, (0, 0, 0, 2), expand=False))
        told = f"{record.verdict}; mcp-backups audit shows such a log."
        self._marked(self._cross if record.fault else self._tick, Text(told))

    def failure(self, reason: str) -> None:
        self._console.print()
        self._console.print(Text(f"{self._cross} Not as told: {reason}", style="bold red"))

    def closing(self, calls: int, seconds: float) -> None:
        done = f"{self._tick} {plural(calls, 'call')}, every answer as told, in {seconds:.0f} s. What to do next:"
        program = started_again(sys.argv[0], Path(sys.executable), Path(sys.prefix), shutil.which("mcp-backups"))
        self._console.print()
        self._console.print(Text(done, style="bold"))
        commands = [how.format(program=program) for how, _ in NEXT]
        for command, (_, why) in zip(commands, NEXT, strict=True):
            padded = command.ljust(max(map(len, commands)))
            # Not broken into lines here, so that it can be copied.
            self._console.print(Text.assemble(" " * _INDENT, (padded, ACCENT), f"  {why}"), soft_wrap=True)
        self._console.print()

    def _title(self, title: str) -> None:
        self._parts += 1
        self._console.print()
        self._console.print(Text.assemble((f"{self._parts:>2}  ", f"bold {ACCENT}"), (title, "bold")))

    def _marked(self, mark: str, text: Text) -> None:
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(mark, style=f"bold {ACCENT}"), text)
        self._print(line)

    def _print(self, content: RenderableType) -> None:
        self._console.print(Padding(content, (0, 0, 0, _INDENT), expand=False))


def started_again(given: str, executable: Path, prefix: Path, found: str | None) -> str:
    """How a shell starts this program again, from where it was started: by its name where that is this very one.

    Args:
        given: As it was started.
        executable: The Python that runs now.
        prefix: Its environment's folder.
        found: What a shell finds under its name. uvx has one found for this call alone.
    """
    try:
        words = own_command(executable, prefix).words
    except ConfigError:  # of a cache; there `config` says what to do first
        return shlex.quote(given)
    if found and Path(found).resolve() == Path(words[0]).resolve():
        return "mcp-backups"
    return shlex.quote(given) if Path(given).resolve() == Path(words[0]).resolve() else shlex.join(words)


def _progress_line(step: Step) -> str:
    waited, at_most, words = step.progress[-1]
    return f"progress {waited:.0f} of at most {at_most:.0f} s: {words}"


def _backups_view(step: Step) -> RenderableType:
    table = _table("id", "server", "status", "size", "age", numbers=("id", "size", "age"))
    table.add_column("description", ratio=1)
    for row in step.rows[:_ROWS_SHOWN]:
        known, described = size(row.get("size_mb")), Text(row.get("description", ""))
        table.add_row(str(row["id"]), row["server"], toned(row["status"]), known, row["age"], described)
    rest = step["total"] - _ROWS_SHOWN
    return Group(table, Text(f"and {rest} more", style="dim")) if rest > 0 else table


def _report_view(step: Step) -> RenderableType:
    """A line a server, and below it what is wrong."""
    usual = step["others_verdict"]
    rows = [*step["servers"], *(step["others"] or [])]
    names = [row.get("server", str(row["server_id"])) for row in rows]
    verdicts = [toned(row.get("verdict", usual)) for row in rows]
    lines: list[RenderableType] = [Text(step["summary"])]
    wide, wider = max(map(len, names), default=0) + 2, max(map(len, verdicts), default=0) + 2
    for row, name, verdict in zip(rows, names, verdicts, strict=True):
        verdict.pad_right(wider - len(verdict))
        newest = f"newest good backup {row['restore_to']}, {row['age']} old" if row.get("restore_to") else ""
        lines.append(Text.assemble(name.ljust(wide), verdict, newest))
        reason = row.get("reason", "").removeprefix(_PLAIN_REASON).strip()
        if reason:
            lines.append(Padding(Text(reason, style="dim"), (0, 0, 0, wide), expand=False))
    return Group(*lines)


def _table(*names: str, numbers: Sequence[str]) -> Table:
    """A table without lines, in which nothing is cut; the last column wraps."""
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table


def _operation_view(step: Step) -> RenderableType:
    """The status and the sentence, then what of the rest this step is about."""
    told = [toned(step["status"]), Text.assemble(("changed:", "dim"), f" {step['changed']}")]
    if step["approved_by"] not in {None, "not_required"}:
        told.append(Text.assemble(("approved by:", "dim"), f" {step['approved_by']}"))
    if step["replayed"]:
        told.append(Text("replayed", style=f"bold {ACCENT}"))
    status = Text("  ").join(told)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=_LABEL_COLUMNS)
    table.add_column()
    for name in step.shown:
        style = f"bold {ACCENT}" if name == "undo" else ""
        table.add_row(name.rpartition(".")[2].replace("_", " "), Text(_value(step[name]), style=style))
    return Group(status, Text(step["summary"]), table) if step.shown else Group(status, Text(step["summary"]))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        parts = (
            f"{value['id']} of {value['server']}",
            value.get("type"),
            size(value["size_mb"]) if "size_mb" in value else None,
            f"{value['age']} old",
            value.get("description"),
        )
        return ", ".join(part for part in parts if part)
    return str(value)


# The picture for the README

_PICTURE_COLUMNS = 88
_TITLE = "mcp-backups demo"
_NOW = datetime(2026, 11, 23, 15, 20, tzinfo=UTC)
_TICK = timedelta(minutes=5)
"""The sandbox dates what it holds in whole multiples of it before its start, which is some seconds before an answer."""

_ID = "op_xr63om62lccywezf"

_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>mcp-backups demo</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own asks a stranger for a font, whenever somebody looks at the picture."""


def draw(steps: Sequence[Step], file: Path) -> None:
    """Draw those steps of a demo that was played which belong into the picture.

    Raises:
        ConfigError: The file cannot be written.
    """
    console = Console(
        record=True,
        width=_PICTURE_COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    screen = Screen(console)
    now = datetime.fromisoformat(steps[0]["as_of"])
    for step in steps:
        if step.pictured:
            same = _timeless(step, now)
            screen.call(same)
            screen.answer(same)
            screen.moral(same)
    try:
        file.write_text(console.export_svg(title=_TITLE, code_format=_FORMAT, unique_id="demo"), encoding="utf-8")
    except OSError:
        raise ConfigError(f"--svg: {file.name} cannot be written there.") from None


def _timeless(step: Step, now: datetime) -> Step:
    """The step as if it had been made at one time, and with ids that tell nothing."""

    def same(text: str) -> str:
        text = re.sub(r"op_[a-z2-7]{16}", _ID, text)
        return re.sub(r"(\d{4}-\d\d-\d\dT)?\d\d:\d\dZ", lambda found: _moved(found[0], now), text)

    return replace(
        step,
        arguments=json.loads(same(json.dumps(step.arguments))),
        text=same(step.text),
        structured=json.loads(same(json.dumps(step.structured))),
    )


def _moved(time: str, now: datetime) -> str:
    """A time as far from `_NOW` as it was from now; one without a date is the next of that name."""
    if "T" in time:
        return stamp(_NOW + round((datetime.fromisoformat(time) - now) / _TICK) * _TICK)
    ahead = (datetime.fromisoformat(f"{now:%Y-%m-%d}T{time}") - now) % timedelta(days=1)
    return f"{_NOW + round(ahead / _TICK) * _TICK:%H:%MZ}"
