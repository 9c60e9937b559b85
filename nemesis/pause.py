"""Fault `pause`: the system's processes on some nodes are stopped (SIGSTOP) and later continued.

A paused node does not know that time has passed: it wakes as a leader whose lease ran out. The kernel
goes on accepting connections and bytes in its name, so what was sent meanwhile is answered when it
wakes, long after its client gave up.

Proof: every process that was to be stopped is in state T, and uses no processor time while one looks.
"""

from __future__ import annotations

import time
from typing import Any, Final

from harness.core.cluster import ProcessState
from harness.core.descriptor import Descriptor
from harness.core.errors import unknown_name
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

PAUSE: Final = Descriptor(
    name="pause",
    summary="stop the system's processes on some nodes with SIGSTOP, then continue them",
    target="nemesis.pause:Pause",
    needs=frozenset({"signal"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="process",
            default=None,
            summary="pause that process of each node alone, by its name (default: all of them)",
        ),
    ),
)
_WAIT_S: Final = 0.5  # for every thread of a process to have stopped, or to run again
_POLL_S: Final = 0.01
_STANDING_S: Final = 0.05  # how long the processor time must stand still

_Key = tuple[str, int, int]  # node, pid, start
_States = dict[_Key, ProcessState]


class Pause(_node_fault.NodeFault):
    """Stops the processes of nodes, and continues them.

    The plan names each process by pid and start time, and only those are stopped: the undo, which may
    be worked off much later by somebody else, can never miss one nor hit a stranger.
    """

    name = "pause"
    needs = PAUSE.needs
    claims = frozenset({"signal", "stop"})
    label = "pause"
    glyph = "‖"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        only: str | None = self.options.get("process")
        found = [(node, s) for node in chosen for s in ctx.cluster.process.state(node)]
        if only is not None and found and only not in {s.name for _, s in found}:
            raise unknown_name("process", only, sorted({s.name for _, s in found}))
        processes = [
            {"node": node, "pid": s.pid, "start": s.start}
            for node, s in found
            if s.alive and only in (None, s.name)
        ]
        what = "" if only is None else f": {only} alone"
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} paused{what}{doubt}",
            args={"signal": "STOP", "processes": processes},
            undo=tuple(Undo("signal", {**p, "signal": "CONT"}) for p in processes),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for p in plan.args["processes"]:
            ctx.cluster.process.signal(p["node"], plan.args["signal"], pid=p["pid"], start=p["start"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            now = _states(ctx, plan)
            says = f"states before: {_letters(now)}"
            return Evidence(phase=phase, effect=None, says=says, facts={"processes": _plain(now)})
        earlier = ctx.before.facts if ctx.before is not None else {}
        ran = {(p["node"], p["pid"], p["start"]) for p in earlier.get("processes", ()) if p["state"] != "T"}
        deadline = time.monotonic() + _WAIT_S
        look = self._during if phase == "during" else self._after
        while True:
            evidence = look(ctx, plan, ran)
            if evidence.effect is (phase == "during") or not ran or time.monotonic() > deadline:
                return evidence
            time.sleep(_POLL_S)

    def _during(self, ctx: FaultContext, plan: Plan, ran: set[_Key]) -> Evidence:
        now = _states(ctx, plan)
        time.sleep(_STANDING_S)
        later = _states(ctx, plan)
        stopped = {p for p in ran if p in now and p in later and now[p].state == later[p].state == "T"}
        used = sum(later[p].cpu_ticks - now[p].cpu_ticks for p in stopped)
        if ran:
            says = f"{len(stopped)} of {len(ran)} stopped ({_letters(later)}), {used} ticks used in 50 ms"
        else:
            says = "no process ran before, so none could be stopped"
        facts = {"processes": _plain(later), "ticks_used": used, "watched_ms": _STANDING_S * 1000}
        effect = bool(ran) and stopped == ran and used == 0
        return Evidence(phase="during", effect=effect, says=says, facts=facts)

    def _after(self, ctx: FaultContext, plan: Plan, ran: set[_Key]) -> Evidence:
        now = _states(ctx, plan)
        stopped = [p for p in ran if p in now and now[p].state == "T"]
        says = f"states after: {_letters(now)}"
        return Evidence(phase="after", effect=bool(stopped), says=says, facts={"processes": _plain(now)})


def _states(ctx: FaultContext, plan: Plan) -> _States:
    """The planned processes that the kernel still knows, by node, pid and start time."""
    planned = {(p["node"], p["pid"], p["start"]) for p in plan.args["processes"]}
    found = {
        (node, s.pid, s.start): s for node in plan.nodes for s in ctx.cluster.process.state(node) if s.alive
    }
    return {key: state for key, state in found.items() if key in planned}


def _plain(states: _States) -> list[dict[str, Any]]:
    return [
        {"node": node, "name": s.name, "pid": pid, "start": start, "state": s.state, "cpu_ticks": s.cpu_ticks}
        for (node, pid, start), s in states.items()
    ]


def _letters(states: _States) -> str:
    return ", ".join(f"{s.name} on {node} {s.state}" for (node, _, _), s in states.items()) or "nothing runs"
