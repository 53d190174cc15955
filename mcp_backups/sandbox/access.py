"""Who may do what, and how often: tokens, permissions and the throttle."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import refusals


def authenticated(authorization: str, tokens: dict[str, list[str]]) -> str:
    """The token in an Authorization header. Refuses with 401 unless it is one the account knows."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise refusals.unauthenticated(refusals.NOT_PROVIDED)
    if token not in tokens:
        raise refusals.unauthenticated(refusals.NOT_KNOWN)
    return token


def may(permissions: Sequence[str], resource: str, action: str) -> bool:
    """Whether one of the permissions (`resource:action`, either part may be `*`) covers this action."""
    pairs = (permission.partition(":") for permission in permissions)
    return any(kind in ("*", resource) and verb in ("*", action) for kind, _, verb in pairs)


@dataclass(frozen=True)
class Throttle:
    """At most `requests` in any `seconds`, for each token. announce: whether a 429 says how long to wait."""

    requests: int
    seconds: float
    announce: bool = True


class Turnstile:
    """Counts requests against a throttle, as DRF's SimpleRateThrottle does: a refused one does not count."""

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle
        self._passed: defaultdict[str, deque[datetime]] = defaultdict(deque)

    def enter(self, token: str, now: datetime) -> None:
        """Let one request through, or refuse it with 429."""
        window = timedelta(seconds=self._throttle.seconds)
        passed = self._passed[token]
        while passed and passed[0] <= now - window:
            passed.popleft()
        if len(passed) >= self._throttle.requests:
            until = (passed[0] + window - now).total_seconds() if passed else self._throttle.seconds
            raise refusals.throttled(until if self._throttle.announce else None)
        passed.append(now)
