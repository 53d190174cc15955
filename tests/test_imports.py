"""The layers: what a module may import follows from its place, and a new module needs one."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mcp_backups

PACKAGE = Path(mcp_backups.__file__).parent
NAME = PACKAGE.name

LAYERS = (
    {"errors", "text", "clock"},
    {"models", "private", "spelling"},
    {"values"},
    {"accounts"},
    {"settings", "access", "health", "logs"},
    {"retention", "metrics", "instructions"},
    {"ledger"},
    {"api"},
    {"operations"},
    {"actions"},
    {"tools", "notify"},
    {"server", "stdio"},
    {"web", "opening"},
    {"transport"},
    {"commands"},
    {"console"},
    {"cli"},
    {"__main__"},
)
"""Each part imports from the layers above it in this table, and from itself."""

EMULATOR = "sandbox"
EMULATOR_USERS = {"transport", "commands", "cli"}

ONLY_IN = {
    "jwt": {"web"},
    "httpx2": {"web", "api", "commands"},
    "mcp": {"server", "stdio", "web", "commands", "tools"},
    "mcp_types": {"server", "stdio", "commands", "tools"},
    "sqlite3": {"ledger"},
    "psycopg": {"ledger"},
    "h11": {"sandbox"},
    "tomlkit": {"commands"},
    "uvicorn": {"web", "console"},
    "starlette": {"web", "console"},
    "jinja2": {"console"},
    "prometheus_client": {"metrics"},
    "rich": {"commands"},
    "apprise": {"notify"},
}
"""Which parts may know of what others made."""

MODULE_LINES, FUNCTION_LINES = 500, 50
"""Where a module or a function has long been in want of a second one."""

CORE = {"actions", "operations", "ledger"}
CORE_IMPORTS = 94
"""How many imports between two modules of the core there are: with fewer, hold the new number."""

MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_NAMES = {
    ".".join([NAME, *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in MODULES
}


def part_of(path: Path) -> str:
    """The module or folder right below the package, empty for the package itself."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path, package: Path = PACKAGE) -> Iterator[str]:
    """The full name of all that a module imports, wherever in it that stands."""
    here = [NAME, *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: -node.level] if node.level else []
            base = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def modules_imported(module: str) -> set[str]:
    """The modules of the package that one of them imports; a name that a package hands on is the package's."""
    names = {name if name in MODULE_NAMES else name.rpartition(".")[0] for name in imports(MODULE_NAMES[module])}
    return names & MODULE_NAMES.keys() - {module}


def of_ours(path: Path) -> set[str]:
    """The other parts of the package that a module imports."""
    names = [name.split(".") for name in imports(path)]
    parts = {name[1] for name in names if name[0] == NAME and len(name) > 1}
    return {part for part in parts if not part.startswith("__")} - {part_of(path)}


def of_others(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {NAME}


def layer_of(part: str) -> int:
    return next((number for number, parts in enumerate(LAYERS) if part in parts), -1)


@pytest.fixture(params=MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def module(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_a_module_imports_only_from_the_layers_it_stands_on(module: Path) -> None:
    part = part_of(module)
    if part == "":
        assert of_ours(module) == set()
        return
    if part == EMULATOR:
        assert of_ours(module) == set(), "the emulator is a second reading of the API, and shares no code"
        return
    assert layer_of(part) >= 0, f"{part} has no place in LAYERS"
    below = set().union(*LAYERS[: layer_of(part)]) | ({EMULATOR} if part in EMULATOR_USERS else set())
    assert of_ours(module) <= below


def test_what_others_made_stays_in_its_room(module: Path) -> None:
    strangers = {name for name in of_others(module) if part_of(module) not in ONLY_IN.get(name, {part_of(module)})}
    assert strangers == set()


def test_a_module_fits_in_a_head(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MODULE_LINES
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES}
    assert long == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: modules_imported(module) for module in MODULE_NAMES}
    assert set(TopologicalSorter(graph).static_order()) == MODULE_NAMES.keys()  # raises CycleError, with the circle


def test_the_core_is_not_woven_more_tightly() -> None:
    core = {module for module, path in MODULE_NAMES.items() if part_of(path) in CORE}
    assert sum(len(modules_imported(module) & core) for module in core) == CORE_IMPORTS


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import httpx2", {"httpx2"}),
        ("import mcp_backups.api.client", {"mcp_backups.api.client"}),
        ("from mcp_backups import tools", {"mcp_backups.tools"}),
        ("from . import bodies", {"mcp_backups.api.bodies"}),
        ("from .. import tools", {"mcp_backups.tools"}),
        ("from ..tools import TOOLS", {"mcp_backups.tools.TOOLS"}),
        ("def late():\n    from mcp import Client", {"mcp.Client"}),
    ],
)
def test_no_form_of_import_escapes_these_tests(source: str, names: set[str], tmp_path: Path) -> None:
    module = tmp_path / "api" / "client.py"
    module.parent.mkdir()
    module.write_text(source)
    assert set(imports(module, tmp_path)) == names
