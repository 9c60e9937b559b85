"""Did a node crash without being made to, or say that its data are corrupt?

The nodes' logs were searched by the system's own patterns when they were collected (`events.jsonl`):
`crash` is a panic or a fatal error, `corruption` a message about corrupt data. Being killed leaves no
such line. So a crash is a violation, unless the node's processes were being killed at that moment
(from the kill until its own next `start`; logs are noted ten times a second, hence half a second of slack),
or it was denied what it cannot do without, such as room on its disk (as long as that lasts, however often it is
started meanwhile), or it was no member any more and not yet one again, or a fault had been applied before it that
the system does not promise to survive: then it is an observation.
A message about corruption is a violation, unless something had corrupted data on purpose, which a good
system reports, or such a fault went before.

It cannot see a process that ended without a word, nor lines that no pattern of the system knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from checkers._beyond import applied, beyond
from checkers._events import events, has_logs, seconds
from checkers._members import lines, removed
from checkers._windows import window
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.ledger import FaultRecord
from harness.core.system import LogEvent

if TYPE_CHECKING:
    from harness.core.history import History

LOGS: Final = Descriptor(
    name="logs",
    summary="no node crashed that no fault crashed, and none says that its data are corrupt",
    target="checkers.logs:Logs",
)
_killing: Final = frozenset({"kill", "walk", "power-loss", "crash-point"})  # they end a node's processes
# They leave them nothing better to do than to end.
_denying: Final = frozenset({"disk-full", "read-only", "disk-error", "fd-limit", "memory-pressure"})
_corrupting: Final = frozenset({"bit-flip", "truncate", "power-loss", "wipe", "rollback"})
_slack_ns: Final = 500_000_000
_shown_ops: Final = 5
_listed: Final = 50


class Logs:
    """The checker. It has no options."""

    name = "logs"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        del options

    def check(self, ctx: CheckContext) -> Result:
        told = events(ctx.run_dir)
        faults = applied(ctx.run_dir)
        outside = removed(lines(ctx.run_dir))
        starts: dict[str, list[int]] = {}
        for e in told:
            if e.kind == "start":
                starts.setdefault(e.node, []).append(e.time)
        violations: list[tuple[LogEvent, str]] = []
        observations: list[str] = []
        crashes: dict[tuple[str, int], LogEvent] = {}  # lines of one node, seen at once, are one crash
        for e in told:
            if e.kind == "crash":
                crashes.setdefault((e.node, e.time), e)
        corrupt = [e for e in told if e.kind == "corruption"]
        for e in sorted([*crashes.values(), *corrupt], key=lambda e: e.time):
            text = f'{e.node} logged "{e.text}" by {seconds(e.time)}'
            because = _excuse(e, faults, starts.get(e.node, []))
            if because is None and e.kind == "crash" and outside(e.node, e.time, _slack_ns):
                because = "when it had been removed from the cluster"
            if because is None and (past := beyond(faults, ctx.spec, e.time)):
                because = f"after a fault that the system does not promise to survive: {', '.join(past)}"
            if because is None:
                violations.append((e, text))
            else:
                observations.append(f"{text}, {because}")
        detail: dict[str, Any] = {
            "crashes": len(crashes),
            "corruptions": len(corrupt),
            "violations": len(violations),
            "observations": observations[:_listed],
        }
        if violations:
            anomalies = [_anomaly(ctx.history(), e, text) for e, text in violations[:_listed]]
            more = f" (and {len(violations) - 1} more such lines)" if len(violations) > 1 else ""
            reason = anomalies[0].explanation + more
            return Result(verdict="invalid", reason=reason, anomalies=anomalies, detail=detail)
        if observations:
            return Result(verdict="valid", reason=observations[0], detail=detail)
        if not told:
            if has_logs(ctx.run_dir) and ctx.run_dir and not (ctx.run_dir / "events.jsonl").exists():
                reason = "the run ended before its logs were searched; run it again"
                return Result(verdict="unknown", reason=reason, detail=detail)
            return Result(verdict="valid", reason="no log tells of anything, a crash neither", detail=detail)
        reason = "no log tells of a crash or of corrupt data"
        return Result(verdict="valid", reason=reason, detail=detail)


def _excuse(event: LogEvent, faults: Sequence[FaultRecord], starts: Sequence[int]) -> str | None:
    """The fault that is the reason for what a node said, in words."""
    for f in faults:
        begin = (f.applied or 0) - _slack_ns
        if event.kind == "corruption":
            corrupts = f.family in _corrupting or "corrupt" in f.target
            if corrupts and begin <= event.time:
                return f"after {f.family} {f.fault} had corrupted what it could ({f.says})"
            continue
        if event.node not in f.nodes:
            continue
        if f.family in _denying and begin <= event.time <= (f.undone or event.time) + _slack_ns:
            return f"while {f.family} {f.fault} kept it from working ({f.says})"
        if f.family not in _killing:
            continue
        # Whatever it says after it was started again it says by itself.
        again = min((t for t in starts if t > (f.applied or 0)), default=None)
        end = f.undone if again is None else again - 1
        if begin <= event.time and (end is None or event.time <= end):
            return f"while {f.family} {f.fault} was ending its processes ({f.says})"
    return None


def _anomaly(history: History, event: LogEvent, text: str) -> Anomaly:
    """With the operations through that node which were under way, or had come last."""
    if event.kind == "crash":
        text += ", and no fault that was being applied to it explains that"
    else:
        text += ", and nothing had been done that corrupts data"
    at = history.invocations()
    code = history.node_names.index(event.node) if event.node in history.node_names else -1
    mine = at[(history.node[at] == code) & (history.time[at] <= event.time)][-_shown_ops:]
    ops = window(history, np.asarray(mine).tolist())
    return Anomaly(kind=event.kind, key=None, window=ops, explanation=text, nodes=[event.node])
