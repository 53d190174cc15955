"""One request to VPS.org as we mean it, what became of an attempt at it, and the words for a failure."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ResponseTooLargeError,
    UnavailableError,
    UpstreamTimeoutError,
)

from .bodies import Body
from .classify import (
    BodyDeniesError,
    BodyError,
    Cause,
    Classification,
    Lookup,
    TunnelError,
    TunnelRefusedError,
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ApiCall(Generic[ResultT]):
    """A request, before it is sent.

    Attributes:
        method: GET, POST or DELETE.
        path: Below the API's address; begins and ends with a slash.
        action: What it does, to stand after "to": "delete backup 501".
        read: Makes the result of what came; raises `BodyError`.
        query: Without the question mark.
        body: Sent as JSON; None for no body.
        subject: What a 404 says there is none of: "backup 501".
        lookup: Whether a 404 says that at all.
        needs_body: Whether the result is in the answer's body; if not, the status says it, unless the body says no.
        too_large: What to do about an answer that is larger than is read; empty for the error's own advice.
    """

    method: str
    path: str
    action: str
    read: Callable[[Body], ResultT]
    query: str = ""
    body: Mapping[str, object] | None = field(default=None, repr=False)
    subject: str = ""
    lookup: Lookup = Lookup.OBJECT
    needs_body: bool = True
    too_large: str = ""

    @property
    def write(self) -> bool:
        return self.method != "GET"

    @property
    def deletes(self) -> bool:
        return self.method == "DELETE"


@dataclass(frozen=True)
class Done(Generic[ResultT]):
    """An attempt that succeeded."""

    status: int
    value: ResultT


class Failed(NamedTuple):
    """An attempt that failed.

    Attributes:
        retry_after: Seconds that VPS.org asks to wait; None if it does not ask.
        until: When these are over, by VPS.org's clock; None if it does not ask.
        detail: What is wrong with the body, in our own words; may be empty.
        said: Why, in VPS.org's own words, safe to quote; may be empty.
    """

    cause: Cause
    verdict: Classification
    retry_after: float | None = None
    until: datetime | None = None
    detail: str = ""
    said: str = ""


_SECONDS_SAY_LITTLE = 120
"""From here on a wait is also told in minutes, hours or days."""

_LOOK_FIRST = "Call list_backups to see whether it took effect; do not repeat the request before that is known."

_BY_CAUSE: dict[type[Exception], str] = {
    ssl.SSLCertVerificationError: (
        "TLS verification failed: the certificate at VPS_API_URL is not trusted, has expired or is for another host."
    ),
    TunnelRefusedError: "The proxy at VPS_API_PROXY refuses what goes to VPS.org{detail}: it may want another user name"
    " or password, or forbid the address.",
    TunnelError: "The proxy at VPS_API_PROXY cannot be reached, or does not reach VPS.org{detail}.",
    httpx2.UnsupportedProtocol: "VPS_API_URL must be an address that begins with https://.",
    httpx2.LocalProtocolError: (
        "The request could not be formed: VPS_API_TOKEN or VPS_API_URL holds characters that cannot be sent."
    ),
    httpx2.InvalidURL: "VPS_API_URL is not a valid address.",
}

_BY_ERROR: dict[type[BackupsError], str] = {
    AuthFailedError: "VPS.org refused the token ({status}).",
    NotFoundError: "VPS.org has no {subject}.",
    RateLimitedError: "VPS.org limits how often it may be asked ({status}).",
    UpstreamTimeoutError: "VPS.org did not answer in time when asked to {action}.",
    ResponseTooLargeError: "VPS.org's answer to the request to {action} {detail}.",
    ConfigError: "The request to {action} could not be formed.",
}

_RULE = "a rule of VPS.org may forbid it"
_LIMIT = "a limit of the account may be reached"
_ADDRESS = "VPS_API_URL may be wrong, or VPS.org's API may have changed"
_POSSIBLY = {
    400: f"something in the request may be invalid, or {_RULE}",
    402: f"a payment may be due, or {_LIMIT}",
    403: f"the token may lack the right, or {_LIMIT}",
    405: f"{_RULE}, or {_ADDRESS}",
    406: _ADDRESS,
    409: f"something else may be under way, or {_RULE}",
    413: "what was sent may be too long",
    415: _ADDRESS,
    422: f"something in the request may be invalid, or {_RULE}",
    423: f"something else may be under way, or {_RULE}",
    451: "there may be a legal reason",
}
"""What a refusal with that status may come from. What it does come from only VPS.org can tell."""

_TELL = "do not repeat it unless something changed there."
_TO_CHECK: dict[type[BackupsError], str] = {
    ConflictError: "If something is under way there, as list_backups may show, wait until it is finished and try once "
    "more. ",
    ProtocolError: "Ask the operator to check VPS_API_URL. ",
}
"""What else there is to do about a refusal."""


def error_for(call: ApiCall[ResultT], failed: Failed) -> BackupsError:
    """The error to raise for a request whose last attempt failed so; its words are our own, but for what is quoted."""
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
        _LOOK_FIRST if ambiguous else _next_step(call, failed),
        changed="unknown" if ambiguous else "nothing",
        said=failed.said,
        failure=verdict.failure,
        retry_after=failed.retry_after or 0,
        answered_yes=failed.cause is BodyDeniesError,
    )


def _next_step(call: ApiCall[ResultT], failed: Failed) -> str:
    """What to do about a failure that changed nothing; empty for the error's own advice."""
    if failed.until:
        return _waiting(failed.retry_after or 0, failed.until)
    error = failed.verdict.error
    if issubclass(error, ResponseTooLargeError):
        return call.too_large
    if not _is_refusal(failed.cause) or issubclass(error, AuthFailedError | NotFoundError | RateLimitedError):
        return ""
    return f"{_TO_CHECK.get(error, '')}Tell the user{' what VPS.org said' if failed.said else ''}; {_TELL}"


def _is_refusal(cause: Cause) -> bool:
    return isinstance(cause, int) and httpx2.codes.is_client_error(cause) and cause not in (404, 408, 410, 425)


def _template(failed: Failed) -> str:
    cause, error = failed.cause, failed.verdict.error
    if isinstance(cause, int):
        if _is_refusal(cause) and failed.verdict.failure is Failure.AMBIGUOUS:
            return "VPS.org answered the request to {action} with {status}, which is no plain refusal."
        return _BY_ERROR.get(error) or _for_status(cause)
    for_cause = next((_BY_CAUSE[kind] for kind in cause.__mro__ if kind in _BY_CAUSE), "")
    return for_cause or _BY_ERROR.get(error) or _for_exception(failed)


def _for_status(status: int) -> str:
    if httpx2.codes.is_redirect(status):
        return "VPS.org answered the request to {action} with a redirect ({status}), which is never followed."
    if status in (404, 410):
        return "There is no VPS.org API at the address that is set ({status})."
    if _is_refusal(status):
        possibly = f": {_POSSIBLY[status]}" if status in _POSSIBLY else ""
        return f"VPS.org refused to {{action}} ({{status}}){possibly}."
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


def _waiting(seconds: float, until: datetime) -> str:
    """When to try again, in words."""
    whole = ceil(seconds)
    words = f", in {text.duration(timedelta(seconds=whole))}" if whole >= _SECONDS_SAY_LITTLE else ""
    return f"Try again after {whole} s, from {until:%Y-%m-%dT%H:%M:%SZ} on{words}."
