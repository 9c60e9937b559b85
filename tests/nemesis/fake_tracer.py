"""Tracers of a cluster in memory: syncs take as long as was asked, and a death comes at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.nemesis.fake import FakeCluster


class FakeTracer:
    """Who holds what, and the delay in ms."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.held: dict[tuple[str, str], float] = {}
        self.idle: dict[str, int] = {}  # node -> how many more looks see no call of it

    def trace(
        self,
        fault: str,
        node: str,
        calls: Sequence[str],
        what: str,
        *,
        files: str | None = None,
        follow: bool = False,
    ) -> None:
        if what.startswith("signal=KILL"):
            self.cluster.signal(node, "KILL")
        else:
            self.held[fault, node] = float(what.removeprefix("delay_enter=").removesuffix("ms"))

    def untrace(self, fault: str, node: str) -> None:
        self.held.pop((fault, node), None)

    def longest_ms(
        self,
        node: str,
        calls: Sequence[str],
        watch_s: float,
        enough_ms: float,
        *,
        files: str | None = None,
    ) -> float:
        if self.idle.get(node, 0) > 0:
            self.idle[node] -= 1
            return 0.0
        delays = [ms for (_, of), ms in self.held.items() if of == node]
        return max([1.0, *delays]) if self.cluster.running[node].alive else 0.0
