"""What an administrator asks for, in memory: it is done at once, and the node counts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.admin import Member
from harness.core.cluster import Node
from harness.core.system import Status


class FakeAdmin:
    """Implements `harness.core.admin.Admin`, but for what changes members and versions."""

    def __init__(self, nodes: Sequence[Node], leader: str | None) -> None:
        self.nodes, self.leader = nodes, leader
        self.cluster = ""
        self.done: dict[str, Counter[str]] = {n.name: Counter(compact=1) for n in nodes}

    def status(self, node: Node, timeout_s: float) -> Status:
        return Status(role="follower", leader=self.leader, revision=500)

    def ready(self, node: Node, timeout_s: float) -> None:
        """It serves, always."""

    def members(self, node: Node, timeout_s: float, *, agreed: bool) -> tuple[Member, ...]:
        return tuple(
            Member(id=f"id-{self.cluster}{n.name}", address=n.address, name=n.name) for n in self.nodes
        )

    def transfer(self, leader: Node, member: str, timeout_s: float) -> None:
        self.leader = member.removeprefix("id-")

    def compact(self, node: Node, revision: int, timeout_s: float) -> None:
        self.done[node.name]["compact"] = max(revision, 2)

    def defragment(self, node: Node, timeout_s: float) -> None:
        self.done[node.name]["defragment"] += 1

    def snapshot(self, node: Node, timeout_s: float) -> bytes:
        self.done[node.name]["snapshot"] += 1
        return bytes(4096)

    def restored(self, snapshot: bytes, nodes: Sequence[Node], cluster: str, folder: Path) -> dict[str, Path]:
        assert len(snapshot) == 4096
        self.cluster = cluster
        for node in nodes:
            (folder / node.name).mkdir()
        return {node.name: folder / node.name for node in nodes}

    def counts(self, node: Node, timeout_s: float) -> dict[str, Any]:
        return {kind: self.done[node.name][kind] for kind in ("compact", "defragment", "snapshot")}


class FakePrograms:
    """Implements `harness.core.admin.Programs`."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.first, self.others = "1.0", ("1.1",)
        self._of = dict.fromkeys(nodes, self.first)

    def run(self, nodes: Sequence[str], version: str, *, pause_s: float = 0.0, serve_s: float = 10.0) -> None:
        self._of |= dict.fromkeys(nodes, version)

    def refused(self) -> str:
        return ""

    def versions(self) -> dict[str, str | None]:
        return dict(self._of)
