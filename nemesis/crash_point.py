"""Fault `crash-point`: a process dies at the Nth of its syncs (or writes, or renames), exactly there.

A kill from outside hits a program mostly while it waits. What goes wrong between two writes that belong
together goes wrong in microseconds that such a kill never meets; a death at a system call's entry does, and
walking N through does for any unmodified program what failpoints do for one that has them. N counts from
the moment of attaching, in each thread by itself, since a tracer counts so.

Proof: the process ended by SIGKILL, which nobody has sent from outside (a tracer that does nothing is all
there is), within the time that the fault gave it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "sync": ("fsync", "fdatasync"),
    "write": ("write", "pwrite64", "writev", "pwritev"),
    "rename": ("rename", "renameat", "renameat2"),
}
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
        Option(name="at", default="sync", choices=tuple(CALLS), summary="what call they die at"),
    ),
)
_MOST: Final = 20
_DIE_S: Final = 3.0  # for as many calls to be made
_WAIT_S: Final = 0.5  # for new processes to appear
_POLL_S: Final = 0.01
_KILLED: Final = -9


class CrashPoint(targets.OnNodes):
    """Has processes die in the midst of what they write."""

    name = "crash-point"
    needs = CRASH_POINT.needs
    label = "crash point"
    glyph = "✂"
    colour = "disk"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        drawn, given = ctx.rng.randint(1, _MOST), self.options.get("nth", 0)
        nth, at = given or drawn, self.options.get("at", "sync")
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=chosen,
            says=f"{whom} to die at {at} number {nth} of a thread, and to be started again{doubt}",
            args={"calls": list(CALLS[at]), "nth": nth},
            undo=tuple(
                step
                for node in chosen
                for step in (
                    Undo("untrace", {"fault": ctx.fault, "node": node}),
                    Undo("start", {"node": node}),
                )
            ),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        """Attach to all, and give them the time to die."""
        for node in plan.nodes:
            ctx.cluster.tracer.trace(
                plan.fault, node, plan.args["calls"], f"signal=KILL:when={plan.args['nth']}"
            )
        deadline = time.monotonic() + _DIE_S
        while time.monotonic() < deadline and any(p["alive"] for p in _processes(ctx, plan)):
            time.sleep(_POLL_S)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        found = _processes(ctx, plan)
        if phase == "before":
            facts = {"processes": found}
            return Evidence(phase=phase, effect=None, says=f"running: {_named(found)}", facts=facts)
        earlier = ctx.before.facts if ctx.before is not None else {}
        old = [p for p in earlier.get("processes", ()) if p["alive"]]
        if phase == "after":
            return _after(ctx, plan, old)
        ended = {(p["node"], p["pid"], p["start"]): p["exit"] for p in found if not p["alive"]}
        left = [p for p in old if (p["node"], p["pid"], p["start"]) not in ended]
        otherwise = [p for p in old if ended.get((p["node"], p["pid"], p["start"]), _KILLED) != _KILLED]
        if not old:
            says = "no process ran before, so none could die"
        elif left:
            says = f"did not make as many calls: {_named(left)}"
        elif otherwise:
            says = f"ended otherwise than by SIGKILL: {_named(otherwise)}"
        else:
            says = f"died: {_named(old)}"
        effect = bool(old) and not left and not otherwise
        return Evidence(phase=phase, effect=effect, says=says, facts={"processes": found})


def _after(ctx: FaultContext, plan: Plan, old: list[dict[str, Any]]) -> Evidence:
    deadline = time.monotonic() + _WAIT_S
    while True:
        found = _processes(ctx, plan)
        running = {(p["node"], p["name"]) for p in found if p["alive"]}
        missing = [p for p in old if (p["node"], p["name"]) not in running]
        if not missing or time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    says = f"not started again: {_named(missing)}" if missing else f"running: {_named(found)}"
    return Evidence(phase="after", effect=bool(missing), says=says, facts={"processes": found})


def _processes(ctx: FaultContext, plan: Plan) -> list[dict[str, Any]]:
    return [
        {"node": node, "name": s.name, "pid": s.pid, "start": s.start, "exit": s.exit, "alive": s.alive}
        for node in plan.nodes
        for s in ctx.cluster.process.state(node)
    ]


def _named(processes: list[dict[str, Any]]) -> str:
    return ", ".join(f"{p['name']} ({p['pid']}) on {p['node']}" for p in processes) or "nothing"
