"""Fault `terminate`: the system's processes on some nodes are asked to end, and later started again.

Each gets the signal by which an operator ends it (SIGTERM, unless the system says otherwise), and may
finish what it has begun: hand over its leadership, flush, close. What has not ended by the time of
healing is killed then, as service managers do, so that nothing ends after it was "started again".

Proof: every process that ran before is gone from the kernel's table, and was not ended by SIGKILL.
"""

from __future__ import annotations

import time
from typing import Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

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
_WAIT_S: Final = 0.5
_POLL_S: Final = 0.01
_KILLED: Final = -9


class Terminate(targets.OnNodes):
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
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=chosen,
            says=f"{whom} asked to end, to be started again{doubt}",
            args={"processes": ends},
            undo=(
                *(Undo("signal", {**one, "signal": "KILL"}) for one in ends),
                *(Undo("start", {"node": node}) for node in chosen),
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for one in plan.args["processes"]:
            ctx.cluster.process.signal(one["node"], one["signal"], pid=one["pid"], start=one["start"])
        deadline = time.monotonic() + float(self.options.get("grace_s", 0.0))
        wanted = [{**one, "alive": True} for one in plan.args["processes"]]
        while targets.surviving(wanted, targets.processes(ctx, plan)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            found = targets.processes(ctx, plan)
            says = f"running: {targets.named([p for p in found if p['alive']])}"
            return Evidence(phase=phase, effect=None, says=says, facts={"processes": found})
        earlier = ctx.before.facts if ctx.before is not None else {}
        old = [p for p in earlier.get("processes", ()) if p["alive"]]
        deadline = time.monotonic() + _WAIT_S
        while True:
            found = targets.processes(ctx, plan)
            left = targets.surviving(old, found)
            if phase == "after":
                evidence = targets.back(old, found)
            else:
                ends = {(p["node"], p["pid"], p["start"]): p["exit"] for p in found}
                codes = [ends.get((p["node"], p["pid"], p["start"])) for p in old]
                said = ", ".join(
                    f"{p['name']} on {p['node']} {_how(c)}" for p, c in zip(old, codes, strict=True)
                )
                says = said if not left else f"still running: {targets.named(left)}"
                effect = bool(old) and not left and _KILLED not in codes
                says = says or "no process ran before, so none could be ended"
                evidence = Evidence(phase=phase, effect=effect, says=says, facts={"processes": found})
            if evidence.effect is (phase == "during") or not old or time.monotonic() > deadline:
                return evidence
            time.sleep(_POLL_S)


def _how(code: int | None) -> str:
    """How a process ended.

    >>> _how(0), _how(-15), _how(None)
    ('ended with code 0', 'ended by signal 15', 'ended')
    """
    if code is None:
        return "ended"
    return f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
