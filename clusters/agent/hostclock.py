"""The clock of a host itself, which every process on it reads: set only where that was asked for by name.

Unlike a process clock it is not ours, so that it only ever jumps, and what it would show otherwise is known at
any time: as much as it differed from the time since boot before anybody touched it. Restored it shows that again,
to the microsecond, whatever became of the processes meanwhile. See clock_settime(2), CLOCK_BOOTTIME.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusters.means import userns

_CAP_SYS_TIME = 25


class HostClock:
    """CLOCK_REALTIME of this host."""

    def __init__(
        self,
        real: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_REALTIME),
        boot: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        settle: Callable[[int], object] = lambda ns: time.clock_settime_ns(time.CLOCK_REALTIME, ns),
    ) -> None:
        self._real, self._boot, self._settle = real, boot, settle
        self._offsets: dict[str, int] = {}  # fault -> ns; the last is in force
        self._base = 0

    @property
    def undo(self) -> tuple[str, ...]:
        """The dead man's switch's line, while the clock is not right; see `switch.sh`."""
        return (f"clock {self._base / 1e9:.6f}",) if self._offsets else ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Those that have it wrong."""
        return tuple(self._offsets)

    def shift(self, fault: str, offset_ns: int, arm: Callable[[], None]) -> None:
        """Have the clock so much ahead; `arm` is called when `undo` is known and nothing is done yet."""
        if not self._offsets:
            self._base = self._real() - self._boot()
        self._offsets.pop(fault, None)
        self._offsets[fault] = offset_ns
        arm()
        self._enforce()

    def unshift(self, fault: str) -> bool:
        """End that; whether it was in force."""
        if self._offsets.pop(fault, None) is None:
            return False
        self._enforce()
        return True

    def moved(self) -> int:
        """How far the clock is from what it would show, in ns."""
        return self._real() - self._boot() - self._base if self._offsets else 0

    def _enforce(self) -> None:
        offset = list(self._offsets.values())[-1] if self._offsets else 0
        self._settle(self._base + self._boot() + offset)


def refusal_of(course: dict[str, Any]) -> str | None:
    """Why a host's clock cannot go like this, or None."""
    if course["rate"] != 1.0 or course["half_ns"] or course["monotonic"]:
        return "the clock of a whole host can only jump; ask for clock:jump, or leave --opt ssh.set_clock out"
    return None


def why_not() -> str | None:
    """Why the clock of this host cannot be set, or None."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    if userns.lonely() is not None or not held >> _CAP_SYS_TIME & 1:
        return "the clock of this host is not ours to set (CAP_SYS_TIME); leave --opt ssh.set_clock out"
    return None
