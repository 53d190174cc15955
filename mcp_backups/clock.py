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
        """Whether any clock says that less than `window` has passed: a limit that no clock step lifts."""
        return self.left(window, now) > timedelta(0)

    def left(self, window: timedelta, now: "Moment") -> timedelta:
        """How long it is until `window` has passed by every clock; not above 0 once it has."""
        return window - min(self._passed(now))

    def ago(self, now: "Moment") -> timedelta:
        """How long before `now` it was: by the clock that nobody sets, or else the least that the others tell."""
        ticked = self._ticked(now)
        return min(self._passed(now)) if ticked is None else ticked

    def outlived(self, window: timedelta, now: "Moment") -> bool:
        """Whether `window` has passed by any clock, or the wall clock was set back: no step prolongs a leave."""
        return any(each >= window for each in self._passed(now)) or now.wall - self.wall < -_JITTER

    def _passed(self, now: "Moment") -> list[timedelta]:
        """How long it was by each clock that tells; one that was set back tells nothing, unless it is the only one."""
        wall, ticked = now.wall - self.wall, self._ticked(now)
        passed = [wall] if wall >= timedelta(0) else []
        if self.upstream and now.upstream and now.upstream >= self.upstream:
            passed.append(now.upstream - self.upstream)
        if ticked is not None:
            passed.append(ticked)
        return passed or [wall]

    def _ticked(self, now: "Moment") -> timedelta | None:
        """How long it was by the clock that nobody sets; None where that belongs to another start of the machine."""
        is_known = bool(self.boot) and self.boot == now.boot
        return timedelta(seconds=now.ticks - self.ticks) if is_known else None


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
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return Clock(wall=lambda: datetime.now(UTC), ticks=ticks, boot=boot, sleep=anyio.sleep)
