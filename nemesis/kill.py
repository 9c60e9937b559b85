"""Fault `kill`: the system's processes on some nodes are killed (SIGKILL) and later started again.

A node loses what it held in memory and keeps what it had written, synced or not: the page cache
outlives a process, so this shows no missing fsync (power loss does).

When every node was killed, they do not all come back in the same instant: one is later than the
others by `stagger_s` at most, so that a majority forms without it. With `dead` nodes fewer than were
killed, the others are started again at once and those stay dead for the hold. With `restart=false`
the nodes that are killed first stay dead until the load is over; those killed after them, which are
others, do not, or nobody would be left.

Proof: every process that ran before, known by its pid and start time, is gone from the kernel's
table; afterwards others run in their stead. A port would prove less: refused connections and
unanswered ones have many causes.
"""

from __future__ import annotations

import time
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets

KILL: Final = Descriptor(
    name="kill",
    summary="kill the system's processes on some nodes with SIGKILL, then start them again",
    target="nemesis.kill:Kill",
    needs=frozenset({"signal", "restart"}),
    targets=targets.KINDS,
    options=(
        Option(
            name="restart",
            default=True,
            summary="start them again after the hold; false: those killed first not before the load is over",
        ),
        Option(
            name="stagger_s",
            default=1.2,
            least=0,
            most=60,
            summary="when all were killed, how much later one of them is started again: from half of it to all of it",
        ),
        Option(
            name="dead",
            default=0,
            least=0,
            summary="how many of them stay dead for the hold, the others being started again at once; 0: all",
        ),
    ),
)


class Kill(_node_fault.NodeFault):
    """Kills the processes of nodes, and starts them again."""

    name = "kill"
    needs = KILL.needs
    label = "kill"
    glyph = "✗"
    colour = "process"

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        restart = bool(self.options.get("restart", True))
        stagger_s = float(self.options.get("stagger_s", 0.0))
        stay = int(self.options.get("dead", 0))
        names = [node.name for node in ctx.cluster.nodes] if not restart else []
        gone = {name for name in names if not any(s.alive for s in ctx.cluster.process.state(name))}
        if gone:
            restart, chosen = True, tuple(node for node in chosen if node not in gone)
            whom = targets.listed(chosen) if chosen else "nobody that lives"
        soon: list[str] = []
        if 0 < stay < len(chosen):
            dead = set(ctx.rng.sample(chosen, stay))
            soon = [node for node in chosen if node not in dead]
            says = f"{whom} killed; {targets.listed(soon)} started again at once"
        else:
            says = f"{whom} killed, {'to be started again' if restart else 'and left dead'}"
        late, after_s = "", 0.0
        if stagger_s > 0 and len(chosen) == len(ctx.cluster.nodes) > 1:
            pool = soon if len(soon) > 1 else [node for node in chosen if node not in soon]
            late = ctx.rng.choice(pool)
            after_s = round(ctx.rng.uniform(stagger_s / 2, stagger_s), 3)
            says += f", {late} {after_s:g} s after the others"
        return self.planned(
            ctx,
            target,
            chosen,
            says + doubt,
            args={"signal": "KILL", "soon": _starts(soon, late, after_s)},
            undo=tuple(
                Undo("start", step) for step in _starts(chosen, "" if late in soon else late, after_s)
            ),
            lasting=not restart,
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.process.signal(node, plan.args["signal"])
        for step in plan.args["soon"]:
            time.sleep(step.get("after_s", 0.0))
            ctx.cluster.process.start(step["node"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        if phase == "after":
            return _node_fault.after(ctx, plan)
        old = _node_fault.ran(ctx)
        return _node_fault.watched(
            lambda: _gone(old, _node_fault.processes(ctx, plan)),
            wait_s=None if old else 0.0,
        )


def _starts(nodes: list[str] | tuple[str, ...], late: str, after_s: float) -> list[dict[str, Any]]:
    """What `start` is to be told: all of `nodes` at once, `late` so much after them.

    >>> _starts(["n1", "n2"], "n1", 0.7)
    [{'node': 'n2'}, {'node': 'n1', 'after_s': 0.7}]
    """
    steps: list[dict[str, Any]] = [{"node": node} for node in nodes if node != late]
    return [*steps, {"node": late, "after_s": after_s}] if late in nodes else steps


def _gone(old: list[dict[str, Any]], found: list[dict[str, Any]]) -> Evidence:
    """Whether all of `old` have ended; that there were any belongs to it."""
    left = _node_fault.surviving(old, found)
    if not old:
        says = "no process ran before, so none could be killed"
    elif left:
        says = f"still running: {_node_fault.named(left)}"
    else:
        says = f"gone from the kernel's table: {_node_fault.named(old)}"
        new = [p for p in found if p["alive"]]
        says += f"; running: {_node_fault.named(new)}" if new else ""
    return Evidence(phase="during", effect=bool(old) and not left, says=says, facts={"processes": found})
