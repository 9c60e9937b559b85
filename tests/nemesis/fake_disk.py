"""Disks of a cluster in memory: two files, of which a power loss leaves one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.nemesis.fake import FakeCluster


class FakeDisk:
    """What is written, and what of it is on the disk."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.spoilt: dict[str, str] = {}
        self.data: dict[str, dict[str, str]] = {n.name: {"log": "9:a", "db": "7:b"} for n in cluster.nodes}
        self.files: dict[str, dict[str, bool]] = {}  # node:name:kind -> synced

    def flush(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            self.files[node] = dict.fromkeys(self.files.get(node, ()), True)

    def plant(self, node: str, name: str) -> dict[str, bool]:
        self.files.setdefault(node, {}).update({f"{name}.synced": True, f"{name}.unsynced": False})
        return self.planted(node, name)

    def planted(self, node: str, name: str) -> dict[str, bool]:
        return {kind: f"{name}.{kind}" in self.files.get(node, {}) for kind in ("synced", "unsynced")}

    def power_loss(self, nodes: Sequence[str]) -> dict[str, Any]:
        for node in nodes:
            self.files[node] = {name: True for name, synced in self.files.get(node, {}).items() if synced}
            self.cluster.signal(node, "KILL")
        return {"took_ms": 0.1}

    def sums(self, node: str) -> dict[str, str]:
        return dict(self.data[node])

    def replace(self, node: str, folder: Path) -> dict[str, str]:
        self.data[node] = {"snapshot": f"4096:{folder.name}"}
        return dict(self.data[node])

    def snapshot(self, node: str) -> None:
        """What is restored is something else, here."""

    def tamper(self, node: str, how: str, given: Mapping[str, Any]) -> dict[str, Any]:
        assert not self.cluster.running[node].alive
        damaged = {
            "bit-flip": {"log": "9:c", "db": "7:b"},
            "truncate": {"log": "4:c", "db": "7:b"},
            "wipe": {},
        }
        self.data[node] = damaged.get(how, {"log": "8:d"})
        return {}

    def spoil(self, node: str, error: str) -> None:
        self.spoilt[node] = error

    def try_write(self, node: str) -> str | None:
        return self.spoilt.get(node)

    def mend(self, node: str) -> None:
        self.spoilt.pop(node, None)

    def mount(self, node: str) -> None:
        """It always is."""
