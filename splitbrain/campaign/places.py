"""Where cells are placed: on this machine, several at once as far as its cores and memory reach.

Any engine that places processes can stand in: `Places` is all that the runner knows of one. `dask` is the other.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, Final, Protocol

from harness.admission import cores
from splitbrain.campaign.cell import Order, Outcome, Process, execute, not_started
from splitbrain.campaign.plan import Cell

_memory: Final = Path("/proc/meminfo")
_cgroup: Final = Path("/sys/fs/cgroup/memory.max")


class Places(Protocol):
    """An engine that runs orders. Nothing here may be retried: what becomes of an order is told once."""

    def fits(self, cell: Cell) -> bool:
        """Whether a cell may be started now."""

    def start(self, cell: Cell, order: Order) -> None:
        """Start it."""

    def ended(self) -> list[Outcome]:
        """What has come to an end since the last call."""

    def stop(self) -> None:
        """Ask all that goes on to stop; a second time, at once."""

    def running(self) -> list[str]:
        """The runs that go on."""

    def close(self) -> None:
        """Let go of the engine."""


class Here:
    """The machine we are on. `cores_most` and `memory_most_mb` bound what cells take in sum, None: what there is."""

    def __init__(
        self,
        *,
        cores_most: float | None = None,
        memory_most_mb: float | None = None,
        at_once: int | None = None,
    ) -> None:
        self.cores = min(cores_most or cores(), cores())
        self.memory_mb = min(memory_most_mb or memory_mb(), memory_mb())
        self._at_once = at_once
        self._on: dict[str, tuple[Cell, Process]] = {}
        self._failed: list[Outcome] = []

    def fits(self, cell: Cell) -> bool:
        """One that asks for more than there is may run alone."""
        if not self._on:
            return True
        if self._at_once is not None and len(self._on) >= self._at_once:
            return False
        taken = [c for c, _ in self._on.values()]
        return (
            sum(c.cores for c in taken) + cell.cores <= self.cores
            and sum(c.memory_mb for c in taken) + cell.memory_mb <= self.memory_mb
        )

    def start(self, cell: Cell, order: Order) -> None:
        try:
            self._on[order.run] = (cell, Process(order))
        except FileExistsError:  # the campaign was killed between its line and now, twice
            self._failed.append(execute(order))
        except OSError as e:
            self._failed.append(not_started(order, e))

    def ended(self) -> list[Outcome]:
        found, self._failed = self._failed, []
        for run, (_cell, process) in list(self._on.items()):
            if (outcome := process.poll()) is not None:
                del self._on[run]
                found.append(outcome)
        return found

    def stop(self) -> None:
        for _cell, process in self._on.values():
            process.stop()

    def running(self) -> list[str]:
        return list(self._on)

    def close(self) -> None:
        for _cell, process in self._on.values():  # something tore us away: they end with us, healed
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGTERM)


def memory_mb() -> float:
    """The memory that this machine, or the control group we are in, can still give, in MB."""
    values: dict[str, Any] = {}
    for line in _memory.read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = rest.split()[0] if rest.split() else "0"
    free = float(values.get("MemAvailable", 0)) / 1000
    try:
        most = float(_cgroup.read_text()) / 1e6
    except (OSError, ValueError):  # no limit, or "max"
        return free
    return min(free, most)
