"""The command `python -m tests.histories`: many histories and kills, and a table of what came of them.

Its exit code is 1 if anything is wrong. It stops by itself: after `--count` histories and `--kills` kills, or when
`--minutes` are over.
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
from tests.histories.history import Verdict, run
from tests.histories.kills import kill_one

CHUNK = 50
KINDS = ("DOUBLED", "LOST", "FALSE", "UNRECORDED", "LAST")
SHARED_MEMORY = Path("/dev/shm")


def main() -> int:
    options = _options()
    logging.disable(logging.WARNING)
    _say(f"seed {options.seed}")
    end = time.monotonic() + options.minutes * 60
    total = Counter[str]()
    for name, verdict in _all(options, end):
        total.update(_figures(verdict))
        if verdict.wrong:
            _say("\n".join([f"\n{name}:", *verdict.wrong, *verdict.steps]))
    _say(_table(total))
    return 1 if total["wrong"] else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="histories; 10000 by default")
    parser.add_argument("--kills", type=int, default=200, help="processes killed; 200 by default")
    parser.add_argument(
        "--seed", type=int, default=int.from_bytes(os.urandom(4)), help="makes the same histories again"
    )
    parser.add_argument("--only", type=int, default=-1, help="one history alone, by its number")
    parser.add_argument("--minutes", type=float, default=45, help="begin nothing later; 45 by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    return parser.parse_args()


def _all(options: argparse.Namespace, end: float) -> Iterator[tuple[str, Verdict]]:
    if options.only >= 0:
        yield from _chunk(options.seed, options.only, options.only + 1, end)
        return
    with ProcessPoolExecutor(options.jobs, nursery(), _quiet) as pool:
        chunks = [
            pool.submit(_chunk, options.seed, first, min(first + CHUNK, options.count), end)
            for first in range(0, options.count, CHUNK)
        ]
        for chunk in as_completed(chunks):
            yield from chunk.result()
    yield from _kills(options.seed, options.kills, end)


def _quiet() -> None:
    logging.disable(logging.WARNING)


def _chunk(seed: int, first: int, last: int, end: float) -> list[tuple[str, Verdict]]:
    async def histories() -> list[tuple[str, Verdict]]:
        done = []
        for number in range(first, last):
            if time.monotonic() > end:
                break
            with _folder() as folder:
                done.append((f"history {number}", await run(Random(f"{seed}/{number}"), Path(folder) / "state")))
        return done

    return anyio.run(histories)


def _kills(seed: int, count: int, end: float) -> Iterator[tuple[str, Verdict]]:
    with serve_in_thread(Emulator(backup_seconds=3600)) as emulator:
        for number in range(count):
            if time.monotonic() > end:
                return
            with _folder() as folder:
                random = Random(f"{seed}/kill/{number}")
                yield f"kill {number}", anyio.run(kill_one, random, Path(folder) / "state", emulator)


def _folder() -> "tempfile.TemporaryDirectory[str]":
    """In memory where there is such a place: what a disk does to a ledger is the benchmarks' concern."""
    return tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)


def _figures(verdict: Verdict) -> dict[str, int]:
    kind = "kills" if verdict.steps and "killed at point" in verdict.steps[0] else "histories"
    wrong = Counter(line.partition(":")[0] for line in verdict.wrong)
    return {
        kind: 1,
        "wrong": bool(verdict.wrong),
        "calls": verdict.calls,
        "writes": verdict.writes,
        "operations": verdict.operations,
        "unknown": verdict.unknown,
        **{name: wrong[name] for name in KINDS},
    }


def _table(total: Counter[str]) -> str:
    rows = {
        "histories": total["histories"],
        "processes killed": total["kills"],
        "calls of tools": total["calls"],
        "writes that VPS.org got": total["writes"],
        "operations": total["operations"],
        "of them never settled": total["unknown"],
        "doubled": total["DOUBLED"],
        "lost": total["LOST"],
        "said, but not so": total["FALSE"],
        "sent without an intent": total["UNRECORDED"],
        "last backups deleted": total["LAST"],
    }
    return "\n".join(f"{name:<26}{count:>8}" for name, count in rows.items())
