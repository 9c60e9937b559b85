"""Workload `register`: reads, writes and compare-and-sets on many registers.

What it does: groups of up to five clients share a live key and read it (half of the operations),
write it, or compare-and-set it from the value last seen. Values are unique over the whole run by
default, so that every read names the write that it saw; `domain` draws them from a small set
instead, which makes more compare-and-sets meet and hides fewer duplicate effects; without `cas` every
second operation is a write. A key retires
after `ops_per_key` operations or `infos_per_key` of unknown outcome, so that a checker can decide
it; at the end every key is read through every node.

What it can show: stale reads, lost writes, writes that come back, compare-and-sets that succeed
twice, a split brain in which two nodes acknowledge different values. What it cannot: anything
between keys (see `kv`), and losses that nobody reads.

The n-th operation of a key, its kind and its new value, is a function of the seed. What a
compare-and-set expects is not: picked blindly among unique values it would hardly ever succeed.
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

REGISTER: Final = Descriptor(
    name="register",
    summary="reads, writes and compare-and-sets on many registers",
    target="workloads.register:register",
    needs=frozenset({"read", "write", "cas"}),
    options=(
        Option(name="domain", default=0, least=0, most=1000, summary="values 0..domain-1; 0: all are unique"),
        Option(
            name="cas",
            default=True,
            summary="false: reads and writes alone, for systems without compare-and-set",
        ),
        Option(
            name="ops_per_key", default=100, least=2, most=10**6, summary="operations before a key retires"
        ),
        Option(
            name="infos_per_key", default=10, least=1, most=1000, summary="unknown outcomes before it does"
        ),
        Option(
            name="threads_per_key", default=5, least=1, most=1000, summary="clients that share a live key"
        ),
    ),
)


class Plan(Struct, frozen=True, gc=False):
    """The operations on one key. `first` is the key's first value; `seen` its value as last seen."""

    seed: int
    first: int
    domain: int
    n: int = 0
    seen: Any = None
    revision: int = 0  # of the state in which it was seen, where the system says so
    cas: bool = True

    def next(self, ctx: Context) -> Answer:
        number = draw(self.seed, self.n)
        new = (number >> 8) % self.domain if self.domain else self.first + self.n
        match number & 3:
            case 1 if self.cas:
                op = Op(-1, -1, -1, "invoke", "cas", [self.seen, new])
            case 0 | 1:
                op = Op(-1, -1, -1, "invoke", "write", new)
            case _:
                op = Op(-1, -1, -1, "invoke", "read", None)
        return op, Plan(self.seed, self.first, self.domain, self.n + 1, self.seen, self.revision, self.cas)

    def update(self, ctx: Context, event: Op) -> Generator:
        if event.type != "ok":
            return self
        revision = event.ext.get("revision", 0) if event.ext else 0
        if revision < self.revision:  # an answer about an older state, come in late
            return self
        seen = event.value[1] if event.f == "cas" else event.value
        return Plan(self.seed, self.first, self.domain, self.n, seen, revision, self.cas)


def register(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_register, options)


def _register(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    budget = options["ops_per_key"]
    needs = REGISTER.needs if options.get("cas", True) else REGISTER.needs - {"cas"}

    def plan(number: int, own: int) -> Generator:
        return Plan(own, number * budget + 1, options["domain"], cas=options.get("cas", True))

    return Workload(
        name="register",
        needs=needs,
        generator=objects(
            "register",
            "k",
            plan,
            threads=threads,
            seed=seed,
            group=options["threads_per_key"],
            ops=budget,
            infos=options["infos_per_key"],
        ),
        checkers={"linearizable": ("linearizable", {"model": "cas-register"})},
        key_ops=needs,
        ops_per_key=budget,
        infos_per_key=options["infos_per_key"],
    )
