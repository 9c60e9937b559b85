"""Which nodes a fault hits: by role, by number or by name (`n1+n3`), chosen at the moment of injection.

`leader` is the node that calls itself leader with the highest term: a deposed one that has not heard
of its fall still calls itself leader, with a lower term. Where nobody is known to lead (an election is
on, nobody answered) a random node stands for the leader, and `doubt` puts that into the plan's words.

Where faults overlap, some nodes are `busy`: a fault that cannot be joined by this one has them. They are
not chosen, and somebody else stands for a leader among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any, Final

from harness.core.errors import UsageError, unknown_name
from harness.core.fault import FaultContext
from harness.core.system import Status, majority

# Kind -> how many of n nodes it hits. A minority is the largest: two of five, not one.
_sizes: Final[Mapping[str, Callable[[int], int]]] = {
    "leader": lambda n: min(n, 1),
    "leaders": lambda n: min(n, 2),  # all that call themselves so; more than two at once are rare
    "one": lambda n: min(n, 1),
    "follower": lambda n: min(n - 1, 1),
    "followers": lambda n: n - 1,
    "minority": lambda n: n - majority(n),
    "minority-third": lambda n: (n - 1) // 3,  # fewer than a third: what byzantine systems survive
    "majority": majority,
    "all": lambda n: n,
}
KINDS: Final = tuple(_sizes)
ZONE: Final = "zone"  # all nodes of a random zone, where the cluster has some; nobody draws it unasked
BY_ROLE: Final = frozenset({"leader", "leaders", "follower", "followers"})
_names: Final = re.compile(r"n[1-9]\d*(\+n[1-9]\d*)*")


def refusal(kind: str, nodes: int) -> str | None:
    """Why `kind` does not exist among `nodes` nodes, or None where it does.

    >>> refusal("minority", 2)
    "target 'minority' does not exist among 2 nodes; it needs at least 3"

    Raises: UsageError for a kind nobody knows.
    """
    if (chosen := by_name(kind)) is not None:
        return missing(chosen, nodes)
    if kind == ZONE:
        return (
            None if nodes > 1 else f"target {ZONE!r} does not exist among {count(nodes)}; it needs at least 2"
        )
    if kind not in _sizes:
        raise unknown_name("target", kind, KINDS)
    size = _sizes[kind]
    if nodes > 0 and size(nodes) > 0:
        return None
    least = next(n for n in range(1, 100) if size(n) > 0)
    return f"target {kind!r} does not exist among {count(nodes)}; it needs at least {least}"


def by_name(target: str) -> tuple[str, ...] | None:
    """The nodes of a target by name, or None where it is a kind.

    >>> by_name("n1+n3"), by_name("leader")
    (('n1', 'n3'), None)
    """
    return tuple(target.split("+")) if _names.fullmatch(target) else None


def missing(chosen: Sequence[str], nodes: int) -> str | None:
    """Why `chosen` cannot be hit among `n1` to `n<nodes>`, or None where they can."""
    for name in chosen:
        if int(name[1:]) > nodes:
            return f"there is no node {name!r} among {count(nodes)}; expected n1 to n{nodes}"
        if chosen.count(name) > 1:
            return f"node {name!r} is named twice in {'+'.join(chosen)!r}; name it once"
    return None


def reach(kind: str, nodes: int) -> int:
    """How many of so many nodes `kind` hits at most."""
    chosen = by_name(kind)
    if chosen is not None:
        return len(chosen)
    return nodes - 1 if kind == ZONE else _sizes[kind](nodes)


def choose(
    kind: str,
    nodes: Sequence[str],
    roles: Mapping[str, Status],
    rng: Random,
    busy: Collection[str] = (),
    zones: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, ...]:
    """The nodes that `kind` means now, in the order of `nodes`; of those that are `busy` none, unless by name.

    `roles` are fresh; nodes that did not answer are absent from it. Fewer than meant are chosen where
    too many are busy.

    Raises: UsageError when the kind is unknown or does not exist among so few nodes.
    """
    problem = refusal(kind, len(nodes))
    if problem is not None:
        raise UsageError(problem)
    if (chosen := by_name(kind)) is not None:
        return tuple(n for n in nodes if n in chosen)
    free = [n for n in nodes if n not in busy]
    if kind == ZONE:
        if not zones:
            raise UsageError("target 'zone' needs a cluster that stands in zones")
        inside = zones[rng.choice(sorted(zones))]
        return tuple(n for n in free if n in inside)
    if kind in BY_ROLE and free:
        head = leader(free, roles) or rng.choice(free)
        if kind == "leader":
            return (head,)
        if kind == "leaders":
            heads = [n for n in free if n in roles and roles[n].role == "leader"] or [head]
            return tuple(heads)
        free = [n for n in free if n != head]
    drawn = set(rng.sample(free, min(len(free), _sizes[kind](len(nodes)))))
    return tuple(n for n in nodes if n in drawn)


def leader(nodes: Sequence[str], roles: Mapping[str, Status]) -> str | None:
    """The node that leads with the highest term, or None when nobody is known to."""
    leaders = [n for n in nodes if n in roles and roles[n].role == "leader"]
    return max(leaders, key=lambda n: -1 if (term := roles[n].term) is None else term, default=None)


def doubt(kind: str, nodes: Sequence[str], roles: Mapping[str, Status], busy: Collection[str] = ()) -> str:
    """What a plan's words must admit about the choice: empty, or a clause that begins with `;`."""
    if kind not in BY_ROLE:
        return ""
    head = leader(nodes, roles)
    if head is None:
        return "; no leader was known, so the choice was random"
    if head in busy and leader([n for n in nodes if n not in busy], roles) is None:
        return f"; {head}, the leader, has a fault already, so the choice was random"
    return ""


def listed(names: Sequence[str], head: str | None = None) -> str:
    """Names as people write them; `head` is called the leader.

    >>> listed(["n1", "n2", "n3"]), listed(["n2"], "n2"), listed(["n1", "n2"], "n2")
    ('n1, n2 and n3', 'n2, the leader,', 'n1 and n2 (the leader)')
    """
    if len(names) == 1 and names[0] == head:
        return f"{head}, the leader,"
    words = [f"{n} (the leader)" if n == head else n for n in names]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


class OnNodes:
    """A fault that hits some nodes, the same on each: what every such family has in common."""

    targets = KINDS
    default_targets: tuple[str, ...] = ("leader", "one", "minority")

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        return refusal(target, nodes)

    def reach(self, target: str, nodes: int) -> int:
        """How many of so many nodes a target hits at most."""
        return reach(target, nodes)

    def choose(self, ctx: FaultContext, target: str) -> tuple[tuple[str, ...], str, str]:
        """The nodes that `target` means now, their names for a sentence, and what it must admit."""
        names = [n.name for n in ctx.cluster.nodes]
        zones = getattr(ctx.cluster, "zones", None)
        chosen = choose(target, names, ctx.roles, ctx.rng, ctx.busy, zones)
        whom = listed(chosen, leader(names, ctx.roles))
        return chosen, whom, doubt(target, names, ctx.roles, ctx.busy)


def count(nodes: int) -> str:
    """`1 node`, `3 nodes`."""
    return f"{nodes} node{'' if nodes == 1 else 's'}"
