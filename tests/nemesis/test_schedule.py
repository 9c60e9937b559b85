"""Schedules: a function of the seed, one fault at a time, everything asked for, quiet at the end."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from nemesis.schedule import schedule, varied

DEFAULTS = {
    "partition": ("leader", "halves", "one", "bridge"),
    "kill": ("leader", "one", "minority"),
    "pause": ("leader", "one"),
}
words = st.lists(
    st.sampled_from(["partition", "partition:one-way", "kill", "kill:all", "pause", "pause:leader"]),
    min_size=1,
    max_size=5,
    unique=True,
)
seeds = st.integers(0, 2**32 - 1)


@given(words, seeds, st.floats(1, 200))
def test_what_every_schedule_keeps(faults: list[str], seed: int, time_s: float) -> None:
    try:
        steps = schedule(faults, DEFAULTS, time_s, seed)
    except UsageError:
        assert time_s < 3.4 + len(faults) * 2.6
        return
    assert steps == schedule(tuple(faults), DEFAULTS, time_s, seed)
    assert [s.n for s in steps] == list(range(1, len(steps) + 1))
    assert 0 < steps[0].at_s <= 3
    for step, following in pairwise(steps):
        assert step.hold_s >= 1
        assert following.at_s - (step.at_s + step.hold_s) >= 0.49  # healed before the next
    assert steps[-1].at_s + steps[-1].hold_s <= time_s - 0.6
    assert {s.family for s in steps} == {w.partition(":")[0] for w in faults}
    families = Counter(w.partition(":")[0] for w in faults)
    got = Counter(s.family for s in steps)
    assert all(got[f] // n >= len(steps) // len(faults) for f, n in families.items())  # evenly
    for family in families:
        mine = [s.target for s in steps if s.family == family]
        if family in faults:
            assert mine[0] == DEFAULTS[family][0]
        fixed = {w.partition(":")[2] for w in faults if w.startswith(f"{family}:")}
        assert fixed <= set(mine)
        assert set(mine) <= fixed | (set(DEFAULTS[family]) if family in faults else set())


@given(seeds)
def test_every_default_kind_occurs_before_one_comes_again(seed: int) -> None:
    steps = schedule(["partition"], DEFAULTS, 120, seed)
    assert len(steps) >= 8
    for start in (0, 4):
        assert {s.target for s in steps[start : start + 4]} == set(DEFAULTS["partition"])


@given(words, seeds)
def test_a_longer_run_begins_like_a_shorter_one(faults: list[str], seed: int) -> None:
    short, long = (schedule(faults, DEFAULTS, time_s, seed) for time_s in (60, 600))
    assert long[: len(short)] == short


@given(seeds)
def test_half_a_minute_holds_all_three_families_at_full_length(seed: int) -> None:
    steps = schedule(["partition", "kill", "pause"], DEFAULTS, 30, seed)
    assert len(steps) in (3, 4, 5)
    assert all(3 <= s.hold_s <= 5 for s in steps)
    assert 2 <= steps[0].at_s <= 3


@given(words, seeds)
def test_the_least_time_that_a_refusal_names_is_enough(faults: list[str], seed: int) -> None:
    with pytest.raises(UsageError, match="expected at least") as refused:
        schedule(faults, DEFAULTS, 1.0, seed)
    least = float(str(refused.value).partition("at least ")[2].partition("s")[0])
    assert schedule(faults, DEFAULTS, least, seed)
    with pytest.raises(UsageError):
        schedule(faults, DEFAULTS, least - 0.2, seed)


@given(seeds, seeds)
def test_another_seed_is_another_schedule(one: int, other: int) -> None:
    assume(one != other)
    assert schedule(["kill"], DEFAULTS, 60, one) != schedule(["kill"], DEFAULTS, 60, other)


def test_nothing_asked_for_is_nothing_done() -> None:
    assert schedule((), {}, 1, 0) == ()


def test_a_family_without_targets_is_refused() -> None:
    with pytest.raises(UsageError, match="more nodes"):
        schedule(["partition"], {"partition": ()}, 30, 0)
    assert schedule(["partition:one"], {"partition": ()}, 30, 0)


@given(seeds, st.floats(0.2, 6.0), st.floats(0.2, 6.0))
def test_how_long_and_how_often_can_be_said(seed: int, hold_s: float, interval_s: float) -> None:
    times = {"hold": varied(hold_s), "interval": varied(interval_s)}
    steps = schedule(["kill"], {"kill": ["one"]}, 60.0, seed, **times)
    assert all(0.74 * hold_s < step.hold_s < 1.26 * hold_s for step in steps)
    gaps = [b.at_s - a.at_s - a.hold_s for a, b in pairwise(steps)]
    assert all(0.74 * interval_s < gap < 1.26 * interval_s for gap in gaps)
    assert len(steps) >= (60 - 5) / (1.25 * (hold_s + interval_s)) - 1
