"""A run of NATS from beginning to end: short in every `make test`, longer and of each workload in `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.commands import Done, lines, splitbrain

pytestmark = pytest.mark.netns


def run(out: Path, workload: str, *more: object, timeout_s: float = 300) -> Done:
    words = ("run", "--system", "nats", "--workload", workload, "--out", out, "--json", "--seed", 7)
    return splitbrain(*words, *more, timeout_s=timeout_s)


def test_a_log_survives_a_kill(out: Path) -> None:
    done = run(out, "log", "--faults", "kill:n3", "--time", "5s")
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    assert results["holes"] == []
    assert results["checks"]["log"]["verdict"] == "valid"
    assert results["faults"]["kill"]["effective"] == 1
    told = {e["kind"] for e in lines(Path(results["run"]) / "events.jsonl") if "kind" in e}
    assert {"start", "election"} <= told
    seen = [e for e in lines(Path(results["run"]) / "monitor.jsonl") if e.get("role") == "leader"]
    assert seen


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["register", "set", "counter", "log", "queue"])
def test_each_workload_under_faults(out: Path, workload: str) -> None:
    done = run(out, workload, "--faults", "partition,kill,pause", "--time", "45s")
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]
    assert done.results["holes"] == []


@pytest.mark.slow
def test_lazy_syncing_loses_acknowledged_messages_in_a_power_loss(out: Path) -> None:
    """The known bad option."""
    more = ("--opt", "sync_interval=2m", "--expect", "invalid")
    done = run(out, "log", "--faults", "power-loss:all", "--time", "30s", *more)
    assert done.code == 0, done.results["reason"]
    assert done.results["checks"]["log"]["anomalies"][0]["kind"] == "lost"
