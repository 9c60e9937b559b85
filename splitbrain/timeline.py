"""A fault schedule on a time line, for a terminal: a row for each node that is hit by name, and one for
each family where the nodes are chosen later, by role or at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.text import Text

from nemesis.schedule import Step
from nemesis.targets import by_name

_COLOURS: Final = {"network": "blue", "process": "red", "clock": "magenta", "disk": "yellow"}
_QUIET: Final = "·"
_LEAST: Final = 20  # columns

Look = tuple[str, str]  # glyph and colour role of a family


def timeline(steps: Sequence[Step], looks: Mapping[str, Look], time_s: float, width: int) -> list[Text]:
    """The lines: an axis in seconds, the rows, and what the glyphs mean.

    Steps that wait for something have no time of their own; they are listed below, not drawn.
    """
    drawn = [s for s in steps if s.when is None]
    rows: dict[str, list[Step]] = {}
    for step in drawn:
        for name in by_name(step.target) or (step.family,):
            rows.setdefault(name, []).append(step)
    margin = max(map(len, rows), default=0) + 2
    columns = max(_LEAST, width - margin)
    lines = [Text(" " * margin + _axis(time_s, columns), style="dim")] if rows else []
    lines += [Text(f"{name:<{margin}}") + _row(rows[name], looks, time_s, columns) for name in sorted(rows)]
    seen = dict.fromkeys(s.family for s in drawn)
    if seen:
        words = ", ".join(f"{looks[family][0]} {family}" for family in seen)
        lines.append(Text(f"{' ' * margin}{words}", style="dim"))
    return lines


def condition(step: Step) -> str:
    """What a step waits for, in words: empty where it waits for nothing.

    >>> condition(Step(1, 0.5, 2, "kill", "one", when={"leader": "any"}))
    'when a node becomes leader'
    """
    when = step.when
    if when is None:
        return ""
    if "leader" in when:
        return f"when {'a node' if when['leader'] == 'any' else when['leader']} becomes leader"
    if "ops" in when:
        return f"when {when['ops']} operations have begun"
    where = "a node" if when.get("node", "any") == "any" else when["node"]
    return f"when {where} logs {when['log']!r}"


def _axis(time_s: float, columns: int) -> str:
    """`0s        10s       20s`, as many marks as there is room for."""
    marks = max(1, columns // 9)
    every = next(
        (n for n in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600) if time_s / n <= marks), 3600 * 24
    )
    line = [" "] * columns
    at = 0.0
    while at <= time_s:
        place, label = int(at / time_s * columns), f"{at:g}s"
        if place + len(label) <= columns:
            line[place : place + len(label)] = label
        at += every
    return "".join(line).rstrip()


def _row(steps: Iterable[Step], looks: Mapping[str, Look], time_s: float, columns: int) -> Text:
    cells = [(_QUIET, "dim")] * columns
    for step in steps:
        glyph, role = looks[step.family]
        begin = int(step.at_s / time_s * columns)
        end = max(begin + 1, round((step.at_s + step.hold_s) / time_s * columns))
        for place in range(begin, min(end, columns)):
            cells[place] = (glyph[:1], _COLOURS.get(role, "cyan"))
    return Text.assemble(*cells)
