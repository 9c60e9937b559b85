"""Fault `cpu-pressure`: the nodes get a small part of a processor, as beside a greedy neighbour.

By the quota of the node's own control group: whatever runs on the node shares it, and stands still
for the rest of each tenth of a second. Heartbeats are late, elections are called, a leader serves a
little. The machine and the other nodes are as before. A node that does not use as much as it was left gets less,
until it feels it.

Proof: the limit is read back, and the kernel counts periods in which the node met it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

CPU_PRESSURE: Final = Descriptor(
    name="cpu-pressure",
    summary="leave some nodes a few percent of a processor",
    target="nemesis.cpu_pressure:CpuPressure",
    needs=frozenset({"cpu-limit"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="cpu_percent",
            default=5.0,
            least=1,
            most=10_000,
            summary="what a node gets at most, of one processor; less where it does not use as much",
        ),
    ),
)
_SHARES: Final = (1.0, 0.4, 0.2)  # of what was asked for, one after the other
_LEAST: Final = 0.01  # of a processor; the kernel takes no less
_FELT_S: Final = 0.3  # for each: three of the kernel's periods
_WAIT_S: Final = 0.9  # for the limit to be met
_POLL_S: Final = 0.02


class CpuPressure(_node_fault.NodeFault):
    """Limits the processor time of nodes, and lifts that."""

    name = "cpu-pressure"
    needs = CPU_PRESSURE.needs
    label = "cpu pressure"
    glyph = "◔"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        percent = float(self.options.get("cpu_percent", 5.0))
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} limited to {percent:g} % of a processor{doubt}",
            args={"cpus": percent / 100},
            undo=(Undo("unlimit", {"fault": ctx.fault}),),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        limits = ctx.cluster.limits
        was = {node: limits.usage(node, "cpu")["throttled"] for node in plan.nodes}
        for share in _SHARES:
            for node in was:
                limits.limit(plan.fault, node, "cpu", max(_LEAST, plan.args["cpus"] * share))
            deadline = time.monotonic() + _FELT_S
            while was and time.monotonic() < deadline:
                was = {node: n for node, n in was.items() if limits.usage(node, "cpu")["throttled"] <= n}
                time.sleep(_POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        wait_s = _WAIT_S if phase == "during" and ctx.before is not None else 0.0
        look = partial(self._look, ctx, plan, phase)
        return _node_fault.watched(look, wait_s=wait_s, poll_s=_POLL_S)

    def _look(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        now, hit = _node_fault.met(ctx, plan, "cpu", "throttled")
        met = bool(hit) and hit.keys() == now.keys() and all(hit.values())
        says = "; ".join(f"{node} {_words(use)}" for node, use in now.items())
        facts = {"nodes": now}
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=says, facts=facts)
        if phase == "during":
            counts = ", ".join(f"{node} {n}" for node, n in hit.items())
            says += f"; times it was met since: {counts}" if hit else "; none is tighter than before"
            return Evidence(phase=phase, effect=met, says=says, facts=facts)
        return Evidence(phase=phase, effect=bool(hit), says=says, facts=facts)


def _words(use: dict[str, Any]) -> str:
    if use["limit"] is None:
        return "has no limit"
    return f"is limited to {use['limit']:.3g} processors"
