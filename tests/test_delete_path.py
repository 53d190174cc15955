"""How much one has to read to follow a delete: `python -m tests.delete_path` is to count less, not more."""

from tests.delete_path import seen_in_a_process_of_its_own

FILES, FUNCTIONS = 36, 372
"""What is run through today; whoever needs fewer, lowers these."""


def test_a_delete_runs_through_no_more_than_before() -> None:
    seen = seen_in_a_process_of_its_own()
    told = "\n".join(f"{file}: {', '.join(sorted(functions))}" for file, functions in sorted(seen.items()))
    assert len(seen) <= FILES, told
    assert sum(map(len, seen.values())) <= FUNCTIONS, told
