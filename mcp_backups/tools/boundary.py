"""Where a failure of a prompt, a resource or a completion becomes an MCP error in our own words."""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from mcp.server import ServerRequestContext
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, ReadResourceRequestParams
from pydantic import ValidationError

from mcp_backups.errors import BackupsError, InternalError, InvalidArgumentError, NotFoundError
from mcp_backups.operations import Context
from mcp_backups.text import plural, safe_text

log = logging.getLogger(__name__)

_KINDS = {
    "string_type": "text",
    "int_type": "an integer",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "mapping_type": "an object",
}
_MOST_FAULTS = 5
_NEVER_ASKED = {"CreateMessageResult", "ListRootsResult"}
"""Answers that a client may bring, to what is not asked here."""

RequestContext = ServerRequestContext[Context, Any]
Params = TypeVar("Params")
_T = TypeVar("_T")


def bounded(
    handler: Callable[[RequestContext, Params], Awaitable[_T]],
) -> Callable[[RequestContext, Params], Awaitable[_T]]:
    """The handler, which tells what went wrong as a code and one of our messages, and nothing else.

    What the caller can mend by asking for something else is INVALID_PARAMS.
    """

    @wraps(handler)
    async def answer(context: RequestContext, params: Params) -> _T:
        try:
            return await handler(context, params)
        except (InvalidArgumentError, NotFoundError) as error:
            # 2026-07-28 wants a resource that is not found named as data too.
            where = {"uri": params.uri} if isinstance(params, ReadResourceRequestParams) else None
            raise MCPError(INVALID_PARAMS, str(error), where) from None
        except BackupsError as error:
            log.info("%s: %s", context.method, error.code)
            raise MCPError(INTERNAL_ERROR, str(error)) from None
        except Exception:
            # The boundary: whatever else goes wrong, only our own words reach the client.
            log.exception("%s failed", context.method)
            raise MCPError(INTERNAL_ERROR, str(InternalError("Something went wrong in this server."))) from None

    return answer


async def name_the_fault(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Say which field of a request is wrong, where the SDK says only that its parameters are invalid."""
    try:
        return await call_next(ctx)
    except ValidationError as invalid:
        errors = invalid.errors(include_url=False)
        asked_for = [each for each in errors if _NEVER_ASKED.isdisjoint(each["loc"])]
        told = list(dict.fromkeys(_fault(each["loc"], each["type"]) for each in asked_for or errors))
        more = f"; and {plural(len(told) - _MOST_FAULTS, 'more fault')}" if len(told) > _MOST_FAULTS else ""
        raise MCPError(INVALID_PARAMS, f"Invalid params: {'; '.join(told[:_MOST_FAULTS])}{more}.") from None
    except MCPError as error:
        if error.code == INVALID_PARAMS and error.data == "":  # the SDK's, for a request before the handshake
            raise MCPError(
                INVALID_PARAMS,
                "Invalid params: the session has not begun. Send initialize first, or with every request the fields of "
                "2026-07-28 in params._meta.",
            ) from None
        raise


def _fault(place: tuple[int | str, ...], kind: str) -> str:
    name = safe_text(".".join(map(str, place)) or "params")
    return f"{name} is required" if kind == "missing" else f"{name} must be {_KINDS.get(kind, 'as MCP defines it')}"
