"""Workload `watch`: a configuration store; some clients put, the others watch what was put.

What it does: groups of up to five clients share a live prefix. Two in five of them put one to three of its
`subs` keys in one atomic write, with values that are unique in the run; the others watch the
prefix, each from where its last watch left off, and now and then from the beginning once more. A prefix
retires after `ops_per_prefix` operations, so that all of it can be told in one answer; at the end every
prefix is watched from its beginning through every node.

What it can show: events that are missing, out of order, delivered twice within a watch, torn (a part of an
atomic write), older than where a watch was resumed, or below a bookmark that promised that all was
delivered. What it cannot: how long a watch stays behind; what becomes of watches across
compaction; events of deletions, which nobody makes here.

The n-th operation of a prefix by one of its clients is a function of the seed; where a watch resumes
is the system's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from harness.core.descriptor import Descriptor
from harness.core.generator import Answer, Context, Generator
from harness.core.op import Op
from harness.core.options import Option
from harness.core.seeds import draw
from harness.core.workload import Workload, WorkloadFactory
from workloads._objects import objects

WATCH: Final = Descriptor(
    name="watch",
    summary="atomic writes below prefixes, and watches that must tell of all of them in order",
    target="workloads.watch:watch",
    needs=frozenset({"watch_put", "watch_events"}),
    options=(
        Option(name="subs", default=5, least=1, most=26, summary="keys below a prefix"),
        Option(
            name="ops_per_prefix",
            default=200,
            least=2,
            most=2000,
            summary="operations before a prefix retires",
        ),
        Option(
            name="threads_per_prefix",
            default=5,
            least=1,
            most=1000,
            summary="clients that share a live prefix",
        ),
    ),
)

_AGAIN: Final = 16  # one watch in so many begins at the beginning
_most_subs: Final = 3  # of a put


class Plan(Struct, frozen=True, gc=False):
    """The operations on one prefix by clients in groups of `size`. `first` is its first value; `resume` is where
    each thread's next watch starts, by thread."""

    seed: int
    first: int
    subs: int
    size: int
    resume: dict[int, int]
    n: int = 0

    def next(self, ctx: Context) -> Answer:
        number = draw(self.seed, self.n)
        after = replace(self, n=self.n + 1)
        if self._puts(ctx, number):
            return Op(-1, -1, -1, "invoke", "put", self._put(number)), after
        start = None if (number >> 4) % _AGAIN == 0 else self.resume.get(ctx.thread)
        return Op(-1, -1, -1, "invoke", "watch", start), after

    def _puts(self, ctx: Context, number: int) -> bool:
        """Whether the asking thread puts: two in five do; one that is alone does both."""
        begin = ctx.thread // self.size * self.size
        members = min(self.size, ctx.threads - begin)
        if members == 1:
            return number & 1 == 0
        return ctx.thread - begin < max(1, members * 2 // 5)

    def _put(self, number: int) -> list[list[Any]]:
        """One to three distinct keys, each with a value of its own."""
        subs = list(range(self.subs))
        value = self.first + self.n * _most_subs
        size = min(1 + (number >> 8) % _most_subs, self.subs)
        chosen = [subs.pop((number >> (16 + 8 * place)) % len(subs)) for place in range(size)]
        return [[chr(ord("a") + sub), value + place] for place, sub in enumerate(chosen)]

    def update(self, ctx: Context, event: Op) -> Generator:
        if event.type != "ok" or event.f != "watch":
            return self
        resume = max(event.value["next"], self.resume.get(ctx.thread, 1))
        return replace(self, resume={**self.resume, ctx.thread: resume})


def watch(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_watch, options)


def _watch(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    size, budget = options["threads_per_prefix"], options["ops_per_prefix"]

    def plan(number: int, own: int) -> Generator:
        return Plan(own, number * budget * _most_subs + 1, options["subs"], size, {})

    return Workload(
        name="watch",
        needs=WATCH.needs,
        generator=objects("watch", "w", plan, threads=threads, seed=seed, group=size, ops=budget),
        checkers={"watch": ("watch", {})},
        key_ops=frozenset({"put", "watch"}),
        final_read="watch",
        calls={"put": "watch_put", "watch": "watch_events"},
    )
