"""The plots and the table of operations: what the script fills, and what stands there without it.

Where no script runs, the same stretch of time is told in a table: how many operations ended how,
and how long they took, over the whole run and under each fault.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import numpy as np

from results.report.data import Run
from results.report.html import NONE, count, esc, plural, seconds, section, span, table
from results.report.ops import FAIL, INFO, OK, Operations

STRETCHES: Final = 40  # faults in the table without a script


def plots_section(run: Run) -> str:
    """The section whose plots the script draws over one time axis."""
    if run.ops is None or not len(run.ops):
        note = "The run recorded no operations."
        if not run.faults and not run.nodes:
            return section("time", "Over time", f'<p class="empty">{note}</p>')
    else:
        note = f"{plural(len(run.ops), 'operation')} from {run.ops.source}, on one time axis."
    body = _asset("plots.html").replace("{{noscript}}", f"<noscript>{in_words(run)}</noscript>")
    return section("time", "Over time", body, note)


def operations_section(run: Run) -> str:
    """The section of the table of operations, empty where there are none."""
    if run.ops is None or not len(run.ops):
        return ""
    return section("operations", "Operations", _asset("operations.html"))


def in_words(run: Run) -> str:
    """What the plots would show, as a table."""
    said = '<p class="empty">The plots need JavaScript; this is what they would show.</p>'
    if run.ops is None or not len(run.ops):
        return said
    stretches = [("the whole run", 0, run.until)]
    stretches += [
        (f"{f.label or f.family} {f.fault}", f.applied, f.undone if f.undone is not None else run.until)
        for f in run.faults
        if f.applied is not None
    ][:STRETCHES]
    rows = [_stretch(run.ops, name, start, end) for name, start, end in stretches]
    return said + table(
        ("during", "from", "to", "#ok", "#fail", "#info", "#ok p50", "#ok p99"),
        rows,
        caption="Operations that ended in each stretch of time, and how long those took that ended ok",
    )


def _stretch(ops: Operations, name: str, start: int, end: int) -> list[str]:
    done = ops.start + ops.duration.clip(min=0)
    inside = (done >= start) & (done <= end)
    took = ops.duration[inside & (ops.outcome == OK)]
    cells = [count(int((inside & (ops.outcome == outcome)).sum())) for outcome in (OK, FAIL, INFO)]
    quantiles = [span(float(np.quantile(took, q))) if len(took) else NONE for q in (0.5, 0.99)]
    return [esc(name, 100), seconds(start), seconds(end), *cells, *quantiles]


def _asset(name: str) -> str:
    return resources.files("results").joinpath("assets", name).read_text(encoding="utf-8")
