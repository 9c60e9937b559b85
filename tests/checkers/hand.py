"""Histories written out by hand, and random ones of a correct object in memory, for the checkers in Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.history import History, read_history
from harness.core.op import Op, OpType

MS = 10**6
_same = object()


class Did(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: invoked and completed at these ms (None: never), by a process of its own."""

    begin: float
    end: float | None
    f: str
    value: Any
    result: Any
    how: OpType
    node: str
    key: Any
    ext: dict[str, Any] | None


def did(
    f: str,
    value: Any,
    at: tuple[float, float | None],
    *,
    result: Any = _same,
    how: OpType = "ok",
    node: str = "n1",
    key: Any = "k",
    **ext: Any,
) -> Did:
    """`f` of `value` from `at[0]` to `at[1]` ms; the answer is what was asked unless said otherwise."""
    answer = value if result is _same else result
    return Did(
        begin=at[0],
        end=at[1],
        f=f,
        value=value,
        result=answer,
        how=how,
        node=node,
        key=key,
        ext=ext or None,
    )


def history(*ops: Did, faults: Sequence[float] = ()) -> History:
    """The operations in order of real time; invocations stand first where they tie."""
    events: list[tuple[float, int, Op]] = []
    for process, o in enumerate(ops):
        final = {"final": True} if o.ext and o.ext.get("final") else None
        asked = Op(-1, round(o.begin * MS), process, "invoke", o.f, o.value, o.key, o.node, None, final)
        events.append((o.begin, 0, asked))
        if o.end is not None:
            value = o.result if o.how == "ok" else o.value
            error = None if o.how == "ok" else "timeout"
            done = Op(-1, round(o.end * MS), process, o.how, o.f, value, o.key, o.node, error, o.ext)
            events.append((o.end, 1, done))
    events += [(at, 2, Op(-1, round(at * MS), "nemesis", "info", "kill", {"id": "f1"})) for at in faults]
    events.sort(key=lambda e: e[:2])
    return History(msgspec.structs.replace(op, index=i) for i, (_, _, op) in enumerate(events))


def context(made: History, run_dir: Path | None = None) -> CheckContext:
    return CheckContext(history_path=Path("history.jsonl"), history=lambda: made, run_dir=run_dir)


def same_from_disk(check: Callable[[History], Result], made: History, path: Path) -> None:
    """A history in memory and the same one in a file are judged alike."""
    path.write_bytes(b"".join(msgspec.json.encode(op) + b"\n" for op in made.ops))
    here, there = (msgspec.structs.replace(check(h), seconds=0) for h in (made, read_history(path)))
    assert here == there


def kinds(result: Result) -> list[str]:
    """The kinds of a result's anomalies; their form is looked at on the way."""
    for a in result.anomalies:
        sound(a)
    assert (result.verdict == "invalid") == bool(result.anomalies)
    assert result.reason
    return [a.kind for a in result.anomalies]


def sound(a: Anomaly) -> None:
    """An anomaly's form is the engine's."""
    members = {"invoke", "complete", "process", "f", "value", "result", "node", "type", "start_ns", "end_ns"}
    assert a.window
    assert all(o.keys() >= members for o in a.window)
    assert [o["invoke"] for o in a.window] == sorted({o["invoke"] for o in a.window})
    assert len(a.explanation) > 20
    assert a.nodes
    msgspec.json.encode(a)


Call = tuple[str, Any, Any]  # f, key, value
Effect = Callable[[str, Any, Any, str], tuple[Any, dict[str, Any]]]  # f, key, value, node -> answer, ext


def simulate(
    rng: random.Random,
    plan: Sequence[Call],
    effect: Effect,
    *,
    clients: int = 5,
    nodes: int = 3,
    info: float = 0.1,
    fail: float = 0.1,
    final: Sequence[Call] = (),
) -> list[Op]:
    """The events of `clients` at once on one object that does everything right.

    An operation takes effect at a moment between its call and its return; of those of unknown outcome
    some do, some never, some long after they were given up. `final` is read through every node.
    """
    out: list[Op] = []
    busy: dict[int, list[Any]] = {}  # client -> process, call, stage, fate, answer, ext, node
    left: list[list[Any]] = []  # given up, may still take effect
    processes = clients
    of = list(range(clients))
    todo = list(plan)

    def emit(
        process: int, kind: OpType, call: Call, value: Any, node: str, ext: dict[str, Any] | None
    ) -> None:
        n = len(out)
        error = "timeout" if kind in ("fail", "info") else None
        out.append(Op(n, n * 1000, process, kind, call[0], value, call[1], node, error, ext))

    while todo or busy:
        client = rng.randrange(clients)
        if left and rng.random() < 0.05:
            call, node = left.pop(rng.randrange(len(left)))
            effect(*call, node)
        if client not in busy:
            if not todo:
                client = rng.choice(list(busy))
            else:
                call, node = todo.pop(0), f"n{client % nodes + 1}"
                draw = rng.random()
                fate = "info" if draw < info else "fail" if draw < info + fail else "ok"
                emit(of[client], "invoke", call, call[2], node, None)
                busy[client] = [call, 0, fate, None, None, node]
                continue
        call, stage, fate, answer, ext, node = busy[client]
        if stage == 0:
            if fate == "ok" or (fate == "info" and rng.random() < 0.4):
                answer, ext = effect(*call, node)
            elif fate == "info" and rng.random() < 0.5:
                left.append([call, node])
            busy[client] = [call, 1, fate, answer, ext, node]
            continue
        del busy[client]
        if fate == "info" and rng.random() < 0.3:
            of[client], processes = processes, processes + 1  # never answered at all
            continue
        emit(of[client], fate, call, answer if fate == "ok" else call[2], node, ext if fate == "ok" else None)
        if fate == "info":
            of[client], processes = processes, processes + 1
    for n in range(nodes):
        for call in final:
            node = f"n{n + 1}"
            emit(processes, "invoke", call, call[2], node, {"final": True})
            answer, ext = effect(*call, node)
            emit(processes, "ok", call, answer, node, {**ext, "final": True})
    return out


def renumbered(events: Sequence[Op]) -> History:
    """A history of events that were moved or changed."""
    return History(msgspec.structs.replace(op, index=i, time=i * 1000) for i, op in enumerate(events))


def changed(events: Sequence[Op], position: int, value: Any) -> list[Op]:
    """The events with another value at `position`."""
    return [msgspec.structs.replace(op, value=value) if i == position else op for i, op in enumerate(events)]
