"""The MCP server: the tool table, strict arguments, and the one boundary where errors become words."""

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache, partial
from time import perf_counter

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel import Server
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateCodec
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as ToolDefinition

from mcp_backups import __version__
from mcp_backups.access import Principal, Role, caller
from mcp_backups.errors import BackupsError, InternalError, InvalidArgumentError, PolicyDeniedError
from mcp_backups.instructions import instructions
from mcp_backups.ledger import KEY_BYTES
from mcp_backups.operations import Context
from mcp_backups.settings import Settings
from mcp_backups.tools import TOOLS, Safety, Tool, ToolCall
from mcp_backups.tools.asking import PATIENCE, ClientUser, Patience, QuestionPendingError, Seal
from mcp_backups.tools.boundary import RequestContext, name_the_fault
from mcp_backups.tools.completion import complete
from mcp_backups.tools.prompts import get_prompt, list_prompts
from mcp_backups.tools.resources import list_resource_templates, list_resources, read_resource

log = logging.getLogger(__name__)

SERVER_NAME = "mcp-backups"

_LOOK = "Look with list_backups before it is repeated, and tell the operator, whose log has the details."

_SAME_FOR_LONG: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
)
"""What stays the same while this server runs; unlike what a resource holds."""

_A_MINUTE = CacheHint(ttl_ms=60_000, scope="private")
"""Over HTTP a server of another version, or with other rules, may answer after that."""

_BY_NAME = {tool.name: tool for tool in TOOLS}

_ROLES: dict[Safety, Role] = {"reads": "read", "writes": "write", "destroys": "destroy"}


def tools_for(*, read_only: bool) -> tuple[Tool, ...]:
    """The tools that clients are told of: where nothing may be changed, those that read."""
    return tuple(tool for tool in TOOLS if tool.safety == "reads" or not read_only)


def build_server(
    settings: Settings,
    context: Callable[[], AbstractAsyncContextManager[Context]],
    *,
    sealing_key: Callable[[], bytes | None] = lambda: None,
    patience: Patience = PATIENCE,
) -> Server[Context]:
    """An MCP server.

    Args:
        settings: The policy that clients are told of.
        context: Opens what the tools work with when the serving begins, and closes it when it ends.
        sealing_key: Gets, when it is first needed, what seals the part of a question that a client keeps until it
            answers: 32 bytes, shared by all processes that may be given the answer; None for a key of this one alone.
        patience: How long a person is waited for.
    """

    @asynccontextmanager
    async def lifespan(_: Server[Context]) -> AsyncIterator[Context]:
        async with context() as opened:
            yield opened

    @cache
    def seal() -> RequestStateCodec:
        return AESGCMRequestStateCodec([sealing_key() or os.urandom(KEY_BYTES)])

    server = Server(
        SERVER_NAME,
        title="VPS.org backups",
        version=__version__,
        instructions=instructions(settings),
        lifespan=lifespan,
        cache_hints=dict.fromkeys(_SAME_FOR_LONG, _A_MINUTE),
        on_list_tools=partial(_list_tools, told=tools_for(read_only=settings.read_only)),
        on_call_tool=partial(_call_tool, patience=patience, seal=seal),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_list_resources=list_resources,
        on_list_resource_templates=list_resource_templates,
        on_read_resource=read_resource,
        # Before each call over HTTP; from the list of tools it would be made anew each time.
        get_tool_input_schema=lambda name: _BY_NAME[name].input_schema if name in _BY_NAME else None,
    )
    server.middleware.append(name_the_fault)
    return server


def definition(tool: Tool) -> ToolDefinition:
    """A tool as clients are told of it."""
    return ToolDefinition(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=tool.output_schema,
        annotations=ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.safety == "reads",
            destructive_hint=tool.safety == "destroys",
            idempotent_hint=tool.idempotent,
            open_world_hint=True,
        ),
    )


def role_for(tool: str) -> Role:
    """What a principal needs to call a tool; `read` for one that there is not."""
    return _ROLES[_BY_NAME[tool].safety] if tool in _BY_NAME else "read"


async def _list_tools(
    context: RequestContext, _: PaginatedRequestParams | None, *, told: tuple[Tool, ...]
) -> ListToolsResult:
    principal = caller(context.request)
    # Who logs in sees all of them, since the client then asks for the scope that a call lacks.
    shown = [tool for tool in told if not principal.is_fixed or principal.may(role_for(tool.name))]
    return ListToolsResult(tools=[definition(tool) for tool in shown])


async def _call_tool(
    context: RequestContext, params: CallToolRequestParams, *, patience: Patience, seal: Seal
) -> CallToolResult | InputRequiredResult:
    began = perf_counter()
    result, outcome = await _called(context, params, patience, seal)
    tool = params.name if params.name in _BY_NAME else "unknown"
    context.lifespan_context.meter.called(tool, outcome)
    log.info("%s: %s, %.0f ms", tool, outcome, (perf_counter() - began) * 1000)
    return result


async def _called(
    context: RequestContext, params: CallToolRequestParams, patience: Patience, seal: Seal
) -> tuple[CallToolResult | InputRequiredResult, str]:
    """The result of a call, and its outcome in a word."""
    try:
        tool = _named(params.name)
        principal = caller(context.request)
        _check_role(principal, tool)
        user = ClientUser(context, params, patience, seal)
        answer = await tool(
            ToolCall(
                context.lifespan_context.for_a_call(principal.name),
                context.session.report_progress,
                user,
                partial(_stands, context),
            ),
            params.arguments or {},
        )
        text = tool.text(answer)
    except QuestionPendingError as pending:
        return pending.result, "asked"
    except BackupsError as error:
        return _error(error), error.code
    except Exception:
        # The boundary: whatever else goes wrong, only our own words reach the model.
        log.exception("%s failed", params.name)
        what = "Something went wrong in this server."
        is_harmless = params.name in _BY_NAME and _BY_NAME[params.name].safety == "reads"
        fault = InternalError(what) if is_harmless else InternalError(what, _LOOK, changed="unknown")
        return _error(fault), fault.code
    result = CallToolResult(content=[TextContent(text=text)], structured_content=answer.model_dump(mode="json"))
    return result, getattr(answer, "status", "ok")


async def _stands(context: RequestContext) -> bool:
    """Whether the connection that a call came by still stands; over standard input and output its end cancels it."""
    is_disconnected = getattr(context.request, "is_disconnected", None)
    return is_disconnected is None or not await is_disconnected()


def _named(name: str) -> Tool:
    if name not in _BY_NAME:
        raise InvalidArgumentError("There is no tool of that name.", f"Call one of {', '.join(_BY_NAME)}.")
    return _BY_NAME[name]


def _check_role(principal: Principal, tool: Tool) -> None:
    needed = role_for(tool.name)
    if not principal.may(needed):
        may = "look, and make backups" if principal.may("write") else "look"
        raise PolicyDeniedError(f"This client may only {may}; {tool.name} is beyond that.")


def _error(error: BackupsError) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
