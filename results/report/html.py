"""The report's vocabulary in HTML: escaping, figures, shapes and tables.

Whatever a system under test wrote (values, errors, logs) passes `esc`, which leaves no markup and
makes visible what would not be seen or would rearrange its surroundings: control characters, ANSI
sequences, marks that turn the direction of writing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from results.report.ops import FAIL, INFO, OK

SHOWN_CHARS: Final = 4000
NONE: Final = "\N{EN DASH}"  # stands where there is nothing to say
outcome_names: Final = {OK: "ok", FAIL: "fail", INFO: "info"}
_ansi: Final = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_unseen: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


class Html(str):
    """Text that is HTML already, where plain text might stand as well."""

    __slots__ = ()


def esc(value: Any, limit: int = SHOWN_CHARS) -> str:
    r"""Text that may stand anywhere in the document, in attributes too.

    >>> esc("</script>\x1b[31mred\x00")
    '&lt;/script&gt;red␀'
    """
    return html.escape(plain(value, limit))


def esc_text(value: Any, limit: int = SHOWN_CHARS) -> str:
    """`esc` for what stands between tags and never in an attribute: quotes stay, which much of a log is made of."""
    return html.escape(plain(value, limit), quote=False)


def plain(value: Any, limit: int = SHOWN_CHARS) -> str:
    """`esc` without the escaping: for text that goes into data."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text):,} characters)"
    return _unseen.sub(_visible, _ansi.sub("", text).replace("\r\n", "\n"))


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else f"[U+{code:04X}]"


def json_text(value: Any) -> str:
    """A value as JSON, for people."""
    try:
        return msgspec.json.encode(value).decode("utf-8", "replace")
    except (TypeError, ValueError, msgspec.MsgspecError):
        return str(value)


def key_text(value: Any) -> str:
    """A key without the quotes of a plain string; the one object without a key has no name."""
    return value if isinstance(value, str) else "the only object" if value is None else json_text(value)


def seconds(ns: int | None) -> str:
    """A time since the run's start, such as `12.345 s`."""
    return NONE if ns is None else f"{ns / 1e9:.3f} s"


def span(ns: float) -> str:
    """A duration in the unit that suits it.

    >>> span(1_234_000), span(20_500_000_000)
    ('1.23 ms', '20.5 s')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:,.0f} {unit}"
    return f"{ns:.0f} ns"


def count(value: Any) -> str:
    """A number with its thousands set apart; anything else as it is."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else plain(value, 60)


def plural(number: int, word: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def op_text(f: str, asked: str, answered: str, outcome: int) -> str:
    """An operation in a few characters: `write 5`, `read → 3`, `cas 5 → 6`."""
    if f == "cas":
        try:
            pair = msgspec.json.decode(asked)
        except msgspec.DecodeError:
            pair = None
        if isinstance(pair, list) and len(pair) == 2:
            return f"cas {json_text(pair[0])} → {json_text(pair[1])}"
    shown = "" if asked in ("", "null") else f" {asked}"
    if answered and answered != asked and outcome == OK:
        return f"{f}{shown} → {answered}"
    return f"{f}{shown}" + (" → null" if not shown and outcome == OK and f == "read" else "")


_shapes: Final = {
    "valid": '<circle cx="12" cy="12" r="11"/><path class="in" d="M6.8 12.4l3.6 3.6 7-7.6"/>',
    "invalid": '<path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z"/>'
    '<path class="in" d="M7.8 7.8l8.4 8.4M16.2 7.8l-8.4 8.4"/>',
    "unknown": '<path d="M12 .6L23.4 12 12 23.4.6 12z"/>'
    '<path class="in" d="M9.3 9.7a2.8 2.8 0 1 1 4 2.5c-1 .5-1.3 1-1.3 2M12 16.9v.2"/>',
    "error": '<path d="M12 1.4L23.4 22H.6z"/><path class="in" d="M12 8.6v6M12 18v.2"/>',
    "ok": '<circle cx="12" cy="12" r="7.5"/>',
    "fail": '<path class="hollow" d="M5.5 5.5h13v13h-13z"/>',
    "info": '<path d="M12 3.5L21.5 20h-19z"/>',
}


def shape(name: str, label: str = "") -> str:
    """The sign of a verdict or outcome; `label` is what a screen reader says, empty: decoration."""
    words = f'role="img" aria-label="{esc(label)}"' if label else 'aria-hidden="true"'
    return f'<svg class="shape s-{esc(name)}" {words}><use href="#s-{esc(name)}"/></svg>'


def shapes() -> str:
    """The signs themselves, once in a page: `shape` refers to them."""
    signs = "".join(
        f'<symbol id="s-{name}" viewBox="0 0 24 24">{drawn}</symbol>' for name, drawn in _shapes.items()
    )
    return f'<svg class="unseen" aria-hidden="true" width="0" height="0">{signs}</svg>'


def verdict_cell(verdict: Any) -> str:
    """A verdict as sign and word."""
    word = verdict if verdict in ("valid", "invalid", "unknown") else "unknown"
    return f'<span class="verdict-word v-{word}">{shape(word)}{word}</span>'


def outcome_cell(outcome: int) -> str:
    """An outcome as sign and word."""
    word = outcome_names.get(outcome, "info")
    return f'<span class="outcome o-{word}">{shape(word)}{word}</span>'


def table(head: Iterable[str], body: Iterable[Iterable[str]], kind: str = "", caption: str = "") -> str:
    """A table of cells that are HTML already. A head that begins with `#` is a column of figures."""
    given = list(head)
    right = [name.startswith("#") for name in given]
    heads = "".join(
        f'<th scope="col"{" class=num" if r else ""}>'
        f"{n.removeprefix('#') if isinstance(n, Html) else esc(n.removeprefix('#'))}</th>"
        for n, r in zip(given, right, strict=True)
    )
    rows = []
    for cells in body:
        tds = "".join(f"<td{' class=num' if r else ''}>{c}</td>" for c, r in zip(cells, right, strict=True))
        rows.append(f"<tr>{tds}</tr>")
    title = f"<caption>{esc(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption or "table")}">'
        f'<table class="{esc(kind)}">{title}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def section(anchor: str, title: str, body: str, note: str = "") -> str:
    """A part of the report; `note` is plain text beside its title."""
    beside = f'<p class="note">{esc(note)}</p>' if note else ""
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-h">'
        f'<div class="head"><h2 id="{anchor}-h">{esc(title)}</h2>{beside}</div>{body}</section>'
    )
