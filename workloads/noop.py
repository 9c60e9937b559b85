"""Workload `noop`: operations that do nothing.

What it does: all clients call `noop`, which a client answers without asking its node; with `--rate 0`
that measures the scheduler and the journal, and nothing else.

What it can show: what the harness itself costs, its rate and the lag of its clocks. What it cannot:
anything about the system, which is never asked; a run of it that ends `valid` says that the harness
worked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.generator import op
from harness.core.generators import stream
from harness.core.op import Op
from harness.core.workload import Workload, WorkloadFactory

NOOP: Final = Descriptor(
    name="noop",
    summary="operations that do nothing: what the harness itself costs",
    target="workloads.noop:noop",
    needs=frozenset({"noop"}),
)


def noop(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload, still to be told threads and seed; it has no options."""
    return partial(_noop, options)


def _noop(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    del options, threads, seed  # every client does the same for ever
    return Workload(
        name="noop",
        needs=NOOP.needs,
        generator=stream(_nothing),
        checkers={},
        key_ops=NOOP.needs,
        final_read=None,
    )


def _nothing(_n: int) -> Op:
    return op("noop")
