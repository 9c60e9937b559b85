"""Fault `crash-point`: a process dies at the Nth of its syncs (or writes, or renames), exactly there.

A kill from outside hits a program mostly while it waits. What goes wrong between two writes that belong
together goes wrong in microseconds that such a kill never meets; a death at a system call's entry does, and
walking N through does for any unmodified program what failpoints do for one that has them. N counts from
the moment of attaching, in each thread by itself, since strace counts so; who counts over a process has to hold
every call back until it is counted, which is another fault.

Proof: the process ended by SIGKILL, which nobody has sent from outside (a tracer that does nothing is all
there is), within the time that the fault gave it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from harness.core.options import Option
from nemesis import _calls, _node_fault, targets

CRASH_POINT: Final = Descriptor(
    name="crash-point",
    summary="the system's processes on some nodes die at their Nth sync, write or rename; then start them again",
    target="nemesis.crash_point:CrashPoint",
    needs=frozenset({"trace", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="nth",
            default=0,
            least=0,
            most=100_000,
            summary="at which call they die, counted in each thread; 0: one of the first 20, by the seed",
        ),
        _calls.at("sync", "write", "rename"),
        _calls.FILES,
    ),
)
_MOST: Final = 20
_DIE_S: Final = 3.0  # for as many calls to be made
_KILLED: Final = -9


class CrashPoint(_node_fault.NodeFault):
    """Has processes die in the midst of what they write."""

    name = "crash-point"
    needs = CRASH_POINT.needs
    label = "crash point"
    glyph = "✂"
    colour = "disk"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._calls, self._files, self._words = _calls.asked(options)

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        drawn, given = ctx.rng.randint(1, _MOST), self.options.get("nth", 0)
        nth = given or drawn
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} to die when a thread comes to its {self._words} number {nth}, and to be started again{doubt}",
            args={"calls": self._calls, "files": self._files, "nth": nth},
            undo=(
                *_node_fault.each(chosen, "untrace", fault=ctx.fault),
                *_node_fault.each(chosen, "start"),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        """Attach to all, and give them the time to die."""
        for node in plan.nodes:
            what = f"signal=KILL:when={plan.args['nth']}"
            ctx.cluster.tracer.trace(plan.fault, node, plan.args["calls"], what, files=plan.args["files"])
        deadline = time.monotonic() + _DIE_S
        while time.monotonic() < deadline and any(p["alive"] for p in _node_fault.processes(ctx, plan)):
            time.sleep(_node_fault.POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        if phase == "after":
            return _node_fault.after(ctx, plan)
        old, found = _node_fault.ran(ctx), _node_fault.processes(ctx, plan)
        ended = {_node_fault.key(p): p["exit"] for p in found if not p["alive"]}
        left = [p for p in old if _node_fault.key(p) not in ended]
        otherwise = [p for p in old if ended.get(_node_fault.key(p), _KILLED) != _KILLED]
        if not old:
            says = "no process ran before, so none could die"
        elif left:
            says = f"did not make as many calls: {_node_fault.named(left)}"
        elif otherwise:
            says = f"ended otherwise than by SIGKILL: {_node_fault.named(otherwise)}"
        else:
            says = f"died: {_node_fault.named(old)}"
        effect = bool(old) and not left and not otherwise
        return Evidence(phase=phase, effect=effect, says=says, facts={"processes": found})
