"""A night as a page, and the trend over nights as another: one file each, without a script, which loads nothing.

It looks as the report of a run does, to which it links. Whatever a system wrote passes `esc`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, Final
from urllib.parse import quote

from results.report.html import NONE, esc, plural, section, shape, shapes, table, verdict_cell
from splitbrain.series import percent

_policy: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_heads: Final = {"valid": "Valid", "invalid": "Invalid", "unknown": "Unknown"}
_signs: Final = {"valid": "valid", "invalid": "invalid", "unknown": "unknown", "error": "error"}
_own: Final = (
    "caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }"
    " .dots { letter-spacing: 1px; } td code { white-space: nowrap; } .still { color: var(--faint); }"
)


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
    marks = "" if told["complete"] else '<span class="tag">not complete</span>'
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
    known = canary["sentence"] in told["reason"]  # where it decides the night, it stands there
    told_of_it = "" if known else f'<p class="{shown}">{esc(canary["sentence"])}</p>'
    return (
        f'<section class="hero f-{verdict}" aria-label="Verdict"><div class="call">{shape(verdict)}<div>'
        f"<h1>{_heads[verdict]}{marks}</h1></div></div>"
        f'<p class="reason">{esc(told["reason"], 1500)}</p>'
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
    rows = [
        (
            _status(f),
            f"<code>{esc(f['signature'])}</code><br>{esc(f['explanation'], 400)}",
            f"{f['hits']} of {f['eligible']}",
            esc(f["rate"] if f["hits"] else f"{f['rate']}; {f['absence']}", 500)
            + ('<br><span class="tag">flaky</span>' if f["flaky"] else ""),
            esc(", ".join(f["versions"]), 200),
            f"night {f['first_night']}",
            " ".join(_link(report, run) for report, run in zip(f["reports"], f["runs"], strict=False)),
        )
        for f in told["findings"]
    ]
    head = ("", "finding", "#tonight", "how often", "versions", "first seen", "reports")
    body = (
        table(head, rows, caption="Findings by signature")
        if rows
        else '<p class="empty">None, tonight or before.</p>'
    )
    return section("findings", "Findings", body, "Grouped by signature, beside those of earlier nights.")


def _status(f: Mapping[str, Any]) -> str:
    kind = {"new": "invalid", "known": "invalid" if f["fails"] else "unknown"}.get(f["status"])
    more = "".join(
        f"<br>{esc(text)}"
        for text in (
            "returned" if f["returned"] else None,
            f"in the baseline until {f['baseline']['expires']}: {f['baseline']['reason']}"
            if f["baseline"]
            else None,
        )
        if text
    )
    if kind is None:
        return f'<span class="still">{esc(f["status"])}</span>{more}'
    return f'<span class="verdict-word v-{kind}">{shape(kind)}{esc(f["status"])}</span>{more}'


def _link(path: str, words: str) -> str:
    return f'<a href="{esc(quote(path))}"><code>{esc(words)}</code></a>'


def _cells(told: Mapping[str, Any]) -> str:
    groups: dict[str, list[str]] = {}
    for cell in told["cells"]:
        if cell["kind"] != "canary":
            groups.setdefault(cell["label"], []).extend(a["word"] for a in cell["attempts"])
    rows = [
        (
            esc(label, 300),
            *(f"{words.count(w) or ''}" for w in ("valid", "invalid", "unknown", "error", "cut off")),
            esc(_share(words)),
        )
        for label, words in groups.items()
    ]
    head = ("cell", "#valid", "#invalid", "#unknown", "#error", "#cut off", "invalid, of those judged")
    note = f"{plural(len(groups), 'combination')}; a finding counts the runs of its own."
    return section("cells", "Cells", table(head, rows, caption="Cells"), note)


def _share(words: Sequence[str]) -> str:
    n = words.count("valid") + words.count("invalid")
    return f"{words.count('invalid')} of {n} ({percent(words.count('invalid'), n)})" if n else NONE


def _attempts(told: Mapping[str, Any]) -> str:
    rows = []
    for cell in told["cells"]:
        for a in cell["attempts"]:
            run = (
                _link(f"{a['run_dir']}/report.html", a["run"])
                if a["run_dir"]
                else f"<code>{esc(a['run'])}</code>"
            )
            rows.append(
                (
                    run,
                    _word("found" if cell["kind"] == "canary" and a["word"] == "invalid" else a["word"]),
                    esc(cell["id"]),
                    esc(cell["label"], 200),
                    esc(cell["seed"]),
                    esc(a["n"]),
                    esc("" if a["ops"] is None else f"{a['ops']:,}"),
                    esc("" if a["word"] == "valid" else a["reason"], 300),
                )
            )
    head = ("run", "", "cell", "what", "#seed", "#attempt", "#operations", "why")
    return section("attempts", "Attempts", table(head, rows, caption="Every attempt"), "Every one is kept.")


def _word(word: str) -> str:
    if word in ("valid", "invalid", "unknown"):
        return verdict_cell(word)
    if word == "found":  # of a canary, which is there to be
        return f'<span class="verdict-word v-valid">{shape("valid")}found</span>'
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
