"""Target selection: how many, which, and what a plan must admit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.system import Status, majority
from nemesis.targets import KINDS, choose, doubt, leader, reach, refusal


def named(count: int) -> list[str]:
    return [f"n{i}" for i in range(1, count + 1)]


@given(st.sampled_from(KINDS), st.integers(1, 9), st.integers(0, 9), st.integers(0, 10**6))
def test_kinds_have_their_sizes_and_roles(kind: str, count: int, head: int, seed: int) -> None:
    nodes = named(count)
    roles = {f"n{head}": Status(role="leader", term=2)} if 1 <= head <= count else {}
    if refusal(kind, count) is not None:
        with pytest.raises(UsageError, match="needs at least"):
            choose(kind, nodes, roles, random.Random(seed))
        return
    chosen = choose(kind, nodes, roles, random.Random(seed))
    assert chosen == choose(kind, nodes, roles, random.Random(seed))
    assert list(chosen) == [n for n in nodes if n in chosen]  # in order, each once
    least, most = {
        "leader": (1, 1),
        "leaders": (1, 1),
        "one": (1, 1),
        "follower": (1, 1),
        "followers": (count - 1, count - 1),
        "minority": (1, count - majority(count)),
        "minority-third": (1, (count - 1) // 3),
        "majority": (majority(count), majority(count)),
        "all": (count, count),
    }[kind]
    assert least <= len(chosen) <= most
    if roles:
        assert (f"n{head}" in chosen) or kind != "leader"
        assert f"n{head}" not in chosen or not kind.startswith("follower")
    assert bool(doubt(kind, nodes, roles)) == (
        not roles and kind in ("leader", "leaders", "follower", "followers")
    )


def test_a_deposed_leader_is_not_the_leader() -> None:
    roles = {"n1": Status(role="leader", term=2), "n3": Status(role="leader", term=5)}
    assert leader(named(3), roles) == "n3"
    assert leader(named(2), roles) == "n1"  # n3 is no node (any more)
    assert leader(named(3), {"n2": Status(role="leader")}) == "n2"  # a system without terms
    assert leader(named(3), {"n2": Status(role="candidate", term=9)}) is None


def test_every_node_has_its_turn() -> None:
    assert {choose("one", named(5), {}, random.Random(seed)) for seed in range(60)} == {
        (n,) for n in named(5)
    }


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'majority'"):
        choose("majorty", named(3), {}, random.Random(0))


def test_names_and_zones() -> None:
    nodes = named(4)
    zones = {"eu": ("n1", "n4"), "us": ("n2", "n3")}
    assert choose("n4+n2", nodes, {}, random.Random(0)) == ("n2", "n4")
    assert {choose("zone", nodes, {}, random.Random(seed), (), zones) for seed in range(20)} == {
        ("n1", "n4"),
        ("n2", "n3"),
    }
    with pytest.raises(UsageError, match="stands in zones"):
        choose("zone", nodes, {}, random.Random(0))
    assert (reach("zone", 4), reach("n1+n2", 4), reach("minority", 5)) == (3, 2, 2)
    assert refusal("n5", 4) == "there is no node 'n5' among 4 nodes; expected n1 to n4"


@given(st.sampled_from(KINDS), st.integers(2, 9), st.sets(st.integers(1, 9)), st.integers(0, 10**6))
def test_who_is_busy_is_not_chosen(kind: str, count: int, taken: set[int], seed: int) -> None:
    if refusal(kind, count) is not None:
        return
    busy = {f"n{i}" for i in taken}
    roles = {"n1": Status(role="leader", term=2)}
    chosen = choose(kind, named(count), roles, random.Random(seed), busy)
    assert not busy & set(chosen)
    assert len(chosen) <= reach(kind, count)
    if busy >= set(named(count)):
        assert chosen == ()
    if kind == "leader" and "n1" in busy and chosen:
        assert "n1, the leader, has a fault already" in doubt(kind, named(count), roles, busy)
