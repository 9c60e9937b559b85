"""Faults `restore` and `restore-old`: all nodes begin anew from one snapshot, as after a disaster.

    restore       clients are shut out first and all nodes killed and started again, so that nothing is under way
                  and all that was acknowledged is in the snapshot: nothing may be missing afterwards
    restore-old   the snapshot is of `age_s` before, and clients go on until the end: what was acknowledged since
                  is lost, which no system promises against. A control: such a run must show it

A write through the node whose snapshot is taken comes first, so that it has applied all that was acknowledged before.
Then everything is killed, each node's data is replaced by what the system's own tool makes of the snapshot, all are
started, and once they serve clients are let in again. The rest of the hold is the restored cluster's.

Proof: what each node began with was, by its checksums, what had been made of the snapshot; and by its own word
the members are others than before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from harness.core.cluster import Endpoint, Node
from harness.core.descriptor import Descriptor
from harness.core.errors import InfrastructureError, OperationError, UsageError
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import _node_fault, targets
from nemesis.admin import node_of

_NEEDS: Final = frozenset({"admin", "restore", "at-rest", "signal", "restart"})
_TARGETS: Final = ("all",)
RESTORE: Final = Descriptor(
    name="restore",
    summary="shut clients out, and have all nodes begin anew from a snapshot; nothing acknowledged may be missing",
    target="nemesis.restore:Restore",
    needs=_NEEDS | {"block", "client-places"},
    targets=_TARGETS,
)
RESTORE_OLD: Final = Descriptor(
    name="restore-old",
    summary="have all nodes begin anew from an older snapshot: what was acknowledged since is lost (a control)",
    target="nemesis.restore:RestoreOld",
    needs=_NEEDS,
    targets=_TARGETS,
    options=(
        Option(
            name="age_s", default=1.0, least=0.1, most=60, summary="how old the snapshot is then, in seconds"
        ),
    ),
)
_ASK_S: Final = 1.0
_SNAPSHOT_S: Final = 20.0
_SERVE_S: Final = 20.0  # for a node to take a write, before and after
_LOOK_S: Final = 0.05
_WAIT_S: Final = 1.0

_Ids = Mapping[str, list[str] | None]  # node -> the ids of the members that it names; None: no answer


class Restore:
    """Restores a snapshot of which nothing is missing."""

    name = "restore"
    needs = RESTORE.needs
    label = "restore"
    glyph = "⟲"
    colour = "process"
    targets = _TARGETS
    default_targets = _TARGETS

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self._said: dict[str, tuple[int | None, str]] = {}  # fault -> when it was done, and how it went

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target; None where there is."""
        return None if target in _TARGETS else f"there is no target {target!r}; expected all"

    def reach(self, target: str, nodes: int) -> int:
        """A snapshot is restored on all nodes or on none."""
        return nodes

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        names = [node.name for node in ctx.cluster.nodes]
        problem = self.refusal(target, len(names))
        if problem is not None:
            raise UsageError(problem)
        if ctx.active:
            raise UsageError("other faults are in force, and a snapshot is taken of a cluster that works")
        head = targets.leader(names, ctx.roles)
        source = head or ctx.rng.choice(names)
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=tuple(names),
            says=f"{targets.listed(names)} to begin anew from a snapshot of {source}{self._how()}",
            args={"source": source, "cluster": f"restored-{ctx.fault}-{ctx.rng.randrange(2**32):08x}"},
            undo=(*_node_fault.each(names, "start"), *self._let_in(ctx)),
        )

    def _how(self) -> str:
        return ", while its clients are shut out"

    def _let_in(self, ctx: FaultContext) -> tuple[Undo, ...]:
        """What lets clients in again."""
        return (Undo("unblock", {"fault": ctx.fault}),)

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        self._shut_out(ctx, plan)
        snapshot = self._snapshot(ctx, plan)
        if snapshot is not None:
            self._wait()
            self._begin_anew(ctx, plan, snapshot)
        self._unblock(ctx, plan)

    def _shut_out(self, ctx: FaultContext, plan: Plan) -> None:
        ways = [(Endpoint(place.name), Endpoint(node)) for place in ctx.cluster.places for node in plan.nodes]
        ctx.cluster.network.block(plan.fault, [*ways, *((there, here) for here, there in ways)])
        # What is under way ends here: else it could take effect after the snapshot, and its answer, which the kernel
        # keeps for a process that has ended, reach the client when it is let in again.
        for name in plan.nodes:
            ctx.cluster.process.signal(name, "KILL")
        for name in plan.nodes:
            ctx.cluster.process.start(name)

    def _unblock(self, ctx: FaultContext, plan: Plan) -> None:
        ctx.cluster.network.unblock(plan.fault)

    def _wait(self) -> None:
        """Nothing is acknowledged any more."""

    def _snapshot(self, ctx: FaultContext, plan: Plan) -> bytes | None:
        """A snapshot that holds all that was acknowledged before; None where there was none in time."""
        node, admin = node_of(ctx, plan.args["source"]), _admin(ctx)
        try:
            self._serves(ctx, node)
            found: bytes = ctx.inside(node.name, lambda: admin.snapshot(node, _SNAPSHOT_S))
        except (OSError, OperationError) as e:
            self._said[plan.fault] = None, f"no snapshot of {node.name}: {str(e) or type(e).__name__}"
            return None
        return found

    def _begin_anew(self, ctx: FaultContext, plan: Plan, snapshot: bytes) -> None:
        disk, began = ctx.cluster.disk, time.monotonic()
        nodes = [node_of(ctx, name) for name in plan.nodes]
        with tempfile.TemporaryDirectory(prefix="splitbrain-") as folder:
            made = _admin(ctx).restored(snapshot, nodes, plan.args["cluster"], Path(folder))
            for name in plan.nodes:
                ctx.cluster.process.signal(name, "KILL")
            other = [name for name in plan.nodes if disk.replace(name, made[name]) != disk.sums(name)]
        if other:
            raise InfrastructureError(f"{other[0]}: its data are not those that were made of the snapshot")
        anew = ctx.clock()
        for name in plan.nodes:
            ctx.cluster.process.start(name)
        text = f"{len(snapshot)} bytes restored"
        try:
            for node in nodes:
                self._serves(ctx, node)
            self._said[plan.fault] = anew, f"{text}, all serve after {time.monotonic() - began:.1f} s"
        except (OSError, OperationError) as e:
            self._said[plan.fault] = anew, f"{text}, not all serve: {str(e) or type(e).__name__}"

    def _serves(self, ctx: FaultContext, node: Node) -> None:
        """Wait until a write through `node` has succeeded, which then has applied all before it."""
        deadline = time.monotonic() + _SERVE_S
        while True:
            try:
                ctx.inside(node.name, lambda: ctx.system.ready(node, _ASK_S))
            except (OSError, OperationError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_S)
            else:
                return

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            evidence = _node_fault.before(ctx, plan)
            return _node_fault.with_facts(evidence, members=_members(ctx, plan))
        if phase == "after":  # whether processes run; the members stay what they are
            return _node_fault.after(ctx, plan)
        wait_s = _WAIT_S if plan.fault in self._said else 0.0
        return _node_fault.watched(lambda: self._seen(ctx, plan), wait_s=wait_s, poll_s=_LOOK_S)

    def _seen(self, ctx: FaultContext, plan: Plan) -> Evidence:
        was: _Ids = ctx.before.facts.get("members", {}) if ctx.before is not None else {}
        anew, said = self._said.get(plan.fault, (None, "nothing was restored"))
        now = _members(ctx, plan)
        others = [n for n in plan.nodes if was.get(n) and now[n] and not {*was[n]} & {*now[n]}]  # type: ignore[misc]
        names = targets.listed(others) if others else "no node"
        says = f"{said}; other members than before by the word of {names}"
        facts = {"processes": _node_fault.processes(ctx, plan), "members": now, "anew": anew}
        return Evidence(phase="during", effect=anew is not None and bool(others), says=says, facts=facts)


class RestoreOld(Restore):
    """Restores a snapshot of some time before."""

    name = "restore-old"
    needs = RESTORE_OLD.needs
    label = "old restore"
    glyph = "⟳"

    def _how(self) -> str:
        return f" that is {self.options.get('age_s', 1.0):g} s old"

    def _let_in(self, ctx: FaultContext) -> tuple[Undo, ...]:
        return ()

    def _shut_out(self, ctx: FaultContext, plan: Plan) -> None:
        """They go on."""

    def _unblock(self, ctx: FaultContext, plan: Plan) -> None:
        """Nobody was shut out."""

    def _wait(self) -> None:
        time.sleep(float(self.options.get("age_s", 1.0)))


def _members(ctx: FaultContext, plan: Plan) -> dict[str, list[str] | None]:
    """The ids of the members, as each node has them itself."""
    return {name: _named_by(ctx, node_of(ctx, name)) for name in plan.nodes}


def _named_by(ctx: FaultContext, node: Node) -> list[str] | None:
    try:
        told = ctx.inside(node.name, lambda: _admin(ctx).members(node, _ASK_S, agreed=False))
    except (OSError, OperationError):
        return None
    return sorted(m.id for m in told)


def _admin(ctx: FaultContext) -> Any:
    return ctx.system.admin  # type: ignore[attr-defined]  # optional; a run that needs it has it
