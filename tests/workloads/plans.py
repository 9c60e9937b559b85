"""Plans of workloads stepped in virtual time, against answers that are functions of the invocation."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from harness.core.generators import limit, rate, time_limit
from harness.core.op import Op
from harness.core.simulator import Completes, at_once, simulate
from harness.core.workload import Workload
from splitbrain import registry


def workload(name: str, threads: int = 10, seed: int = 7, **options: Any) -> Workload:
    """The workload with its defaults, but for `options`."""
    defaults = {o.name: o.default for o in registry.describe("workloads", name).options}
    assert options.keys() <= defaults.keys()
    made = registry.create("workloads", name, defaults | options)(threads, seed)
    assert isinstance(made, Workload)
    return made


def steps(
    name: str, count: int, completes: Completes = at_once, *, threads: int = 10, seed: int = 7, **options: Any
) -> list[Op]:
    """The events of the first `count` operations."""
    made = workload(name, threads, seed, **options)
    return simulate(limit(count, made.generator), threads, completes)


def seconds(
    name: str,
    span_s: float,
    completes: Completes,
    *,
    threads: int = 10,
    seed: int = 7,
    per_s: float = 200,
    **options: Any,
) -> list[Op]:
    """The events of a run of `span_s` seconds at the rate that runs have by default."""
    made = workload(name, threads, seed, **options)
    return simulate(time_limit(span_s, rate(per_s, made.generator)), threads, completes)


def invoked(events: list[Op]) -> list[Op]:
    return [e for e in events if e.type == "invoke"]


def completed(events: list[Op], kind: str = "ok") -> list[Op]:
    return [e for e in events if e.type == kind]


def by_thread(events: list[Op], threads: int = 10) -> dict[int, list[Op]]:
    """Each thread's events; after `info` it goes on under another process."""
    out: dict[int, list[Op]] = {}
    for e in events:
        assert isinstance(e.process, int)
        out.setdefault(e.process % threads, []).append(e)
    return out


def without_time(events: list[Op]) -> list[Op]:
    return [replace(e, time=0, process=0) for e in events]


Answer = Callable[[Op], Any]
LATENCY_NS = 2_000_000


def answering(answer: Answer) -> Completes:
    """Completions after 2 ms, with the answer's value. An exception is a fail, TimeoutError an info."""

    def completes(op: Op) -> tuple[int, Any, Any]:
        value = answer(op)
        if isinstance(value, TimeoutError):
            return 1_000_000_000, "info", op.value
        if isinstance(value, Exception):
            return LATENCY_NS, "fail", op.value
        return LATENCY_NS, "ok", value

    return completes
