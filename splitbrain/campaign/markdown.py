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
        f"{text(told['reason'], 1000)}.",
        "",
        f"{text(told['canary']['sentence'], 500)}.",
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
        (cell, a)
        for cell in told["cells"]
        for a in cell["attempts"]
        if a["word"] in ("unknown", "error", "cut off")
    ]
    if troubled:
        lines += ["", "### Runs without a verdict", "", "| cell | run | | why |", "|---|---|---|---|"]
        lines += [
            f"| {text(cell['label'])} | {code(a['run'])} | {a['word']} | {text(a['reason'])} |"
            for cell, a in troubled[:_shown]
        ]
        if len(troubled) > _shown:
            lines.append(f"\n{len(troubled) - _shown} more in summary.json")
    if told["left_out"]:
        lines += ["", f"{len(told['left_out'])} combinations cannot be run, and were left out:", ""]
        lines += [f"- {text(x['label'])}: {text(x['reason'])}" for x in told["left_out"][:_shown]]
    if told["notes"]:
        lines += ["", "### Notes", "", *(f"- {text(note, 400)}" for note in told["notes"][:_shown])]
    return "\n".join(lines) + "\n"


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
