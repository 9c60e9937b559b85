"""The controller's side of disks: requests to the agent, for every provider that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness.core.cluster import DATA_DIR
from harness.core.options import Option

AT_REST: Final = "at-rest"
LOOP_DISK: Final = "loop-disk"
UNASKED: Final = "the nodes of this run have no disks of their own, since none of its faults needs them"
SIZE_MB: Final = 512
SIZE: Final = Option(
    name="disk_mb",
    default=SIZE_MB,
    least=8,
    most=1_000_000,
    summary="size of each node's disk in MB, where a fault asks for one; it takes what is written to it",
)
_make_s: Final = 60.0


def resources(needs: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """What disks leave behind if nobody removes them, as (kind, name)."""
    return (("loop", "loop devices"),) if LOOP_DISK in needs else ()


class Disks:
    """Implements `harness.core.cluster.Disks` by `ask`, which sends a request and returns its result."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def make(self, needs: frozenset[str], megabytes: int) -> dict[str, str | None]:
        """Give each node a disk of its own if that is among the `needs`: capability -> None or why not."""
        reason: str | None = UNASKED
        if LOOP_DISK in needs:
            reason = self._ask("disk_make", data_dir=DATA_DIR, megabytes=megabytes, timeout_s=_make_s)
        return {AT_REST: None, LOOP_DISK: reason}

    def spoil(self, node: str, error: str) -> None:
        self._ask("disk_spoil", node=node, error=error)

    def try_write(self, node: str) -> str | None:
        found: str | None = self._ask("disk_try", node=node)
        return found

    def mend(self, node: str) -> None:
        self._ask("disk_mend", node=node)

    def sums(self, node: str) -> Mapping[str, str]:
        found: dict[str, str] = self._ask("disk_sums", node=node, data_dir=DATA_DIR)
        return found

    def snapshot(self, node: str) -> None:
        self._ask("disk_snapshot", node=node, data_dir=DATA_DIR)

    def tamper(self, node: str, how: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        facts: dict[str, Any] = self._ask(
            "disk_tamper", node=node, data_dir=DATA_DIR, how=how, given=dict(given)
        )
        return facts

    def replace(self, node: str, folder: Path) -> Mapping[str, str]:
        from clusters.means import atrest

        self.tamper(node, "wipe", {})
        for piece in atrest.pieces(folder):
            self.tamper(node, "put", {"some": [piece]})
        return atrest.sums(folder)

    def flush(self, nodes: Sequence[str]) -> None:
        self._ask("disk_flush", nodes=list(nodes))

    def plant(self, node: str, name: str) -> Mapping[str, bool]:
        found: dict[str, bool] = self._ask("disk_plant", node=node, name=name)
        return found

    def planted(self, node: str, name: str) -> Mapping[str, bool]:
        found: dict[str, bool] = self._ask("disk_planted", node=node, name=name)
        return found

    def power_loss(self, nodes: Sequence[str]) -> Mapping[str, Any]:
        facts: dict[str, Any] = self._ask("disk_power_loss", nodes=list(nodes))
        return facts

    def mount(self, node: str) -> None:
        self._ask("disk_mount", node=node)
