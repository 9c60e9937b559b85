"""Target selection: how many, which, and what a plan must admit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.system import Status, majority
from nemesis.targets import KINDS, choose, doubt, leader, refusal


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
