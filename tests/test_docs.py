"""The pages are true: what they point to is there, and what they say of the code is so."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from mcp_backups.console.serving import _check as check
from mcp_backups.ledger.sqlite import open_file_for_audit
from mcp_backups.operations import Operation, Status
from mcp_backups.sandbox import Emulator
from mcp_backups.settings import Settings, load_settings

from .delete_path import seen_in_a_process_of_its_own
from .pages import PACKAGE, PAGES, ROOT, anchors, blocks, defined, located, page, section, spans, table, tables
from .stage import MakeSettings, ManualClock, session

ARCHITECTURE = page("docs/architecture.md")
_, STATES = blocks(ARCHITECTURE, "mermaid")
ARROWS = {tuple(each.replace("[*]", "start").split(" --> ")) for each in re.findall(r"\S+ --> \S+", STATES)}

WORDS = " ".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))).lower()

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


@every_page
def test_a_page_links_only_to_what_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if name.startswith(("https://", "mailto:")):
            continue
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@every_page
def test_a_page_names_only_files_and_names_that_are_there(path: Path) -> None:
    for span in spans(path.read_text(encoding="utf-8")):
        file, _, name = span.partition(":")
        if not re.fullmatch(r"[\w./-]+(\.py|\.md|\.sh|/)", file) or file.startswith(("/", "~", ".")):
            continue
        found = located(file) or located(f"examples/{file}") or located(f"examples/agents/{file}")
        assert found, span
        assert not name or name in defined(found), span


@every_page
def test_a_page_tells_of_no_machine_and_of_no_code_that_leads_out_of_the_repository(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!\w)/(work|tmp|root|home)/\w", text)
    faults = {row[0] for rows in tables(section(page("tests/README.md"), "Faults")) for row in rows}
    assert set(re.findall(r"\b[A-Z]\d{1,2}\b", text)) <= faults


def test_the_diagram_shows_every_state_of_an_operation_and_no_other() -> None:
    assert {state for arrow in ARROWS for state in arrow} - {"start"} == {status.value for status in Status}


def test_every_arrow_between_states_is_explained_and_no_other() -> None:
    told = [row[0].split(" → ") for row in table(ARCHITECTURE, "The states of an operation")]
    explained = [(start, end) for start, ends in told for end in ends.split(", ")]
    assert len(explained) == len(set(explained))
    assert set(explained) == ARROWS


@pytest.mark.anyio
async def test_what_operations_do_goes_along_the_arrows(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Emulator(now=clock.now) as emulator, session(emulator, Settings(state_dir=tmp_path), clock) as agent:
        await agent.call("create_backup", server_id=12345, wait_seconds=45)
        await agent.call("delete_backup", backup_id=447)
        for tool, arguments in (
            ("delete_backup", {"backup_id": 499}),
            ("restore_server", {"server_id": 12351, "backup_id": 383}),
            ("prune_backups", {"server_id": 12345, "keep_last": 1}),
        ):
            plan = await agent.call(tool, **arguments)
            await agent.call(tool, **arguments, confirm=True, operation_id=plan.operation)
            await agent.call("get_operation", operation_id=plan.operation, wait_seconds=45)
            await agent.call(tool, **arguments, confirm=True, operation_id=plan.operation)
        expiring = await agent.call("delete_backup", backup_id=451)
        clock.advance(minutes=11)
        await agent.call("get_operation", operation_id=expiring.operation)
    went: dict[str, list[str]] = {}
    with open_file_for_audit(tmp_path, Operation) as ledger:
        assert ledger is not None
        for event in ledger.events():
            # What was shown to somebody is a plan first, and no event.
            begun = ["start"] if event.status == "sending" else ["start", "planned"]
            went.setdefault(event.operation_id, begun).append(event.status)
    steps = {step for states in went.values() for step in pairwise(states) if step[0] != step[1]}
    assert len(steps) > 7
    assert steps <= ARROWS


def test_what_the_page_sets_for_the_console_behind_a_login_lets_it_start(make_settings: MakeSettings) -> None:
    make_settings()
    (commands,) = blocks(section(page("docs/console.md"), "Behind a login"), "sh")
    environ = dict(re.findall(r"(MCP_BACKUPS_\w+)=(\S+)", commands))
    (socket,) = re.findall(r"--socket (\S+)", commands)
    check(load_settings(environ, needs_key=False), "127.0.0.1", Path(socket))


def test_the_extras_that_are_told_of_are_those_that_there_are() -> None:
    """None is told to be installed by the name of the package, which anybody may take as long as it is free."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    (told,) = re.findall(r"There are (.+)\.", section(page("docs/clients.md"), "Install"))
    assert set(re.findall("`([a-z]+)`", told)) == extras - {"dev", "mutation"}, "but those of contributors"
    for path in PAGES:
        assert "mcp-backups[" not in path.read_text()


def test_the_path_of_a_delete_is_the_one_that_it_takes() -> None:
    """Each file that runs is named, and each function that is named runs."""
    ran = {
        file: {name.split(".<locals>")[0] for name in names} for file, names in seen_in_a_process_of_its_own().items()
    }
    named = [span for span in spans(section(ARCHITECTURE, "The path of one confirmed delete")) if ".py" in span]
    assert {span.partition(":")[0] for span in named} == ran.keys()
    for file, name in (span.split(":") for span in named if ":" in span):
        assert any(each == name or each.startswith(f"{name}.") for each in ran[file]), (file, name)


def test_every_decision_is_shown_in_one_place_that_is_there() -> None:
    rows = table(ARCHITECTURE, "Where is it decided?")
    assert len(rows) > 15
    assert all(any(located(span.partition(":")[0]) for span in spans(where)) for _, where in rows)


def test_the_glossary_is_in_order_says_each_word_once_and_only_words_that_are_used() -> None:
    words = [word for word, _ in table(ARCHITECTURE, "Glossary")]
    assert words == sorted(set(words), key=str.lower)
    assert [word for word in words if not re.search(rf"\b{word.lower()}", WORDS)] == []


def test_contributing_tells_which_file_to_open_for_the_ten_likeliest_changes() -> None:
    rows = table(page("CONTRIBUTING.md"), "To change X, open Y")
    assert len(rows) >= 10
    assert all(
        any(located(span.partition(":")[0]) for span in spans(where))
        for _, *where_and_tests in rows
        for where in where_and_tests
    )


def test_contributing_names_what_ci_runs() -> None:
    told = section(page("CONTRIBUTING.md"), "Checks")
    tools = re.findall(r"'\$tools/([\w-]+)'", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert {tool for tool in tools if tool not in told} <= {"pip", "python"}
    assert all(each in told for each in ("`.ci/run`", "pytest"))


def test_every_rule_of_contributing_has_its_reason() -> None:
    rules = table(page("CONTRIBUTING.md"), "Rules, and why")
    assert len(rules) >= 8
    assert all(len(row) == 2 and len(row[1]) > 20 for row in rules)


def test_no_table_has_a_row_of_another_length() -> None:
    for path in PAGES:
        for rows in tables(path.read_text(encoding="utf-8")):
            assert len({len(row) for row in rows}) == 1, (path.name, rows[0])
