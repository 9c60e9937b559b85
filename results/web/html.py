"""What the pages share: the frame around them, signs of states, addresses, figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from results.index import Row
from results.report_html import NONE, esc, shape, shapes

_tabs: Final = (("/", "Runs"), ("/trends", "Trends"), ("/campaigns", "Campaigns"))
_words: Final = {"running": "in progress", "cut": "cut off", "unfinished": "unfinished"}
_rings: Final = {"running": "", "cut": ' stroke-dasharray="5 4"', "unfinished": ' stroke-dasharray="5 4"'}
_months: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def frame(title: str, body: str, *, tab: str = "", script: str = "", wide: bool = False) -> str:
    """A whole page. `body` is HTML; `script` names one of ours."""
    tabs = "".join(
        f'<a href="{href}"{" aria-current=page" if name == tab else ""}>{name}</a>' for href, name in _tabs
    )
    scripts = f'<script src="/assets/{esc(script)}" defer></script>' if script else ""
    return (
        '<!doctype html><html lang="en" data-errors=""><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{esc(title, 200)} · splitbrain</title>"
        '<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/assets/report.css"><link rel="stylesheet" href="/assets/web.css">'
        f"{scripts}</head><body{' class=wide' if wide else ''}>"
        f'{shapes()}<a class="skip" href="#content">Skip to the content</a>'
        f'<header class="top"><a class="mark" href="/">splitbrain</a><nav aria-label="Pages">{tabs}</nav></header>'
        f'<main id="content" tabindex="-1">{body}</main></body></html>'
    )


def message(title: str, sentence: str, more: str = "") -> str:
    """A page that only says something; `more` is HTML."""
    return frame(
        title,
        f'<section><h1 class="title">{esc(title)}</h1><p class="reason">{esc(sentence)}</p>{more}</section>',
    )


def sign(state: str) -> str:
    """A state as sign and word. Of unfinished runs it says whether they are `running` or were `cut`."""
    word = _words.get(state, state)
    ring = _rings.get(state)
    if ring is None:
        drawn = shape(state)
    else:
        drawn = (
            f'<svg class="shape s-{state}" viewBox="0 0 24 24" aria-hidden="true">'
            f'<circle class="hollow" cx="12" cy="12" r="8.5"{ring}/></svg>'
        )
    return f'<span class="verdict-word v-{esc(state)}">{drawn}{esc(word)}</span>'


def name_of(row: Row) -> str:
    """`etcd 3.6.16 · register`."""
    system = " ".join(filter(None, (row.system, row.version)))
    return " · ".join(filter(None, (system, row.workload))) or row.path


def address(kind: str, path: str, *more: str) -> str:
    """`/kind/path/more`, fit for an attribute."""
    return esc(
        "/" + "/".join(quote(os.fsencode(part), safe="") for part in (kind, *path.split("/"), *more)), 4000
    )


def query(base: Mapping[str, Any], **changes: Any) -> str:
    """`?a=b&c=d` of what is not empty, fit for an attribute."""
    asked = {k: v for k, v in ({**base, **changes}).items() if v not in ("", None)}
    return esc("?" + urlencode(asked), 4000)


def compare_address(a: str, b: str) -> str:
    """Where two runs stand side by side, fit for an attribute."""
    return esc("/compare?" + urlencode([("r", a), ("r", b)]), 4000)


def when(started: str | None) -> str:
    """`26 Nov 12:03`, with the whole of it for who points at it."""
    if not started or len(started) < 16 or not started[5:7].isdigit() or not 1 <= int(started[5:7]) <= 12:
        return esc(started or NONE, 40)
    short = (
        f"{int(started[8:10])} {_months[int(started[5:7]) - 1]} {started[11:16]}"
        if started[8:10].isdigit()
        else started
    )
    return f'<time datetime="{esc(started, 40)}" title="{esc(started, 40)}">{esc(short)}</time>'


def number(value: float | None, digits: int = 0) -> str:
    """A figure with its thousands set apart."""
    return NONE if value is None else f"{value:,.{digits}f}"


def size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def options(choices: Sequence[tuple[str, str]], chosen: str) -> str:
    """The options of a select: (value, text)."""
    return "".join(
        f'<option value="{esc(value)}"{" selected" if value == chosen else ""}>{esc(text, 80)}</option>'
        for value, text in choices
    )
