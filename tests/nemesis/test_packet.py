"""Packet faults on a cluster in memory: which links, how much, and what is believed when faults overlap."""

from __future__ import annotations

import math
from random import Random

import pytest

from harness.core.cluster import Endpoint, Shaping
from harness.core.errors import UsageError
from nemesis.packet import KINDS, PACKET, Packet, least, links, shape
from tests.nemesis.fake import FakeCluster, context, undo

DEFAULTS = {option.name: option.default for option in PACKET.options}


@pytest.mark.parametrize("direction", ["both", "out", "in"])
@pytest.mark.parametrize("clients", [False, True])
def test_the_links_of_the_leader_are_hit_in_the_direction_asked_for(direction: str, clients: bool) -> None:
    cluster = FakeCluster(3)
    fault = Packet({"on": "leader", "direction": direction, "with_clients": clients})
    plan = fault.plan(context(cluster), "loss")
    pairs = {(a, b) for a, b in plan.args["pairs"]}
    others = {"n1", "n3"} | ({"c1", "c2", "c3"} if clients else set())
    assert plan.nodes == ("n2",)
    assert {b for a, b in pairs if a == "n2"} == (set() if direction == "in" else others)
    assert {a for a, b in pairs if b == "n2"} == (set() if direction == "out" else others)
    assert len(pairs) == len(others) * (2 if direction == "both" else 1)
    assert all("n2" in probe for probe in plan.args["probes"])


def test_all_nodes_have_every_link_once() -> None:
    names = ["n1", "n2", "n3"]
    assert len(links(names, names, "both")) == len(links(names, names, "out")) == 6


def test_amounts_come_from_options_and_draws_from_the_seed() -> None:
    assert shape("corrupt", {**DEFAULTS, "corrupt_percent": 3.0}, seed=4) == Shaping(corrupt=0.03, seed=4)
    assert shape("rate", DEFAULTS, seed=4) == Shaping(rate_kbit=1000, seed=4)
    assert shape("reorder", DEFAULTS, seed=4) == Shaping(reorder=0.25, reorder_ms=20, seed=4)
    delay = shape("delay", DEFAULTS, seed=4)
    assert (delay.delay_ms, delay.jitter_ms, delay.distribution) == (50, 10, "normal")


def test_chance_seldom_falls_below_the_bound() -> None:
    rng = Random(3)
    bound = least(240, 0.36)
    counts = [sum(rng.random() < 0.36 for _ in range(240)) for _ in range(500)]
    assert min(counts) > bound > 0.5 * 240 * 0.36


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", [k for k in KINDS if k != "rate"])
def test_a_fault_is_told_from_another_that_goes_on(kind: str, other: str) -> None:
    """Whether it does something or nothing."""
    for works in (True, False):
        cluster = FakeCluster(3)
        cluster.shape(
            "f0", [(Endpoint(a), Endpoint(b)) for a, b in links(["n1"], ["n2", "n3"], "both")], _shape(other)
        )
        fault, ctx = Packet({}), context(cluster)
        plan = fault.plan(ctx, kind)
        ctx.before = fault.observe(ctx, plan, "before")
        if works:
            fault.apply(ctx, plan)
        during = fault.observe(ctx, plan, "during")
        assert during.effect is works, during.says
        undo(cluster, plan)
        assert fault.observe(ctx, plan, "after").effect is False


@pytest.mark.parametrize("kind", KINDS)
def test_links_that_another_fault_cuts_prove_nothing_and_hide_nothing(kind: str) -> None:
    cluster = FakeCluster(3)
    gone = [(Endpoint(a), Endpoint(b)) for a, b in links(["n1"], ["n2", "n3"], "both")]
    cluster.shape("f0", gone, Shaping(loss=1.0))
    fault, ctx = Packet({}), context(cluster)
    plan = fault.plan(ctx, kind)
    if kind == "corrupt":  # it looks at one link
        plan.args["probes"].sort(key=lambda link: "n1" in link)
    ctx.before = fault.observe(ctx, plan, "before")
    assert fault.observe(ctx, plan, "during").effect is False
    fault.apply(ctx, plan)
    assert fault.observe(ctx, plan, "during").effect is True
    undo(cluster, plan)
    cluster.unshape("f0")
    cluster.shape("f2", [(b, a) for a, b in gone], Shaping(loss=1.0))
    assert fault.observe(ctx, plan, "after").effect is False


def _shape(kind: str) -> Shaping:
    made = shape(kind, DEFAULTS, seed=1)
    assert math.isfinite(made.delay_ms)
    return made


@pytest.mark.parametrize(
    ("kind", "options", "nodes", "least_percent"),
    [
        ("loss", {}, 3, 1.1),
        ("loss", {"direction": "out", "on": "one"}, 3, 3.2),
        ("loss", {}, 2, 3.2),
        ("duplicate", {}, 3, 1.1),
        ("corrupt", {}, 5, 1.6),
        ("reorder", {}, 3, 2.2),
    ],
)
def test_what_is_too_rare_to_be_proven_is_refused(
    kind: str, options: dict[str, str], nodes: int, least_percent: float
) -> None:
    name = f"{kind}_percent"
    assert Packet({**options, name: least_percent}).refusal(kind, nodes) is None
    with pytest.raises(UsageError, match=rf"option packet.{name}=.* expected at least {least_percent:g}$"):
        Packet({**options, name: least_percent - 0.1}).refusal(kind, nodes)
    assert Packet({**options, name: 0.1}).refusal("delay", nodes) is None
