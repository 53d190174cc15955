"""What others wrote can neither hide, nor shout, nor fill the page; sizes and times read the same everywhere."""

import unicodedata
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_backups.text import (
    MAX_CHARS,
    age,
    duration,
    got,
    line_fault,
    listed,
    plural,
    quoted,
    safe_text,
    seen,
    size,
    stamp,
    time_or_age,
    without_line_end,
)

NOW = datetime(2026, 11, 23, 3, 0, 30, tzinfo=UTC)
BLANK = "\u2800\u3164\u115f\u1160\uffa0\u034f"
"""Letters and marks that are drawn as nothing."""


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Automatic daily backup", "Automatic daily backup"),
        ("Größe ✓ 备份 резерв", "Größe ✓ 备份 резерв"),
        ("", ""),
        ("  two\tor \r\n more   blanks ", "two or more blanks"),
        (" two  blanks ", "two blanks"),
        ("one\u2028two\u2029three\x85four", "one two three four"),
        ("a\x00b\x07c\x7fd", "abcd"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hcleared", "cleared"),
        ("\x9b31mred", "red"),
        ("\x1b]0;new title\x07name", "name"),
        ("\x1b]8;;http://x.test/\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("half a sequence \x1b[", "half a sequence ["),
        ("user\u202etxt.exe\u202c", "usertxt.exe"),
        ("\u2066isolated\u2069", "isolated"),
        ("zero\u200bwidth\u200djoined\ufeff", "zerowidthjoined"),
        ("soft\u00adhyphen", "softhyphen"),
        ("tag\U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065", "tag"),
        ("varied\ufe0f\U000e0100", "varied"),
        (f"blank{BLANK}letters", "blankletters"),
        ("lone \ud800 surrogate \udfff", "lone surrogate"),
        ("private \ue000 and unassigned \u0378", "private and unassigned"),
        ("\u200b\u202e\x00", ""),
    ],
)
def test_what_cannot_be_seen_is_not_shown(raw: str, shown: str) -> None:
    assert safe_text(raw) == shown


@pytest.mark.parametrize(
    ("length", "kept"), [(199, "x" * 199), (200, "x" * 200), (201, "x" * 199 + "…"), (1_000_000, "x" * 199 + "…")]
)
def test_text_is_cut_at_200_characters_and_says_so(length: int, kept: str) -> None:
    assert safe_text("x" * length) == kept


def test_text_of_200_characters_beyond_ascii_is_shown_whole() -> None:
    assert safe_text("é" * 200) == "é" * 200


@pytest.mark.parametrize(("blanks", "shown"), [(3999, "x"), (4000, "…")])
def test_text_behind_4000_characters_is_not_read_but_known_to_be_there(blanks: int, shown: str) -> None:
    assert safe_text("\u200b" * blanks + "x") == shown


def test_a_megabyte_of_invisible_characters_shows_only_that_something_was_cut() -> None:
    assert safe_text("\u200b" * 1_000_000) == "…"


@given(st.text(st.characters() | st.characters(categories=["Cs", "Cf", "Cc", "Zs", "Zl", "Zp"])))
@example("\x1b[31m" * 900)
@example("\x1b\x1b[31m[31m")
@example("\x9b\u200b31mred")
@example("\x1b]\u200b" + "x" * 300)
def test_shown_text_is_short_visible_and_stays_as_it_is(raw: str) -> None:
    shown = safe_text(raw)
    assert len(shown) <= MAX_CHARS
    assert all(ch == " " or unicodedata.category(ch)[0] not in "CZ" for ch in shown)
    assert not set(shown) & set(BLANK)
    assert safe_text(shown) == shown


@pytest.mark.parametrize(
    ("moment", "shown"),
    [
        (NOW, "2026-11-23T03:00Z"),
        (datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2026-11-22T20:00Z"),
    ],
)
def test_times_are_shown_in_utc_to_the_minute(moment: datetime, shown: str) -> None:
    assert stamp(moment) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(0), "0 min"),
        (timedelta(seconds=59), "0 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(minutes=119, seconds=59), "1 h 59 min"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(hours=23, minutes=59), "23 h 59 min"),
        (timedelta(days=1), "1 d"),
        (timedelta(days=1, minutes=59), "1 d"),
        (timedelta(hours=47, minutes=59), "1 d 23 h"),
        (timedelta(days=5, hours=23, minutes=59), "5 d 23 h"),
        (timedelta(days=6), "6 d"),
        (timedelta(days=400, hours=1), "400 d 1 h"),
    ],
)
def test_a_length_of_time_is_cut_to_its_largest_unit_and_the_next(passed: timedelta, shown: str) -> None:
    assert duration(passed) == shown
    assert age(NOW - passed, NOW) == shown


def test_what_is_to_come_says_so() -> None:
    assert age(NOW + timedelta(days=3), NOW) == "in 3 d"
    assert age(NOW + timedelta(days=5, hours=23, minutes=59), NOW) == "in 5 d 23 h"
    assert age(NOW + timedelta(minutes=5), NOW) == "in 5 min"


@pytest.mark.parametrize(
    ("raw", "other"),
    [
        pytest.param("Café", "Cafe\u0301", id="composed or not"),
        pytest.param("Café", "Cafe\u200b\u0301", id="with an invisible letter before the accent"),
        pytest.param("web\u200d-\u200b01", "web-01", id="invisible characters"),
        pytest.param("web\xa0 01", " web 01", id="no-break and double spaces"),
        pytest.param("\uff57\uff45\uff42-\uff10\uff11", "web-01", id="wide letters"),
        pytest.param("❤\ufe0f", "❤", id="what keyboards add to emoji"),
        pytest.param("\x1b[31mweb\x1b[0m", "web", id="colours"),
    ],
)
def test_names_are_the_same_when_people_see_the_same(raw: str, other: str) -> None:
    assert raw != other
    assert seen(raw) == seen(other)


@given(st.text(st.characters() | st.characters(categories=["Cf", "Mn", "Zs"])))
@example("\u00b4\u200d\u0301")
@example("\ufdfa" * 300)
@example("a\u200d\u0301")
def test_what_is_seen_stays_as_it_is(raw: str) -> None:
    assert seen(seen(raw)) == seen(raw)


@pytest.mark.parametrize(
    ("megabytes", "shown"),
    [(None, "unknown size"), (0, "0 MB"), (812, "812 MB"), (1023, "1023 MB"), (1024, "1.0 GB"), (4523, "4.4 GB")],
)
def test_sizes_are_in_mb_or_gb_of_1024_mb(megabytes: float | None, shown: str) -> None:
    assert size(megabytes) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 backups"), (1, "1 backup"), (2, "2 backups")])
def test_one_is_singular(count: int, shown: str) -> None:
    assert plural(count, "backup") == shown


@pytest.mark.parametrize(
    ("count", "most", "shown"),
    [
        (0, 3, ""),
        (1, 3, "1"),
        (3, 3, "1, 2, 3"),
        (4, 3, "1, 2, 3 and 1 more"),
        (15, 3, "1, 2, 3 and 12 more"),
        (3, 1, "1 and 2 more"),
    ],
)
def test_a_long_list_names_the_first_and_counts_the_others(count: int, most: int, shown: str) -> None:
    assert listed(range(1, count + 1), most) == shown


def test_three_are_named() -> None:
    assert listed("abcd") == "a, b, c and 1 more"


NO_PLACE = [
    ("two\nlines", "a line break at character 4"),
    ("two\u2028lines", "a line break at character 4"),
    ("a\ttab", "a tab at character 2"),
    ("\x1b[31m", "a control character (U+001B) at character 1"),
    ("right\u202e", "a bidirectional character (U+202E) at character 6"),
    ("tag\U000e0041", "a tag character (U+E0041) at character 4"),
    ("zero\u200bwidth", "an invisible character (U+200B) at character 5"),
    ("private\ue000", "an unassigned character (U+E000) at character 8"),
]
"""What has no place in one visible line, and how that is named."""


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("", ""),
        ("caf\u00e9 \u00a0\u202f\u3000 x", ""),
        ("\u2764\ufe0f", ""),
        ("\ufe0f", "an invisible character (U+FE0F) at character 1"),
        ("a \ufe0f", "an invisible character (U+FE0F) at character 3"),
        ("\U0001f468\u200d\U0001f469", ""),
        ("\u2764\ufe0f\u200d\U0001f525", ""),
        ("\u200d\U0001f525", "an invisible character (U+200D) at character 1"),
        ("\U0001f468\u200d", "an invisible character (U+200D) at character 2"),
        ("\U0001f468\u200d x", "an invisible character (U+200D) at character 2"),
        (" \u200dx", "an invisible character (U+200D) at character 2"),
        *NO_PLACE,
        ("half \ud83d", "a surrogate character (U+D83D) at character 6"),
        ("none\u0378", "an unassigned character (U+0378) at character 5"),
    ],
)
def test_what_has_no_place_in_a_line_is_named_with_its_place(raw: str, fault: str) -> None:
    assert line_fault(raw) == fault


@pytest.mark.parametrize("char", ["a", "\u00e9"])
@pytest.mark.parametrize(("length", "kept"), [(199, 199), (200, 200), (201, 199), (4001, 199)])
def test_a_text_is_cut_at_200_characters(char: str, length: int, kept: int) -> None:
    assert safe_text(char * length) == char * kept + ("" if kept == length else "\u2026")


@given(st.text(max_size=150))
@example("\u2764\ufe0f")
@example("\U0001f468\u200d\U0001f469")
@example("\ufb01\u00a0\u3000x")
def test_what_may_be_one_line_comes_back_as_people_see_it(raw: str) -> None:
    """So that what VPS.org gives back can be compared with what was asked for."""
    if not line_fault(raw):
        assert seen(safe_text(raw)) == seen(raw)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Caf\u00e9", "Cafe\u0301", True),
        ("\u2764\ufe0f", "\u2764", True),
        ("a\u00a0 b ", "a b", True),
        ("\uff41\uff11", "a1", True),
        ("fi", "\ufb01", True),
        ('Anna\'s "web"', "Anna\u2019s \u201cweb\u201d", True),
        ("A", "a", False),
        ("e", "\u00e9", False),
        ("a b", "ab", False),
        ("\u0430", "a", False),
        ("\u0130", "I", False),
    ],
)
def test_texts_are_the_same_where_people_see_the_same(one: str, other: str, same: bool) -> None:
    assert (seen(one) == seen(other)) is same


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("36h", NOW - timedelta(hours=36)),
        (" 4w ", NOW - timedelta(weeks=4)),
        ("99999w", NOW - timedelta(days=699_993)),
        ("2026-11-20T12:00:00+02:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20t12:00z", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("999999h", None),
        ("-1d", None),
        ("1m", None),
        ("yesterday", None),
    ],
)
def test_a_time_can_be_told_as_an_age(raw: str, moment: datetime | None) -> None:
    assert time_or_age(raw, NOW) == moment


def test_an_age_from_before_the_calendar_is_no_time() -> None:
    assert time_or_age("99999w", datetime(1900, 1, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("yes", "text 'yes'"),
        ("", "text ''"),
        ("a" * 40, f"text '{'a' * 40}'"),
        ("a" * 41, f"text '{'a' * 40}…' of 41 characters"),
        ("a\x1b[31m  b", "text 'a b', with spaces or invisible characters left out here"),
        (12345.5, "12345.5"),
        (True, "true"),
        (None, "null"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (2**128 - 1, str(2**128 - 1)),
        (2**128, "a number of more than 38 digits"),
    ],
)
def test_what_came_in_is_told_in_short_and_clean(value: object, told: str) -> None:
    assert got(value) == told


@pytest.mark.parametrize(
    ("foreign", "told"),
    [
        ("plain, é", '"plain, é"'),
        ('say "no"', r'"say \"no\""'),
        ("see https://x.example/a", '"see https :// x.example/a"'),
        ("mail a@b.example", '"mail a @ b.example"'),
        ("WWW.x.example", '" WWW. x.example"'),
        ("mailto:a tel:7", '" mailto: a  tel: 7"'),
    ],
)
def test_what_others_wrote_is_quoted_and_becomes_no_link(foreign: str, told: str) -> None:
    assert quoted(foreign) == told


@pytest.mark.parametrize(("text", "left"), [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")])
def test_one_line_end_is_left_out(text: str, left: str) -> None:
    assert without_line_end(text) == left
