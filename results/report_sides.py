"""Holders, leaders or nodes side by side: what each did to the violated object, in one order of time.

Split brain is two writers at work at once, and looks like it: two columns, both filled. For locks and elections
the columns are the holders, from grant to release; otherwise the nodes whose clients took part.
"""

from __future__ import annotations

from typing import Final

import msgspec

from results.report_case import Case
from results.report_cluster import overlapping_leaders
from results.report_data import Run
from results.report_html import esc, op_text, outcome_names, plural, seconds, shape, span, table
from results.report_ops import FAIL, OK, FullOp

_grants: Final = frozenset(("acquire", "campaign", "lock"))
_returns: Final = frozenset(("release", "resign", "unlock"))
_columns: Final = 4
_rows: Final = 40


class Hold(msgspec.Struct, kw_only=True):
    """One holder's time, as its own operations show it: from the grant's completion to the invocation of its
    release, or of what it last did. ns."""

    process: str
    node: str
    start: int
    end: int
    token: str
    grant: int  # index of its invocation


def sides(run: Run, case: Case) -> str:
    """The panel; empty where there is nothing to set side by side."""
    ops = case.of_key(run)
    if any(op.f in _grants for op in ops):
        return _holders(case, ops)
    return _nodes(run, case, ops)


def holds(ops: list[FullOp]) -> list[Hold]:
    """Who held the lock when, from the operations on it."""
    out: list[Hold] = []
    now: dict[str, Hold] = {}
    for op in ops:
        process = str(op.process)
        if op.f in _grants:
            now.pop(process, None)
            if op.outcome == OK and op.ended is not None:
                held = Hold(
                    process=process,
                    node=op.node or "",
                    start=op.ended,
                    end=op.ended,
                    token=op.answered,
                    grant=op.invoke,
                )
                now[process] = held
                out.append(held)
        elif process in now:
            now[process].end = max(now[process].end, op.started)
            if op.f in _returns:
                del now[process]
    return out


def _holders(case: Case, ops: list[FullOp]) -> str:
    """The holders that the violation names, each a column."""
    times = case.times
    if times is None:
        return ""
    every, named, invoked = holds(ops), {op.process for op in case.ops}, {op.invoke for op in case.ops}
    mine = [h for h in every if h.grant in invoked]
    if len(mine) < 2:  # it names what was done, not the grants
        mine = [h for h in every if h.process in named and h.start <= times[1] and h.end >= times[0]]
    mine = sorted(mine, key=lambda h: h.start)[-_columns:]
    if not mine:
        return ""
    head = [f"{h.node or '?'} · process {h.process}, token {h.token}" for h in mine]
    begin, end = min(h.start for h in mine), max(h.end for h in mine)
    rows = []
    for op in ops:
        place = next((i for i, h in enumerate(mine) if h.process == str(op.process) and _during(op, h)), None)
        if place is not None:
            at = op.ended if op.f in _grants and op.ended is not None else op.started
            held = [h.start <= at <= h.end for h in mine]
            rows.append(_row(case, op, place, held, at))
    both = [
        (max(a.start, b.start), min(a.end, b.end))
        for i, a in enumerate(mine)
        for b in mine[i + 1 :]
        if max(a.start, b.start) < min(a.end, b.end)
    ]
    told = (
        f"{plural(len(mine), 'holder')} from {seconds(begin)} to {seconds(end)};"
        f" both at work at once for {span(max(b - a for a, b in both))}, from {seconds(min(a for a, _ in both))}"
        if both
        else f"{plural(len(mine), 'holder')} from {seconds(begin)} to {seconds(end)}"
    )
    return _table("Holders side by side", told, head, rows)


def _during(op: FullOp, hold: Hold) -> bool:
    return hold.start <= (op.ended if op.ended is not None else op.started) and op.started <= hold.end


def _nodes(run: Run, case: Case, ops: list[FullOp]) -> str:
    """The key's operations around the violation by who answered them: the primary, where answers tell it, else the
    node that the client speaks to. With it who called themselves leader meanwhile."""
    times = case.times
    if times is None:
        return ""
    together = [
        (start, end, who)
        for start, end, who in overlapping_leaders(run.nodes)
        if start <= times[1] and end >= times[0]
    ]
    near = [op for op in ops if op.outcome != FAIL]
    inside = [op for op in near if op.started <= times[1] and (op.ended or times[1]) >= times[0]]
    primaries = list(dict.fromkeys(p for op in inside if (p := _primary(op))))
    if len(primaries) > 1:
        head, told = primaries, "operations by the primary that answered them"
        title = "Two primaries side by side" if len(primaries) == 2 else "Primaries side by side"
    else:
        head = list(dict.fromkeys(op.node for op in case.ops if op.node))
        head = sorted(head + [n for _, _, who in together for n, _ in who if n not in head])
        told = "operations that did not fail, by the node that their client speaks to"
        title = "Two sides at once" if together else "Side by side"
    head = head[:_columns]
    if len(head) < 2:
        return ""
    sides_of = [(op, _primary(op) if len(primaries) > 1 else op.node or "") for op in inside]
    rows = [_row(case, op, head.index(side), [], op.started) for op, side in sides_of if side in head]
    if together:
        start, end, who = together[0]
        names = " and ".join(n for n, _ in who)
        told = f"{names} both called themselves leader from {seconds(start)} to {seconds(end)}; {told}"
    return _table(title, told, [f"primary {h}" for h in head] if len(primaries) > 1 else head, rows)


def _primary(op: FullOp) -> str:
    """The primary that an answer names, or an empty text."""
    if "primary" not in op.ext:
        return ""
    try:
        return str(msgspec.json.decode(op.ext).get("primary") or "")
    except (msgspec.DecodeError, AttributeError):
        return ""


def _row(case: Case, op: FullOp, place: int, held: list[bool], at: int) -> tuple[bool, int, list[str], bool]:
    """(whether the violation names it, its column, its cells, whether several held)."""
    named = any(op.invoke == shown.invoke for shown in case.ops)
    text = esc(op_text(op.f, op.asked, op.answered, op.outcome), 48)
    sign = shape(outcome_names[op.outcome], outcome_names[op.outcome])
    name = f"<b>{text}</b>" if named else text
    cell = f'<span class="outcome o-{outcome_names[op.outcome]}">{sign}</span><code>{name}</code>'
    cells = [f'<a href="#time" data-seconds="{at / 1e9:.6f}">{seconds(at)}</a>', cell]
    return named, place, cells, sum(held) > 1


def _table(title: str, told: str, head: list[str], rows: list[tuple[bool, int, list[str], bool]]) -> str:
    if not rows:
        return ""
    cut = rows
    if len(rows) > _rows:  # the named ones and what is around them
        kept = {i for i, row in enumerate(rows) if row[0]}
        around = sorted({j for i in kept for j in range(i - 4, i + 5) if 0 <= j < len(rows)})
        cut = [rows[j] for j in (around or range(len(rows)))][:_rows]
        told += f"; {len(cut)} of {len(rows):,} shown, those around the violation"
    body = []
    for named, place, (at, cell), both in cut:
        cells = ["", *["" for _ in head]]
        cells[0] = at + (' <span class="tag2">both</span>' if both else "")
        cells[place + 1] = f'<span class="named">{cell}</span>' if named else cell
        body.append(cells)
    grid = table(["#at", *head], body, "sides", title)
    return f"<h4>{title} <span class=note>{esc(told, 400)}</span></h4>{grid}"
