"""Fault `admin`: what administrators do to a cluster that works, while it works.

    transfer     the leader hands over to another member
    compact      what is older than the latest `keep` revisions is forgotten
    defragment   a node writes its data anew, and stands still meanwhile
    snapshot     a backup of a node is fetched, and its checksum compared

None of it is to be undone, and all of it should go unnoticed by clients.

Proof: another node leads, by its own word; or the node's own count of what it did has risen, for `compact` the
oldest revision that it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from harness.core.cluster import Node
from harness.core.descriptor import Descriptor
from harness.core.errors import OperationError, UsageError
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from harness.core.options import Option
from nemesis import targets
from nemesis._node_fault import watched

NEEDS: Final = frozenset({"admin"})
ADMIN: Final = Descriptor(
    name="admin",
    summary="transfer leadership, compact, defragment and back up while the cluster works",
    target="nemesis.admin:Admin",
    needs=NEEDS,
    targets=("transfer", "compact", "defragment", "snapshot"),
    options=(
        Option(name="keep", default=100, least=1, most=10**9, summary="revisions that `compact` leaves"),
        Option(name="time_s", default=5.0, least=0.1, most=60, summary="how long each request may take"),
    ),
)
_ASK_S: Final = 1.0
_WAIT_S: Final = 1.0


class Admin:
    """Does one thing to one node."""

    name = "admin"
    needs = NEEDS
    label = "administration"
    glyph = "⚙"
    colour = "process"
    targets = ADMIN.targets
    default_targets = ADMIN.targets
    claims = frozenset[str]()

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self._said: dict[str, str] = {}  # fault -> what its request met

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        if target not in self.targets:
            return f"there is no target {target!r}; expected one of {', '.join(self.targets)}"
        if target == "transfer" and nodes < 2:
            return f"target 'transfer' does not exist among {targets.count(nodes)}; it needs at least 2"
        return None

    def reach(self, target: str, nodes: int) -> int:
        """Nobody is taken out."""
        return 0

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        names = [node.name for node in ctx.cluster.nodes]
        problem = self.refusal(target, len(names))
        if problem is not None:
            raise UsageError(problem)
        args: dict[str, Any] = {}
        head = targets.leader(names, ctx.roles)
        node = ctx.rng.choice(names)
        if target == "transfer":
            node = head or node
            args["to"] = ctx.rng.choice([n for n in names if n != node])
            says = f"{targets.listed([node], head)} to hand over to {args['to']}"
            says += "" if head else "; no leader was known, so the choice was random"
        elif target == "compact":
            status = ctx.roles.get(node)
            latest = (status.revision if status is not None else None) or 0
            args["revision"] = max(1, latest - int(self.options.get("keep", 0)))
            says = f"all before revision {args['revision']} to be forgotten, through {node}"
        elif target == "defragment":
            says = f"{node} to write its data anew"
        else:
            says = f"a backup of {node} to be fetched"
        return Plan(
            fault=ctx.fault, family=self.name, target=target, nodes=(node,), says=says, args=args, down=()
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        admin: Any = ctx.system.admin  # type: ignore[attr-defined]  # optional; a run that needs it has it
        node, time_s = node_of(ctx, plan.nodes[0]), float(self.options.get("time_s", 5.0))

        def ask() -> Any:
            if plan.target == "transfer":
                to = node_of(ctx, plan.args["to"]).address
                members = admin.members(node, time_s, agreed=False)
                return admin.transfer(node, next(m.id for m in members if m.address == to), time_s)
            if plan.target == "compact":
                return admin.compact(node, plan.args["revision"], time_s)
            return getattr(admin, plan.target)(node, time_s)

        began = time.monotonic()
        try:
            answer = ctx.inside(node.name, ask)
        except (OSError, OperationError, StopIteration) as e:
            self._said[plan.fault] = f"answered {str(e) or type(e).__name__!r}"
        else:
            bytes_ = f"{len(answer)} bytes, " if isinstance(answer, bytes) else ""
            self._said[plan.fault] = f"{bytes_}answered within {time.monotonic() - began:.2g} s"

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "after":
            return Evidence(phase=phase, effect=False, says="nothing of it is left to be undone")
        if phase == "before":
            return Evidence(phase=phase, effect=None, says="", facts=self._look(ctx, plan))
        wait_s = _WAIT_S if plan.fault in self._said else 0.0
        return watched(lambda: self._seen(ctx, plan), wait_s=wait_s, poll_s=0.05)

    def _seen(self, ctx: FaultContext, plan: Plan) -> Evidence:
        was = ctx.before.facts if ctx.before is not None else {}
        now = self._look(ctx, plan)
        said = self._said.get(plan.fault, "nothing was asked")
        if plan.target == "transfer":
            effect = bool(was.get("leader")) and now.get("leader") == plan.args["to"] != was["leader"]
            says = f"led by {was.get('leader')} before and by {now.get('leader')} now; {said}"
        else:
            old, new = was.get(plan.target), now.get(plan.target)
            effect = old is not None and new is not None and new > old
            says = f"{plan.target} on {plan.nodes[0]}: {old} before, {new} now; {said}"
        return Evidence(phase="during", effect=effect, says=says, facts=now)

    def _look(self, ctx: FaultContext, plan: Plan) -> dict[str, Any]:
        """What shows: who leads, or the node's counts; nothing where nobody says."""
        admin: Any = ctx.system.admin  # type: ignore[attr-defined]  # see `apply`
        node = node_of(ctx, plan.args.get("to", plan.nodes[0]))
        try:
            if plan.target == "transfer":
                return {"leader": ctx.inside(node.name, lambda: ctx.system.status(node, _ASK_S).leader)}
            return dict(ctx.inside(node.name, lambda: admin.counts(node, _ASK_S)))
        except (OSError, OperationError):
            return {}


def node_of(ctx: FaultContext, name: str) -> Node:
    """The node of this name."""
    return next(node for node in ctx.cluster.nodes if node.name == name)
