"""One request to VPS.org as we mean it, what became of an attempt at it, and the words for a failure."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil
from typing import Generic, NamedTuple, TypeVar

import httpx2

from mcp_backups import text
from mcp_backups.errors import (
    ApiError,
    AuthFailedError,
    BackupsError,
    ConfigError,
    ConflictError,
    Failure,
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    ResponseTooLargeError,
    UnavailableError,
    UpstreamTimeoutError,
)

from .classify import BodyError, Cause, Lookup, Verdict

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call(Generic[Result]):
    """A request, before it is sent.

    Attributes:
        method: GET, POST or DELETE.
        path: Below the API's address; begins and ends with a slash.
        action: What it does, to stand after "to": "delete backup 501".
        read: Makes the result of the body; raises `BodyError`.
        query: Without the question mark.
        body: Sent as JSON; None for no body.
        subject: What a 404 says there is none of: "backup 501".
        lookup: Whether a 404 says that at all.
        needs_body: Whether the answer's body is read; if not, a 2xx status is enough and `read` gets its media type.
    """

    method: str
    path: str
    action: str
    read: Callable[[bytes], Result]
    query: str = ""
    body: Mapping[str, object] | None = field(default=None, repr=False)
    subject: str = ""
    lookup: Lookup = Lookup.OBJECT
    needs_body: bool = True

    @property
    def write(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Done(Generic[Result]):
    """An attempt that succeeded."""

    status: int
    value: Result


class Failed(NamedTuple):
    """An attempt that failed.

    Attributes:
        retry_after: Seconds that VPS.org asks to wait; None if it does not ask.
        detail: More about it in our own words: which fields, or what is wrong with the body; may be empty.
    """

    cause: Cause
    verdict: Verdict
    retry_after: float | None = None
    detail: str = ""


_SECONDS_SAY_LITTLE = 120
"""From here on a wait is also told in minutes, hours or days."""

_LOOK_FIRST = "Call list_backups to see whether it took effect; do not repeat the request before that is known."

_BY_CAUSE: dict[type[Exception], str] = {
    ssl.SSLCertVerificationError: (
        "TLS verification failed: the certificate at VPS_API_URL is not trusted, has expired or is for another host."
    ),
    httpx2.UnsupportedProtocol: "VPS_API_URL must be an address that begins with https://.",
    httpx2.LocalProtocolError: (
        "The request could not be formed: VPS_API_TOKEN or VPS_API_URL holds characters that cannot be sent."
    ),
    httpx2.InvalidURL: "VPS_API_URL is not a valid address.",
}

_BY_ERROR: dict[type[BackupsError], str] = {
    AuthFailedError: "VPS.org refused the token ({status}).",
    ForbiddenError: "The token may not {action} ({status}).",
    NotFoundError: "VPS.org has no {subject}.",
    ConflictError: "VPS.org refused to {action}, because something else is under way ({status}).",
    RejectedError: "VPS.org refused the request to {action} as invalid ({status}{detail}).",
    RateLimitedError: "VPS.org limits how often it may be asked ({status}).",
    UpstreamTimeoutError: "VPS.org did not answer in time when asked to {action}.",
    ResponseTooLargeError: "VPS.org's answer to the request to {action} {detail}.",
    ConfigError: "The request to {action} could not be formed.",
}


def error_for(call: Call[Result], failed: Failed) -> BackupsError:
    """The error to raise for a request whose last attempt failed so; its words are all our own."""
    verdict = failed.verdict
    what = _template(failed).format(
        action=call.action,
        subject=call.subject,
        status=f"HTTP {failed.cause}",
        detail=failed.detail,
    )
    if not issubclass(verdict.error, ApiError):
        return verdict.error(what)
    ambiguous = call.write and verdict.failure is Failure.AMBIGUOUS
    return verdict.error(
        what,
        _LOOK_FIRST if ambiguous else _waiting(failed.retry_after),
        changed="unknown" if ambiguous else "nothing",
        failure=verdict.failure,
        retry_after=failed.retry_after or 0,
    )


def _template(failed: Failed) -> str:
    cause, error = failed.cause, failed.verdict.error
    if isinstance(cause, int):
        return _BY_ERROR.get(error) or _for_status(cause)
    for_cause = next((_BY_CAUSE[kind] for kind in cause.__mro__ if kind in _BY_CAUSE), "")
    return for_cause or _BY_ERROR.get(error) or _for_exception(failed)


def _for_status(status: int) -> str:
    if httpx2.codes.is_redirect(status):
        return "VPS.org answered the request to {action} with a redirect ({status}), which is never followed."
    if status in (404, 410):
        return "There is no VPS.org API at the address that is set ({status})."
    if httpx2.codes.is_server_error(status) or status in (408, 425):
        return "VPS.org failed when asked to {action} ({status})."
    return "VPS.org gave an unexpected answer to the request to {action} ({status})."


def _for_exception(failed: Failed) -> str:
    if failed.verdict.failure is Failure.NOT_SENT:
        return "VPS.org could not be reached to {action}."
    if failed.verdict.error is UnavailableError:
        return "The connection to VPS.org broke off when it was asked to {action}."
    if isinstance(failed.cause, type) and issubclass(failed.cause, BodyError):
        return "VPS.org's answer to the request to {action} {detail}."
    return "VPS.org's answer to the request to {action} was broken off or garbled."


def _waiting(seconds: float | None) -> str:
    """When to try again, in words; empty if VPS.org did not say."""
    if not seconds:
        return ""
    whole = ceil(seconds)
    words = f" ({text.duration(timedelta(seconds=whole))})" if whole >= _SECONDS_SAY_LITTLE else ""
    return f"Try again after {whole} s{words}."
