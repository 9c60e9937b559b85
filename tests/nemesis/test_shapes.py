"""Shapes of partitions: what each promises, for every number of nodes."""

from __future__ import annotations

import random
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.system import majority
from nemesis.shapes import SHAPES, Cut, beside, cut, endpoints, refusal

counts = st.integers(1, 13)
seeds = st.integers(0, 10**6)


def named(count: int) -> list[str]:
    return [f"n{i}" for i in range(1, count + 1)]


def make(shape: str, count: int, seed: int) -> Cut | None:
    """The cut, or None where the shape does not exist."""
    if refusal(shape, count) is not None:
        with pytest.raises(UsageError, match="needs at least"):
            cut(shape, named(count), None, random.Random(seed), zones(count))
        return None
    return cut(shape, named(count), named(count)[seed % count], random.Random(seed), zones(count))


def zones(count: int) -> dict[str, list[str]]:
    """Up to three zones."""
    return {f"z{i}": named(count)[i::3] for i in range(3) if named(count)[i::3]}


def sees(found: Cut, nodes: list[str], a: str) -> frozenset[str]:
    return frozenset(b for b in nodes if (a, b) not in found.pairs and (b, a) not in found.pairs)


@given(st.sampled_from(SHAPES), counts, seeds)
def test_every_shape_cuts_other_nodes_and_is_a_function_of_the_seed(
    shape: str, count: int, seed: int
) -> None:
    found = make(shape, count, seed)
    if found is None:
        return
    assert found.pairs
    assert len(set(found.pairs)) == len(found.pairs)
    assert all(a != b and {a, b} <= set(named(count)) for a, b in found.pairs)
    assert found.isolated
    assert found.opposite not in found.isolated
    assert found == make(shape, count, seed)
    if shape != "one-way":
        assert {(b, a) for a, b in found.pairs} == set(found.pairs)


@given(st.sampled_from(["halves", "one", "leader", "majority"]), counts, seeds)
def test_two_sides_are_whole_and_apart(shape: str, count: int, seed: int) -> None:
    found = make(shape, count, seed)
    if found is None:
        return
    few, rest = set(found.isolated), set(named(count)) - set(found.isolated)
    assert set(found.pairs) == {p for a in few for b in rest for p in ((a, b), (b, a))}
    size = {"halves": count // 2, "one": 1, "leader": 1, "majority": count - majority(count)}[shape]
    assert len(few) == size
    if shape == "leader":
        assert few == {named(count)[seed % count]}


@given(counts, seeds)
def test_on_the_ring_every_node_sees_a_majority_and_no_two_the_same(count: int, seed: int) -> None:
    found = make("majorities-ring", count, seed)
    if found is None:
        assert count < 3
        return
    nodes = named(count)
    views = [sees(found, nodes, n) for n in nodes]
    assert all(n in view and len(view) >= majority(count) for n, view in zip(nodes, views, strict=True))
    assert len(set(views)) == count
    assert sum(len(view) > majority(count) for view in views) <= 1  # nobody sees more than need be


@given(counts, seeds)
def test_the_bridge_has_one_node_that_sees_all(count: int, seed: int) -> None:
    found = make("bridge", count, seed)
    if found is None:
        return
    nodes = named(count)
    middle = [n for n in nodes if len(sees(found, nodes, n)) == count]
    assert len(middle) == 1
    few, many = set(found.isolated), set(nodes) - set(found.isolated) - set(middle)
    assert abs(len(few) - len(many)) <= 1
    assert set(found.pairs) == {p for a in few for b in many for p in ((a, b), (b, a))}


@given(counts, seeds)
def test_one_way_cuts_all_that_the_leader_sends_or_all_that_it_is_sent(count: int, seed: int) -> None:
    found = make("one-way", count, seed)
    if found is None:
        return
    leader = named(count)[seed % count]
    rest = set(named(count)) - {leader}
    assert set(found.pairs) in ({(leader, n) for n in rest}, {(n, leader) for n in rest})


def test_one_way_takes_both_ways_in_time() -> None:
    ways = {cut("one-way", named(3), "n1", random.Random(seed)).pairs for seed in range(40)}
    assert len(ways) == 2


@given(st.sampled_from(SHAPES), counts, seeds, st.sampled_from(["with", "apart"]))
def test_clients_are_cut_as_the_node_they_stand_beside(
    shape: str, count: int, seed: int, clients: str
) -> None:
    found = make(shape, count, seed)
    if found is None:
        return
    places = {f"c{i}": f"n{i}" for i in range(1, count + 1)}
    stands = beside(found, places, clients)
    pairs = set(endpoints(found, stands))
    ends = {*places, *(n for pair in found.pairs for n in pair)}
    for a, b in permutations(ends, 2):
        assert ((a, b) in pairs) == ((stands[a], stands[b]) in found.pairs)
    for place, node in places.items():
        apart = clients == "apart" and found.opposite is not None and node in found.isolated
        assert (((place, node) in pairs) or ((node, place) in pairs)) == apart


@given(counts, seeds)
def test_a_zone_is_cut_off_whole_and_one_is_needed(count: int, seed: int) -> None:
    found = make("zone", count, seed)
    if found is None:
        return
    sides = [set(found.isolated), set(named(count)) - set(found.isolated)]
    assert any(side == set(zone) for side in sides for zone in zones(count).values())
    assert len(found.pairs) == 2 * len(sides[0]) * len(sides[1])
    with pytest.raises(UsageError, match="in two zones or more"):
        cut("zone", named(count), None, random.Random(seed), {"all": named(count)})


def test_an_unknown_shape_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'halves'"):
        cut("halfs", named(3), None, random.Random(0))
