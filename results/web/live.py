"""A run while it goes on, for the browser: the growing run directory, and nothing else, once a second.

A `Watcher` adds to the terminal's follower what a picture needs: completions and latencies by the second they fell
in, and the faults that are over. Those who watch the same run share one (`Hub`), so that a journal of 10 MB a second
is read once.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from results.follow import Follower, phase_words
from results.report_html import plain
from results.rundir import read_object

_done: Final = re.compile(rb'"time":(\d{1,18}),"started":(\d{1,18})[^\n]{0,200}?"type":"(ok|fail|info)"')
LONGEST_S: Final = 600  # of the picture; the report has all of it
_MOST_OF_A_SECOND: Final = 20_000  # latencies
_fresh_s: Final = 0.8
_kept_faults: Final = 500
_text: Final = 200


class Watcher(Follower):
    """The state of a run and its last `LONGEST_S` seconds."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.path = run_dir
        self.spec = read_object(run_dir / "spec.json") or {}
        self.lock = threading.Lock()
        self.bands: deque[dict[str, Any]] = deque(maxlen=_kept_faults)
        self.seen_ns = 0  # the latest time that stood anywhere in the journal
        self._latencies: dict[int, list[int]] = {}
        self._counts: dict[int, list[int]] = {}
        self._polled_s = 0.0

    def count(self, block: bytes) -> None:
        super().count(block)
        for match in _done.finditer(block):
            at, started, kind = int(match[1]), int(match[2]), match[3]
            second = at // 1_000_000_000
            counts = self._counts.setdefault(second, [0, 0, 0])
            counts[(b"ok", b"fail", b"info").index(kind)] += 1
            if kind == b"ok":
                latencies = self._latencies.setdefault(second, [])
                if len(latencies) < _MOST_OF_A_SECOND:
                    latencies.append(at - started)
            self.seen_ns = max(self.seen_ns, at)
        self.seen_ns = max(self.seen_ns, self.phase_ns)
        for old in sorted(self._counts)[:-LONGEST_S]:
            self._counts.pop(old, None)
            self._latencies.pop(old, None)

    def note(self, line: dict[str, Any]) -> None:
        before = set(self.faults)
        super().note(line)
        for name in self.faults.keys() - before:
            plan = self.faults[name]
            self.bands.append({**_face(plan), "fault": name, "from_s": _s(plan["applied"]), "to_s": None})
        for name in before - self.faults.keys():
            for band in self.bands:
                if band["fault"] == name and band["to_s"] is None:
                    band["to_s"] = _s(line.get("time"))

    def poll_now_and_then(self) -> None:
        """Read what is new, unless somebody else who watches has just done so."""
        if time.monotonic() - self._polled_s < _fresh_s:
            return
        self.poll()
        self._polled_s = time.monotonic()

    def series(self, since: int) -> list[list[float | int | None]]:
        """[second, ok, fail, info, p50 ms, p99 ms] from second `since` on; None: no operation succeeded."""
        rows: list[list[float | int | None]] = []
        for second in sorted(s for s in self._counts if s >= since):
            took = self._latencies.get(second)
            p50, p99 = np.percentile(took, (50, 99)) / 1e6 if took else (None, None)
            rows.append([second, *self._counts[second], _rounded(p50), _rounded(p99)])
        return rows

    def snapshot(self, since: int, *, alive: bool) -> dict[str, Any]:
        """What the page shows, as plain data; what the system wrote is text without control characters."""
        leader, term = self.leader
        elapsed_s = self.elapsed_s() if alive else self.seen_ns / 1e9
        rates = self.series(max(since, int(elapsed_s) - 3))
        whole = [row for row in rates if row[0] is not None and row[0] < int(elapsed_s)]
        last = whole[-1] if whole else None
        quiet = last is None or (last[0] or 0) < int(elapsed_s) - 2
        return {
            "phase": self.phase,
            "words": phase_words(self.phase, self.waiting),
            "elapsed_s": round(elapsed_s, 1),
            "load_s": self.spec.get("time_s"),
            "loading_s": round(max(0.0, elapsed_s - self.phase_ns / 1e9), 1)
            if self.phase == "load"
            else None,
            "alive": alive,
            "ok": self.ok,
            "fail": self.fail,
            "info": self.info,
            "rate": 0 if quiet or last is None else sum(int(n or 0) for n in last[1:4]),
            "p50_ms": None if quiet or last is None else last[4],
            "p99_ms": None if quiet or last is None else last[5],
            "leader": leader,
            "term": term,
            "faults": [{**_face(f), "from_s": _s(f.get("applied"))} for f in self.faults.values()],
            "faults_begun": self.faults_begun,
            "bands": [{k: v for k, v in band.items() if k != "fault"} for band in self.bands],
            "nodes": [_node(name, sample) for name, sample in sorted(self.nodes.items())],
            "checked": len(self.checked),
            "violations": self.violations,
            "said": self.checked_words or "no key is spent yet",
            "series": self.series(since),
        }


def _face(line: dict[str, Any]) -> dict[str, Any]:
    names = ("label", "glyph", "colour", "says", "family")
    return {name: plain(line.get(name) or "", _text) for name in names}


def _node(name: str, sample: dict[str, Any]) -> dict[str, Any]:
    ok = bool(sample.get("ok"))
    said = {
        k: plain(sample.get(k), _text) if sample.get(k) is not None else None
        for k in ("role", "term", "applied")
    }
    return {
        "node": plain(name, _text),
        "ok": ok,
        **(said if ok else {"error": plain(sample.get("error"), _text)}),
    }


def _s(ns: Any) -> float | None:
    return round(ns / 1e9, 3) if isinstance(ns, int | float) else None


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)


class Hub:
    """One watcher for each run that somebody watches; `most` streams at a time."""

    def __init__(self, goes_on: Callable[[Path], bool], most: int = 32) -> None:
        self._goes_on = goes_on
        self._lock = threading.Lock()
        self._watchers: dict[Path, tuple[Watcher, int]] = {}
        self._places = threading.BoundedSemaphore(most)

    @contextlib.contextmanager
    def watching(self, run_dir: Path) -> Iterator[Watcher | None]:
        """The run's watcher, or None when there are too many streams already."""
        if not self._places.acquire(blocking=False):
            yield None
            return
        try:
            with self._lock:
                watcher, users = self._watchers.get(run_dir) or (Watcher(run_dir), 0)
                self._watchers[run_dir] = (watcher, users + 1)
            try:
                yield watcher
            finally:
                with self._lock:
                    users = self._watchers[run_dir][1] - 1
                    if users:
                        self._watchers[run_dir] = (watcher, users)
                    else:
                        del self._watchers[run_dir]
                        watcher.close()
        finally:
            self._places.release()

    def look(self, watcher: Watcher, since: int) -> tuple[str, dict[str, Any]]:
        """(event, data) of one look: `state` while it goes on; then `over`, `cut` or `gone`, the last one."""
        alive = self._goes_on(watcher.path)
        with watcher.lock:
            watcher.poll_now_and_then()
            data = watcher.snapshot(since, alive=alive)
        if (watcher.path / "results.json").exists() and (
            not alive or (watcher.path / "report.html").exists()  # which is written last
        ):
            return "over", data
        if not watcher.path.exists():
            return "gone", data
        return ("state" if alive else "cut"), data
