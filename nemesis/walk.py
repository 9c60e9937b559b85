"""Walks: each node is up, or in the state that one family puts it into; a step moves one node.

    walk:kill+pause+partition      up, dead, paused or isolated

Operations run between the steps, and at any time at most `most` nodes are other than up. Outages
overlap in every order so: a node comes back while another goes, which one fault after the other never
shows, and which several published losses of data need. The last phase heals everything.

New states come from shuffled rounds of the families, so that after any number of moves no two differ by
more than one; as long as one has not occurred as often as asked for, no node just comes back. From then
on a walk that has room for another outage makes one in three cases of four; of the rest, and where there
is no room, half bring a node back and half move one from one state to another. In the long run over half
of the time is spent at the bound.

A node that comes out of a state in which its processes died is given the time to start (`settle_s`) before it is
moved to the next: of what is still starting nothing could be seen, and a death would be none of a running system.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from harness.core.seeds import stream
from nemesis.families import too_short
from nemesis.schedule import QUIET_S, Step, rounds

_FIRST: Final = (0.6, 0.9)  # of a step's length: operations run before the first move as well
_VARY: Final = (0.7, 1.3)
_SHRINK: Final = 1 / 3
_DOWN: Final = 0.75
_PATIENCE: Final = 4  # times that a node takes to start until it is waited for no more


def walk(
    families: Sequence[str],
    nodes: Sequence[str],
    most: int,
    time_s: float,
    seed: int,
    *,
    step_s: float,
    least: int = 1,
    settle_s: float = 0.0,
    restarts: Collection[str] = (),
) -> tuple[Step, ...]:
    """The steps of a walk within `time_s` of load; a node's state is a step with the node as its target.

    Moves are `step_s` apart in the mean; all times shrink together where the families would not all
    occur `least` times otherwise. Only `settle_s` does not shrink: as long at least passes from the end of one of
    `restarts` to the next state of the same node; and that waits for longer if the node does not serve by then, as
    also after a state in which it lost the others.

    Raises: UsageError when the time is too short for that.
    """
    wanted = len(families) * least
    # A family that comes twice in a row may have to be healed in between, which is a move as well.
    heals = least - 1 if len(families) > 1 else wanted
    longest = _FIRST[1] * step_s + (wanted + heals) * _VARY[1] * step_s + QUIET_S
    settling_s = settle_s * least * len(set(families) & set(restarts))
    scale = min(1.0, (time_s - settling_s) / longest)
    if scale < _SHRINK:
        raise too_short(time_s, settling_s + longest * _SHRINK, families)
    step_s *= scale
    times, moves = stream(seed, "nemesis", "times"), stream(seed, "nemesis", "walk")
    deck = rounds(list(families), stream(seed, "nemesis", "order"))
    family = next(deck)
    begun: list[tuple[float, str, str, tuple[int, ...]]] = []  # when, family, node, which ones it follows
    ended: dict[int, float] = {}
    latest: dict[str, int] = {}  # node -> the place in `begun` of the last state that it had
    now: dict[str, int] = {}  # node other than up -> the place in `begun` of its state
    end = time_s - scale * QUIET_S
    at = times.uniform(*_FIRST) * step_s
    while at <= end - _VARY[0] * step_s:
        node = _move(moves, now, nodes, most, first=len(begun) < wanted)
        if node is not None and node in now and begun[now[node]][1] == family:
            others = [n for n in now if begun[now[n]][1] != family]
            node = moves.choice(others) if others else None
        if node is None:
            ended[now.pop(moves.choice(list(now)))] = at
        else:
            if node in now:
                ended[now[node]] = at
            # Also where it is up for a while in between: of two that are late the second must not go first.
            before: tuple[int, ...] = (latest[node],) if node in latest else ()
            if settle_s:
                if node not in now:
                    # Nobody overtakes a node that is waited for: what is planned for it would find no room any more.
                    before = tuple(sorted(place for n, place in latest.items() if n not in now))
                last = latest.get(node)
                if last is not None and begun[last][1] in restarts:
                    at = max(at, ended[last] + settle_s)
                if at > end - _VARY[0] * step_s:
                    break
            now[node] = latest[node] = len(begun)
            begun.append((at, family, node, before))
            family = next(deck)
        at += times.uniform(*_VARY) * step_s
    steps = []
    for i, (begin, family, node, before) in enumerate(begun):
        hold = ended.get(i, end) - begin
        follows = tuple(place + 1 for place in before)
        waits = _PATIENCE * settle_s if any(begun[place][2] == node for place in before) else 0.0
        steps.append(Step(i + 1, round(begin, 3), round(hold, 3), family, node, follows, settle_s=waits))
    return tuple(steps)


def _move(rng: Random, now: dict[str, int], nodes: Sequence[str], most: int, *, first: bool) -> str | None:
    """The node that gets a new state, or None where one is to be healed."""
    up = [n for n in nodes if n not in now]
    if not now or (len(now) < most and (first or rng.random() < _DOWN)):
        return rng.choice(up)
    return rng.choice(list(now)) if first or rng.random() < 0.5 else None
