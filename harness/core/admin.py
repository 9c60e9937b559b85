"""What an administrator does to a cluster: its members, its versions, its upkeep, by the system's own interface.

Each node has a view of the members of its own, which may be behind; what the cluster *agreed* on is known
where a majority answers, and not known otherwise. A change that was asked for may have taken effect
although no answer came. So the outcome of a change is what is observed later, not what was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from harness.core.cluster import Node

# What faults may need that the system has, not the provider.
OF_SYSTEMS: Final = frozenset({"members", "versions", "admin", "restore"})


class Member(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A member: `id` is its alone for ever, another one on the same node has another. `address` is where its
    peers find it, `name` what it calls itself, empty until it first started. A `learner` has no vote."""

    id: str
    address: str
    name: str = ""
    learner: bool = False


class Admin(Protocol):
    """A system's interface for its administrators; optional, as `System.admin`. Called inside the network of
    the node that is asked; one call is one request.

    Raises, all of them: Definite where the change was certainly not made and never will be, Indeterminate
    or OSError otherwise.
    """

    def members(self, node: Node, timeout_s: float, *, agreed: bool) -> tuple[Member, ...]:
        """The members as `node` has them, or as the cluster has `agreed` on them by now."""

    def add(self, through: Node, new: Node, timeout_s: float, *, learner: bool) -> None:
        """Make `new` a member; it is started afterwards."""

    def promote(self, through: Node, member: str, timeout_s: float) -> None:
        """Give the learner with this id a vote."""

    def remove(self, through: Node, member: str, timeout_s: float) -> None:
        """Remove the member with this id for ever."""

    def version(self, node: Node, timeout_s: float) -> str:
        """The version that `node` says it runs."""

    def ready_for(self, node: Node, version: str, timeout_s: float) -> bool:
        """Whether `version` can take over what `node` has on its disk, by what `node` says."""

    def lower(self, through: Node, version: str, timeout_s: float) -> None:
        """Ask the cluster to make ready for the older `version`; asked again it does nothing."""

    def transfer(self, leader: Node, member: str, timeout_s: float) -> None:
        """Have the leader hand over to the member with this id."""

    def compact(self, node: Node, revision: int, timeout_s: float) -> None:
        """Forget what was before `revision`."""

    def defragment(self, node: Node, timeout_s: float) -> None:
        """Have `node` write its data anew, without holes."""

    def snapshot(self, node: Node, timeout_s: float) -> bytes:
        """Fetch all that `node` holds, as for a backup, and compare its checksum."""

    def equip(self, version: str, artifacts: Any) -> None:
        """Obtain what `restored` needs, before a run.

        Raises: ArtifactError when it cannot be had.
        """

    def restored(self, snapshot: bytes, nodes: Sequence[Node], cluster: str, folder: Path) -> dict[str, Path]:
        """The data of each of `nodes`, made below `folder`: as members of a new `cluster`, which begins with
        what is in the snapshot. Asks nobody.

        Raises: InfrastructureError.
        """

    def counts(self, node: Node, timeout_s: float) -> dict[str, float]:
        """How far `node` itself says that each of `compact` (its oldest revision), `defragment` and `snapshot`
        (how often) has come."""


class Members(Protocol):
    """Who belongs to the cluster, and who shall; a change goes on by itself until it has been observed."""

    @property
    def first(self) -> tuple[str, ...]:
        """The nodes that the cluster began with."""

    @property
    def spares(self) -> tuple[str, ...]:
        """The other nodes; they are idle unless they are members."""

    @property
    def voters(self) -> tuple[str, ...]:
        """The nodes whose members had a vote when the cluster's agreement was last known."""

    @property
    def settled(self) -> bool:
        """Whether the members are those that shall be, as far as is known."""

    @property
    def pending(self) -> str:
        """What is still to be done, and what stands in its way; empty when settled."""

    def want(
        self, nodes: Sequence[str], wait_s: float, *, whole: bool = False, below_quorum: bool = False
    ) -> None:
        """From now on have members on these nodes and no others. Returns when the first change has been
        observed, or the `whole`, and after `wait_s` in any case. Unless `below_quorum`, no member with a vote
        is removed where the nodes of the rest that answer are no majority of them."""

    def views(self) -> dict[str, tuple[str, ...] | None]:
        """The members, as `NODE ID`, as each node that has had one has them itself; None where it does not
        answer."""


class Programs(Protocol):
    """Which version runs where, of those that the run was given."""

    @property
    def first(self) -> str:
        """The version that the cluster began with."""

    @property
    def others(self) -> tuple[str, ...]:
        """The others."""

    def run(self, nodes: Sequence[str], version: str, *, pause_s: float = 0.0, serve_s: float = 10.0) -> None:
        """Have these nodes run `version`, one after the other: each is asked to end, started with the other
        program, and waited for until it takes a write, for `serve_s` at most. Stops at one where that cannot
        be."""

    def refused(self) -> str:
        """Why the last change stopped before its end; empty where it did not."""

    def versions(self) -> dict[str, str | None]:
        """The version that each node says it runs; None where it does not answer."""
