"""How things are measured: medians with their spread, ratios within one run."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter

import anyio


@dataclass(frozen=True)
class Figure:
    """One row of the result.

    Attributes:
        name: What was measured.
        value: The median, or the single reading.
        unit: Of value and spread.
        spread: From the first to the third quartile; 0 for a single reading.
        limit: What it must not exceed; None where nothing is promised.
    """

    name: str
    value: float
    unit: str
    spread: float = 0.0
    limit: float | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit


def figure(name: str, samples: list[float], unit: str, limit: float | None = None) -> Figure:
    """The median of some readings; two at least."""
    first, _, third = statistics.quantiles(samples, n=4)
    return Figure(name, statistics.median(samples), unit, third - first, limit)


async def timed(work: Callable[[], Awaitable[object]], times: int, at_once: int = 1) -> list[float]:
    """Milliseconds of each of `times` calls, `at_once` of them under way at any time."""
    samples: list[float] = []

    async def one_after_another(count: int) -> None:
        for _ in range(count):
            start = perf_counter()
            await work()
            samples.append((perf_counter() - start) * 1000)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(one_after_another, times // at_once)
    return samples
