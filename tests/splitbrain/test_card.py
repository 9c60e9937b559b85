"""The verdict card: glyph and word for every outcome, and nothing lost of what matters."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from splitbrain.card import print_anomalies, print_card, print_error
from splitbrain.launch import error_results

RESULTS: dict[str, Any] = {
    "format": 1,
    "verdict": "valid",
    "reason": "every read saw the newest value",
    "error": None,
    "ops": 6001,
    "seconds": 41.2,
    "seed": 7,
    "system": "etcd",
    "version": "3.6.16",
    "workload": "register",
    "provider": "netns",
    "nodes": 3,
    "command": "splitbrain run --seed 7 --opt 'etcd.binary=/a b/[red]etcd'",
    "faults": {"partition": {"applied": 3, "effective": 3, "overlapping_ops": 812}},
    "checks": {
        "linearizable": {
            "verdict": "valid",
            "reason": "60 keys",
            "seconds": 0.4,
            "engine": "porcupine",
            "anomalies": [],
        }
    },
    "meaning": {"vacuous": False, "rows": [{"what": "a", "value": "812", "needed": "20", "met": True}]},
    "warnings": ["lag was high"],
    "caveats": ["#14370"],
    "holes": [{"exception": "KeyError: 'kvs'", "count": 1, "traceback": "..."}],
    "leader_changes": 3,
}


def card(results: dict[str, Any], run_dir: Path | None = None, *, anomalies: bool = False) -> str:
    console = Console(width=120, record=True, markup=False, highlight=False)
    print_card(console, results, run_dir)
    if anomalies:
        print_anomalies(console, results)
    return console.export_text()


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, "✔ VALID"),
        ({"verdict": "invalid"}, "✘ INVALID"),
        ({"verdict": "unknown"}, "? UNKNOWN"),
        ({"verdict": "unknown", "error": "no room"}, "! ERROR"),
        ({"verdict": "invalid", "error": "no room"}, "✘ INVALID"),
    ],
)
def test_a_glyph_and_a_word(more: dict[str, Any], shown: str) -> None:
    assert shown in card({**RESULTS, **more})


def test_everything_that_matters_is_there(tmp_path: Path) -> None:
    (tmp_path / "report.html").touch()
    text = card(RESULTS, tmp_path)
    for part in (
        "every read saw the newest value",
        "etcd 3.6.16 · register · 3 nodes on netns · 6,001 operations · 41.2 s · 3 leader changes · seed 7",
        "✔ valid",
        "linearizable",
        "0.4 s, porcupine",
        "812",
        "! lag was high",
        "note: #14370",
        "KeyError: 'kvs'",
    ):
        assert part in text
    lines = text.splitlines()
    assert f"report  {tmp_path / 'report.html'}" in lines, "whole, on a line of its own, to be copied"
    assert f"repeat  {RESULTS['command']}" in lines


def test_a_fault_without_effect_stands_out() -> None:
    row = {"applied": 3, "effective": 0, "overlapping_ops": 1}
    assert "? 0" in card({**RESULTS, "faults": {"kill": row}})


def test_what_was_not_met_is_said() -> None:
    rows = [{"what": "operations overlapping kill", "value": "3", "needed": "20", "met": False}]
    text = card({**RESULTS, "verdict": "unknown", "meaning": {"vacuous": True, "rows": rows}})
    assert "not met: operations overlapping kill: 3, needed 20" in text


def test_an_error_object_makes_a_card() -> None:
    text = card(error_results("the disk is full"))
    assert text.count("the disk is full") == 1


def test_an_error_with_a_log_keeps_the_card_short() -> None:
    results = {**RESULTS, "verdict": "unknown", "reason": "error: n1 died", "error": "n1 died\n  panic: full"}
    assert "panic" not in card(results)
    assert "took effect" not in card(results)
    console = Console(width=120, record=True)
    print_error(console, results)
    assert "panic: full" in console.export_text()


def test_anomalies() -> None:
    window = [
        op(0, 1, f="write", value=[1, {"a": None}], process=3, node="n1", type="ok", result=None),
        op(2, 3, f="cas", value=[1, 2], process=3, node="n1", type="fail", error="mismatch", result=None),
        op(4, 5, f="read", value=None, process=4, node="n3", type="ok", result=None),
        op(6, None, f="read", value=None, process=5, node="n2", type="info", error="timeout"),
    ]
    anomaly = {
        "kind": "stale read",
        "key": "k1",
        "window": window,
        "explanation": "n3 answered 5, which had been overwritten",
        "assumed": [{"invoke": 2}],
    }
    checks = {
        "linearizable": {"verdict": "invalid", "reason": "1 key", "seconds": 0.1, "anomalies": [anomaly]}
    }
    text = card({**RESULTS, "verdict": "invalid", "checks": checks}, anomalies=True)
    for part in ('stale read, key "k1"', "n3 answered 5", "relies on 1 operation of unknown outcome"):
        assert part in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert '0.0000 0.0010 3 n1 write [1,{"a":null}] ● ok' in lines
    assert "0.0020 0.0030 3 n1 cas [1,2] ✕ fail mismatch" in lines
    assert "0.0040 0.0050 4 n3 read -> null ● ok" in lines
    assert "0.0060 5 n2 read ? info timeout" in lines


def test_a_long_window_is_cut_and_says_so() -> None:
    window = [op(i, i, f="read", value=None, type="ok", result=i, process=i) for i in range(100)]
    checks = {"linearizable": {"verdict": "invalid", "anomalies": [{"kind": "lost-write", "window": window}]}}
    text = card({**RESULTS, "verdict": "invalid", "checks": checks}, anomalies=True)
    assert "70 more, in results.json" in text


def op(start_ms: int, end_ms: int | None, **more: Any) -> dict[str, Any]:
    end_ns = None if end_ms is None else end_ms * 1_000_000
    return {
        "invoke": start_ms,
        "complete": end_ms,
        "start_ns": start_ms * 1_000_000,
        "end_ns": end_ns,
        **more,
    }


def test_observations_and_outages_are_told_plainly() -> None:
    told = [f"linearizable: stale-read: k{i}" for i in range(8)]
    out = {"overlapping_s": 8.0, "seconds": 20.0, "most": 2}
    text = card({**RESULTS, "observations": told, "outages": out})
    assert "observation: linearizable: stale-read: k0" in text
    assert "observation: and 3 more, in results.json" in text
    assert "k5" not in text
    assert "two or more outages at once for 40% of the time, at most 2 nodes out" in text
    assert "outages" not in card(RESULTS)
