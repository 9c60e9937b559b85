"""Two runs beside each other on the terminal: `splitbrain diff A B`."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from results.compare import Comparison, change, shown
from results.report.html import plain

_styles: Final = {"valid": "green", "invalid": "red", "unknown": "yellow", "error": "magenta"}
_longest: Final = 400


def print_comparison(console: Console, found: Comparison) -> None:
    """Its summary, then a table of what differs for each section; sections without differences in one line."""
    for letter, side in (("A", found.a), ("B", found.b)):
        console.print(
            Text.assemble(
                (f"{letter}  ", "bold"),
                (f"{plain(side['state'])}  ", _styles.get(side["state"], "dim")),
                f"{plain(side['title'], _longest)}  ",
                (plain(side["run"], _longest), "dim"),
            ),
            soft_wrap=True,
        )
    console.print()
    for sentence in found.summary:
        console.print(Text(plain(sentence, _longest)), soft_wrap=True)
    for section in found.sections:
        if not section.differing:
            continue
        console.print()
        console.print(Text(section.title, style="bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("", no_wrap=True)
        table.add_column("A", overflow="fold")
        table.add_column("B", overflow="fold")
        table.add_column("", justify="right", no_wrap=True)
        for line in section.lines:
            if not line.same:
                a, b = (shown(value, line.name) for value in (line.a, line.b))
                cells = (plain(line.name, _longest), a, b, change(line))
                table.add_row(*map(Text, cells))
        console.print(Padding(table, (0, 0, 0, 2)))
    equal = [section.title.lower() for section in found.sections if section.lines and not section.differing]
    if equal:
        console.print()
        console.print(Text(f"No difference in {', '.join(equal)}.", style="dim"))
