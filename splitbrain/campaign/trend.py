"""What changed over nights: a row for each, and for each finding the nights in which it came.

Only the head of each summary is read, so that a year of nights is told at once. A night that was killed and
has no summary stands there as cut off: it did happen, and nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from results.report.html import NONE, esc, section, shape, table, verdict_cell
from splitbrain.campaign import home, ledger, page

FORMAT: Final = 1
SHOWN: Final = 30
_width: Final = 160
_marks: Final = {"new": "●", "known": "●", "gone": "○", "not seen": "·"}


class Seen(msgspec.Struct, kw_only=True):
    """A finding in one night."""

    signature: str
    status: str
    hits: int
    eligible: int
    fails: bool
    rate: str
    absence: str | None = None
    first_night: int = 0


class Row(msgspec.Struct, kw_only=True):
    """One night."""

    night: str
    number: int
    verdict: str
    reason: str
    exit: int | None = None
    complete: bool = False
    seed: int | None = None
    started: str | None = None
    elapsed_s: float = 0.0
    ops: int = 0
    counts: dict[str, int] = {}
    canary: dict[str, Any] = {}
    findings: list[Seen] = []


def rows(folder: Path, last: int | None = SHOWN) -> list[Row]:
    """The nights of a home, the first one first; the `last` so many."""
    nights = home.nights(folder)
    return [_row(night) for night in (nights if last is None else nights[-last:])]


def _row(night: Path) -> Row:
    try:
        return msgspec.json.decode((night / "summary.json").read_bytes(), type=Row)
    except (OSError, msgspec.DecodeError):
        state = ledger.read(night / ledger.NAME)
        ended = sum(a.how is not None for a in state.attempts.values())
        told = f"cut off after {ended} runs; `splitbrain campaign run --resume` goes on with the latest night"
        return Row(
            night=night.name,
            number=home.number(night),
            verdict="unknown",
            reason=told,
            started=min((a.started for a in state.attempts.values()), default=None),
            elapsed_s=state.elapsed_s,
        )


def plain(folder: Path, found: Sequence[Row]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"format": FORMAT, "campaign": folder.name, "nights": msgspec.to_builtins(found)}


def _signatures(found: Sequence[Row]) -> dict[str, dict[int, Seen]]:
    seen: dict[str, dict[int, Seen]] = {}
    for row in found:
        for finding in row.findings:
            seen.setdefault(finding.signature, {})[row.number] = finding
    return seen


def show(console: Console, found: Sequence[Row]) -> None:
    """The trend on a terminal."""
    if not console.is_terminal:
        console.width = max(console.width, _width)  # of a file, which need not fit a screen
    nights = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in (
        "night",
        "began, UTC",
        "verdict",
        "cells",
        "valid",
        "invalid",
        "unknown",
        "error",
        "operations",
        "canary",
    ):
        nights.add_column(
            name, no_wrap=True, justify="left" if name in ("night", "began", "verdict", "canary") else "right"
        )
    style = {"valid": "green", "invalid": "red", "unknown": "yellow"}
    for row in found:
        c = row.counts
        nights.add_row(
            str(row.number),
            page.when(row.started),
            Text(
                row.verdict if row.complete else f"{row.verdict}, not complete",
                style=style.get(row.verdict, ""),
            ),
            *(str(c.get(key, "-")) for key in ("cells", "valid", "invalid", "unknown", "error")),
            f"{row.ops:,}",
            str(row.canary.get("verdict", "-")),
        )
    console.print(nights)
    seen = _signatures(found)
    if not seen:
        console.print(Text("no findings", style="dim"))
        return
    console.print(
        Text("\nfindings, a mark for each night: ● seen, ○ gone, · not seen, blank before", style="dim")
    )
    for signature, by_night in seen.items():
        latest = by_night[max(by_night)]
        told = latest.rate if latest.hits else latest.absence or ""
        console.print(
            Text.assemble(
                (_dots(found, by_night), "red" if latest.fails else ""),
                f"  {signature}  {latest.status}: {told}",
            )
        )


def _dots(found: Sequence[Row], by_night: dict[int, Seen]) -> str:
    return "".join(_marks[by_night[r.number].status] if r.number in by_night else " " for r in found)


def _came_to(row: Row) -> str:
    more = "" if row.complete else " not complete"
    return f'{verdict_cell(row.verdict)}{more}<div class="why">{esc(row.reason, 300)}</div>'


def _canary(row: Row) -> str:
    verdict = row.canary.get("verdict", NONE)
    return f'<span class="no">{esc(verdict)}</span>' if verdict == "not found" else esc(verdict)


def build(folder: Path, found: Sequence[Row]) -> str:
    """The trend as a page, which links to the page of each night."""
    latest = found[-1] if found else None
    verdict = latest.verdict if latest else "unknown"
    nights = [
        (
            f'<a href="{esc(r.night)}/index.html">{r.number}</a>',
            esc(page.when(r.started)),
            _came_to(r),
            *(
                esc(r.counts.get(key, NONE) or "")
                for key in ("cells", "valid", "invalid", "unknown", "error", "cut_off", "not_started")
            ),
            f"{r.ops:,}",
            _canary(r),
        )
        for r in reversed(found)
    ]
    head = (
        "night",
        "began, UTC",
        "what it came to",
        "#cells",
        "#valid",
        "#invalid",
        "#unknown",
        "#error",
        "#cut off",
        "#not started",
    )
    body = table((*head, "#operations", "canary"), nights, caption="Nights")
    seen = [
        (
            f"<code>{esc(signature)}</code>",
            f'<span class="dots">{esc(_dots(found, by_night))}</span>',
            esc((last := by_night[max(by_night)]).status),
            esc(last.rate if last.hits else f"{last.rate}; {last.absence}", 400),
            f"night {last.first_night}",
        )
        for signature, by_night in _signatures(found).items()
    ]
    findings = (
        table(("finding", "by night", "", "how often", "first seen"), seen, caption="Findings over nights")
        if seen
        else '<p class="empty">None.</p>'
    )
    heading = (
        f'<section class="hero f-{verdict}" aria-label="Latest night"><div class="call">{shape(verdict)}<div>'
        f"<h1>{esc(folder.name)}</h1></div></div>"
        f'<p class="reason">{esc(latest.reason if latest else "no night yet", 600)}</p></section>'
    )
    parts = [
        ("nights", "Nights", section("nights", "Nights", body, f"The latest {len(found)}.")),
        ("findings", "Findings", section("findings", "Findings", findings, "● seen, ○ gone, · not seen")),
    ]
    return page.frame(f"{verdict}: campaign {folder.name}", folder.name, "trend", parts, heading)
