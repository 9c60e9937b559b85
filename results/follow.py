"""The state of a run that goes on, as its growing directory shows it: for the terminal and for the browser.

`Follower` keeps up with the files at little cost: the journal is counted in blocks, never parsed
line by line, since a journal may grow by 10 MB a second and the cores belong to the run.
"""

from __future__ import annotations

import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from results.rundir import read_object
from results.tail import Tail, json_object

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
            self.count(block)
        if self.phase is None:
            waiting = (read_object(self._run_dir / "admission.json") or {}).get("waiting")
            self.waiting = waiting if isinstance(waiting, int) else 0
        for line in self._ledger.objects():
            self.note(line)
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

    def count(self, block: bytes) -> None:
        """Take note of whole lines of the journal."""
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

    def note(self, line: dict[str, Any]) -> None:
        """Take note of a line of the ledger."""
        fault = line.get("fault")
        if not isinstance(fault, str):
            return
        event = line.get("event")
        if event == "plan":
            self._plans[fault] = line
        elif event == "applied" and fault in self._plans:
            at = line.get("time")
            self.faults[fault] = {**self._plans[fault], "applied": at if isinstance(at, int) else 0}
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
