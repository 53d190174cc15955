"""Public names that stand for several things: `python -m tests.public_names`."""

import ast
import sys
from collections import defaultdict
from pathlib import Path

import mcp_backups

PACKAGE = Path(mcp_backups.__file__).parent


def definitions() -> dict[str, list[str]]:
    """Where each public class, function, constant and type variable of the package is defined, by its name."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in _names(node):
                if not name.startswith("_"):
                    found[name].append(path.relative_to(PACKAGE).as_posix())
    return dict(found)


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def doubled() -> dict[str, list[str]]:
    return {name: places for name, places in definitions().items() if len(places) > 1}


def main() -> None:
    for name, places in sorted(doubled().items()):
        sys.stdout.write(f"{name}: {', '.join(places)}\n")


if __name__ == "__main__":
    main()
