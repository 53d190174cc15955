"""Every row of the fault matrix has a test: none may be dropped without this one noticing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = (
    *("F01", "F03", "F04", "F05", "F06", "F07", "F08", "F09", "F10", "F11", "F12", "F13", "F14", "F15", "F16", "F17"),
    *("F19", "F20", "F21", "F22", "F25", "F26", "F27", "F28", "F29", "F30", "F31", "F32", "F33", "F35", "F37", "F38"),
    *("F39", "F41", "F42", "F44", "F45", "F46", "F47", "F48", "F51", "F53"),
    *("F54", "F55", "F57", "F58", "F59", "F61", "F64"),
    *("F66", "F67", "F68", "F69", "F70", "F71", "F72", "F73", "F75", "F76", "F77", "F78", "F79", "F80"),
    *("F81", "F83", "F84", "F85", "F86", "F87", "F88"),
)
"""The matrix's rows; its numbering leaves some numbers out."""

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


@pytest.mark.parametrize("row", ROWS)
def test_every_row_of_the_matrix_has_a_test(collected: str, row: str) -> None:
    others = [line for line in collected.splitlines() if "test_matrix.py" not in line]
    assert any(re.search(rf"\[.*\b{row}\b.*\]", line) for line in others)


def test_no_test_is_of_a_row_that_does_not_exist(collected: str) -> None:
    assert set(re.findall(r"\bF\d\d\b", collected)) == set(ROWS)
