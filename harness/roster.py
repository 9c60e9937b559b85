"""A cluster whose nodes come and go: some stand idle until they are members.

Everything is the provider's cluster; only `nodes` and `places` are those of the present members, so that faults
hit them alone, and whatever asks all nodes asks these. `hosts` are all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from harness.core.admin import OF_SYSTEMS, Admin
from harness.core.cluster import Cluster, Node, Place, View
from harness.core.system import Install, System
from harness.members import Keeper
from harness.programs import Programs


class Roster:
    """A cluster; implements `harness.core.cluster.Cluster` by handing on whatever it does not say itself."""

    def __init__(self, cluster: Cluster, first: int) -> None:
        self._cluster = cluster
        self.hosts: tuple[Node, ...] = cluster.nodes
        self._first = tuple(node.name for node in cluster.nodes[:first])
        self.members: Keeper | None = None
        self.programs: Programs | None = None
        self.capabilities = {**cluster.capabilities, **dict.fromkeys(OF_SYSTEMS)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)

    @property
    def nodes(self) -> tuple[Node, ...]:
        names = self._first if self.members is None else self.members.serving
        return tuple(node for node in self.hosts if node.name in names)

    @property
    def places(self) -> tuple[Place, ...]:
        here = {node.name for node in self.nodes}
        return tuple(place for place in self._cluster.places if place.node in here)

    def look_after(
        self,
        system: System,
        installs: Sequence[Install],
        view: Callable[..., View],
        *,
        members: bool,
        record: Path,
        now: Callable[[], int],
    ) -> None:
        """Have somebody look after versions (`installs`, of which the first one runs), and after `members`.

        `view(install, nodes, joining=)` is what the system may know. What happens goes into `record`, with the
        time `now`.
        """
        admin: Admin = system.admin  # type: ignore[attr-defined]  # optional; there is a roster where it is there
        first = self.nodes
        self.programs = programs = Programs(
            cluster=cast("Cluster", self),
            system=system,
            admin=admin,
            installs={one.version: one for one in installs},
            first=installs[0].version,
            processes=lambda node, one: system.launch(node, view(one, first)),
        )
        if not members:
            return
        keeper = Keeper(
            cluster=self._cluster,
            admin=admin,
            hosts=self.hosts,
            first=[node.name for node in first],
            processes=lambda node, nodes: system.launch(
                node, view(programs.of(node.name), nodes, joining=True)
            ),
            record=record,
            now=now,
        )
        keeper.begin()
        self.members = keeper

    def close(self) -> None:
        if self.members is not None:
            self.members.close()
        self._cluster.close()


def roster(cluster: Cluster, first: int) -> Cluster:
    """`cluster` with its `first` nodes as members to begin with."""
    return cast("Cluster", Roster(cluster, first))
