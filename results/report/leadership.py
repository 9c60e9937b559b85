"""How stable leadership was, for the cluster section of the report: elections, terms of office, no leader; static."""

from __future__ import annotations

from results.leadership import sentence
from results.report.data import Run, as_dict, as_list
from results.report.html import NONE, esc, table

_rows = 50


def leadership_part(run: Run) -> str:
    """The figures of `results.json`; nothing where nobody was seen to lead."""
    figures = as_dict(run.results.get("leadership"))
    if not figures:
        return ""
    terms = [
        [
            esc(str(t["node"])),
            NONE if t["term"] is None else esc(str(t["term"])),
            f"{t['from_s']:.1f}",
            f"{t['to_s']:.1f}",
            f"{t['seconds']:.1f}",
        ]
        for t in map(as_dict, as_list(figures.get("terms"))[-_rows:])
    ]
    gaps = [
        [f"{g['from_s']:.3f}", f"{g['to_s']:.3f}", f"{g['seconds']:.3f}"]  # most are shorter than a second
        for g in map(as_dict, as_list(figures.get("without"))[-_rows:])
    ]
    body = f"<h3>Leadership</h3><p class=told>{esc(sentence(figures), 400)}.</p>"
    if terms:
        body += table(["leader", "#term", "#from s", "#to s", "#seconds"], terms, "places", "Who led")
    if gaps:
        body += table(["#from s", "#to s", "#seconds"], gaps, "places", "Without a leader")
    return body
