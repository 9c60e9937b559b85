"""Property `log`: what was acknowledged is in the log, exactly once, in an order that fits real time.

Each key is a log: `publish` of a message, acknowledged perhaps with its number (`ext.sequence`); `read` from a
number on, or of all. Numbers grow along the log and are never given twice; what they are beyond that is the
system's to say (they may have gaps). A log only grows at its end. Hence, for a message that is *known* to
stand at a number, by its acknowledgement or by any read:

* `lost`: a read that passed over its number does not show it, and no later read does; or a final read ends
  before it though it was known when the read began. One reader's loss is a loss, whatever others see.
* `gap`: as before, but a later read shows it.
* `stale` (option `stale=violation`): a read ends before a message that was known when the read began.
* `duplicated` (option `delivery=exactly-once`): it stands at two numbers.
* `reordered`: it was published after another one had been acknowledged, and has a smaller number; or a
  read shows numbers that do not grow.
* `disagree`: two operations tell of different messages at one number.
* `phantom`: nobody had begun to publish it when a read showed it; `failed-publish`: only publishes that certainly
  failed ever tried to.

A publish of unknown outcome that turns out to be there is `recovered`, no violation. O(n log n) in operations
plus messages read, memory linear.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from checkers._operations_of import NEVER
from checkers._windows import anomaly, by, judged, last_fault, more, of, operation, settle, summary
from checkers.explain import Clock, count, text
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.options import Option

if TYPE_CHECKING:
    from checkers._log_seen import Log, Met, Read
    from harness.core.history import History

_options: Final = (
    Option(
        name="delivery",
        default="exactly-once",
        choices=("exactly-once", "at-least-once"),
        summary="whether a message that is there twice is a violation",
    ),
    Option(
        name="stale",
        default="allowed",
        choices=("allowed", "violation"),
        summary="whether a read may end before what was known when it began; final reads never may",
    ),
)
LOG: Final = Descriptor(
    name="log",
    summary="what was acknowledged is in the log, once, in an order that fits real time",
    target="checkers.log:Logs",
    options=_options,
)
KINDS: Final = (
    "lost",
    "phantom",
    "failed-publish",
    "duplicated",
    "reordered",
    "disagree",
    "gap",
    "stale",
)
_pairs: Final = 1000  # of read and message that are looked at in one log


class Logs:
    """The checker; see the options of `LOG`."""

    name = "log"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError for an option that does not exist or a value out of range."""
        settled = settle(options, "log", _options)
        self.once = settled["delivery"] == "exactly-once"
        self.stale_allowed = settled["stale"] == "allowed"

    def check(self, ctx: CheckContext) -> Result:
        """Decide every log.

        Raises: HistoryError for a number that is no integer or a read that shows no messages.
        """
        from checkers._log_seen import logs

        history = ctx.history()
        began = time.monotonic()
        found = logs(ctx, history)
        anomalies: list[tuple[int, Anomaly]] = []
        for log in found:
            judge = _Judge(history, log, stale_allowed=self.stale_allowed)
            anomalies += judge.anomalies(once=self.once)
        anomalies.sort(key=lambda a: a[0])
        shown = [a for _, a in anomalies]
        detail = _detail(found)
        trouble = _trouble(history, found)
        good = (
            f"each of {count(detail['acknowledged'] - detail['unread'], 'acknowledged message')} of"
            f" {count(len(found), 'log')} was in every read that had to show it"
            + (
                f"; {count(detail['unread'], 'acknowledged message')} no read was there to show"
                if detail["unread"]
                else ""
            )
            + (f"; {detail['duplicates']} there twice" if detail["duplicates"] else "")
        )
        return Result(
            verdict=judged(shown, trouble),
            reason=summary(shown) if shown else trouble or good,
            seconds=time.monotonic() - began,
            anomalies=shown,
            detail=detail,
        )


def _detail(found: list[Log]) -> dict[str, Any]:
    """Counts over all logs."""
    acked = unread = recovered = duplicates = unfinished = 0
    for log in found:
        shown = {seq for read in log.reads for seq in read.shown}
        ends = max((read.next for read in log.reads), default=0)
        closing = max((read.at for read in log.reads if read.final), default=-1)
        own = 0
        for publish in log.publishes:
            there = any(seq in shown for seq in log.numbers.get(publish.message, ()))
            if publish.done < NEVER:
                own += 1
                passed = publish.seq is not None and publish.seq < ends
                unread += not there and not passed and closing < publish.done
            else:
                recovered += there
        acked += own
        duplicates += sum(len(numbers) > 1 for numbers in log.numbers.values())
        unfinished += bool(own) and closing < 0
    return {
        "keys": len(found),
        "published": sum(len(log.tried) for log in found),
        "acknowledged": acked,
        "unread": unread,
        "recovered": recovered,
        "duplicates": duplicates,
        "reads": sum(len(log.reads) for log in found),
        "messages_read": sum(len(r.shown) for log in found for r in log.reads),
        "without_final_read": unfinished,
    }


def _trouble(history: History, found: list[Log]) -> str | None:
    """What was not seen without which nothing is known."""
    if not any(p.done < NEVER for log in found for p in log.publishes):
        return "no publish was acknowledged, so there is nothing that could be lost"
    reads = [r for log in found for r in log.reads]
    if not reads:
        return "no read was answered, so nothing is known of what was published; run it again"
    after = last_fault(history)
    if not any(r.at > after for r in reads):
        return "no read after the last fault was answered, so what faults did to the logs was not seen"
    if history.final.any():
        silent = [
            log
            for log in found
            if any(p.done < NEVER for p in log.publishes) and not any(r.final for r in log.reads)
        ]
        if silent:
            return (
                f"of {count(len(silent), 'log')} no final read was answered, {text(silent[0].key, bare=True)} the"
                " first of them, so what is left of what was acknowledged there is not known"
            )
    return None


class _Judge:
    """What is wrong with one log."""

    def __init__(self, history: History, log: Log, *, stale_allowed: bool) -> None:
        self._history, self._log = history, log
        self._stale_allowed = stale_allowed
        self._last: dict[int, Read] | None = None  # the read begun last of those that show a number

    def anomalies(self, *, once: bool) -> list[tuple[int, Anomaly]]:
        """One for each kind, with the first as its example."""
        first: dict[str, tuple[tuple[int, ...], str]] = {}
        many: dict[str, set[Any]] = {}
        for kind, message, positions, said in self._all(once=once):
            first.setdefault(kind, (positions, said))
            many.setdefault(kind, set()).add(message)
        return [
            (
                KINDS.index(kind),
                anomaly(
                    self._history,
                    kind,
                    self._log.key,
                    positions,
                    said + more(len(many[kind]) - 1, "message"),
                ),
            )
            for kind, (positions, said) in first.items()
        ]

    def _all(self, *, once: bool) -> Any:
        """(kind, message, positions, sentence) for each thing that is wrong."""
        log = self._log
        for kind, odd in log.odd.items():
            for positions, value in odd[:_pairs]:
                yield self._odd(kind, positions, value)
        if once:
            for message, numbers in log.numbers.items():
                if len(numbers) > 1:
                    a, b = (log.met[seq] for seq in sorted(numbers)[:2])
                    low, high = sorted(numbers)[:2]
                    said = (
                        f"the message {text(a.value)}{of(log.key)} is there twice, as number {low} (told by the"
                        f" {self._by(a.at)}) and as number {high} (told by the {self._by(b.at)})"
                    )
                    yield (
                        "duplicated",
                        message,
                        (log.tried[message].at, a.at, b.at)
                        if message in log.tried
                        else (
                            a.at,
                            b.at,
                        ),
                        said,
                    )
        yield from self._reordered()
        yield from self._missing()

    def _by(self, at: int) -> str:
        return by(operation(self._history, at))

    def _odd(
        self, kind: str, positions: tuple[int, ...], value: Any
    ) -> tuple[str, Any, tuple[int, ...], str]:
        ops = [operation(self._history, p) for p in positions]
        clock = Clock(ops)
        one = ops[-1]
        what = f"the {by(one)}{of(self._log.key)} returned"
        when = f"at {clock(one['end_ns'])}"
        if kind == "disagree":
            seq, known, new = value
            said = (
                f"number {seq}{of(self._log.key)} is {text(known)} by the {by(ops[0])} and {text(new)} by the"
                f" {by(one)}; a number is given once"
            )
            return kind, seq, positions, said
        if kind == "unsorted":
            said = f"{what} {text(value)} {when} under a number that is no greater than the one before it"
            return "reordered", text(value), positions, said
        if kind == "failed-publish":
            said = f"{what} {text(value)} {when}, but every publish of it was reported as certainly failed"
        else:
            said = f"{what} {text(value)} {when}, but nobody had begun to publish it by then"
        return kind, text(value), positions, said

    def _reordered(self) -> Any:
        """Messages with smaller numbers than such as were acknowledged before they were published."""
        log = self._log
        placed = []
        for publish in log.publishes:
            numbers = log.numbers.get(publish.message)
            seq = publish.seq if publish.seq is not None else numbers[0] if numbers else None
            if seq is not None:
                placed.append((publish, seq))
        ended = sorted((p.done, seq, p) for p, seq in placed if p.done < NEVER)
        top: list[tuple[int, Any]] = []
        for _, seq, publish in ended:
            top.append(max(top[-1], (seq, publish), key=lambda t: t[0]) if top else (seq, publish))
        dones = [done for done, _, _ in ended]
        for publish, seq in placed:
            before = bisect_left(dones, publish.at) - 1
            if before < 0 or top[before][0] <= seq:
                continue
            high, earlier = top[before]
            one, two = (operation(self._history, p.at) for p in (earlier, publish))
            clock = Clock([one, two])
            said = (
                f"the {by(two)} of {text(publish.value)}{of(log.key)} began at {clock(two['start_ns'])} and has number"
                f" {seq}, which is before number {high} of {text(earlier.value)}, acknowledged already at"
                f" {clock(one['end_ns'])}"
            )
            yield "reordered", publish.message, (earlier.at, publish.at), said

    def _missing(self) -> Any:
        """Messages that a read had to show and did not."""
        log = self._log
        numbers = sorted(log.met)
        known = sorted((m.done, seq) for seq, m in log.met.items())
        dones = [done for done, _ in known]
        top: list[int] = []
        for _, seq in known:
            top.append(max(seq, top[-1]) if top else seq)
        pairs = 0
        for read in log.reads:
            low, high = bisect_left(numbers, read.first), bisect_left(numbers, read.next)
            if high - low > len(set(read.shown)) and pairs < _pairs:
                shown = set(read.shown)
                for seq in numbers[low:high]:
                    if seq not in shown and pairs < _pairs:
                        pairs += 1
                        yield self._absent(read, seq, log.met[seq], passed=True)
            before = bisect_left(dones, read.at) - 1
            if before < 0 or top[before] < read.next or (self._stale_allowed and not read.final):
                continue
            for seq in numbers[max(high, low) :]:
                if log.met[seq].done < read.at and pairs < _pairs:
                    pairs += 1
                    yield self._absent(read, seq, log.met[seq], passed=False)
        yield from self._unnumbered()

    def _unnumbered(self) -> Any:
        """Acknowledged messages without a number that a final read of all does not show."""
        log = self._log
        read = max((r for r in log.reads if r.final), key=lambda r: r.at, default=None)
        for publish in log.publishes:
            if publish.done == NEVER or publish.seq is not None or publish.message in log.numbers:
                continue
            if read is None or read.at < publish.done:
                continue
            one, two = (operation(self._history, p) for p in (publish.at, read.at))
            clock = Clock([one, two])
            said = (
                f"the message {text(publish.value)}{of(log.key)}, acknowledged at {clock(one['end_ns'])}, is not in"
                f" the final {by(two)} that began at {clock(two['start_ns'])}"
            )
            yield "lost", publish.message, (publish.at, read.at), said

    def _shown_last(self, seq: int) -> Read | None:
        if self._last is None:
            self._last = {s: r for r in sorted(self._log.reads, key=lambda r: r.at) for s in r.shown}
        return self._last.get(seq)

    def _absent(
        self, read: Read, seq: int, met: Met, *, passed: bool
    ) -> tuple[str, Any, tuple[int, ...], str]:
        log = self._log
        later = self._shown_last(seq) if not read.final else None
        if later is not None and later.at < read.done:
            later = None
        kind = "lost" if read.final or (passed and later is None) else "gap" if passed else "stale"
        publish = log.tried.get(met.message)
        positions = tuple(
            dict.fromkeys(p for p in (publish.at if publish else None, met.at, read.at) if p is not None)
        )
        ops = {p: operation(self._history, p) for p in positions}
        clock = Clock(list(ops.values()))
        told, missed = ops[met.at], ops[read.at]
        how = "acknowledged" if told["f"] == "publish" else f"shown by the {by(told)}"
        if read.final:
            where = f"the final {by(missed)} that began at {clock(missed['start_ns'])}"
        else:
            where = f"the {by(missed)} that was answered at {clock(missed['end_ns'])}"
        said = f"the message {text(met.value)}{of(log.key)}, number {seq}, {how} at {clock(told['end_ns'])},"
        said += f" is not in {where}"
        if passed:
            said += ", which goes beyond that number" if read.next > seq + 1 else ""
        else:
            said += f", which ends before number {read.next}"
        if later is not None:
            said += f"; the {self._by(later.at)} shows it again"
        return kind, met.message, positions, said
