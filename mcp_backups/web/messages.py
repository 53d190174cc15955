"""The body of a request: all of it, in bounds, and a message that the SDK can read, or the answer to what is none."""

import json
import logging

from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Receive

from mcp_backups.stdio import INVALID_REQUEST, PARSE_ERROR, Refusal, read_line
from mcp_backups.text import visible

log = logging.getLogger(__name__)

MAX_BODY = 256 * 2**10


async def whole_body(receive: Receive) -> bytes | None:
    """All that a client sends, and of what is too large a little more than is taken; None if it left before the end."""
    body, more = b"", True
    while more and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def read_message(body: bytes) -> Response | bytes:
    """A message for the SDK, or the answer to what is none: by its id, where that can be read, and in our words."""
    if len(body) > MAX_BODY:
        return Response("Request body too large", status_code=413)
    messages = read_line(body) or [Refusal("null", INVALID_REQUEST, "there is no message")]
    if isinstance(messages[0], dict):
        whole = json.dumps(messages[0]).encode()
        try:
            from_json(whole)
        except ValueError:  # by which the SDK reads it, and to a smaller depth than we do
            number = json.dumps(messages[0]["id"]) if "id" in messages[0] else None
            messages = [Refusal(number, PARSE_ERROR, "the message is nested too deeply")]
        else:
            return whole
    refusals = [each for each in messages if isinstance(each, Refusal)]
    for each in refusals:
        log.warning("refused a request: %s", visible(each.why))
    lines = [each._replace(id=each.id or "null").line.strip() for each in refusals]
    answer = lines[0] if len(lines) == 1 else b"[%s]" % b",".join(lines)
    return Response(answer, status_code=400, media_type="application/json")
