"""Two runs side by side."""

from __future__ import annotations

from results.compare import Comparison, Line, change, shown
from results.index import Row
from results.report.html import esc, plural, section
from results.web.html import address, compare_address, frame, sign


def compare_page(a: Row, b: Row, found: Comparison) -> str:
    """The page: what to know first, then each section with both sides; what is equal can be hidden."""
    cards = "".join(
        f'<div class="side"><h2><span class="letter">{letter}</span> {sign(side["state"])}</h2>'
        f'<p><a href="{address("run", row.path)}">{esc(side["title"], 120)}</a> '
        f"<code>{esc(side['run'], 40)}</code></p></div>"
        for letter, row, side in (("A", a, found.a), ("B", b, found.b))
    )
    swap = compare_address(b.path, a.path)
    sentences = "".join(f"<li>{esc(sentence, 600)}</li>" for sentence in found.summary)
    body = "".join(
        section(
            one.name,
            one.title,
            _table(one.lines),
            plural(one.differing, "difference") if one.differing else "equal",
        )
        for one in found.sections
        if one.lines
    )
    return frame(
        f"{found.a['run']} and {found.b['run']}",
        f'<section class="list"><div class="bar-top"><h1 class="title">Compare</h1>'
        f'<label class="scripted"><input type="checkbox" id="only" checked> only what differs</label> <a'
        f' href="{swap}">Swap</a></div>'
        f'<div class="pair sides">{cards}</div><ul class="summary">{sentences}</ul></section>{body}',
        tab="Runs",
        script="web.js",
    )


def _table(lines: list[Line]) -> str:
    rows = "".join(
        f'<tr class="{"same" if line.same else "other"}"><th scope="row">{esc(line.name, 200)}</th>'
        f"<td>{esc(shown(line.a, line.name))}</td>"
        f'<td>{esc(shown(line.b, line.name))}</td><td class="num">{esc(change(line))}</td></tr>'
        for line in lines
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="both sides"><table class="compared">'
        '<thead><tr><th scope="col"></th>'
        '<th scope="col">A</th><th scope="col">B</th><th scope="col" class="num">Change</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
