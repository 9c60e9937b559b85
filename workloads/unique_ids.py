"""Workload `unique-ids`: every client asks for identifiers, and no two may be the same.

What it does: all clients call `generate` on one object, as fast as `--rate` lets them.

What it can show: an identifier that was handed out twice, by one node or by two that each believed to
be in charge. What it cannot: whether identifiers are in order or without gaps; duplicates of
those whose answer was lost; repetitions that come long after the run.
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

UNIQUE_IDS: Final = Descriptor(
    name="unique-ids",
    summary="identifiers handed out by every node; none of them twice",
    target="workloads.unique_ids:unique_ids",
    needs=frozenset({"generate"}),
)


def unique_ids(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload, still to be told threads and seed; it has no options."""
    return partial(_unique_ids, options)


def _unique_ids(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    del options, threads, seed  # every client does the same for ever
    return Workload(
        name="unique-ids",
        needs=UNIQUE_IDS.needs,
        generator=stream(_generate),
        checkers={"unique-ids": ("unique-ids", {})},
        key_ops=UNIQUE_IDS.needs,
        final_read=None,
    )


def _generate(_n: int) -> Op:
    return op("generate")
