"""Phases: a random subset of the faults at once, everything healed, the next phase.

One phase in four is quiet: nothing is wrong in it, so that what an earlier one has left behind shows by
itself. The first fault of a loud phase comes from shuffled rounds, so that everything asked for occurs;
each other joins with even chance if it fits: never more nodes out than `most` in sum, whoever they will
turn out to be, and nothing that could contradict what is there already among so few nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count as numbers
from random import Random
from typing import Final

from harness.core.errors import UsageError
from harness.core.seeds import stream
from nemesis.families import Family, too_short
from nemesis.schedule import FIRST_S, HOLD_S, INTERVAL_S, QUIET_S, Step, kinds_of, rounds
from nemesis.targets import count

_ROUND: Final = 4  # one of so many phases is quiet
_SHRINK: Final = 1 / 3


def phases(
    faults: Sequence[str], families: Mapping[str, Family], nodes: int, most: int, time_s: float, seed: int
) -> tuple[Step, ...]:
    """The steps for `faults` (`family` or `family:target`) within `time_s` of load.

    Raises: UsageError when the time is too short for each of them to occur once, or when one takes out
    more than `most` nodes whatever it hits.
    """
    kinds = {}
    for word in faults:
        family, _, target = word.partition(":")
        fits = [
            t
            for t in ([target] if target else families[family].defaults)
            if families[family].reach(t) <= most
        ]
        if not fits:
            least = min(map(families[family].reach, [target] if target else families[family].defaults))
            raise UsageError(
                f"fault {word!r} takes out {count(least)} at once, where schedule.down allows {most};"
                " name a smaller target, or allow more"
            )
        kinds[word] = kinds_of(fits, stream(seed, "nemesis", "target", word))
    longest_phases = len(faults) + -(-len(faults) // (_ROUND - 1))
    longest = FIRST_S[1] + longest_phases * HOLD_S[1] + (longest_phases - 1) * INTERVAL_S[1] + QUIET_S
    scale = min(1.0, time_s / longest)
    if scale < _SHRINK:
        raise too_short(time_s, longest * _SHRINK, faults)
    times, joins = stream(seed, "nemesis", "times"), stream(seed, "nemesis", "join")
    words = rounds(faults, stream(seed, "nemesis", "order"))
    steps: list[Step] = []
    last: tuple[int, ...] = ()
    at = scale * times.uniform(*FIRST_S)
    quiet = _quiet(stream(seed, "nemesis", "quiet"))
    for phase in numbers():
        hold = scale * times.uniform(*HOLD_S)
        if phase and at + hold > time_s - scale * QUIET_S:
            return tuple(steps)
        if not next(quiet):
            chosen: list[tuple[str, str]] = []
            first = next(words)
            for word in (first, *joins.sample([w for w in faults if w != first], len(faults) - 1)):
                if word != first and joins.random() < 0.5:
                    continue
                chosen += _fitting(word.partition(":")[0], next(kinds[word]), chosen, families, nodes, most)
            begun = range(len(steps) + 1, len(steps) + 1 + len(chosen))
            steps += [
                Step(n, round(at, 3), round(hold, 3), family, kind, last)
                for n, (family, kind) in zip(begun, chosen, strict=True)
            ]
            last = tuple(begun)
        at += hold + scale * times.uniform(*INTERVAL_S)
    raise AssertionError


def _fitting(
    family: str,
    kind: str,
    chosen: Sequence[tuple[str, str]],
    families: Mapping[str, Family],
    nodes: int,
    most: int,
) -> list[tuple[str, str]]:
    """The fault as a list, or none where it does not go together with what is `chosen`."""
    own = families[family]
    sizes = [families[f].reach(k) for f, k in chosen]
    if sum(sizes) + own.reach(kind) > most and chosen:
        return []
    for f, k in chosen:
        if families[f].claims & own.claims and families[f].reach(k) + own.reach(kind) > nodes:
            return []
    return [(family, kind)]


def _quiet(rng: Random) -> Iterator[bool]:
    """For each phase whether it is quiet: one in four, never the first of them."""
    while True:
        which = rng.randrange(1, _ROUND)
        for i in range(_ROUND):
            yield i == which
