"""Property `queue`: what was acknowledged comes out, or is still there; nothing else comes out.

Each key is a queue: `enqueue` of an element, `dequeue` of the next one (null: it was empty), and at the end
`read` of what is left, which takes nothing, or `drain`, which takes all of it. A dequeue is no read: one
whose answer is lost may have taken an element, at any time.

* `lost`: an acknowledged element that no dequeue gave out and that an answered read of what is left, begun
  after it was acknowledged, does not show; more of them than dequeues of unknown outcome could have
  taken. Which of them is gone, where some may have been taken, is not known: all are named.
* `phantom`: nobody had begun to enqueue an element when it came out; `failed-enqueue`: only enqueues that
  certainly failed ever tried to.
* `duplicated` (option `delivery=exactly-once`): it came out more often than it was put in. That it is also
  among what is left says nothing: a queue may let go of it a moment later.
* `reordered` (option `order=fifo`): an element was put in after another had been acknowledged, and had come out
  before the other was asked for.

A null answer is not held against a queue: what was in it may have been given out to somebody. O(n log n),
memory linear.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from checkers._operations_of import NEVER
from checkers._windows import anomaly, by, judged, malformed, more, of, operation, settle, summary
from checkers.explain import Clock, count, text
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.options import Option

if TYPE_CHECKING:
    from checkers._operations_of import Call
    from harness.core.history import History

_options: Final = (
    Option(
        name="delivery",
        default="at-least-once",
        choices=("at-least-once", "exactly-once"),
        summary="whether an element that comes out twice is a violation",
    ),
    Option(
        name="order",
        default="any",
        choices=("any", "fifo"),
        summary="whether an element that overtakes another is a violation",
    ),
)
QUEUE: Final = Descriptor(
    name="queue",
    summary="what was put into a queue and acknowledged comes out or is still there, and nothing else",
    target="checkers.queue:Queues",
    options=_options,
)
KINDS: Final = ("lost", "phantom", "failed-enqueue", "duplicated", "reordered")
_Said = tuple[str, Any, tuple[int, ...], str]  # kind, element, positions, sentence


class _Element(msgspec.Struct):
    """One element: the first attempt to put it in, its acknowledgement, and who got it (invocation, answer)."""

    value: Any
    at: int
    done: int = NEVER
    attempts: int = 0
    taken: list[tuple[int, int]] = []


class _Queue(msgspec.Struct):
    """One queue. `unknown` are dequeues of unknown outcome; `left` the answered reads of what is left:
    invocation, answer, final, elements."""

    key: Any
    elements: dict[Any, _Element] = {}
    failed: dict[Any, int] = {}
    taken: list[tuple[int, int, Any]] = []  # invocation, answer, value
    unknown: list[int] = []
    drains: list[int] = []  # of unknown outcome
    left: list[tuple[int, int, bool, list[Any]]] = []
    nulls: int = 0


class Queues:
    """The checker; see the options of `QUEUE`."""

    name = "queue"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError for an option that does not exist or a value out of range."""
        settled = settle(options, "queue", _options)
        self.once = settled["delivery"] == "exactly-once"
        self.fifo = settled["order"] == "fifo"

    def check(self, ctx: CheckContext) -> Result:
        """Decide every queue.

        Raises: HistoryError for a read of what is left whose result is no list.
        """
        history = ctx.history()
        began = time.monotonic()
        queues = _follow(ctx, history)
        anomalies: list[tuple[int, Anomaly]] = []
        totals: dict[str, int] = {}
        for queue in queues:
            judge = _Judge(history, queue)
            anomalies += judge.anomalies(once=self.once, fifo=self.fifo)
            for name, n in judge.counts.items():
                totals[name] = totals.get(name, 0) + n
        anomalies.sort(key=lambda a: a[0])
        shown = [a for _, a in anomalies]
        acked = sum(e.done < NEVER for q in queues for e in q.elements.values())
        trouble = _trouble(queues, acked)
        good = f"each of {count(acked, 'acknowledged element')} of {count(len(queues), 'queue')} came out or is there"
        if may := totals.get("may_be_taken", 0):
            good += f", but for {may} that dequeues of unknown outcome may have taken"
        if twice := totals.get("duplicates", 0):
            good += f"; {twice} came out more than once"
        return Result(
            verdict=judged(shown, trouble),
            reason=summary(shown) if shown else trouble or good,
            seconds=time.monotonic() - began,
            anomalies=shown,
            detail={
                "keys": len(queues),
                "acknowledged": acked,
                "taken": sum(len(q.taken) for q in queues),
                "empty": sum(q.nulls for q in queues),
                "unknown_dequeues": sum(len(q.unknown) for q in queues),
                **totals,
            },
        )


def _follow(ctx: CheckContext, history: History) -> list[_Queue]:
    """Every queue of the history, in order of first use."""
    from checkers._operations_of import calls
    from harness.core.history import FAIL, INFO, identity

    found: dict[Any, _Queue] = {}
    for call in calls(history, ("enqueue", "dequeue", "read", "drain")):
        key = call.key if type(call.key) is str else identity(call.key)
        queue = found.get(key)
        if queue is None:
            queue = found[key] = _Queue(call.key)
        if call.f == "enqueue":
            element = identity(call.value)
            if call.how == FAIL:
                queue.failed.setdefault(element, call.at)
                continue
            known = queue.elements.setdefault(element, _Element(call.value, call.at))
            known.attempts += 1
            if call.how != INFO:
                known.done = min(known.done, call.done)
        elif call.how == FAIL:
            continue
        elif call.f == "dequeue":
            if call.how == INFO:
                queue.unknown.append(call.at)
            elif call.result is None:
                queue.nulls += 1
            else:
                queue.taken.append((call.at, call.done, call.result))
        elif call.how == INFO:
            if call.f == "drain":
                queue.drains.append(call.at)
        else:
            elements = _list(ctx, call)
            if call.f == "drain":
                queue.taken += [(call.at, call.done, value) for value in elements]
                elements = []
            queue.left.append((call.at, call.done, call.final, elements))
    return list(found.values())


def _list(ctx: CheckContext, call: Call) -> list[Any]:
    if type(call.result) is not list:
        raise malformed(
            ctx, call.done, f"a {call.f} of a queue returned {text(call.result)}; expected a list"
        )
    return call.result


def _trouble(queues: list[_Queue], acked: int) -> str | None:
    """What was not seen without which nothing is known."""
    if not acked:
        return "no enqueue was acknowledged, so there is nothing that could be lost"
    if not any(q.taken or q.left for q in queues):
        return "nothing came out of any queue, and nobody read what is left; run it again"
    dark = [q for q in queues if _last_ack(q) >= 0 and not any(at > _last_ack(q) for at, *_ in q.left)]
    dark = [q for q in dark if any(e.done < NEVER and not e.taken for e in q.elements.values())]
    if dark:
        return (
            f"of {count(len(dark), 'queue')} what is left was not read after the last enqueue,"
            f" {text(dark[0].key, bare=True)} the first of them, so elements that did not come out may be there or lost"
        )
    if any(q.drains for q in queues):
        return "a drain had no answer, so what it took is not known"
    return None


def _last_ack(queue: _Queue) -> int:
    return max((e.done for e in queue.elements.values() if e.done < NEVER), default=-1)


class _Judge:
    """What is wrong with one queue; `counts` is for the results' detail."""

    def __init__(self, history: History, queue: _Queue) -> None:
        from harness.core.history import identity

        self._history, self._queue = history, queue
        self.counts: dict[str, int] = {}
        self._odd: list[_Said] = []
        for at, done, value in queue.taken:
            known = queue.elements.get(identity(value))
            if known is None or known.at > done:
                self._odd.append(self._unknown(at, value, identity(value)))
            else:
                known.taken.append((at, done))
        for at, done, _, elements in queue.left:
            for value in elements:
                known = queue.elements.get(identity(value))
                if known is None or known.at > done:
                    self._odd.append(self._unknown(at, value, identity(value)))

    def anomalies(self, *, once: bool, fifo: bool) -> list[tuple[int, Anomaly]]:
        """One for each kind, with the first as its example."""
        first: dict[str, tuple[tuple[int, ...], str]] = {}
        many: dict[str, int] = {}
        for kind, _, positions, said in (
            *self._odd,
            *self._lost(),
            *self._twice(once=once),
            *(self._overtaking() if fifo else ()),
        ):
            first.setdefault(kind, (positions, said))
            many[kind] = many.get(kind, 0) + 1
        return [
            (
                KINDS.index(kind),
                anomaly(
                    self._history, kind, self._queue.key, positions, said + more(many[kind] - 1, "element")
                ),
            )
            for kind, (positions, said) in first.items()
        ]

    def _unknown(self, at: int, value: Any, element: Any) -> _Said:
        o = operation(self._history, at)
        said = f"the {by(o)}{of(self._queue.key)} returned {text(value)} at {Clock([o])(o['end_ns'])}"
        if element in self._queue.failed and element not in self._queue.elements:
            said += ", but every enqueue of it was reported as certainly failed"
            return "failed-enqueue", value, (at,), said
        return "phantom", value, (at,), f"{said}, but nobody had begun to enqueue it by then"

    def _lost(self) -> Iterator[_Said]:
        """Acknowledged elements that are nowhere."""
        from harness.core.history import identity

        queue = self._queue
        # The last read through each node, and of those without a node the last: what one of them shows is there.
        closing: dict[Any, tuple[int, set[Any]]] = {}
        for at, _, _, elements in queue.left:
            closing[self._history.ops[at].node] = (at, set(map(identity, elements)))
        if not closing:
            return
        missing = []
        for element, known in queue.elements.items():
            if known.done == NEVER or known.taken:
                continue
            blind = [at for at, shown in closing.values() if at > known.done and element not in shown]
            if blind:
                missing.append((known, blind[0]))
        last = max(at for at, _ in closing.values())
        may = sum(at < last for at in queue.unknown)
        self.counts["may_be_taken"] = min(may, len(missing))
        if queue.drains or len(missing) <= may:
            return
        gone = len(missing) - may
        self.counts["lost"] = gone
        self.counts["may_be_taken"] = may
        for known, read in missing:
            one, two = operation(self._history, known.at), operation(self._history, read)
            clock = Clock([one, two])
            said = (
                f"{text(known.value)}{of(queue.key)}, acknowledged at {clock(one['end_ns'])}, never came out and is not"
                f" in the {by(two)} of what is left that began at {clock(two['start_ns'])}"
            )
            if may:
                said += (
                    f"; {may} dequeues of unknown outcome may have taken one each, but {len(missing)} elements are"
                    f" missing, so {gone} at least are lost"
                )
            yield "lost", known.value, (known.at, read), said

    def _twice(self, *, once: bool) -> Iterator[_Said]:
        """Elements that came out more often than they were put in."""
        duplicates = 0
        for known in self._queue.elements.values():
            if len(known.taken) <= known.attempts:
                continue
            duplicates += 1
            if not once:
                continue
            a, b = sorted(known.taken)[:2]
            one, two = (operation(self._history, at) for at, _ in (a, b))
            clock = Clock([one, two])
            said = (
                f"{text(known.value)}{of(self._queue.key)} came out twice: for {by(one)} at {clock(one['end_ns'])} and"
                f" for {by(two)} at {clock(two['end_ns'])}"
            )
            yield "duplicated", known.value, (known.at, a[0], b[0]), said
        self.counts["duplicates"] = duplicates

    def _overtaking(self) -> Iterator[_Said]:
        """Of two elements put in one after the other, the later came out before the earlier was asked for."""
        out = sorted(
            ((e.taken[0][1], e) for e in self._queue.elements.values() if e.taken), key=lambda x: x[0]
        )
        # Elements in the order in which they were acknowledged; for each the latest invocation of a dequeue that
        # gave out one acknowledged no later.
        acked = sorted(
            ((e.done, e.taken[0][0], e) for e in self._queue.elements.values() if e.taken and e.done < NEVER),
            key=lambda x: x[0],
        )
        latest: list[tuple[int, _Element]] = []
        for _, asked, known in acked:
            if latest and latest[-1][0] >= asked:
                latest.append(latest[-1])
            else:
                latest.append((asked, known))
        dones = [done for done, *_ in acked]
        for came, known in out:
            before = bisect_left(dones, known.at) - 1
            if before < 0 or latest[before][0] <= came:
                continue
            earlier = latest[before][1]
            positions = (earlier.at, known.at, known.taken[0][0], earlier.taken[0][0])
            ops = [operation(self._history, p) for p in positions]
            clock = Clock(ops)
            said = (
                f"{text(known.value)}{of(self._queue.key)} came out at {clock(ops[2]['end_ns'])}, before"
                f" {text(earlier.value)} was asked for at {clock(ops[3]['start_ns'])}, although that was acknowledged"
                f" at {clock(ops[0]['end_ns'])} and its own enqueue began at {clock(ops[1]['start_ns'])}"
            )
            yield "reordered", known.value, positions, said
