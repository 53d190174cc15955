"""What people see: one console, one accent colour, and nothing that a terminal would obey."""

import io
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

ACCENT = "cyan"
"""The one colour; bad news is red."""

_LINE_WIDTH = 160
"""Columns where no terminal sets them: a row stays a line that can be searched."""


class PlainConsole(Console):
    """A console that prints nothing of what it is given that a terminal would obey, whoever wrote that.

    Its reader may leave: that goes on as the BrokenPipeError that it is.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is to be printed, in pieces; those that move the cursor are the console's own."""
        for piece in super().render(renderable, options):
            is_plain = piece.control or all(part.isprintable() for part in piece.text.split("\n"))
            text = piece.text if is_plain else "\n".join(visible(part) for part in piece.text.split("\n"))
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


def visible(raw: str) -> str:
    """Text without control, bidirectional and zero-width characters, whatever wrote them there."""
    return "".join(char if char.isprintable() else " " for char in raw)
