"""What is handed out: the package in both forms, the bundle, the registry's entry, the image and the workflows."""

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from mcp_backups import __version__
from mcp_backups.settings import Settings, setting_name
from mcp_backups.tools import TOOLS
from tests.process import PATIENCE, running

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "packaging" / "mcpb" / "manifest.json"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

MODULES = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mcp_backups").rglob("*.py")}
SHIPPED = MODULES | {"mcp_backups/py.typed", "mcp_backups/opening.json"}
SHIPPED |= {
    path.relative_to(ROOT).as_posix()
    for pattern in ("templates/*.html", "static/*.*")
    for path in (ROOT / "mcp_backups" / "console").glob(pattern)
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
    assert set(wheel) == SHIPPED | meta


def test_the_sdist_holds_what_it_takes_to_build_and_to_test(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert names >= SHIPPED | tests
    assert names >= {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "server.json", "Dockerfile"}
    pages = {path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("docs/*"), ROOT / "tests" / "README.md")}
    assert names >= pages | {"CONTRIBUTING.md", "SECURITY.md"}
    assert names >= {"packaging/mcpb/manifest.json", "packaging/mcpb/build.py", ".ci/run", "benchmarks/__main__.py"}
    run = [word for word in (ROOT / "README.md").read_text(encoding="utf-8").split() if word.endswith(".txt")]
    assert names >= {"requirements-dev.txt", *run}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".sqlite3"))]


_RELEASE = runpy.run_path(str(ROOT / "packaging" / "release.py"))
Place, fill_in, version_in = (_RELEASE[name] for name in ("Place", "fill_in", "version_in"))
PLACE = Place("https://github.example", "Some-One/backups", f"v{__version__}")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout as the release fills it in."""
    folder = tmp_path_factory.mktemp("checkout") / "tree"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "__pycache__", "node_modules", "*.egg-info"))
    fill_in(folder, PLACE)
    return folder


def test_nothing_here_names_an_owner_before_a_release_is_made(released: Path) -> None:
    for name in ("README.md", "pyproject.toml", "server.json"):
        assert "io.github." not in (ROOT / name).read_text(encoding="utf-8")
        assert "Some-One" in (released / name).read_text(encoding="utf-8")


def test_the_registrys_entry_is_of_this_version_and_as_its_schema_wants_it(released: Path) -> None:
    server = loaded(released / "server.json")
    assert server["$schema"] == "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
    assert server["name"] == "io.github.Some-One/mcp-backups"
    assert server["repository"] == {"url": "https://github.example/Some-One/backups", "source": "github"}
    assert 1 <= len(server["description"]) <= 100
    assert 1 <= len(server["title"]) <= 100
    package, image = server["packages"]
    assert (server["version"], package["version"]) == (__version__, __version__)
    assert (package["registryType"], package["identifier"]) == ("pypi", "mcp-backups")
    assert (image["registryType"], image["identifier"]) == ("oci", f"ghcr.io/some-one/backups:{__version__}")
    assert "version" not in image
    assert package["transport"] == image["transport"] == {"type": "stdio"}
    assert "VPS_API_TOKEN_FILE" not in {each["name"] for each in image["environmentVariables"]}
    (kept,) = image["runtimeArguments"]
    assert kept == {"type": "named", "name": "-v", "value": f"mcp-backups:{dict(dockerfile())['VOLUME']}"}


def test_the_registry_finds_its_name_in_the_package_and_on_the_image(released: Path) -> None:
    """So it makes sure that whoever publishes the entry publishes these too."""
    name = loaded(released / "server.json")["name"]
    assert f"<!-- mcp-name: {name} -->" in (released / "README.md").read_text(encoding="utf-8")
    label = "io.modelcontextprotocol.server.name=io.github.$GITHUB_REPOSITORY_OWNER/mcp-backups"
    assert label in (ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8")


def test_the_index_shows_a_page_of_which_each_link_leads_somewhere(released: Path) -> None:
    before, after = ((folder / "README.md").read_text(encoding="utf-8") for folder in (ROOT, released))
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", after)
    assert len(links) == len(re.findall(r"\]\(([^)#\s]+)[^)]*\)", before)) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    here = f"https://github.example/Some-One/backups/blob/v{__version__}/"
    assert all((ROOT / link.removeprefix(here)).exists() for link in links if link.startswith(here))
    assert f"](https://github.example/Some-One/backups/raw/v{__version__}/docs/demo.svg)" in after


def test_what_a_release_builds_is_taken_by_the_index(released: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-d", "dist"]
    subprocess.run(build, cwd=released, check=True, capture_output=True, timeout=4 * PATIENCE)
    files = sorted(str(path) for path in (released / "dist").iterdir())
    assert len(files) == 2
    looked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert (looked.returncode, looked.stdout.count("PASSED")) == (0, 2), looked.stdout
    with zipfile.ZipFile(files[0]) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        told = archive.read(about).decode()
    assert "Project-URL: Repository, https://github.example/Some-One/backups\n" in told


def test_a_tag_of_another_version_is_not_released(tmp_path: Path) -> None:
    (tmp_path / "mcp_backups").mkdir()
    shutil.copy(ROOT / "mcp_backups" / "__init__.py", tmp_path / "mcp_backups")
    assert version_in(tmp_path) == __version__
    with pytest.raises(SystemExit, match=r"The tag v0\.0\.9 is not of version"):
        fill_in(tmp_path, Place("https://github.example", "some-one/backups", "v0.0.9"))


def test_each_package_that_is_imported_is_asked_for() -> None:
    """One that comes by way of another may stop coming."""
    imported = {
        name.split(".")[0]
        for path in MODULES
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
        + ([node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
    }
    others = imported - set(sys.stdlib_module_names) - {"mcp_backups", "__future__"}
    for_developers = ("extra == 'dev'", "extra == 'mutation'")
    needed = [each for each in requires("mcp-backups") or [] if not each.endswith(for_developers)]
    asked = [re.split(r"[<>=!~;\[ ]", each)[0] for each in needed]
    found = packages_distributions()
    distributions = {name: {each.replace("_", "-").lower() for each in found[name]} for name in others}
    assert {name for name in others if not distributions[name] & set(asked)} == set()
    assert {each for each in asked if not any(each in distributions[name] for name in others)} == set()


def test_the_registrys_entry_names_settings_with_their_defaults_and_the_token_as_a_secret() -> None:
    (package,) = loaded(ROOT / "server.json")["packages"]
    told = {each["name"]: each for each in package["environmentVariables"]}
    assert told.keys() <= SETTINGS.keys()
    assert [name for name, each in told.items() if each.get("isSecret")] == ["VPS_API_TOKEN"]
    for name, each in told.items():
        default = SETTINGS[name].default
        words = str(default).lower() if isinstance(default, bool) else default
        assert each.get("default") == words
        assert tuple(each.get("choices", ())) == get_args(SETTINGS[name].annotation) or "choices" not in each
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
    assert names == SHIPPED | {"manifest.json", "pyproject.toml", "README.md", "LICENSE"}


def test_the_bundle_starts(tmp_path: Path) -> None:
    """Whatever the program reads at its start is in it."""
    bundle = runpy.run_path(str(MANIFEST.with_name("build.py")))["build"](tmp_path)
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "bundle")
    with running(
        [sys.executable, "-m", "mcp_backups", "--sandbox"],
        cwd=tmp_path / "bundle",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as begun:
        assert begun.stdin
        assert begun.stdout
        begun.stdin.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        begun.stdin.flush()
        assert json.loads(begun.stdout.readline()) == {"jsonrpc": "2.0", "id": 1, "result": {}}
        _, errors = begun.communicate(timeout=PATIENCE)
    assert (begun.returncode, errors) == (0, "")


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


def test_the_images_health_check_costs_nothing_and_tells_whether_its_state_can_be_written(tmp_path: Path) -> None:
    command = command_in(dict(dockerfile())["HEALTHCHECK"])
    assert command == ["test", "-w", "/state"]
    for folder, code in ((tmp_path, 0), (tmp_path / "gone", 1)):
        assert subprocess.run([*command[:-1], folder], check=False).returncode == code


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [rest.split()[:-1] for word, rest in dockerfile() if word == "COPY" and "--from" not in rest]
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists()
        assert name in kept


def content(workflow: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in content(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_few_rights_and_uses_actions_by_their_commit(workflow: Path) -> None:
    assert content(workflow)["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] for job in content(workflow)["jobs"].values())
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == len([step for step in steps(workflow) if "uses" in step]) > 0
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used)
    assert len({action.partition("@")[0] for action in used}) == len(set(used)), "one commit of each action"


@pytest.mark.parametrize(
    ("workflow", "script"),
    [(path, step["run"]) for path in WORKFLOWS for step in steps(path) if "run" in step],
    ids=lambda value: value.name if isinstance(value, Path) else value.split("\n")[0][:30],
)
def test_what_a_workflow_runs_is_there(workflow: Path, script: str) -> None:
    looked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (looked.returncode, looked.stderr) == (0, "")
    assert "${{" not in script, f"{workflow.name}: what is filled in comes by the environment"
    for word in shlex.split(script, comments=True):
        if word.startswith(".ci/"):
            assert (ROOT / word).stat().st_mode & stat.S_IXUSR
        elif word.endswith((".py", ".txt")):
            assert (ROOT / word).is_file()


def test_the_tests_run_on_every_version_of_python_that_is_promised_and_on_every_system() -> None:
    (test,) = (path for path in WORKFLOWS if path.stem == "test")
    jobs = content(test)["jobs"]
    versions = ["3.11", "3.12", "3.13", "3.14", "3.15"]
    assert all(job["strategy"]["matrix"]["python"] == versions for job in jobs.values())
    assert [each.split("-")[0] for each in jobs["elsewhere"]["strategy"]["matrix"]["system"]] == ["macos", "windows"]
    promised = [each for each in metadata("mcp-backups").get_all("Classifier", []) if re.search(r":: 3\.\d", each)]
    assert [each.split(" :: ")[-1] for each in promised] == versions


RELEASE = ROOT / ".github" / "workflows" / "release.yml"


def test_what_is_published_is_built_where_nothing_else_runs() -> None:
    """A tool that was tampered with must not reach what is handed out."""
    jobs = content(RELEASE)["jobs"]
    built = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    assert built == [
        "python packaging/release.py",
        "python packaging/mcpb/build.py bundle",
        "python -m pip install --require-hashes -r packaging/requirements-build.txt",
        "python -m hatchling build -d dist",
    ]
    assert "permissions" not in jobs["build"]
    pinned = (ROOT / "packaging" / "requirements-build.txt").read_text(encoding="utf-8")
    assert re.findall(r"^([\w-]+)==", pinned, re.MULTILINE) == [
        "hatchling",
        "packaging",
        "pathspec",
        "pluggy",
        "tomlkit",
        "trove-classifiers",
    ]


def test_nothing_is_published_before_all_is_checked_and_built() -> None:
    jobs = content(RELEASE)["jobs"]
    assert jobs["publish"]["needs"] == ["check", "build", "image"]
    later = {name: job["needs"] for name, job in jobs.items() if "publish" in str(job.get("needs"))}
    assert later.keys() == {"tag-image", "announce", "register"}


def test_publishing_needs_no_secret_and_is_attested() -> None:
    text, jobs = RELEASE.read_text(encoding="utf-8"), content(RELEASE)["jobs"]
    assert jobs["publish"]["permissions"] == jobs["register"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
    attested = {name for name, job in jobs.items() if any("attest" in str(step.get("uses")) for step in job["steps"])}
    assert attested == {"tag-image", "announce"}
