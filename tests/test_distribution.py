"""What is handed out: the package in both forms, the bundle, the registry's entry, the image and the workflows."""

import json
import re
import runpy
import shlex
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from mcp_backups import __version__
from mcp_backups.cli import _parser
from mcp_backups.settings import Settings, setting_name
from mcp_backups.tools import TOOLS
from tests.process import PATIENCE

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "packaging" / "mcpb" / "manifest.json"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

MODULES = {
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.py", "console/templates/*.html", "console/static/*.*")
    for path in (ROOT / "mcp_backups").rglob(pattern)
}
SETTINGS = {setting_name((name,)): field for name, field in Settings.model_fields.items()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist, built without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=4 * PATIENCE)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    (path,) = built.glob("*.whl")
    assert path.name == f"mcp_backups-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def loaded(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(wheel: list[str]) -> None:
    about = f"mcp_backups-{__version__}.dist-info"
    meta = {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert set(wheel) == MODULES | {"mcp_backups/py.typed"} | meta


def test_the_sdist_holds_what_it_takes_to_build_and_to_test(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert names >= MODULES | tests
    assert names >= {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "server.json", "Dockerfile"}
    pages = {path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("docs/*"), ROOT / "tests" / "README.md")}
    assert names >= pages | {"CONTRIBUTING.md", "SECURITY.md"}
    assert names >= {"packaging/mcpb/manifest.json", "packaging/mcpb/build.py", "mcp_backups/py.typed"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".sqlite3"))]


def test_the_registrys_entry_is_of_this_version_and_as_its_schema_wants_it() -> None:
    server = loaded(ROOT / "server.json")
    assert server["$schema"] == "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
    assert re.fullmatch(r"io\.github\.[a-zA-Z0-9-]+/mcp-backups", server["name"])
    assert 1 <= len(server["description"]) <= 100
    assert 1 <= len(server["title"]) <= 100
    (package,) = server["packages"]
    assert (server["version"], package["version"]) == (__version__, __version__)
    assert (package["registryType"], package["identifier"]) == ("pypi", "mcp-backups")
    assert package["transport"] == {"type": "stdio"}


def test_the_registry_finds_its_name_in_the_readme() -> None:
    """So it makes sure that whoever publishes the entry publishes the package too."""
    name = loaded(ROOT / "server.json")["name"]
    assert f"<!-- mcp-name: {name} -->" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_registrys_entry_names_settings_with_their_defaults_and_the_token_as_a_secret() -> None:
    (package,) = loaded(ROOT / "server.json")["packages"]
    told = {each["name"]: each for each in package["environmentVariables"]}
    assert told.keys() <= SETTINGS.keys()
    assert [name for name, each in told.items() if each.get("isSecret")] == ["VPS_API_TOKEN"]
    for name, each in told.items():
        default = SETTINGS[name].default
        words = str(default).lower() if isinstance(default, bool) else default
        assert each.get("default") == words
        assert each["description"]


def test_the_bundles_manifest_is_of_this_version_and_names_every_tool() -> None:
    manifest = loaded(MANIFEST)
    assert manifest["manifest_version"] == "0.4"
    assert manifest["version"] == __version__
    assert sorted(tool["name"] for tool in manifest["tools"]) == sorted(tool.name for tool in TOOLS)
    assert {"name", "description", "author", "server"} <= manifest.keys()


def test_the_bundles_manifest_starts_this_server_and_treats_the_token_as_a_secret() -> None:
    manifest = loaded(MANIFEST)
    server, asked = manifest["server"], manifest["user_config"]
    assert (server["type"], server["mcp_config"]["command"]) == ("uv", "uv")
    assert server["mcp_config"]["args"][-1] == "mcp-backups"
    assert server["mcp_config"]["env"].keys() <= SETTINGS.keys()
    used = re.findall(r"\$\{user_config\.(\w+)\}", json.dumps(server["mcp_config"]["env"]))
    assert sorted(used) == sorted(asked)
    assert server["mcp_config"]["env"]["VPS_API_TOKEN"] == "${user_config.token}"
    assert asked["token"]["sensitive"] is asked["token"]["required"] is True
    assert all(each.keys() >= {"type", "title", "description"} for each in asked.values())


def test_the_bundle_holds_what_uv_needs_and_is_the_same_each_time(tmp_path: Path) -> None:
    build = runpy.run_path(str(MANIFEST.with_name("build.py")))["build"]
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first.name == f"mcp-backups-{__version__}.mcpb"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        entry_point = loaded(MANIFEST)["server"]["entry_point"]
        assert archive.read(entry_point) == (ROOT / entry_point).read_bytes()
    assert names == MODULES | {"mcp_backups/py.typed", "manifest.json", "pyproject.toml", "README.md", "LICENSE"}


def dockerfile() -> list[tuple[str, str]]:
    """The image's instructions, continued lines put together."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    lines = (line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def command_in(instruction: str) -> list[str]:
    words = json.loads(instruction[instruction.index("[") :])
    assert isinstance(words, list)
    return words


def test_the_image_runs_as_nobody_special_and_keeps_its_state_in_a_volume() -> None:
    last_stage = dockerfile()[max(number for number, (word, _) in enumerate(dockerfile()) if word == "FROM") :]
    told = dict(last_stage)
    assert told["USER"] not in {"root", "0"}
    assert told["VOLUME"] == "/state"
    assert "MCP_BACKUPS_STATE_DIR=/state" in told["ENV"]
    assert command_in(told["ENTRYPOINT"]) == ["mcp-backups"]


def test_the_images_health_check_is_a_command_that_works_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *arguments = command_in(dict(dockerfile())["HEALTHCHECK"])
    assert name == "mcp-backups"
    for variable in SETTINGS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MCP_BACKUPS_STATE_DIR", str(tmp_path))
    options = _parser().parse_args(arguments)
    assert options.run(options) == 0


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in dockerfile() if word == "COPY" and "--from" not in rest]
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists()
        assert name in kept


def steps(workflow: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    return [step for job in content["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_uses_actions_by_their_commit(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert content["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in content["jobs"].values())
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action) for action in used)


@pytest.mark.parametrize(
    ("workflow", "line"),
    [(path, step["run"]) for path in WORKFLOWS for step in steps(path) if "run" in step],
    ids=lambda value: value.name if isinstance(value, Path) else value.split("\n")[0][:30],
)
def test_what_a_workflow_runs_is_there(workflow: Path, line: str) -> None:
    name, *arguments = shlex.split(line)
    if name.startswith("."):
        assert (ROOT / name).stat().st_mode & stat.S_IXUSR
    elif name == "python":
        files = [word for word in arguments if word.endswith((".py", ".txt"))]
        assert files or arguments[:2] == ["-m", "hatchling"]
        assert all((ROOT / word).is_file() for word in files)
    else:
        assert name in {"test", "gh"}, f"{workflow.name} runs {name}, which is not known to be there"


def test_the_tests_run_on_every_version_of_python_that_is_promised() -> None:
    (test,) = (path for path in WORKFLOWS if path.stem == "test")
    versions = yaml.safe_load(test.read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]


def test_publishing_needs_no_secret() -> None:
    (release,) = (path for path in WORKFLOWS if path.stem == "release")
    text = release.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
