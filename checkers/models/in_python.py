"""The verdict of a history by a model that is searched in Python, key by key, each under a time limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from checkers._windows import window
from checkers.models.model import Model
from checkers.models.search import search
from checkers.witness import verify
from harness.core.checker import Anomaly, CheckContext, Result, Verdict, worst
from harness.core.history import History

_window: Final = 16  # completed operations shown of an illegal prefix


def decide(ctx: CheckContext, model: Model, *, time_s: float, key_time_s: float) -> Result:
    """Decide every key; the small ones first, so that one that takes all the time costs the fewest others."""
    began = time.monotonic()
    history = ctx.history()
    verdicts: list[Verdict] = []
    anomalies: list[Anomaly] = []
    undecided: list[Any] = []
    by_key = sorted(history.by_key().values(), key=len)
    for number, of_key in enumerate(by_key, 1):
        now = time.monotonic()
        found = search(history, of_key, model, min(began + time_s, now + key_time_s))
        key = history.ops[of_key[0]].key
        if found.legal and verify(history, of_key, found.order, model) is None:
            verdicts.append("valid")
        elif found.legal is False:
            verdicts.append("invalid")
            anomalies.append(_anomaly(history, of_key, found.stuck, model))
        else:
            verdicts.append("unknown")
            undecided.append(key)
        ctx.progress(number, len(by_key))
    how = f"the states of {model.name} are too many for a table, so it was searched in Python"
    if anomalies:
        reason = anomalies[0].explanation
    elif undecided:
        reason = (
            f"{len(undecided)} of {len(by_key)} keys could not be decided ({how});"
            f" raise it with --opt linearizable.key_time_s={key_time_s * 2:g}, or make the model's states fewer"
        )
    else:
        reason = f"every one of {len(by_key)} keys has an order that fits all answers ({how})"
    if not verdicts:
        reason = "the history holds no operation of a client, so there is nothing to decide"
    return Result(
        verdict=worst(verdicts) if verdicts else "unknown",
        reason=reason,
        seconds=time.monotonic() - began,
        engine="python",
        anomalies=anomalies,
        detail={"model": model.name, "keys": len(by_key), "ops": int(history.invocations().size)},
    )


def _anomaly(history: History, of_key: Sequence[int], stuck: int, model: Model) -> Anomaly:
    """The last operations up to the return that fits no order."""
    pair = history.pair
    end = int(pair[stuck])
    done = sorted((at for at in of_key if 0 <= pair[at] <= end), key=lambda at: int(pair[at]))
    asked, answer = history.ops[stuck], history.ops[end]
    who = f"{asked.f} by process {asked.process}" + (f" on {asked.node}" if asked.node else "")
    return Anomaly(
        kind="no-order",
        key=asked.key,
        window=window(history, done[-_window:]),
        explanation=(
            f"{who} returned {answer.value!r} at {answer.time / 1e9:.6f} s, but no order of the first {len(done)}"
            f" completed operations on this key fits the model {model.name}; without this last one there is an order"
        ),
        nodes=[asked.node] if asked.node else [],
    )
