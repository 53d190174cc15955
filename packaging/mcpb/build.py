"""Build the bundle for clients that install `.mcpb` files: `python packaging/mcpb/build.py [FOLDER]`; `dist` if none.

It is a zip of the manifest beside this file and of what uv needs to build and run the package; the same sources give
the same bytes.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

ROOT = Path(__file__).parents[2]
MANIFEST = Path(__file__).with_name("manifest.json")
BESIDE = ("pyproject.toml", "README.md", "LICENSE")
"""What the package's own build reads."""


def build(folder: Path) -> Path:
    """Write the bundle into a folder; returns its path."""
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    bundle = folder / f"{manifest['name']}-{manifest['version']}.mcpb"
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(bundle, "w") as archive:
        for name, source in _contents():
            about = ZipInfo(name)  # of 1980, whenever it is built
            about.compress_type, about.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(about, source.read_bytes())
    return bundle


def _contents() -> Iterator[tuple[str, Path]]:
    yield "manifest.json", MANIFEST
    yield from ((name, ROOT / name) for name in BESIDE)
    for path in sorted((ROOT / "mcp_backups").rglob("*")):
        if path.suffix in {".py", ".json", ".html", ".css", ".svg"} or path.name == "py.typed":
            yield path.relative_to(ROOT).as_posix(), path


if __name__ == "__main__":
    sys.stdout.write(f"{build(Path(sys.argv[1] if len(sys.argv) > 1 else 'dist'))}\n")
