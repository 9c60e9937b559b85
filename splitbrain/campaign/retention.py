"""What is kept of runs, and for how long: bulky data goes, what was found stays.

The nodes' data of a valid run goes as soon as it has ended. Histories, journals, logs and dumps go after some days, of
valid runs sooner than of others. The spec, results, environment, schedule and report of every attempt stay; of a report
that is too large for one file, the values beside it go with the history that they are made of.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from harness.core.errors import UsageError
from splitbrain.campaign import home as homes
from splitbrain.campaign import ledger
from splitbrain.campaign.spec import Keep

AT_ONCE: Final = ("data", "work", "dump")
STAYS: Final = frozenset(
    ("spec.json", "results.json", "env.json", "report.html", "faults.jsonl", "system.toml", "admission.json")
)
_marker: Final = "reduced.json"


class Freed(msgspec.Struct, kw_only=True):
    """What was removed: of how many runs, how many bytes, and what could not be."""

    runs: int = 0
    bytes: int = 0
    problems: list[str] = []


def at_once(run_dir: Path, verdict: str | None) -> int:
    """Remove the nodes' data of a valid run; how many bytes that were."""
    if verdict != "valid":
        return 0
    return sum(_remove(run_dir / name) for name in AT_ONCE)


def by_age(home: Path, keep: Keep, now: datetime) -> Freed:
    """Reduce the runs of nights that are old enough. A night that lies in the future (a clock was set) is left
    alone."""
    freed = Freed(problems=[])
    for night in homes.nights(home):
        state = ledger.read(night / ledger.NAME)
        age_days = _days(state.last_at, now)
        for attempt in state.attempts.values():
            limit = keep.valid_days if attempt.verdict == "valid" else keep.others_days
            if age_days is None or age_days <= limit or not attempt.run_dir or attempt.how is None:
                continue
            run_dir = night / attempt.run_dir
            if not run_dir.is_dir() or (run_dir / _marker).exists():
                continue
            try:
                freed.bytes += _reduce(run_dir)
                freed.runs += 1
            except OSError as e:
                freed.problems.append(f"{run_dir} could not be reduced: {e.strerror}")
    return freed


def _days(at: str | None, now: datetime) -> float | None:
    try:
        then = datetime.fromisoformat(at or "")
    except ValueError:
        return None
    return (now.astimezone(UTC) - then).total_seconds() / 86400


def _reduce(run_dir: Path) -> int:
    removed = [p.name for p in run_dir.iterdir() if p.name not in STAYS]
    total = sum(_remove(run_dir / name) for name in removed)
    homes.write(
        run_dir / _marker, msgspec.json.encode({"format": 1, "removed": sorted(removed), "bytes": total})
    )
    return total


def _remove(path: Path) -> int:
    if path.is_symlink() or not path.exists():
        return 0
    total = size(path)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return total


def size(path: Path) -> int:
    """The bytes of a file or of all below a folder, as far as they can be seen."""
    if not path.is_dir():
        return path.lstat().st_size if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:
                continue
    return total


def room(home: Path, taken: int, disk_mb: float | None, free_mb: float) -> str | None:
    """Why the disk has no room for another cell; None: it has. `taken` is what the home's runs take, in bytes."""
    if disk_mb is not None and taken > disk_mb * 1e6:
        return f"the campaign's runs take {taken / 1e6:,.0f} MB of the {disk_mb:,.0f} MB that `disk` allows"
    try:
        free = shutil.disk_usage(home).free / 1e6
    except OSError as e:
        raise UsageError(f"cannot see how full the disk of {home} is: {e.strerror}") from None
    if free < free_mb:
        return f"the disk of {home} has {free:,.0f} MB left, and `free` asks for {free_mb:,.0f} MB"
    return None
