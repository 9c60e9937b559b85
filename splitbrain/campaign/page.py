"""A night as a page, and the trend over nights as another: one file each, without a script, which loads nothing.

It looks as the report of a run does, to which it links. Whatever a system wrote passes `esc`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

from harness.core.exits import ERROR, INTERRUPTED, UNKNOWN, VALID, VIOLATION
from results.report.html import NONE, esc, plural, section, shape, shapes, table, verdict_cell
from splitbrain.series import percent

_policy: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_heads: Final = {"valid": "Valid", "invalid": "Invalid", "unknown": "Unknown"}
_own: Final = (
    "caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }"
    " .dots { letter-spacing: 1px; } .still { color: var(--faint); }"
    " .reasons { margin-top: 12px; max-width: 90ch; overflow-wrap: anywhere; } .reasons li + li { margin-top: 4px; }"
    " .found > li { display: grid; grid-template-columns: 132px minmax(0, 1fr); gap: 2px 20px; padding: 12px 0;"
    " border-bottom: 1px solid var(--line-soft); overflow-wrap: anywhere; }"
    " .found > li > * { grid-column: 2; } .found > li > :first-child { grid-column: 1; }"
    " .more { color: var(--soft); font-size: 14px; } .found a { margin-right: 10px; }"
    " .found .tag { font-size: 12px; padding: 0 6px; } td code { white-space: nowrap; }"
    " .why { color: var(--soft); overflow-wrap: anywhere; }"
    " #nights td:nth-child(3) { width: 60%; min-width: 210px; }"
    " @media (min-width: 761px) { #nights td:nth-child(2) { white-space: nowrap; } }"
    " #attempts td:nth-child(3) { width: 100%; min-width: 190px; }"
    " @media (max-width: 760px) { .found > li { grid-template-columns: minmax(0, 1fr); }"
    " .found > li > * { grid-column: 1; } #cells td:first-child { min-width: 150px; } .top .run { display: none; } }"
)
_ranks: Final = (VIOLATION, INTERRUPTED, ERROR, UNKNOWN, VALID)


def build(told: Mapping[str, Any]) -> str:
    """The page of a night, from its summary object."""
    parts = [
        ("findings", "Findings", _findings(told)),
        ("cells", "Cells", _cells(told)),
        ("attempts", "Attempts", _attempts(told)),
        ("rest", "Not run", _rest(told)),
        ("notes", "Notes", _notes(told)),
    ]
    verdict = told["verdict"]
    name = f"{told['campaign']}, night {told['number']}"
    return frame(f"{verdict}: {name}", name, told["night"], [p for p in parts if p[2]], _hero(told))


def frame(title: str, name: str, mark: str, parts: Sequence[tuple[str, str, str]], head: str) -> str:
    """A page of parts (anchor, title, HTML) below its head."""
    style = resources.files("results").joinpath("assets", "report.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{anchor}">{esc(word)}</a>' for anchor, word, _ in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{esc(title, 200)}</title><style>{style}{_own}</style></head><body>{shapes()}"
        '<a class="skip" href="#content">Skip to the verdict</a>'
        f'<header class="top"><span class="mark">splitbrain</span><span class="name">{esc(name, 120)}</span>'
        f'<code class="run">{esc(mark, 60)}</code><nav aria-label="Sections">{links}</nav></header>'
        f'<main id="content">{head}{"".join(body for _, _, body in parts)}</main>'
        "<footer>Made by splitbrain from the campaign's ledger. Everything but the reports is in this file;"
        " it loads nothing.</footer></body></html>\n"
    )


def _hero(told: Mapping[str, Any]) -> str:
    verdict, canary, counts = told["verdict"], told["canary"], told["counts"]
    tags = [] if told["complete"] else ["not complete"]
    tags += ["canary not found"] if canary["verdict"] == "not found" else []
    marks = "".join(f'<span class="tag">{tag}</span>' for tag in tags)
    facts = {
        "cells": f"{counts['cells']:,}",
        "runs": f"{counts['attempts']:,}",
        "operations": f"{told['ops']:,}",
        "at work": _duration(told["elapsed_s"]),
        "began, UTC": when(told["started"]),
        "seed": told["seed"],
        "exit code": told["exit"],
        "canary": f"{canary['verdict']}, {canary['k']} of {canary['n']}",
    }
    cells = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in facts.items())
    shown = "no" if canary["verdict"] == "not found" else "yes"
    first, *rest = told["reasons"]
    others = f'<ul class="reasons">{_items(rest)}</ul>' if rest else ""
    known = canary["sentence"] in told["reason"]  # where it decides the night, it stands there
    told_of_it = "" if known else f'<p class="{shown}">{esc(canary["sentence"])}</p>'
    return (
        f'<section class="hero f-{verdict}" aria-label="Verdict"><div class="call">{shape(verdict)}<div>'
        f"<h1>{_heads[verdict]}{marks}</h1></div></div>"
        f'<p class="reason">{esc(first, 1500)}</p>{others}'
        f'{told_of_it}<dl class="facts">{cells}</dl></section>'
    )


def when(at: str | None) -> str:
    """A moment as people read it.

    >>> when("2026-01-31T12:00:59Z")
    '2026-01-31 12:00'
    """
    return NONE if not at else at[:16].replace("T", " ")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _findings(told: Mapping[str, Any]) -> str:
    """A list and no table: a report's link must not be off a phone's screen."""
    dirs = {a["run"]: a["run_dir"] for cell in told["cells"] for a in cell["attempts"] if a["run_dir"]}
    again = {run: "splitbrain replay " + shlex.quote(f"{told['path']}/{path}") for run, path in dirs.items()}
    body = (
        f'<ul class="found">{"".join(_finding(f, again) for f in told["findings"])}</ul>'
        if told["findings"]
        else '<p class="empty">None, tonight or before.</p>'
    )
    return section("findings", "Findings", body, "Grouped by signature, beside those of earlier nights.")


def _finding(f: Mapping[str, Any], again: Mapping[str, str]) -> str:
    """`again` is the command that runs a run again."""
    often = f["rate"] if f["hits"] else f"{f['rate']}; {f['absence']}"
    facts = [f"tonight {f['hits']} of {f['eligible']}", often, f"first seen in night {f['first_night']}"]
    facts += [f"version {', '.join(f['versions'])}"] if f["versions"] else []
    reports = "".join(_link(report, run) for report, run in zip(f["reports"], f["runs"], strict=False))
    flaky = '<span class="tag">flaky</span>' if f["flaky"] and f["hits"] else ""
    commands = [again[run] for run in f["runs"] if run in again]
    known = f["baseline"]
    excuse = f"in the baseline until {known['expires']}: {known['reason']}" if known else ""
    lines = [
        f"<div>{_status(f)}</div>",
        f"<div><code>{esc(f['signature'])}</code></div>",
        f"<div>{esc(f['explanation'], 400)}</div>" if f["explanation"] else "",
        f'<div class="more">{esc(excuse, 400)}</div>' if excuse else "",
        f'<div class="more">{esc("; ".join(facts), 900)} {flaky}</div>',
        f'<div><span class="more">reports</span> {reports}</div>' if reports else "",
        f'<div class="more">again: <code>{esc(commands[0], 600)}</code></div>' if commands else "",
    ]
    return f"<li>{''.join(lines)}</li>"


def _status(f: Mapping[str, Any]) -> str:
    """What fails the night has a verdict's colour, and nothing else has."""
    word = esc(f["status"] + (", returned" if f["returned"] else ""))
    if not f["fails"]:
        return f'<span class="still">{word}</span>'
    return f'<span class="verdict-word v-invalid">{shape("invalid")}{word}</span>'


def _link(path: str, words: str) -> str:
    return f'<a href="{esc(quote(path))}"><code>{esc(words)}</code></a>'


def _cells(told: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for cell in told["cells"]:
        if cell["kind"] != "canary":
            groups.setdefault(cell["label"], []).extend(a["word"] for a in cell["attempts"])
    words_of = ("valid", "invalid", "unknown", "error", "cut off")
    troubled = sorted(groups.items(), key=lambda g: set(g[1]) <= {"valid"})  # as planned, but those first
    rows = [
        (esc(label, 300), *(_count(words, w) for w in words_of), esc(_share(words)))
        for label, words in troubled
    ]
    head = ("cell", "#valid", "#invalid", "#unknown", "#error", "#cut off", "invalid, of those judged")
    note = f"{plural(len(groups), 'combination')}; a finding counts the runs of its own."
    return section("cells", "Cells", table(head, rows, caption="Cells"), note)


def _count(words: Sequence[str], word: str) -> str:
    n = words.count(word)
    if n and word != "valid":
        return f'<span class="verdict-word v-{"invalid" if word == "invalid" else "unknown"}">{n}</span>'
    return str(n or "")


def _share(words: Sequence[str]) -> str:
    n = words.count("valid") + words.count("invalid")
    return f"{words.count('invalid')} of {n} ({percent(words.count('invalid'), n)})" if n else NONE


def _attempts(told: Mapping[str, Any]) -> str:
    """What there is to look at first, the worst of it on top; what went well is folded away."""
    known = {run for f in told["findings"] for run in f["runs"]}
    every = [(cell, a) for cell in told["cells"] for a in cell["attempts"]]
    well = [(c, a) for c, a in every if c["kind"] != "canary" and a["word"] == "valid" and not a["unmet"]]
    others = sorted((x for x in every if x not in well), key=_rank)
    head = ("run", "", "what, and why", "#operations", "#seed", "cell")
    rows = [_row(cell, a, known, a["unmet"] if a.get("unmet") else a["reason"]) for cell, a in others]
    body = table(head, rows, caption="Attempts to look at") if rows else ""
    if well:
        shown = table(head, [_row(cell, a, known, "") for cell, a in well], caption="Valid attempts")
        body += f"<details><summary>{plural(len(well), 'valid run')}</summary>{shown}</details>"
    return section("attempts", "Attempts", body, "Every one is kept.")


def _rank(x: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[bool, int]:
    cell, a = x
    code = ERROR if a["word"] == "cut off" else a.get("code", VALID)
    return cell["kind"] != "canary", _ranks.index(code) if code in _ranks else 0


def _row(cell: Mapping[str, Any], a: Mapping[str, Any], known: set[str], why: str) -> tuple[str, ...]:
    return (
        _link(a["report"], a["run"]) if a["report"] else f"<code>{esc(a['run'])}</code>",
        _word(cell, a, known),
        f"{esc(cell['label'], 200)}{f'<div class=why>{esc(why, 400)}</div>' if why else ''}",
        esc("" if a["ops"] is None else f"{a['ops']:,}"),
        esc(cell["seed"]),
        f"<code>{esc(cell['id'])}</code>" + (f", attempt {a['n']}" if a["n"] > 1 else ""),
    )


def _word(cell: Mapping[str, Any], a: Mapping[str, Any], known: set[str]) -> str:
    word = a["word"]
    if cell["kind"] == "canary" and word in ("valid", "invalid"):  # which is there to be found
        kind, word = ("valid", "found") if a["found"] else ("invalid", "missed")
        return f'<span class="verdict-word v-{kind}">{shape(kind)}{word}</span>'
    if word == "valid" and a["unmet"]:
        return f'<span class="verdict-word v-invalid">{shape("invalid")}not as expected</span>'
    if word == "invalid" and a["code"] == VALID:
        return f'<span class="still">invalid, {"known" if a["run"] in known else "expected"}</span>'
    if word in ("valid", "invalid", "unknown"):
        return verdict_cell(word)
    return f'<span class="verdict-word v-unknown">{shape("error")}{esc(word)}</span>'


def _rest(told: Mapping[str, Any]) -> str:
    rows = [
        (esc(c["id"]), esc(c["label"], 200), esc(c["seed"]), esc(told["stop"] or "the campaign was cut off"))
        for c in told["cells"]
        if not c["attempts"]
    ]
    rows += [("", esc(x["label"], 200), "", esc(x["reason"], 400)) for x in told["left_out"]]
    if not rows:
        return ""
    return section("rest", "Not run", table(("cell", "what", "#seed", "why"), rows, caption="Cells not run"))


def _notes(told: Mapping[str, Any]) -> str:
    if not told["notes"]:
        return ""
    return section("notes", "Notes", f"<ul>{_items(told['notes'])}</ul>")


def _items(notes: Iterable[str]) -> str:
    return "".join(f"<li>{esc(note, 500)}</li>" for note in notes)
