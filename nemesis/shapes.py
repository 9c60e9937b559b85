"""Shapes of partitions: pure functions from the names of nodes to the directed pairs that are cut.

    halves            two random halves
    one               a random node alone
    leader            the leader alone
    majority          a bare majority and the rest, at random (for four nodes three and one, where
                      halves are two and two)
    majorities-ring   every node sees a majority, and no two see the same one
    bridge            two sides that see each other only through one node in the middle
    one-way           what the leader sends, or what it is sent, at random
    n1+n2             these nodes and the rest
    flapping          the leader alone, on and off, so that nobody's view lasts
    zone              a random zone of the cluster (a rack, a data centre) and the rest

The ring and the bridge are Jepsen's. Of three nodes both are one cut link; from five on the ring is of
interest. Clients stand in places of their own, `beside` a node as the network sees it: a pair of
endpoints is cut where the nodes that they stand beside are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from random import Random
from typing import Final

from msgspec import Struct, structs

from harness.core.errors import UsageError, unknown_name
from harness.core.system import majority
from nemesis.targets import by_name, count, listed, missing

Pairs = tuple[tuple[str, str], ...]  # directed, by name


class Cut(Struct, frozen=True):
    """A partition of nodes. `isolated` is its smaller side (for the ring, whoever lost a link).

    `opposite` is a node of the other side, or None where there are no two sides. In `says`, `{}`
    stands for the isolated nodes, which the caller may call by role.
    """

    pairs: Pairs
    isolated: tuple[str, ...]
    opposite: str | None
    says: str


_Shape = Callable[[Sequence[str], str, Random], Cut]


def cut(
    shape: str,
    nodes: Sequence[str],
    leader: str | None,
    rng: Random,
    zones: Mapping[str, Sequence[str]] | None = None,
) -> Cut:
    """The partition of `nodes` that `shape` means; a random node stands for an unknown leader.

    Raises: UsageError when the shape is unknown or does not exist among so few nodes, or zones.
    """
    problem = refusal(shape, len(nodes))
    if problem is not None:
        raise UsageError(problem)
    if (few := by_name(shape)) is not None:
        return _two_sides(nodes, few)
    if shape == "zone":
        return _zone(nodes, zones or {}, rng)
    return _shapes[shape](nodes, leader or rng.choice(list(nodes)), rng)


def reach(shape: str, nodes: int) -> int:
    """How many of so many nodes are on the side that a partition cuts off; none of a ring,
    where every node sees a majority."""
    if (few := by_name(shape)) is not None:
        return len(few)
    return _cut_off[shape](nodes) if shape in _cut_off else nodes


def refusal(shape: str, nodes: int) -> str | None:
    """Why `shape` does not exist among `nodes` nodes, or None where it does.

    >>> refusal("bridge", 2)
    "a partition 'bridge' does not exist among 2 nodes; it needs at least 3"

    Raises: UsageError for a shape nobody knows.
    """
    if (few := by_name(shape)) is not None:
        alone = "no node is left to cut them off from" if len(few) >= nodes else None
        return missing(few, nodes) or (f"a partition {shape!r} does not exist: {alone}" if alone else None)
    if shape not in SHAPES:
        raise unknown_name("target of partition", shape, SHAPES)
    least = _least.get(shape, 2)
    if nodes >= least:
        return None
    return f"a partition {shape!r} does not exist among {count(nodes)}; it needs at least {least}"


def beside(cut: Cut, places: Mapping[str, str], clients: str) -> dict[str, str]:
    """The node that each endpoint stands beside while the cut is in force.

    `places` is place -> its node. With `clients="with"` each goes with its node; with `"apart"` the
    places of the isolated nodes stand on the other side, where there is one.
    """
    stands = {end: end for pair in cut.pairs for end in pair}
    for place, node in places.items():
        apart = clients == "apart" and node in cut.isolated
        stands[place] = (cut.opposite or node) if apart else node
    return stands


def endpoints(cut: Cut, stands: Mapping[str, str]) -> Pairs:
    """All directed pairs of nodes and places that the cut separates, sorted."""
    lost = set(cut.pairs)
    return tuple(sorted(p for p in permutations(stands, 2) if (stands[p[0]], stands[p[1]]) in lost))


def _two_sides(nodes: Sequence[str], few: Sequence[str]) -> Cut:
    small = tuple(n for n in nodes if n in few)
    rest = tuple(n for n in nodes if n not in few)
    return Cut(_both_ways(small, rest), small, rest[0], f"{{}} cut off from {listed(rest)}")


def _both_ways(some: Sequence[str], others: Sequence[str]) -> Pairs:
    return tuple(sorted(p for a in some for b in others for p in ((a, b), (b, a))))


def _halves(nodes: Sequence[str], _leader: str, rng: Random) -> Cut:
    return _two_sides(nodes, rng.sample(list(nodes), len(nodes) // 2))


def _one(nodes: Sequence[str], _leader: str, rng: Random) -> Cut:
    return _two_sides(nodes, [rng.choice(list(nodes))])


def _leader_alone(nodes: Sequence[str], leader: str, _rng: Random) -> Cut:
    return _two_sides(nodes, [leader])


def _majority(nodes: Sequence[str], _leader: str, rng: Random) -> Cut:
    return _two_sides(nodes, rng.sample(list(nodes), len(nodes) - majority(nodes)))


def _bridge(nodes: Sequence[str], _leader: str, rng: Random) -> Cut:
    drawn = rng.sample(list(nodes), len(nodes))
    half = (len(nodes) - 1) // 2
    few = tuple(n for n in nodes if n in drawn[1 : 1 + half])
    many = tuple(n for n in nodes if n in drawn[1 + half :])
    says = f"{{}} cut off from {listed(many)}, {drawn[0]} sees both sides"
    return Cut(_both_ways(few, many), few, many[0], says)


def _ring(nodes: Sequence[str], _leader: str, rng: Random) -> Cut:
    """Every node keeps the links to its nearest neighbours on a random ring, on both sides alike.

    A majority less oneself may be odd. Then each node needs one more link, to the node opposite; with
    an odd number of nodes there is no such perfect matching, and the last one left links to a node
    that has one already.
    """
    drawn = rng.sample(list(nodes), len(nodes))
    n, wanted = len(drawn), majority(nodes) - 1
    kept = {frozenset((i, (i + d) % n)) for i in range(n) for d in range(1, wanted // 2 + 1)}
    if wanted % 2:
        half = n // 2
        if n % 2 == 0:
            kept |= {frozenset((i, i + half)) for i in range(half)}
        else:  # steps of `half` visit every node once: link every other step of that walk
            walk = [i * half % n for i in range(n)]
            kept |= {frozenset((walk[i], walk[(i + 1) % n])) for i in range(0, n, 2)}
    pairs = sorted(
        (drawn[i], drawn[j]) for i, j in permutations(range(n), 2) if frozenset((i, j)) not in kept
    )
    hit = {a for a, _ in pairs}
    links = listed([f"{a}-{b}" for a, b in pairs if a < b])
    says = f"every node sees a majority and no two the same, cut between {links}"
    return Cut(tuple(pairs), tuple(x for x in nodes if x in hit), None, says)


def _one_way(nodes: Sequence[str], leader: str, rng: Random) -> Cut:
    rest = tuple(n for n in nodes if n != leader)
    if rng.random() < 0.5:
        pairs, says = [(leader, n) for n in rest], f"{{}} is not heard by {listed(rest)}"
    else:
        pairs, says = [(n, leader) for n in rest], f"{{}} does not hear {listed(rest)}"
    return Cut(tuple(sorted(pairs)), (leader,), rest[0], says)


def _flapping(nodes: Sequence[str], leader: str, rng: Random) -> Cut:
    cut = _leader_alone(nodes, leader, rng)
    return structs.replace(cut, says=f"{cut.says}, on and off")


def _zone(nodes: Sequence[str], zones: Mapping[str, Sequence[str]], rng: Random) -> Cut:
    if len(zones) < 2:
        raise UsageError(
            "a partition 'zone' needs a cluster in two zones or more; say which nodes stand together with"
            " --opt zones=eu:n1,n2;us:n3"
        )
    name = rng.choice(sorted(zones))
    inside = [n for n in nodes if n in zones[name]]
    outside = [n for n in nodes if n not in inside]
    cut = _two_sides(nodes, min(inside, outside, key=len))
    return structs.replace(cut, says=f"{cut.says}: zone {name} and the rest")


_shapes: Final[Mapping[str, _Shape]] = {
    "leader": _leader_alone,
    "halves": _halves,
    "one": _one,
    "majority": _majority,
    "majorities-ring": _ring,
    "bridge": _bridge,
    "one-way": _one_way,
    "flapping": _flapping,
}
_least: Final = {"majority": 3, "majorities-ring": 3, "bridge": 3}
SHAPES: Final = (*_shapes, "zone")
DEFAULTS: Final = tuple(_shapes)  # those that every cluster has
_cut_off: Final[Mapping[str, Callable[[int], int]]] = {
    "leader": lambda _n: 1,
    "one": lambda _n: 1,
    "one-way": lambda _n: 1,
    "flapping": lambda _n: 1,
    "halves": lambda n: n // 2,
    "zone": lambda n: n // 2,  # whichever side is the smaller
    "majority": lambda n: n - majority(n),
    "bridge": lambda n: (n - 1) // 2,
    "majorities-ring": lambda _n: 0,  # every node sees a majority
}
