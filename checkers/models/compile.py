"""A model as a table: every state that can be reached, and where each distinct operation leads from it.

The engine takes such a table and decides at its own speed (knossos.model.memo does the same). No order of a key
takes more steps than the key has operations, so states further away than that are left out, and so is what
leads there. A table needs few states and few distinct operations; where there are more than `MOST_CELLS` of their
product, or more than `MOST_STATES` states, or it takes longer than `MOST_S`, there is none, and the model is
searched in Python (`checkers.models.search`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers.models.model import INCONSISTENT, Call, Model, follow, started
from harness.core.history import OK, History, identity

MOST_STATES: Final = 20_000
MOST_CELLS: Final = 2_000_000
MOST_S: Final = 5.0


class Operation(msgspec.Struct, frozen=True):
    """One distinct operation, with its values as they stand in the history. `result` counts if `known`."""

    f: str
    value: Any
    result: Any
    known: bool

    def call(self) -> Call:
        """As the model sees it; a table knows nothing of processes."""
        return Call(self.f, identity(self.value), identity(self.result), self.known, None)


def operations(history: History) -> list[Operation]:
    """The distinct operations of a history, in order of appearance; those that failed say nothing."""
    found: dict[Any, Operation] = {}
    pair, types, ops = history.pair, history.type, history.ops
    for at in history.invocations().tolist():
        asked, partner = ops[at], int(pair[at])
        kind = int(types[partner]) if partner >= 0 else -1
        if kind == OK:
            op = Operation(asked.f, asked.value, ops[partner].value, known=True)
        elif partner >= 0 and ops[partner].type == "fail":
            continue
        else:
            op = Operation(asked.f, asked.value, None, known=False)
        found.setdefault((op.f, identity(op.value), identity(op.result), op.known), op)
    return list(found.values())


def compile_table(model: Model, wanted: Iterable[Operation], steps: int) -> dict[str, Any] | None:
    """The table as the engine takes it (docs/engine.md), or None where it would be too large. No key has more
    than `steps` operations."""
    distinct = list(wanted)
    calls = [op.call() for op in distinct]
    first = started(model)
    number = {first: 0}
    todo = deque([(first, 0)])
    rows: list[list[int]] = []  # by state, by operation
    deadline = time.monotonic() + MOST_S
    while todo:
        state, far = todo.popleft()
        row = []
        for call in calls:
            after = follow(model, state, call)
            if after is INCONSISTENT or (far == steps and after not in number):
                row.append(-1)
                continue
            if after not in number:
                number[after] = len(number)
                todo.append((after, far + 1))
            row.append(number[after])
        rows.append(row)
        if len(number) > MOST_STATES or len(number) * max(1, len(calls)) > MOST_CELLS:
            return None
        if time.monotonic() > deadline:
            return None
    return {
        "model": model.name,
        "fs": sorted(model.fs),
        "states": len(number),
        "initial": 0,
        "ops": [{"f": o.f, "value": o.value, "result": o.result, "known": o.known} for o in distinct],
        "next": [[row[n] for row in rows] for n in range(len(calls))],
    }


def write_table(table: dict[str, Any], path: Path) -> None:
    """Write it for the engine."""
    path.write_bytes(msgspec.json.encode(table))
