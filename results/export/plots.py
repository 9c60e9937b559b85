"""Latency and rate over time on one axis, faults as bands, leaders and violations as marks.

For issues, chats and papers, where a page cannot go. Colours are Okabe and Ito's, which eyes that see no red or green
tell apart; a line of another outcome has another dash as well. The same run gives the same bytes. Texts are texts: a
`$` in what a system wrote is no mathematics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from harness.core.errors import UsageError
from results.export import Source
from results.report.case import cases
from results.report.data import Run
from results.report.html import plain
from results.report.payload import bins
from results.report.verdict import outcome_of, title_of
from results.report.when import colour_of

_bands: Final = {
    "network": "#0072b2",
    "process": "#d55e00",
    "disk": "#cc79a7",
    "clock": "#e69f00",
    "membership": "#009e73",
}
_outcomes: Final = (("ok", "#0072b2", "-"), ("fail", "#e69f00", "--"), ("info", "#d55e00", ":"))
_quantiles: Final = (("p50", "#0072b2", "-"), ("p99", "#d55e00", "--"), ("max", "#999999", ":"))
_inches: Final = (11.0, 6.2)
_dpi: Final = 150
_labelled: Final = 12  # faults; of more, only the bands are told apart


def draw(source: Source, path: Path, form: str) -> None:
    """Write the picture as `svg` or `png`. Raises: UsageError for a run that has nothing to draw."""
    run = source.run
    if run.ops is None or not len(run.ops):
        raise UsageError(f"{source.path} has no operations to draw: it ended before the first of them")
    with mpl.rc_context({"svg.hashsalt": "splitbrain", "text.parse_math": False, "font.size": 9}):
        figure = _figure(run, source.name)
        meta: dict[str, Any] = (
            {"Date": None, "Creator": "splitbrain"} if form == "svg" else {"Software": "splitbrain"}
        )
        figure.savefig(path, format=form, dpi=_dpi, metadata=meta)


def _figure(run: Run, name: str) -> Figure:
    assert run.ops is not None
    figure = Figure(figsize=_inches, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    data = bins(run.ops, run.until)
    at = [data["width"] * (n + 0.5) for n in range(data["n"])]
    for which, colour, dash in _quantiles:
        above.plot(
            at,
            [float("nan") if v is None else v for v in data[which]],
            dash,
            color=colour,
            lw=1.2,
            label=which,
        )
    above.set_yscale("log")
    above.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))  # the usual one writes mathematics
    above.yaxis.set_minor_formatter(NullFormatter())
    above.set_ylabel("latency of ok, ms")
    for which, colour, dash in _outcomes:
        below.plot(at, data[which], dash, color=colour, lw=1.2, label=which)
    below.set_ylabel("operations/s, by outcome")
    phases = dict(run.phases)
    start, healed = phases.get("load", int(run.ops.start.min())) / 1e9, phases.get("heal", run.until) / 1e9
    rates = [data[w][n] for w, _, _ in _outcomes for n in range(data["n"]) if start <= at[n] <= healed]
    below.set_ylim(
        0, max(rates, default=1.0) * 1.1 or 1.0
    )  # final reads come all at once, and would flatten the load
    below.set_xlabel("seconds since the run's start")
    below.set_xlim(start, max(run.until / 1e9, start + 0.001))
    _bands_of(run, (above, below))
    for axes in (above, below):
        axes.grid(visible=True, lw=0.4, color="#dddddd")
        axes.set_axisbelow(True)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=12, fontsize=8, frameon=False)
    verdict = outcome_of(run) if run.results or run.spec else ""
    title = " · ".join(plain(part, 80) for part in (title_of(run) if run.spec else "", name, verdict) if part)
    figure.suptitle(title, fontsize=11)
    return figure


def _bands_of(run: Run, both: tuple[Any, Any]) -> None:
    applied = [f for f in run.faults if f.applied is not None]
    seen: set[str] = set()
    for number, fault in enumerate(applied):
        start = (fault.applied or 0) / 1e9
        end = (fault.undone if fault.undone is not None else run.until) / 1e9
        colour = _bands.get(colour_of(fault), "#777777")
        name = plain(fault.label or fault.family, 30)
        for axes in both:
            first = name not in seen and axes is both[1]
            axes.axvspan(
                start, max(end, start), color=colour, alpha=0.13, lw=0, label=name if first else None
            )
        seen.add(name)
        if number < _labelled:
            text = f" {name} {', '.join(fault.nodes)}"
            both[0].text(start, 0.02, plain(text, 40), rotation=90, va="bottom", fontsize=7, color=colour,
                         transform=both[0].get_xaxis_transform(), clip_on=True)  # fmt: skip
    for number, change in enumerate(run.leaders):
        both[0].axvline(
            change.time / 1e9, color="#009e73", lw=0.8, ls="-.", label=None if number else "new leader"
        )
    times = [case.times for case in cases(run)]
    for number, time in enumerate(t for t in times if t is not None):
        at = time[1] / 1e9
        both[1].axvline(at, color="black", lw=0.8)
        label = None if number else "violation"
        both[1].plot(
            [at], [0.96], "X", color="black", ms=7, label=label, transform=both[1].get_xaxis_transform()
        )
