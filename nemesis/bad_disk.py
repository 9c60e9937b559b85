"""Faults `disk-full`, `read-only` and `disk-error`: what is written to a node's disk is refused.

`disk-full`: a file takes all the room that is left (ENOSPC), and is removed again. What a program has
preallocated can still be written. `read-only`: the file system gives its journal up and takes no write any
more (EROFS), as after an error that it met itself. `disk-error`: it is shut down, and every read that is not
in memory, write and sync fails (EIO). Out of these two nothing leads but a new mount, for which the processes
are killed. Whatever ended meanwhile is started again.

Proof: a write with a sync beside the node's data, by nobody who is in league with the injector, fails with
just that error, where it succeeded before, and succeeds again afterwards.
"""

from __future__ import annotations

from typing import ClassVar, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from nemesis import _node_fault, targets

_NEEDS: Final = frozenset({"loop-disk", "restart"})
DISK_FULL: Final = Descriptor(
    name="disk-full",
    summary="no room is left on the disks of some nodes (ENOSPC)",
    target="nemesis.bad_disk:DiskFull",
    needs=_NEEDS,
    targets=targets.KINDS,
)
READ_ONLY: Final = Descriptor(
    name="read-only",
    summary="the disks of some nodes take no write any more (EROFS)",
    target="nemesis.bad_disk:ReadOnly",
    needs=_NEEDS,
    targets=targets.KINDS,
)
DISK_ERROR: Final = Descriptor(
    name="disk-error",
    summary="whatever is done to the disks of some nodes fails (EIO)",
    target="nemesis.bad_disk:DiskError",
    needs=_NEEDS,
    targets=targets.KINDS,
)


class _BadDisk(_node_fault.NodeFault):
    """What the three have in common."""

    name: str
    needs = _NEEDS
    label: str
    glyph: str
    colour = "disk"
    error: ClassVar[str]
    says: ClassVar[str]

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        return self.planned(
            ctx,
            target,
            chosen,
            f"{self.says} {whom}{doubt}",
            args={"error": self.error},
            undo=_node_fault.each(chosen, "mend", "start"),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.disk.spoil(node, plan.args["error"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        errors = {node: ctx.cluster.disk.try_write(node) for node in plan.nodes}
        told = ", ".join(
            f"succeeds on {node}" if error is None else f"fails with {error} on {node}"
            for node, error in errors.items()
        )
        earlier = ctx.before.facts.get("errors", {}) if ctx.before is not None else {}
        if phase == "before":
            effect = None
        elif phase == "during":
            effect = all(errors[n] == self.error and earlier.get(n, "") is None for n in plan.nodes)
        else:
            effect = any(errors.values())
        return Evidence(phase=phase, effect=effect, says=f"a synced write {told}", facts={"errors": errors})


class DiskFull(_BadDisk):
    """Leaves no room."""

    name = "disk-full"
    label = "disk full"
    glyph = "▣"
    error = "ENOSPC"
    says = "no room is left on the disk of"


class ReadOnly(_BadDisk):
    """Refuses writes."""

    name = "read-only"
    label = "read-only disk"
    glyph = "▤"
    error = "EROFS"
    says = "no write is taken any more by the disk of"


class DiskError(_BadDisk):
    """Fails."""

    name = "disk-error"
    label = "disk error"
    glyph = "▧"
    error = "EIO"
    says = "errors come from the disk of"
