"""Time as the guards need it: a wall clock that may be set wrong, checked against VPS.org's and one nobody sets."""

import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
from pydantic import BaseModel, ConfigDict

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Moment(BaseModel):
    """A point in time by up to three clocks.

    Attributes:
        wall: What the wall clock showed, UTC.
        ticks: Seconds since the machine's start.
        boot: Which start of which machine the ticks belong to; empty when the machine does not tell.
        upstream: What VPS.org's clock showed, UTC, as far as its last answer tells; None if none told the time.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    wall: datetime
    ticks: float
    boot: str
    upstream: datetime | None = None

    @property
    def latest(self) -> datetime:
        """UTC by the wall clock or VPS.org's, whichever is ahead: by it nothing seems younger than it may be."""
        return max(self.wall, self.upstream or self.wall)

    @property
    def earliest(self) -> datetime:
        """The same of whichever is behind: by it nothing seems older than it may be."""
        return min(self.wall, self.upstream or self.wall)

    @property
    def at_upstream(self) -> datetime:
        """UTC by VPS.org's clock, by which its backups are dated; by ours if it is not known."""
        return self.upstream or self.wall

    def within(self, window: timedelta, now: "Moment") -> bool:
        """Whether less than `window` has passed: a limit that no clock step lifts."""
        return self.left(window, now) > timedelta(0)

    def left(self, window: timedelta, now: "Moment") -> timedelta:
        """How long it is until `window` has passed; not above 0 once it has, and never above `window`."""
        return window - max(self.ago(now), timedelta(0))

    def ago(self, now: "Moment") -> timedelta:
        """How long before `now` it was: by the clock that nobody sets, or else the least that the others tell.

        Below 0 where one of these went back: nobody knows how long it was, and for a limit that is no time at all.
        """
        ticked = self._ticked(now)
        return min(self._by_set_clocks(now)) if ticked is None else ticked

    def outlived(self, window: timedelta, now: "Moment") -> bool:
        """Whether `window` has passed by any clock that tells, or ours was set back: no step prolongs a leave.

        What VPS.org's answers say counts only where the machine's ticks tell nothing: a `Date` may be stale or wrong,
        and must not end a leave that has just begun.
        """
        ticked = self._ticked(now)
        passed = self._by_set_clocks(now) if ticked is None else [ticked, now.wall - self.wall]
        return any(each >= window for each in passed) or now.wall - self.wall < -_JITTER

    def _by_set_clocks(self, now: "Moment") -> list[timedelta]:
        """How long it was by the clocks that somebody sets: ours, and VPS.org's where both times are known."""
        upstream = [now.upstream - self.upstream] if self.upstream and now.upstream else []
        return [now.wall - self.wall, *upstream]

    def _ticked(self, now: "Moment") -> timedelta | None:
        """How long it was by the clock that nobody sets; None where that belongs to another start of the machine.

        So it does where it went back, as in a virtual machine that was set back to an earlier state.
        """
        is_same = bool(self.boot) and self.boot == now.boot and now.ticks >= self.ticks
        return timedelta(seconds=now.ticks - self.ticks) if is_same else None


_JITTER = timedelta(seconds=5)
"""How far a wall clock may be corrected backwards without being taken for a step."""


@dataclass(frozen=True)
class Clock:
    """Where the program takes its time from; tests put in their own."""

    wall: Callable[[], datetime]
    ticks: Callable[[], float]
    boot: str
    sleep: Callable[[float], Awaitable[None]]

    def moment(self, offset: timedelta | None = None) -> Moment:
        """Now; `offset` is how far VPS.org's clock is ahead of the wall's, if it is known."""
        wall = self.wall()
        return Moment(wall=wall, ticks=self.ticks(), boot=self.boot, upstream=None if offset is None else wall + offset)


def system_clock() -> Clock:
    """The machine's own clocks; the ticks go on while it sleeps, where it can tell (Linux)."""
    ticks = time.monotonic if sys.platform != "linux" else lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    boot = _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""
    return Clock(wall=lambda: datetime.now(UTC), ticks=ticks, boot=boot, sleep=anyio.sleep)
