"""Objects that groups of clients share and that retire: what registers, maps, sets, counters and prefixes
have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from harness.core.generator import Generator
from harness.core.generators import keyed
from harness.core.seeds import subseed

NEVER: Final = 2**62  # more operations than any run has


def objects(
    name: str,
    prefix: str,
    plan: Callable[[int, int], Generator],
    *,
    threads: int,
    seed: int,
    group: int,
    ops: int = NEVER,
    infos: int = NEVER,
) -> Generator:
    """Groups of up to `group` threads work on PREFIX0, PREFIX1 ...; an object retires after `ops` operations or
    `infos` of unknown outcome, or when its plan ends.

    `plan(number, seed)` is the plan for the object of that number, with a seed of its own; `name` is that of the
    workload.
    """
    groups = -(-threads // group)

    def make(which: int, generation: int) -> tuple[str, Generator]:
        number = generation * groups + which
        return f"{prefix}{number}", plan(number, subseed(seed, name, which, generation))

    return keyed(make, threads_per_key=group, ops_per_key=ops, infos_per_key=infos)
