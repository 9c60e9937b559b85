"""Fault `packet`: packets between some nodes are lost, delayed, reordered, copied, damaged or slowed down.

The kinds are the targets; which nodes, in which direction and how much are options. What is chosen by
`on` are nodes: the links between each of them and every other node are hit, and with `with_clients=true` those
to all clients as well. TCP hides most of this from a system but for the time it takes, which is the point:
timeouts, elections and retries are what breaks.

Proof: echo requests between the nodes, counted and timed by the kernels at both ends, before, during and
after. A round trip passes a link twice, so that what both directions do adds up. Random effects count
when what was seen lies no more than four standard deviations below what was asked for; a delay when the
mean round trip grew by 85% of it (or to within 2 ms).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from random import Random
from typing import Any, Final

import msgspec

from harness.core.cluster import Echoes, Endpoint, Shaping
from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError, unknown_name
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

KINDS: Final = ("delay", "loss", "reorder", "duplicate", "corrupt", "rate")
_percent: Final[dict[str, Any]] = {"least": 0.1, "most": 100.0}
PACKET: Final = Descriptor(
    name="packet",
    summary="lose, delay, reorder, duplicate or corrupt packets between nodes, or limit their rate",
    target="nemesis.packet:Packet",
    options=(
        Option(
            name="on", default="all", choices=targets.KINDS, summary="the nodes whose links to others are hit"
        ),
        Option(
            name="direction",
            default="both",
            choices=("both", "out", "in"),
            summary="what those nodes send, what they are sent, or both",
        ),
        Option(name="with_clients", default=False, summary="hit the links to clients as well"),
        Option(name="delay_ms", default=50.0, least=1, most=5000, summary="delay, one way"),
        Option(name="jitter_ms", default=10.0, least=0, most=5000, summary="how far the delay varies"),
        Option(
            name="distribution",
            default="normal",
            choices=("uniform", "normal", "pareto"),
            summary="how the delay is spread around its mean",
        ),
        Option(name="loss_percent", default=20.0, summary="packets that are lost", **_percent),
        Option(name="reorder_percent", default=25.0, summary="packets that others overtake", **_percent),
        Option(
            name="reorder_ms", default=20.0, least=1, most=5000, summary="how long those are held for that"
        ),
        Option(name="duplicate_percent", default=20.0, summary="packets that arrive twice", **_percent),
        Option(
            name="corrupt_percent", default=10.0, summary="packets that arrive with one bit wrong", **_percent
        ),
        Option(
            name="rate_kbit",
            default=1000.0,
            least=8,
            most=20_000,  # more can hardly be told from a link without a limit, on a busy machine
            summary="rate of each link, in kbit/s",
        ),
    ),
    needs=frozenset({"shape"}),
    targets=KINDS,
)
_PROBES: Final = 3  # links that are measured, at the same time
_COUNT: Final = 80  # requests on each
_EVERY_S: Final = 0.004
_LATE_S: Final = 0.4  # for late answers, beyond what the fault makes them late
_RATE_S: Final = 0.25  # how long a burst should take at the rate asked for
_SIGMAS: Final = 4.0
_SURE: Final = 5.0  # so many have to be expected; of less, nothing at all is seen now and then
_Link = tuple[str, str]


class Packet:
    """Shapes the links of a cluster, and lets them be as they were."""

    name = "packet"
    needs = PACKET.needs
    label = "packet"
    glyph = "≈"
    colour = "network"
    targets = KINDS
    default_targets = KINDS

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = {option.name: option.default for option in PACKET.options} | dict(options)

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        if target not in KINDS:
            raise unknown_name("target of packet", target, KINDS)
        if nodes < 2:
            return f"target {target!r} does not exist among {targets.count(nodes)}; it needs at least 2"
        if (problem := targets.refusal(self._options["on"], nodes)) is not None:
            return problem
        if target in _odds:
            self._refuse_what_is_too_rare(target, nodes)
        return None

    def _refuse_what_is_too_rare(self, target: str, nodes: int) -> None:
        """Raises: UsageError for an amount that could not be proven by the echo requests that there will be."""
        hit = targets.reach(self._options["on"], nodes)
        links_hit = hit * (nodes - hit) + hit * (hit - 1) // 2
        sent = 2 * _COUNT if target == "corrupt" else _COUNT * min(_PROBES, links_hit)
        passes = 2 if self._options["direction"] == "both" or hit == nodes else 1
        name = f"{target}_percent"
        probability, share = _odds[target]

        def expected(percent: float) -> float:
            shaping = shape(target, {**self._options, name: percent}, seed=0)
            return share * sent * min(1.0, probability(shaping, passes))

        given = self._options[name]
        if expected(given) < _SURE:
            enough = next(tenths / 10 for tenths in range(1, 1001) if expected(tenths / 10) >= _SURE)
            raise UsageError(
                f"option packet.{name}={given:g}: too little to be proven, since of the {sent} echo requests that are"
                f" sent it would show in {expected(given):.1f}; expected at least {enough:g}"
            )

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        names = [n.name for n in ctx.cluster.nodes]
        if (problem := self.refusal(target, len(names))) is not None:
            raise UsageError(problem)
        on, direction = self._options["on"], self._options["direction"]
        chosen = targets.choose(on, names, ctx.roles, ctx.rng)
        others = [*names, *(p.name for p in ctx.cluster.places)] if self._options["with_clients"] else names
        pairs = links(chosen, others, direction)
        shaping = shape(target, self._options, seed=ctx.rng.getrandbits(32))
        whom = "between all nodes" if len(chosen) == len(names) else self._whom(chosen, ctx, direction)
        whom += " and clients" if self._options["with_clients"] else ""
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=chosen,
            says=f"{_words(target, shaping)} {whom}{targets.doubt(on, names, ctx.roles)}",
            args={
                "shaping": msgspec.to_builtins(shaping),
                "pairs": [list(pair) for pair in pairs],
                "probes": [list(pair) for pair in _probes(chosen, names, ctx.rng)],
            },
            undo=(Undo("unshape", {"fault": ctx.fault}),),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        pairs = [(Endpoint(a), Endpoint(b)) for a, b in plan.args["pairs"]]
        ctx.cluster.network.shape(plan.fault, pairs, _shaping(plan))

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        shaping, probes = _shaping(plan), [(a, b) for a, b in plan.args["probes"]]
        found = _measure(ctx, probes, plan.target, shaping)
        queue = dict(ctx.cluster.network.shaped())
        facts: dict[str, Any] = {"echoes": found, "queue": queue}
        see = _sights[plan.target]
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=see(found)[1], facts=facts)
        was = ctx.before.facts if ctx.before is not None else {}
        earlier = {(e["from"], e["to"]): e for e in was.get("echoes", ())}
        telling = [e for e in found if _tells(phase, e, earlier.get((e["from"], e["to"])))] or found
        before = [earlier[e["from"], e["to"]] for e in telling if (e["from"], e["to"]) in earlier]
        if len(before) < len(telling):
            return Evidence(
                phase=phase, effect=False, says=f"{see(found)[1]}; not measured before", facts=facts
            )
        shaped = {(a, b) for a, b in plan.args["pairs"]}
        passes = [((e["from"], e["to"]) in shaped) + ((e["to"], e["from"]) in shaped) for e in telling]
        effect, clause = _effects[plan.target](telling, before, passes, shaping)
        says = see(telling)[1]
        if phase == "during":
            dropped = _overrun(queue) - _overrun(was.get("queue", {}))
            says += clause + (f"; the packet queue lost another {dropped} by itself" if dropped > 0 else "")
        return Evidence(phase=phase, effect=effect, says=says, facts=facts)

    def _whom(self, chosen: Sequence[str], ctx: FaultContext, direction: str) -> str:
        head = targets.leader([n.name for n in ctx.cluster.nodes], ctx.roles)
        way = {"both": "between {} and the others", "out": "from {}", "in": "to {}"}[direction]
        return way.format(targets.listed(chosen, head).removesuffix(","))


def links(chosen: Sequence[str], others: Sequence[str], direction: str) -> list[_Link]:
    """The directed pairs between each of `chosen` and all `others`, sorted.

    >>> links(["n1"], ["n1", "n2", "n3"], "out")
    [('n1', 'n2'), ('n1', 'n3')]
    """
    out = {(a, b) for a in chosen for b in others if a != b} if direction != "in" else set()
    into = {(b, a) for a in chosen for b in others if a != b} if direction != "out" else set()
    return sorted(out | into)


def shape(kind: str, options: Mapping[str, Any], seed: int) -> Shaping:
    """What `kind` does to packets, with the amounts of `options`.

    >>> shape("loss", {"loss_percent": 20.0}, seed=1).loss
    0.2
    """
    match kind:
        case "delay":
            names = ("delay_ms", "jitter_ms", "distribution")
            return Shaping(seed=seed, **{name: options[name] for name in names})
        case "reorder":
            return Shaping(
                seed=seed, reorder=options["reorder_percent"] / 100, reorder_ms=options["reorder_ms"]
            )
        case "rate":
            return Shaping(seed=seed, rate_kbit=options["rate_kbit"])
        case _:
            return Shaping(seed=seed, **{kind: options[f"{kind}_percent"] / 100})


def least(sent: int, probability: float) -> float:
    """How many of `sent` random events are too few to be what a probability would give.

    >>> round(least(100, 0.36), 1)
    16.8
    """
    expected = sent * probability
    return max(0.0, expected - _SIGMAS * math.sqrt(expected * (1 - probability)))


def _overrun(queue: Mapping[str, Any]) -> int:
    """Packets that the queue lost by itself so far; where the kernel does not say, those that were missed."""
    known = queue.get("kernel_dropped")
    return int(queue.get("missed", 0) if known is None else known) + int(queue.get("flushed", 0))


def _words(kind: str, shaping: Shaping) -> str:
    match kind:
        case "delay":
            jitter = f" ± {shaping.jitter_ms:g} ms ({shaping.distribution})" if shaping.jitter_ms else ""
            return f"{shaping.delay_ms:g} ms{jitter} of delay"
        case "loss":
            return f"{shaping.loss:.4g} of all packets lost"
        case "reorder":
            return f"{shaping.reorder:.4g} of all packets held for {shaping.reorder_ms:g} ms"
        case "duplicate":
            return f"{shaping.duplicate:.4g} of all packets copied"
        case "corrupt":
            return f"{shaping.corrupt:.4g} of all packets damaged"
        case _:
            return f"{shaping.rate_kbit:g} kbit/s each way"


def _shaping(plan: Plan) -> Shaping:
    return msgspec.convert(plan.args["shaping"], Shaping)


def _probes(chosen: Sequence[str], names: Sequence[str], rng: Random) -> list[_Link]:
    """Some links of the chosen nodes to others, each in one direction: an echo goes both ways."""
    found = list({frozenset(p): p for p in permutations(names, 2) if p[0] in chosen}.values())
    return sorted(rng.sample(found, min(_PROBES, len(found))))


def _tells(phase: Phase, now: Mapping[str, Any], was: Mapping[str, Any] | None) -> bool:
    """Whether a link can tell of this fault: not one that another fault cut, before it or after."""
    return bool(now["received"]) if phase == "after" else was is None or bool(was["received"])


def _measure(ctx: FaultContext, probes: Sequence[_Link], kind: str, shaping: Shaping) -> list[dict[str, Any]]:
    """Echo requests on all `probes` at the same time, as facts for the ledger."""
    network = ctx.cluster.network
    more: dict[str, Any] = {"count": _COUNT, "interval_s": _EVERY_S}
    if kind == "reorder":  # some must come while one is held
        more["interval_s"] = min(_EVERY_S, shaping.reorder_ms / 3000)
    if kind == "corrupt":  # a node counts for all its links, so that only one can be told from others
        probes, more["count"] = probes[:1], 2 * _COUNT
    late_s = 2 * (shaping.delay_ms + 3 * shaping.jitter_ms + shaping.reorder_ms) / 1000 + _LATE_S
    if kind == "rate":
        size = shaping.rate_kbit * 1000 / 8 * _RATE_S  # bytes, with some of other traffic in between
        each = int(min(1400, max(64, size / 20)))
        more = {"count": int(min(200, max(10, size / each))), "interval_s": 0.0, "size": each}

    def one(link: _Link) -> dict[str, Any]:
        return {"from": link[0], "to": link[1], **_plain(network.echo(*link, wait_s=late_s, **more))}

    with ThreadPoolExecutor(max_workers=_PROBES) as pool:
        return list(pool.map(one, probes))


def _plain(echoes: Echoes) -> dict[str, Any]:
    """A measurement as facts for the ledger: the round trips as their mean and quantiles."""
    facts: dict[str, Any] = msgspec.to_builtins(echoes)
    trips = sorted(facts.pop("rtt_ms"))
    if trips:
        facts["rtt_ms"] = {
            "mean": round(_mean(trips), 3),
            "p50": round(trips[len(trips) // 2], 3),
            "p99": round(trips[int(0.99 * (len(trips) - 1))], 3),
        }
    return facts


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# What was seen on some links, as a number and in words.

_Seen = Sequence[Mapping[str, Any]]


def _sum(found: _Seen, name: str) -> int:
    return sum(e[name] for e in found)


def _see_lost(found: _Seen) -> tuple[int, str]:
    sent = _sum(found, "sent")
    lost = sent - _sum(found, "received")
    return lost, f"{lost} of {sent} echo requests not answered"


def _see_copies(found: _Seen) -> tuple[int, str]:
    copies = _sum(found, "duplicates")
    return copies, f"{copies} answers to {_sum(found, 'sent')} echo requests came more than once"


def _see_overtaken(found: _Seen) -> tuple[int, str]:
    overtaken = _sum(found, "overtaken")
    return overtaken, f"{overtaken} of {_sum(found, 'received')} answers were overtaken"


def _see_damaged(found: _Seen) -> tuple[int, str]:
    bad = _sum(found, "bad_checksums")
    return bad, f"{bad} packets discarded for their checksum (InCsumErrors), {_see_lost(found)[1]}"


def _see_delay(found: _Seen) -> tuple[float | None, str]:
    trips = [e["rtt_ms"]["mean"] for e in found if e.get("rtt_ms")]
    if not trips:
        return None, "no echo request was answered"
    return _mean(trips), f"mean round trip {_mean(trips):.1f} ms"


def _see_rate(found: _Seen) -> tuple[float | None, str]:
    rates = [e["kbit"] for e in found if e["kbit"] is not None]
    if not rates:
        return None, "too few echo requests were answered to tell a rate"
    return max(rates), f"echoes came back at up to {max(rates):,.0f} kbit/s"


_sights: Final[Mapping[str, Callable[[_Seen], tuple[float | None, str]]]] = {
    "delay": _see_delay,
    "loss": _see_lost,
    "reorder": _see_overtaken,
    "duplicate": _see_copies,
    "corrupt": _see_damaged,
    "rate": _see_rate,
}

# What it says of the effect: now, before, how many directions of each link are hit, what was asked for.
_Effect = Callable[[_Seen, _Seen, Sequence[int], Shaping], tuple[bool, str]]


def _random_effect(kind: str, probability: Callable[[Shaping, int], float], share: float) -> _Effect:
    """The effect of what hits packets at random, from the probability that it shows in one echo; on top of
    what other faults do, as seen before."""

    def effect(found: _Seen, before: _Seen, passes: Sequence[int], shaping: Shaping) -> tuple[bool, str]:
        (seen, _), (was, _) = _sights[kind](found), _sights[kind](before)
        assert seen is not None
        assert was is not None
        sent = _sum(found, "sent")
        one = _mean([probability(shaping, n) for n in passes])
        there = min(1.0, was / sent)
        enough = share * least(sent, there + (1 - there) * min(1.0, one))
        return seen >= enough and seen > was + 2 * math.sqrt(was), f", {sent * one:.0f} expected"

    return effect


def _delay_effect(found: _Seen, before: _Seen, passes: Sequence[int], shaping: Shaping) -> tuple[bool, str]:
    (seen, _), (was, _) = _see_delay(found), _see_delay(before)
    if seen is None or was is None:
        return False, ""
    asked, grown = _mean(passes) * shaping.delay_ms, seen - was
    shows = grown >= min(0.85 * asked, asked - 2.0) and grown > 0.5 * asked
    return shows, f", {grown:+.1f} ms by what it was, {asked:g} ms asked for"


def _rate_effect(found: _Seen, before: _Seen, _passes: Sequence[int], shaping: Shaping) -> tuple[bool, str]:
    (seen, _), (was, _) = _see_rate(found), _see_rate(before)
    if seen is None or was is None:
        return False, ""
    return seen <= 1.15 * shaping.rate_kbit < was, f", {shaping.rate_kbit:,g} asked for, {was:,.0f} before"


# The probability that it shows in one echo that passes so many links that are hit, and which share of that is seen.
_odds: Final[Mapping[str, tuple[Callable[[Shaping, int], float], float]]] = {
    "loss": (lambda s, n: 1 - (1 - s.loss) ** n, 1.0),
    # one held in either direction is overtaken, unless its neighbours are held as well
    "reorder": (lambda s, n: 1 - (1 - s.reorder) ** n, 0.5),
    "duplicate": (lambda s, n: (1 + s.duplicate) ** n - 1, 1.0),
    "corrupt": (lambda s, n: 1 - (1 - s.corrupt) ** n, 1.0),
}
_effects: Final[Mapping[str, _Effect]] = {
    "delay": _delay_effect,
    "rate": _rate_effect,
    **{kind: _random_effect(kind, *odds) for kind, odds in _odds.items()},
}
