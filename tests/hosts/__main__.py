"""Real hosts with this server: `python -m tests.hosts [HOST…]`, by hand or at night, for it needs npm and some minutes.

Each command-line host is installed by npm, gets its entry from `mcp-backups config`, and works through the script of
`tests/hosts/script.py` with a scripted model on loopback, on the sandbox. `--write` puts the table of what came of it
into docs/clients.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.hosts.hosts import HOSTS, Host, bare_environment
from tests.hosts.model import scripted_model
from tests.hosts.script import STEPS, faults

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
BEGIN, END = "<!-- hosts -->", "<!-- /hosts -->"
SECONDS = 300.0
"""For one host's whole script."""


class Outcome(NamedTuple):
    """What became of one host."""

    host: Host
    version: str
    faults: list[str]
    said: str

    @property
    def right(self) -> int:
        return len(STEPS) - len(self.faults)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=f"of {', '.join(host.key for host in HOSTS)}")
    parser.add_argument("--installed", type=Path, metavar="FOLDER", help="where npm has installed them already")
    parser.add_argument("--write", action="store_true", help="put the table into docs/clients.md")
    options = parser.parse_args()
    wanted = [host for host in HOSTS if not options.hosts or host.key in options.hosts]
    with TemporaryDirectory(prefix="hosts-") as folder:
        programs = (options.installed or _install(wanted, Path(folder))).absolute() / "node_modules" / ".bin"
        outcomes = [_tried(host, programs, Path(folder) / host.key) for host in wanted]
    table = _table(outcomes)
    sys.stdout.write(f"{table}\n")
    for outcome in outcomes:
        for fault in outcome.faults:
            sys.stdout.write(f"{outcome.host.key}: {fault}\n")
        if outcome.faults:
            sys.stdout.write(f"{outcome.host.key} said: {outcome.said[-2000:]}\n")
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        whole = f"{BEGIN}\n{table}\n{END}"
        PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: whole, page, flags=re.DOTALL), encoding="utf-8")
    return int(any(outcome.faults for outcome in outcomes))


def _install(hosts: list[Host], folder: Path) -> Path:
    packages = [f"{host.package}@latest" for host in hosts]
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *packages], check=True)
    return folder


def _tried(host: Host, programs: Path, folder: Path) -> Outcome:
    """The host at work on the script, in a home of its own."""
    home, project = folder / "home", folder / "project"
    home.mkdir(parents=True)
    project.mkdir()
    places = (programs, Path(sys.executable).parent, Path(shutil.which("node") or "node").parent)
    environment = bare_environment(home, os.pathsep.join([*map(str, places), os.defpath]))
    config = [sys.executable, "-P", "-m", "mcp_backups", "config", host.key, "--sandbox", "--write"]
    subprocess.run(config, cwd=project, env=environment, check=True, capture_output=True, timeout=SECONDS)
    version = _ended([host.program, "--version"], project, environment)
    with scripted_model() as model:
        host.prepare(home, model.url)
        said = _ended([host.program, *host.arguments], project, environment | dict(host.environment(model.url)))
        return Outcome(host, "".join(re.findall(r"\d+\.\d+\.\d+", version)[:1]), faults(model.told), said)


def _ended(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ended.stdout.decode(errors="replace")


def _table(outcomes: list[Outcome]) -> str:
    rows = (f"| `{each.host.key}` | {each.version} | {each.right} of {len(STEPS)} |" for each in outcomes)
    return "\n".join(["| host | version | steps right |", "|---|---|---|", *rows])


if __name__ == "__main__":
    raise SystemExit(main())
