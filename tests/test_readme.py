"""The README and the pages for users are true: they name all there is, and what they show is what happens."""

import argparse
import ast
import json
import re
import tomllib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from mcp_backups import __version__, errors
from mcp_backups.cli import _parser
from mcp_backups.commands.config.catalogue import CLIENTS
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import CONFIG, Settings, setting_name
from mcp_backups.tools import TOOLS

from .pages import ROOT, blocks, code, page, table
from .stage import ManualClock, Session, session

README = page("README.md")
CLIENTS_PAGE = page("docs/clients.md")
SETTINGS = page("docs/settings.md")
SAFETY = page("docs/safety.md")
RUNBOOKS = page("docs/runbooks.md")
ERRORS = page("docs/errors.md")

SET_UP = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)


def default_in_words(name: str) -> str:
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    if name == "state_dir":
        return "your state folder"
    return str(default).lower() if isinstance(default, bool) else str(default or "none")


def error_codes() -> Iterator[str]:
    for each in vars(errors).values():
        if isinstance(each, type) and issubclass(each, errors.BackupsError):
            yield each.code


def test_two_commands_do_all_the_set_up() -> None:
    """`.ci/run` runs them as they stand here."""
    demo, tests = SET_UP
    assert demo.endswith("mcp-backups demo")
    assert tests.endswith("pytest")
    assert {demo + "\n", tests + "\n"} <= set(blocks(README, "sh"))


def test_it_names_every_setting_with_its_default_and_no_other() -> None:
    told = {code(name): code(default) for name, default, _ in table(SETTINGS, "Settings")}
    assert told.pop(CONFIG)
    assert told == {setting_name((name,)): default_in_words(name) for name in Settings.model_fields}


def test_it_names_every_tool_with_its_parameters_and_no_other() -> None:
    told = {code(name): re.findall(r"`(\w+)`", parameters) for name, parameters, _ in table(README, "Tools")}
    assert told == {tool.name: list(tool.input_schema["properties"]) for tool in TOOLS}


@pytest.mark.parametrize(
    ("parameter", "schema"),
    [
        pytest.param(f"{tool.name}.{name}", schema, id=f"{tool.name}.{name}")
        for tool in TOOLS
        for name, schema in tool.input_schema["properties"].items()
    ],
)
def test_it_tells_a_parameters_default_range_and_choices(parameter: str, schema: dict[str, Any]) -> None:
    tool, name = parameter.split(".")
    (row,) = (parameters for each, parameters, _ in table(README, "Tools") if code(each) == tool)
    (words,) = (each for each in row.split(" · ") if each.startswith(f"`{name}`"))
    if "default" in schema:
        default = schema["default"] if "enum" in schema else json.dumps(schema["default"])
        assert re.search(rf"\({re.escape(default)}[),:;]", words.replace('"",', '"";')), words
    if "minimum" in schema and schema["maximum"] < 2**53 - 1:
        assert f"{schema['minimum']} to {schema['maximum']}" in words
    assert all(choice in words for choice in schema.get("enum", ()))


def test_it_names_every_error_code_and_no_other() -> None:
    told = [code(row[0]) for row in table(ERRORS, "Codes")]
    assert len(told) == len(set(told))
    assert set(told) == set(error_codes())


def test_it_names_every_command_and_no_other() -> None:
    (commands,) = (each for each in _parser()._actions if isinstance(each, argparse._SubParsersAction))
    told = [code(row[0]).removeprefix("mcp-backups").strip() for row in table(SETTINGS, "Commands")]
    assert told == ["", *commands.choices]


@pytest.mark.parametrize("form", re.findall(r"^\|.*`(\{.*\})` \|$", CLIENTS_PAGE, re.MULTILINE) or ["none"])
def test_what_goes_into_a_clients_file_can_be_read_and_starts_this_server(form: str) -> None:
    assert json.loads(form)
    assert re.search(r'"(command|cmd)": \[?"mcp-backups"', form)


def test_it_names_every_client() -> None:
    told = README.replace("\n", " ")
    assert [client.title for client in CLIENTS if client.title not in told] == []


def test_it_leads_to_every_page_for_users() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\]\(([^)]+)\)", README))


def test_the_runbooks_name_every_example_and_no_other() -> None:
    there = {path.name for end in ("py", "sh") for path in (ROOT / "examples").rglob(f"*.{end}")}
    assert {code(row[0]) for row in table(RUNBOOKS, "Runbooks")} == there
    assert set(re.findall(r"examples/[\w/.-]+", " ".join(blocks(RUNBOOKS, "sh")))) <= {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("*") if path.is_file()
    }


def test_the_settings_file_it_shows_can_be_read() -> None:
    shown, accounts = blocks(SETTINGS, "toml")
    told = tomllib.loads(shown)
    assert {"approval", "protected_servers"} <= told.keys()
    told.pop("vps_api_token_file")
    assert Settings.model_validate(told).protected_servers == {12345}
    assert tomllib.loads(accounts).keys() == {"accounts"}


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 180


def test_the_changelog_tells_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.findall(r"^## \[(.+)\] - (.+)$", changelog, re.MULTILINE)
    assert dated[0][0] == __version__
    assert all(datetime.fromisoformat(date) for _, date in dated)


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Session]:
    clock = ManualClock()
    async with Emulator(now=clock.now) as emulator, session(emulator, Settings(state_dir=tmp_path), clock) as agent:
        yield agent


@pytest.mark.anyio
async def test_it_names_every_prompt_and_resource_and_no_other(agent: Session) -> None:
    prompts, resources = re.findall(r"^(?:Prompts|Resources) to \w+: (.*)$", README, re.MULTILINE)
    told_prompts = (await agent.client.list_prompts()).prompts
    told_resources = (await agent.client.list_resources()).resources
    templates = (await agent.client.list_resource_templates()).resource_templates
    assert re.findall(r"`(.+?)`", prompts) == [each.name for each in told_prompts]
    assert re.findall(r"`(.+?)`", resources) == [
        *(str(each.uri) for each in told_resources),
        *(each.uri_template for each in templates),
    ]


@pytest.mark.anyio
async def test_the_question_it_shows_is_what_a_user_is_asked(tmp_path: Path) -> None:
    (shown,) = blocks(SAFETY, "text")
    clock, asked = ManualClock(), list[str]()

    async def decline(_: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="decline")

    async with (
        Emulator(now=clock.now) as emulator,
        session(emulator, Settings(state_dir=tmp_path), clock, elicitation_callback=decline) as agent,
    ):
        plan = await agent.call("delete_backup", backup_id=499)
        await agent.call("delete_backup", backup_id=499, confirm=True, operation_id=plan.operation)
    assert [masked(text, []) for text in asked] == [masked(shown.rstrip("\n"), [])]


def masked(text: str, operations: list[str]) -> str:
    """A text with the same words in place of what differs from one session to the next."""
    for number, operation in enumerate(operations):
        text = text.replace(operation, f"OPERATION {number}")
    return re.sub(r"(\d{4}-\d\d-\d\dT)?\d\d:\d\dZ", "TIME", text)


def parsed(call: str) -> tuple[str, dict[str, Any]]:
    """A call as the README writes it: the tool, and the arguments."""
    wanted = ast.parse(call.replace("=true", "=True").replace("=false", "=False"), mode="eval").body
    assert isinstance(wanted, ast.Call)
    assert isinstance(wanted.func, ast.Name)
    return wanted.func.id, {str(each.arg): ast.literal_eval(each.value) for each in wanted.keywords}


@pytest.mark.anyio
async def test_the_session_it_shows_goes_as_it_shows(agent: Session) -> None:
    (shown,) = blocks(README, "text")
    told = list(dict.fromkeys(re.findall(r"op_\w+", shown)))
    own: list[str] = []
    calls = re.split(r"^> ", shown, flags=re.MULTILINE)[1:]
    assert len(calls) > 3
    for each in calls:
        call, _, answer = each.partition("\n")
        tool, arguments = parsed(call)
        if "operation_id" in arguments:
            arguments["operation_id"] = own[told.index(arguments["operation_id"])]
        text = (await agent.call(tool, **arguments)).text
        own = list(dict.fromkeys([*own, *re.findall(r"op_\w+", text)]))
        parts = (re.escape(part.strip("\n")) for part in masked(answer, told).split("…"))
        assert re.fullmatch(r"[\s\S]*".join(parts), masked(text, own)), call
