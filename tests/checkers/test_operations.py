"""Latencies, rates and errors as counted by hand; it accuses nobody, whatever the history holds."""

from __future__ import annotations

import random

import pytest

from checkers.operations import OPERATIONS, Operations
from harness.core.checker import Result
from tests.checkers.calls import Did, did, made
from tests.checkers.runs import context


def check(ops: list[Did]) -> Result:
    checker: Operations = OPERATIONS.load()({})
    return checker.check(context(None, made(ops)))


def test_an_empty_history() -> None:
    result = check([])
    assert result.verdict == "valid"
    assert result.detail["operations"] == 0


def test_only_final_reads() -> None:
    assert check([did("read", 0, 1, 1, final=True)]).detail == {"operations": 0, "final_reads": 1}


def test_counts_latencies_and_errors() -> None:
    ops = [did("read", i, i + 0.001 * (i + 1), i) for i in range(100)]  # 1, 2, ... 100 ms
    ops += [
        did("write", 50, 51, 200, 1, how="info"),
        did("write", 50, 51, 201, 1, how="info"),
        did("write", 50, 52, 202, 1, how="fail", error="held"),
        did("write", 50, None, 203, 1, how="info"),
        did("read", 110, 119, 204, final=True),
    ]
    result = check(ops)
    assert result.verdict == "valid"
    detail = result.detail
    assert (detail["operations"], detail["final_reads"]) == (104, 1)
    assert detail["latency_ms"]["p50"] == pytest.approx(50.5, abs=0.1)
    assert detail["latency_ms"]["p99"] == pytest.approx(99, abs=0.1)
    assert detail["latency_ms"]["max"] == pytest.approx(100, abs=0.001)
    assert detail["by_f"]["write"] == {"ok": 0, "fail": 1, "info": 3, "latency_ms": None}
    assert detail["by_f"]["read"]["ok"] == 100
    assert detail["seconds"] == pytest.approx(99.1)
    assert detail["rate"] == pytest.approx(104 / 99.1, abs=0.1)
    assert detail["errors"] == [
        {"error": "timeout", "f": "write", "type": "info", "count": 2},
        {"error": "held", "f": "write", "type": "fail", "count": 1},
        {"error": "no answer", "f": "write", "type": "info", "count": 1},
    ]
    assert "104 operations in 99.1 s" in result.reason


def test_whatever_the_history_holds() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        ops = [
            did(
                rng.choice(["read", "write"]),
                begin := rng.random(),
                begin + rng.random()
                if (how := rng.choice(["ok", "fail", "info"])) != "info" or rng.random() < 0.5
                else None,
                process,
                how=how,  # type: ignore[arg-type]
                final=rng.random() < 0.2,
            )
            for process in range(rng.randrange(1, 20))
        ]
        detail = check(ops).detail
        load = [o for o in ops if not o.final]
        assert detail["operations"] == len(load)
        if load:
            assert sum(d["ok"] + d["fail"] + d["info"] for d in detail["by_f"].values()) == len(load)
            assert sum(e["count"] for e in detail["errors"]) == sum(o.how != "ok" for o in load)
            took = sorted((o.end or 0) - o.begin for o in load if o.how == "ok")
            assert (detail["latency_ms"] or {}).get("max", 0) == pytest.approx(
                took[-1] / 1e6 if took else 0, abs=0.001
            )
