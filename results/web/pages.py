"""The list of runs, a run's page, and the list of campaigns, as HTML of rows and of what a directory holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from results.browse import FILTERS, Found, Query
from results.index import Row
from results.report_html import NONE, esc, plural
from results.web.html import (
    address,
    compare_address,
    frame,
    name_of,
    number,
    options,
    query,
    sign,
    size,
    when,
)

StateOf = Callable[[Row], str]
_heads: Final = (  # (column, sort, words, kind)
    ("", "", '<span class="unseen">Compare</span>', "pick"),
    ("verdict", "state", "Verdict", ""),
    ("run", "system", "Run", ""),
    ("faults", "faults", "Faults", "faults wide-only"),
    ("started", "started", "Started (UTC)", ""),
    ("ops", "ops", "Operations", "num wide-only"),
    ("seconds", "seconds", "Seconds", "num wide-only"),
    ("p99", "p99_ms", "p99 ms", "num"),
    ("elections", "elections", "Elections", "num wide-only"),
)
_all: Final = {
    "state": "any verdict",
    "system": "any system",
    "version": "any version",
    "workload": "any workload",
    "fault": "any fault",
    "provider": "any provider",
}
_shown_faults: Final = 2


def runs_page(found: Found, asked: Query, root: Path, state_of: StateOf) -> str:
    """The list, its filters, and the choice of two to compare."""
    base = {k: v for k, v in msgspec.structs.asdict(asked).items() if v != getattr(Query(), k)}
    base.pop("page", None)
    if not found.all:
        return frame(
            "Runs",
            '<section><h1 class="title">No runs yet</h1>'
            f"<p class=reason>{esc(root)} holds none. Start one with <code>splitbrain run</code>;"
            " it shows here from its first second.</p></section>",
            tab="Runs",
        )
    body = (
        '<section class="list" aria-label="Runs"><div class="bar-top"><h1 class="title">Runs</h1>'
        '<form id="compare" action="/compare" class="compare"><button>Compare two'
        "</button></form>"
        f"</div>{filters(found, asked)}<div"
        f" id=listed>{_table(found, asked, base, state_of)}{_pager(found, base)}</div>"
        '<p class="keys-help scripted"><kbd>/</kbd> search <kbd>j</kbd><kbd>k</kbd> next, previous'
        " <kbd>Enter</kbd> open <kbd>x</kbd> choose <kbd>c</kbd> compare</p></section>"
    )
    return frame("Runs", body, tab="Runs", script="web.js")


def filters(found: Found, asked: Query, action: str = "/") -> str:
    """The form that narrows what is listed; works without script."""
    selects = []
    for name in FILTERS:
        values = list(found.facets.get(name, ()))
        chosen = getattr(asked, name)
        if chosen and chosen not in {value for value, _ in values}:
            values.append((chosen, 0))
        if len(values) < 2 and not chosen:
            continue
        choices = [("", _all[name]), *((value, f"{value} ({count})") for value, count in values)]
        selects.append(
            f'<select name="{name}"'
            f' aria-label="{name}"{" class=set" if chosen else ""}>{options(choices, chosen)}</select>'
        )
    keep = "".join(
        f'<input type="hidden" name="{name}" value="{esc(getattr(asked, name))}">'
        for name in ("sort", "order")
        if getattr(asked, name) != getattr(Query(), name)
    )
    return (
        f'<form id="filters" class="filters" action="{action}" role="search">'
        f'<input type="search" name="q" value="{esc(asked.q, 200)}" placeholder="Search" aria-label="Search"'
        f' maxlength="200" autocomplete="off" spellcheck="false">{"".join(selects)}{keep}'
        f'<button class="unscripted">Apply</button><a class="clear" href="{action}">Clear</a></form>'
    )


def _table(found: Found, asked: Query, base: Mapping[str, Any], state_of: StateOf) -> str:
    if not found.rows:
        return '<p class="empty" role="status">No run matches. <a href="/">Show all of them</a></p>'
    heads = []
    for _, sort, words, kind in _heads:
        if not sort:
            heads.append(f'<th scope="col" class="{kind}">{words}</th>')
            continue
        current = asked.sort == sort
        order = (
            ("asc" if asked.order == "desc" else "desc")
            if current
            else "asc"
            if sort in ("system", "state")
            else "desc"
        )
        arrow = f' aria-sort="{"ascending" if asked.order == "asc" else "descending"}"' if current else ""
        href = query(base, sort=sort, order=order)
        heads.append(f'<th scope="col" class="{kind}"{arrow}><a href="{href}">{words}</a></th>')
    rows = "".join(_row(row, state_of(row)) for row in found.rows)
    return (
        f'<p class="note" role="status" id="count">{plural(found.total, "run")}'
        f"{'' if found.total == found.all else f' of {found.all:,}'}</p>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table class="runs"><thead>'
        f"<tr>{''.join(heads)}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(row: Row, state: str) -> str:
    families = [f for f in row.faults.split(",") if f]
    more = (
        f" <span class=more>+{len(families) - _shown_faults}</span>" if len(families) > _shown_faults else ""
    )
    faults = esc(", ".join(families[:_shown_faults])) or NONE
    where = " · ".join(filter(None, (row.run, row.provider, plural(row.nodes, "node") if row.nodes else "")))
    reason = row.reason if state not in ("running", "cut") else ""
    pick = f'name="r" value="{esc(row.path)}" aria-label="compare {esc(row.run, 40)}"'
    what = (
        f'<a class="open" href="{address("run", row.path)}">{esc(name_of(row), 120)}</a>'
        f'<span class="where">{esc(where, 120)}</span><span class="why"'
        f' title="{esc(reason, 600)}">{esc(reason, 300)}</span>'
    )
    cells = (
        f'<input type="checkbox" form="compare" {pick}>',
        sign(state),
        what,
        f'<span title="{esc(row.faults.replace(",", ", "), 400)}">{faults}{more}</span>',
        when(row.started),
        number(row.ops),
        number(row.seconds, 1),
        number(row.p99_ms, 1),
        number(row.elections),
    )
    tds = "".join(_td(kind, cell) for (_, _, _, kind), cell in zip(_heads, cells, strict=True))
    return f'<tr data-state="{state}">{tds}</tr>'


def _td(kind: str, cell: str) -> str:
    return f'<td class="{kind}">{cell}</td>' if kind else f"<td>{cell}</td>"


def _pager(found: Found, base: Mapping[str, Any]) -> str:
    if found.pages == 1:
        return ""
    links = []
    words = ("Before", "After") if base.get("sort") else ("Newer", "Older")
    for word, page, rel in zip(words, (found.page - 1, found.page + 1), ("prev", "next"), strict=True):
        if 1 <= page <= found.pages:
            links.append(f'<a rel="{rel}" href="{query(base, page=page)}">{word}</a>')
        else:
            links.append(f'<span class="off">{word}</span>')
    at = f"<span>page {found.page} of {found.pages}</span>"
    return f'<nav class="pager" aria-label="Pages of runs">{links[0]}{at}{links[1]}</nav>'


def run_page(row: Row, state: str, files: Sequence[tuple[str, int]], before: Row | None) -> str:
    """A run: its report in a frame of its own, or what goes on; and its files."""
    names = {name for name, _ in files}
    listed = "".join(
        f'<li><a href="{address("file", row.path, *name.split("/"))}">{esc(name, 200)}</a><span>{size(n)}</span></li>'
        for name, n in files
    )
    links = []
    if "report.html" in names:
        links.append(f'<a href="{address("file", row.path, "report.html")}">Report alone</a>')
    if before is not None:
        links.append(f'<a href="{compare_address(before.path, row.path)}">Compare with the run before</a>')
    head = (
        f'<div class="run-head"><h1>{sign(state)} <span>{esc(name_of(row), 120)}</span> '
        f'<code>{esc(row.run, 40)}</code></h1><a class="back" href="/">← All runs</a>'
        f'<div class="run-links">{"".join(links)}<details class="files">'
        f"<summary>{plural(len(files), 'file')}</summary>"
        f"<ul>{listed}</ul></details></div></div>"
    )
    if state in ("running", "cut"):
        return frame(name_of(row), head + live_part(row, state), tab="Runs", script="live.js")
    if "report.html" in names:
        body = (
            f'<iframe class="report" title="Report of run {esc(row.run, 40)}" sandbox="allow-scripts"'
            f' src="{address("file", row.path, "report.html")}"></iframe>'
        )
        return frame(name_of(row), head + body, tab="Runs", wide=True)
    body = (
        f'<p class="reason">{esc(row.reason)}</p><p class="empty">There is no report in its directory;'
        f" <code>splitbrain report {esc(row.run, 40)}</code> writes it.</p>"
    )
    return frame(name_of(row), head + body, tab="Runs")


def live_part(row: Row, state: str) -> str:
    """The places that the script fills, from the stream of the run."""
    where = {
        "cut": "The run has no results and nothing of it is alive: it was killed. What it wrote until then:"
    }.get(state, "")
    left = f'<p class="reason" id="note">{esc(where)}</p>'
    run = esc(row.run, 40)
    again = (
        f"<code>splitbrain check {run}</code> judges its journal,"
        f" <code>splitbrain heal {run}</code> undoes what it left."
    )
    hint = f'<p class="empty" id="again"{"" if state == "cut" else " hidden"}>{again}</p>'
    figures = "".join(
        f'<div><dt>{words}</dt><dd id="{name}">{NONE}</dd></div>'
        for name, words in (
            ("elapsed", "Elapsed"), ("rate", "Operations/s"), ("p50", "Latency p50"), ("p99", "Latency p99"),
            ("ok", "ok"), ("fail", "fail"), ("info", "info"), ("leader", "Leader"),
        )
    )  # fmt: skip
    return (
        f'<section id="live" data-stream="{address("live", row.path)}" data-state="{state}">{left}{hint}'
        '<p class="phase"><span id="phase" role="status">connecting</span><progress id="progress" max="1"'
        ' value="0" hidden></progress></p>'
        f'<dl class="facts">{figures}</dl>'
        '<div class="strips" id="strips"></div>'
        '<div class="pair"><div><h2>Nodes</h2><ul class="nodes" id="nodes"></ul></div>'
        '<div><h2>Faults <span class="note" id="begun"></span></h2><ul class="in-force" id="faults"></ul>'
        '<h2 class="second">Verdict so far</h2><p id="said">nothing is checked yet</p></div></div>'
        f"<noscript><p class=empty>Without script this page does not follow the run; <code>splitbrain logs"
        f" -f {esc(row.run, 40)}</code>"
        " does on a terminal.</p></noscript></section>"
    )


def campaigns_page(nights: Sequence[Mapping[str, Any]], folder: Path) -> str:
    """The nights of campaigns, the latest first. Each has `name`, `night`, `page` (or None), `verdict`, `reason`."""
    if not nights:
        body = (
            f'<section><h1 class="title">No campaigns yet</h1><p class="reason">{esc(folder)} holds none. A campaign is'
            " many runs by night; <code>splitbrain campaign run</code> starts one.</p></section>"
        )
        return frame("Campaigns", body, tab="Campaigns")
    rows = []
    for night in nights:
        name = f"{esc(night['name'], 80)} {esc(night['night'], 80)}"
        link = f'<a class="open" href="{night["page"]}">{name}</a>' if night["page"] else name
        rows.append(
            f"<tr><td>{sign(night['verdict'])}</td><td>{link}</td><td>{esc(night['reason'], 300)}</td></tr>"
        )
    body = (
        '<section class="list"><h1 class="title">Campaigns</h1><div class="scroll"><table class="runs"><thead><tr>'
        "<th scope=col>Verdict</th><th scope=col>Night</th><th scope=col>What it came to</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )
    return frame("Campaigns", body, tab="Campaigns")
