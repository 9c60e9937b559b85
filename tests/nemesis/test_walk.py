"""Walks and phases: functions of the seed, never beyond the bound, everything asked for, quiet at the end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from nemesis.families import Family, bound
from nemesis.phases import phases
from nemesis.plans import plan
from nemesis.schedule import Step
from nemesis.targets import reach, refusal
from nemesis.walk import walk

STATES = ("kill", "pause", "partition")
seeds = st.integers(0, 2**32 - 1)


def nodes(count: int) -> list[str]:
    return [f"n{i}" for i in range(1, count + 1)]


def family(name: str, count: int, claims: str = "") -> Family:
    return Family(
        name=name,
        defaults=("leader", "one", "minority"),
        reach=lambda kind: reach(kind, count),
        claims=frozenset(claims.split()),
        refusal=lambda kind: refusal(kind, count),
    )


def out_at(steps: tuple[Step, ...], moment: float) -> list[Step]:
    return [s for s in steps if s.at_s <= moment < s.at_s + s.hold_s - 1e-6]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(STATES), min_size=1, unique=True),
    st.integers(3, 9),
    seeds,
    st.floats(1, 200),
    st.integers(1, 3),
)
def test_what_every_walk_keeps(states: list[str], count: int, seed: int, time_s: float, least: int) -> None:
    most = bound("minority", count)
    try:
        steps = walk(states, nodes(count), most, time_s, seed, step_s=2.0, least=least)
    except UsageError:
        heals = least - 1 if len(states) > 1 else least
        assert time_s < (3.8 + (len(states) * least + heals) * 2.6) / 3 + 0.1
        return
    assert steps == walk(states, nodes(count), most, time_s, seed, step_s=2.0, least=least)
    assert [s.n for s in steps] == list(range(1, len(steps) + 1))
    got = Counter(s.family for s in steps)
    assert all(got[name] >= least for name in states)
    assert max(got.values()) - min(got.values()) <= 1
    for step in steps:
        here = out_at(steps, step.at_s + 0.003)  # times are rounded
        assert len(here) <= most
        assert len({s.target for s in here}) == len(here), "a node has one state"
    assert all(s.at_s > 0 and s.at_s + s.hold_s < time_s - 0.5 for s in steps)
    last: dict[str, Step] = {}
    for step in steps:  # one state follows another on the same node: at once, or after a while of being up
        was = last.get(step.target)
        assert step.follows == (() if was is None else (was.n,))
        if was is not None:
            assert was.at_s + was.hold_s <= step.at_s + 0.002
            assert was.family != step.family or was.at_s + was.hold_s < step.at_s - 0.002
        last[step.target] = step


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_outages_overlap_in_every_order(seed: int) -> None:
    steps = walk(STATES, nodes(5), 2, 600, seed, step_s=2.0)
    moments = [i / 2 for i in range(1200)]
    share = sum(len(out_at(steps, m)) > 1 for m in moments) / len(moments)
    assert 0.4 < share < 0.9
    ends: Counter[bool] = Counter()
    for a, b in pairwise(steps):
        if a.target != b.target and b.at_s < a.at_s + a.hold_s:
            ends[a.at_s + a.hold_s < b.at_s + b.hold_s] += 1
    assert min(ends[True], ends[False]) > 5, "who went first comes back first, and last"


def test_a_walk_needs_its_time() -> None:
    with pytest.raises(UsageError, match="too short for each of kill, pause, partition to occur"):
        walk(STATES, nodes(3), 1, 2, 0, step_s=2.0)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(3, 5), st.floats(5, 100), st.floats(0, 5))
def test_who_died_has_the_time_to_start_before_its_next_state(
    seed: int, count: int, time_s: float, settle_s: float
) -> None:
    most = bound("minority", count)

    def walked(settle_s: float) -> tuple[Step, ...]:
        return walk(
            STATES, nodes(count), most, time_s, seed, step_s=2.0, settle_s=settle_s, restarts=["kill"]
        )

    try:
        steps = walked(settle_s)
    except UsageError:
        assert time_s < (3.8 + 3 * 2.6) / 3 + settle_s + 0.1
        return
    assert {s.family for s in steps} == set(STATES)
    assert all(s.at_s > 0 and s.at_s + s.hold_s < time_s - 0.5 for s in steps)
    for step in steps:
        assert len(out_at(steps, step.at_s + 0.003)) <= most
        earlier = [s for s in steps[: step.n - 1] if s.target == step.target]
        assert step.settle_s == (4 * settle_s if earlier else 0.0)
        if earlier and settle_s:
            assert earlier[-1].n in step.follows
        full = [out_at(steps, s.at_s + 0.003) for s in steps[: step.n - 1]]
        if settle_s and any(len(out) == most for out in full) and step.n > 1 and not step.follows:
            raise AssertionError("it can overtake those that had no room for it")
        if earlier and earlier[-1].family == "kill":
            assert step.at_s - earlier[-1].at_s - earlier[-1].hold_s >= settle_s - 0.002
    assert walked(settle_s=0.0) == walk(
        STATES, nodes(count), bound("minority", count), time_s, seed, step_s=2.0
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(["kill", "pause", "partition", "kill:one", "pause:leader"]), min_size=1, unique=True
    ),
    st.integers(3, 7),
    seeds,
    st.floats(5, 300),
)
def test_what_phases_keep(words: list[str], count: int, seed: int, time_s: float) -> None:
    families = {
        "kill": family("kill", count, "signal restart"),
        "pause": family("pause", count, "signal"),
        "partition": family("partition", count),
    }
    most = bound("minority", count)
    try:
        steps = phases(words, families, count, most, time_s, seed)
    except UsageError:
        assert time_s < 60
        return
    assert steps == phases(words, families, count, most, time_s, seed)
    assert {s.family for s in steps} == {w.partition(":")[0] for w in words}
    begins = sorted({s.at_s for s in steps})
    for at in begins:
        here = [s for s in steps if s.at_s == at]
        assert sum(families[s.family].reach(s.target) for s in here) <= most
        assert len({s.hold_s for s in here}) == 1
        before = [s for s in steps if s.at_s < at]
        assert all(s.at_s + s.hold_s < at for s in before), "everything is healed between"
    if time_s > 100:
        first = {at: [s.n for s in steps if s.at_s == at] for at in begins}
        for a, b in pairwise(begins):
            (follows,) = {s.follows for s in steps if s.at_s == b}
            assert list(follows) == first[a]


def test_a_quarter_of_the_phases_is_quiet_and_some_have_several_faults() -> None:
    families = {name: family(name, 5) for name in STATES}
    steps = phases(STATES, families, 5, 2, 1000, 7)
    sizes = Counter(s.at_s for s in steps)
    assert set(sizes.values()) >= {1, 2}
    # 1000 s are about 166 phases of 6 s in the mean
    assert 115 < len(sizes) < 135


def test_too_large_a_target_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"'kill:all' takes out 5 nodes at once, where schedule\.down allows 2"
    ):
        phases(["kill:all"], {"kill": family("kill", 5)}, 5, 2, 60, 0)
    with pytest.raises(UsageError, match="expected minority, all, or a number from 1 to 5"):
        bound("most", 5)


def test_faults_beside_a_walk_come_one_after_the_other_meanwhile() -> None:
    families = {name: family(name, 1) for name in ("kill", "slow-disk")}
    options = {"step_s": 1.0}
    alone = plan(["walk:kill"], families, 1, 20.0, 7, options, float)
    both = plan(["walk:kill", "slow-disk:one"], families, 1, 20.0, 7, options, float)
    assert [s for s in both if s.family == "kill"] == list(alone)
    beside = [s for s in both if s.family == "slow-disk"]
    assert len(beside) >= 2
    assert sorted(s.n for s in both) == list(range(1, len(both) + 1))
    assert [s.at_s for s in both] == sorted(s.at_s for s in both)
    assert beside[1].follows == (beside[0].n,)
    assert any(k.at_s > s.at_s and k.at_s < s.at_s + s.hold_s for k in alone for s in beside)
    three = {name: family(name, 3) for name in families}
    with pytest.raises(UsageError, match=r"takes out more nodes than schedule.down=1 allows"):
        plan(["walk:kill", "slow-disk:majority"], three, 3, 20.0, 7, options, float)
