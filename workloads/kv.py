"""Workload `kv`: transactions over the keys of small maps.

What it does: groups of up to five clients share a live map of `subs` keys. Half of the operations are
transactions of one to `subs` micro-operations, each on a key of its own: a read, a write of a value
unique in the run, or a compare-and-set from the value last seen, on whose mismatch the whole
transaction must have no effect; a quarter are transactions that only read; a quarter read the whole
map. A map retires after `ops_per_map` operations or `infos_per_map` of unknown outcome; at the end
every map is read through every node.

What it can show: a transaction of which only a part took effect or became visible, reads of several
keys that never stood beside one another, lost and stale writes between keys as well as on one. What
it cannot: anything between two maps, whose operations are never in one transaction; phantoms
and other anomalies of ranges and predicates; which weaker isolation level a broken run still keeps.

The n-th operation of a map, its kinds, keys and new values, is a function of the seed. What a
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

KV: Final = Descriptor(
    name="kv",
    summary="transactions over several keys of small maps",
    target="workloads.kv:kv",
    needs=frozenset({"kv_txn", "kv_read"}),
    options=(
        Option(name="subs", default=3, least=1, most=8, summary="keys of a map"),
        Option(
            name="ops_per_map", default=100, least=2, most=10**6, summary="operations before a map retires"
        ),
        Option(
            name="infos_per_map", default=8, least=1, most=1000, summary="unknown outcomes before it does"
        ),
        Option(
            name="threads_per_map", default=5, least=1, most=1000, summary="clients that share a live map"
        ),
    ),
)

_most_subs: Final = 8


class Plan(Struct, frozen=True, gc=False):
    """The operations on one map. `first` is its first value; `seen` what its keys held when last seen."""

    seed: int
    first: int
    seen: tuple[Any, ...]
    n: int = 0
    revision: int = 0  # of the state in which it was seen, where the system says so

    def next(self, ctx: Context) -> Answer:
        number = draw(self.seed, self.n)
        after = Plan(self.seed, self.first, self.seen, self.n + 1, self.revision)
        if number & 3 == 0:
            return Op(-1, -1, -1, "invoke", "read", None), after
        return Op(-1, -1, -1, "invoke", "txn", self._txn(number, reads_only=number & 3 == 1)), after

    def _txn(self, number: int, *, reads_only: bool) -> list[list[Any]]:
        """One micro-operation for each of some keys, in an order that the number says."""
        subs = list(range(len(self.seen)))
        size = 1 + (number >> 2) % len(subs)
        txn: list[list[Any]] = []
        for place in range(size):
            sub = subs.pop((number >> (8 + 4 * place)) % len(subs))
            new = self.first + self.n * _most_subs + place
            match 0 if reads_only else (number >> (40 + 2 * place)) & 3:
                case 0:
                    txn.append(["r", name(sub), None])
                case 1:
                    txn.append(["cas", name(sub), self.seen[sub], new])
                case _:
                    txn.append(["w", name(sub), new])
        return txn

    def update(self, ctx: Context, event: Op) -> Generator:
        if event.type != "ok":
            return self
        revision = event.ext.get("revision", 0) if event.ext else 0
        if revision < self.revision:  # an answer about an older state, come in late
            return self
        seen = list(self.seen)
        if event.f == "read":
            seen = [event.value.get(name(sub)) for sub in range(len(seen))]
        else:
            for _, sub, *values in event.value:
                seen[number_of(sub)] = values[-1]
        return Plan(self.seed, self.first, tuple(seen), self.n, revision)


def name(sub: int) -> str:
    """What the key of a map is called: a, b, c ..."""
    return chr(ord("a") + sub)


def number_of(sub: str) -> int:
    """Its place among the map's keys."""
    return ord(sub) - ord("a")


def kv(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_kv, options)


def _kv(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    budget = options["ops_per_map"]

    def plan(number: int, own: int) -> Generator:
        return Plan(own, number * budget * _most_subs + 1, (None,) * options["subs"])

    return Workload(
        name="kv",
        needs=KV.needs,
        generator=objects(
            "kv",
            "m",
            plan,
            threads=threads,
            seed=seed,
            group=options["threads_per_map"],
            ops=budget,
            infos=options["infos_per_map"],
        ),
        checkers={"linearizable": ("linearizable", {"model": "kv"})},
        key_ops=frozenset({"txn", "read"}),
        ops_per_key=budget,
        infos_per_key=options["infos_per_map"],
        calls={"txn": "kv_txn", "read": "kv_read"},
    )
