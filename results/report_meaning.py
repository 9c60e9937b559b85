"""Was the run meaningful? What was demanded of it, what operations came to, what each fault did and by what evidence.

A pass in which too little happened is shown as what it is: before all figures, in words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from harness.core.ledger import FaultRecord
from results.report_data import Run, as_dict, as_int, as_list, as_number
from results.report_html import (
    NONE,
    Html,
    count,
    esc,
    outcome_cell,
    outcome_names,
    plain,
    plural,
    seconds,
    section,
    span,
    table,
)
from results.report_ops import INFO, OK
from results.report_verdict import outcome_of, vacuous
from results.report_when import colour_of
from results.report_words import term

_codes: Final = {name: code for code, name in outcome_names.items()}
_rows: Final = 200  # of any table that a run can make long


def meaning(run: Run) -> str:
    """Whether the verdict means something: demands, outcomes, faults with their evidence, errors."""
    parts = [p for p in (_demands(run), _outcomes(run)) if p]
    body = _sentence(run) + (f'<div class="pair">{"".join(parts)}</div>' if parts else "")
    body += _faults(run) + _errors(run) + _holes(run)
    return section(
        "meaning",
        "Was it meaningful?",
        body,
        "A pass counts only where enough happened while the faults were in force.",
    )


def _sentence(run: Run) -> str:
    """What all the figures below come to."""
    face = outcome_of(run)
    rows = [as_dict(r) for r in as_list(as_dict(run.results.get("meaning")).get("rows"))]
    unmet = [str(r.get("what")) for r in rows if r.get("met") is not True]
    effective = [f for f in run.faults if f.effective]
    if vacuous(run):
        text = f"No. This pass is {{}}: {'; '.join(unmet) or 'too little happened'}. It says nothing about the system."
        return f'<p class="weighs no">{esc(text, 600).format(term("vacuous"))}</p>'
    if face == "unfinished" or not rows:
        told = "Nobody has weighed this run; what it left behind is below."
        return f'<p class="weighs">{told}</p>'
    if unmet:
        return f'<p class="weighs no">Not in all: {esc("; ".join(unmet), 600)}.</p>'
    if not run.faults:
        return (
            '<p class="weighs">Every demand is met, but no fault was injected: this says what the system does'
            " when nothing goes wrong, and nothing about what it survives.</p>"
        )
    families = ", ".join(sorted({f.family for f in effective}))
    return (
        f'<p class="weighs">Yes: every demand is met, and {len(effective):,} of {plural(len(run.faults), "fault")}'
        f" {'was' if len(effective) == 1 else 'were'} shown to have taken {term('effective', 'effect')}"
        f" ({esc(families, 200)}).</p>"
    )


def _demands(run: Run) -> str:
    demands = [r for r in as_list(as_dict(run.results.get("meaning")).get("rows")) if isinstance(r, dict)]
    rows = [
        (
            esc(r.get("what")),
            esc(count(r.get("value"))),
            esc(count(r.get("needed"))),
            '<span class="yes">met</span>' if r.get("met") is True else '<span class="no">not met</span>',
        )
        for r in demands[:_rows]
    ]
    head = ("demand", "#seen", "#needed", "")
    return f"<div>{table(head, rows, 'demands', 'Demands on the run')}</div>" if rows else ""


def _outcomes(run: Run) -> str:
    rows = []
    for f, given in list(as_dict(run.results.get("outcomes")).items())[:_rows]:
        numbers = [max(as_int(as_dict(given).get(k)) or 0, 0) for k in ("ok", "fail", "info")]
        whole = sum(numbers) or 1
        bar = "".join(
            f'<i class="b-{name}" style="width:{100 * n / whole:.2f}%"></i>'
            for name, n in zip(("ok", "fail", "info"), numbers, strict=True)
        )
        rows.append(
            (
                f"<b>{term('cas') if f == 'cas' else esc(f)}</b>",
                *(f"{n:,}" for n in numbers),
                f'<span class="bar" aria-hidden="true">{bar}</span>',
            )
        )
    figures = (Html(f"#{term(name)}") for name in ("ok", "fail", "info"))
    head = ("operation", *figures, "share")
    return f"<div>{table(head, rows, 'outcomes', 'Outcomes by operation')}</div>" if rows else ""


def _faults(run: Run) -> str:
    if not run.faults:
        if not (run.path / "faults.jsonl").exists() and not run.results:
            return '<p class="empty">The run left no ledger of faults.</p>'
        wanted = run.spec.get("faults")
        return (
            '<p class="empty">No fault was injected.</p>'
            if not wanted
            else ('<p class="empty">Faults were asked for, but the ledger holds none.</p>')
        )
    recovery = {str(r.get("fault")): r for r in as_list(run.results.get("recovery_s")) if isinstance(r, dict)}
    items = "".join(_fault(run, f, recovery.get(f.fault, {})) for f in run.faults[:_rows])
    more = len(run.faults) - _rows
    rest = f'<p class="empty">and {more:,} more faults</p>' if more > 0 else ""
    effective = sum(f.effective for f in run.faults)
    tally = f"{plural(len(run.faults), 'fault')} planned, {effective:,} shown to have taken effect"
    return f'<h3>Faults <span class="note">{tally}</span></h3><ol class="faults">{items}</ol>{rest}'


def overlapping(run: Run, fault: FaultRecord) -> int:
    """How many operations that ended ok were under way at some moment of the fault."""
    if run.ops is None or fault.applied is None:
        return 0
    ops, until = run.ops, run.until if fault.undone is None else fault.undone
    end = ops.start + ops.duration.clip(min=0)
    return int(np.count_nonzero((ops.outcome == OK) & (ops.start <= until) & (end >= fault.applied)))


def _back(recovery: dict[str, Any]) -> str:
    """How long after the fault's end operations succeeded again, anywhere and through each node."""
    first = as_number(recovery.get("seconds"))
    if first is None:
        return ""
    nodes = ", ".join(
        f"through {plain(node, 40)} in {s:g} s"
        for node, given in list(as_dict(recovery.get("nodes")).items())[:12]
        if (s := as_number(given)) is not None
    )
    return f"recovered in {first:g} s" + (f", {nodes}" if nodes else "")


def _fault(run: Run, fault: FaultRecord, recovery: dict[str, Any]) -> str:
    if fault.applied is None:
        when = f"planned at {seconds(fault.planned)}, never applied"
    elif fault.undone is None:
        when = f"{seconds(fault.applied)} {NONE} not undone in this ledger"
    else:
        length = span(max(fault.undone - fault.applied, 0))
        when = f"{seconds(fault.applied)} {NONE} {seconds(fault.undone)} ({length})"
    facts = []
    if fault.applied is not None:
        met = overlapping(run, fault)
        facts.append(f"{plural(met, 'operation')} ended ok meanwhile")
    if back := _back(recovery):
        facts.append(back)
    told = f'<p class="met">{esc("; ".join(facts), 600)}</p>' if facts else ""
    effect = (
        '<span class="yes">took effect</span>'
        if fault.effective
        else '<span class="no">no effect shown</span>'
    )
    evidence = "".join(
        f'<li><span class="label">{esc(e.get("phase"))}</span><span>{esc(e.get("says"), 600)}</span></li>'
        for e in fault.evidence[:12]
    )
    failed = f'<p class="no">apply failed: {esc(fault.error, 600)}</p>' if fault.error else ""
    target = f":{fault.target}" if fault.target else ""
    glyph = f'<span class="glyph" aria-hidden="true">{esc(fault.glyph[:2])}</span>'
    return (
        f'<li class="c-{colour_of(fault)}">{glyph}<div>'
        f"<p><b>{esc(fault.label or fault.family)}</b> <code>{esc(fault.family + target)}</code> {effect}"
        f'<span class="when">{esc(fault.fault)} · {esc(when)}</span></p>'
        f'<p>{esc(fault.says, 600)}</p>{told}{failed}<ul class="evidence">{evidence}</ul></div></li>'
    )


def _errors(run: Run) -> str:
    found = [e for e in as_list(run.results.get("errors")) if isinstance(e, dict)]
    if not found:
        return ""
    rows = [
        (
            outcome_cell(_codes.get(str(e.get("type")), INFO)),
            esc(e.get("f")),
            f"<code>{esc(e.get('error'), 300)}</code>",
            esc(count(e.get("count"))),
        )
        for e in found[:_rows]
    ]
    return "<h3>Errors that clients met</h3>" + table(
        ("outcome", "operation", "error", "#count"), rows, "errors", "Errors"
    )


def _holes(run: Run) -> str:
    found = [h for h in as_list(run.results.get("holes")) if isinstance(h, dict)]
    items = "".join(
        f"<details><summary><code>{esc(h.get('exception'), 300)}</code> {esc(count(h.get('count')))} times"
        f"</summary><pre>{esc(h.get('traceback'), 8000)}</pre></details>"
        for h in found[:20]
    )
    if not items:
        return ""
    return (
        '<h3>Holes in the client\'s error table <span class="note">exceptions that it does not know; they'
        f" count as info</span></h3>{items}"
    )
