"""Workload `set`: elements are added, and whatever was acknowledged must be there for good.

What it does: groups of up to five clients share a live set, add integers that are unique in the run,
and now and then (one operation in `read_every`) read all of it. A set retires after `adds_per_set`
adds, so that reads stay small, or `infos_per_set` unknown outcomes, so that clients go on elsewhere where a part of
the system is out; at the end every set is read through every node.

What it can show: an acknowledged element that is lost, in the end or for a while (a stale read), through one
node only or through all; one that comes back; one that is there twice, or that nobody added. What it
cannot: the order of the adds, compare-and-set going wrong (see `register`), losses of what
was never acknowledged.

The n-th operation of a set is a function of the seed.
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

SET: Final = Descriptor(
    name="set",
    summary="unique elements added to sets; what was acknowledged must be in every later read",
    target="workloads.set:set_",
    needs=frozenset({"set_add", "set_read"}),
    options=(
        Option(name="adds_per_set", default=100, least=1, most=10**6, summary="adds before a set retires"),
        Option(name="read_every", default=10, least=2, most=10**6, summary="one operation in so many reads"),
        Option(
            name="infos_per_set", default=10, least=1, most=10**6, summary="unknown outcomes before it does"
        ),
        Option(
            name="threads_per_set", default=5, least=1, most=1000, summary="clients that share a live set"
        ),
    ),
)


class Plan(Struct, frozen=True, gc=False):
    """The operations on one set: `left` adds from the element `element` on, and reads between them."""

    seed: int
    read_every: int
    element: int
    left: int
    n: int = 0

    def next(self, ctx: Context) -> Answer:
        if not self.left:
            return None
        if draw(self.seed, self.n) % self.read_every == 0:
            after = Plan(self.seed, self.read_every, self.element, self.left, self.n + 1)
            return Op(-1, -1, -1, "invoke", "read", None), after
        after = Plan(self.seed, self.read_every, self.element + 1, self.left - 1, self.n + 1)
        return Op(-1, -1, -1, "invoke", "add", self.element), after

    def update(self, ctx: Context, event: Op) -> Generator:
        return self


def set_(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_set, options)


def _set(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    adds = options["adds_per_set"]

    def plan(number: int, own: int) -> Generator:
        return Plan(own, options["read_every"], number * adds + 1, adds)

    return Workload(
        name="set",
        needs=SET.needs,
        generator=objects(
            "set",
            "s",
            plan,
            threads=threads,
            seed=seed,
            group=options["threads_per_set"],
            infos=options["infos_per_set"],
        ),
        checkers={"set": ("set", {})},
        key_ops=frozenset({"add", "read"}),
        calls={"add": "set_add", "read": "set_read"},
    )
