"""Workload `queue`: elements are put into queues and taken out; none that was acknowledged is lost.

What it does: groups of two clients share a live queue, put elements into it that are unique in
the run (somewhat more than half of the operations), and take elements out, each of which is acknowledged; now and
then (one operation in `read_every`) they read what is in it, without taking it. A queue retires after `ops_per_queue`
operations or `infos_per_queue` of unknown outcome; at the end what is left in it is read through every node.

What it can show: an acknowledged element that nobody took and that is not there in the end, one that
came out though nobody had put it in; with `delivery=exactly-once` one that came out twice, with
`order=fifo` one that overtook another. What it cannot: a loss that a dequeue of unknown outcome may
explain; a queue that says it is empty though it is not.

The n-th operation of a queue is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from harness.core.descriptor import Descriptor
from harness.core.generator import Answer, Context, Generator
from harness.core.op import Op
from harness.core.options import Option
from harness.core.seeds import draw
from harness.core.workload import Workload, WorkloadFactory
from workloads._objects import objects

QUEUE: Final = Descriptor(
    name="queue",
    summary="elements put into queues and taken out; none that was acknowledged is lost",
    target="workloads.queue:queue",
    needs=frozenset({"enqueue", "dequeue", "queue_read"}),
    options=(
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
        Option(
            name="ops_per_queue",
            default=600,
            least=2,
            most=10**6,
            summary="operations before a queue retires",
        ),
        Option(
            name="infos_per_queue", default=20, least=1, most=10**6, summary="unknown outcomes before it does"
        ),
        Option(name="read_every", default=20, least=2, most=10**6, summary="one operation in so many reads"),
        Option(
            name="threads_per_queue",
            default=2,
            least=1,
            most=1000,
            summary="clients that share a live queue",
        ),
    ),
)


class Plan(Struct, frozen=True, gc=False):
    """The operations on one queue: elements from `first` on."""

    seed: int
    first: int
    read_every: int
    n: int = 0

    def next(self, ctx: Context) -> Answer:
        after = Plan(self.seed, self.first, self.read_every, self.n + 1)
        number = draw(self.seed, self.n)
        if number % self.read_every == 0:
            return Op(-1, -1, -1, "invoke", "read", None), after
        if (number >> 16) % 9 < 5:
            return Op(-1, -1, -1, "invoke", "enqueue", self.first + self.n), after
        return Op(-1, -1, -1, "invoke", "dequeue", None), after

    def update(self, ctx: Context, event: Op) -> Generator:
        return self


def queue(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_queue, options)


def _queue(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    budget, infos = options["ops_per_queue"], options["infos_per_queue"]

    def plan(number: int, own: int) -> Generator:
        return Plan(own, number * budget + 1, options["read_every"])

    return Workload(
        name="queue",
        needs=QUEUE.needs,
        generator=objects(
            "queue",
            "q",
            plan,
            threads=threads,
            seed=seed,
            group=options["threads_per_queue"],
            ops=budget,
            infos=infos,
        ),
        checkers={"queue": ("queue", {"delivery": options["delivery"], "order": options["order"]})},
        key_ops=frozenset({"enqueue", "dequeue", "read"}),
        calls={"read": "queue_read"},
        ops_per_key=budget,
        infos_per_key=infos,
    )
