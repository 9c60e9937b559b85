"""Fault `power-loss`: nodes lose their power, and with it whatever was written and never synced.

Everything on the nodes stands still at once; their file systems are shut down with nothing more written
out, as a disk without power would be; the processes are killed, and started again later on what is left. A
killed process leaves its page cache behind, so that `kill` shows no missing fsync: this does.

How much is lost is the kernel's to say: it writes out by itself what has been waiting for half a minute. In
every other fault, by the seed, everything is written out once (flush) a moment before the power goes. Then
a system that syncs nothing comes back with all but its latest, and says nothing of that; without, it may not
come back at all.

Proof: a file written beside the data just before and not synced is gone afterwards, one that was synced when
the disk was made is there; and every process that ran before is gone from the kernel's table. (None is
synced just before: in a journaling file system that would save what the system forgot to sync as well.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.errors import InfrastructureError
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from harness.core.options import Option
from nemesis import _node_fault, targets

POWER_LOSS: Final = Descriptor(
    name="power-loss",
    summary="take from nodes what was written and never synced, and kill them; then start them again",
    target="nemesis.power_loss:PowerLoss",
    needs=frozenset({"loop-disk", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="flush",
            default="sometimes",
            choices=("sometimes", "always", "never"),
            summary="whether all that was written goes to the disk, synced or not, shortly before the power is lost",
        ),
    ),
)
_FLUSHED_S: Final = (0.3, 1.0)  # before the power is lost


class PowerLoss(_node_fault.NodeFault):
    """Cuts the power of nodes, and gives it back."""

    name = "power-loss"
    needs = POWER_LOSS.needs
    label = "power loss"
    glyph = "↯"
    colour = "disk"
    default_targets = ("leader", "all", "one", "minority")  # while all are down, nothing can overlap it

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        wish = self.options.get("flush", "sometimes")
        coin, flushed_s = ctx.rng.random() < 0.5, round(ctx.rng.uniform(*_FLUSHED_S), 3)
        flush = wish == "always" or (wish == "sometimes" and coin)
        since = f" since {flushed_s:g} s" if flush else ""
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} lost power and what was not synced{since}, to be started again{doubt}",
            args={"canary": f"power-loss-{ctx.fault}", "flushed_s": flushed_s if flush else None},
            undo=_node_fault.each(chosen, "mount", "start"),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        if plan.args["flushed_s"] is not None:
            ctx.cluster.disk.flush(plan.nodes)
            time.sleep(plan.args["flushed_s"])
        for node in plan.nodes:
            if not all(ctx.cluster.disk.plant(node, plan.args["canary"]).values()):
                raise InfrastructureError(f"{node}: what was just written to its disk cannot be read back")
        ctx.cluster.disk.power_loss(plan.nodes)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        files = _files(ctx, plan)
        if phase == "after":
            return _node_fault.with_facts(_node_fault.after(ctx, plan), files=files)
        old, found = _node_fault.ran(ctx), _node_fault.processes(ctx, plan)
        left = _node_fault.surviving(old, found)
        kept = [n for n in plan.nodes if files[n]["unsynced"]]
        lost = [n for n in plan.nodes if not files[n]["synced"]]
        says = _told(plan, left, kept, lost) if old else "no process ran before, so none could lose its power"
        effect = bool(old) and not left and not kept and not lost
        facts = {"processes": found, "files": files}
        return Evidence(phase="during", effect=effect, says=says, facts=facts)


def _told(plan: Plan, left: list[dict[str, Any]], kept: list[str], lost: list[str]) -> str:
    parts = [f"still running: {_node_fault.named(left)}"] if left else ["every process is gone"]
    parts.append(
        f"what was not synced is still there on {targets.listed(kept)}"
        if kept
        else f"what was not synced is gone on {targets.listed(plan.nodes)}"
    )
    parts.append(
        f"what was synced is not there on {targets.listed(lost)}" if lost else "what was synced is there"
    )
    return ", ".join(parts)


def _files(ctx: FaultContext, plan: Plan) -> dict[str, Mapping[str, bool]]:
    return {node: ctx.cluster.disk.planted(node, plan.args["canary"]) for node in plan.nodes}
