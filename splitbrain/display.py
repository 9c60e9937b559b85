"""What is seen while a run goes on; it reads the growing run directory and nothing else.

`Follower` keeps up with the files at little cost: the journal is counted in blocks, never parsed
line by line, since a journal may grow by 10 MB a second and the two cores belong to the run. `Live`
shows the state on a terminal, `Plain` as lines where there is none. Both write to stderr.
"""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.admission import read_record
from harness.core.spec import Spec
from splitbrain.tail import Tail, json_object

OK, FAIL, INFO = "● ok", "✕ fail", "? info"  # shape as well as colour
_mark_line: Final = re.compile(rb'^\{"(?:phase|end|format)":.*$', re.MULTILINE)
_bars: Final = "▁▂▃▄▅▆▇█"
_phases: Final = {
    "setup": "making nodes",
    "start": "starting the system",
    "load": "load and faults",
    "heal": "undoing the faults",
    "recover": "waiting for recovery",
    "final": "final reads",
    "collect": "collecting logs",
    "done": "checking the history",
    "interrupted": "checking what there is",
    "error": "reporting the error",
}


class Follower:
    """The state of a run as its directory shows it. `poll` as often as you like."""

    def __init__(self, run_dir: Path) -> None:
        self.phase: str | None = None
        self.phase_ns = 0  # when it began, since the run's start
        self.epoch_ns: int | None = None  # CLOCK_MONOTONIC at the run's start
        self.ok = self.fail = self.info = self.invoked = 0
        self.faults: dict[str, dict[str, Any]] = {}  # in force: the plan's line by the fault's id
        self.faults_begun = 0
        self.nodes: dict[str, dict[str, Any]] = {}  # each node's last sample
        self.waiting = 0  # for so many other runs
        self.checked: dict[str, Any] = {}  # keys so far, each with its latest verdict
        self._run_dir = run_dir
        self._journal = Tail(run_dir / "journal.jsonl")
        self._ledger = Tail(run_dir / "faults.jsonl")
        self._monitor = Tail(run_dir / "monitor.jsonl")
        self._checks = Tail(run_dir / "incremental.jsonl")
        self._plans: dict[str, dict[str, Any]] = {}

    def poll(self) -> None:
        for block in self._journal.blocks():
            self._count(block)
        if self.phase is None:
            admission = read_record(self._run_dir)
            self.waiting = admission.waiting if admission else 0
        for line in self._ledger.objects():
            self._fault(line)
        for line in self._monitor.objects():
            if isinstance(line.get("node"), str):
                self.nodes[line["node"]] = line
        for line in self._checks.objects():
            if "key" in line:
                self.checked[repr(line["key"])] = line.get("verdict")

    def close(self) -> None:
        for tail in (self._journal, self._ledger, self._monitor, self._checks):
            tail.close()

    @property
    def done(self) -> int:
        """Client operations completed so far, whatever their outcome."""
        return self.ok + self.fail + self.info

    @property
    def leader(self) -> tuple[str | None, int | None]:
        """(name, term) of the node that says it leads in the highest term."""
        leaders = [s for s in self.nodes.values() if s.get("ok") and s.get("role") == "leader"]
        best = max(leaders, key=lambda s: s.get("term") or 0, default=None)
        return (best["node"], best.get("term")) if best else (None, None)

    @property
    def checked_words(self) -> str:
        """What was found while the run goes on; nothing as long as no key is spent."""
        if not self.checked:
            return ""
        keys = len(self.checked)
        return f"{keys:,} key{'' if keys == 1 else 's'} checked, {self.violations or 'none'} in violation"

    @property
    def violations(self) -> int:
        """Keys found in violation so far."""
        return sum(verdict == "invalid" for verdict in self.checked.values())

    def elapsed_s(self, now_ns: int | None = None) -> float:
        """Seconds since the run's start; 0 before it."""
        if self.epoch_ns is None:
            return 0.0
        return max(0.0, ((time.monotonic_ns() if now_ns is None else now_ns) - self.epoch_ns) / 1e9)

    def _count(self, block: bytes) -> None:
        nemesis = block.count(b'"process":"nemesis"')
        self.ok += block.count(b'"type":"ok"')
        self.fail += block.count(b'"type":"fail"')
        self.info += block.count(b'"type":"info"') - nemesis
        self.invoked += block.count(b'"type":"invoke"')
        for match in _mark_line.finditer(block):
            mark = json_object(match.group()) or {}
            self.phase = mark.get("phase") or mark.get("end") or self.phase
            self.phase_ns = mark.get("time", self.phase_ns)
            self.epoch_ns = mark.get("epoch_mono_ns", self.epoch_ns)

    def _fault(self, line: dict[str, Any]) -> None:
        fault = line.get("fault")
        if not isinstance(fault, str):
            return
        event = line.get("event")
        if event == "plan":
            self._plans[fault] = line
        elif event == "applied" and fault in self._plans:
            self.faults[fault] = {**self._plans[fault], "applied": line.get("time", 0)}
            self.faults_begun += 1
        elif event == "undone":
            self.faults.pop(fault, None)


class Rate:
    """Operations per second over the last minute, a value a second."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=60)
        self._at: float | None = None
        self._done = 0

    def note(self, now_s: float, done: int) -> None:
        if self._at is None:
            self._at, self._done = now_s, done
        elif now_s - self._at >= 1:
            self.values.append((done - self._done) / (now_s - self._at))
            self._at, self._done = now_s, done

    @property
    def latest(self) -> float:
        return self.values[-1] if self.values else 0.0

    def sparkline(self, width: int = 40) -> str:
        """The last values as bars from zero to the greatest."""
        values = list(self.values)[-width:]
        top = max(values, default=0.0)
        if top <= 0:
            return _bars[0] * len(values)
        return "".join(_bars[min(7, int(v / top * 7.999))] for v in values)


def phase_words(phase: str | None, waiting: int = 0) -> str:
    """What is going on in a phase, for people; before the first a run may wait for others."""
    if phase is None and waiting:
        return f"waiting for {waiting} other run{'' if waiting == 1 else 's'}: the machine is full"
    return _phases.get(phase or "setup", phase or "setup")


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
