"""Members in memory: what is wanted is there at once, and every node sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count


class FakeMembers:
    """Implements `harness.core.admin.Members`; two nodes stand spare."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.first = tuple(nodes)
        self.spares = tuple(f"n{len(nodes) + i}" for i in (1, 2))
        self.settled = True
        self.pending = ""
        self._ids = count(100)
        self._there = {name: next(self._ids) for name in nodes}

    @property
    def voters(self) -> tuple[str, ...]:
        return tuple(self._there)

    def want(
        self,
        nodes: Sequence[str],
        wait_s: float = 0.0,
        *,
        whole: bool = False,
        below_quorum: bool = False,
    ) -> None:
        self._there = {name: self._there.get(name) or next(self._ids) for name in nodes}

    def views(self) -> dict[str, tuple[str, ...] | None]:
        view = tuple(f"{name} {member}" for name, member in self._there.items())
        return dict.fromkeys(self._there, view)
