"""Everything a report says, read from a run directory of which any file may be missing or torn.

Nothing here raises for what a file holds: what cannot be read becomes a sentence in `problems`,
which the report prints. Values are turned into the few plain types that the sections use, so that
they need not ask again.
"""

from __future__ import annotations

import mmap
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import SplitbrainError
from harness.core.ledger import FaultRecord, read_faults
from results.report.log_files import LINE_CHARS, Log, read_logs
from results.report.ops import Operations, read_operations
from results.rundir import read_object, run_id

EVENTS: Final = 2000
MONITOR_LINES: Final = 2_000_000
POINTS: Final = 20_000  # of a node
_end_bytes: Final = 64 * 1024
COLOURS: Final = ("network", "process", "disk", "clock", "membership")


class Span(msgspec.Struct, kw_only=True):
    """A stretch of time in which a node said the same thing of itself; times in ns."""

    start: int
    end: int
    role: str  # leader, follower, candidate, learner, unknown, or down
    term: int | None = None
    error: str = ""


class NodeHistory(msgspec.Struct, kw_only=True):
    """What the sampler saw of one node."""

    node: str
    spans: list[Span] = []
    samples: int = 0
    last: dict[str, Any] = {}
    points: list[tuple[int, int | None, int]] = []  # time, commit index, applied index


class LeaderChange(msgspec.Struct, kw_only=True):
    """A moment at which another node, or a node of another term, was first seen leading."""

    time: int
    node: str
    term: int | None
    previous: str | None


class Run(msgspec.Struct, kw_only=True):
    """A run directory, read. `results` and `spec` are empty where there are none."""

    path: Path
    results: dict[str, Any] = {}
    spec: dict[str, Any] = {}
    env: dict[str, Any] = {}
    faults: list[FaultRecord] = []
    nodes: list[NodeHistory] = []
    leaders: list[LeaderChange] = []
    events: list[dict[str, Any]] = []
    phases: list[tuple[str, int]] = []
    ended: str | None = None  # the journal's last word; None: it was cut off, or there is no journal
    end_error: str | None = None
    journal: bool = False
    epoch_real_ns: int | None = None
    until: int = 0  # the latest time that anything in the run has, ns
    logs: list[Log] = []
    log_sizes: dict[str, list[tuple[int, int]]] = {}  # file -> (time, size) as the sampler noted them
    ops: Operations | None = None
    problems: list[str] = []

    @property
    def run(self) -> str:
        return run_id(self.path)

    def said(self, name: str, default: Any = None) -> Any:
        """A field of the results, else of the spec."""
        for source in (self.results, self.spec):
            if source.get(name) is not None:
                return source[name]
        return default

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        return {str(n): c for n, c in as_dict(self.results.get("checks")).items() if isinstance(c, dict)}

    @property
    def anomalies(self) -> list[tuple[str, dict[str, Any]]]:
        """(check, anomaly), in the order of the checks."""
        return [
            (name, anomaly)
            for name, check in self.checks.items()
            for anomaly in as_list(check.get("anomalies"))
            if isinstance(anomaly, dict)
        ]


def read_run(path: Path) -> Run:
    """Read a run directory, as far as it can be read."""
    run = Run(path=path)
    for name in ("results", "spec", "env"):
        file = path / f"{name}.json"
        value = read_object(file)
        if value is None and file.exists():
            run.problems.append(f"{file.name} is damaged and was left out.")
        setattr(run, name, value or {})
    for step in (_read_journal, _read_faults, _read_monitor, _read_events, _read_logs, _read_ops):
        try:
            step(run)
        except Exception as e:  # noqa: BLE001 - a report is written whatever a run left behind
            what = step.__name__.removeprefix("_read_")
            run.problems.append(f"The {what} of this run could not be read ({type(e).__name__}: {e}).")
    run.until = _until(run)
    return run


def as_dict(value: Any) -> dict[Any, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_int(value: Any) -> int | None:
    """The value if it is a whole number that a column can hold."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62 else None


def as_number(value: Any) -> float | None:
    """The value if it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value)


def _read_journal(run: Run) -> None:
    """Header, phases and end, without parsing what lies between."""
    path = run.path / "journal.jsonl"
    run.journal = path.is_file()
    if not run.journal or not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head = _object(data[: max(data.find(b"\n"), 0)])
        run.epoch_real_ns = as_int(head.get("epoch_real_ns"))
        at = data.find(b'\n{"phase"')
        while at >= 0:
            line = _object(data[at + 1 : max(data.find(b"\n", at + 1), at + 1)])
            time = as_int(line.get("time"))
            if time is not None:
                run.phases.append((str(line.get("phase")), time))
            at = data.find(b'\n{"phase"', at + 1)
        last = data[max(len(data) - _end_bytes, 0) :].rstrip(b"\n").rpartition(b"\n")[2]
        line = _object(last)
        if "end" in line:
            run.ended = str(line["end"])
            run.end_error = str(line["error"]) if line.get("error") else None
            run.phases.append(("end", as_int(line.get("time")) or 0))


def _read_faults(run: Run) -> None:
    try:
        run.faults = read_faults(run.path / "faults.jsonl")
    except SplitbrainError as e:
        run.problems.append(f"The fault ledger cannot be read, no fault is shown: {e}.")


def _read_monitor(run: Run) -> None:
    """Samples into spans: a node's role and term hold until it says something else."""
    nodes: dict[str, NodeHistory] = {}
    claims: dict[str, int | None] = {}  # who calls itself leader now, of which term
    leading: str | None = None
    top_term = -1
    for number, line in enumerate(_objects(run, "monitor.jsonl")):
        if number >= MONITOR_LINES:
            run.problems.append(
                f"monitor.jsonl has more than {MONITOR_LINES:,} lines; the rest is not shown."
            )
            break
        time, node = as_int(line.get("time")), line.get("node")
        if time is None:
            continue
        for name, size in as_dict(line.get("logs")).items():
            if as_int(size) is not None:
                run.log_sizes.setdefault(str(name), []).append((time, size))
        if not isinstance(node, str):
            continue
        history = nodes.setdefault(node, NodeHistory(node=node))
        history.samples += 1
        up = line.get("ok") is True
        role = str(line.get("role") or "unknown") if up else "down"
        term = as_int(line.get("term")) if up else None
        error = "" if up else str(line.get("error") or "no answer")
        spans = history.spans
        if spans:
            spans[-1].end = max(spans[-1].end, time)
        if not spans or (spans[-1].role, spans[-1].term) != (role, term):
            spans.append(Span(start=time, end=time, role=role, term=term, error=error))
        if up:
            history.last = {
                k: line.get(k) for k in ("role", "term", "leader", "commit", "applied", "revision")
            }
            applied = as_int(line.get("applied"))
            if applied is not None and len(history.points) < POINTS:
                history.points.append((time, as_int(line.get("commit")), applied))
        if role != "leader":
            claims.pop(node, None)
            continue
        # A deposed leader that does not know it yet is no change: its term is the older one. Nor is one
        # that goes on calling itself so while another does.
        fresh = node not in claims or claims[node] != term
        claims[node] = term
        if fresh and (term is None or term >= top_term):
            run.leaders.append(LeaderChange(time=time, node=node, term=term, previous=leading))
            leading, top_term = node, max(top_term, term if term is not None else -1)
    run.nodes = [nodes[name] for name in sorted(nodes)]


def _read_events(run: Run) -> None:
    for line in _objects(run, "events.jsonl"):
        time = as_int(line.get("time"))
        if time is None:
            continue
        if len(run.events) >= EVENTS:
            run.problems.append(f"events.jsonl has more than {EVENTS:,} events; the rest is not shown.")
            break
        run.events.append(
            {
                "time": time,
                "node": str(line.get("node") or ""),
                "kind": str(line.get("kind") or ""),
                "term": as_int(line.get("term")),
                "text": str(line.get("text") or "")[:LINE_CHARS],
            }
        )


def _read_logs(run: Run) -> None:
    run.logs = read_logs(run.path / "logs", run.log_sizes, _moments(run), run.problems)


def _moments(run: Run) -> list[int]:
    """The times about which logs are wanted: violations first, then faults; ns."""
    found = []
    for _, anomaly in run.anomalies[:20]:
        ops = [op for op in as_list(anomaly.get("window")) if isinstance(op, dict)]
        times = [as_int(op.get(name)) for op in ops for name in ("start_ns", "end_ns")]
        known = [t for t in times if t is not None]
        found += [max(known), min(known)] if known else []
    for fault in run.faults:
        found += [t for t in (fault.applied, fault.undone) if t is not None]
    return list(dict.fromkeys(found))


def _read_ops(run: Run) -> None:
    failing = [anomaly.get("key") for _, anomaly in run.anomalies]
    run.ops = read_operations(run.path, failing)
    if run.ops is None:
        return
    if run.ops.source == "journal.jsonl" and len(run.ops):
        run.problems.append("There is no history.jsonl; operations are shown as the journal has them.")
    if run.ops.bad_first:
        more = f" ({run.ops.bad_lines:,} lines were left out)" if run.ops.bad_lines > 1 else ""
        run.problems.append(f"A part of the history could not be read: {run.ops.bad_first}{more}.")


def _until(run: Run) -> int:
    latest = [0]
    if run.ops is not None and len(run.ops):
        latest.append(int((run.ops.start + run.ops.duration.clip(min=0)).max()))
    latest += [time for _, time in run.phases]
    latest += [
        t for fault in run.faults for t in (fault.planned, fault.applied, fault.undone) if t is not None
    ]
    latest += [span.end for node in run.nodes for span in node.spans]
    return max(latest)


def _objects(run: Run, name: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; a torn last line passes in silence, others are counted."""
    path = run.path / name
    if not path.is_file():
        return
    bad: deque[int] = deque(maxlen=1)
    count = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            value = _object(line)
            if value:
                yield value
            elif line.strip() and line.endswith(b"\n"):
                bad.append(number)
                count += 1
    if count:
        run.problems.append(f"{name}: {count} lines could not be read, the last of them line {bad[0]}.")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
