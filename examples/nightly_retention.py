"""Prune a server's manual backups every night, unattended: plan, judge the plan by a rule of one's own, carry it out.

    python examples/nightly_retention.py --keep-daily 7 --keep-weekly 4 --at-most 5 12345

No person is there, so it runs the server with MCP_BACKUPS_APPROVAL=plan: nothing is deleted without the plan's
operation_id. What a call has no time for, or what stands in its way for a moment, the same call goes on with.
It starts `mcp-backups`, which takes the account from VPS_API_TOKEN; after `--` another command can start the server:

    python examples/nightly_retention.py --keep-last 1 12345 -- mcp-backups --sandbox

Exit code: 0 when all that no rule keeps is deleted, 1 when something stands against it, 3 when it has to be gone on
with later (the budget of deletes, or time).
"""

import argparse
import os
import sys
from typing import Any

import anyio
from mcp import Client, StdioServerParameters

DONE, NOT_DONE, LATER = 0, 1, 3
RULES = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")
MOST_CALLS = 60
"""Of about 20 s each."""

PAUSE_SECONDS = 5.0
"""Between two calls, for whatever stood in the way of the first."""


async def prune(client: Client, **arguments: Any) -> dict[str, Any]:
    """The operation that prune_backups answers; empty, and told why, when it is an error."""
    result = await client.call_tool("prune_backups", arguments)
    if result.is_error:
        (content,) = result.content
        assert content.type == "text"
        print(content.text, file=sys.stderr)
    return result.structured_content or {}


def objection(plan: dict[str, Any], at_most: int) -> str:
    """What this run's own rule has against a plan; empty if nothing. A wrong rule shows in what it would delete."""
    to_delete, to_keep = plan["facts"]["to_delete"], plan["facts"]["to_keep"]
    if to_delete > at_most:
        return f"{to_delete} backups are more than one night should delete ({at_most})."
    if to_keep < 1:
        return "No manual backup would be left."
    return ""


async def run(options: argparse.Namespace) -> int:
    """Plan, judge, and go on until it is finished; the exit code."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("VPS_API_", "MCP_BACKUPS_"))}
    command, *arguments = options.command
    server = StdioServerParameters(command=command, args=arguments, env=settings | {"MCP_BACKUPS_APPROVAL": "plan"})
    wanted = {"server_id": options.server_id} | {rule: getattr(options, rule) for rule in RULES}
    async with Client(server) as client:
        plan = operation = await prune(client, **wanted)
        if plan and plan["status"] == "needs_confirmation":
            if no := objection(plan, options.at_most):
                print(f"Nothing was deleted: {no}", file=sys.stderr)
                return NOT_DONE
            confirmed = wanted | {"confirm": True, "operation_id": plan["operation_id"]}
            for _ in range(MOST_CALLS):
                operation = await prune(client, **confirmed)
                if not operation or operation["status"] != "preparing":
                    break
                if "problem" in operation["facts"]:
                    await anyio.sleep(PAUSE_SECONDS)
    return verdict(operation)


def verdict(operation: dict[str, Any]) -> int:
    """Say what became of it; the exit code."""
    if not operation:
        return NOT_DONE
    print(operation["summary"])
    if operation["status"] in {"preparing", "accepted"}:
        return LATER
    if operation["status"] != "succeeded":
        return NOT_DONE
    return LATER if "left_for_later" in operation["facts"] else DONE


def main() -> int:
    """Read the arguments, prune."""
    parser = argparse.ArgumentParser(description="Prune a server's manual backups by keep rules.")
    parser.add_argument("server_id", type=int)
    for rule in RULES:
        parser.add_argument(f"--{rule.replace('_', '-')}", type=int, default=0, metavar="N")
    parser.add_argument("--at-most", type=int, default=10, metavar="N", help="delete no more in a night; 10 by default")
    parser.add_argument("command", nargs="*", default=["mcp-backups"], help="starts the server")
    return anyio.run(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
