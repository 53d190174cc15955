"""Untrusted text made safe to show; sizes, times and ages in words."""

import json
import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

MAX_CHARS = 200
"""Characters of upstream text that are ever shown."""

READ_CHARS = 4_000
"""Characters of upstream text that are ever looked at."""

_ECHOED = 40
_NUMBER_BITS = 128
_MB_PER_GB = 1024
_NOTHING, _MINUTE = timedelta(0), timedelta(minutes=1)
_AGE = re.compile(r"([0-9]{1,5})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x9b[0-?]*[ -/]*[@-~]")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_LINE_ENDS = frozenset("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_TAGS = range(0xE0000, 0xE0080)
_JOINERS, _SELECTORS = frozenset("\u200c\u200d"), frozenset("\ufe0e\ufe0f")
"""What makes several characters one, as in emoji of families and in Persian, and a character an emoji or not one."""

_STRAIGHT = str.maketrans("\u2018\u2019\u02bc\u201c\u201d", "'''\"\"")

_LINK = re.compile(r"://|@|\b(?:www\.|mailto:|tel:)", re.IGNORECASE)

# Letters and marks that draw nothing: fillers, joiners and variation selectors, which can carry hidden words.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def safe_text(raw: str) -> str:
    """Upstream text as one short line of visible characters.

    Control, bidirectional, zero-width, tag, private and unassigned characters, terminal escape
    sequences and lone surrogates are dropped, white space is folded, and what is longer than
    200 characters is cut with an ellipsis.
    """
    if len(raw) <= MAX_CHARS and raw.isascii() and raw.isprintable() and "  " not in raw and raw == raw.strip():
        return raw  # what nearly all texts are; the rest takes twenty times as long
    line = visible(raw)
    if len(line) > MAX_CHARS or len(raw) > READ_CHARS:
        return line[: MAX_CHARS - 1] + "…"
    return line


def visible(raw: str) -> str:
    """The visible characters of upstream text as one line; of its first 4,000 characters, so far as it is read."""
    drawn = _INVISIBLE.sub("", _ESCAPE_SEQUENCE.sub("", raw[:READ_CHARS]))
    shown = (" " if ch.isspace() else ch for ch in drawn if ch.isspace() or _is_visible(ch))
    return " ".join("".join(shown).split())


def seen(raw: str) -> str:
    """The text as people see it, for comparing what they type: compatible characters alike, nothing that is not drawn.

    `é` is the same in one piece or two, wide letters as narrow ones, an emoji with or without its selectors and
    joiners, any run of spaces is one, and the quotes that keyboards bend are straight; capitals stay capitals. Only the
    first 4,000 characters count.
    """
    return unicodedata.normalize("NFKC", visible(unicodedata.normalize("NFKC", visible(raw)))).translate(_STRAIGHT)


def line_fault(raw: str) -> str:
    """What stands in a text that has no place in one visible line, as in `a line break at character 12`; empty if none.

    Every kind of space has, and what joins or selects drawn characters, as in emoji.
    """
    for place, char in enumerate(raw):
        if fault := _fault(char, raw[place - 1 : place], raw[place + 1 : place + 2]):
            return f"{fault} at character {place + 1}"
    return ""


def _fault(char: str, before: str, after: str) -> str:
    """What is wrong with a character between its neighbours."""
    category = unicodedata.category(char)
    follows, joins = _is_drawn(before), (_is_drawn(before) or before in _SELECTORS) and _is_drawn(after)
    if category == "Zs" or _is_drawn(char) or (char in _SELECTORS and follows) or (char in _JOINERS and joins):
        return ""
    if char in _LINE_ENDS or char == "\t":
        return "a tab" if char == "\t" else "a line break"
    kinds = {
        "control": category == "Cc",
        "bidirectional": char in _DIRECTIONS,
        "tag": ord(char) in _TAGS,
        "surrogate": category == "Cs",
        "unassigned": category in {"Co", "Cn"},
    }
    kind = next((kind for kind, holds in kinds.items() if holds), "invisible")
    return f"{'an' if kind[0] in 'iu' else 'a'} {kind} character (U+{ord(char):04X})"


def _is_drawn(char: str) -> bool:
    """Whether it is one, and people see it."""
    return bool(char) and not char.isspace() and _is_visible(char) and not _INVISIBLE.match(char)


def _is_visible(ch: str) -> bool:
    return unicodedata.category(ch) not in _INVISIBLE_CATEGORIES


def got(value: object) -> str:
    """A value that came in, in JSON's words, cleaned and cut at 40 characters: `text 'yes'`, `12345.5`, `null`."""
    if isinstance(value, str):
        shown = visible(value)
        whole = f"{shown!r}" if len(shown) <= _ECHOED else f"{shown[:_ECHOED] + '…'!r} of {len(value)} characters"
        is_all = shown == value[:READ_CHARS]
        return f"text {whole}" if is_all else f"text {whole}, with spaces or invisible characters left out here"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > _NUMBER_BITS:
        return "a number of more than 38 digits"  # Python refuses to write out some thousands of them
    return json.dumps(value)


def quoted(foreign: str) -> str:
    """Text of others in quotation marks that it cannot end, and spread so that no program makes a link of it."""
    return json.dumps(_LINK.sub(lambda link: f" {link[0]} ", foreign), ensure_ascii=False)


def stamp(moment: datetime) -> str:
    """A time as UTC to the minute, `2026-11-23T03:00Z`."""
    return moment.astimezone(UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"


def stamp_after(moment: datetime) -> str:
    """The first full minute that is not before a time, as `stamp` would tell it."""
    return stamp(moment + _MINUTE - timedelta(microseconds=1))


def time_told(raw: str) -> datetime | None:
    """A time as ISO 8601, of UTC unless it says otherwise; None if it is none."""
    try:
        moment = datetime.fromisoformat(raw.strip().upper())
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def time_or_age(raw: str, now: datetime) -> datetime | None:
    """The same, or how long ago it was, such as `36h`, `7d` or `4w`; None if it is neither."""
    told = _AGE.fullmatch(raw.strip())
    if told is None:
        return time_told(raw)
    try:
        return now - int(told[1]) * _UNITS[told[2]]
    except OverflowError:
        return None


def age(moment: datetime, now: datetime) -> str:
    """How long ago `moment` was: `45 min`, `9 h 5 min`, `16 d 3 h`; `in 3 d` if it is to come."""
    passed = now - moment
    return f"in {duration(-passed)}" if passed < _NOTHING else duration(passed)


def duration(length: timedelta) -> str:
    """A length of time of 0 or more in its largest unit and the next, cut: 5 d 23 h 59 min are `5 d 23 h`."""
    hours, minutes = divmod(length // _MINUTE, 60)
    days, hours = divmod(hours, 24)
    larger, smaller = (f"{days} d", f"{hours} h") if days else (f"{hours} h", f"{minutes} min")
    told = [part for part in (larger, smaller) if not part.startswith("0 ")]
    return " ".join(told) or smaller


def size(megabytes: float | None) -> str:
    """A size given in MB, in words: `812 MB`, `4.4 GB`; `unknown size` for None. 1 GB = 1024 MB."""
    if megabytes is None:
        return "unknown size"
    return f"{megabytes:.0f} MB" if megabytes < _MB_PER_GB else f"{megabytes / _MB_PER_GB:.1f} GB"


def listed(items: Sequence[object], most: int = 3) -> str:
    """`455, 457, 459 and 12 more`."""
    named = ", ".join(str(each) for each in items[:most])
    return named if len(items) <= most else f"{named} and {len(items) - most} more"


def plural(count: int, noun: str) -> str:
    """`1 backup`, `3 backups`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def without_line_end(text: str) -> str:
    """Without the one line end that editors and `echo` leave behind a token."""
    return text.removesuffix("\n").removesuffix("\r")
