"""The independent verifier: an order of a key's operations is a witness, or is none, and why.

A history is linearizable if for each key there is an order that fits real time, in which each operation
answers what the object would, with every acknowledged operation in it and none twice. The engine finds
orders; this looks at them with nothing of the engine's but the order itself, and with the models of
`checkers.models`. O(n).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers.models.model import INCONSISTENT, Call, Model, evidence, follow, several, started
from harness.core.errors import UsageError
from harness.core.history import FAIL, INFO, OK, History, identity

_shown: Final = 5  # problems that one sentence names


def check_witnesses(
    history: History,
    path: Path,
    model: Model,
    *,
    keys: Iterable[Any] | None = None,
) -> list[str]:
    """What is wrong with the orders in `path` (one line `{"key": K, "order": [INVOKE, ...]}` a key).

    Every key of the history needs one, or each of `keys`. Empty when all of them are witnesses.

    Raises: UsageError for a file that cannot be read.
    """
    ops = history.ops
    places: dict[int, int] = {}  # `index` of an invocation -> its position
    left: dict[Any, tuple[Any, list[int]]] = {}
    for at in history.invocations().tolist():
        op = ops[at]
        places[op.index] = at
        left.setdefault(identity(op.key), (op.key, []))[1].append(at)
    problems: list[str] = []
    try:
        with path.open("rb") as lines:
            for line in lines:
                given = msgspec.json.decode(line)
                key = given["key"]
                entry = left.pop(identity(key), None)
                if entry is None:
                    problems.append(f"key {key!r}: not a key of the history, or given twice")
                    continue
                order = [places.get(index, -1) for index in given["order"]]
                problem = verify(history, entry[1], order, model)
                if problem is not None:
                    problems.append(f"key {key!r}: {problem}")
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}; expected the file of a witness") from None
    needed = left if keys is None else {identity(key) for key in keys} & left.keys()
    problems += [f"key {left[name][0]!r}: no order is given" for name in needed]
    return problems


def sentence(problems: Sequence[str]) -> str:
    """The first problems, and how many more there are."""
    more = len(problems) - _shown
    return "; ".join(problems[:_shown]) + (f"; and {more} more" if more > 0 else "")


def verify(history: History, of_key: Iterable[int], order: Sequence[int], model: Model) -> str | None:
    """Why `order` is no witness for the operations `of_key`, or None; operations by place of their call."""
    ops, pair, types = history.ops, history.pair, history.type
    left = set(of_key)
    state: Any = started(model)
    step = follow if several(model) else type(model).step
    latest = -1
    for at in order:
        if at not in left:
            return f"the operation called at place {at} is of another key, or stands twice"
        left.remove(at)
        asked, partner = ops[at], int(pair[at])
        outcome = int(types[partner]) if partner >= 0 else INFO
        latest = max(latest, at)
        if outcome != INFO and partner < latest:
            return f"{_who(asked)} had completed before one that stands ahead of it was called"
        result = None
        if outcome == OK:
            result = identity(ops[partner].value)
        elif outcome == FAIL and not evidence(model, asked.f, ops[partner].error):
            return f"{_who(asked)} failed, so it did not take effect"
        if asked.f not in model.fs:
            return f"{_who(asked)} is no operation of the model {model.name}"
        call = Call(asked.f, identity(asked.value), result, outcome == OK, asked.process, outcome == FAIL)
        state = step(model, state, call)
        if state is INCONSISTENT:
            return f"{_who(asked)} did not meet what it says"
    for at in left:
        asked, partner = ops[at], int(pair[at])
        if partner < 0 or types[partner] == INFO:
            continue
        if types[partner] == OK or evidence(model, asked.f, ops[partner].error):
            return f"{_who(asked)} is missing from the order"
    return None


def _who(op: Any) -> str:
    return f"{op.f} of line {op.index + 1} by process {op.process}"
