"""The operations that decide a violation as bars in lanes, drawn once as SVG.

The axis is the *order* of invocations and completions, not their time: operations that decide a case
are often microseconds long and seconds apart. Overlap, which is all that matters to
linearizability, is kept exactly.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from results.report.case import Case, in_order
from results.report.html import esc, outcome_names, plain, plural, seconds

PICTURE_OPS: Final = 40
_char: Final = 7.3  # px of the picture's type, a little more than any monospaced face at 12 px takes
_gap: Final = 15.0
_lane: Final = 34
_left: Final = 92.0
_label_chars: Final = 34


def picture(case: Case) -> str:
    """The window as bars in lanes by process, along the order of events."""
    ops = sorted(case.ops, key=in_order)[:PICTURE_OPS]
    ops = [op for op in ops if op.invoke is not None]
    if len(ops) < 2:
        return ""
    events = sorted(
        {op.invoke for op in ops if op.invoke is not None}
        | {op.complete for op in ops if op.complete is not None}
    )
    labels = [plain(op.text, _label_chars) for op in ops]
    widths = [len(label) * _char + 18 for label in labels]
    x = {events[0]: _left}
    for before, event in pairwise(events):
        x[event] = max(
            [x[before] + _gap]
            + [x[op.invoke or 0] + w for op, w in zip(ops, widths, strict=True) if op.complete == event]
        )
    right = max(
        [x[events[-1]] + 2 * _gap]
        + [x[op.invoke or 0] + w + _gap for op, w in zip(ops, widths, strict=True) if op.complete is None]
    )
    lanes = list(dict.fromkeys(op.process for op in ops))
    height = len(lanes) * _lane + 30
    parts = []
    for number, process in enumerate(lanes):
        y = number * _lane + 8
        node = next((op.node for op in ops if op.process == process), "")
        parts.append(
            f'<text class="lane" x="0" y="{y + 17}">{esc(node, 8)} · {esc(process, 8)}</text>'
            f'<line x1="{_left:.0f}" x2="{right:.0f}" y1="{y + 13}" y2="{y + 13}"/>'
        )
    for op, label in zip(ops, labels, strict=True):
        y = lanes.index(op.process) * _lane + 8
        start = x[op.invoke or 0]
        end = x[op.complete] if op.complete is not None else right
        kind = f"o-{outcome_names.get(op.outcome, 'info')}{' assumed' if op.assumed else ''}"
        bar = (
            f'<rect x="{start:.1f}" y="{y}" width="{end - start:.1f}" height="26" rx="3"/>'
            if op.complete is not None
            else f'<path d="M{end:.1f} {y}H{start:.1f}v26H{end:.1f}"/>'  # open: it never ended
        )
        parts.append(
            f'<g class="{kind}"><title>{esc(op.text, 300)}</title>{bar}'
            f'<text x="{start + 9:.1f}" y="{y + 17}">{esc(label)}</text></g>'
        )
    times = case.times
    if times:
        base = height - 6
        parts.append(
            f'<text class="axis" x="{_left:.0f}" y="{base}">{seconds(times[0])}</text>'
            f'<text class="axis" x="{right:.0f}" y="{base}" text-anchor="end">'
            f"in order, to {seconds(times[1])}</text>"
        )
    says = (
        f"{plural(len(ops), 'operation')} of {plural(len(lanes), 'process').replace('processs', 'processes')}"
    )
    says += " in order; the table below lists them"
    return (
        '<div class="scroll picture" tabindex="0" role="region" aria-label="picture of the operations">'
        f'<svg width="{right + 4:.0f}" height="{height}" role="img" aria-label="{esc(says)}">'
        f"{''.join(parts)}</svg></div>"
    )
