"""The pages that people read, taken apart, so that tests can hold them to the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mcp_backups"

_FRONT = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md")

PAGES = [*(ROOT / name for name in _FRONT), *sorted(ROOT.glob("docs/*.md"))]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next of the same rank."""
    (found,) = re.findall(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found[1])


def tables(text: str) -> list[list[list[str]]]:
    """The rows of each table, without its head."""
    found = re.findall(r"^\|.*\|\n\|[-|]+\|\n((?:\|.*\|\n)*)", text, re.MULTILINE)
    return [[line.strip("|").strip().split(" | ") for line in rows.splitlines()] for rows in found]


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    return tables(section(text, heading))[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code(cell: str) -> str:
    """What a cell holds, without the marks around it."""
    return cell.strip("`")


def spans(text: str) -> list[str]:
    """What stands in code spans, but not in code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def anchors(text: str) -> set[str]:
    """Where a link into the page may lead: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def located(path: str) -> Path | None:
    """The file or folder of that name in the repository or the package; None if there is none."""
    return next((base / path for base in (ROOT, PACKAGE) if (base / path).exists()), None)


def defined(module: Path) -> set[str]:
    """The names that a module defines, those in a class as `Class.name`."""
    return set(_names(ast.parse(module.read_text(encoding="utf-8")).body, ""))


def _names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _names(node.body, f"{prefix}{node.name}.")
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            yield from (prefix + each.id for each in ast.walk(target) if isinstance(each, ast.Name))
