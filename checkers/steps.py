"""How far an order of a violating key gets: the operations as they may have taken effect, the state after each, and the
first that cannot follow.

For people, not for the verdict: that is the engine's. The key's operations, as the engine printed them, are walked
once more in Python, under a time limit; a key that is too large for that goes without.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from checkers.explain import text
from checkers.models import Model
from checkers.models.model import INCONSISTENT, Call, evidence, follow, started
from checkers.models.search import walk
from harness.core.history import identity

KEYS: Final = 20  # that are walked
_time_s: Final = 1.0  # for each of them
_total_s: Final = 5.0
_most: Final = 50_000  # configurations
_states: Final = 6  # that are named


def linearizations(lines: Sequence[Mapping[str, Any]], model: Model) -> list[dict[str, Any]]:
    """Of the first violating keys (the engine's lines, with `operations`): {"key", "initial", "order": [{"invoke",
    "state"}], "stuck", "could_be", "could_be_more"}; states as text. `stuck` is the `invoke` of the operation that
    fits no order, `could_be` what the object can have been by the time it returned."""
    deadline = time.monotonic() + _total_s
    found = []
    for line in lines[:KEYS]:
        if "operations" in line and not line.get("left_out") and time.monotonic() < deadline:
            steps = None
            with suppress(Exception):  # what only explains a verdict must not cost it
                steps = _steps(line["operations"], model, min(deadline, time.monotonic() + _time_s))
            if steps is not None:
                found.append({"key": line["key"], **steps})
    return found


def _steps(operations: Sequence[Mapping[str, Any]], model: Model, deadline: float) -> dict[str, Any] | None:
    calls: dict[int, Call] = {}
    events: list[tuple[int, int, bool]] = []
    for o in operations:
        kind, at, done = o["type"], o["invoke"], o["complete"]
        if o["f"] not in model.fs:
            return None
        if kind == "fail" and not evidence(model, o["f"], o.get("error")):
            continue
        known = kind == "ok" and done is not None
        result = identity(o["result"]) if known else None
        calls[at] = Call(o["f"], identity(o["value"]), result, known, o["process"], kind == "fail")
        events.append((at, at, False))
        if done is not None and kind in ("ok", "fail"):
            events.append((done, at, True))
    decided = walk(calls, sorted(events), model, deadline, _most)
    if decided.legal is not False:
        return None
    state: Any = started(model)
    steps, initial = [], told(state)
    for at in decided.order:
        state = follow(model, state, calls[at])
        if state is INCONSISTENT:
            return None
        steps.append({"invoke": at, "state": told(state)})
    could = list(dict.fromkeys(told(s) for s in decided.states))
    return {
        "initial": initial,
        "order": steps,
        "stuck": decided.stuck,
        "could_be": could[:_states],
        "could_be_more": max(len(could) - _states, 0),
    }


def told(state: Any) -> str:
    """A state as text: the JSON value that it stands for, where it stands for one.

    >>> told(None), told((1, ("bool", True))), told(frozenset({("a", 2)}))
    ('null', '[1,true]', '{"a":2}')
    """
    try:
        return text(_plain(state))
    except (TypeError, ValueError, msgspec.MsgspecError):
        return str(state)[:60]


def _plain(value: Any) -> Any:
    """Undo `identity`."""
    if isinstance(value, frozenset):
        if all(isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str) for x in value):
            return {name: _plain(member) for name, member in sorted(value, key=lambda x: x[0])}
        return sorted((_plain(x) for x in value), key=repr)
    if isinstance(value, tuple):
        return value[1] if len(value) == 2 and value[0] == "bool" else [_plain(x) for x in value]
    return value
