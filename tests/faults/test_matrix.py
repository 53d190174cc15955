"""Every row of the fault table (tests/README.md) has a test: none may be dropped without this one noticing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import page, section, tables

ROWS = [row[0] for rows in tables(section(page("tests/README.md"), "Faults")) for row in rows]
"""The table's codes."""

_PATIENCE = 60.0


@pytest.fixture(scope="module")
def collected() -> str:
    """The ids of all tests in this folder, whichever of them are run now."""
    options = ["--collect-only", "-q", "-n0", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    # Options meant for this run, such as another -q, would change what is printed.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=True,
        env=environment,
    ).stdout


def test_every_row_of_the_matrix_has_a_test(collected: str) -> None:
    others = [line for line in collected.splitlines() if "test_matrix.py" not in line]
    assert [row for row in ROWS if not any(re.search(rf"\[.*\b{row}\b.*\]", line) for line in others)] == []


def test_each_row_has_a_code_of_its_own() -> None:
    assert len(ROWS) > 60
    assert sorted(set(ROWS)) == ROWS


def test_no_test_is_of_a_row_that_does_not_exist(collected: str) -> None:
    assert set(re.findall(r"\bF\d\d\b", collected)) == set(ROWS)
