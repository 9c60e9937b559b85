"""What is found beyond a system's promises is an observation; what was found before, or under it, is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from checkers._beyond import beyond, labelled, not_made, out_at_once
from harness.core.checker import Anomaly, Result
from harness.core.fault import Plan
from harness.core.ledger import FaultRecord, Ledger, read_faults
from tests.checkers.runs import context, history, ns

LINEARIZABLE = {"prop": "linearizable", "families": ["kill", "partition"], "most": "all"}
AVAILABLE = {"prop": "availability", "families": ["kill", "partition"], "most": "minority"}


def ledger(run_dir: Path, *faults: tuple[str, str, float, float | None]) -> list[FaultRecord]:
    """(family, nodes, applied, undone) each; a family with a `!` has nobody out."""
    file = Ledger(run_dir / "faults.jsonl", "abc123")
    for n, (family, nodes, applied, undone) in enumerate(faults, 1):
        plan = Plan(
            fault=f"f{n}",
            family=family.strip("!"),
            target="one",
            nodes=tuple(nodes.split()),
            says="hit",
            down=() if family.endswith("!") else None,
        )
        file.plan(ns(applied - 1), plan, family, "x", "network")
        file.note("applied", ns(applied), plan.fault)
        if undone is not None:
            file.note("undone", ns(undone), plan.fault)
    file.close()
    return read_faults(run_dir / "faults.jsonl")


def found(*ends: float | None) -> Result:
    """A violation whose window ends at each of `ends`; None for a window without operations."""
    anomalies = [
        Anomaly(
            kind="stale-read",
            key=f"k{i}",
            window=[]
            if end is None
            else [{"start_ns": ns(1), "end_ns": None}, {"start_ns": 0, "end_ns": ns(end)}],
            explanation=f"k{i} was stale",
        )
        for i, end in enumerate(ends)
    ]
    return Result(verdict="invalid", reason="k0 was stale", anomalies=anomalies, detail={"unknown_keys": 0})


def label(run_dir: Path | None, result: Result, name: str = "linearizable", **spec: Any) -> Result:
    promises = {"promises": [LINEARIZABLE, AVAILABLE], "nodes": 5}
    return labelled(result, context(run_dir, history([]), promises | spec), name)


def test_after_a_family_that_nobody_promised(tmp_path: Path) -> None:
    ledger(tmp_path, ("kill", "n1", 2, 3), ("wipe", "n2", 5.5, 6))
    later = label(tmp_path, found(5, 9))  # it took effect while it was still being applied
    assert (later.verdict, later.anomalies) == ("valid", [])
    assert later.reason == (
        "observation: k0 was stale, after what the system does not promise to survive: wipe"
    )
    assert len(later.detail["observations"]) == len(later.detail["observed_anomalies"]) == 2
    both = label(tmp_path, found(9, 4))
    assert both.verdict == "invalid"
    assert [a.key for a in both.anomalies] == ["k1"]
    assert both.reason.startswith("k1 was stale; 1 more findings are observations")
    before = found(4)
    assert label(tmp_path, before) is before
    assert label(tmp_path, found(None)).verdict == "invalid", "nobody knows when that was"


def test_what_was_left_undecided_stays_unknown(tmp_path: Path) -> None:
    ledger(tmp_path, ("wipe", "n2", 5, 6))
    result = found(9)
    result.detail["unknown_keys"] = 2
    assert label(tmp_path, result).verdict == "unknown"


def test_what_is_promised_is_judged(tmp_path: Path) -> None:
    ledger(tmp_path, ("kill", "n1 n2 n3 n4 n5", 2, 3))
    assert label(tmp_path, found(9)).verdict == "invalid", "safety holds however many are gone"
    ledger(tmp_path, ("wipe", "n2", 5, 6))
    assert label(None, found(9)).verdict == "invalid", "a bare history is nobody's"
    assert label(tmp_path, found(9), promises=None).verdict == "invalid"
    assert label(tmp_path, found(9), "terms").verdict == "invalid", "it has told them apart by itself"


@pytest.mark.parametrize(
    ("faults", "until", "out"),
    [
        ([("kill", "n1 n2", 1, 3), ("partition", "n3", 2, 4)], 9, "n1 n2 n3"),
        ([("kill", "n1 n2", 1, 3), ("partition", "n3", 2, 4)], 1.5, "n1 n2"),
        ([("kill", "n1 n2", 1, 3), ("partition", "n3", 3, 4)], 9, "n1 n2"),  # one goes as the others come
        ([("kill", "n1", 1, None), ("kill", "n2", 7, 8), ("partition", "n1", 7, 8)], 9, "n1 n2"),
        ([("kill", "n1", 1, 3), ("partition!", "n2 n3 n4", 2, 4)], 9, "n1"),  # a ring has nobody out
        ([], 9, ""),
    ],
)
def test_faults_in_sum(tmp_path: Path, faults: list[Any], until: float, out: str) -> None:
    records = ledger(tmp_path, *faults)
    assert sorted(out_at_once(records, ns(until))) == out.split()
    past = beyond(records, {"promises": [AVAILABLE], "nodes": 5}, ns(until), "availability")
    assert past == (["3 of 5 nodes out at once"] if len(out.split()) > 2 else [])
    assert not beyond(records, {"promises": [LINEARIZABLE], "nodes": 5}, ns(until), "linearizable")


def test_a_promise_that_is_not_made_is_a_note_only() -> None:
    spec = {"promises": [{**LINEARIZABLE, "unless": {"reads": "serializable"}}]}
    (note,) = not_made(spec, {"reads": "serializable"}, "etcd")
    assert (
        note == "etcd does not promise to be linearizable with reads=serializable; it is judged as if it did"
    )
    assert not not_made(spec, {"reads": "linearizable"}, "etcd")
