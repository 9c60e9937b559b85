"""A violation as the report needs it: the operations that a check named, found again in the history."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from results.report.data import Run, as_int, as_list
from results.report.html import json_text, op_text, outcome_names
from results.report.ops import INFO, OK, FullOp

SHOWN: Final = 20  # violations shown whole; the rest are named
_codes: Final = {name: code for code, name in outcome_names.items()}


class Shown(msgspec.Struct, kw_only=True):
    """An operation of a window, as far as history and verdict know it. Times in ns."""

    text: str
    outcome: int
    assumed: bool
    process: str = ""
    node: str = ""
    f: str = ""
    started: int | None = None
    ended: int | None = None
    invoke: int | None = None
    complete: int | None = None
    row: int | None = None
    error: str = ""
    ext: str = ""


class Case(msgspec.Struct, kw_only=True):
    """One violation with its operations found."""

    check: str
    key: Any
    kind: str
    explanation: str
    nodes: list[str]
    ops: list[Shown]

    @property
    def times(self) -> tuple[int, int] | None:
        """From the first invocation to the last completion, ns."""
        known = [t for op in self.ops for t in (op.started, op.ended) if t is not None]
        return (min(known), max(known)) if known else None

    def of_key(self, run: Run) -> list[FullOp]:
        """All operations of its key, in order; empty where they were not kept."""
        if run.ops is None:
            return []
        rows = {op.row for op in self.ops if op.row is not None}
        keys = {op.key for op in run.ops.full if op.row in rows}
        return [op for op in run.ops.full if op.key in keys]


def cases(run: Run) -> list[Case]:
    """The violations of a run, those that are shown whole."""
    by_index = {op.invoke: op for op in run.ops.full} if run.ops is not None else {}
    out = []
    for check, anomaly in run.anomalies[:SHOWN]:
        ops = [
            shown_op(given, by_index, assumed=assumed)
            for name, assumed in (("window", False), ("assumed", True))
            for given in as_list(anomaly.get(name))
            if isinstance(given, dict)
        ]
        seen: dict[int, Shown] = {}
        # An operation may be forced and assumed; forced says more.
        single = [op for op in ops if op.invoke is None or seen.setdefault(op.invoke, op) is op]
        out.append(
            Case(
                check=check,
                key=anomaly.get("key"),
                kind=str(anomaly.get("kind") or ""),
                explanation=str(anomaly.get("explanation") or "No explanation was given."),
                nodes=[str(n) for n in as_list(anomaly.get("nodes"))],
                ops=single,
            )
        )
    return out


def shown_op(given: dict[str, Any], by_index: dict[int, FullOp], *, assumed: bool) -> Shown:
    """An operation that a check named by its invocation's index, as the history has it; else as the check told it."""
    invoke = as_int(given.get("invoke"))
    op = by_index.get(invoke) if invoke is not None else None
    if op is not None:
        return Shown(
            text=op_text(op.f, op.asked, op.answered, op.outcome),
            outcome=op.outcome,
            assumed=assumed,
            process=str(op.process),
            node=op.node or "",
            f=op.f,
            started=op.started,
            ended=op.ended,
            invoke=op.invoke,
            complete=op.complete,
            row=op.row,
            error=op.error or "",
            ext=op.ext,
        )
    f = str(given.get("f") or "operation")
    asked = given.get("value", given.get("input"))
    answered = given.get("result", given.get("output"))
    outcome = _codes.get(
        str(given.get("type") or given.get("outcome")), OK if given.get("complete") else INFO
    )
    return Shown(
        text=op_text(f, json_text(asked), "" if answered is None else json_text(answered), outcome),
        outcome=outcome,
        assumed=assumed,
        process=str(given.get("process") if given.get("process") is not None else ""),
        node=str(given.get("node") or ""),
        f=f,
        started=as_int(given.get("start_ns", given.get("started"))),
        ended=as_int(given.get("end_ns", given.get("ended"))),
        invoke=invoke,
        complete=as_int(given.get("complete")),
        error=str(given.get("error") or ""),
    )


def in_order(op: Shown) -> tuple[int, int]:
    """Sorts operations by their invocation, those without one first."""
    first = op.invoke if op.invoke is not None else -1
    return first, op.complete if op.complete is not None else 2**62
