"""When things were: run time as wall-clock time with its zone, and the faults in force at a time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from harness.core.ledger import FaultRecord
from results.report_data import COLOURS, Run
from results.report_html import seconds

zone: Final = "UTC"
AFTER_NS: Final = 2 * 10**9  # a fault that ended so long ago is still named


def long_wall(run: Run, ns: int = 0) -> str:
    """Date and time of day at `ns` of the run, with the zone; empty where the run left no epoch.

    The time of day is the machine's own clock as it was at the run's start, carried on by the monotonic one.
    """
    when = _moment(run, ns)
    return "" if when is None else when.strftime(f"%Y-%m-%d %H:%M:%S {zone}")


def wall(run: Run, ns: int) -> str:
    """Time of day at `ns` of the run, to the millisecond, with the zone."""
    when = _moment(run, ns)
    return "" if when is None else f"{when.strftime('%H:%M:%S')}.{when.microsecond // 1000:03} {zone}"


def span_text(run: Run, start: int, end: int) -> str:
    """A stretch of run time with its time of day: `16.297 s to 16.744 s (12:02:18.211 to 12:02:18.658 UTC)`."""
    clock = wall(run, start)
    same = f" ({clock.removesuffix(f' {zone}')} to {wall(run, end)})" if clock else ""
    return f"{seconds(start)} to {seconds(end)}{same}"


def _moment(run: Run, ns: int) -> datetime | None:
    if run.epoch_real_ns is None:
        return None
    try:
        return datetime.fromtimestamp((run.epoch_real_ns + ns) / 1e9, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def colour_of(fault: FaultRecord) -> str:
    """The colour role of a fault; unknown roles share one."""
    return fault.colour if fault.colour in COLOURS else "other"


def faults_during(run: Run, start: int, end: int) -> Iterable[FaultRecord]:
    """The faults in force at some moment of a stretch of time."""
    for fault in run.faults:
        if (
            fault.applied is not None
            and fault.applied <= end
            and (fault.undone is None or fault.undone >= start)
        ):
            yield fault


def faults_before(run: Run, start: int) -> list[tuple[FaultRecord, int]]:
    """The faults that had ended shortly before a time, and how long before, in ns: what they did may show only then."""
    return [
        (f, start - f.undone)
        for f in run.faults
        if f.applied is not None and f.undone is not None and 0 < start - f.undone <= AFTER_NS
    ]
