"""Trends over days: verdicts, latency and elections as pictures, and the same figures as tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from results.browse import Day, Found, Query, Trend
from results.index import STATES
from results.report.html import NONE, esc, plural, section, table
from results.web.html import frame, number
from results.web.pages import filters

_width: Final = 1176.0
_left: Final = 52.0
_height: Final = 132.0
_foot: Final = 20.0
_most_bar: Final = 48.0
_most_days: Final = 120
_hatched: Final = {"invalid": "rising", "error": "falling", "unfinished": "falling"}  # not by colour alone
_hatches: Final = "".join(
    f'<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate({turn})">'
    '<rect class="hatch" width="2" height="6"/></pattern>'
    for name, turn in (("rising", 45), ("falling", -45))
)


def trends_page(found: Trend, facets: Found, asked: Query) -> str:
    """The page; `facets` is for its filters."""
    head = f'<div class="bar-top"><h1 class="title">Trends</h1></div>{filters(facets, asked, "/trends")}'
    if not found.days:
        return frame(
            "Trends",
            f'<section class="list">{head}<p class="empty">No run matches.</p></section>',
            tab="Trends",
        )
    days = found.days[-_most_days:]
    note = f"the latest {_most_days} of {len(found.days)} days; " if len(days) < len(found.days) else ""
    pictures = (
        section("verdicts", "Verdicts", _key() + _bars(days), f"{note}runs a day")
        + section("latency", "Latency", _lines(days, (("p50", lambda d: d.p50_ms), ("p99", lambda d: d.p99_ms)), "ms"),
                  "median over the day's runs of each run's p50 and p99, in ms")
        + section("elections", "Elections", _lines(days, (("elections", lambda d: d.elections),), ""),
                  "median over the day's runs of elections in each run")
    )  # fmt: skip
    tables = section("days", "Days", _table("Day", list(reversed(days)))) + section(
        "groups", "By system and workload", _table("What ran", found.groups)
    )
    return frame("Trends", f'<div class="list">{head}</div>{pictures}{tables}', tab="Trends", script="web.js")


def _table(name: str, groups: Sequence[Day]) -> str:
    heads = (
        name,
        "#Runs",
        *(f"#{state}" for state in STATES),
        "#p50 ms",
        "#p99 ms",
        "#Elections",
        "#Operations/s",
    )
    rows = [
        (
            esc(g.name, 120),
            number(g.runs),
            *(f"<b class=v-{s}>{g.states[s]}</b>" if g.states.get(s) else NONE for s in STATES),
            number(g.p50_ms, 1),
            number(g.p99_ms, 1),
            number(g.elections, 1),
            number(g.rate),
        )
        for g in groups
    ]
    return table(heads, rows, "trend", name)


def _key() -> str:
    names = "".join(f'<span class="b-{s} {_hatched.get(s, "")}"><i></i>{s}</span>' for s in STATES)
    return f'<p class="key">{names}</p>'


def _x(index: int, count: int) -> float:
    return _left + (index + 0.5) * (_width - _left) / count


def _frame(days: Sequence[Day], top: float, title: str, body: str) -> str:
    """Axes and days around a picture; `top` is what the height stands for."""
    labels = []
    every = max(1, math.ceil(len(days) / 12))
    for i, day in enumerate(days):
        if i % every == 0:
            labels.append(
                f'<text x="{_x(i, len(days)):.1f}" y="{_height + 15:.0f}"'
                f' text-anchor="middle">{esc(day.name[5:], 12)}</text>'
            )
    for share in (0.0, 0.5, 1.0):
        y = _height - share * (_height - 12)
        labels.append(
            f'<line x1="{_left}" x2="{_width}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_left - 8}" y="{y + 4:.1f}" text-anchor="end">{share * top:,.4g}</text>'
        )
    return (
        f'<svg class="trend-plot" viewBox="0 0 {_width:.0f} {_height + _foot:.0f}" role="img"'
        f' aria-label="{esc(title)}">'
        f"{''.join(labels)}{body}</svg>"
    )


def _bars(days: Sequence[Day]) -> str:
    most = max(day.runs for day in days)
    top = float(most + most % 2)
    wide = min(_most_bar, 0.72 * (_width - _left) / len(days))
    parts = []
    for i, day in enumerate(days):
        y = _height
        boxes = []
        for state in STATES:
            n = day.states.get(state, 0)
            tall = n / top * (_height - 12)
            y -= tall
            if n:
                at = f'x="{_x(i, len(days)) - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall:.1f}"'
                boxes.append(f'<rect class="b-{state}" {at}/>')
                if state in _hatched:
                    boxes.append(f'<rect fill="url(#{_hatched[state]})" {at}/>')
        said = ", ".join(f"{n} {state}" for state, n in day.states.items())
        parts.append(
            f"<g><title>{esc(day.name)}: {plural(day.runs, 'run')}, {esc(said)}</title>{''.join(boxes)}</g>"
        )
    return _frame(
        days,
        top,
        "Runs of each verdict by day; the figures are in the table below",
        f"<defs>{_hatches}</defs>" + "".join(parts),
    )


def _lines(
    days: Sequence[Day], series: Sequence[tuple[str, Callable[[Day], float | None]]], unit: str
) -> str:
    known = [v for _, of in series for day in days if (v := of(day)) is not None]
    if not known:
        return '<p class="empty">No run says.</p>'
    top = _round_up(max(known))
    parts = []
    for n, (name, of) in enumerate(series):
        path, pen, dots = [], "M", []
        last: tuple[float, float] | None = None
        for i, day in enumerate(days):
            value = of(day)
            if value is None:
                pen = "M"
                continue
            x, y = _x(i, len(days)), _height - value / top * (_height - 12)
            path.append(f"{pen}{x:.1f} {y:.1f}")
            said = f"{esc(day.name)}: {name} {value:,.4g} {unit}".rstrip()
            dots.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4"><title>{said}</title></circle>')
            pen, last = "L", (x, y)
        if last is not None:
            x, y = min(last[0] + 9, _width - 60), max(last[1] - 7, 11)
            label = f'<text class="name" x="{x:.1f}" y="{y:.1f}">{name}</text>'
            parts.append(f'<g class="line-{n}"><path d="{"".join(path)}"/>{"".join(dots)}{label}</g>')
    return _frame(days, top, "By day; the figures are in the table below", "".join(parts))


def _round_up(value: float) -> float:
    """The next round number: few digits times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(
        next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.9999)
    )
