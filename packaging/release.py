"""Fill in what only the place of a release knows: `python packaging/release.py`, in a checkout of the tag.

Nobody owns this repository by what stands in it. Whose release it is, is told by GitHub's variables where the workflow
runs: links of README.md become addresses, since the index shows that page too; the package gets its addresses; and the
entry for the MCP registry its owner, whose name must stand in README.md, so that the registry sees that both are one's.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


@dataclass(frozen=True)
class Place:
    """Where a release is made.

    Attributes:
        server: Address of GitHub.
        repository: Owner and name there.
        tag: What is released.
    """

    server: str
    repository: str
    tag: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place":
        return cls(environ["GITHUB_SERVER_URL"], environ["GITHUB_REPOSITORY"], environ["GITHUB_REF_NAME"])

    @property
    def url(self) -> str:
        return f"{self.server}/{self.repository}"

    @property
    def registered_as(self) -> str:
        """The name in the MCP registry, which belongs to the repository's owner."""
        return f"io.github.{self.repository.partition('/')[0]}/mcp-backups"


def fill_in(folder: Path, place: Place) -> None:
    """Change README.md, pyproject.toml and server.json in a checkout.

    Raises:
        SystemExit: The tag is not of the version that stands there.
    """
    version = version_in(folder)
    if place.tag != f"v{version}":
        sys.exit(f"The tag {place.tag} is not of version {version}.")
    readme, project, server = folder / "README.md", folder / "pyproject.toml", folder / "server.json"
    readme.write_text(_readme(readme.read_text(encoding="utf-8"), place), encoding="utf-8")
    project.write_text(_project(project.read_text(encoding="utf-8"), place), encoding="utf-8")
    entry = _entry(json.loads(server.read_text(encoding="utf-8")), place, version)
    server.write_text(json.dumps(entry, indent=2) + "\n", encoding="utf-8")


def version_in(folder: Path) -> str:
    """The version of the package, without importing it."""
    text = (folder / "mcp_backups" / "__init__.py").read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def _readme(text: str, place: Place) -> str:
    def address(link: re.Match[str]) -> str:
        is_picture, words, path = link.groups()
        kind = "raw" if is_picture else "blob"
        return f"{is_picture}[{words}]({place.url}/{kind}/{place.tag}/{path})"

    return f"{_LINK.sub(address, text).rstrip()}\n\n<!-- mcp-name: {place.registered_as} -->\n"


def _project(text: str, place: Place) -> str:
    urls = {
        "Repository": place.url,
        "Documentation": f"{place.url}/tree/{place.tag}/docs",
        "Changelog": f"{place.url}/blob/{place.tag}/CHANGELOG.md",
        "Issues": f"{place.url}/issues",
    }
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return text.replace("\n[project.scripts]\n", f"\n[project.urls]\n{table}\n[project.scripts]\n", 1)


def _entry(entry: dict[str, Any], place: Place, version: str) -> dict[str, Any]:
    (package,) = entry["packages"]
    image = {
        "registryType": "oci",
        "identifier": f"ghcr.io/{place.repository.lower()}:{version}",
        "runtimeHint": "docker",
        # Without its volume each container would begin with an empty ledger, and budgets and guards anew.
        "runtimeArguments": [{"type": "named", "name": "-v", "value": "mcp-backups:/state"}],
        "transport": package["transport"],
        # No file of this machine is seen in a container.
        "environmentVariables": [each for each in package["environmentVariables"] if each.get("format") != "filepath"],
    }
    whose = {"name": place.registered_as, "repository": {"url": place.url, "source": "github"}}
    return entry | whose | {"packages": [package, image]}


if __name__ == "__main__":
    fill_in(ROOT, Place.of(os.environ))
