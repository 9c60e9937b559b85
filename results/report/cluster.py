"""The cluster as the sampler saw it: what each node last said, how far it was behind, who led and who else did."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Final

from results.report.data import NodeHistory, Run, as_dict, as_int, as_list
from results.report.html import NONE, Html, count, esc, plural, seconds, section, span, table
from results.report.leadership import leadership_part
from results.report.words import term

_rows: Final = 200
_fresh_ns: Final = 1_500_000_000  # what a node said is held against others for so long
_width, _height, _left = 1176, 150, 66
_dashes: Final = ("", "7 4", "2 3", "10 3 2 3", "1 4")


def cluster(run: Run) -> str:
    """The section."""
    if not run.nodes:
        return section("cluster", "Cluster", '<p class="empty">The sampler left no record of the nodes.</p>')
    rows = []
    behind, offsets = lags(run.nodes), clock_offsets(run)
    for node in run.nodes:
        down = sum(s.end - s.start for s in node.spans if s.role == "down")
        led = sum(s.end - s.start for s in node.spans if s.role == "leader")
        last = [esc(count(node.last.get(k))) or NONE for k in ("term", "commit", "applied", "revision")]
        role = node.spans[-1].role if node.spans else NONE
        lag = behind.get(node.node)
        rows.append(
            (
                f"<b>{esc(node.node, 60)}</b>",
                esc("no answer" if role == "down" else role, 60),
                *last,
                f'<span title="at {seconds(lag[1])}">{lag[0]:,}</span>' if lag else NONE,
                esc(offsets.get(node.node) or NONE),
                span(led) if led else NONE,
                span(down) if down else NONE,
                f"{node.samples:,}",
            )
        )
    named = {"term": "term", "commit": "commit index", "applied": "applied index"}
    figures = [Html(f"#{term(word, shown)}") for shown, word in named.items()]
    head = (
        "node", "last role", *figures, "#revision", Html(f"#{term('lag', 'most behind')}"),
        Html(f"#{term('clock offset')}"), "#led for", "#no answer for", "#samples",
    )  # fmt: skip
    body = table(head, rows, "nodes", "Nodes, as they last said") + _progress(run)
    body += _together(run) + (leadership_part(run) or _led(run)) + _events(run)
    return section(
        "cluster", "Cluster", body, "As the sampler asked each node, once a second and at each change."
    )


def lags(nodes: list[NodeHistory]) -> dict[str, tuple[int, int]]:
    """Node -> (how many entries it had applied fewer than the furthest at its worst, when)."""
    said: dict[str, tuple[int, int]] = {}
    out: dict[str, tuple[int, int]] = {}
    for time, node, applied in sorted((t, n.node, a) for n in nodes for t, _, a in n.points):
        said[node] = (time, applied)
        most = max(a for t, a in said.values() if time - t <= _fresh_ns)
        if node not in out or most - applied > out[node][0]:
            out[node] = (most - applied, time)
    return out


def clock_offsets(run: Run) -> dict[str, str]:
    """Node -> how far its clock was off at most, as the faults' own measurements read it back."""
    most: dict[str, tuple[int, str]] = {}
    for fault in run.faults:
        for evidence in fault.evidence:
            facts = as_dict(evidence.get("facts"))
            for given in [*as_list(facts.get("clocks")), *as_list(facts.get("later"))]:
                node = str(as_dict(given).get("node"))
                off = as_int(as_dict(as_dict(given).get("reading")).get("offset_ns"))
                if (
                    off is not None
                    and evidence.get("phase") == "during"
                    and abs(off) >= most.get(node, (0,))[0]
                ):
                    most[node] = (abs(off), f"{off / 1e9:+.3f} s ({fault.fault})")
    return {node: text for node, (_, text) in most.items()}


def overlapping_leaders(nodes: list[NodeHistory]) -> list[tuple[int, int, list[tuple[str, int | None]]]]:
    """When two nodes called themselves leader at once: (from, to, [(node, term), ...]), in order of time."""
    led = [(s.start, s.end, n.node, s.term) for n in nodes for s in n.spans if s.role == "leader"]
    out = []
    for a, b in combinations(sorted(led, key=lambda s: s[0])[:_rows], 2):
        start, end = max(a[0], b[0]), min(a[1], b[1])
        if start < end and a[2] != b[2]:
            out.append((start, end, [(a[2], a[3]), (b[2], b[3])]))
    return sorted(out)


def _together(run: Run) -> str:
    """Two leaders at once, and what is to be thought of it."""
    found = overlapping_leaders(run.nodes)
    if not found:
        return ""
    rows = []
    for start, end, who in found[:_rows]:
        terms = [t for _, t in who if t is not None]
        if len(terms) < 2:
            told = "these nodes tell no terms: both may have taken writes"
        elif terms[0] == terms[1]:
            told = "in one term: split brain"
        else:
            told = "the one of the lower term was deposed and did not know it yet"
        names = " and ".join(f"{node}{f' (term {t})' if t is not None else ''}" for node, t in who)
        rows.append((_time(start), _time(end), span(end - start), f"<b>{esc(names, 120)}</b>", told))
    head = ("#from", "#to", "#for at least", "leaders", "what that is")
    return f"<h3>Two leaders at once</h3>{table(head, rows, 'together', 'Two leaders at once')}"


def _time(ns: int) -> str:
    return f'<a href="#time" data-seconds="{ns / 1e9:.3f}">{seconds(ns)}</a>'


def _led(run: Run) -> str:
    changes = "".join(
        f"<li><span class=label>{_time(c.time)}</span><span><b>{esc(c.node, 60)}</b> leads"
        f"{f' in term {c.term}' if c.term is not None else ''}"
        f"{f', after {esc(c.previous, 60)}' if c.previous and c.previous != c.node else ''}</span></li>"
        for c in run.leaders[:_rows]
    )
    lists = f'<ul class="evidence leaders">{changes}</ul>' if changes else ""
    return f"<h3>Who led</h3>{lists or '<p class=empty>Nobody was seen leading.</p>'}"


def _events(run: Run) -> str:
    said = "".join(
        f"<li><span class=label>{_time(e['time'])}</span><span><b>{esc(e['node'], 60)}</b> {esc(e['kind'], 60)}: "
        f"{esc(e['text'], 300)}</span></li>"
        for e in run.events[:_rows]
    )
    more = f" (the first {_rows})" if len(run.events) > _rows else ""
    return (
        f"<details><summary>What the logs say: {plural(len(run.events), 'event')}{more}</summary>"
        f'<ul class="evidence">{said}</ul></details>'
        if said
        else ""
    )


def _progress(run: Run) -> str:
    """Applied indexes against time as one still picture: a node that stays behind shows as a line below."""
    nodes = [n for n in run.nodes if len(n.points) > 1]
    most = max((a for n in nodes for _, _, a in n.points), default=0)
    if not most or run.until <= 0:
        return ""
    plot = _width - _left - 12

    def at(time: int, applied: int) -> str:
        return f"{_left + plot * time / run.until:.1f},{_height - 20 - (_height - 30) * applied / most:.1f}"

    parts: list[Any] = []
    for fault in run.faults[:_rows]:
        if fault.applied is not None:
            left = _left + plot * fault.applied / run.until
            wide = plot * ((fault.undone or run.until) - fault.applied) / run.until
            name = esc(f"{fault.label or fault.family} {fault.fault}", 60)
            parts.append(
                f'<rect class="band" x="{left:.1f}" y="0" width="{max(wide, 1):.1f}" height="{_height - 20}">'
                f"<title>{name}</title></rect>"
            )
    keys = []
    for number, node in enumerate(nodes):
        dash = _dashes[number % len(_dashes)]
        step = max(1, len(node.points) // 400)
        line = " ".join(at(t, a) for t, _, a in node.points[::step])
        name = esc(node.node, 24)
        parts.append(f'<polyline points="{line}" stroke-dasharray="{dash}"><title>{name}</title></polyline>')
        sample = f'<line x1="0" x2="26" y1="6" y2="6" stroke-dasharray="{dash}"/>'
        keys.append(f'<span><svg viewBox="0 0 26 12" aria-hidden="true">{sample}</svg>{name}</span>')
    axis = (
        f'<text x="0" y="12">{most:,}</text><text x="0" y="{_height - 22}">0</text>'
        f'<text x="{_left / _width:.2%}" y="{_height - 4}">0 s</text>'
        f'<text x="{1 - 12 / _width:.2%}" y="{_height - 4}" text-anchor="end">{run.until / 1e9:.1f} s</text>'
    )
    return (
        f'<figure class="progress"><figcaption>{term("applied index", "Applied index")}'
        f'<span class="unit">against time, faults shaded</span><span class="legend">{"".join(keys)}</span></figcaption>'
        f'<svg width="100%" height="{_height}" role="img" aria-label="applied index of each node against time">'
        f'<svg width="100%" height="{_height}" viewBox="0 0 {_width} {_height}" preserveAspectRatio="none">'
        f"{''.join(parts)}</svg>{axis}</svg></figure>"
    )
