"""The scheduler, a monitor: workers take operations for themselves; nobody hands work to another.

A free worker takes the lock, steps the pure generator, stamps and journals the invocation, lets go,
stamps again and calls. On return it stamps at once, outside the lock, and journals its completion
together with its next invocation. A central dispatcher with queues adds a thread switch on each
side of every call, which widens intervals (false concurrency hides bugs) and costs half the
throughput.

Waiting: a generator that answers `Pending(until)` parks the worker. Only the one with the earliest
time waits with a timeout; when it leaves it wakes the next, so that ten idle clients cost one
timer. `Pending()` parks until some operation completes.

A worker is one thread, bound to one node and place for life; processes come and go on it: after
`info` the process is retired, since its operation may still be running somewhere.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heappush
from typing import Any, Final

import msgspec

from harness.core.client import Client
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate, InfrastructureError, SplitbrainError
from harness.core.generator import Context, Generator, Pending
from harness.core.op import Op, OpType, Reply
from harness.journal import Journal, completion_line, invocation_line

_LONGEST_WAIT_S: Final = 1.0  # a bound on every wait: a parked worker looks again at least so often

_LOOK_S: Final = 0.1


class Seat(msgspec.Struct, frozen=True):
    """Where a worker sits: its node, and the place it connects from (None: wherever we are)."""

    node: Node
    place: Place | None


class Hole(msgspec.Struct):
    """An exception that a client's error table does not know: how often, and the first traceback."""

    exception: str
    count: int
    traceback: str


class _Waiter:
    """A parked worker sleeps on `gate`, a lock that is held except for a moment after `signal`.

    All but the sleep itself happens under the scheduler's lock.
    """

    __slots__ = ("gate", "order", "parked", "signalled", "timed")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        self.parked = False
        self.order = 0  # its place in the queue of those that wait; 0: not in it
        self.timed = False  # sleeps until its own time, rather than until it is woken
        self.signalled = False

    def signal(self) -> None:
        if self.parked and not self.signalled:
            self.signalled = True
            self.gate.release()


class Scheduler:
    """Runs one generator to its end with one worker per seat.

    `enter(name)` binds the calling thread to a place's network; `first_process` is the id of the
    first worker's first process (a multiple of the number of seats). `final` marks operations as
    final reads. `calls` names the client's method of an `f` where it is not called like it.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        generator: Generator,
        seats: Sequence[Seat],
        client: Client,
        options: Mapping[str, Any],
        timeout_s: float = 1.0,
        enter: Callable[[str], None] | None = None,
        first_process: int = 0,
        final: bool = False,
        calls: Mapping[str, str] | None = None,
    ) -> None:
        self._calls = calls or {}
        self._journal = journal
        self._generator = generator
        self._seats = seats
        self._client = client
        self._options = options
        self._timeout_s = timeout_s
        self._enter = enter
        self._final: dict[str, Any] | None = {"final": True} if final else None
        self._lock = threading.Lock()
        self._ctx = Context(0, 0, 0, len(seats), (1 << len(seats)) - 1)
        self._over = False
        self._waiters = [_Waiter() for _ in seats]
        self._due: list[tuple[int, int, int]] = []  # heap of (until, order, thread): timed waits
        self._order = 0
        self._eager: set[int] = set()  # threads that wait for a completion
        self._failure: BaseException | None = None
        self.next_process = first_process + len(seats)
        self._processes = [first_process + i for i in range(len(seats))]
        self.holes: dict[str, Hole] = {}
        self.keys: dict[Any, None] = {}  # every key that was touched, in order of first touch
        self.answered: set[Any] = set()  # the keys of which some final read was answered

    def run(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """Work until the generator is exhausted, `stop` is called or `interrupted()` is true (looked
        at ten times a second); on return all calls have come to their end.

        Raises: the first InfrastructureError of a worker (a journal that cannot be written, a
        place that cannot be entered), or one that wraps a generator's exception.
        """
        threads = [
            threading.Thread(target=self._work, args=(i,), name=f"worker-{i}", daemon=True)
            for i in range(len(self._seats))
        ]
        interval, threshold = sys.getswitchinterval(), gc.get_threshold()
        gc.collect()
        gc.freeze()  # what lives now is not looked at again: collections would stop all workers
        gc.set_threshold(50_000, 20, 100)
        sys.setswitchinterval(0.001)  # a completion waits this long, at most, for a busy interpreter
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_LOOK_S)  # in steps, so that signals are handled
                    if interrupted():
                        self.stop()
        finally:
            self.stop()
            sys.setswitchinterval(interval)
            gc.set_threshold(*threshold)
            gc.unfreeze()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Begin no more operations; those under way come to their end."""
        with self._lock:
            self._finish()

    def _finish(self) -> None:
        self._over = True
        for waiter in self._waiters:
            waiter.signal()

    def _fail(self, error: BaseException) -> None:
        """End everything; the first failure is the one that `run` raises."""
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._finish()

    def _work(self, thread: int) -> None:
        """A worker's life."""
        try:
            self._loop(thread)
        except SplitbrainError as e:
            self._fail(e)
        except Exception as e:  # noqa: BLE001 - a generator's bug must end the run, not a thread
            text = "".join(traceback.format_exception_only(e)).strip()
            wrapped = InfrastructureError(f"the scheduler's worker {thread} failed: {text}")
            wrapped.__cause__ = e
            self._fail(wrapped)

    def _loop(self, thread: int) -> None:
        seat = self._seats[thread]
        if self._enter is not None and seat.place is not None:
            self._enter(seat.place.name)
        lock, journal, ctx, final = self._lock, self._journal, self._ctx, self._final
        clock, epoch = time.monotonic_ns, journal.epoch
        bit, node = 1 << thread, seat.node.name
        process = self._processes[thread]
        connection = _Connection(self._client, seat, self._options, self._timeout_s, self._calls)
        done: Op | None = None  # a completion that is not journaled yet, with
        started = last = 0  # the time its call began, and that of the latest completion
        try:
            while True:
                with lock:
                    lines = b""
                    if done is not None:
                        lines = completion_line(done, started)
                        ctx.time, ctx.thread, ctx.process = done.time, thread, process
                        ctx.free |= bit
                        self._generator = self._generator.update(ctx, done)
                        for waiting in self._eager:
                            self._waiters[waiting].signal()
                        if done.type == "info":
                            process = self._retire(thread)
                            connection.close()
                        last = done.time
                        done = None
                    wanted = self._take(thread, process, lines)
                    if wanted is None:
                        return
                    lines, op = wanted
                    now = clock() - epoch
                    while now <= last:  # ties occur between processes only
                        now = clock() - epoch
                    invoked = Op(-1, now, process, "invoke", op.f, op.value, op.key, node, None, final)
                    ctx.time, ctx.thread, ctx.process = now, thread, process
                    self._generator = self._generator.update(ctx, invoked)
                    ctx.free &= ~bit
                    journal.append(lines + invocation_line(invoked))
                    if op.key is not None:
                        self.keys[op.key] = None
                    self._wake_next()
                outcome: OpType
                started = clock() - epoch
                try:
                    value, ext = connection.call(invoked)
                    finished = clock() - epoch
                    outcome, error = "ok", None
                except Definite as e:
                    finished = clock() - epoch
                    outcome, error, value, ext = "fail", e.text, op.value, None
                except Indeterminate as e:
                    finished = clock() - epoch
                    outcome, error, value, ext = "info", e.text, op.value, None
                except Exception as e:  # noqa: BLE001 - whatever it is, the outcome is unknown
                    finished = clock() - epoch
                    outcome, error, value, ext = "info", self._hole(e), op.value, None
                if final is not None:
                    if outcome == "ok":
                        self.answered.add(op.key)
                    ext = final if ext is None else {**ext, **final}
                done = Op(-1, finished, process, outcome, op.f, value, op.key, node, error, ext)
        finally:
            connection.close()

    def _take(self, thread: int, process: int, lines: bytes) -> tuple[bytes, Op] | None:
        """The next operation for this worker, waiting for it if need be; None at the end.

        `lines` wait to be journaled: with the invocation if there is one at once, else before the
        worker sleeps or ends. What is returned are those that still wait. Under the lock.
        """
        ctx, journal = self._ctx, self._journal
        while True:
            answer = None
            if not self._over:
                ctx.time, ctx.thread, ctx.process = journal.now(), thread, process
                answer = self._generator.next(ctx)
            if answer is None:
                if lines:
                    journal.append(lines)
                if not self._over:
                    self._finish()
                return None
            op, self._generator = answer
            if not isinstance(op, Pending):
                self._waiters[thread].order = 0
                return lines, op
            if lines:
                journal.append(lines)
                lines = b""
            self._park(thread, op)

    def _park(self, thread: int, pending: Pending) -> None:
        """Sleep until `pending` may have changed. Lets the lock go meanwhile."""
        waiter, due = self._waiters[thread], self._due
        entry: tuple[int, int, int] | None = None
        wait_s = _LONGEST_WAIT_S
        if pending.event:
            self._eager.add(thread)
        waiter.timed = pending.event
        if pending.until is not None:
            if not waiter.order:  # kept until it gets something: a new place at each look would hand
                self._order += 1  # the timer round for ever among those that wait for the same time
                waiter.order = self._order
            entry = (pending.until, waiter.order, thread)
            heappush(due, entry)
            waiter.timed = waiter.timed or due[0] is entry
            if waiter.timed:
                wait_s = min(wait_s, (pending.until - self._journal.now()) / 1e9)
        waiter.parked = True
        self._wake_next()
        self._lock.release()
        woken = waiter.gate.acquire(timeout=max(0.0, wait_s))
        self._lock.acquire()
        if waiter.signalled and not woken:
            waiter.gate.acquire()  # signalled between its time-out and here
        waiter.parked = waiter.signalled = False
        self._eager.discard(thread)
        if entry is not None:
            due.remove(entry)
            heapify(due)

    def _wake_next(self) -> None:
        """See that the one with the earliest time sleeps on a timer."""
        if self._due:
            waiter = self._waiters[self._due[0][2]]
            if not waiter.timed:
                waiter.signal()

    def _retire(self, thread: int) -> int:
        """A fresh process id for this worker; ids stay congruent to the thread."""
        process = self._processes[thread] + len(self._seats)
        self._processes[thread] = process
        self.next_process = max(self.next_process, (process // len(self._seats) + 1) * len(self._seats))
        return process

    def _hole(self, error: Exception) -> str:
        """Count an exception that the client's error table does not know."""
        text = f"{type(error).__name__}: {error}"[:200]
        with self._lock:
            hole = self.holes.get(type(error).__name__)
            if hole is None:
                trace = "".join(traceback.format_exception(error))
                self.holes[type(error).__name__] = Hole(text, 1, trace)
            else:
                hole.count += 1
        return text


class _Connection:
    """A worker's client: opened before its first call, closed when its process is retired."""

    __slots__ = ("_calls", "_client", "_options", "_prototype", "_seat", "_timeout_s")

    def __init__(
        self,
        prototype: Client,
        seat: Seat,
        options: Mapping[str, Any],
        timeout_s: float,
        calls: Mapping[str, str],
    ) -> None:
        self._calls = calls
        self._prototype = prototype
        self._seat = seat
        self._options = options
        self._timeout_s = timeout_s
        self._client: Client | None = None

    def call(self, op: Op) -> tuple[Any, dict[str, Any] | None]:
        """Make the call; the value it returned (or was given) and what came beside it.

        Raises: whatever the client does. A connection that cannot be opened is Definite: nothing
        was asked.
        """
        client = self._client
        if client is None:
            try:
                client = self._prototype.open(
                    self._seat.node, self._seat.place, self._options, self._timeout_s
                )
            except (OSError, Indeterminate) as e:
                raise Definite(f"open: {e}") from e
            self._client = client
        method = getattr(client, self._calls.get(op.f, op.f))
        value = op.value
        if op.f == "cas":
            old, new = value
            reply = method(op.key, old, new) if op.key is not None else method(old, new)
        elif op.key is not None:
            reply = method(op.key) if value is None else method(op.key, value)
        else:
            reply = method() if value is None else method(value)
        if isinstance(reply, Reply):
            return (value if reply.value is None else reply.value), reply.ext or None
        return (value if reply is None else reply), None

    def close(self) -> None:
        """Let the client go; a broken connection is no news."""
        if self._client is not None:
            client, self._client = self._client, None
            with suppress(Exception):  # by protocol it does not raise; nothing hangs on it
                client.close()
