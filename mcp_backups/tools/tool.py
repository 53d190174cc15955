"""A tool: a typed function whose signature is the schema and whose docstring is the description."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from mcp_backups.errors import InvalidArgumentError
from mcp_backups.operations import Context, Person, ReportProgress
from mcp_backups.text import got, plural, safe_text

Safety = Literal["reads", "writes", "destroys"]
"""What a tool may do to the account."""

Schema = dict[str, Any]

HOST_ARGUMENTS = frozenset(
    {
        "toolCallId",  # n8n: the id of its own call
        "sessionId",  # n8n: its chat
        "task_progress",  # Cline: the model's list of what is still to be done
        "_meta",  # LangChain's adapters and others: the protocol's own field, one level too deep
        "random_string",  # Cursor: stands in where nothing is required
        "wait_for_previous",  # Gemini CLI: whether its calls run one after the other
    }
)
"""Arguments that hosts add to what the model asked for, and that mean nothing here. Any other that is unknown is
refused: a `dry_run` that is dropped is a real run."""

_ECHOED_NAME_CHARS = 40
_MOST_FAULTS = 10
_DIGITS = re.compile(r"0|[1-9][0-9]{0,15}")


class ToolCall(NamedTuple):
    """One call of a tool.

    Attributes:
        context: What it works with.
        report_progress: Tells the caller that it goes on.
        person: Who is behind the client.
        is_wanted: Whether the caller is still there; one that cancels the call ends it at once.
    """

    context: Context
    report_progress: ReportProgress
    person: Person
    is_wanted: Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class Tool:
    """One row of the tool table. Its schemas are made when they are first asked for: a start needs none of them.

    Attributes:
        run: `(call: ToolCall, **arguments) -> Model`; takes the checked arguments.
        text: The same facts as text.
        title: For people.
        safety: What it may do.
        idempotent: Whether the same call again changes nothing more.
    """

    run: Callable[..., Awaitable[BaseModel]]
    text: Callable[[Any], str]
    title: str
    safety: Safety
    idempotent: bool = True

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def description(self) -> str:
        return " ".join((self.run.__doc__ or "").split())

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """What it takes, as a model."""
        hints = get_type_hints(self.run, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
            for name, parameter in list(inspect.signature(self.run).parameters.items())[1:]
        }
        return create_model("Arguments", __config__=ConfigDict(extra="forbid", strict=True), **fields)

    @cached_property
    def input_schema(self) -> Schema:
        # Some hosts want the list of what is required even where it is empty.
        return {"required": [], **_without(self.arguments.model_json_schema(), "title")}

    @cached_property
    def output_schema(self) -> Schema:
        return _output_schema(get_type_hints(self.run)["return"])

    async def __call__(self, call: ToolCall, arguments: Mapping[str, Any]) -> BaseModel:
        """Check the arguments and run.

        Raises:
            InvalidArgumentError: An argument is missing, unknown, or not as its schema says; nothing was run.
        """
        checked = self._check(arguments)
        return await self.run(call, **{name: getattr(checked, name) for name in type(checked).model_fields})

    def _check(self, arguments: Mapping[str, Any]) -> BaseModel:
        given = {
            name: as_sent(value, self.input_schema["properties"].get(name, {}))
            for name, value in arguments.items()
            # A null where an argument may be left out says that it is left out.
            if name not in HOST_ARGUMENTS and (value is not None or not self._is_optional(name))
        }
        try:
            return self.arguments.model_validate(given)
        except ValidationError as invalid:
            faults = invalid.errors(include_url=False, include_input=False, include_context=False)
            told = list(dict.fromkeys(self._fault(str(fault["loc"][0]), fault["type"], arguments) for fault in faults))
            more = f". And {plural(len(told) - _MOST_FAULTS, 'more fault')}" if len(told) > _MOST_FAULTS else ""
            raise InvalidArgumentError(". ".join(told[:_MOST_FAULTS]) + more + ".") from None

    def _is_optional(self, name: str) -> bool:
        field = self.arguments.model_fields.get(name)
        return field is not None and not field.is_required()

    def _fault(self, name: str, kind: str, arguments: Mapping[str, Any]) -> str:
        if kind == "extra_forbidden":
            known = ", ".join(self.arguments.model_fields)
            return f"unknown argument {safe_text(name)[:_ECHOED_NAME_CHARS]!r} ({self.name} takes {known})"
        if kind == "missing":
            return f"{name} is required"
        return f"{name} must be {rule(self.input_schema['properties'][name])}; got {got(arguments[name])}"


@cache
def _output_schema(answer: type[BaseModel]) -> Schema:
    """The schema of what tools answer; several answer alike."""
    schema: Schema = _without(answer.model_json_schema(mode="serialization"), "title", "description", "default")
    return schema


def as_sent(value: object, schema: Schema) -> object:
    """A value as the model gave it, where a host changed it on the way and nothing was lost by that.

    Hosts whose numbers are all floats send `12345.0` for an integer, and some send numbers and flags as text. Half an
    emoji, which hosts leave that cut text by UTF-16 units, becomes U+FFFD.
    """
    kind = schema.get("type")
    if kind == "integer" and (
        (isinstance(value, float) and value.is_integer()) or (isinstance(value, str) and _DIGITS.fullmatch(value))
    ):
        return int(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    if kind == "string" and isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def rule(schema: Schema) -> str:
    """What a value must be, in words, from its schema."""
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema["type"] == "integer":
        return f"an integer from {schema['minimum']} to {schema['maximum']}"
    if schema["type"] == "boolean":
        return "true or false"
    return f"text of at most {schema['maxLength']} characters"


def _without(schema: Any, *keys: str) -> Any:
    """A JSON schema without some of its annotations, which cost tokens and tell nothing new."""
    if isinstance(schema, list):
        return [_without(each, *keys) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: _without(each, *keys) for key, each in value.items()}
        if name in {"properties", "$defs"}
        else _without(value, *keys)
        for name, value in schema.items()
        if name not in keys
    }
