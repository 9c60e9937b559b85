"""How the faults of a run lay beside each other: from the ledger alone.

An *outage* is a fault from the moment on at which it was applied until it was undone, with the nodes that
the system had to do without. A fault that had nobody out (a ring of partitions) counts as none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import msgspec

from harness.core.ledger import FaultRecord

_never: Final = 2**63 - 1


class Outages(msgspec.Struct, frozen=True, kw_only=True):
    """`families`: how many of each took effect. `most`: nodes out at once, at the worst moment, which had
    `worst`. Of the time from `begin` to `end`, in seconds: with at least one outage (`any_s`), and with
    at least two of them (`overlapping_s`)."""

    families: dict[str, int]
    most: int
    worst: list[str]
    any_s: float
    overlapping_s: float
    seconds: float

    @property
    def share(self) -> float:
        """The part of the time with at least two outages."""
        return self.overlapping_s / self.seconds if self.seconds else 0.0


def outages(faults: Iterable[FaultRecord], begin: int, end: int) -> Outages:
    """What `faults` came to between two moments, in ns since the run's start."""
    hit = [f for f in faults if f.applied is not None and f.applied < end]
    edges = sorted({begin, end, *(t for f in hit for t in _span(f) if begin < t < end)})
    worst: frozenset[str] = frozenset()
    one = two = 0
    for left, right in pairwise(edges):
        here = [f for f in hit if f.out and _span(f)[0] <= left < _span(f)[1]]
        one += (right - left) * (len(here) > 0)
        two += (right - left) * (len(here) > 1)
        worst = max(worst, out_at(hit, left), key=len)
    return Outages(
        families=dict(Counter(f.family for f in hit if f.effective)),
        most=len(worst),
        worst=sorted(worst),
        any_s=round(one / 1e9, 3),
        overlapping_s=round(two / 1e9, 3),
        seconds=round((end - begin) / 1e9, 3),
    )


def out_at(faults: Iterable[FaultRecord], moment: int) -> frozenset[str]:
    """The nodes that are out at a moment, by all faults together."""
    here = (f.out for f in faults if f.applied is not None and _span(f)[0] <= moment < _span(f)[1])
    return frozenset().union(*here)


def _span(fault: FaultRecord) -> tuple[int, int]:
    return fault.applied or 0, _never if fault.undone is None else fault.undone
