"""A night as Markdown: for a pull request, a chat, and the step summary of GitHub's actions.

Whatever a system wrote is escaped: nothing in it becomes a link, a tag or a table's border.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from results.markdown import code, text

_shown: Final = 20
_signs: Final = {"valid": "✔", "invalid": "✘", "unknown": "?"}


def summary(told: Mapping[str, Any]) -> str:
    """The whole night."""
    counts = told["counts"]
    lines = [
        f"## {_signs[told['verdict']]} {text(told['campaign'])}, night {told['number']}: {told['verdict']}",
        "",
        f"{text(told['reasons'][0], 1000)}.",
        "",
        *(f"- {text(reason, 1000)}" for reason in _others(told)),
        "",
        "| cells | valid | invalid | unknown | error | cut off | not started | operations | seed |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        _row(
            *(
                counts[key]
                for key in ("cells", "valid", "invalid", "unknown", "error", "cut_off", "not_started")
            ),
            f"{told['ops']:,}",
            told["seed"],
        ),
    ]
    if told["findings"]:
        lines += ["", "### Findings", "", "| | finding | tonight | how often | what it is | reports |"]
        lines += ["|---|---|--:|---|---|---|", *(_finding(f) for f in told["findings"][:_shown])]
        if len(told["findings"]) > _shown:
            lines.append(f"\n{len(told['findings']) - _shown} more in summary.json")
    troubled = [
        (cell["label"], a, a["word"], a["reason"])
        for cell in told["cells"]
        for a in cell["attempts"]
        if a["word"] in ("unknown", "error", "cut off")
    ]
    unmet = [
        (cell["label"], a, "not as expected", a["unmet"])
        for cell in told["cells"]
        for a in cell["attempts"]
        if a.get("unmet")
    ]
    for title, rows in (("Not as expected", unmet), ("Runs without a verdict", troubled)):
        if rows:
            lines += ["", f"### {title}", "", "| cell | run | | why |", "|---|---|---|---|"]
            lines += [
                f"| {text(label)} | {code(a['run'])} | {word} | {text(why)} |"
                for label, a, word, why in rows[:_shown]
            ]
        if len(rows) > _shown:
            lines.append(f"\n{len(rows) - _shown} more in summary.json")
    if told["left_out"]:
        lines += ["", f"{len(told['left_out'])} combinations cannot be run, and were left out:", ""]
        lines += [f"- {text(x['label'])}: {text(x['reason'])}" for x in told["left_out"][:_shown]]
    if told["notes"]:
        lines += ["", "### Notes", "", *(f"- {text(note, 400)}" for note in told["notes"][:_shown])]
    return "\n".join(lines) + "\n"


def _others(told: Mapping[str, Any]) -> list[str]:
    """What is to be said besides the first reason: the canary too, where it is none of them."""
    canary = told["canary"]["sentence"]
    return [*told["reasons"][1:], *([] if canary in told["reasons"] else [canary])]


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _finding(f: Mapping[str, Any]) -> str:
    status = (
        f["status"]
        + (" (in the baseline)" if f["baseline"] else "")
        + (" (returned)" if f["returned"] else "")
    )
    often = f["rate"] if f["hits"] else f"{f['rate']}; {f['absence']}"
    reports = " ".join(code(report) for report in f["reports"][:3])
    return (
        f"| {status} | {code(f['signature'])} | {f['hits']} of {f['eligible']} | {text(often, 400)} |"
        f" {text(f['explanation'])} | {reports} |"
    )
