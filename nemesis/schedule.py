"""The default schedule: when which fault comes and how long it lasts, as a pure function of the seed.

Others stand in `phases`, `walk` and `script`, and `plans` chooses among them. Here it is one at a time:
fault, heal, a pause, fault, heal. What was asked for comes in shuffled rounds, so that after any number
of steps no two entries differ by more than one; a family without a target of its own takes its default
kinds in turn, the first of them first (that of a partition isolates a leader), then the others shuffled.
Order, targets and times come from streams of their own: a longer run begins as a shorter one does, unless
that one is so short that its times had to shrink.

The nodes are chosen at the moment of injection, by the fault; a schedule only names the kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError
from harness.core.seeds import stream

FIRST_S: Final = (2.0, 3.0)  # the first fault comes so long into the load
HOLD_S: Final = (3.0, 5.0)  # and stays so long: a few election timeouts of the slower systems
INTERVAL_S: Final = (1.5, 2.5)  # from healing to the next
QUIET_S: Final = 2.0  # after the last healing
_SHRINK: Final = 1 / 3  # how far all of these may be scaled down for a short run


def varied(mean_s: float) -> tuple[float, float]:
    """What a time is drawn from, by its mean.

    >>> varied(4.0) == HOLD_S, varied(2.0) == INTERVAL_S
    (True, True)
    """
    return 0.75 * mean_s, 1.25 * mean_s


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """The `n`-th fault, from 1: applied `at_s` after the load began, healed `hold_s` later.

    It waits until the steps `follows` have been healed, and then up to `settle_s` more for its target, a node by
    name, to answer. With `when`, `at_s` counts from the moment at
    which that came true: {"leader": NODE or "any"}, {"log": REGEX, "node": NODE or "any"}, or
    {"ops": N}; `group` is the same for steps that wait for the same one, which is watched from the
    moment on at which step `since` has begun, or the load.
    """

    n: int
    at_s: float
    hold_s: float
    family: str
    target: str
    follows: tuple[int, ...] = ()
    when: dict[str, Any] | None = None
    group: int = 0
    since: int | None = None
    settle_s: float = 0.0


def schedule(
    faults: Sequence[str],
    defaults: Mapping[str, Sequence[str]],
    time_s: float,
    seed: int,
    *,
    interval: tuple[float, float] = INTERVAL_S,
    hold: tuple[float, float] = HOLD_S,
) -> tuple[Step, ...]:
    """The steps for `faults` (`family` or `family:target`) within `time_s` of load.

    `defaults` are the kinds of target of each family, of those that exist in the cluster at hand.
    `hold` and `interval` (seconds from healing to the next fault) are drawn from; all times shrink
    together where everything would not occur otherwise.

    >>> [(s.family, s.target) for s in schedule(["kill"], {"kill": ["leader", "one"]}, 15, seed=1)]
    [('kill', 'leader'), ('kill', 'one')]

    Raises: UsageError when the time is too short for each of `faults` to occur once, or when a
    family has no target to draw.
    """
    if not faults:
        return ()
    for word in faults:
        if ":" not in word and not defaults.get(word):
            raise UsageError(f"fault {word!r} has no kind of target here; name one, or use more nodes")
    longest = FIRST_S[1] + len(faults) * hold[1] + (len(faults) - 1) * interval[1] + QUIET_S
    scale = min(1.0, time_s / longest)
    if scale < _SHRINK:
        least = int(longest * _SHRINK * 10 + 1) / 10
        each = f"each of {', '.join(faults)}" if len(faults) > 1 else faults[0]
        raise UsageError(
            f"time {time_s:g}s is too short for {each} to occur;"
            f" expected at least {least:g}s, or fewer faults"
        )
    times = stream(seed, "nemesis", "times")
    words = rounds(faults, stream(seed, "nemesis", "order"))
    kinds = {
        family: kinds_of(of, stream(seed, "nemesis", "target", family)) for family, of in defaults.items()
    }
    steps: list[Step] = []
    at = scale * times.uniform(*FIRST_S)
    while True:
        lasts = scale * times.uniform(*hold)
        if steps and at + lasts > time_s - scale * QUIET_S:
            return tuple(steps)
        family, colon, target = next(words).partition(":")
        kind = target if colon else next(kinds[family])
        n = len(steps) + 1
        steps.append(Step(n, round(at, 3), round(lasts, 3), family, kind, (n - 1,) if steps else ()))
        at += lasts + scale * times.uniform(*interval)


def rounds(faults: Sequence[str], rng: Random) -> Iterator[str]:
    """All of `faults` in a random order, again and again; a bare family comes before its targets."""
    while True:
        order = rng.sample(list(faults), len(faults))
        for family in dict.fromkeys(word.partition(":")[0] for word in order):
            at = [i for i, word in enumerate(order) if word.partition(":")[0] == family]
            for i, word in zip(at, sorted((order[i] for i in at), key=lambda w: ":" in w), strict=True):
                order[i] = word
        yield from order


def kinds_of(kinds: Sequence[str], rng: Random) -> Iterator[str]:
    """The first, then the others shuffled; from then on all of them, shuffled anew each time."""
    yield kinds[0]
    yield from rng.sample(list(kinds[1:]), len(kinds) - 1)
    while True:
        yield from rng.sample(list(kinds), len(kinds))
