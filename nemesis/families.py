"""What a schedule must know of a fault family, and whether what is planned goes together.

Two faults contradict each other where they hit the same node at the same time and claim the same thing
of it (`harness.core.fault.claims`): nobody can pause what is dead. Faults of other nodes, and faults
that add up, such as blocks in the network, go together in any number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import msgspec

from harness.core.errors import UsageError
from harness.core.system import majority
from nemesis.schedule import Step
from nemesis.targets import by_name, count


class Family(msgspec.Struct, frozen=True):
    """A fault family among the nodes at hand: the kinds of target that a bare one draws from, how many
    nodes a target takes out at most, what it claims on each, and why it does not exist."""

    name: str
    defaults: tuple[str, ...]
    reach: Callable[[str], int]
    claims: frozenset[str]
    refusal: Callable[[str], str | None]


def bound(given: str, nodes: int) -> int:
    """How many nodes may be out at once: `minority`, `all` or a number.

    >>> bound("minority", 5), bound("all", 5), bound("1", 5)
    (2, 5, 1)

    Raises: UsageError for anything else.
    """
    words = {"minority": nodes - majority(nodes), "all": nodes}
    if given in words:
        return words[given]
    if given.isdigit() and 0 < int(given) <= nodes:
        return int(given)
    raise UsageError(f"option down={given}: expected minority, all, or a number from 1 to {nodes}")


def refuse_contradictions(
    steps: Sequence[Step], families: Mapping[str, Family], nodes: int, most: int
) -> None:
    """Look at all that is certain before roles are known.

    Raises: UsageError for two faults at the same time that claim the same of a node that both are sure
    to hit, and for more than `most` nodes that are sure to be out at once.
    """
    for a, b in combinations(steps, 2):
        if a.n in b.follows or not _together(a, b):
            continue
        shared = families[a.family].claims & families[b.family].claims
        hit = _certain(a, families), _certain(b, families)
        both = [n for n in hit[0][0] if n in hit[1][0]]
        sure = bool(both) or hit[0][1] + hit[1][1] > nodes
        if shared and sure:
            where = both[0] if both else "a node"
            raise UsageError(
                f"{_words(a)} and {_words(b)} contradict each other: both take hold of {where} at"
                f" {max(a.at_s, b.at_s):g} s; let one end before the other begins, or hit other nodes"
            )
    for step in steps:
        at = [s for s in steps if _together(s, step) and s.at_s <= step.at_s]
        names = {n for s in at for n in _certain(s, families)[0]}
        if len(names) > most:
            raise UsageError(
                f"{count(len(names))} would be out at {step.at_s:g} s ({', '.join(sorted(names))}), where"
                f" schedule.down allows {most}; allow more, or let some come back before"
            )


def _certain(step: Step, families: Mapping[str, Family]) -> tuple[tuple[str, ...], int]:
    """The nodes that a step is sure to hit, and how many in any case."""
    names = by_name(step.target)
    if names is not None:
        return names, len(names)
    return (), families[step.family].reach(step.target)


def _together(a: Step, b: Step) -> bool:
    """Whether two steps are sure to overlap: of the same clock, and in force at the same time."""
    if a.group != b.group:
        return False
    return a.at_s < b.at_s + b.hold_s and b.at_s < a.at_s + a.hold_s


def _words(step: Step) -> str:
    return f"{step.family}:{step.target}"


def too_short(time_s: float, least: float, words: Iterable[str]) -> UsageError:
    """The refusal of a load in which not everything could occur."""
    names = list(words)
    each = f"each of {', '.join(names)}" if len(names) > 1 else names[0]
    return UsageError(
        f"time {time_s:g}s is too short for {each} to occur;"
        f" expected at least {int(least * 10 + 1) / 10:g}s, or fewer faults"
    )
