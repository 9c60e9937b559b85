"""Fault `memory-pressure`: the nodes are short of memory, as beside a greedy neighbour.

The limit of the node's own control group is set to what it needs now and `room_mb` more, and a process
of ours in that group keeps the room taken. Nothing fails by that: what the system needs is taken back
from our process and from the page cache, and each page that it takes costs it that work. A process
that grows by more than the room is slowed down or, where control groups are of version 1, killed by
the kernel; it is started again at healing. The machine and the other nodes are as before.

Proof: the limit is read back, the node uses nine tenths of it or more, and the kernel counts the times that it
met it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

MEMORY_PRESSURE: Final = Descriptor(
    name="memory-pressure",
    summary="keep some nodes at the limit of their memory",
    target="nemesis.memory_pressure:MemoryPressure",
    needs=frozenset({"memory-limit", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="room_mb",
            default=16.0,
            least=1,
            most=100_000,
            summary="how much more than now a node can get, by having it taken back",
        ),
    ),
)
_FILL_S: Final = 5.0  # for the room to be taken; on a busy machine a process is slow to begin
_WAIT_S: Final = 0.9  # for the limit to be met
_POLL_S: Final = 0.02
_MB: Final = 1e6
_FULL: Final = 0.9  # of the limit


class MemoryPressure(_node_fault.NodeFault):
    """Limits the memory of nodes, and lifts that."""

    name = "memory-pressure"
    needs = MEMORY_PRESSURE.needs
    label = "memory pressure"
    glyph = "◕"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        room_mb = float(self.options.get("room_mb", 16.0))
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} kept at a limit of memory, {room_mb:g} MB above what is needed now{doubt}",
            args={"room": int(room_mb * _MB)},
            undo=(
                Undo("unlimit", {"fault": ctx.fault}),
                *_node_fault.each(chosen, "start"),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.limits.limit(plan.fault, node, "memory", plan.args["room"])
        before = {node: ctx.cluster.limits.usage(node, "memory")["pressed"] for node in plan.nodes}
        deadline = time.monotonic() + _FILL_S
        while time.monotonic() < deadline:
            if all(ctx.cluster.limits.usage(n, "memory")["pressed"] > was for n, was in before.items()):
                return
            time.sleep(_POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        wait_s = _WAIT_S if phase == "during" and ctx.before is not None else 0.0
        look = partial(self._look, ctx, plan, phase)
        return _node_fault.watched(look, wait_s=wait_s, poll_s=_POLL_S)

    def _look(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        before: dict[str, Any] = ctx.before.facts.get("nodes", {}) if ctx.before is not None else {}
        now, hit = _node_fault.met(ctx, plan, "memory", "pressed")
        full = all(use["used"] >= _FULL * use["limit"] for node, use in now.items() if node in hit)
        met = bool(hit) and hit.keys() == now.keys() and all(hit.values()) and full
        says = "; ".join(f"{node} {_words(use)}" for node, use in now.items())
        facts: dict[str, Any] = {"nodes": now, "processes": _node_fault.processes(ctx, plan)}
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=says, facts=facts)
        killed = {node: now[node]["killed"] - was["killed"] for node, was in before.items()}
        if any(killed.values()):
            says += (
                f"; killed by the kernel: {', '.join(f'{n} on {node}' for node, n in killed.items() if n)}"
            )
        if phase == "during":
            counts = ", ".join(f"{node} {n}" for node, n in hit.items())
            says += (
                f"; times the limit was met since: {counts}" if hit else "; no limit is tighter than before"
            )
            return Evidence(phase=phase, effect=met, says=says, facts=facts)
        return Evidence(phase=phase, effect=bool(hit), says=says, facts=facts)


def _words(use: dict[str, Any]) -> str:
    limit = "no limit" if use["limit"] is None else f"a limit of {use['limit'] / _MB:.1f} MB"
    return f"has {limit} and uses {use['used'] / _MB:.1f} MB"
