"""The resolved description of a run: what `spec.json` holds and everything else is derived from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.core.checker import Verdict
from harness.core.errors import UsageError

FORMAT = 1


def families_of(word: str) -> tuple[str, ...]:
    """The families of `family`, `family:target` or `walk:family+family`.

    >>> families_of("kill:one"), families_of("walk:kill+pause")
    (('kill',), ('kill', 'pause'))
    """
    family, _, rest = word.partition(":")
    return tuple(rest.split("+")) if family == "walk" else (family,)


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, fully resolved. `time_s` is load under faults; recovery and final reads come after.

    `faults` are `family` or `family:target`. `rate` is operations per second over all clients, 0
    for as fast as they can. `ready_s` bounds the cluster's first start; fewer than `overlap` successful
    operations during a family of faults make the run vacuous. `options` maps an owner (system,
    workload, fault, checker or provider) to its options, with every value filled in. `addresses` are
    the nodes of a cluster that exists already, as HOST:PORT;
    `hosts` those on which a provider makes its nodes, as USER@HOST:PORT. `keep` leaves a cluster that failed
    standing; `expect_found` are the checks or signatures whose finding is expected of an invalid run;
    `fail_fast` ends load at the first violation seen; without `admission` the run does not
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
    expect_found: tuple[str, ...] = ()
    ready_s: float = 30.0
    overlap: int = 20
    addresses: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    keep: bool = False
    fail_fast: bool = False
    admission: bool = True

    def of(self, owner: str) -> dict[str, Any]:
        """The options of one owner."""
        return self.options.get(owner, {})

    @property
    def families(self) -> tuple[str, ...]:
        """The fault families asked for, in order, each once; of a walk, its states."""
        return tuple(dict.fromkeys(family for word in self.faults for family in families_of(word)))

    @property
    def owners(self) -> frozenset[str]:
        """Who owns options of the run before any checker does: system, workload, provider, fault families."""
        return frozenset((self.system, self.workload, self.provider, *self.families))


def read_spec(run_dir: Path) -> Spec:
    """The spec of a run, from its directory; secret options are hidden in it (`core.secrets`).

    Raises: UsageError where there is none that can be read.
    """
    path = run_dir / "spec.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Spec)
    except FileNotFoundError:
        raise UsageError(f"{run_dir} has no spec.json; expected a run that `splitbrain run` made") from None
    except (OSError, msgspec.DecodeError) as e:
        raise UsageError(f"cannot read {path}: {e}; expected the spec that `splitbrain run` wrote") from None
