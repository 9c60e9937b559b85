"""A violation, shown: what was wrong in a sentence, how it came about, the operations that decide it, and all that
happened to its key.

How it came about is told in the way that suits the property: an order of operations with the state after
each step, holders side by side, the life of a message. What cannot be told is left out, the rest stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from results.report_case import Case, Shown, in_order, shown_op
from results.report_data import Run
from results.report_html import esc, key_text, outcome_cell, plural, seconds, section, shape, span, table
from results.report_life import life
from results.report_picture import picture
from results.report_sides import sides
from results.report_steps import steps
from results.report_when import faults_before, faults_during, span_text
from results.report_words import term

KEY_ROWS: Final = 1000  # of a failing key's own history
_head: Final = ("#index", "#invoked", "#completed", "process", "node", "operation", "outcome", "remarks")


def anomalies(run: Run, found: list[Case]) -> str:
    """The section of violations; empty where there are none."""
    every = run.anomalies
    if not every:
        return ""
    body = "".join(_case(run, case, number) for number, case in enumerate(found))
    if len(every) > len(found):
        rest = ", ".join(
            f"{esc(check)} {esc(key_text(a.get('key')), 60)}"
            for check, a in every[len(found) : len(found) + 200]
        )
        body += f'<p class="empty">and {plural(len(every) - len(found), "more violation")}: {rest}</p>'
    return section("anomalies", "Violations", body, f"{plural(len(every), 'violation')} found.")


def _case(run: Run, case: Case, number: int) -> str:
    panels: tuple[Callable[[], str], ...] = (
        lambda: steps(run, case),
        lambda: life(run, case, number),
        lambda: sides(run, case),
        lambda: picture(case),
        lambda: _window(case),
        lambda: _history(run, case),
    )
    return (
        f'<article class="case" id="case-{number}"><h3>{shape("invalid")}{esc(case.check)} '
        f"{f'<span>of key</span> {esc(key_text(case.key), 200)}' if case.key is not None else ''}"
        f"{f' <code>{esc(case.kind, 60)}</code>' if case.kind else ''}</h3>"
        f'<p class="explanation">{esc(case.explanation)}</p>{_facts(run, case)}{_buttons(case, number)}'
        f"{''.join(map(_panel, panels))}</article>"
    )


def _panel(make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as e:  # noqa: BLE001 - one panel must not take the words with it
        return f'<p class="empty">A part of this could not be drawn ({esc(type(e).__name__)}: {esc(e, 200)}).</p>'


def _facts(run: Run, case: Case) -> str:
    facts = []
    if case.nodes:
        facts.append(("node" if len(case.nodes) == 1 else "nodes", ", ".join(case.nodes)))
    if case.times:
        facts.append(("when", span_text(run, *case.times)))
        during = [f"{f.label or f.family} {f.fault}" for f in faults_during(run, *case.times)]
        facts.append(("faults in force", ", ".join(during[:8]) or "none"))
        before = [
            f"{f.label or f.family} {f.fault}, {span(ns)} before"
            for f, ns in faults_before(run, case.times[0])
        ]
        if before:
            facts.append(("faults just over", ", ".join(before[:4])))
    facts.append(("operations", str(sum(not op.assumed for op in case.ops))))
    listed = "".join(f"<div><dt>{name}</dt><dd>{esc(value, 300)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{listed}</dl>'


def _buttons(case: Case, number: int) -> str:
    if not case.times:
        return ""
    at = case.times[1] / 1e9
    return (
        f'<p class="scripted buttons"><button type="button" data-goto="{number}">Show in the timeline</button>'
        f'<button type="button" data-logs-at="{at:.6f}">Node logs at {at:.3f} s</button></p>'
    )


def _window(case: Case) -> str:
    if not case.ops:
        return '<p class="empty">The check named no operations.</p>'
    rows = [_row(op) for op in sorted(case.ops, key=in_order)]
    title = f"<h4>The operations that decide it <span class=note>the {term('window')}</span></h4>"
    return title + table(_head, rows, "window", "The operations that decide it")


def _row(op: Shown, *, mark: bool = False) -> tuple[str, ...]:
    remarks = [r for r in ("assumed" if op.assumed else "", op.error, op.ext) if r and r != "null"]
    name = f"<b>{esc(op.text, 300)}</b>" if mark else esc(op.text, 300)
    return (
        str(op.invoke) if op.invoke is not None else "",
        seconds(op.started),
        seconds(op.ended),
        esc(op.process, 40),
        esc(op.node, 60),
        f"<code>{name}</code>",
        outcome_cell(op.outcome),
        esc(" · ".join(remarks), 300),
    )


def _history(run: Run, case: Case) -> str:
    """The sub-history of the failing key; where it is very long, the part around the window."""
    mine = case.of_key(run)
    if not mine:
        return ""
    rows = {op.row for op in case.ops if op.row is not None}
    cut = mine
    if len(mine) > KEY_ROWS:
        middle = next((i for i, op in enumerate(mine) if op.row in rows), 0)
        first = max(0, min(middle - KEY_ROWS // 2, len(mine) - KEY_ROWS))
        cut = mine[first : first + KEY_ROWS]
    body = [
        _row(shown_op({"invoke": op.invoke}, {op.invoke: op}, assumed=False), mark=op.row in rows)
        for op in cut
    ]
    kept = f", {len(cut):,} of them around the window" if len(cut) < len(mine) else ""
    title = f"All that happened to this key: {plural(len(mine), 'operation')}{kept}"
    return f"<details><summary>{esc(title)}</summary>{table(_head, body, 'window', title)}</details>"
