"""Faults of processes in real runs of etcd."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.commands import lines, splitbrain

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def test_a_node_that_is_left_dead_comes_back_before_the_final_reads(tmp_path: Path) -> None:
    done = splitbrain(
        *("run", "--faults", "kill:one", "--opt", "kill.restart=false", "--time", "6s", "--seed", "3"),
        *("--no-admission", "--json", "--out", tmp_path),
    )
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    run_dir = Path(results["run"])
    journal = lines(run_dir / "journal.jsonl")
    phases = {line["phase"]: line["time"] for line in journal if "phase" in line}
    ledger = [line for line in lines(run_dir / "faults.jsonl") if line.get("fault") == "f1"]
    (undone,) = [line["time"] for line in ledger if line["event"] == "undone"]
    assert phases["heal"] <= undone <= phases["recover"]
    after = [line for line in ledger if line.get("phase") == "after"]
    assert [line["effect"] for line in after] == [False]
    assert results["checks"]["availability"]["verdict"] == "valid"


@pytest.mark.parametrize("provider", ["netns", pytest.param("docker", marks=pytest.mark.docker)])
def test_everything_that_can_befall_processes_is_survived_and_shows(tmp_path: Path, provider: str) -> None:
    families = ("kill", "pause", "terminate", "crash-loop", "cpu-pressure", "memory-pressure", "fd-limit")
    done = splitbrain(
        *("run", "--faults", ",".join(families), "--nodes", "5", "--time", "45s", "--seed", "6"),
        *("--provider", provider, "--no-admission", "--json", "--out", tmp_path),
        timeout_s=200,
    )
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    assert set(results["faults"]) == set(families)
    for name, family in results["faults"].items():
        assert family["effective"] == family["applied"] >= 1, name
    for line in lines(Path(results["run"]) / "faults.jsonl"):
        if line.get("phase") == "after":
            assert line["effect"] is False, line["says"]
