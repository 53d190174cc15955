"""What people see: one console, one accent colour, and nothing that a terminal would obey."""

import io
import sys
from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

ACCENT = "cyan"
"""What is ours to stress; the colours below tell how things stand."""

_GOOD, _OPEN, _WRONG, _BAD = "green", "yellow", "red", "bold red"

TONES = {
    **dict.fromkeys(("ok", "completed", "succeeded", "approved"), _GOOD),
    **dict.fromkeys(("at_risk", "orphaned", "in_progress", "planned", "needs_confirmation"), _OPEN),
    **dict.fromkeys(("waiting", "needs_approval", "preparing", "sending", "accepted"), _OPEN),
    **dict.fromkeys(("stale", "cannot_tell", "stuck", "doubtful", "unknown", "expired"), _WRONG),
    **dict.fromkeys(("no_good_backup", "failed", "refused", "declined"), _BAD),
}
"""The style of a verdict or a state. The word is always there too: not everybody sees colours."""

_LINE_WIDTH = 160
"""Columns where no terminal sets them: a row stays a line that can be searched."""


_READABLE = 20
"""Columns that words which wrap need at least to be read with ease."""

_BETWEEN = 2
"""Columns between two of a table."""


class PlainConsole(Console):
    """A console that prints nothing of what it is given that a terminal would obey, whoever wrote that.

    Its reader may leave: that goes on as the BrokenPipeError that it is.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is to be printed, in pieces; those that move the cursor are the console's own."""
        for piece in super().render(renderable, options):
            is_plain = piece.control or all(part.isprintable() for part in piece.text.split("\n"))
            text = piece.text if is_plain else "\n".join(printable(part) for part in piece.text.split("\n"))
            yield piece if is_plain else Segment(text, piece.style)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def open_console(*, quiet: bool = False, most_columns: int | None = None) -> Console:
    """A console on standard output: plain text where that is no terminal, without colour where NO_COLOR is set.

    Args:
        quiet: Show nothing.
        most_columns: The width that is never exceeded; by default the terminal's own, and wide where there is none.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that this terminal cannot show is no reason to fail
    console = PlainConsole(highlight=False, markup=False, emoji=False, quiet=quiet)
    if most_columns is not None:
        console.width = min(console.width, most_columns)
    elif not console.is_terminal:
        console.width = _LINE_WIDTH
    return console


class Whole:
    """A table of which nothing is cut: where a terminal is too narrow for it, each row has lines of its own."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The table, or its rows: a cell a line where columns have names, else a row a line."""
        if fits(self._table, console, options.max_width):
            yield self._table
            return
        columns = self._table.columns
        for row in zip(*(column.cells for column in columns), strict=True):
            cells = [cell if isinstance(cell, Text) else Text(str(cell)) for cell in row]
            if not self._table.show_header:
                yield hanging(Text("  ").join(cells), console, options.max_width)
                continue
            for column, cell in zip(columns, cells, strict=True):
                if cell.plain:
                    yield hanging(Text.assemble((f"{column.header}: ", "dim"), cell), console, options.max_width)
            yield Text()


def fits(table: Table, console: Console, width: int) -> bool:
    """Whether a table can be shown whole within so many columns; the library would cut what cannot wrap."""

    def needed(column: Column) -> int:
        measured = [
            Measurement.get(console, console.options.update(max_width=sys.maxsize), cell)
            for cell in (column.header, *column.cells)
        ]
        longest = max(each.maximum for each in measured)
        return longest if column.no_wrap else max(min(longest, _READABLE), *(each.minimum for each in measured))

    return sum(needed(column) + _BETWEEN for column in table.columns) - _BETWEEN <= width


def hanging(line: Text, console: Console, width: int) -> Text:
    """A line, with what it wraps to set in: so nothing that others wrote begins a line as ours do."""
    return Text(f"\n{' ' * _BETWEEN}").join(line.wrap(console, max(width - _BETWEEN, 1)))


def toned(word: str) -> Text:
    """A verdict or a state in its colour, as people write it."""
    return Text(word.replace("_", " "), style=TONES.get(word, ""))


def printable(raw: str) -> str:
    """Text without control, bidirectional and zero-width characters, whatever wrote them there."""
    return "".join(char if char.isprintable() else " " for char in raw)
