"""What people see: one console, one accent colour, and nothing that a terminal would obey."""

import io
import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
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


def toned(word: str) -> Text:
    """A verdict or a state in its colour, as people write it."""
    return Text(word.replace("_", " "), style=TONES.get(word, ""))


def printable(raw: str) -> str:
    """Text without control, bidirectional and zero-width characters, whatever wrote them there."""
    return "".join(char if char.isprintable() else " " for char in raw)
