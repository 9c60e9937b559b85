"""Fault `partition`: packets between some nodes, and between their clients, are dropped.

A partition cuts nodes and, by default, takes each node's clients to their node's side, so that an
isolated leader keeps clients that could be told old values while the others go on without it. With
`clients=apart` the clients of the isolated side stand with the others, cut off from their own node.

Proof: TCP connections between cut nodes that were accepted before and are not now, *and* packets
that the block's counter has seen since. Either alone would not do: on a busy machine a connection can
miss its time by itself, and a counter does not say who was cut. A one-way cut also kills TCP's answers,
so that both directions fail; it is proven in the same way. One that flaps is proven by connections that are
not accepted at one moment and are at another.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, Final

from harness.core.cluster import Endpoint
from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import shapes, targets

PARTITION: Final = Descriptor(
    name="partition",
    summary="drop all packets between some nodes, their clients included",
    target="nemesis.partition:Partition",
    options=(
        Option(
            name="clients",
            default="with",
            choices=("with", "apart"),
            summary="where the isolated side's clients stand: with their nodes, or apart with the others",
        ),
        Option(
            name="flap_s",
            default=0.5,
            least=0.05,
            most=60,
            summary="how long a flapping partition lasts each time, and stays away",
        ),
    ),
    needs=frozenset({"block"}),
    targets=shapes.SHAPES,
)
_PROBES: Final = 4  # pairs that are tried; measuring must not take longer the more is cut
_PROBE_S: Final = 0.25
_CHANGES: Final = 3  # of a flapping partition, that should have shown both its states by then


class Partition:
    """Cuts the network of a cluster, and heals it."""

    name = "partition"
    needs = PARTITION.needs
    label = "partition"
    glyph = "⊘"
    colour = "network"
    targets = shapes.SHAPES
    default_targets = shapes.DEFAULTS  # `leader` first

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._clients: str = options.get("clients", "with")
        if self._clients == "apart":
            self.needs = PARTITION.needs | {"client-places"}
        self._flap_s: float = options.get("flap_s", 0.5)

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        return shapes.refusal(target, nodes)

    def reach(self, target: str, nodes: int) -> int:
        """How many of so many nodes a target cuts off at most."""
        return shapes.reach(target, nodes)

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        names = [n.name for n in ctx.cluster.nodes]
        head = targets.leader(names, ctx.roles)
        cut = shapes.cut(target, names, head, ctx.rng, ctx.cluster.zones)
        places = {p.name: p.node for p in ctx.cluster.places}
        pairs = shapes.endpoints(cut, shapes.beside(cut, places, self._clients))
        says = cut.says.format(targets.listed(cut.isolated, head))
        if self._clients == "apart" and cut.opposite is not None:
            says += f"; {'its' if len(cut.isolated) == 1 else 'their'} clients stand with the others"
        if target in ("leader", "one-way", "flapping"):
            says += targets.doubt("leader", names, ctx.roles)
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=cut.isolated,
            says=says,
            args={
                "clients": self._clients,
                "pairs": [[[a, None], [b, None]] for a, b in pairs],
                "probes": [list(pair) for pair in _probes(_uncut(cut.pairs, ctx.active), ctx.rng)],
                "flap_s": self._flap_s if target == "flapping" else None,
            },
            down=() if cut.opposite is None else None,  # of a ring nobody is cut off from the majority
            undo=(Undo("unblock", {"fault": ctx.fault}),),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        ctx.cluster.network.block(
            plan.fault,
            [(Endpoint(*source), Endpoint(*target)) for source, target in plan.args["pairs"]],
            flap_s=plan.args["flap_s"],
        )

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        probes = [(a, b) for a, b in plan.args["probes"]]
        if phase == "after":
            probes = list(_uncut(probes, ctx.active))
        reached = dict(zip(probes, _reached(ctx, probes, tries=1 if phase == "during" else 2), strict=True))
        flapped = ""
        if phase == "during" and plan.args["flap_s"] is not None:
            reached, flapped = _both_ways(ctx, reached, plan.args["flap_s"])
        dropped = ctx.cluster.network.dropped()
        facts = {"reached": [[a, b, there] for (a, b), there in reached.items()], "dropped": dropped}
        says = _words(reached)
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=says, facts=facts)
        earlier = ctx.before.facts if ctx.before is not None else {}
        lost = [(a, b) for a, b, was in earlier.get("reached", ()) if was and reached.get((a, b)) is False]
        if phase == "after":
            return Evidence(phase=phase, effect=bool(lost), says=says, facts=facts)
        drops = dropped - earlier.get("dropped", dropped)
        says += f"{flapped}; {drops} packet{'' if drops == 1 else 's'} dropped"
        return Evidence(phase=phase, effect=bool(lost) and drops > 0, says=says, facts=facts)


def _uncut(pairs: Iterable[tuple[str, str]], active: Sequence[Plan]) -> shapes.Pairs:
    """Those of `pairs` that no other fault in force cuts, in either direction: of them alone can be said
    by which they were cut."""
    cut = {frozenset((a[0], b[0])) for plan in active for a, b in plan.args.get("pairs", ())}
    return tuple((a, b) for a, b in pairs if frozenset((a, b)) not in cut)


def _probes(pairs: shapes.Pairs, rng: Random) -> list[tuple[str, str]]:
    """Some of the cut pairs, each link in one direction only: a connection needs both anyway."""
    links = list({frozenset(pair): pair for pair in pairs}.values())
    return sorted(rng.sample(links, min(_PROBES, len(links))))


def _reached(ctx: FaultContext, probes: list[tuple[str, str]], tries: int) -> list[bool]:
    """Whether each pair connects, all at the same time. Where it should, one lost packet is forgiven."""
    ports = ctx.system.ports
    port = ports.get("peer", ports.get("client", 1))  # a port nobody listens on refuses, which proves as much
    network = ctx.cluster.network

    def connects(pair: tuple[str, str]) -> bool:
        return any(network.reaches(*pair, port, timeout_s=_PROBE_S) for _ in range(tries))

    with ThreadPoolExecutor(max_workers=_PROBES) as pool:
        return list(pool.map(connects, probes))


def _both_ways(
    ctx: FaultContext, reached: dict[tuple[str, str], bool], flap_s: float
) -> tuple[dict[tuple[str, str], bool], str]:
    """Go on looking until each pair was seen cut, and seen whole, or enough changes should have been.

    Returns who never was seen to change as reached, and words about when the others were.
    """
    seen = {pair: {now} for pair, now in reached.items()}
    deadline = time.monotonic() + _CHANGES * flap_s + _PROBE_S
    while any(len(states) < 2 for states in seen.values()) and time.monotonic() < deadline:
        for pair, now in zip(seen, _reached(ctx, list(seen), tries=1), strict=True):
            seen[pair].add(now)
    changed = [pair for pair, states in seen.items() if len(states) == 2]
    says = f" at one moment, and reached at another: {', '.join(f'{b} from {a}' for a, b in changed)}"
    return {pair: pair not in changed for pair in seen}, says if changed else ""


def _words(reached: Mapping[tuple[str, str], bool]) -> str:
    """What the probes found, as a sentence.

    >>> _words({("n1", "n2"): True, ("n1", "n3"): False})
    'reached: n2 from n1; not reached: n3 from n1'
    """
    parts = []
    for there, verb in ((True, "reached"), (False, "not reached")):
        some = [f"{b} from {a}" for (a, b), now in reached.items() if now is there]
        if some:
            parts.append(f"{verb}: {', '.join(some)}")
    return "; ".join(parts)
