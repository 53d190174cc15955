"""How long to wait before asking again, and whether asking again is still worth it."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_BASE_SECONDS = 0.5
_CAP_SECONDS = 4.0
_LARGEST_DELAY = 10**8
"""Seconds, three years: what asks for more is a mistake."""

_CACHES_SAY = ("cache-status", "x-cache", "x-cache-status", "cf-cache-status", "x-proxy-cache")

_MAX_TOKENS = 10.0
_TOKENS_PER_SUCCESS = 0.1


def backoff(attempt: int, jitter: Callable[[], float]) -> float:
    """Seconds to wait after an attempt has failed, counted from 1: from 0 up to 0.5, 1, 2, 4, 4, … (full jitter)."""
    return jitter() * min(_CAP_SECONDS, _BASE_SECONDS * 2.0 ** (attempt - 1))


def retry_after(value: str, now: datetime) -> float | None:
    """What a `Retry-After` header asks for, in seconds from `now`; None if it asks for nothing sensible.

    ASCII digits or an HTTP date with its zone (RFC 9110, 10.2.3). What is negative, past, over three years or
    anything else is ignored.
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)  # unlike int, it takes thousands of digits
        return seconds if seconds <= _LARGEST_DELAY else None
    date = http_date(text)
    seconds = -1 if date is None else (date - now).total_seconds()
    return seconds if 0 <= seconds <= _LARGEST_DELAY else None


def http_date(value: str) -> datetime | None:
    """The time that a header such as `Date` tells, with its zone; None if it tells none."""
    try:
        date = parsedate_to_datetime(value.strip())
        return date.astimezone(UTC) if date.tzinfo is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def is_from_cache(headers: Mapping[str, str]) -> bool:
    """Whether an answer was kept by something on the way, so that its `Date` (RFC 9111, 5.1) is of an earlier time."""
    if headers.get("age", "0").strip() not in ("", "0") or re.match(r"\s*11[0-3]\b", headers.get("warning", "")):
        return True
    return any(re.search(r"\b(hit|stale)\b", headers.get(name, ""), re.IGNORECASE) for name in _CACHES_SAY)


class RetryBudget:
    """Stops asking again while most attempts fail, so that a struggling VPS.org is not asked three times as much.

    As in gRPC (gRFC A6): 10 tokens at most; a failed attempt costs one, a success gives a tenth; attempts are
    repeated only while more than half are left.
    """

    def __init__(self) -> None:
        self._tokens = _MAX_TOKENS

    def failed(self) -> None:
        self._tokens = max(0.0, self._tokens - 1)

    def succeeded(self) -> None:
        self._tokens = min(_MAX_TOKENS, self._tokens + _TOKENS_PER_SUCCESS)

    @property
    def allows_retry(self) -> bool:
        return self._tokens > _MAX_TOKENS / 2
