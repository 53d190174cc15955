"""How a request is refused before anything of it is passed on."""

from http import HTTPStatus

from starlette.responses import PlainTextResponse, Response


def refused(status: HTTPStatus, why: str, **headers: str) -> Response:
    """A refusal in a few words; the connection ends with it."""
    # What else would come on this connection is the rest of a body that nobody reads.
    return PlainTextResponse(why, status, {"Connection": "close"} | headers)
