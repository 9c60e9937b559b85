"""The track record as a table: on a terminal, as data, and in docs/track-record.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.core.errors import InfrastructureError, UsageError
from splitbrain import series
from splitbrain.bugs.data import SIDES, Bug
from splitbrain.bugs.runner import Tally, ok

BEGIN: Final = "<!-- written by `make track-record`; what stands here is overwritten -->"
END: Final = "<!-- end of what `make track-record` writes -->"
WIDTH: Final = 160  # characters, in which no cell is broken
_BUGS: Final = ("bug", "what goes wrong", "system", "broken", "clean twin", "faults", "workload")
_RUNS: Final = (
    "bug",
    "found",
    "95%",
    "seconds to find",
    "clean twin accused",
    "95%",
    "operations ok, broken / clean",
    "undecided",
    "failed",
    "commit",
)


def about(bug: Bug) -> list[str]:
    """A bug's row of what is run."""
    spec = bug.spec
    clean = bug.clean.says(bug.system) if bug.clean else "none"
    nodes = spec.get("nodes", 3)
    load = f"{spec['workload']}, {nodes} node{'s' if nodes != 1 else ''}, {spec['time']}"
    return [
        bug.id,
        bug.summary + (" (by design)" if bug.by_design else ""),
        bug.system,
        bug.broken.says(bug.system),
        clean,
        ", ".join(spec["faults"]),
        load,
    ]


def row(tally: Tally) -> list[str]:
    """A bug's row of what came of it."""
    n, m = tally.judged("broken"), tally.judged("clean")
    twin = bool(tally.bug.clean)
    seconds = _seconds(tally)
    return [
        tally.bug.id,
        f"{tally.found} of {n}" if n else "-",
        series.percent(tally.found, n),
        "-" if seconds is None else f"{seconds:.1f}",
        f"{tally.accused} of {m}" if twin and m else "-",
        series.percent(tally.accused, m) if twin else "-",
        " / ".join("-" if x is None else f"{x:,.0f}" for x in _ok(tally).values()),
        str(tally.unknown),
        str(tally.errors),
        series.short(tally.commit) or "-",
    ]


def data(tally: Tally) -> dict[str, Any]:
    """The same for programs, with the bug's own data."""
    bug = tally.bug
    n, m = tally.judged("broken"), tally.judged("clean")
    return {
        "id": bug.id,
        "summary": bug.summary,
        "link": bug.link,
        "by_design": bug.by_design,
        "system": bug.system,
        "broken": {"version": bug.broken.version, "opt": bug.broken.opt},
        "clean": {"version": bug.clean.version, "opt": bug.clean.opt} if bug.clean else None,
        "why_no_clean": bug.why_no_clean,
        "spec": bug.spec,
        "expected": {name: list(kinds) for name, kinds in bug.found.items()},
        "commit": tally.commit or None,
        "runs": n,
        "found": tally.found,
        "found_interval": series.interval(tally.found, n),
        "seconds_to_find": _seconds(tally),
        "clean_runs": m,
        "accused": tally.accused if bug.clean else None,
        "accused_interval": series.interval(tally.accused, m),
        "operations_ok": _ok(tally),
        "unknown": tally.unknown,
        "errors": tally.errors,
    }


def _seconds(tally: Tally) -> float | None:
    found = [r["found_s"] for r in tally.runs["broken"] if r["found_s"] is not None]
    return statistics.median(found) if found else None


def _ok(tally: Tally) -> dict[str, float | None]:
    """The median of operations that succeeded in a run, of each side."""
    counts = {side: [ok(r) for r in tally.runs[side] if r.get("outcomes")] for side in SIDES}
    return {side: statistics.median(found) if found else None for side, found in counts.items()}


def print_bugs(console: Console, bugs: Sequence[Bug]) -> None:
    """What is known, and how each is found."""
    for bug in bugs:
        console.print(Text.assemble((bug.id, "bold"), f"  {about(bug)[1]}"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        rows = [("told", bug.link), *zip(_BUGS[2:], about(bug)[2:], strict=True)]
        rows.append(("found by", ", ".join(f"{name}: {' or '.join(k)}" for name, k in bug.found.items())))
        for label, value in rows:
            table.add_row(Text(label, style="dim"), Text(value))
        if bug.why_no_clean:
            table.add_row("", Text(bug.why_no_clean))
        console.print(Padding(table, (0, 0, 1, 2)))


def print_tallies(console: Console, tallies: Sequence[Tally]) -> None:
    """What came of it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for i, column in enumerate(_RUNS):
        table.add_column(column, no_wrap=i in (0, len(_RUNS) - 1))
    for tally in tallies:
        table.add_row(*row(tally))
    console.print(table)


def markdown(tallies: Sequence[Tally]) -> str:
    """Both tables as they stand in the docs."""
    bugs = [about(t.bug) for t in tallies]
    for cells, tally in zip(bugs, tallies, strict=True):
        cells[0] = f"[{cells[0]}]({tally.bug.link})"
        cells[5] = f"`{cells[5]}`"
    return f"{_markdown(_BUGS, bugs)}\n\n{_markdown(_RUNS, [row(t) for t in tallies])}"


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def write(path: Path, tallies: Sequence[Tally]) -> None:
    """Put both tables where they belong in a document.

    Raises: UsageError where there is no such place, InfrastructureError where it cannot be written.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}; expected a document with {BEGIN!r}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{path} has no place for the table; expected the lines {BEGIN!r} and {END!r}")
    try:
        path.write_text(f"{before}{begin}\n\n{markdown(tallies)}\n\n{end}{after}", encoding="utf-8")
    except OSError as e:
        raise InfrastructureError(f"cannot write {path}: {e.strerror}") from None


def reason(tallies: Sequence[Tally]) -> str:
    """One sentence about a series.

    >>> reason([])
    'no bug was run'
    """
    ran = [t for t in tallies if t.runs["broken"]]
    if not ran:
        return "no bug was run"
    found = [t.bug.id for t in ran if t.found]
    missed = [t.bug.id for t in ran if not t.found]
    accused = [t.bug.id for t in ran if t.accused]
    words = [f"{len(found)} of {len(ran)} found"]
    words += [f"not found: {', '.join(missed)}"] if missed else []
    words += [f"clean twin accused: {', '.join(accused)}" if accused else "no clean twin accused"]
    return "; ".join(words)


def results(tallies: Sequence[Tally], code: int, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The object that `--json` prints."""
    verdict = {0: "valid", 1: "invalid"}.get(code, "unknown")
    out = {"format": 1, "verdict": verdict, "reason": reason(tallies)}
    return {**out, "bugs": [data(t) for t in tallies], **(extra or {})}
