"""`python -m tests.team --calls 10000`: the run of the tests, as long as you like, with its figures."""

import argparse
import logging
import sys
from collections import Counter

import anyio

from tests.postgres.cluster import running_cluster
from tests.team.run import Result, run


def main() -> int:
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(prog="python -m tests.team", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with running_cluster() as cluster, cluster.database() as database:
        result = anyio.run(run, options.calls, options.clients, options.seed, database.url)
    _print(result)
    return 1 if result.wrong else 0


def _print(result: Result) -> None:
    day = result.day
    lines = [
        f"{sum(day.told.values())} answers and {day.unknown.total()} calls without one in {result.seconds:.0f} s",
        f"{result.kills} replicas were killed; {day.begun_anew} times a client began anew",
        f"over HTTP: {dict(sorted(day.statuses.items()))}",
        f"without an answer: {dict(day.unknown)}",
        f"answers: {dict(sorted(day.told.items()))}",
        f"asked for again: {sum(each.asked > 1 for each in day.writes)} of {len(day.writes)} writes",
        f"{result.made} backups were made, {result.gone} deleted",
        f"operations: {dict(Counter(f'{each.action}: {each.status}' for each in result.operations))}",
        "\n".join(result.wrong) or "nothing is wrong",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
