"""What a client is told of the tools: as every client can read it, small, and true.

A definition is what a model decides by, so each is reviewed as a whole: `tests/snapshots/NAME.json`. After a change
that is meant, write them anew with `python -m tests.test_schemas`, and read the difference.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcp_backups.server import definition
from mcp_backups.tools import TOOLS, Tool

from .stage import Era, Session

SNAPSHOTS = Path(__file__).parent / "snapshots"
LIST_BYTES = 24_000
"""What the whole list of tools may take, with hints and the schemas of answers."""

ALL_BYTES = 10_000
"""What the definitions may cost a model before it has asked for anything."""

ASPECTS = {
    "list_backups": {
        "purpose": "List backups (snapshots, restore points) of VPS.org servers",
        "when": "Use it to find the ids of backups and servers",
        "when not": "check_backups tells which servers lack a fresh one",
        "effects": "Changes nothing",
        "returns": "Returns the rows and their total",
    },
    "create_backup": {
        "purpose": "Start a manual backup (snapshot) of one VPS.org server",
        "when": "Use it before a change, or where the newest backup is stale",
        "when not": "restore_server makes its own safety backup",
        "effects": "Nothing is lost",
        "returns": "Returns the operation with the backup's id",
    },
    "delete_backup": {
        "purpose": "Delete one backup (snapshot) of a VPS.org server",
        "when": "Use it for a single backup that is no longer needed",
        "when not": "prune_backups cleans up many by rules",
        "effects": "it cannot be undone",
        "returns": "Returns the operation",
    },
    "restore_server": {
        "purpose": "Restore (roll back) a VPS.org server to one of its own completed backups",
        "when": "Use it after a failed change or a loss of data",
        "when not": "check_backups recommends the backup",
        "effects": "what was written since is lost",
        "returns": "Returns the operation with the server's status and the way to undo it",
    },
    "get_operation": {
        "purpose": "Show what became of a backup, delete or restore operation",
        "when": "Use it after a write that was accepted, is preparing, or whose outcome is unknown",
        "when not": "For backups that no operation is about use list_backups or check_backups",
        "effects": "Changes nothing",
        "returns": "Returns the operation with its facts and the next step",
    },
    "check_backups": {
        "purpose": "Check whether every VPS.org server has a fresh, good backup (snapshot)",
        "when": "Use it for a morning or scheduled check, before a restore",
        "when not": "list_backups shows the single backups",
        "effects": "Changes nothing",
        "returns": "Returns totals, then the servers that need attention with the reason",
    },
    "prune_backups": {
        "purpose": "Clean up the manual backups (snapshots) of one VPS.org server by retention rules",
        "when": "Use it for old backups in bulk",
        "when not": "for one use delete_backup",
        "effects": "deleted ones are gone for good",
        "returns": "Returns the operation",
    },
}
"""The score sheet of the descriptions: the words by which each has what a model decides by. The sixth aspect, brevity,
and the parameters, which describe themselves, have tests of their own."""

Definition = dict[str, Any]


def told(tool: Tool) -> Definition:
    """A tool's definition as it goes over the wire."""
    return definition(tool).model_dump(mode="json", by_alias=True, exclude_none=True)


def pretty(definition: Definition) -> str:
    return json.dumps(definition, indent=2, ensure_ascii=False) + "\n"


def schemas_in(schema: object) -> Iterator[object]:
    """A JSON schema and all the schemas in it."""
    yield schema
    if isinstance(schema, dict):
        for each in [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]:
            yield from schemas_in(each)
        for key in ("items", "additionalProperties"):
            if key in schema and schema[key] is not False:
                yield from schemas_in(schema[key])


each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
each_parameter = pytest.mark.parametrize(
    ("parameter", "schema"),
    [
        pytest.param(name, schema, id=f"{tool.name}.{name}")
        for tool in TOOLS
        for name, schema in tool.input_schema["properties"].items()
    ],
)


@each_tool
def test_a_definition_is_as_it_was_reviewed(tool: Tool) -> None:
    reviewed = SNAPSHOTS / f"{tool.name}.json"
    assert reviewed.exists(), "review the definition, then write it with: python -m tests.test_schemas"
    assert pretty(told(tool)) == reviewed.read_text(encoding="utf-8")


def test_no_snapshot_outlives_its_tool() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == {tool.name for tool in TOOLS}


def test_tools_have_names_that_every_client_accepts() -> None:
    names = [tool.name for tool in TOOLS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]{1,40}", name) for name in names)


@each_tool
def test_the_input_is_a_flat_object_that_takes_nothing_unknown(tool: Tool) -> None:
    """One schema that a client cannot read loses it the whole server."""
    schema = tool.input_schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema) == {"type", "properties", "required", "additionalProperties"}
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", name) for name in schema["properties"])
    assert {each["type"] for each in schema["properties"].values()} <= {"string", "integer", "boolean"}


@each_tool
def test_no_schema_uses_words_that_some_client_cannot_read(tool: Tool) -> None:
    for schema in [*schemas_in(tool.input_schema), *schemas_in(tool.output_schema)]:
        assert isinstance(schema, dict), "a bare true or false"
        assert not {"$schema", "oneOf", "allOf", "not", "if"} & set(schema)
        assert not isinstance(schema.get("type"), list)
        assert schema.get("type") != "array" or "items" in schema


@each_parameter
def test_a_parameter_says_in_words_what_clients_drop_from_schemas(parameter: str, schema: dict[str, Any]) -> None:
    """Some hand on neither defaults nor ranges."""
    words = schema["description"]
    if "default" in schema:
        default = json.dumps(schema["default"]) if schema["default"] in {"", True, False} else str(schema["default"])
        assert "default" in words
        assert re.search(rf"(^|\W){re.escape(default)}(\W|$)", words), f"{parameter}: default {default}"
    for choice in schema.get("enum", ()):
        assert choice in words
    if "minimum" in schema:
        assert re.search(rf"\b{schema['minimum']}\b", words)
        most = schema["maximum"]
        assert ("2^53-1" if most == 2**53 - 1 else str(most)) in words


@each_parameter
def test_a_parameter_has_bounds(parameter: str, schema: dict[str, Any]) -> None:
    bounds = {"integer": {"minimum", "maximum"}, "string": {"maxLength"}, "boolean": set()}[schema["type"]]
    assert "enum" in schema or bounds <= set(schema), parameter


@each_tool
@pytest.mark.parametrize("aspect", ["purpose", "when", "when not", "effects", "returns"])
def test_a_description_has_every_aspect_that_a_model_decides_by(tool: Tool, aspect: str) -> None:
    assert ASPECTS[tool.name][aspect] in tool.description


@each_tool
def test_a_description_begins_with_what_the_tool_does(tool: Tool) -> None:
    """Some clients show the beginning only."""
    assert tool.description.startswith(ASPECTS[tool.name]["purpose"])


@each_parameter
def test_a_parameter_is_described(parameter: str, schema: dict[str, Any]) -> None:
    assert 3 <= len(schema["description"].split()) <= 25, parameter


@each_tool
def test_a_description_is_long_enough_to_choose_by_and_short_enough_to_read(tool: Tool) -> None:
    assert 45 <= len(tool.description.split()) <= 90


@each_tool
def test_a_description_gives_no_orders_and_does_not_shout(tool: Tool) -> None:
    assert not re.search(r"\b(must|always|never|important|warning)\b|!", tool.description, re.IGNORECASE)
    assert not re.search(r"\b[A-Z]{4,}\b", tool.description)


@each_tool
def test_every_hint_is_given_and_none_contradicts_another(tool: Tool) -> None:
    hints = told(tool)["annotations"]
    assert set(hints) == {"title", "readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert hints["title"] == told(tool)["title"] == tool.title
    assert hints["openWorldHint"] is True
    assert not (hints["readOnlyHint"] and hints["destructiveHint"])


@each_tool
def test_a_tool_that_can_destroy_takes_a_confirmation_and_no_other_does(tool: Tool) -> None:
    assert (tool.safety == "destroys") == ("confirm" in tool.input_schema["properties"])


def test_the_words_users_say_are_found() -> None:
    """Clients with many tools hide them behind a search of names and descriptions."""
    said = " ".join(f"{tool.name} {tool.description}" for tool in TOOLS).lower()
    wanted = ["vps", "server", "backup", "snapshot", "restore", "roll back", "delete"]
    wanted += ["clean up", "retention", "schedule", "stale"]
    assert [word for word in wanted if word not in said] == []


def test_all_the_definitions_together_are_small() -> None:
    """Titles, hints and output schemas do not reach the model."""
    parts = [{key: told(tool)[key] for key in ("name", "description", "inputSchema")} for tool in TOOLS]
    assert len(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()) < ALL_BYTES
    whole = {"tools": [told(tool) for tool in TOOLS]}
    assert len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()) < LIST_BYTES


@pytest.mark.anyio
async def test_lists_may_be_kept_for_a_minute_and_by_no_one_else(agent: Session, era: Era) -> None:
    """They change with the server's version alone. Before 2026-07-28 there is no word for it."""
    client = agent.client
    lists = await client.list_tools(), await client.list_prompts()
    for listed in (*lists, await client.list_resources(), await client.list_resource_templates()):
        assert (listed.ttl_ms, listed.cache_scope) == (60_000 if era == "auto" else 0, "private")
    assert (await client.read_resource("backups://policy")).ttl_ms == 0


if __name__ == "__main__":
    SNAPSHOTS.mkdir(exist_ok=True)
    for path in SNAPSHOTS.iterdir():
        path.unlink()
    for tool in TOOLS:
        (SNAPSHOTS / f"{tool.name}.json").write_text(pretty(told(tool)), encoding="utf-8")
