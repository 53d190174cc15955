"""The demo as an SVG for the README: the same words from the same screen, with ids and times that never change."""

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from mcp_backups.commands.demo.screen import Screen
from mcp_backups.commands.demo.step import Step
from mcp_backups.errors import ConfigError
from mcp_backups.text import stamp

_COLUMNS = 88
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
        width=_COLUMNS,
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
