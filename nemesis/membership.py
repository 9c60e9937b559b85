"""Fault `membership`: members are added, removed and replaced through the system's own interface.

Some nodes stand spare beside the cluster's. A fault changes who shall be a member; healing it wants those
back that the cluster began with. Both go on by themselves, in small steps and by what is observed
(`harness.members`), also while other faults are in the way: then nothing here waits for more than the first
step. Whoever comes is added as a learner with no data and promoted once it has caught up; whoever
goes leaves after that, and is left running, with its data, until its node is wanted again.

    replace   a spare joins, then a member leaves
    leader    the same, and it is the leader that leaves
    grow      all spares join: of three members five
    add       one spare joins
    remove    a member leaves

Proof: what the nodes themselves say of the members, asked from each for its own view, before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

NEEDS: Final = frozenset({"members", "at-rest", "signal", "restart"})
KINDS: Final = ("replace", "grow", "remove", "leader", "add")
_WITH_SPARES: Final = frozenset({"replace", "grow", "leader", "add"})
MEMBERSHIP: Final = Descriptor(
    name="membership",
    summary="add, remove and replace members through the system's own interface",
    target="nemesis.membership:Membership",
    needs=NEEDS,
    targets=KINDS,
    options=(
        Option(
            name="spares",
            default=2,
            least=0,
            most=6,
            summary="nodes beside the cluster's, idle until they join",
        ),
        Option(
            name="wait_s",
            default=15.0,
            least=0,
            most=120,
            summary="how long it may take, while nothing else is wrong, before the hold begins without it",
        ),
        Option(
            name="below_quorum",
            default=False,
            summary="remove a member even where those of the rest that answer are no majority of it",
        ),
    ),
)

Views = Mapping[str, Sequence[str] | None]  # node -> the members that it names; None: no answer


class Membership:
    """Changes who is a member."""

    name = "membership"
    needs = NEEDS
    label = "membership"
    glyph = "±"
    colour = "process"
    targets = KINDS
    claims = frozenset({"members"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.spares = int(options.get("spares", 0))
        self.default_targets = tuple(t for t in KINDS if self.spares or t not in _WITH_SPARES)

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target; None where there is."""
        if target not in KINDS:
            return f"there is no target {target!r}; expected one of {', '.join(KINDS)}"
        if target in _WITH_SPARES and not self.spares:
            return f"target {target!r} needs a node that is no member yet; give --opt membership.spares=1"
        if target == "remove" and nodes < 2:
            return f"target 'remove' does not exist among {targets.count(nodes)}; it needs at least 2"
        return None

    def reach(self, target: str, nodes: int) -> int:
        """How many nodes the system has to do without."""
        return 0 if target in ("grow", "add") else 1

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        assert ctx.members is not None, "whoever needs members is given them"
        problem = self.refusal(target, len(ctx.members.first))
        if problem is not None:
            raise UsageError(problem)
        if not ctx.members.settled:
            raise UsageError(f"the members are being changed still ({ctx.members.pending})")
        if any(p.family == self.name for p in ctx.active):
            raise UsageError("the members are changed by another fault already")
        now, spares = ctx.members.voters, ctx.members.spares
        leaves: tuple[str, ...] = ()
        joins: tuple[str, ...] = ()
        head = targets.leader(now, ctx.roles)
        doubt = ""
        if target == "leader":
            leaves = (head or ctx.rng.choice(now),)
            doubt = "" if head else "; no leader was known, so the choice was random"
        elif target in ("remove", "replace"):
            leaves = (ctx.rng.choice(now),)
        if target == "grow":
            joins = spares
        elif target != "remove":
            joins = (ctx.rng.choice(spares),)
        wanted = [n for n in (*now, *joins) if n not in leaves]
        says = " and ".join(
            filter(
                None,
                (
                    f"{targets.listed(joins)} to join" if joins else "",
                    f"{targets.listed(leaves, head)} to leave" if leaves else "",
                ),
            )
        )
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=(*joins, *leaves),
            says=says + doubt,
            args={"wanted": wanted, "joins": list(joins), "leaves": list(leaves)},
            undo=(Undo("members", {"nodes": list(ctx.members.first)}),),
            down=leaves,
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        assert ctx.members is not None
        ctx.members.want(
            plan.args["wanted"],
            float(self.options.get("wait_s", 0.0)),
            whole=not ctx.active,
            below_quorum=bool(self.options.get("below_quorum", False)),
        )

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        assert ctx.members is not None
        views = ctx.members.views()
        facts = {"views": views, "voters": list(ctx.members.voters), "pending": ctx.members.pending}
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=_told(views), facts=facts)
        earlier: Views = ctx.before.facts.get("views", {}) if ctx.before is not None else {}
        if phase == "after":  # who came back is another member than the one that left, on the same node
            came, went = _difference(_nodes(earlier), _nodes(views))
        else:
            came, went = _difference(earlier, views)
        told = [f"new: {', '.join(came)}"] if came else []
        told += [f"no more: {', '.join(went)}"] if went else []
        told += [f"still {pending}"] if (pending := ctx.members.pending) else []
        effect = bool(came or went)
        says = "; ".join(told) or f"the members are the same: {_told(views)}"
        return Evidence(phase=phase, effect=effect, says=f"by the nodes' own views, {says}", facts=facts)


def _difference(earlier: Views, now: Views) -> tuple[list[str], list[str]]:
    """Members that some node names and none did before, and those that some node named before and one that
    answered both times names no more. A node that does not answer says nothing.

    >>> _difference({"n1": ["a", "b"], "n2": ["a", "b"]}, {"n1": ["a", "c"], "n2": None})
    (['c'], ['b'])
    """
    old = {m for view in earlier.values() for m in view or ()}
    if not old:  # nobody answered then, so nothing is known to be new
        return [], []
    came = {m for view in now.values() for m in view or ()} - old
    both = [(earlier[n] or (), view) for n, view in now.items() if view is not None and earlier.get(n)]
    went = {m for was, view in both for m in was if m not in view}
    return sorted(came), sorted(went)


def _nodes(views: Views) -> Views:
    """The same views with nodes in place of members."""
    return {n: None if view is None else [m.partition(" ")[0] for m in view] for n, view in views.items()}


def _told(views: Views) -> str:
    """How many members the nodes name.

    >>> _told({"n1": ["a"], "n2": ["a"], "n3": None})
    '1 by n1, 1 by n2, none by n3, which did not answer'
    """
    return ", ".join(
        f"none by {n}, which did not answer" if view is None else f"{len(view)} by {n}"
        for n, view in views.items()
    )
