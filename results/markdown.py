"""Results objects as Markdown: what a CI server shows of a step, and what goes into an issue.

A pure function. What a system wrote is text in it: no image, no markup, no mention of anybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from results.report.html import json_text, key_text, plain

RUNS: Final = 200  # rows of the table
_findings: Final = 10  # told at length
_signs: Final = {"valid": "✅", "invalid": "❌", "unknown": "❔", "error": "⚠️"}
_marks: Final = re.compile(r"([\\`*_\[\]<>#!|~&@$])")


def text(value: Any, limit: int = 600) -> str:
    r"""Text that Markdown and HTML leave alone, on one line.

    >>> text("a|b\n<img> @all")
    'a\\|b \\<img\\> \\@all'
    """
    return _marks.sub(r"\\\1", " ".join(plain(value, limit).split()))


def code(value: Any, limit: int = 2000) -> str:
    """A span of code; a table's cell may hold it too.

    >>> code("a`b")
    '`` a`b ``'
    """
    shown = " ".join(plain(value, limit).split()).replace("|", "\N{BROKEN BAR}")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks = "`" * (longest + 1)
    return f"{ticks} {shown} {ticks}" if longest else f"`{shown}`"


def word(results: Mapping[str, Any]) -> str:
    """Sign and word of a result: a verdict, or `error`; as text, so that no sign has to be seen."""
    verdict = str(results.get("verdict"))
    face = "error" if verdict == "unknown" and results.get("error") else verdict
    face = face if face in _signs else "unknown"
    expected = ", as expected" if results.get("expect") == "invalid" == verdict else ""
    return f"{_signs[face]} {face}{expected}"


def summary(runs: Sequence[Mapping[str, Any]], planned: int | None = None) -> str:
    """A heading, a row a run, and of those that were violated what was found and the command to run again."""
    lines = ["### splitbrain", "", "| verdict | run | operations | seed | why |", "|---|---|---:|---:|---|"]
    for results in runs[:RUNS]:
        about = " ".join(str(results[k]) for k in ("system", "version", "workload") if results.get(k))
        cells = (
            word(results),
            text(about or results.get("history") or "", 120),
            results.get("ops"),
            results.get("seed"),
        )
        lines.append(
            f"| {' | '.join('' if c is None else str(c) for c in cells)} | {text(results.get('reason'))} |"
        )
    if len(runs) > RUNS:
        lines += ["", f"and {len(runs) - RUNS} runs more"]
    if planned is not None and planned > len(runs):
        lines += ["", f"**{planned - len(runs)} of {planned} runs were not made.**"]
    bad = [r for r in runs if r.get("verdict") != "valid"]
    for results in bad[:_findings]:
        lines += ["", *_finding(results)]
    return "\n".join(lines) + "\n\n"


def _finding(results: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, check in (results.get("checks") or {}).items():
        for anomaly in (check.get("anomalies") or ())[:1]:
            key = key_text(anomaly.get("key"))
            nodes = ", ".join(str(n) for n in anomaly.get("nodes") or ())
            lines.append(f"- **{text(name)}** of key {code(key, 80)}{f' on {text(nodes)}' if nodes else ''}:"
                         f" {text(anomaly.get('explanation'), 1000)}")  # fmt: skip
    if results.get("error"):
        lines.append(f"- {text(results['error'], 1000)}")
    faults = results.get("faults") or {}
    if faults:
        told = ", ".join(f"{name} {json_text(row.get('effective'))}" for name, row in faults.items())
        lines.append(f"- faults that took effect: {text(told)}")
    if results.get("run"):
        lines.append(f"- report: {code(str(results['run']) + '/report.html')}")
    if results.get("command"):
        lines.append(f"- again: {code(results['command'])}")
    return lines
