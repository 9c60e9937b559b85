"""What is seen while a run goes on; it reads the growing run directory and nothing else.

`Live` shows the state on a terminal, `Plain` as lines where there is none. Both write to stderr.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.core.spec import Spec
from results.follow import Follower, Rate, phase_words

OK, FAIL, INFO = "● ok", "✕ fail", "? info"  # shape as well as colour


class Plain:
    """Lines on stderr: at each change of phase or fault, and every few seconds."""

    def __init__(self, spec: Spec, run_dir: Path, console: Console, every_s: float = 5.0) -> None:
        self.follower = Follower(run_dir)
        self._spec, self._console, self._every_s = spec, console, every_s
        self._rate = Rate()
        self._phase: str | None = None
        self._waiting = 0
        self._faults: dict[str, dict[str, Any]] = {}
        self._counted_s = 0.0

    def update(self) -> None:
        f = self.follower
        f.poll()
        now_s = f.elapsed_s()
        if f.phase == "load":
            self._rate.note(now_s, f.done)
        if f.phase is None and f.waiting not in (0, self._waiting):
            self._waiting = f.waiting
            self._say(now_s, phase_words(None, f.waiting))
        if f.phase is not None and f.phase != self._phase:
            self._phase = f.phase
            self._say(now_s, phase_words(f.phase))
        for fault, line in f.faults.items():
            if fault not in self._faults:
                self._say(
                    now_s, f"{line.get('glyph', '!')} {line.get('label', fault)}: {line.get('says', '')}"
                )
        for fault, line in self._faults.items():
            if fault not in f.faults:
                self._say(now_s, f"{line.get('label', fault)} undone")
        self._faults = dict(f.faults)
        if f.phase == "load" and now_s - max(self._counted_s, f.phase_ns / 1e9) >= self._every_s:
            self._counted_s = now_s
            leader, term = f.leader
            led = f"leader {leader}, term {term}" if leader else "no leader seen"
            counts = f"{self._rate.latest:,.0f}/s  {f.ok:,} ok  {f.fail:,} fail  {f.info:,} info"
            self._say(now_s, "  ".join(filter(None, (counts, led, f.checked_words))))

    def stop(self) -> None:
        self.follower.close()

    def _say(self, now_s: float, text: str) -> None:
        self._console.print(Text(f"{now_s:6.1f} s  {text}"), soft_wrap=True, highlight=False)


class Live:
    """The same on a terminal, drawn over itself four times a second."""

    def __init__(self, spec: Spec, run_dir: Path, console: Console) -> None:
        self.follower = Follower(run_dir)
        self._spec, self._run_dir = spec, run_dir
        self._rate = Rate()
        self._live = RichLive(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def update(self) -> None:
        self.follower.poll()
        if self.follower.phase == "load":
            self._rate.note(self.follower.elapsed_s(), self.follower.done)
        self._live.update(self.render(), refresh=True)

    def stop(self) -> None:
        self._live.stop()
        self.follower.close()

    def render(self) -> RenderableType:
        f, spec = self.follower, self._spec
        name = " ".join(filter(None, (spec.system, spec.version)))
        title = Text.assemble(
            ("splitbrain ", "bold"),
            f" {name} · {spec.workload} · seed {spec.seed}  ",
            (str(self._run_dir), "dim"),
        )
        title.no_wrap, title.overflow = True, "ellipsis"
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="ellipsis", no_wrap=True)
        grid.add_row("phase", self._progress())
        grid.add_row("rate", Text(f"{self._rate.latest:,.0f}/s  {self._rate.sparkline()}"))
        grid.add_row(
            "operations",
            Text.assemble(
                (f"{OK} {f.ok:,}   ", "green"),
                (f"{FAIL} {f.fail:,}   ", "red"),
                (f"{INFO} {f.info:,}", "yellow"),
            ),
        )
        grid.add_row(
            "checks", Text(f.checked_words or "no key is spent yet", style="red" if f.violations else "")
        )
        grid.add_row("faults", self._fault_text())
        grid.add_row("nodes", self._node_text())
        return Group(title, grid)

    def _progress(self) -> RenderableType:
        f = self.follower
        now_s = f.elapsed_s()
        if f.phase != "load":
            return Text(f"{phase_words(f.phase, f.waiting)}   {now_s:.0f} s")
        done_s = min(now_s - f.phase_ns / 1e9, self._spec.time_s)
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=self._spec.time_s, completed=max(0.0, done_s), width=40)
        row.add_row(Text(phase_words(f.phase)), bar, Text(f"{done_s:.0f} of {self._spec.time_s:.0f} s"))
        return row

    def _fault_text(self) -> Text:
        f = self.follower
        if not f.faults:
            return Text(f"none in force, {f.faults_begun} so far", style="dim")
        now_s = f.elapsed_s()
        lines = [
            f"{line.get('glyph', '!')} {line.get('label', fault)}: {line.get('says', '')}"
            f" ({max(0.0, now_s - line['applied'] / 1e9):.0f} s)"
            for fault, line in f.faults.items()
        ]
        return Text("\n".join(lines), style="magenta")

    def _node_text(self) -> Text:
        text = Text()
        for name, sample in sorted(self.follower.nodes.items()):
            if not sample.get("ok"):
                text.append(f"{name} ✕ silent   ", style="red")
                continue
            role, term = sample.get("role", "unknown"), sample.get("term")
            glyph, style = ("★", "bold") if role == "leader" else ("·", "")
            text.append(f"{name} {glyph} {role}{'' if term is None else f', term {term}'}   ", style=style)
        return text if self.follower.nodes else Text("not seen yet", style="dim")
