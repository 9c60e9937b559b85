"""Workload `counter`: increments of counters that only grow.

What it does: groups of up to five clients share a live counter, add 1 to 3 to it (two operations in
three) or read it. A counter retires after `ops_per_counter` operations or `infos_per_counter` adds of
unknown outcome, each of which widens the bounds between which a read is right; at the end every
counter is read through every node.

What it can show: increments that are lost or counted twice (a request that was repeated on the
way), reads below what was acknowledged before they began, and above all that was ever asked for.
What it cannot: which increment went wrong; two errors that cancel out between two reads; one
within the bounds that unknown outcomes leave open.

The n-th operation of a counter is a function of the seed.
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

COUNTER: Final = Descriptor(
    name="counter",
    summary="increments of counters, whose reads must lie between what was acknowledged and what was asked",
    target="workloads.counter:counter",
    needs=frozenset({"counter_add", "counter_read"}),
    options=(
        Option(
            name="ops_per_counter",
            default=200,
            least=2,
            most=10**6,
            summary="operations before a counter retires",
        ),
        Option(
            name="infos_per_counter",
            default=10,
            least=1,
            most=1000,
            summary="unknown outcomes before it does",
        ),
        Option(
            name="threads_per_counter",
            default=5,
            least=1,
            most=1000,
            summary="clients that share a live counter",
        ),
    ),
)


class Plan(Struct, frozen=True, gc=False):
    """The operations on one counter."""

    seed: int
    n: int = 0

    def next(self, ctx: Context) -> Answer:
        number = draw(self.seed, self.n)
        op = (
            Op(-1, -1, -1, "invoke", "add", 1 + (number >> 8) % 3)
            if number % 3
            else Op(-1, -1, -1, "invoke", "read", None)
        )
        return op, Plan(self.seed, self.n + 1)

    def update(self, ctx: Context, event: Op) -> Generator:
        return self


def counter(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_counter, options)


def _counter(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    return Workload(
        name="counter",
        needs=COUNTER.needs,
        generator=objects(
            "counter",
            "c",
            lambda _number, own: Plan(own),
            threads=threads,
            seed=seed,
            group=options["threads_per_counter"],
            ops=options["ops_per_counter"],
            infos=options["infos_per_counter"],
        ),
        checkers={"counter": ("counter", {})},
        key_ops=frozenset({"add", "read"}),
        calls={"add": "counter_add", "read": "counter_read"},
    )
