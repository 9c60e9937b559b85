"""Damage to the data of nodes on which nothing runs; see `clusters.means.atrest`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from clusters.agent.house import Answer, Refusal
from clusters.agent.tracers import Tracers
from clusters.means import atrest

_ways: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "bit-flip": atrest.flip,
    "truncate": atrest.cut,
    "wipe": atrest.wipe,
    "rollback": atrest.roll_back,
    "put": atrest.put,
}


class AtRest(Tracers):
    """An estate whose nodes' data can be damaged."""

    def do_disk_sums(self, *, node: str, data_dir: str) -> Answer:
        """Size and checksum of each file of the node's data."""
        return self._inside(node, lambda: atrest.sums(Path(data_dir))), []

    def do_disk_snapshot(self, *, node: str, data_dir: str) -> Answer:
        """Copy the node's data, while nothing on the node moves."""
        with self._standing_still(node) as still:
            if not still:
                raise Refusal(
                    "agent", f"{node}: its processes do not stand still, so that no copy can be made"
                )
            return self._inside(node, lambda: atrest.snapshot(Path(data_dir))), []

    def do_disk_tamper(self, *, node: str, data_dir: str, how: str, given: dict[str, Any]) -> Answer:
        """Damage the data; nothing may run on the node."""
        if self._inhabitants([node]):
            raise Refusal("setup", f"{node}: something runs there, so its data are not at rest")
        return self._inside(node, lambda: _ways[how](Path(data_dir), **given)), []
