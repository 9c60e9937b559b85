"""Fault `fd-limit`: the system's processes on some nodes have no file descriptor left.

The soft limit of each running process (RLIMIT_NOFILE) is set to the number that it would open next, so
that it can accept, connect and open nothing new before it has closed something; what is open works
on. A process that is started meanwhile has the limit that it always has. One that ends for want of
descriptors is started again at healing.

Proof: the limit is read back from /proc/PID/limits, lower than before, and among the descriptors that
each process has open, counted in /proc/PID/fd, none below it is free.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

FD_LIMIT: Final = Descriptor(
    name="fd-limit",
    summary="let the system's processes on some nodes open no more file descriptors",
    target="nemesis.fd_limit:FdLimit",
    needs=frozenset({"descriptor-limit", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="headroom",
            default=0,
            least=0,
            most=1_000_000,
            summary="how many more each process can open",
        ),
    ),
)
_WAIT_S: Final = 0.9  # for what had just been closed to be taken
_POLL_S: Final = 0.02


class FdLimit(_node_fault.NodeFault):
    """Limits the descriptors of the processes of nodes, and lifts that."""

    name = "fd-limit"
    needs = FD_LIMIT.needs
    label = "fd limit"
    glyph = "▤"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        headroom = int(self.options.get("headroom", 0))
        says = f"{whom} left {headroom or 'no'} file descriptor{'' if headroom == 1 else 's'} to open"
        return self.planned(
            ctx,
            target,
            chosen,
            says + doubt,
            args={"headroom": headroom},
            undo=(
                Undo("unlimit", {"fault": ctx.fault}),
                *_node_fault.each(chosen, "start"),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.limits.limit(plan.fault, node, "descriptors", plan.args["headroom"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        wait_s = _WAIT_S if phase == "during" and ctx.before is not None else 0.0
        look = partial(self._look, ctx, plan, phase)
        return _node_fault.watched(look, wait_s=wait_s, poll_s=_POLL_S)

    def _look(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        before = ctx.before.facts.get("processes", ()) if ctx.before is not None else ()
        was = {_node_fault.key(p): p for p in before}
        found = _processes(ctx, plan)
        old = [(p, was[_node_fault.key(p)]) for p in found if _node_fault.key(p) in was]
        lower = [now for now, then in old if _node_fault.tighter(now["limit"], then["limit"])]
        full = [p for p in lower if p["room"] <= plan.args["headroom"]]
        met = bool(was) and len(full) == len(was)
        says = ", ".join(
            f"{p['name']} on {p['node']} has {p['open']} open, limit {p['limit']}" for p in found
        )
        effect = None if phase == "before" else met if phase == "during" else bool(lower)
        return Evidence(phase=phase, effect=effect, says=says or "nothing runs", facts={"processes": found})


def _processes(ctx: FaultContext, plan: Plan) -> list[dict[str, Any]]:
    return [
        {"node": node, **one}
        for node in plan.nodes
        for one in ctx.cluster.limits.usage(node, "descriptors")["processes"]
    ]
