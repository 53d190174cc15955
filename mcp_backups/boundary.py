"""Where a failure of a prompt, a resource or a completion becomes an MCP error in our own words."""

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS

from mcp_backups.errors import BackupsError, InternalError, InvalidArgumentError, NotFoundError
from mcp_backups.operations import Context

log = logging.getLogger(__name__)

RequestContext = ServerRequestContext[Context, Any]
Params = TypeVar("Params")
Answer = TypeVar("Answer")


def bounded(
    handler: Callable[[RequestContext, Params], Awaitable[Answer]],
) -> Callable[[RequestContext, Params], Awaitable[Answer]]:
    """The handler, which tells what went wrong as a code and one of our messages, and nothing else.

    What the caller can mend by asking for something else is INVALID_PARAMS.
    """

    @wraps(handler)
    async def answer(context: RequestContext, params: Params) -> Answer:
        try:
            return await handler(context, params)
        except (InvalidArgumentError, NotFoundError) as error:
            raise MCPError(INVALID_PARAMS, str(error)) from None
        except BackupsError as error:
            log.info("%s: %s", context.method, error.code)
            raise MCPError(INTERNAL_ERROR, str(error)) from None
        except Exception:
            # The boundary: whatever else goes wrong, only our own words reach the client.
            log.exception("%s failed", context.method)
            raise MCPError(INTERNAL_ERROR, str(InternalError("Something went wrong in this server."))) from None

    return answer
