"""An agent built with LangChain and LangGraph that cleans up a server's backups: it plans, reads the plan, confirms it.

    python -m venv agents && agents/bin/pip install -r examples/agents/requirements-langchain.txt
    agents/bin/python examples/agents/langchain_cleanup.py 12345 -- mcp-backups --sandbox

LangChain's adapters bring an MCP SDK of the 1.x line, so they live in an environment of their own, and speak to the
server as any MCP client does. The model here is a script, so that it runs without any account; put a real one in its
place. Without a command after `--` it starts `mcp-backups`, which takes the account from VPS_API_TOKEN.
"""

import asyncio
import os
import sys
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools

TASK = "Keep the newest manual backup of server {server_id}, and delete the others."


class Scripted(BaseChatModel):
    """What a model would do: ask for a plan, confirm it when the server stays recoverable, tell the outcome."""

    server_id: int

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> "Scripted":
        """Take note of the tools: they are as the script knows them."""
        assert "prune_backups" in {tool.name for tool in tools}
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._decide(messages))])

    def _decide(self, messages: list[BaseMessage]) -> AIMessage:
        wanted: dict[str, Any] = {"server_id": self.server_id, "keep_last": 1}
        last = messages[-1]
        if not isinstance(last, ToolMessage):
            return _call(wanted)
        if last.status == "error" or not last.artifact:
            return AIMessage(str(last.content))
        answer = last.artifact["structured_content"]
        if answer["status"] == "needs_confirmation" and answer["facts"]["to_keep"]:
            return _call(wanted | {"confirm": True, "operation_id": answer["operation_id"]})
        return AIMessage(answer["summary"])


def _call(arguments: dict[str, Any]) -> AIMessage:
    call = {"name": "prune_backups", "args": arguments, "id": f"call-{len(arguments)}"}
    return AIMessage("", tool_calls=[call])


async def main(server_id: int, command: list[str]) -> None:
    """Start the server, hand its tools to the agent, and let it work."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    client = MultiServerMCPClient(
        {"backups": {"transport": "stdio", "command": command[0], "args": command[1:], "env": settings}}
    )
    async with client.session("backups") as session:
        agent = create_agent(Scripted(server_id=server_id), await load_mcp_tools(session))
        task = {"role": "user", "content": TASK.format(server_id=server_id)}
        result = await agent.ainvoke({"messages": [task]})
    print(result["messages"][-1].content)


if __name__ == "__main__":
    command = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else ["mcp-backups"]
    asyncio.run(main(int(sys.argv[1]), command))
