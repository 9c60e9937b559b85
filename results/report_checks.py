"""The properties that were checked: verdict, engine, time, limits that were reached and what to raise."""

from __future__ import annotations

from typing import Any, Final

from results.report_data import Run, as_dict, as_int, as_list, as_number
from results.report_html import NONE, count, esc, key_text, section, table, verdict_cell
from results.report_words import term

_undecided: Final = 20  # keys without a verdict that are named


def properties(run: Run) -> str:
    """Each checker's answer, and below it what those that do not know would need."""
    checks = run.checks
    if not checks:
        body = '<p class="empty">No check has judged this run.</p>'
        return section("properties", "Properties", body)
    rows = []
    for name, check in checks.items():
        time = as_number(check.get("seconds"))
        found = len(as_list(check.get("anomalies")))
        rows.append(
            (
                f"<b>{term('linearizable') if name == 'linearizable' else esc(name)}</b>",
                verdict_cell(check.get("verdict")),
                esc(check.get("reason")),
                esc(check.get("engine") or NONE, 40),
                f"{time:.2f} s" if time is not None else NONE,
                esc(_limits(check)),
                f'<a href="#anomalies">{found:,}</a>' if found else "0",
            )
        )
    head = ("check", "verdict", "why", "engine", "#time", "limits reached", "#violations")
    return section(
        "properties",
        "Properties",
        table(head, rows, "checks", "Properties") + "".join(_open(name, c) for name, c in checks.items()),
        "What was checked. Unknown is never success.",
    )


def _unknown_keys(check: dict[str, Any]) -> list[dict[str, Any]]:
    return [u for u in as_list(as_dict(check.get("detail")).get("unknown")) if isinstance(u, dict)]


def _limits(check: dict[str, Any]) -> str:
    """The limits that kept a check from deciding."""
    limits = list(dict.fromkeys(str(u.get("limit")) for u in _unknown_keys(check)))
    if limits:
        return ", ".join(limits)
    if as_dict(check.get("detail")).get("trouble"):
        return "see below"
    return "none" if check.get("verdict") in ("valid", "invalid") else NONE


def _open(name: str, check: dict[str, Any]) -> str:
    """Why a check does not know, and what is to be raised so that it may."""
    detail = as_dict(check.get("detail"))
    keys = _unknown_keys(check)
    items = []
    if detail.get("trouble"):
        items.append(esc(detail["trouble"], 600))
    for u in keys[:_undecided]:
        reached = as_int(u.get("reached"))
        far = f", an order was found for the first {reached:,}" if reached else ""
        items.append(
            f"<b>{esc(key_text(u.get('key')), 80)}</b>: {esc(count(u.get('ops')))} operations{far};"
            f" stopped by {esc(u.get('limit'), 60)}: {esc(u.get('raise'), 300)}"
        )
    if not items:
        if check.get("verdict") in ("valid", "invalid"):
            return ""
        items = [esc(check.get("reason") or "It gave no reason.", 600)]
    total = as_int(detail.get("unknown_keys")) or len(keys)
    more = f"<li>and {total - _undecided:,} more keys</li>" if total > _undecided and keys else ""
    listed = "".join(f"<li>{item}</li>" for item in items)
    title = "does not know" if check.get("verdict") == "unknown" else "left keys undecided"
    return f'<h3>Why {esc(name, 80)} {title}, and what to raise</h3><ul class="open">{listed}{more}</ul>'
