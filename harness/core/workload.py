"""A workload: what clients do, and which checkers judge it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from harness.core.generator import Generator


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload is for given options, number of threads and seed.

    `checkers` maps a check's name to the checker's entry-point name and its options. `key_ops` are
    the operations without whose success a run means nothing. `final_read` is the `f` that reads one
    key back at the end, for every key, through every node; None if there is no such thing.

    `needs` are methods of a client. They are called as their `f`, unless `calls` (`f` -> method) says
    otherwise: a `read` of a set and one of a register are one word in a history and two methods.

    `ops_per_key` and `infos_per_key` are the operations and unknown outcomes after which a key is not touched
    again but for final reads, None where there is no such end: so it can be checked while the run goes on.
    """

    name: str
    needs: frozenset[str]
    generator: Generator
    checkers: Mapping[str, tuple[str, Mapping[str, Any]]]
    key_ops: frozenset[str] = frozenset()
    final_read: str | None = "read"
    calls: Mapping[str, str] = {}
    ops_per_key: int | None = None
    infos_per_key: int | None = None

    @property
    def must_succeed(self) -> frozenset[str]:
        """`key_ops`; of a workload that names none, every `f` that calls a method it needs."""
        names = {method: f for f, method in self.calls.items()}
        return self.key_ops or frozenset(names.get(method, method) for method in self.needs)


class WorkloadFactory(Protocol):
    """What a workload's entry point makes of its options: a workload once threads and seed are known."""

    def __call__(self, threads: int, seed: int) -> Workload: ...
