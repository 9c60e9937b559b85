"""The verdict card and the anomalies of a results object, for a terminal.

Colour is never alone: each verdict has a glyph and a word. Paths and the command that repeats the run
stand below the card, unwrapped, so that they can be copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from results.leadership import sentence as leadership
from splitbrain import baseline, kept

_style: Final = {
    "valid": ("✔", "VALID", "green"),
    "invalid": ("✘", "INVALID", "red"),
    "unknown": ("?", "UNKNOWN", "yellow"),
    "error": ("!", "ERROR", "yellow"),
}
_outcomes: Final = {"ok": "● ok", "fail": "✕ fail", "info": "? info"}
_window_shown: Final = 30
_observations_shown: Final = 5


def style(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """(glyph, word, colour) of a results object; a violation outranks an error."""
    verdict = str(results.get("verdict"))
    if results.get("error") and verdict != "invalid":
        verdict = "error"
    return _style.get(verdict, _style["unknown"])


def print_card(console: Console, results: Mapping[str, Any], run_dir: Path | None) -> None:
    """The whole card, and below it where things are and how to repeat them."""
    glyph, word, colour = style(results)
    title = Text(f"{glyph} {word}", style=f"bold {colour}")
    console.print(Panel(_body(results), title=title, title_align="left", border_style=colour, padding=(0, 1)))
    lines: list[tuple[str, object]] = []
    if run_dir is not None:
        lines.append(("run", run_dir))
        if (run_dir / "report.html").exists():
            lines.append(("report", run_dir / "report.html"))
    if run_dir is not None:
        lines += kept.lines(results, run_dir)
    if results.get("command"):
        lines.append(("repeat", results["command"]))
    for name, value in lines:
        console.print(Text.assemble((f"{name:<7} ", "dim"), str(value)), soft_wrap=True)


def print_error(console: Console, results: Mapping[str, Any]) -> None:
    """What an error says beyond its first line, which stands on the card: a node's last log lines."""
    more = str(results.get("error") or "").splitlines()[1:]
    if more:
        console.print()
        console.print(Text("\n".join(more)), soft_wrap=True)


def print_anomalies(console: Console, results: Mapping[str, Any]) -> None:
    """Each anomaly: what it is, why, and its smallest window of operations."""
    for name, check in (results.get("checks") or {}).items():
        for anomaly in check.get("anomalies") or ():
            key = "" if anomaly.get("key") is None else f", key {_json(anomaly['key'])}"
            console.print()
            console.print(Text(f"✘ {name}: {anomaly.get('kind', 'anomaly')}{key}", style="bold red"))
            console.print(Text(str(anomaly.get("explanation", ""))))
            window = anomaly.get("window") or []
            if window:
                console.print(_window(window))
            if anomaly.get("assumed"):
                console.print(
                    Text(
                        f"relies on {_count(len(anomaly['assumed']), 'operation')} of unknown outcome",
                        style="dim",
                    )
                )


def _body(results: Mapping[str, Any]) -> RenderableType:
    parts: list[RenderableType] = [Text(str(results.get("reason") or ""))]
    parts.append(Text(_facts(results), style="dim"))
    if results.get("checks"):
        parts += [Text(), _checks(results["checks"])]
    if not results.get("error"):  # a run that broke down proves nothing, and need not say how little
        if results.get("faults"):
            parts += [Text(), _faults(results["faults"])]
        if (out := results.get("outages")) and out.get("overlapping_s"):
            parts.append(Text(_outages(out), style="dim"))
        if figures := results.get("leadership"):
            parts.append(Text(leadership(figures), style="dim"))
        for row in (results.get("meaning") or {}).get("rows", ()):
            if not row.get("met", True):
                words = f"? not met: {row.get('what')}: {row.get('value')}, needed {row.get('needed')}"
                parts.append(Text(words, style="yellow"))
    for hole in results.get("holes") or ():
        parts.append(
            Text(
                f"! hole in the client's error table: {hole.get('exception')} ({hole.get('count')})",
                style="yellow",
            )
        )
    parts += [Text(f"observation: {text}", style="cyan") for text in _some(results.get("observations") or ())]
    if shares := results.get("sensitivity"):
        parts.append(Text(_sensitivity(shares), "dim"))
    parts += [Text(text, style="cyan") for text in baseline.lines(results)]
    parts += [Text(f"! {text}", style="yellow") for text in results.get("warnings") or ()]
    parts += [Text(f"note: {text}", style="dim") for text in results.get("caveats") or ()]
    return Group(*parts)


def _some(texts: Sequence[str]) -> list[str]:
    """The first of many, and how many there are besides."""
    left = len(texts) - _observations_shown
    return [*texts[:_observations_shown], *([f"and {left} more, in results.json"] if left > 0 else [])]


def _sensitivity(shares: Mapping[str, Mapping[str, int]]) -> str:
    """Which share of planted violations would have been seen."""
    told = [
        f"{share['detected']} of {share['planted']} planted {kind.replace('-', ' ')}s"
        for kind, share in shares.items()
        if share["planted"]
    ]
    return (
        f"sensitivity: {' and '.join(told)} would have been seen" if told else "sensitivity: nothing to plant"
    )


def _facts(results: Mapping[str, Any]) -> str:
    """One line: what ran, how much of it, for how long, from which seed."""
    facts = [
        " ".join(str(results[k]) for k in ("system", "version") if results.get(k)),
        results.get("workload"),
    ]
    if results.get("nodes"):
        facts.append(f"{_count(results['nodes'], 'node')} on {results.get('provider')}")
    if results.get("ops") is not None:
        facts.append(_count(results["ops"], "operation"))
    if results.get("seconds") is not None:
        facts.append(f"{results['seconds']:.1f} s")
    if results.get("leader_changes") is not None:
        facts.append(_count(results["leader_changes"], "leader change"))
    if results.get("seed") is not None:
        facts.append(f"seed {results['seed']}")
    return " · ".join(str(fact) for fact in facts if fact)


def _checks(checks: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, check in checks.items():
        glyph, word, colour = _style.get(str(check.get("verdict")), _style["unknown"])
        by = check.get("engine")
        took = f"{check.get('seconds') or 0:.1f} s{f', {by}' if by else ''}"
        table.add_row(
            Text(f"{glyph} {word.lower()}", style=colour),
            name,
            Text(str(check.get("reason", ""))),
            Text(took, "dim"),
        )
    return table


def _faults(faults: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2))
    table.add_column("fault")
    for column in ("applied", "took effect", "operations meanwhile"):
        table.add_column(column, justify="right")
    for family, row in faults.items():
        applied, effective = row.get("applied"), row.get("effective")
        short = not effective
        table.add_row(
            family,
            str(applied),
            Text(f"{'? ' if short else '✔ '}{effective}", style="yellow" if short else "green"),
            str(row.get("overlapping_ops")),
        )
    return table


def _outages(out: Mapping[str, Any]) -> str:
    """How the faults lay beside each other."""
    share = out["overlapping_s"] / out["seconds"] if out.get("seconds") else 0
    return (
        f"two or more outages at once for {share:.0%} of the time, at most {_count(out['most'], 'node')} out"
    )


def _window(window: list[dict[str, Any]]) -> Table:
    """The operations of a counterexample, one a line, in the order that it gives them."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("from s", "to s"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("process", "node", "operation", "outcome"):
        table.add_column(column)
    for op in window[:_window_shown]:
        outcome = " ".join(filter(None, (_outcomes.get(str(op.get("type")), "? info"), op.get("error"))))
        cells = (_time(op.get("start_ns")), _time(op.get("end_ns")), op.get("process"), op.get("node"))
        table.add_row(
            *(Text("" if cell is None else str(cell)) for cell in cells), Text(_asked(op)), Text(outcome)
        )
    if len(window) > _window_shown:
        table.add_row("", "", "", "", Text(f"... {len(window) - _window_shown} more, in results.json", "dim"))
    return table


def _time(ns: Any) -> str | None:
    return f"{ns / 1e9:.4f}" if isinstance(ns, int) else None


def _asked(op: Mapping[str, Any]) -> str:
    """`write 161`, `cas [5,6]`, `read -> 161`: what was asked, and what was answered."""
    text = str(op.get("f"))
    if op.get("value") is not None:
        text += f" {_json(op['value'])}"
    answered = op.get("type") == "ok" and (op.get("result") is not None or op.get("value") is None)
    return f"{text} -> {_json(op.get('result'))}" if answered else text


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
