"""Fault `terminate`: the system's processes on some nodes are asked to end, and later started again.

Each gets the signal by which an operator ends it (SIGTERM, unless the system says otherwise), and may
finish what it has begun: hand over its leadership, flush, close. What has not ended by the time of
healing is killed then, as service managers do, so that nothing ends after it was "started again".

Proof: every process that ran before is gone from the kernel's table, and was not ended by SIGKILL.
"""

from __future__ import annotations

import time
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

TERMINATE: Final = Descriptor(
    name="terminate",
    summary="end the system's processes on some nodes by their own stop signal, then start them again",
    target="nemesis.terminate:Terminate",
    needs=frozenset({"signal", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="grace_s",
            default=5.0,
            least=0,
            most=60,
            summary="how long to wait for them to have ended before the hold begins",
        ),
    ),
)
_KILLED: Final = -9


class Terminate(_node_fault.NodeFault):
    """Asks the processes of nodes to end, and starts them again."""

    name = "terminate"
    needs = TERMINATE.needs
    label = "terminate"
    glyph = "◼"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        found = [(node, s) for node in chosen for s in ctx.cluster.process.state(node) if s.alive]
        ends = [{"node": node, "pid": s.pid, "start": s.start, "signal": s.stop_signal} for node, s in found]
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} asked to end, to be started again{doubt}",
            args={"processes": ends},
            undo=(
                *(Undo("signal", {**one, "signal": "KILL"}) for one in ends),
                *_node_fault.each(chosen, "start"),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for one in plan.args["processes"]:
            ctx.cluster.process.signal(one["node"], one["signal"], pid=one["pid"], start=one["start"])
        deadline = time.monotonic() + float(self.options.get("grace_s", 0.0))
        wanted = [{**one, "alive": True} for one in plan.args["processes"]]
        while _node_fault.surviving(wanted, _node_fault.processes(ctx, plan)) and time.monotonic() < deadline:
            time.sleep(_node_fault.POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        if phase == "after":
            return _node_fault.after(ctx, plan)
        old = _node_fault.ran(ctx)
        return _node_fault.watched(
            lambda: _ended(old, _node_fault.processes(ctx, plan)),
            wait_s=None if old else 0.0,
        )


def _ended(old: list[dict[str, Any]], found: list[dict[str, Any]]) -> Evidence:
    """Whether all of `old` have ended by themselves, and how."""
    left = _node_fault.surviving(old, found)
    ends = {_node_fault.key(p): p["exit"] for p in found}
    codes = [ends.get(_node_fault.key(p)) for p in old]
    if not old:
        says = "no process ran before, so none could be ended"
    elif left:
        says = f"still running: {_node_fault.named(left)}"
    else:
        says = ", ".join(f"{p['name']} on {p['node']} {_how(c)}" for p, c in zip(old, codes, strict=True))
    effect = bool(old) and not left and _KILLED not in codes
    return Evidence(phase="during", effect=effect, says=says, facts={"processes": found})


def _how(code: int | None) -> str:
    """How a process ended.

    >>> _how(0), _how(-15), _how(None)
    ('ended with code 0', 'ended by signal 15', 'ended')
    """
    if code is None:
        return "ended"
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
