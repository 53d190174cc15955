"""What a failure means: whether VPS.org may have acted, whether to ask again, and what the caller is told.

One table, one function. The rule behind it: a write is sent again only where it is certain that nothing was done.
What is not in the table is taken for the worst, a request that may have taken effect.
"""

import re
import ssl
from enum import Enum
from typing import NamedTuple

import httpx2

from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    ConfigError,
    ConflictError,
    Failure,
    ForbiddenError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    UnavailableError,
    UpstreamTimeoutError,
)


class BodyError(Exception):
    """The body of a 2xx answer is of no use; says why, in our own words, as the rest of "the answer …"."""


class BodyCutError(BodyError):
    """It ended too early."""


class BodyUnreadableError(BodyError):
    """It is not what was asked for."""


class BodyEncodedError(BodyError):
    """It is compressed, although that was not asked for; unpacked it may be of any size."""


class BodyTooLargeError(BodyError):
    """It is larger than is read."""


class BodyDeniesError(BodyError):
    """It says no, or is a web page: the status alone says yes."""


class DeadlineError(Exception):
    """The time for the whole request was over after it had begun to be sent."""


class DeadlineBeforeSendingError(Exception):
    """The time for the whole request was over before a byte of it was sent."""


class TunnelError(Exception):
    """The proxy that is set could not be reached, or opened no tunnel to VPS.org."""


class TunnelRefusedError(TunnelError):
    """It refused to, and will go on refusing: such as without the password that it wants."""


class Lookup(Enum):
    """What it is that a 404 denies."""

    OBJECT = "the server or backup that is named"
    PAGE = "a page past the first"
    ADDRESS = "the API itself: the path names nothing that could be missing"


Cause = int | type[Exception]
"""Why an attempt failed: an HTTP status, or a class of exception."""


class Classification(NamedTuple):
    """What follows from a failed attempt.

    Attributes:
        failure: Whether VPS.org may have acted.
        retry: Whether the same request may be sent again.
        error: What the caller is told if it is not.
    """

    failure: Failure
    retry: bool
    error: type[ApiError | ConfigError]

    @property
    def transient(self) -> bool:
        """Whether VPS.org is in trouble, rather than the request."""
        return self.retry or self.failure is Failure.AMBIGUOUS


class _Again(Enum):
    ALWAYS = "reads and writes"
    READS = "reads only"
    NEVER = "neither"


class _Row(NamedTuple):
    failure: Failure
    again: _Again
    error: type[ApiError | ConfigError]

    def verdict(self, *, write: bool) -> Classification:
        retry = self.again is _Again.ALWAYS or (self.again is _Again.READS and not write)
        return Classification(self.failure, retry, self.error)


_UNREACHED = _Row(Failure.NOT_SENT, _Again.ALWAYS, UnavailableError)
_MISCONFIGURED = _Row(Failure.NOT_SENT, _Again.NEVER, ConfigError)
_BROKEN_OFF = _Row(Failure.AMBIGUOUS, _Again.READS, UnavailableError)
_TIMED_OUT = _Row(Failure.AMBIGUOUS, _Again.READS, UpstreamTimeoutError)
_GARBLED = _Row(Failure.AMBIGUOUS, _Again.READS, ProtocolError)
_MISUNDERSTOOD = _Row(Failure.AMBIGUOUS, _Again.NEVER, ProtocolError)
_BROKEN_DOWN = _Row(Failure.AMBIGUOUS, _Again.NEVER, UnavailableError)
_WRONG_ADDRESS = _Row(Failure.REFUSED, _Again.NEVER, ProtocolError)

EXCEPTIONS: dict[type[Exception], _Row] = {
    httpx2.ConnectError: _UNREACHED,
    httpx2.ConnectTimeout: _UNREACHED,
    httpx2.PoolTimeout: _UNREACHED,
    TunnelError: _UNREACHED,
    TunnelRefusedError: _MISCONFIGURED,
    ssl.SSLCertVerificationError: _MISCONFIGURED,
    httpx2.UnsupportedProtocol: _MISCONFIGURED,
    httpx2.LocalProtocolError: _MISCONFIGURED,
    httpx2.InvalidURL: _MISCONFIGURED,
    httpx2.ReadError: _BROKEN_OFF,
    httpx2.WriteError: _BROKEN_OFF,
    httpx2.CloseError: _BROKEN_OFF,
    httpx2.NetworkError: _BROKEN_OFF,
    httpx2.ProxyError: _BROKEN_OFF,
    OSError: _BROKEN_OFF,  # what httpx2 lets through of the system's and of TLS
    httpx2.ReadTimeout: _TIMED_OUT,
    httpx2.WriteTimeout: _TIMED_OUT,
    httpx2.TimeoutException: _TIMED_OUT,
    httpx2.RemoteProtocolError: _GARBLED,
    httpx2.DecodingError: _GARBLED,
    httpx2.ProtocolError: _GARBLED,
    httpx2.TransportError: _GARBLED,
    httpx2.RequestError: _GARBLED,
    httpx2.TooManyRedirects: _MISUNDERSTOOD,
    httpx2.HTTPStatusError: _MISUNDERSTOOD,
    httpx2.HTTPError: _MISUNDERSTOOD,
    httpx2.CookieConflict: _MISUNDERSTOOD,
    httpx2.SSEError: _MISUNDERSTOOD,
    httpx2.StreamError: _MISUNDERSTOOD,
    httpx2.StreamClosed: _MISUNDERSTOOD,
    httpx2.StreamConsumed: _MISUNDERSTOOD,
    httpx2.RequestNotRead: _MISUNDERSTOOD,
    httpx2.ResponseNotRead: _MISUNDERSTOOD,
    BodyCutError: _GARBLED,
    BodyUnreadableError: _MISUNDERSTOOD,
    BodyEncodedError: _MISUNDERSTOOD,
    BodyDeniesError: _MISUNDERSTOOD,
    BodyTooLargeError: _Row(Failure.AMBIGUOUS, _Again.NEVER, ResponseTooLargeError),
    DeadlineError: _Row(Failure.AMBIGUOUS, _Again.NEVER, UpstreamTimeoutError),
    DeadlineBeforeSendingError: _Row(Failure.NOT_SENT, _Again.NEVER, UpstreamTimeoutError),
    Exception: _MISUNDERSTOOD,
}

STATUSES: dict[int, _Row] = {
    400: _Row(Failure.REFUSED, _Again.NEVER, RejectedError),
    401: _Row(Failure.REFUSED, _Again.NEVER, AuthFailedError),
    403: _Row(Failure.REFUSED, _Again.NEVER, ForbiddenError),
    404: _Row(Failure.REFUSED, _Again.NEVER, NotFoundError),
    405: _WRONG_ADDRESS,
    406: _WRONG_ADDRESS,
    408: _BROKEN_OFF,
    409: _Row(Failure.REFUSED, _Again.NEVER, ConflictError),
    410: _Row(Failure.REFUSED, _Again.NEVER, NotFoundError),
    415: _WRONG_ADDRESS,
    423: _Row(Failure.REFUSED, _Again.NEVER, ConflictError),
    425: _BROKEN_OFF,
    429: _Row(Failure.REFUSED, _Again.ALWAYS, RateLimitedError),
    **dict.fromkeys((500, 502, 503, 504, *range(520, 527)), _BROKEN_OFF),
}

HUNDREDS: dict[int, _Row] = {
    3: _WRONG_ADDRESS,
    4: _Row(Failure.REFUSED, _Again.NEVER, RejectedError),
    5: _BROKEN_DOWN,
}

_REFUSES_TUNNEL = frozenset(range(400, 500)) - {408, 425, 429}
"""Statuses by which a proxy refuses a tunnel for good."""

_REFUSES_DELETE = frozenset({*range(300, 400), 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429})
"""Statuses by which a DELETE is plainly refused. A backup that any other may have deleted is not to be counted on."""


def classify(
    cause: Cause, *, write: bool, deletes: bool = False, foreign: bool = False, lookup: Lookup = Lookup.OBJECT
) -> Classification | None:
    """What follows from an attempt that ended so; None for a 2xx status, which is no failure.

    Args:
        cause: The status of the answer, or the class of what was raised instead.
        write: Whether the request changes something.
        deletes: Whether it deletes something, for good: a refusal that is not plain may then not be one.
        foreign: Whether the answer is none that the API sends, such as a web page.
        lookup: What a 404 or 410 denies.
    """
    if not isinstance(cause, int):
        return next(EXCEPTIONS[kind] for kind in cause.__mro__ if kind in EXCEPTIONS).verdict(write=write)
    if httpx2.codes.is_success(cause):
        return None
    row = STATUSES.get(cause) or HUNDREDS.get(cause // 100, _MISUNDERSTOOD)
    astray = lookup is Lookup.ADDRESS or (foreign and lookup is Lookup.OBJECT)
    if row.error is NotFoundError and astray:
        row = _WRONG_ADDRESS
    is_plain = cause in _REFUSES_DELETE and not (cause == httpx2.codes.NOT_FOUND and foreign)
    if deletes and row.failure is Failure.REFUSED and not is_plain:
        row = row._replace(failure=Failure.AMBIGUOUS)
    return row.verdict(write=write)


def cause_of(error: Exception, *, no_tunnel: bool = False) -> type[Exception]:
    """The class that says most about what was raised: a certificate that failed, where that lies behind it.

    Args:
        error: What was raised.
        no_tunnel: Whether it was raised before a proxy had opened its tunnel.
    """
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ssl.SSLCertVerificationError):
            return ssl.SSLCertVerificationError
        link = link.__cause__ or link.__context__
    if no_tunnel:
        return TunnelRefusedError if tunnel_status(error) in _REFUSES_TUNNEL else TunnelError
    return type(error)


def tunnel_status(error: Exception) -> int:
    """The status by which a proxy said that it opens no tunnel, 0 if it said none; of its words nothing is told."""
    match = re.match("[0-9]{3}", str(error)) if isinstance(error, httpx2.ProxyError) else None
    return int(match[0]) if match else 0
