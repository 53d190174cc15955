"""How much of what could be wrong in the core the tests would notice: `python -m tests.mutation [MODULE …]`.

Every mutant is one small change to one module. It lives only in the memory of a process of its own, forked (so not on
Windows), which runs those of the fast tests that pass through the changed line: the ones named after the module first,
then the quickest, until one fails or their time is up. A mutant that hangs the tests is killed, too; one that cannot
even be imported is not counted. Prints what survived, and fails where more than one in ten did.
"""

import argparse
import os
import random
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.run import ROOT, Known, end, fork, survey, survives

OPERATIONS = (
    "policy",
    "plan",
    "ledger",
    "send",
    "settle",
    "judge",
    "safety",
    "create",
    "destroy",
    "confirm",
    "consent",
)
MODULES = ["text", "api.classify", *(f"operations.{name}" for name in OPERATIONS)]
WARM = ["anyio", "h11", "httpx2", "hypothesis", "mcp.client", "mcp.server", "pydantic_settings", "trustme", "uvicorn"]
"""What the tests import beside the package: imported once, before the processes part."""

LEAST = 0.9


def score(module: str, known: Known, options: argparse.Namespace) -> float:
    """Try a module's mutants, print what survived, and tell the share that was killed."""
    path = ROOT / "mcp_backups" / f"{module.replace('.', '/')}.py"
    found = mutants(path.read_text())
    chosen = random.Random(module).sample(found, min(options.sample or len(found), len(found)))
    running: dict[int, Mutant] = {}
    ended: dict[str, list[Mutant]] = {"killed": [], "survived": [], "unfit": []}
    while chosen or running:
        if chosen and len(running) < options.jobs:
            mutant = chosen.pop()
            tests = known.tests(path, mutant, options.budget)
            limit = 20 + 4 * sum(known.seconds[test] for test in tests)
            running[fork(partial(survives, f"mcp_backups.{module}", path, mutant, tests), limit)] = mutant
        else:
            pid, how = end()
            ended[how].append(running.pop(pid))
    killed, fit = len(ended["killed"]), len(ended["killed"]) + len(ended["survived"])
    sampled = f", a sample of {len(found)}" if options.sample and options.sample < len(found) else ""
    tell(f"{module}: {killed} of {fit} killed{sampled}: {killed / fit:.0%}")
    for mutant in sorted(ended["survived"], key=lambda each: each.number):
        tell(f"  {path.relative_to(ROOT)}:{mutant.line}: {mutant.text}")
    return killed / fit


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="A mutation score for the core.")
    parser.add_argument("modules", nargs="*", default=MODULES, metavar="MODULE", help=f"of {', '.join(MODULES)}")
    parser.add_argument(
        "--sample", type=int, default=0, help="so many mutants of each, always the same; 0 (default): all"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once; default: processors")
    parser.add_argument(
        "--budget", type=float, default=10.0, help="seconds of tests for a mutant to survive; default 10"
    )
    options = parser.parse_args()
    if strangers := set(options.modules) - set(MODULES):
        parser.error(f"not of the core: {', '.join(sorted(strangers))}")
    os.chdir(ROOT)
    for module in WARM:
        import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        known = survey(options.jobs, Path(folder))
    scores = [score(module, known, options) for module in options.modules]
    return min(scores) < LEAST


if __name__ == "__main__":
    sys.exit(main())
