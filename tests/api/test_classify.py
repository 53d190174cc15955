"""What each failure means, row by row: may VPS.org have acted, and may the request be sent again?"""

import ssl

import httpx2
import pytest

from mcp_backups.api.classify import (
    EXCEPTIONS,
    BodyCutError,
    BodyEncodedError,
    BodyError,
    BodyTooLargeError,
    BodyUnreadableError,
    DeadlineBeforeSendingError,
    DeadlineError,
    Lookup,
    TunnelError,
    TunnelRefusedError,
    cause_of,
    classify,
    tunnel_status,
)
from mcp_backups.errors import (
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

NOT_SENT, REFUSED, AMBIGUOUS = Failure.NOT_SENT, Failure.REFUSED, Failure.AMBIGUOUS

# exception, failure, a read is retried, a write is retried, error
BY_EXCEPTION = [
    (httpx2.ConnectError, NOT_SENT, True, True, UnavailableError),
    (httpx2.ConnectTimeout, NOT_SENT, True, True, UnavailableError),
    (httpx2.PoolTimeout, NOT_SENT, True, True, UnavailableError),
    (ssl.SSLCertVerificationError, NOT_SENT, False, False, ConfigError),
    (httpx2.UnsupportedProtocol, NOT_SENT, False, False, ConfigError),
    (httpx2.LocalProtocolError, NOT_SENT, False, False, ConfigError),
    (httpx2.InvalidURL, NOT_SENT, False, False, ConfigError),
    (TunnelError, NOT_SENT, True, True, UnavailableError),
    (TunnelRefusedError, NOT_SENT, False, False, ConfigError),
    (httpx2.ReadError, AMBIGUOUS, True, False, UnavailableError),
    (httpx2.WriteError, AMBIGUOUS, True, False, UnavailableError),
    (httpx2.CloseError, AMBIGUOUS, True, False, UnavailableError),
    (httpx2.NetworkError, AMBIGUOUS, True, False, UnavailableError),
    (httpx2.ProxyError, AMBIGUOUS, True, False, UnavailableError),
    (OSError, AMBIGUOUS, True, False, UnavailableError),
    (ssl.SSLError, AMBIGUOUS, True, False, UnavailableError),
    (httpx2.ReadTimeout, AMBIGUOUS, True, False, UpstreamTimeoutError),
    (httpx2.WriteTimeout, AMBIGUOUS, True, False, UpstreamTimeoutError),
    (httpx2.TimeoutException, AMBIGUOUS, True, False, UpstreamTimeoutError),
    (httpx2.RemoteProtocolError, AMBIGUOUS, True, False, ProtocolError),
    (httpx2.DecodingError, AMBIGUOUS, True, False, ProtocolError),
    (httpx2.ProtocolError, AMBIGUOUS, True, False, ProtocolError),
    (httpx2.TransportError, AMBIGUOUS, True, False, ProtocolError),
    (httpx2.RequestError, AMBIGUOUS, True, False, ProtocolError),
    (httpx2.TooManyRedirects, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.HTTPStatusError, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.HTTPError, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.CookieConflict, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.SSEError, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.StreamError, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.StreamClosed, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.StreamConsumed, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.RequestNotRead, AMBIGUOUS, False, False, ProtocolError),
    (httpx2.ResponseNotRead, AMBIGUOUS, False, False, ProtocolError),
    (BodyCutError, AMBIGUOUS, True, False, ProtocolError),
    (BodyUnreadableError, AMBIGUOUS, False, False, ProtocolError),
    (BodyEncodedError, AMBIGUOUS, False, False, ProtocolError),
    (BodyError, AMBIGUOUS, False, False, ProtocolError),
    (BodyTooLargeError, AMBIGUOUS, False, False, ResponseTooLargeError),
    (DeadlineError, AMBIGUOUS, False, False, UpstreamTimeoutError),
    (DeadlineBeforeSendingError, NOT_SENT, False, False, UpstreamTimeoutError),
    (UnicodeError, AMBIGUOUS, False, False, ProtocolError),
]


@pytest.mark.parametrize(("cause", "failure", "read_again", "write_again", "error"), BY_EXCEPTION)
def test_an_exception_means_what_the_table_says(
    cause: type[Exception], failure: Failure, read_again: bool, write_again: bool, error: type[Exception]
) -> None:
    read, write = classify(cause, write=False), classify(cause, write=True)
    assert read is not None
    assert write is not None
    assert (read.failure, read.retry, read.error) == (failure, read_again, error)
    assert (write.failure, write.retry, write.error) == (failure, write_again, error)


def test_every_exception_class_of_httpx2_has_its_row() -> None:
    """A class that a new httpx2 brings must be thought about before it is met."""
    known = {cause for cause, *_ in BY_EXCEPTION}
    public = {value for value in vars(httpx2).values() if isinstance(value, type) and issubclass(value, Exception)}
    raised = {kind for kind in public if not issubclass(kind, Warning)}
    assert len(raised) > 25
    assert raised <= EXCEPTIONS.keys()
    assert raised <= known


RETRIED = (408, 425, 500, 502, 503, 504, *range(520, 527))
SPECIAL = {
    401: (REFUSED, AuthFailedError),
    403: (REFUSED, ForbiddenError),
    404: (REFUSED, NotFoundError),
    405: (REFUSED, ProtocolError),
    406: (REFUSED, ProtocolError),
    409: (REFUSED, ConflictError),
    410: (REFUSED, NotFoundError),
    415: (REFUSED, ProtocolError),
    423: (REFUSED, ConflictError),
    429: (REFUSED, RateLimitedError),
}


def expected(status: int) -> tuple[Failure, type[Exception]]:
    if status in RETRIED:
        return AMBIGUOUS, UnavailableError
    ranges: dict[int, tuple[Failure, type[Exception]]] = {
        3: (REFUSED, ProtocolError),
        4: (REFUSED, RejectedError),
        5: (AMBIGUOUS, UnavailableError),
    }
    return SPECIAL.get(status) or ranges.get(status // 100, (AMBIGUOUS, ProtocolError))


@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600), 600, 999])
def test_a_status_means_what_the_table_says(status: int) -> None:
    read, write = classify(status, write=False), classify(status, write=True)
    assert read is not None
    assert write is not None
    assert (read.failure, read.error) == (write.failure, write.error) == expected(status)
    assert read.retry == (status in RETRIED or status == 429)
    assert write.retry == (status == 429)


PLAINLY_REFUSES_A_DELETE = {*range(300, 400), 400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429}


@pytest.mark.parametrize("foreign", [True, False])
@pytest.mark.parametrize("status", [*range(100, 200), *range(300, 600), 600, 999])
def test_a_delete_counts_as_refused_by_few_statuses(status: int, foreign: bool) -> None:
    verdict = classify(status, write=True, deletes=True, foreign=foreign)
    other = classify(status, write=True, foreign=foreign)
    assert verdict is not None
    assert other is not None
    is_plain = status in PLAINLY_REFUSES_A_DELETE and (status, foreign) != (404, True)
    assert verdict == (other if is_plain else other._replace(failure=AMBIGUOUS))


@pytest.mark.parametrize("status", range(200, 300))
def test_a_2xx_status_is_no_failure(status: int) -> None:
    assert classify(status, write=True) is None


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    ("lookup", "html", "error"),
    [
        (Lookup.OBJECT, False, NotFoundError),
        (Lookup.OBJECT, True, ProtocolError),
        (Lookup.PAGE, False, NotFoundError),
        (Lookup.PAGE, True, NotFoundError),
        (Lookup.ADDRESS, False, ProtocolError),
        (Lookup.ADDRESS, True, ProtocolError),
    ],
)
def test_a_404_denies_an_object_a_page_or_the_whole_api(
    status: int, lookup: Lookup, html: bool, error: type[Exception]
) -> None:
    verdict = classify(status, write=False, foreign=html, lookup=lookup)
    assert verdict is not None
    assert (verdict.failure, verdict.retry, verdict.error) == (REFUSED, False, error)


def test_no_write_is_ever_retried_where_it_may_have_taken_effect() -> None:
    causes = [*EXCEPTIONS, *range(100, 600), 999]
    verdicts = [classify(cause, write=True) for cause in causes]
    assert not [verdict for verdict in verdicts if verdict and verdict.retry and verdict.failure is AMBIGUOUS]


@pytest.mark.parametrize(
    ("cause", "transient"),
    [
        (httpx2.ConnectError, True),
        (httpx2.ReadTimeout, True),
        (503, True),
        (501, True),
        (429, True),
        (400, False),
        (404, False),
        (302, False),
        (ssl.SSLCertVerificationError, False),
        (DeadlineBeforeSendingError, False),
    ],
)
@pytest.mark.parametrize("write", [True, False])
def test_trouble_at_vps_org_is_told_from_trouble_with_the_request(
    cause: int | type[Exception], transient: bool, write: bool
) -> None:
    verdict = classify(cause, write=write)
    assert verdict is not None
    assert verdict.transient is transient


def test_a_failed_certificate_is_found_behind_other_exceptions() -> None:
    error = httpx2.ConnectError("")
    error.__cause__ = OSError()
    error.__cause__.__context__ = ssl.SSLCertVerificationError()
    assert cause_of(error) is ssl.SSLCertVerificationError
    assert cause_of(httpx2.ConnectError("")) is httpx2.ConnectError


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        (httpx2.ProxyError("407 Proxy Authentication Required"), TunnelRefusedError, 407),
        (httpx2.ProxyError("403 "), TunnelRefusedError, 403),
        (httpx2.ProxyError("429 Too Many Requests"), TunnelError, 429),
        (httpx2.ProxyError("502 Bad Gateway"), TunnelError, 502),
        (httpx2.ProxyError("what a future version says"), TunnelError, 0),
        (httpx2.ReadError("407"), TunnelError, 0),
        (httpx2.RemoteProtocolError(""), TunnelError, 0),
    ],
)
def test_a_proxys_refusal_is_for_good_where_it_is_one(error: Exception, cause: type[Exception], status: int) -> None:
    assert (cause_of(error, no_tunnel=True), tunnel_status(error)) == (cause, status)
    assert cause_of(error) is type(error)
