"""An agent built with Pydantic AI that cleans up a server's backups: it plans, reads the plan, and confirms it.

    pip install -r examples/agents/requirements-pydantic-ai.txt
    python examples/agents/pydantic_ai_cleanup.py 12345 -- mcp-backups --sandbox

The model here is a script, so that it runs without any account; put a real one in its place:
`Agent("anthropic:claude-…", …)`. Without a command after `--` it starts `mcp-backups`, which takes the account from
VPS_API_TOKEN.
"""

import asyncio
import os
import sys
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

TASK = "Keep the newest manual backup of server {server_id}, and delete the others."


def scripted(server_id: int) -> FunctionModel:
    """What a model would do: ask for a plan, confirm it when the server stays recoverable, tell the outcome."""
    wanted: dict[str, Any] = {"server_id": server_id, "keep_last": 1}

    def decide(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        assert "prune_backups" in {tool.name for tool in info.function_tools}
        answers = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if not answers:
            return ModelResponse(parts=[ToolCallPart("prune_backups", wanted)])
        answer = answers[-1].content
        if isinstance(answer, dict) and answer["status"] == "needs_confirmation" and answer["facts"]["to_keep"]:
            confirmed = wanted | {"confirm": True, "operation_id": answer["operation_id"]}
            return ModelResponse(parts=[ToolCallPart("prune_backups", confirmed)])
        return ModelResponse(parts=[TextPart(answer["summary"] if isinstance(answer, dict) else str(answer))])

    return FunctionModel(decide)


async def main(server_id: int, command: list[str]) -> None:
    """Start the server, hand its tools to the agent, and let it work."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    backups = MCPToolset(StdioTransport(command[0], command[1:], env=settings))
    async with Agent(scripted(server_id), toolsets=[backups]) as agent:
        result = await agent.run(TASK.format(server_id=server_id))
    print(result.output)


if __name__ == "__main__":
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else ["mcp-backups"]
    asyncio.run(main(int(sys.argv[1]), command))
