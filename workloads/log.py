"""Workload `log`: messages are published to logs and read back; what was acknowledged is there, once, in order.

What it does: groups of two clients share a live log. They publish messages that are unique in the
run, and now and then (one operation in `read_every`) read on from where their last read ended, or once
more from the beginning. A log retires after `ops_per_log` operations, or `infos_per_log` publishes of unknown
outcome, and the next one takes its place: where a log is an object of the system's own (a stream, a
topic), new ones are created all through the run. At the end every log is read from its beginning through every
node.

What it can show: an acknowledged message that is lost, in the end or for one reader, one that is there
twice, in an order that contradicts real time, under different numbers for different readers, or that
nobody published; logs that are gone as a whole. What it cannot: losses of what was never acknowledged, how
late a reader is.

The n-th operation of a log is a function of the seed; where a read goes on is the system's to say.
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

LOG: Final = Descriptor(
    name="log",
    summary="messages published to logs; what was acknowledged is there, once, in order",
    target="workloads.log:log",
    needs=frozenset({"log_publish", "log_read"}),
    options=(
        Option(
            name="delivery",
            default="exactly-once",
            choices=("exactly-once", "at-least-once"),
            summary="whether a message that is there twice is a violation",
        ),
        Option(
            name="ops_per_log", default=600, least=2, most=10**6, summary="operations before a log retires"
        ),
        Option(
            name="infos_per_log", default=20, least=1, most=10**6, summary="unknown outcomes before it does"
        ),
        Option(name="read_every", default=10, least=2, most=10**6, summary="one operation in so many reads"),
        Option(
            name="threads_per_log", default=2, least=1, most=1000, summary="clients that share a live log"
        ),
    ),
)
_AGAIN: Final = 8  # one read in so many begins at the beginning


class Plan(Struct, frozen=True, gc=False):
    """The operations on one log: messages from `first` on; `resume` is where each thread's next read starts."""

    seed: int
    first: int
    read_every: int
    resume: dict[int, int]
    n: int = 0

    def next(self, ctx: Context) -> Answer:
        number = draw(self.seed, self.n)
        after = replace(self, n=self.n + 1)
        if number % self.read_every:
            return Op(-1, -1, -1, "invoke", "publish", self.first + self.n), after
        start = 1 if (number >> 16) % _AGAIN == 0 else self.resume.get(ctx.thread, 1)
        return Op(-1, -1, -1, "invoke", "read", start), after

    def update(self, ctx: Context, event: Op) -> Generator:
        if event.type != "ok" or event.f != "read":
            return self
        resume = max(event.value["next"], self.resume.get(ctx.thread, 1))
        return replace(self, resume={**self.resume, ctx.thread: resume})


def log(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_log, options)


def _log(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    budget, infos = options["ops_per_log"], options["infos_per_log"]

    def plan(number: int, own: int) -> Generator:
        return Plan(own, number * budget + 1, options["read_every"], {})

    return Workload(
        name="log",
        needs=LOG.needs,
        generator=objects(
            "log",
            "log",
            plan,
            threads=threads,
            seed=seed,
            group=options["threads_per_log"],
            ops=budget,
            infos=infos,
        ),
        checkers={"log": ("log", {"delivery": options["delivery"]})},
        key_ops=frozenset({"publish", "read"}),
        calls={"publish": "log_publish", "read": "log_read"},
        ops_per_key=budget,
        infos_per_key=infos,
    )
