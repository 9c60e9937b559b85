"""The life of a message, an element or an id: sent, acknowledged, seen where and by whom, missing where.

The history is read once more for the one key, with whole values: the lists that reads return are long and are kept
nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from harness.core.history import open_text
from results.report_case import Case
from results.report_data import Run, as_dict, as_int, as_list
from results.report_html import esc, json_text, plural, seconds, table
from results.report_ops import canonical

_adds: Final = frozenset(("enqueue", "add", "publish", "send", "put"))
_checks: Final = frozenset(("queue", "set", "log", "unique-ids"))
_shown: Final = 12  # sightings of one sort that are listed; all are counted
_large: Final = 32 * 1024 * 1024  # bytes of history
_lives: Final = 4  # panels of a larger one
_line_bytes: Final = 64 * 1024 * 1024


class Sight(msgspec.Struct, kw_only=True):
    """Something that happened to the element. `kind`: sent, acknowledged, failed, unknown, handed out, seen or
    missing. ns."""

    kind: str
    time: int
    process: str
    node: str
    f: str
    told: str


def life(run: Run, case: Case, number: int = 0) -> str:
    """The panel; empty for properties of no single element, and for all but the first violations where the
    history is so large that reading it for each would take long."""
    size = sum(p.stat().st_size for p in run.path.glob("history.jsonl*"))
    element = element_of(case, run) if number < _lives or size < _large else None
    if element is None:
        return ""
    sights = list(trace(run, case, element))
    if not sights:
        return ""
    listed: list[tuple[str, ...]] = []
    skipped = 0
    counts: dict[str, int] = {}
    total = {kind: sum(s.kind == kind for s in sights) for kind in ("seen", "missing")}
    for s in sights:
        counts[s.kind] = counts.get(s.kind, 0) + 1
        most = total.get(s.kind, 0)
        if most > _shown and _shown // 2 < counts[s.kind] <= most - _shown // 2:
            skipped += 1
            continue
        if skipped:
            listed.append(
                ("", "", "", "", f"<span class=note>and {plural(skipped, 'more such sight')}</span>")
            )
            skipped = 0
        listed.append(_row(s))
    head = ("what", "#at", "process", "node", "operation")
    name = esc(json_text(element[0]), 80)
    kinds = list(dict.fromkeys(s.kind for s in sights))
    said = ", ".join(kinds)
    return (
        f"<h4>The life of <code>{name}</code> <span class=note>{said}</span></h4>"
        f"{'' if kinds == ['handed out'] else _places(sights)}{table(head, listed, 'life', 'The life of the element')}"
    )


def element_of(case: Case, run: Run) -> tuple[Any] | None:
    """The element that a violation is about, in a tuple (it may be null); None where it is about none."""
    if case.check not in _checks:
        return None
    anomaly = next(
        (a for check, a in run.anomalies if check == case.check and a.get("explanation") == case.explanation),
        {},
    )
    ops = [o for o in as_list(anomaly.get("window")) if isinstance(o, dict)]
    for op in ops:
        if op.get("f") in _adds and op.get("value") is not None:
            return (op["value"],)
    for op in ops:
        result = op.get("result")
        if op.get("type") == "ok" and result is not None and not isinstance(result, list | dict):
            return (result,)
    return None


def trace(run: Run, case: Case, element: tuple[Any]) -> Iterator[Sight]:
    """What happened to the element, in order of time."""
    wanted, key = canonical(element[0]), canonical(case.key)
    named = {op.invoke for op in case.ops}
    opened: dict[Any, dict[str, Any]] = {}
    acknowledged: int | None = None
    for line in _lines(run):
        process = line.get("process")
        if process == "nemesis" or (case.key is not None and canonical(line.get("key")) != key):
            continue
        f, kind, value, time = (
            str(line.get("f")),
            line.get("type"),
            line.get("value"),
            as_int(line.get("time")),
        )
        if time is None:
            continue
        sight = Sight(
            kind="", time=time, process=str(process), node=str(line.get("node") or ""), f=f, told=""
        )
        if kind == "invoke":
            opened[process] = line
            if f in _adds and canonical(value) == wanted:
                sight.kind, sight.told = "sent", f"{f} {json_text(value)}"
                yield sight
            continue
        asked = opened.pop(process, {})
        if f in _adds:
            if canonical(asked.get("value")) != wanted:
                continue
            sight.kind = {"ok": "acknowledged", "fail": "failed"}.get(str(kind), "unknown")
            sight.told = f"{f} {json_text(asked.get('value'))} {kind}" + (
                f": {line['error']}" if line.get("error") else ""
            )
            acknowledged = time if sight.kind == "acknowledged" and acknowledged is None else acknowledged
            yield sight
        elif kind == "ok":
            yield from _met(sight, asked, value, wanted, acknowledged, named=asked.get("index") in named)


def _met(
    sight: Sight, asked: dict[str, Any], value: Any, wanted: bytes, acknowledged: int | None, *, named: bool
) -> Iterator[Sight]:
    """A completed operation that returned the element, or could have."""
    elements = _elements(value)
    final = " (final read)" if as_dict(asked.get("ext")).get("final") else ""
    if elements is None:
        if canonical(value) == wanted:
            sight.kind = "handed out" if sight.f == "generate" else "seen"
            sight.told = f"{sight.f} → {json_text(value)}"
            yield sight
        return
    times = sum(canonical(e) == wanted for e in elements)
    told = f"{sight.f} → {plural(len(elements), 'element')}{final}"
    begun = as_int(asked.get("time")) or 0
    if times:
        sight.kind = "seen"
        sight.told = f"{told}, it among them" + (f" {times} times" if times > 1 else "")
        yield sight
    elif (
        acknowledged is not None and begun > acknowledged and (named or final or not isinstance(value, dict))
    ):
        sight.kind, sight.told = "missing", f"{told}, it not among them"
        yield sight


def _elements(value: Any) -> list[Any] | None:
    """What a read returned: a list, or messages with their numbers; None for anything else."""
    if isinstance(value, list):
        return value
    messages = as_dict(value).get("messages")
    if isinstance(messages, list):
        return [m[1] if isinstance(m, list) and len(m) == 2 else m for m in messages]
    return None


def _lines(run: Run) -> Iterator[dict[str, Any]]:
    for name in ("history.jsonl", "history.jsonl.zst", "history.jsonl.gz", "journal.jsonl"):
        path = run.path / name
        if path.is_file():
            with open_text(path) as lines:
                for raw in lines:
                    if len(raw) > _line_bytes:
                        continue
                    try:
                        line = msgspec.json.decode(raw)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        continue
                    if isinstance(line, dict):
                        yield line
            return


def _row(s: Sight) -> tuple[str, ...]:
    return (
        f'<span class="k k-{s.kind.replace(" ", "-")}">{s.kind}</span>',
        f'<a href="#time" data-seconds="{s.time / 1e9:.6f}">{seconds(s.time)}</a>',
        esc(s.process, 40),
        esc(s.node, 60),
        f"<code>{esc(s.told, 200)}</code>",
    )


def _places(sights: list[Sight]) -> str:
    """By node: how often it was seen and missing there, and when last and first."""
    rows = []
    for node in sorted({s.node for s in sights if s.kind in ("seen", "missing")}):
        cells = [f"<b>{esc(node or 'no node', 60)}</b>"]
        for kind in ("seen", "missing"):
            times = [s.time for s in sights if s.node == node and s.kind == kind]
            when = (
                f"{seconds(times[0])} to {seconds(times[-1])}"
                if len(times) > 1
                else seconds(times[0])
                if times
                else ""
            )
            cells += [f"{len(times):,}", when]
        rows.append(cells)
    if not rows:
        return '<p class="empty">Nobody ever saw it.</p>'
    return table(
        ("through", "#seen", "when", "#missing", "when"), rows, "places", "Where it was seen and where not"
    )
