"""Whole runs of ZooKeeper: a short one belongs to every change, the others show that faults and versions do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from clusters.artifacts import find_java
from tests.runs.commands import Done, lines, splitbrain

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(find_java() is None or shutil.which("mvn") is None, reason="needs Java and mvn"),
]
USUAL = ("--faults", "partition,kill,pause", "--time", "25s")


def run(out: Path, *more: str, workload: str = "register") -> Done:
    return splitbrain(
        "run", "--system", "zookeeper", "--workload", workload, "--out", out, "--json", *more, timeout_s=240
    )


def valid(done: Done, families: Sequence[str] = ()) -> Path:
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]
    assert done.results["holes"] == []
    assert all(done.results["faults"][family]["effective"] for family in families)
    return Path(done.results["run"])


def test_a_correct_system_is_not_accused(out: Path) -> None:
    run_dir = valid(run(out, "--faults", "none", "--time", "3s"))
    roles = {e["role"] for e in lines(run_dir / "monitor.jsonl") if e.get("ok")}
    assert roles <= {"leader", "follower"}
    kinds = {e["kind"] for e in lines(run_dir / "events.jsonl")}
    assert {"start", "election"} <= kinds
    assert not {"crash", "corruption"} & kinds
    assert len(list((run_dir / "dump").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "workload", ["register", "kv", "set", "counter", "unique-ids", "queue", "lock", "election", "lease"]
)
def test_every_workload_under_faults(out: Path, workload: str) -> None:
    valid(run(out, *USUAL, workload=workload), ("partition", "kill", "pause"))


@pytest.mark.slow
def test_reads_of_one_server_alone_are_found_to_be_stale(out: Path) -> None:
    done = run(out, "--faults", "partition", "--time", "10s", "--opt", "reads=local", "--expect", "invalid")
    assert (done.code, done.results["verdict"]) == (0, "invalid"), done.results["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.4.6", "3.5", "3.6", "3.7", "3.8.0", "3.8"])
def test_versions(out: Path, version: str) -> None:
    run_dir = valid(run(out, "--faults", "kill", "--time", "12s", "--version", version), ("kill",))
    assert any(e["kind"] == "election" and e["term"] for e in lines(run_dir / "events.jsonl"))


@pytest.mark.slow
@pytest.mark.docker
def test_in_containers(out: Path) -> None:
    valid(run(out, *USUAL, "--provider", "docker"), ("partition", "kill", "pause"))


def test_a_server_that_cannot_start_says_why(out: Path, tmp_path: Path) -> None:
    (tmp_path / "zookeeper-3.9.5.jar").write_bytes(b"")
    done = run(out, "--faults", "none", "--time", "2s", "--opt", f"jars={tmp_path}")
    assert done.code == 4
    assert "ended by itself with exit code 1" in done.err
    assert "Could not find or load main class" in done.err
