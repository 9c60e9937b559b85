"""Fault `upgrade`: nodes run another version of the system, one after the other, and the first one again.

What is asked for with `upgrade.to` may be newer or older than what the cluster began with; healing goes
the other way, so that one run sees an upgrade and a downgrade. Each node is asked to end and started with the
other program on the data that it has, and takes a write before the next one follows. While some
nodes of several run it, the cluster is a mixed one, and other faults may come.

    rolling   every node
    mixed     a minority of them
    one       one of them

Proof: the version that each node says it runs, before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

NEEDS: Final = frozenset({"versions", "signal", "restart"})
UPGRADE: Final = Descriptor(
    name="upgrade",
    summary="have nodes run another version of the system, one after the other, and go back again",
    target="nemesis.upgrade:Upgrade",
    needs=NEEDS,
    targets=("rolling", "mixed", "one"),
    options=(
        Option(
            name="to", default=None, summary="the other version, such as 3.6; it is made ready before the run"
        ),
        Option(
            name="pause_s",
            default=1.0,
            least=0,
            most=600,
            summary="between a node that serves and the next one",
        ),
    ),
)
_SERVE_S: Final = (
    30.0,
    4.0,
)  # for a node to serve again; where other faults are in force, which wait meanwhile
_kinds: Final = {"rolling": "all", "mixed": "minority", "one": "one"}


class Upgrade:
    """Changes versions."""

    name = "upgrade"
    needs = NEEDS
    label = "upgrade"
    glyph = "⇧"
    colour = "process"
    targets = UPGRADE.targets
    default_targets = ("rolling", "mixed")
    claims = frozenset({"versions"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.versions: tuple[str, ...] = (str(options["to"]),) if options.get("to") else ()

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        if target not in _kinds:
            return f"there is no target {target!r}; expected one of {', '.join(_kinds)}"
        problem = targets.refusal(_kinds[target], nodes)
        return problem and problem.replace(repr(_kinds[target]), repr(target))

    def reach(self, target: str, nodes: int) -> int:
        """How many nodes are out at once while it goes on."""
        return 1

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        assert ctx.programs is not None, "whoever needs versions is given them"
        names = [node.name for node in ctx.cluster.nodes]
        problem = self.refusal(target, len(names))
        if problem is not None:
            raise UsageError(problem)
        if not ctx.programs.others:
            raise UsageError(
                f"option upgrade.to: {ctx.programs.first} is what runs already; name another version"
            )
        nodes = targets.choose(_kinds[target], names, ctx.roles, ctx.rng, ctx.busy)
        first, other = ctx.programs.first, ctx.programs.others[0]
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=nodes,
            says=f"{targets.listed(nodes)} to run {other} in place of {first}, one after the other",
            args={"version": other},
            undo=(Undo("version", {"nodes": list(nodes), "version": first}),),
            down=(),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        assert ctx.programs is not None
        pause_s = float(self.options.get("pause_s", 0.0))
        serve_s = _SERVE_S[bool(ctx.active)]
        ctx.programs.run(plan.nodes, plan.args["version"], pause_s=pause_s, serve_s=serve_s)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        assert ctx.programs is not None
        now = ctx.programs.versions()
        facts: dict[str, Any] = {"versions": now}
        says = ", ".join(f"{node} {version or 'says nothing'}" for node, version in now.items())
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=f"versions: {says}", facts=facts)
        if why := ctx.programs.refused():
            says += f"; stopped: {why}"
        was = ctx.before.facts.get("versions", {}) if ctx.before is not None else {}
        changed = [n for n in plan.nodes if was.get(n) and now.get(n) and was[n] != now[n]]
        return Evidence(phase=phase, effect=bool(changed), says=f"versions: {says}", facts=facts)
