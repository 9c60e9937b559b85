"""A linearizability violation step by step: an order that fits as far as any does, the state after each step, and the
operation that cannot follow.

The order is the check's (`detail.linearizations` of its result, from `checkers/steps.py`); here it is only set out.
"""

from __future__ import annotations

from typing import Any, Final

from results.report.case import Case, Shown, shown_op
from results.report.data import Run, as_dict, as_int, as_list
from results.report.html import esc, plural, seconds, table
from results.report.ops import FAIL, canonical
from results.report.words import term

_last: Final = 8  # steps that stand open, the others fold away
_folded: Final = 400


def steps(run: Run, case: Case) -> str:
    """The panel; empty where the check left no order for this key."""
    found = _found(run, case)
    if found is None:
        return ""
    by_index = {op.invoke: op for op in run.ops.full} if run.ops is not None else {}
    order = [as_dict(step) for step in as_list(found.get("order"))]
    known = {as_int(o.get("invoke")): o for o in _operations(run, case)}

    def op_of(invoke: Any) -> Shown:
        number = as_int(invoke)
        return shown_op(known.get(number) or {"invoke": number}, by_index, assumed=False)

    rows = [
        _row(number, op_of(step.get("invoke")), str(step.get("state")))
        for number, step in enumerate(order, 1)
    ]
    states = [str(s) for s in as_list(found.get("could_be"))]
    more = as_int(found.get("could_be_more")) or 0
    stuck = op_of(found.get("stuck"))
    rest = f" or {plural(more, 'other state')}" if more > 0 else ""
    could = " or ".join(f"<b>{esc(s, 80)}</b>" for s in states) + rest
    head = ("#step", "#invoked", "process", "node", "operation", "state after it")
    early, late = rows[: -_last or None], rows[-_last:]
    if len(rows) <= _last:
        early, late = [], rows
    start = str(found.get("initial"))
    first = "" if early else f"<p class=note>It starts as <code>{esc(start, 80)}</code>.</p>"
    folded = ""
    if early:
        cut = early[-_folded:]
        title = f"The first {plural(len(early), 'step')}" + (
            f", the last {_folded} of them" if len(cut) < len(early) else ""
        )
        folded = (
            f"<details class=early><summary>{title}, from <code>{esc(start, 80)}</code> on</summary>"
            f"{table(head, cut, 'steps', title)}</details>"
        )
    who = f"process {stuck.process}" + (f" on {stuck.node}" if stuck.node else "")
    impossible = (
        f'<div class="impossible"><p><b>Impossible next:</b> <code>{esc(stuck.text, 200)}</code>'
        f" <span>{esc(who, 80)}, {seconds(stuck.started)} to {seconds(stuck.ended)}</span></p>"
        f"<p>It had to take effect while it ran, and whatever order is tried, the object can only have been"
        f" {could} by then.</p></div>"
    )
    return (
        f"<h4>Step by step <span class=note>a {term('linearization')} as far as there is one:"
        f" {plural(len(rows), 'operation')} in an order that fits</span></h4>"
        f"{folded}{first}{table(head, late, 'steps', 'Steps') if late else ''}{impossible}"
    )


def _found(run: Run, case: Case) -> dict[str, Any] | None:
    detail = as_dict(as_dict(run.checks.get(case.check)).get("detail"))
    for given in as_list(detail.get("linearizations")):
        if isinstance(given, dict) and canonical(given.get("key")) == canonical(case.key):
            return given
    return None


def _operations(run: Run, case: Case) -> list[dict[str, Any]]:
    """What the check itself tells of the key's operations, where the history does not."""
    anomaly = next((a for _, a in run.anomalies if canonical(a.get("key")) == canonical(case.key)), {})
    return [o for o in as_list(anomaly.get("window")) if isinstance(o, dict)]


def _row(number: int, op: Shown, state: str) -> tuple[str, ...]:
    start = op.started
    at = (
        seconds(start)
        if start is None
        else f'<a href="#time" data-seconds="{start / 1e9:.6f}">{seconds(start)}</a>'
    )
    # Such a failure is evidence: at that step the object held something else.
    failed = (
        f" <span class=note>failed: {esc(op.error or 'mismatch', 60)}</span>" if op.outcome == FAIL else ""
    )
    return (
        f"{number:,}",
        at,
        esc(op.process, 40),
        esc(op.node, 60),
        f"<code>{esc(op.text, 200)}</code>{failed}",
        f"<code>{esc(state, 80)}</code>",
    )
