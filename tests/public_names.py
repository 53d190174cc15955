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
    """Names that stand for more than one thing, apart from those that are meant to be found in several places.

    The modules of `actions/` each define the functions of one protocol, and the modules that log their logger. The
    emulator is a second reading of the API, which shares no code, and so has names of its own.
    """
    found = {}
    for name, places in definitions().items():
        ours = [place for place in places if not place.startswith("sandbox/")]
        if len(ours) > 1 and name != "log" and not all(place.startswith("actions/") for place in ours):
            found[name] = ours
    return found


def main() -> None:
    for name, places in sorted(doubled().items()):
        sys.stdout.write(f"{name}: {', '.join(places)}\n")


if __name__ == "__main__":
    main()
