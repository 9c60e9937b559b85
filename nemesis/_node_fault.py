"""What the families have in common that do something to the nodes' own processes: their plan, and how they look.

Evidence of processes is facts for the ledger, a process known by node, pid and start time; what takes the kernel a
moment is looked at again until it is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from harness.core.cluster import ProcessState
from harness.core.fault import Evidence, FaultContext, Plan, Undo
from nemesis.targets import OnNodes

WAIT_S: Final = 0.5  # for the kernel to take a process apart, and for a new one to appear
POLL_S: Final = 0.01

Facts = dict[str, Any]
Key = tuple[str, int, int]  # node, pid, start


class NodeFault(OnNodes):
    """A fault that does the same to the processes, or the data, of each of some nodes."""

    name: str

    def planned(
        self,
        ctx: FaultContext,
        target: str,
        nodes: Sequence[str],
        says: str,
        *,
        undo: Iterable[Undo],
        args: Facts | None = None,
        lasting: bool = False,
    ) -> Plan:
        """The plan of this family for the nodes chosen."""
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=tuple(nodes),
            says=says,
            args=args or {},
            undo=tuple(undo),
            lasting=lasting,
        )


def each(nodes: Iterable[str], *steps: str, **more: Any) -> tuple[Undo, ...]:
    """These steps back on each node, node by node.

    >>> [(u.do, u.args) for u in each(["n1"], "mount", "start")]
    [('mount', {'node': 'n1'}), ('start', {'node': 'n1'})]
    """
    return tuple(Undo(step, {"node": node, **more}) for node in nodes for step in steps)


def watched(
    look: Callable[[], Evidence],
    *,
    until: bool = True,
    wait_s: float | None = None,
    poll_s: float | None = None,
) -> Evidence:
    """What `look` sees once its effect is as it should be, or at the end of the wait (`WAIT_S`)."""
    deadline = time.monotonic() + (WAIT_S if wait_s is None else wait_s)
    while True:
        evidence = look()
        if evidence.effect is until or time.monotonic() >= deadline:
            return evidence
        time.sleep(POLL_S if poll_s is None else poll_s)


def before(ctx: FaultContext, plan: Plan) -> Evidence:
    """Before: what runs on a plan's nodes."""
    found = processes(ctx, plan)
    return Evidence(phase="before", effect=None, says=f"running: {living(found)}", facts={"processes": found})


def ran(ctx: FaultContext) -> list[Facts]:
    """What ran before the fault, as it was seen then."""
    earlier = ctx.before.facts if ctx.before is not None else {}
    return [p for p in earlier.get("processes", ()) if p["alive"]]


def after(ctx: FaultContext, plan: Plan) -> Evidence:
    """After healing: whether what ran before runs again, as soon as it does."""
    old = ran(ctx)
    return watched(lambda: back(old, processes(ctx, plan)), until=False)


def processes(ctx: FaultContext, plan: Plan) -> list[Facts]:
    """Every process of a plan's nodes as the kernel sees it now, as facts for the ledger."""
    return [_plain(node, s) for node in plan.nodes for s in ctx.cluster.process.state(node)]


def surviving(old: Sequence[Facts], found: Sequence[Facts]) -> list[Facts]:
    """Those of the processes `old` that are alive still: the very same, not others in their stead."""
    alive = {key(p) for p in found if p["alive"]}
    return [p for p in old if key(p) in alive]


def back(old: Sequence[Facts], found: list[Facts]) -> Evidence:
    """After healing: whether the node of each of `old` runs a process of that name again."""
    running = {(p["node"], p["name"]): p for p in found if p["alive"]}
    missing = [p for p in old if (p["node"], p["name"]) not in running]
    same = [p for p in old if running.get((p["node"], p["name"]), {}).get("pid") == p["pid"]]
    if missing:
        says = f"not started again: {named(missing)}"
    else:
        says = f"running: {named(list(running.values()))}"
        says += f"; the same as before: {named(same)}" if same else ""
    return Evidence(phase="after", effect=bool(missing), says=says, facts={"processes": found})


def met(ctx: FaultContext, plan: Plan, kind: str, counter: str) -> tuple[dict[str, Facts], dict[str, int]]:
    """What nodes use of what is limited; of those whose limit is tighter than before, how often they met it since."""
    was: dict[str, Facts] = ctx.before.facts.get("nodes", {}) if ctx.before is not None else {}
    now = {node: dict(ctx.cluster.limits.usage(node, kind)) for node in plan.nodes}
    tight = [node for node, then in was.items() if tighter(now[node]["limit"], then["limit"])]
    return now, {node: now[node][counter] - was[node][counter] for node in tight}


def tighter(limit: float | None, than: float | None) -> bool:
    """Whether a limit allows less than another; None is no limit."""
    return limit is not None and (than is None or limit < than)


def key(p: Mapping[str, Any]) -> Key:
    """Who a process is."""
    return p["node"], p["pid"], p["start"]


def named(found: Sequence[Mapping[str, Any]]) -> str:
    """Processes as people write them: `etcd (123) on n1`."""
    return ", ".join(f"{p['name']} ({p['pid']}) on {p['node']}" for p in found) or "nothing"


def living(found: Sequence[Mapping[str, Any]]) -> str:
    """The same, of those that are alive."""
    return named([p for p in found if p["alive"]])


def with_facts(evidence: Evidence, **facts: Any) -> Evidence:
    """The same evidence with more facts."""
    return msgspec.structs.replace(evidence, facts={**evidence.facts, **facts})


def _plain(node: str, state: ProcessState) -> Facts:
    facts = {"node": node, "name": state.name, "pid": state.pid, "start": state.start}
    return {**facts, "state": state.state, "exit": state.exit, "alive": state.alive}
