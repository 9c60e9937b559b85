"""Fault `crash-loop`: the system's processes on some nodes are killed again each time they come up.

What a node does first (replay its log, rejoin, call an election) is done over and over and never
comes to an end; peers see it come and go. `up_s` is how long it may live each time.

Proof: the processes that ran before are gone, and at least one in their stead has come and gone too.
"""

from __future__ import annotations

import time
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

CRASH_LOOP: Final = Descriptor(
    name="crash-loop",
    summary="kill the system's processes on some nodes again each time they come up",
    target="nemesis.crash_loop:CrashLoop",
    needs=frozenset({"signal", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(name="up_s", default=0.3, least=0, most=60, summary="how long they live each time"),
        Option(name="down_s", default=0.1, least=0.01, most=60, summary="how long they are dead each time"),
    ),
)
_WAIT_S: Final = 0.9  # beyond what one life and death take by the plan
_POLL_S: Final = 0.005


class CrashLoop(_node_fault.NodeFault):
    """Kills the processes of nodes each time they come up, and starts them for good in the end."""

    name = "crash-loop"
    needs = CRASH_LOOP.needs
    label = "crash loop"
    glyph = "↻"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        up_s, down_s = float(self.options.get("up_s", 0.3)), float(self.options.get("down_s", 0.1))
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} killed again {up_s:g} s after each start{doubt}",
            args={"up_s": up_s, "down_s": down_s},
            undo=(
                Undo("unloop", {"fault": ctx.fault}),
                *_node_fault.each(chosen, "start"),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.process.loop(plan.fault, node, up_s=plan.args["up_s"], down_s=plan.args["down_s"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        if phase == "after":
            return _node_fault.after(ctx, plan)
        old = _node_fault.ran(ctx)
        return self._during(ctx, plan, old)

    def _during(self, ctx: FaultContext, plan: Plan, old: list[dict[str, Any]]) -> Evidence:
        """Look until every node has lost a process that was not there before."""
        known = {_node_fault.key(p) for p in old}
        seen: dict[str, set[_node_fault.Key]] = {node: set() for node in plan.nodes}
        ended: dict[str, set[_node_fault.Key]] = {node: set() for node in plan.nodes}
        deadline = time.monotonic() + _WAIT_S + plan.args["up_s"] + plan.args["down_s"]
        while True:
            found = _node_fault.processes(ctx, plan)
            alive = {_node_fault.key(p) for p in found if p["alive"]}
            for node in plan.nodes:
                now = {key for key in alive if key[0] == node}
                ended[node] |= {
                    _node_fault.key(p) for p in found if p["node"] == node and p["exit"] is not None
                }
                ended[node] |= seen[node] - now
                seen[node] |= now
            lost = {node: ended[node] - known for node in plan.nodes}
            left = _node_fault.surviving(old, found)
            effect = bool(old) and not left and all(lost[p["node"]] for p in old)
            if effect or not old or time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        if not old:
            says = "no process ran before, so none could be killed"
        elif left:
            says = f"still running: {_node_fault.named(left)}"
        else:
            counts = ", ".join(f"{len(lost[node])} on {node}" for node in plan.nodes)
            says = f"gone: {_node_fault.named(old)}; came up and were gone again since: {counts}"
        return Evidence(phase="during", effect=effect, says=says, facts={"processes": found})
