"""PySyncObj on real nodes: it holds under faults, its known bug and its known-bad options are found, and a node that
dies at the start says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runs.commands import lines, run_altered, splitbrain

pytestmark = pytest.mark.netns

# All are killed again and again, and one is away for longer than the others.
AGAIN = ("--workload", "set", "--faults", "kill:all", "--opt", "kill.dead=1", "--time", "40s")


def run(out: Path, *words: object, timeout_s: float = 180) -> tuple[int, dict[str, Any]]:
    done = splitbrain("run", "--system", "pysyncobj", "--out", out, "--json", *words, timeout_s=timeout_s)
    return done.code, done.results


def test_registers_hold_while_the_leader_is_killed(out: Path) -> None:
    code, results = run(out, "--workload", "register", "--faults", "kill", "--time", "6s", "--seed", 3)
    assert (code, results["verdict"]) == (0, "valid"), results["reason"]
    assert results["holes"] == []
    assert {"linearizable", "divergence", "terms", "revisions"} <= results["checks"].keys()
    assert len(results["checks"]["divergence"]["detail"]["nodes"]) == 3
    monitor = lines(Path(results["run"]) / "monitor.jsonl")
    assert any(m.get("role") == "leader" and m["term"] >= 1 and m["applied"] > 10 for m in monitor)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["set", "counter", "kv", "lock", "election", "unique-ids"])
def test_every_workload_holds(out: Path, workload: str) -> None:
    words = ("--faults", "partition,kill,pause", "--time", "20s", "--seed", 11)
    code, results = run(out, "--workload", workload, *words)
    assert (code, results["verdict"]) == (0, "valid"), results["reason"]
    assert results["holes"] == []


@pytest.mark.slow
@pytest.mark.docker
def test_in_containers(out: Path) -> None:
    words = ("--workload", "register", "--faults", "partition,kill", "--time", "12s", "--provider", "docker")
    code, results = run(out, *words)
    assert (code, results["verdict"]) == (0, "valid"), results["reason"]


@pytest.mark.slow
@pytest.mark.parametrize(("version", "verdict"), [("0.3.15", "invalid"), ("0.3.17", "valid")])
def test_a_forgotten_vote_loses_elements_and_a_kept_one_does_not(
    out: Path, version: str, verdict: str
) -> None:
    _, results = run(out, "--version", version, *AGAIN)
    assert results["verdict"] == verdict, results["reason"]
    if verdict == "invalid":
        assert results["checks"]["set"]["verdict"] == "invalid"
        assert any("issue 201" in caveat for caveat in results["caveats"])


@pytest.mark.slow
def test_without_a_journal_everything_is_forgotten(out: Path) -> None:
    words = ("--workload", "set", "--faults", "kill:all", "--opt", "kill.dead=1", "--time", "12s")
    code, results = run(out, *words, "--opt", "journal=false", "--expect", "invalid")
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]
    assert any("does not promise to be linearizable with journal=false" in c for c in results["caveats"])


@pytest.mark.slow
def test_a_node_that_is_far_behind_never_catches_up_by_small_messages(out: Path) -> None:
    words = ("--workload", "set", "--faults", "partition:leader,pause", "--time", "15s", "--seed", 4249306026)
    code, results = run(out, *words, "--opt", "batch_bytes=4096", "--expect", "invalid")
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]
    assert results["checks"]["availability"]["verdict"] == "invalid"
    assert results["checks"]["set"]["verdict"] == "valid"


@pytest.mark.slow
def test_local_reads_are_stale_behind_a_partition(out: Path) -> None:
    words = ("--workload", "register", "--faults", "partition", "--time", "12s", "--opt", "reads=local")
    code, results = run(out, *words, "--expect", "invalid")
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]


def test_a_server_that_dies_at_the_start_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    code = "import clusters.systems.pysyncobj as p; p._CONF['raftMinTimeout'] = 0.01"
    done = run_altered(code, tmp_path, "--system", "pysyncobj", "--workload", "set", "--faults", "none")
    assert done.code == 4
    error = done.results["error"]
    assert "pysyncobj on n" in error
    assert "ended by itself with exit code 1" in error
    assert "fatal: AssertionError" in error
