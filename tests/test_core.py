"""What the configuration says of the core: the same files everywhere, and files that there are."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTMUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
CHECKS = ROOT / ".ci" / "run"


@pytest.mark.parametrize("named", MUTMUT["only_mutate"] + MUTMUT["pytest_add_cli_args_test_selection"])
def test_what_the_configuration_names_is_there(named: str) -> None:
    assert list(ROOT.glob(named))


@pytest.mark.skipif(not CHECKS.exists(), reason="not in the source distribution")
def test_what_is_mutated_is_what_has_to_be_covered_whole() -> None:
    core = re.findall(r"mcp_backups/[\w/.*]+", "\n".join(re.findall(r"^core=.*", CHECKS.read_text(), re.MULTILINE)))
    assert {name.removesuffix(".py") for name in core} == {name.removesuffix(".py") for name in MUTMUT["only_mutate"]}
