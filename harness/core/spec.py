"""The resolved description of a run: what `spec.json` holds and everything else is derived from."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.core.checker import Verdict

FORMAT = 1


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, fully resolved. `time_s` is load under faults; recovery and final reads come after.

    `faults` are `family` or `family:target`. `rate` is operations per second over all clients, 0
    for as fast as they can. `ready_s` bounds the cluster's first start; fewer than `overlap` successful
    operations during a family of faults make the run vacuous. `options` maps an owner (system,
    workload, fault, checker or provider) to its options, with every value filled in. `addresses` are
    the nodes of a cluster that exists already, as HOST:PORT. `keep` leaves a cluster that failed
    standing; `fail_fast` ends load at the first violation seen; without `admission` the run does not
    wait for others on a machine that is full.
    """

    format: int = FORMAT
    system: str = "etcd"
    version: str | None = None
    workload: str = "register"
    faults: tuple[str, ...] = ()
    nodes: int = 3
    provider: str = "netns"
    time_s: float = 30.0
    rate: float = 200.0
    concurrency: int = 10
    seed: int = 0
    options: dict[str, dict[str, Any]] = {}
    expect: Verdict | None = None
    ready_s: float = 30.0
    overlap: int = 20
    addresses: tuple[str, ...] = ()
    keep: bool = False
    fail_fast: bool = False
    admission: bool = True

    def of(self, owner: str) -> dict[str, Any]:
        """The options of one owner."""
        return self.options.get(owner, {})

    @property
    def families(self) -> tuple[str, ...]:
        """The fault families asked for, in order, each once."""
        return tuple(dict.fromkeys(f.partition(":")[0] for f in self.faults))

    @property
    def owners(self) -> frozenset[str]:
        """Who owns options of the run before any checker does: system, workload, provider, fault families."""
        return frozenset((self.system, self.workload, self.provider, *self.families))
