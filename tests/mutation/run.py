"""Runs tests in forked processes: once on the package as it is, with coverage, and again on each mutant."""

import ast
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType

import pytest
from coverage import CoverageData

from tests.mutation.mutants import Mutant, mutated

ROOT = Path(__file__).parents[2]
TESTS = [
    "tests/test_text.py",
    "tests/api",
    "tests/operations",
    *(
        f"tests/tools/test_{tool}.py"
        for tool in ("create_backup", "delete_backup", "restore_server", "prune_backups", "get_operation")
    ),
    *(f"tests/consent/test_{part}.py" for part in ("questions", "replies")),
    *(f"tests/faults/test_{part}.py" for part in ("corners", "policy", "upstream")),
]
"""The fast ones that concern the core; none starts a process, which would import the module as it is."""

_UNFIT_EXIT, _BROKEN_EXIT = 100, 101
_ENDS: dict[int, str] = {
    0: "survived",
    pytest.ExitCode.TESTS_FAILED << 8: "killed",
    pytest.ExitCode.INTERRUPTED << 8: "killed",  # a test module could not be imported
    signal.SIGALRM: "killed",
    _UNFIT_EXIT << 8: "unfit",
}
"""What the status says with which a mutant's process ended."""


@dataclass(eq=False)
class Chosen:
    """Has pytest run these tests only, in this order; all when there are none. Notes how long each took, in seconds."""

    tests: Sequence[str] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.tests:
            known = {item.nodeid: item for item in items}
            items[:] = [known[test] for test in self.tests]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


class MutantLoader(SourceFileLoader):
    """Imports a module as it was changed."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        super().__init__(name, str(path))
        self._code = compile(tree, path, "exec")

    def get_code(self, fullname: str) -> CodeType:
        del fullname
        return self._code


class MutantFinder(MetaPathFinder):
    """Has one module imported by a loader of its own."""

    def __init__(self, loader: MutantLoader) -> None:
        self._name, self._spec = loader.name, spec_from_loader(loader.name, loader)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        del path, target
        return self._spec if fullname == self._name else None


@dataclass(frozen=True)
class Known:
    """What a run of all the tests on the package as it is told.

    Attributes:
        seconds: How long each test takes.
        through: The tests that pass through each line of each file.
    """

    seconds: dict[str, float]
    through: dict[Path, dict[int, set[str]]]

    def tests(self, path: Path, mutant: Mutant, budget: float) -> list[str]:
        """The tests that may notice a mutant: the module's own, and of the others as many as take `budget` seconds."""
        lines = self.through.get(path, {})
        file = Path("tests", path.relative_to(ROOT / "mcp_backups")).with_name(f"test_{path.stem}.py").as_posix()
        own = {test for test in self.seconds if test.startswith(file)}
        some = own.union(*(lines.get(line, set()) for line in mutant.uses or lines))
        turns: Counter[str] = Counter()
        ranks: dict[str, tuple[bool, int]] = {}
        for test in sorted(some, key=lambda each: (self.seconds[each], each)):
            function = test.partition("[")[0]
            ranks[test] = (test not in own, turns[function])  # one row of each table before a second of any
            turns[function] += 1
        chosen: list[str] = []
        for test in sorted(ranks, key=lambda each: (ranks[each], self.seconds[each], each)):
            budget -= 0 if test in own else self.seconds[test]
            if budget < 0:
                break
            chosen.append(test)
        return chosen


def survey(jobs: int, folder: Path) -> Known:
    """Run all the tests on the package as it is."""
    data, seconds = CoverageData(str(folder / "coverage")), folder / "seconds"

    def work() -> int:
        os.environ["COVERAGE_FILE"] = data.data_filename()
        noting = Chosen()
        coverage = ["--cov=mcp_backups", "--cov-context=test", "--cov-report=", f"--cov-config={os.devnull}"]
        code = _run(noting, "-n", str(jobs), *coverage, *TESTS)
        seconds.write_text(json.dumps(noting.seconds))
        return code

    fork(work)
    if end()[1] != "survived":
        sys.exit("The tests fail on the package as it is.")
    data.read()
    through: dict[Path, dict[int, set[str]]] = {}
    for path in data.measured_files():
        contexts = data.contexts_by_lineno(path).items()  # each a test's id and its phase
        through[Path(path)] = {line: {each.rpartition("|")[0] for each in tests if each} for line, tests in contexts}
    return Known(json.loads(seconds.read_text()), through)


def survives(name: str, path: Path, mutant: Mutant, tests: list[str]) -> int:
    """Run tests on a mutant; the exit code tells whether it survives."""
    sys.meta_path.insert(0, MutantFinder(MutantLoader(name, path, mutated(path.read_text(), mutant.number))))
    try:
        import_module("mcp_backups.server")
    except Exception:  # noqa: BLE001 - whatever it is, such a change would not pass unnoticed
        return _UNFIT_EXIT
    return _run(Chosen(tests), "-x", *sorted({test.partition("::")[0] for test in tests}))


def _run(plugin: Chosen, *arguments: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        options = ["-o", "addopts=", "-p", "no:randomly", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-q"]
        eras = ["-k", "not legacy"]  # the core does not know of them
        return pytest.main([*options, "--assert=plain", f"--basetemp={folder}/tests", *eras, *arguments], [plugin])


def fork(work: Callable[[], int], limit: float = 0) -> int:
    """Do work in a process of its own, silently; its id. It is ended after `limit` seconds unless that is 0."""
    if pid := os.fork():
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        signal.setitimer(signal.ITIMER_REAL, limit)
        os._exit(work())
    finally:
        os._exit(_BROKEN_EXIT)  # whatever happened, nothing goes on here


def end() -> tuple[int, str]:
    """Wait for one process: its id, and how it ended."""
    pid, status = os.wait()
    if status not in _ENDS:
        sys.exit(f"The tests could not be run: status {status}.")
    return pid, _ENDS[status]
