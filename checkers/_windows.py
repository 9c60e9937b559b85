"""What the checkers written in Python share: operations as `window` shows them, refusals, closing reads.

A window's operations have the members that the engine gives them (docs/engine.md), so that one report
shows both. What a checker cannot take, a read whose result is no list, is refused with the line's
number: a history that breaks its format is nobody's violation, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from checkers.explain import text, who
from harness.core.checker import Anomaly, CheckContext, Verdict
from harness.core.errors import HistoryError

if TYPE_CHECKING:
    from harness.core.history import History

Operation = dict[str, Any]


def operation(history: History, position: int) -> Operation:
    """The operation invoked at `position`; one that never completed is as good as `info`."""
    asked, done = history.ops[position], history.completion(position)
    out: Operation = {
        "invoke": asked.index,
        "complete": done.index if done else None,
        "process": asked.process,
        "f": asked.f,
        "key": asked.key,
        "value": asked.value,
        "result": done.value if done and done.type == "ok" else None,
        "node": asked.node,
        "type": done.type if done else "info",
        "start_ns": asked.time,
        "end_ns": done.time if done else None,
    }
    if done and done.error is not None:
        out["error"] = done.error
    if done and done.ext and "revision" in done.ext:
        out["revision"] = done.ext["revision"]
    return out


def window(history: History, positions: Iterable[int]) -> list[Operation]:
    """The operations invoked at `positions`, each once, in order of real time."""
    return [operation(history, p) for p in sorted(set(positions))]


def anomaly(
    history: History,
    kind: str,
    key: Any,
    positions: Iterable[int],
    explanation: str,
    nodes: Sequence[str] = (),
) -> Anomaly:
    """An anomaly over the operations invoked at `positions`; `nodes` are named before the window's."""
    shown = window(history, positions)
    named = dict.fromkeys(n for n in (*nodes, *(o["node"] for o in shown)) if n)
    return Anomaly(kind=kind, key=key, window=shown, explanation=explanation, nodes=list(named))


def of(key: Any) -> str:
    """` of s0`, or nothing where there is only one object."""
    return "" if key is None else f" of {text(key, bare=True)}"


def by(o: Operation) -> str:
    """`read by process 7 on n2`."""
    return f"{o['f']} by {who(o)}"


def more(n: int, what: str) -> str:
    """The end of a sentence that showed one of several."""
    return f" (and {n} more {what}{'' if n == 1 else 's'})" if n > 0 else ""


def malformed(ctx: CheckContext, position: int, problem: str) -> HistoryError:
    """The refusal of the event at `position`."""
    return HistoryError(ctx.history_path, position + 1, problem)


def last_fault(history: History) -> int:
    """The position of the nemesis' last event, or -1: what is asked after it sees what faults left."""
    import numpy as np

    found = np.flatnonzero(~history.client)
    return int(found[-1]) if len(found) else -1


def summary(anomalies: Sequence[Anomaly]) -> str:
    """The reason of an invalid verdict: the first anomaly, and how many more keys are in violation."""
    keys = len({text(a.key) for a in anomalies}) - 1
    return anomalies[0].explanation + (f" (and {keys} more {'key' if keys == 1 else 'keys'})" if keys else "")


def settle(given: Mapping[str, Any] | None, owner: str, declared: Iterable[Any]) -> dict[str, Any]:
    """A checker's options, every one with a value.

    Raises: UsageError for an option that does not exist or a value out of range.
    """
    from harness.core.options import resolve

    return resolve(given or {}, {owner: declared})[owner]


def judged(anomalies: Sequence[Anomaly], trouble: str | None) -> Verdict:
    """The verdict: a violation outranks what was not seen, that outranks everything being in order."""
    return "invalid" if anomalies else "unknown" if trouble else "valid"
