"""Histories and run directories made by hand, in seconds, for the checkers of whole runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.core.checker import CheckContext
from harness.core.fault import Evidence, Plan
from harness.core.history import History
from harness.core.ledger import Ledger
from harness.core.op import Op, OpType

Entry = tuple[float, float | None, str, OpType]  # invoked, completed, node, how


def ns(seconds: float) -> int:
    return round(seconds * 1e9)


def history(entries: Sequence[Entry], *, f: str = "write", final_from: float = float("inf")) -> History:
    """Each entry by a process of its own; invocations stand first where they tie."""
    events: list[tuple[int, int, Op]] = []
    for process, (begin, end, node, how) in enumerate(entries):
        ext = {"final": True} if begin >= final_from else None
        error = None if how == "ok" else "timeout"
        events.append((ns(begin), 0, Op(-1, ns(begin), process, "invoke", f, 1, None, node, None, ext)))
        if end is not None:
            events.append((ns(end), 1, Op(-1, ns(end), process, how, f, 1, None, node, error, ext)))
    events.sort(key=lambda e: e[:2])
    return History(msgspec.structs.replace(op, index=i) for i, (_, _, op) in enumerate(events))


def steady(node: str, begin: float, end: float, *, how: OpType = "ok", every: float = 0.1) -> list[Entry]:
    """An operation through `node` every so often, each takes 10 ms."""
    steps = round((end - begin) / every)
    return [(begin + i * every, begin + i * every + 0.01, node, how) for i in range(steps)]


def record(
    run_dir: Path,
    faults: Sequence[tuple[str, float | None, float | None, bool]],
    nodes: tuple[str, ...] = ("n1",),
    *,
    anew: float | None = None,
) -> None:
    """A ledger: (family, applied, undone, effective) each."""
    ledger = Ledger(run_dir / "faults.jsonl", "abc123")
    for n, (family, applied, undone, effective) in enumerate(faults, 1):
        plan = Plan(fault=f"f{n}", family=family, target="one", nodes=nodes, says="n1 was hit")
        ledger.plan(ns(applied or 0), plan, family, "x", "network")
        if applied is not None:
            ledger.note("applied", ns(applied), plan.fault)
            phase: Literal["during"] = "during"
            facts = {} if anew is None else {"anew": ns(anew)}
            found = Evidence(phase=phase, effect=effective, says="measured", facts=facts)
            ledger.evidence(ns(applied), plan.fault, found)
        if undone is not None:
            ledger.note("undone", ns(undone), plan.fault)
    ledger.close()


def journal(run_dir: Path, recover: float, final: float, silent: list[str]) -> None:
    """The lines of a journal that tell of its recovery, between others."""
    lines: list[dict[str, Any]] = [
        {"format": 1, "run": "abc123"},
        {"phase": "load", "time": 0},
        {"phase": "recover", "time": ns(recover)},
        {"phase": "final", "time": ns(final), "silent": silent, "behind": []},
        {"phase": "collect", "time": ns(final + 1)},
    ]
    (run_dir / "journal.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def context(run_dir: Path | None, made: History, spec: dict[str, Any] | None = None) -> CheckContext:
    return CheckContext(
        history_path=Path("history.jsonl"), history=lambda: made, run_dir=run_dir, spec=spec or {}
    )


def logged(run_dir: Path, *lines: tuple[float, str, str, str, int | None]) -> None:
    """What the logs say: (time, node, kind, text, term) each."""
    told = [
        {"time": ns(t), "node": n, "kind": k, "text": text, "term": term} for t, n, k, text, term in lines
    ]
    (run_dir / "events.jsonl").write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in told))
