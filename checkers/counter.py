"""Property `counter`: every read lies between what was certainly added and what could have been.

Each key is a counter that starts at 0; `add` of an integer, `read` of the sum. The bounds are those of
Jepsen's `counter` (jepsen/src/jepsen/checker.clj, jepsen-io/jepsen): no less than everything whose add
had been acknowledged before the read began, no more than everything whose add had begun before the
read was answered and was not reported as certainly failed (`too-low`, `too-high`). A negative amount
counts the other way round. Where nothing negative is ever added, a counter does not fall: a read that
begins after another was answered must not return less (`went-back`).

It does not ask whether a sum can be made of the amounts at all, nor in which order concurrent adds
took effect. O(n) in time, memory linear in the anomalies and what is open at once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from checkers._windows import (
    anomaly,
    by,
    judged,
    last_fault,
    malformed,
    more,
    of,
    operation,
    settle,
    summary,
)
from checkers.explain import Clock, count, text
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor

if TYPE_CHECKING:
    from harness.core.history import History

COUNTER: Final = Descriptor(
    name="counter",
    summary="every read of a counter lies between what was certainly added and what could have been",
    target="checkers.counter:Counter",
)
KINDS: Final = ("too-low", "too-high", "went-back")


class _Row(msgspec.Struct, gc=False):
    type: str
    f: str
    value: Any
    key: Any = None


class Counter:
    """The checker."""

    name = "counter"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError, since it has no options."""
        settle(options, "counter", ())

    def check(self, ctx: CheckContext) -> Result:
        """Decide every counter.

        Raises: HistoryError for an amount or a sum that is no integer.
        """
        history = ctx.history()
        began = time.monotonic()
        counters = _follow(ctx, history)
        found = [(c, v) for c in counters for v in c.found.values()]
        found.sort(key=lambda x: (KINDS.index(x[1].kind), x[1].at))
        anomalies = [_anomaly(history, c, v) for c, v in found]
        adds, reads = sum(c.adds for c in counters), sum(c.reads for c in counters)
        after = any(c.last_asked > last_fault(history) for c in counters)
        trouble = None
        if not adds:
            trouble = "no add was acknowledged, so there is nothing that could be lost"
        elif not reads:
            trouble = "no read was answered, so nothing is known of what was added; run it again"
        elif not after:
            trouble = "no read after the last fault was answered, so what faults did to the sums was not seen"
        good = f"each of {count(reads, 'read')} of {count(len(counters), 'counter')} was within its bounds"
        return Result(
            verdict=judged(anomalies, trouble),
            reason=summary(anomalies) if anomalies else trouble or good,
            seconds=time.monotonic() - began,
            anomalies=anomalies,
            detail={
                "keys": len(counters),
                "acknowledged_adds": adds,
                "reads": reads,
                "widest_bounds": max((c.widest for c in counters), default=0),
                **{k.replace("-", "_"): sum(c.times(k) for c in counters) for k in KINDS},
            },
        )


class _Violation(msgspec.Struct):
    """The first of its kind on a counter: the read at `at`, invoked at `asked`; `bound` is what it broke."""

    at: int
    asked: int
    kind: str
    value: int
    bound: int
    other: int  # the invocation of the operation that the bound comes from, or -1
    times: int = 1


class _Counter(msgspec.Struct):
    """A counter while the history is followed: sums of what has begun and of what was acknowledged."""

    key: Any
    begun: int = 0
    acked: int = 0
    begun_negative: int = 0
    acked_negative: int = 0
    acked_from: int = -1  # the invocation of the add acknowledged last
    largest: int = 0  # read so far, by the read invoked at `largest_from`
    largest_from: int = -1
    negative: bool = False  # something negative was tried
    adds: int = 0
    reads: int = 0
    widest: int = 0
    last_asked: int = -1
    found: dict[str, _Violation] = {}

    def times(self, kind: str) -> int:
        """How many reads broke their bounds in this way."""
        return self.found[kind].times if kind in self.found else 0

    def add(self, amount: int) -> None:
        """An add begins that may take effect."""
        if amount < 0:
            self.negative = True
            self.begun_negative += amount
        else:
            self.begun += amount

    def added(self, amount: int, asked: int) -> None:
        """An add is acknowledged."""
        self.adds += 1
        self.acked_from = asked
        if amount < 0:
            self.acked_negative += amount
        else:
            self.acked += amount

    def read(self, value: int, asked: int, at: int, then: _Then) -> None:
        """A read is answered; `then` is what was known when it began."""
        low, high = then.acked + self.begun_negative, self.begun + then.acked_negative
        if value < low:
            self._broke("too-low", at, asked, value, low, then.acked_from)
        if value > high:
            self._broke("too-high", at, asked, value, high, -1)
        if then.largest_from >= 0 and value < then.largest:
            self._broke("went-back", at, asked, value, then.largest, then.largest_from)
        if self.largest_from < 0 or value > self.largest:
            self.largest, self.largest_from = value, asked
        self.reads += 1
        self.widest = max(self.widest, high - low)
        self.last_asked = max(self.last_asked, asked)

    def _broke(self, kind: str, at: int, asked: int, value: int, bound: int, other: int) -> None:
        """Keep the first of each kind, count the rest."""
        if kind in self.found:
            self.found[kind].times += 1
        else:
            self.found[kind] = _Violation(at, asked, kind, value, bound, other)


class _Then(msgspec.Struct, frozen=True, gc=False):
    """What was known of a counter when a read of it began."""

    acked: int
    acked_negative: int
    acked_from: int
    largest: int
    largest_from: int


def _follow(ctx: CheckContext, history: History) -> list[_Counter]:
    """One pass in order of real time. What is open is kept until it completes: an add with its amount,
    a read with what was known when it began."""
    import numpy as np

    from harness.core.history import FAIL, OK, identity

    ends = np.where(history.pair >= 0, history.type[history.pair], 255).astype(np.uint8).tobytes()
    client, pair = history.client.tobytes(), history.pair.data
    counters: dict[Any, _Counter] = {}
    adding: dict[int, tuple[_Counter, int]] = {}
    reading: dict[int, tuple[_Counter, _Then]] = {}
    for position, row in enumerate(history.rows(_Row)):
        if not client[position] or row.f not in ("add", "read"):
            continue
        if row.type == "invoke":
            end = ends[position]
            if end == FAIL or (row.f == "read" and end != OK):
                continue
            key = row.key if type(row.key) is str else identity(row.key)
            c = counters.get(key)
            if c is None:
                c = counters[key] = _Counter(row.key)
            if row.f == "read":
                then = _Then(c.acked, c.acked_negative, c.acked_from, c.largest, c.largest_from)
                reading[position] = (c, then)
                continue
            amount = _integer(ctx, position, row.value, "an add to a counter is of")
            c.add(amount)
            if end == OK:
                adding[position] = (c, amount)
        elif row.type == "ok":
            asked = pair[position]
            if row.f == "add":
                c, amount = adding.pop(asked)
                c.added(amount, asked)
            else:
                c, then = reading.pop(asked)
                c.read(
                    _integer(ctx, position, row.value, "a read of a counter returned"), asked, position, then
                )
    for c in counters.values():
        if c.negative:
            c.found.pop("went-back", None)
    return list(counters.values())


def _integer(ctx: CheckContext, position: int, value: Any, what: str) -> int:
    if type(value) is not int:
        raise malformed(ctx, position, f"{what} {text(value)}; expected an integer")
    return value


def _anomaly(history: History, c: _Counter, v: _Violation) -> Anomaly:
    read = operation(history, v.asked)
    other = operation(history, v.other) if v.other >= 0 else None
    clock = Clock([read, other] if other else [read])
    said = f"the {by(read)}{of(c.key)} returned {v.value} at {clock(read['end_ns'])}"
    if v.kind == "too-low":
        said += f", but adds of {v.bound} in all had been acknowledged before it began at {clock(read['start_ns'])}"
        if other:
            said += f", the last by process {other['process']} at {clock(other['end_ns'])}"
    elif v.kind == "too-high":
        said += f", but all adds that had begun by then and did not certainly fail make {v.bound}"
    elif other:
        said += (
            f", but the {by(other)} had returned {v.bound} at {clock(other['end_ns'])}, before it began at"
            f" {clock(read['start_ns'])}, and nothing is ever taken off this counter"
        )
    positions = [v.asked] if v.other < 0 else [v.asked, v.other]
    return anomaly(
        history, v.kind, c.key, positions, said + more(v.times - 1, "such read"), [read["node"] or ""]
    )
