"""The API's refusals, word for word as Django REST Framework says them (its defaults; the live texts are unknown)."""

import math
from collections.abc import Mapping

from .reply import HTML, Reply, json_reply

NOT_PROVIDED = "Authentication credentials were not provided."
NOT_KNOWN = "Invalid token."


class RefusalError(Exception):
    """A request the API will not carry out; it holds the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> RefusalError:
    """A refusal in DRF's usual form."""
    return RefusalError(json_reply(status, {"detail": text}, headers))


def invalid(field: str, *problems: str) -> RefusalError:
    """400: one field is wrong."""
    return RefusalError(json_reply(400, {field: list(problems)}))


def unparsable(problem: object) -> RefusalError:
    """400: the body is not JSON."""
    return detail(400, f"JSON parse error - {problem}")


def unauthenticated(text: str) -> RefusalError:
    """401: no token, or not one of ours."""
    return detail(401, text, {"WWW-Authenticate": "Bearer"})


def forbidden() -> RefusalError:
    """403: the token's permissions do not reach that far."""
    return detail(403, "You do not have permission to perform this action.")


def no_such(kind: str) -> RefusalError:
    """404 in JSON: the route exists, the object does not."""
    return detail(404, f"No {kind} matches the given query.")


def no_such_page() -> RefusalError:
    """404 in JSON: past the last page."""
    return detail(404, "Invalid page.")


def no_such_route() -> RefusalError:
    """404 in HTML, as Django's own handler says it."""
    page = (
        '\n<!doctype html>\n<html lang="en">\n<head>\n  <title>Not Found</title>\n</head>\n<body>\n'
        "  <h1>Not Found</h1><p>The requested resource was not found on this server.</p>\n</body>\n</html>\n"
    )
    return RefusalError(Reply(404, page.encode(), HTML))


def moved(location: str) -> RefusalError:
    """301: the slash at the end was missing."""
    return RefusalError(Reply(301, content_type=HTML, headers={"Location": location}))


def method_not_allowed(method: str, allowed: str) -> RefusalError:
    """405, with the methods that are."""
    return detail(405, f'Method "{method}" not allowed.', {"Allow": allowed})


def not_acceptable() -> RefusalError:
    """406: the client will not take JSON."""
    return detail(406, "Could not satisfy the request Accept header.")


def too_large() -> RefusalError:
    """413: a body no client of this API has reason to send."""
    return detail(413, "Request body is too large.")


def unsupported_media(content_type: str) -> RefusalError:
    """415: the body is not declared as JSON."""
    return detail(415, f'Unsupported media type "{content_type}" in request.')


def throttled(seconds: float | None) -> RefusalError:
    """429. seconds: until the next request is welcome; None leaves that unsaid, header and text."""
    if seconds is None:
        return detail(429, "Request was throttled.")
    wait = math.ceil(seconds)
    unit = "second" if wait == 1 else "seconds"
    text = f"Request was throttled. Expected available in {wait} {unit}."
    return detail(429, text, {"Retry-After": str(wait)})
