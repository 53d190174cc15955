"""`python -m benchmarks [--smoke] [--json]`: measure, print a table, and exit 1 if a promise does not hold."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from rich.console import Console
from rich.table import Table

from benchmarks.calls import call_figures, emulated_account, plan_figures
from benchmarks.crowd import crowd_figures
from benchmarks.http import http_figures
from benchmarks.ledger import ledger_figures
from benchmarks.measure import Figure
from benchmarks.memory import memory_figures
from benchmarks.replicas import replica_figures
from benchmarks.sizes import growth_figures, size_figures
from benchmarks.start import start_figures
from benchmarks.year import make_year, year_figures


def main() -> int:
    """Run; returns the exit code. A smoke run shows that all of it works; its times promise nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few rounds: only that everything runs, and the sizes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    figures = _smoke() if options.smoke else _full()
    if options.json:
        print(json.dumps([asdict(each) | {"holds": each.holds} for each in figures], indent=1))  # noqa: T201
    else:
        _print(figures)
    promised = [each for each in figures if each.unit in {"bytes", "chars", "MB"}] if options.smoke else figures
    return 0 if all(each.holds for each in promised) else 1


def _smoke() -> list[Figure]:
    return _measure(starts=2, calls=4, memory=(20, 40), growth=(100, 2), operations=200, crowd=(40, 10, 20))


def _full() -> list[Figure]:
    return _measure(
        starts=20, calls=200, memory=(1_000, 10_000), growth=(10_000, 10), operations=50_000, crowd=(1_100, 200, 2_000)
    )


def _measure(
    starts: int,
    calls: int,
    memory: tuple[int, int],
    growth: tuple[int, int],
    operations: int,
    crowd: tuple[int, int, int],
) -> list[Figure]:
    with TemporaryDirectory() as name, emulated_account() as environment:
        folder = Path(name)
        figures = start_figures(starts, environment)
        figures += anyio.run(size_figures, folder / "sizes")
        figures += anyio.run(growth_figures, folder / "growth", *growth)
        figures += anyio.run(ledger_figures, folder / "ledger", 5 * calls)
        figures += anyio.run(call_figures, environment, calls)
        figures += plan_figures(environment, calls)
        figures += http_figures(environment, calls)
        figures += replica_figures(environment, 5 * calls)
        figures += anyio.run(crowd_figures, environment, *crowd, calls)
        figures += memory_figures(environment, *memory)
        make_year(folder / "year", operations)
        figures += year_figures(folder / "year", operations, max(2, starts // 4))
        year = environment | {"MCP_BACKUPS_STATE_DIR": str(folder / "year")}
        return figures + plan_figures(year, calls, f"{operations} operations")


def _print(figures: list[Figure]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("measured")
    for name in ("median", "spread", "unit", "at most", ""):
        table.add_column(name, justify="right")
    for each in figures:
        at_most = "" if each.limit is None else f"{each.limit:g}"
        verdict = "" if each.limit is None else "holds" if each.holds else "does not hold"
        table.add_row(each.name, f"{each.value:,.2f}", f"{each.spread:,.2f}", each.unit, at_most, verdict)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
