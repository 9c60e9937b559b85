"""How a night is seen while it goes on: a table that is drawn over itself on a terminal, elsewhere a line for
each attempt.

It reads the runs' growing directories and the ledger's state, and nothing else. Both write to stderr.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from results.follow import Follower, phase_words
from splitbrain.campaign.cell import run_dir_of
from splitbrain.campaign.ledger import Attempt
from splitbrain.campaign.plan import Cell
from splitbrain.campaign.summary import word

if TYPE_CHECKING:
    from splitbrain.campaign.runner import Night

_styles: Final = {
    "valid": "green",
    "invalid": "red",
    "unknown": "yellow",
    "error": "magenta",
    "cut off": "magenta",
}
_signs: Final = {"valid": "✔", "invalid": "✘", "unknown": "?", "error": "!", "cut off": "!"}
_every_s: Final = 0.5
_latest: Final = 6


class Plain:
    """Lines, for logs: one for each attempt that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, night: Night) -> None:
        """Nothing: what goes on is not told here."""

    def ended(self, cell: Cell, attempt: Attempt) -> None:
        self._console.print(_line(cell, attempt), soft_wrap=True, highlight=False)

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True, highlight=False)

    def close(self) -> None:
        """Nothing is left."""


class Live:
    """The same on a terminal."""

    def __init__(self, console: Console) -> None:
        self._live = RichLive(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()
        self._console = console
        self._followers: dict[str, tuple[Follower, float]] = {}
        self._last_s = 0.0

    def update(self, night: Night) -> None:
        if time.monotonic() - self._last_s < _every_s:
            return
        self._last_s = time.monotonic()
        self._live.update(self.render(night), refresh=True)

    def ended(self, cell: Cell, attempt: Attempt) -> None:
        if (follower := self._followers.pop(attempt.run, None)) is not None:
            follower[0].close()
        if word(attempt) != "valid":  # what went well is in the counts
            self._console.print(_line(cell, attempt), highlight=False)

    def say(self, text: str) -> None:
        self._console.print(Text(text), highlight=False)

    def close(self) -> None:
        self._live.stop()

    def render(self, night: Night) -> RenderableType:
        """The night as it stands."""
        state = night.state
        ended = [a for a in state.attempts.values() if a.how is not None]
        words = [word(a) for a in ended]
        counts = Text("  ").join(
            Text(f"{_signs[w]} {words.count(w)} {w}", style=_styles[w])
            for w in _signs
            if words.count(w) or w == "valid"
        )
        budget = night.campaign.budget_s
        at_work = f"{state.elapsed_s / 60:.0f} min" + (f" of {budget / 60:.0f}" if budget else "")
        total = len(night.plan.cells)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text("splitbrain campaign", style="bold"), Text(f"{night.plan.name} · {night.folder.name}")
        )
        done = len(state.done())
        bar: RenderableType = ProgressBar(total=max(1, total), completed=min(done, total), width=40)
        head.add_row(Text(f"{done} of {total}{' and more' if night.plan.endless else ''}"), bar)
        head.add_row(Text("at work"), Text(at_work))
        head.add_row(Text("runs"), counts)
        found = dict.fromkeys(f["signature"] for a in ended for f in a.findings)
        head.add_row(
            Text("findings"), Text("\n".join(list(found)[:_latest]) or "none", style="red" if found else "")
        )
        on = Table.grid(padding=(0, 2))
        for run in night.places.running():
            cell = night.cell(state.attempts[run].cell)
            on.add_row(
                Text(run, style="dim"), Text(self._phase(night, run)), Text(cell.label, overflow="ellipsis")
            )
        return Group(head, on)

    def _phase(self, night: Night, run: str) -> str:
        if run not in self._followers:
            run_dir = run_dir_of(night.folder, run)
            if run_dir is None:
                return "starting"
            self._followers[run] = (Follower(run_dir), time.monotonic())
        follower, began_s = self._followers[run]
        follower.poll()
        return f"{phase_words(follower.phase, follower.waiting)}, {time.monotonic() - began_s:.0f} s"


def _line(cell: Cell, attempt: Attempt) -> Text:
    kind = word(attempt)
    if cell.kind == "canary" and kind == "invalid":  # what it is there for
        return Text.assemble(
            ("✔ found   ", "green"), f" {attempt.run}  {cell.id}  {cell.label}, seed {cell.seed}"
        )
    found = "; ".join(f["signature"] for f in attempt.findings)
    why = "" if kind == "valid" else f": {found or attempt.reason}"
    return Text.assemble(
        (f"{_signs[kind]} {kind:8}", _styles[kind]),
        f" {attempt.run}  {cell.id}  {cell.label}, seed {cell.seed}{why}",
    )
