"""Deciding a key by a model whose states are too many for a table: in Python, and so for small keys.

The just-in-time linearization of Lowe (Testing for linearizability, 2017): event by event, all
configurations (state, which open operations have taken effect) that can be right; when an operation
returns, those remain in which it has taken effect. Exact, and exponential in the open operations.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from checkers.models.model import INCONSISTENT, Call, Model, evidence, follow, started
from harness.core.history import FAIL, OK, History, identity

_look = 256  # configurations between two looks at the clock


class Decided(msgspec.Struct, frozen=True):
    """`legal` None: out of time or room. `order` of a legal one: positions of invocations. `stuck` of an
    illegal one: the invocation whose return fits no order; all before it do, of which `order` is one, and
    `states` are all that the object could have been in until it returned."""

    legal: bool | None
    order: list[int] = []
    stuck: int = -1
    states: list[Any] = []


class _Path:
    """What took effect, the last first."""

    __slots__ = ("at", "before")

    def __init__(self, before: _Path | None, at: int) -> None:
        self.before, self.at = before, at


def search(
    history: History, of_key: Sequence[int], model: Model, deadline: float, most: int = 200_000
) -> Decided:
    """Decide one key, until `deadline` (of time.monotonic) and with at most `most` configurations."""
    return walk(*_events(history, of_key, model), model, deadline, most)


def walk(
    calls: Mapping[int, Call],
    events: Sequence[tuple[int, int, bool]],
    model: Model,
    deadline: float,
    most: int = 200_000,
) -> Decided:
    """Decide calls by their places; `events` are (order, place, whether it returns), in order."""
    now: dict[tuple[Any, frozenset[int]], _Path | None] = {(started(model), frozenset()): None}
    pending: set[int] = set()
    for _, at, returns in events:
        if not returns:
            pending.add(at)
            continue
        kept: dict[tuple[Any, frozenset[int]], _Path | None] = {}
        todo = list(now.items())
        seen = set(now)
        steps = 0
        while todo:
            (state, done), path = todo.pop()
            if at in done:
                kept.setdefault((state, done - {at}), path)
                continue
            for other in pending - done:
                after = follow(model, state, calls[other])
                entry = (after, done | {other})
                if after is INCONSISTENT or entry in seen:
                    continue
                seen.add(entry)
                todo.append((entry, _Path(path, other)))
            steps += 1
            if len(seen) > most or (steps % _look == 0 and time.monotonic() > deadline):
                return Decided(legal=None)
        if not kept:
            before = max(now.items(), key=lambda entry: len(entry[0][1]))[1]
            states = list(dict.fromkeys(state for state, _ in seen))
            return Decided(legal=False, stuck=at, order=_order(before), states=states)
        pending.discard(at)
        now = kept
    return Decided(legal=True, order=_order(next(iter(now.values()))))


def _order(path: _Path | None) -> list[int]:
    order = []
    while path is not None:
        order.append(path.at)
        path = path.before
    return order[::-1]


def _events(
    history: History, of_key: Sequence[int], model: Model
) -> tuple[dict[int, Call], list[tuple[int, int, bool]]]:
    """Calls by position of their invocation, and (line, position, whether it returns) in order."""
    calls: dict[int, Call] = {}
    events: list[tuple[int, int, bool]] = []
    for at in of_key:
        asked, partner = history.ops[at], int(history.pair[at])
        kind = int(history.type[partner]) if partner >= 0 else -1
        done = history.ops[partner] if partner >= 0 else None
        if kind == FAIL and (done is None or not evidence(model, asked.f, done.error)):
            continue
        result = identity(done.value) if done is not None and kind == OK else None
        calls[at] = Call(asked.f, identity(asked.value), result, kind == OK, asked.process, kind == FAIL)
        events.append((at, at, False))
        if kind in (OK, FAIL):
            events.append((partner, at, True))
    events.sort()
    return calls, events
