"""Runs pairs and keeps what they came to: the same faults and seed for a broken version and its clean twin.

What a run is started by is handed in (`splitbrain.cli` has the display); here stand which runs, in which
order, where they are kept (`splitbrain.series`), and what counts as found. A series takes the first
seed of every pair before the second of any, so that one which is interrupted says something of each.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.exits import INTERRUPTED, VALID, VIOLATION, exit_code, overall
from harness.core.spec import Spec
from splitbrain import series
from splitbrain.bugs.data import SIDES, Bug, Side

RunOne = Callable[[Spec, Path], Mapping[str, Any]]
_REASON: Final = 160  # characters of it on a line
_HEAD: Final = 1 << 16  # bytes of a journal in which its load has begun, where nothing is recorded before


class Tally(msgspec.Struct, kw_only=True):
    """The results objects of a bug's runs at one commit, by side, with `found_s` beside them."""

    bug: Bug
    commit: str
    runs: dict[str, list[dict[str, Any]]] = msgspec.field(default_factory=lambda: {s: [] for s in SIDES})

    def judged(self, side: Side) -> int:
        """How many runs came to a verdict; what failed before says nothing of the system."""
        return sum(not _failed(r) for r in self.runs[side])

    @property
    def errors(self) -> int:
        """How many came to none."""
        return sum(_failed(r) for side in SIDES for r in self.runs[side])

    @property
    def found(self) -> int:
        """How many of the broken side's runs found it."""
        return sum(r["found_s"] is not None for r in self.runs["broken"])

    @property
    def accused(self) -> int:
        """How many of the clean twin's were accused of anything."""
        return sum(r["verdict"] == "invalid" for r in self.runs["clean"])

    @property
    def unknown(self) -> int:
        """How many runs of either side were judged, and could not be decided."""
        return sum(r["verdict"] == "unknown" and not _failed(r) for side in SIDES for r in self.runs[side])

    def code(self) -> int:
        """0 when it was found at least once and the clean twin never accused; otherwise the worst that came of it."""
        broken, clean = self.runs["broken"], self.runs["clean"]
        stopped = any(r.get("interrupted") for r in (*broken, *clean))
        if self.accused:
            return VIOLATION
        if stopped:
            return INTERRUPTED
        codes = [overall(_code(r) for r in broken)] if not self.found else []
        if "clean" in self.bug.sides and not any(r["verdict"] == "valid" for r in clean):
            codes.append(overall(exit_code(r) for r in clean))
        return overall(codes)


def _failed(results: Mapping[str, Any]) -> bool:
    return results["verdict"] == "unknown" and bool(results.get("error") or results.get("interrupted"))


def _code(results: Mapping[str, Any]) -> int:
    """The exit code of a broken run that has not found what it was to find; another violation is no finding."""
    code = exit_code({**results, "expect": "invalid"})
    return VIOLATION if code == VALID else code


def found_s(bug: Bug, results: Mapping[str, Any], load_ns: int = 0) -> float | None:
    """How many seconds after the load began the first finding's window was complete; None for no finding.

    What has no window, since it is no matter of operations, is known when the run has ended.
    """
    over_ns = int((results.get("seconds") or 0) * 1e9)
    ends = [
        max((op.get("end_ns") or op.get("start_ns") or 0 for op in anomaly["window"]), default=over_ns)
        for name, kinds in bug.found.items()
        for anomaly in results.get("checks", {}).get(name, {}).get("anomalies") or ()
        if results["checks"][name]["verdict"] == "invalid" and anomaly["kind"] in kinds
    ]
    if results["verdict"] != "invalid" or not ends:
        return None
    return round(max(0, min(ends) - load_ns) / 1e9, 1)


def ok(results: Mapping[str, Any]) -> int:
    """How many operations of a run succeeded."""
    return sum(counts.get("ok", 0) for counts in results.get("outcomes", {}).values())


def run_side(bug: Bug, side: Side, seed: int | str, out: Path, run_one: RunOne) -> dict[str, Any]:
    """One run; its results object, with `found_s`."""
    results = dict(run_one(bug.resolve(side, seed), out))
    load_ns = _load_ns(Path(results["run"])) if results.get("run") else 0
    return {**results, "found_s": found_s(bug, results, load_ns) if side == "broken" else None}


def _load_ns(run_dir: Path) -> int:
    """When the load of a run began, since its start; 0 where the journal does not say so early."""
    try:
        with (run_dir / "journal.jsonl").open("rb") as file:
            lines = file.read(_HEAD).splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(b'{"phase":"load"'):
            return int(json.loads(line).get("time", 0))
    return 0


def run_pair(
    bug: Bug, seed: str | None, out: Path, commit: str, run_one: RunOne, say: Callable[[str], None]
) -> Tally:
    """One run of each side with one seed: the commit's first, where none is given."""
    tally = Tally(bug=bug, commit=commit)
    chosen = series.seed(commit, bug.id, 0) if seed is None else seed
    for side in bug.sides:
        say(f"{bug.id}, {side}: {bug.system} {bug.variant(side).says(bug.system)}")
        results = run_side(bug, side, chosen, out, run_one)
        tally.runs[side].append(results)
        say(f"{bug.id}, {side}: {told(results)}")
        if results.get("interrupted"):
            break
    return tally


def kept_at(where: Path, commit: str, bug: Bug, side: Side, n: int) -> tuple[Path, int]:
    """Where the n-th run of a side is kept, and its seed; both sides have the same."""
    seed = series.seed(commit, bug.id, n)
    return where / series.short(commit) / f"{bug.id}-{side}-{seed}.json", seed


def run_series(
    bugs: Iterable[Bug],
    repeat: int,
    where: Path,
    commit: str,
    run_one: RunOne,
    say: Callable[[str], None],
) -> list[Tally]:
    """`repeat` runs of each side of each bug, those that are kept already not again."""
    tallies = [Tally(bug=bug, commit=commit) for bug in bugs]
    for n in range(repeat):
        for tally in tallies:
            bug = tally.bug
            for side in bug.sides:
                path, seed = kept_at(where, commit, bug, side, n)
                there = path.exists()

                def run(
                    bug: Bug = bug, side: Side = side, seed: int = seed, out: Path = path
                ) -> dict[str, Any]:
                    return run_side(bug, side, seed, out.parent / "runs", run_one)

                results = series.keep(path, run)
                tally.runs[side].append(results)
                if not there:
                    say(f"{bug.id} {side} {n + 1} of {repeat}, seed {seed}: {told(results)}")
                if results.get("interrupted"):
                    return tallies
    return tallies


def told(results: Mapping[str, Any]) -> str:
    """What came of a run, on one line."""
    at = f", found {results['found_s']:g} s into the load" if results.get("found_s") is not None else ""
    why = textwrap.shorten(str(results["reason"]), _REASON, placeholder=" ...")
    return f"{results['verdict']}{at}, {ok(results):,} operations ok: {why}"


def collected(bugs: Iterable[Bug], where: Path, commit: str) -> list[Tally]:
    """What is kept of each bug: of this commit, or where nothing is, of the one that was run last."""
    folders = sorted(where.glob("*/"), key=lambda f: f.stat().st_mtime, reverse=True)
    folders.sort(key=lambda f: f.name != series.short(commit))
    return [
        next((t for t in (_read(bug, f) for f in folders) if t is not None), Tally(bug=bug, commit=""))
        for bug in bugs
    ]


def _read(bug: Bug, folder: Path) -> Tally | None:
    tally = Tally(bug=bug, commit=folder.name)
    for side in bug.sides:
        paths = sorted(folder.glob(f"{bug.id}-{side}-*.json"))
        tally.runs[side] = [r for r in map(series.kept, paths) if r is not None]
    return tally if any(tally.runs.values()) else None
