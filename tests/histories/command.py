"""The command `python -m tests.histories`: many histories and kills, and a table of what came of them.

A history that is wrong is shown in the shortest form that was found, and the exit code is then 1. It stops by itself:
after `--count` histories and `--kills` kills, or when `--minutes` are over.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from random import Random

import anyio

from mcp_backups.sandbox import Emulator, serve_in_thread
from tests.doom import nursery
from tests.histories.checker import Verdict
from tests.histories.kills import kill_one
from tests.histories.machine import run
from tests.histories.store import ledger_for_history, store
from tests.histories.world import shared_memory
from tests.stage import RealTime

CHUNK = 250


def main() -> int:
    options = _options()
    logging.disable(logging.WARNING)
    _say(f"seed {options.seed}")
    end = time.monotonic() + options.minutes * 60
    total = Counter[str]()
    with store(options.store):
        for came_of_it, failure in _all(options, end):
            total += came_of_it
            if failure:
                _say(f"\n{failure}")
    _say(_table(total))
    return 1 if total["wrong"] else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="histories, at least; 10000 by default")
    parser.add_argument("--kills", type=int, default=200, help="processes killed; 200 by default")
    parser.add_argument(
        "--seed", type=int, default=int.from_bytes(os.urandom(4)), help="makes the same histories again"
    )
    parser.add_argument("--only", type=int, default=-1, help=f"{CHUNK} of the histories alone, by their number")
    parser.add_argument("--minutes", type=float, default=45, help="begin nothing later; 45 by default")
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite", help="where ledgers are")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    return parser.parse_args()


def _all(options: argparse.Namespace, end: float) -> Iterator[tuple[Counter[str], str]]:
    if options.only >= 0:
        yield _chunk(options.seed, options.only, CHUNK, end)
        return
    with ProcessPoolExecutor(options.jobs, nursery(), _quiet) as pool:
        chunks = [
            pool.submit(_chunk, options.seed, first // CHUNK, min(CHUNK, options.count - first), end)
            for first in range(0, options.count, CHUNK)
        ]
        for chunk in as_completed(chunks):
            yield chunk.result()
    yield from _kills(options.seed, options.kills, end)


def _quiet() -> None:
    logging.disable(logging.WARNING)


def _chunk(seed: int, number: int, count: int, end: float) -> tuple[Counter[str], str]:
    if time.monotonic() > end:
        return Counter(), ""
    verdicts, failure = run(count, f"{seed}/{number}")
    figures = Counter[str]()
    for verdict in verdicts:
        figures += _figures("histories", verdict)
    if failure:
        figures["wrong"] += 1
    return figures, failure and f"histories {number}: {failure}"


def _kills(seed: int, count: int, end: float) -> Iterator[tuple[Counter[str], str]]:
    passing = RealTime()
    with serve_in_thread(Emulator(now=passing.now, backup_seconds=3600)) as emulator:
        for number in range(count):
            if time.monotonic() > end:
                return
            with tempfile.TemporaryDirectory(dir=shared_memory()) as folder:
                random, state_dir = Random(f"{seed}/kill/{number}"), Path(folder) / "state"
                with ledger_for_history(state_dir):
                    verdict = anyio.run(kill_one, random, state_dir, emulator, passing)
            failure = "\n".join([f"kill {number}:", *verdict.wrong, *verdict.steps]) if verdict.wrong else ""
            yield _figures("kills", verdict), failure


def _figures(kind: str, verdict: Verdict) -> Counter[str]:
    wrong = Counter(line.partition(":")[0] for line in verdict.wrong)
    figures = {
        kind: 1,
        "wrong": bool(verdict.wrong),
        "with a write": verdict.writes > 0,
        "calls": verdict.calls,
        "writes": verdict.writes,
        "operations": verdict.operations,
        "unknown": verdict.unknown,
    }
    return Counter(figures) + wrong


def _table(total: Counter[str]) -> str:
    rows = {
        "histories": total["histories"],
        "processes killed": total["kills"],
        "of both with a write": total["with a write"],
        "calls of tools": total["calls"],
        "writes that VPS.org got": total["writes"],
        "operations": total["operations"],
        "of them never settled": total["unknown"],
        "doubled": total["DOUBLED"],
        "lost": total["LOST"],
        "said, but not so": total["FALSE"],
        "sent without an intent": total["UNRECORDED"],
        "last backups deleted": total["LAST"],
        "sent without approval": total["UNAPPROVED"],
        "sent while frozen": total["FROZEN"],
    }
    return "\n".join(f"{name:<26}{count:>8}" for name, count in rows.items())
