"""Who may speak HTTP."""

import ast
from pathlib import Path

import mcp_backups

PACKAGE = Path(mcp_backups.__file__).parent
HTTP = {"httpx2", "httpcore2", "httpx", "httpcore"}


def imported(source: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def test_httpx2_is_imported_only_in_api_and_where_a_monitor_is_told_or_an_issuer_asked() -> None:
    sources = sorted(PACKAGE.rglob("*.py"))
    speaking = {source.relative_to(PACKAGE).as_posix() for source in sources if imported(source) & HTTP}
    assert {name for name in speaking if not name.startswith("api/")} == {"commands/check.py", "web/oauth.py"}


def test_api_knows_nothing_of_the_layers_above() -> None:
    below = {"errors", "models", "text", "clock", "api"}
    for source in (PACKAGE / "api").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mcp_backups."):
                assert (node.module or "").split(".")[1] in below, source
            if isinstance(node, ast.ImportFrom) and node.module == "mcp_backups":
                assert {alias.name for alias in node.names} <= below | {"__version__"}, source
