"""One request in up to three attempts, within one deadline."""

import contextlib
import logging
import re
import zlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import anyio
import httpx2
from opentelemetry.trace import Span, SpanKind, StatusCode, get_tracer

from mcp_backups import __version__
from mcp_backups.clock import Clock

from . import bodies, envelope
from .call import ApiCall, Done, Failed, ResultT, error_for
from .classify import (
    BodyDeniesError,
    BodyEncodedError,
    BodyError,
    BodyTooLargeError,
    BodyUnreadableError,
    Cause,
    DeadlineBeforeSendingError,
    DeadlineError,
    cause_of,
    classify,
    tunnel_status,
)
from .link import Link, Progress

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


_MAX_ATTEMPTS = 3
_MAX_WAIT = 10.0
_MAX_BODY = 5 * 2**20
_MAX_BEGINNING = 64 * 2**10
_BEGINNING_SECONDS = 2.0
_CLOSING_SECONDS = 0.25
_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_FARTHEST_CLOCK = timedelta(days=366)
"""A `Date` that is farther from our time is no clock's."""

_FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, UnicodeError, BodyError)

_log = logging.getLogger(__name__)
_tracer = get_tracer("mcp_backups", __version__)


OnAttempt = Callable[[str, str, float], None]
"""Is told of each attempt: method and path without ids, a status or what went wrong, seconds."""


def unheard(endpoint: str, outcome: str, seconds: float) -> None:
    """Nobody is told."""
    del endpoint, outcome, seconds


class Attempts:
    """Carries requests out.

    Args:
        link: Where they go.
        clock: Times the log, reads dates, and sleeps between attempts.
        jitter: From 0 up to 1, how much of each backoff is slept.
        deadline: Seconds for one request in all its attempts and waits.
        asked: Is told of each attempt: endpoint, outcome, seconds.

    Attributes:
        clock_offset: How far VPS.org's clock was ahead of ours at its last answer; None if none told the time.
    """

    def __init__(
        self, link: Link, clock: Clock, jitter: Callable[[], float], deadline: float, asked: OnAttempt = unheard
    ) -> None:
        self._link, self._asked = link, asked
        self._clock = clock
        self._jitter = jitter
        self._deadline = deadline
        self._budget = RetryBudget()
        self.clock_offset: timedelta | None = None

    async def run(self, call: ApiCall[ResultT]) -> ResultT:
        """The request's result.

        Raises:
            ApiError: VPS.org did not do it or did not say so; `failure` tells which.
            ConfigError: It cannot be sent with the settings as they are.
        """
        progress = Progress()
        try:
            with anyio.fail_after(self._deadline) as scope:
                return await self._tries(call, progress, scope)
        except TimeoutError:
            expired = _failed(call, DeadlineError if progress.sent else DeadlineBeforeSendingError)
        self._budget.failed()
        raise error_for(call, expired)

    async def _tries(self, call: ApiCall[ResultT], progress: Progress, scope: anyio.CancelScope) -> ResultT:
        number = 0
        while True:
            number += 1
            progress.begin()
            with _span(call, self._link.url(call), number) as span:
                outcome = await self._try(call, progress, scope, span)
            if isinstance(outcome, Done):
                self._budget.succeeded()
                return outcome.value
            progress.sent = False
            if outcome.verdict.transient:
                self._budget.failed()
            wait = outcome.retry_after or backoff(number, self._jitter)
            left = min(_MAX_WAIT, scope.deadline - anyio.current_time())
            if number == _MAX_ATTEMPTS or not outcome.verdict.retry or wait > left or not self._budget.allows_retry:
                raise error_for(call, outcome)
            await self._clock.sleep(wait)

    async def _try(
        self, call: ApiCall[ResultT], progress: Progress, scope: anyio.CancelScope, span: Span
    ) -> Done[ResultT] | Failed:
        started, ended = self._clock.ticks(), "cancelled"
        try:
            outcome = await self._exchange(call, progress, scope)
            cause = outcome.status if isinstance(outcome, Done) else outcome.cause
            ended = cause.__name__ if isinstance(cause, type) else str(cause)
        except _FAILURES as error:
            # The exception itself goes no further: its text may quote the token or the address.
            no_tunnel = self._link.has_proxy and not progress.sent
            outcome = _failed(call, cause_of(error, no_tunnel=no_tunnel), detail=_detail(error))
            ended = type(error).__name__
        finally:
            seconds = self._clock.ticks() - started
            _log.info("%s %s: %s, %.0f ms", call.method, call.path, ended, seconds * 1000)
            self._asked(f"{call.method} {_template(call)}", ended, seconds)
            if ended.isdecimal():
                span.set_attribute("http.response.status_code", int(ended))
            if not ended.startswith("2"):
                span.set_attribute("error.type", ended)
                span.set_status(StatusCode.ERROR)
        return outcome

    async def _exchange(
        self, call: ApiCall[ResultT], progress: Progress, scope: anyio.CancelScope
    ) -> Done[ResultT] | Failed:
        response = await self._link.send(call, progress)
        self._note_time(response)
        try:
            if not response.is_success:
                return await self._refusal(call, response, scope)
            if call.needs_body:
                content, whole = await _whole_body(response), True
            else:
                # The status says it all, whatever becomes of the rest; unless what comes of that says no.
                content, whole = await _beginning(response, scope)
                if encoding := response.headers.get("content-encoding", ""):
                    content = _unpacked(content, encoding)
            if call.write and (detail := envelope.denial(content, _media_type(response), whole=whole)):
                return _failed(call, BodyDeniesError, detail=detail, said=self._said(content, response))
            return Done(response.status_code, call.read(bodies.Body(content, response.headers, response.status_code)))
        finally:
            await _close(response)

    async def _refusal(self, call: ApiCall[ResultT], response: httpx2.Response, scope: anyio.CancelScope) -> Failed:
        # The status has already said no: a slow body must not turn that into a timeout.
        content, whole = await _beginning(response, scope)
        now = self._clock.wall() + (self.clock_offset or timedelta(0))
        wait = retry_after(response.headers.get("retry-after", ""), now)
        # Who says that there is no such backup must be the API: a DELETE's 404 counts only as JSON.
        foreign = envelope.is_page(content, _media_type(response), whole=whole) or (
            call.deletes and not envelope.is_json(content)
        )
        failed = _failed(call, response.status_code, foreign=foreign, said=self._said(content, response))
        return failed._replace(retry_after=wait, until=now + timedelta(seconds=wait) if wait else None)

    def _said(self, content: bytes, response: httpx2.Response) -> str:
        return envelope.said(content, _media_type(response), self._link.without_token)

    def _note_time(self, response: httpx2.Response) -> None:
        """How far VPS.org's clock is ahead, but by an answer that something on the way kept since an earlier time."""
        date, wall = http_date(response.headers.get("date", "")), self._clock.wall()
        if date and abs(date - wall) < _FARTHEST_CLOCK and not is_from_cache(response.headers):
            self.clock_offset = date - wall


def _span(call: ApiCall[ResultT], url: str, number: int) -> AbstractContextManager[Span]:
    """What OpenTelemetry is told of an attempt, by its conventions for HTTP clients; not the token, nor any text.

    Args:
        call: The request.
        url: Where it goes.
        number: Which attempt it is, from 1.
    """
    template = _template(call)
    attributes: dict[str, str | int] = {
        "http.request.method": call.method,
        "url.full": url,
        "url.template": template,
    }
    with contextlib.suppress(ValueError):  # an address that is none: sending to it says so
        parts = urlsplit(url)
        attributes["server.port"] = parts.port or (443 if parts.scheme == "https" else 80)
        attributes["server.address"] = parts.hostname or ""
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    return _tracer.start_as_current_span(
        f"{call.method} {template}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    )


def _template(call: ApiCall[ResultT]) -> str:
    return re.sub("[0-9]+", "{id}", call.path)


def _failed(call: ApiCall[ResultT], cause: Cause, *, foreign: bool = False, detail: str = "", said: str = "") -> Failed:
    verdict = classify(cause, write=call.write, deletes=call.deletes, foreign=foreign, lookup=call.lookup)
    if verdict is None:
        raise ValueError("a 2xx status is no failure")
    return Failed(cause, verdict, detail=detail, said=said)


def _detail(error: Exception) -> str:
    if isinstance(error, BodyError):
        return str(error)
    return f" (HTTP {status})" if (status := tunnel_status(error)) else ""


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "")


async def _whole_body(response: httpx2.Response) -> bytes:
    if response.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise BodyEncodedError("came compressed, although that was not asked for")
    if response.status_code == httpx2.codes.NO_CONTENT:
        raise BodyUnreadableError("has no content (HTTP 204)")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MAX_BODY:
            raise BodyTooLargeError(f"is larger than the {_MAX_BODY // 2**20} MiB that are read")
    return bytes(body)


async def _beginning(response: httpx2.Response, scope: anyio.CancelScope) -> tuple[bytes, bool]:
    """What comes of a body in a short time, up to a bound; and whether that is all of it."""
    body = bytearray()
    left = scope.deadline - anyio.current_time()
    with contextlib.suppress(*_FAILURES), anyio.move_on_after(min(_BEGINNING_SECONDS, left / 2)):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > _MAX_BEGINNING:
                return bytes(body[:_MAX_BEGINNING]), False
        return bytes(body), True
    return bytes(body), False


def _unpacked(content: bytes, encoding: str) -> bytes:
    """The beginning of what came compressed, although that was not asked for; as it came where it is not that."""
    if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(content, _MAX_BEGINNING)
    return content


async def _close(response: httpx2.Response) -> None:
    """Let go of the connection, come what may: by now the answer is known or the reason why not."""
    with (
        anyio.move_on_after(_CLOSING_SECONDS, shield=True),
        contextlib.suppress(httpx2.HTTPError, OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
    ):
        await response.aclose()
