"""Property `unique-ids`: no id is handed out twice.

Each key is a generator of ids, any JSON value each, compared as JSON tells values apart: 1, true and
"1" are three ids. Whether two generations overlap does not matter: no order of them excuses the same id
(`duplicate`). An id in an answer that never came is not seen, and neither is whether ids grow. O(n);
memory linear in the ids.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from checkers._windows import anomaly, judged, more, of, operation, settle, summary
from checkers.explain import Clock, count, text, who
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor

UNIQUE_IDS: Final = Descriptor(
    name="unique-ids",
    summary="no id is handed out twice",
    target="checkers.unique_ids:UniqueIds",
)


class _Row(msgspec.Struct, gc=False):
    value: Any
    key: Any = None


class _Twice(msgspec.Struct):
    """The first id of a generator that came again, by the positions of both answers."""

    first: int
    again: int
    more: int = 0


class UniqueIds:
    """The checker."""

    name = "unique-ids"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError, since it has no options."""
        settle(options, "unique-ids", ())

    def check(self, ctx: CheckContext) -> Result:
        """Decide every generator."""
        import numpy as np

        from harness.core.history import OK, History, identity

        history: History = ctx.history()
        began = time.monotonic()
        names = {name: code for code, name in enumerate(history.f_names)}
        answers = history.client & (history.type == OK) & (history.f == names.get("generate", -1))
        generators: dict[Any, tuple[Any, dict[Any, int]]] = {}
        twice: dict[Any, _Twice] = {}
        for position, (row, answer) in enumerate(zip(history.rows(_Row), answers.tobytes(), strict=True)):
            if not answer:
                continue
            key = identity(row.key)
            if key not in generators:
                generators[key] = (row.key, {})
            value = row.value if type(row.value) is int or type(row.value) is str else identity(row.value)
            first = generators[key][1].setdefault(value, position)
            if first != position:
                if key in twice:
                    twice[key].more += 1
                else:
                    twice[key] = _Twice(first, position)
        found = sorted(twice.items(), key=lambda x: x[1].again)
        anomalies = [_anomaly(history, generators[key][0], t) for key, t in found]
        ids = int(np.count_nonzero(answers))
        trouble = None if ids else "no id was generated, so there is nothing that could occur twice"
        return Result(
            verdict=judged(anomalies, trouble),
            reason=summary(anomalies) if anomalies else trouble or f"{count(ids, 'id')}, none of them twice",
            seconds=time.monotonic() - began,
            anomalies=anomalies,
            detail={"ids": ids, "duplicates": sum(1 + t.more for t in twice.values())},
        )


def _anomaly(history: Any, key: Any, t: _Twice) -> Anomaly:
    positions = [int(history.pair[t.first]), int(history.pair[t.again])]
    one, two = (operation(history, p) for p in positions)
    clock = Clock([one, two])
    said = (
        f"the id {text(one['result'])}{of(key)} was handed to {who(one)} at {clock(one['end_ns'])} and to"
        f" {who(two)} at {clock(two['end_ns'])}"
    )
    return anomaly(history, "duplicate", key, positions, said + more(t.more, "repetition"))
