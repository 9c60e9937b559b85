"""Whole runs in containers: the demo and its positive control, and what ends a run before its time."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clusters.means import dockerd
from clusters.means.leftovers import leftovers
from tests.clusters.fake_dockerd import Way, folder
from tests.runs.commands import Done, splitbrain

pytestmark = pytest.mark.docker

RUN = ("run", "--provider", "docker", "--json")


def in_mid_load(out: Path) -> str:
    """The id of the run below `out`, once its load is under way."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for journal in out.glob("*/*/journal.jsonl"):
            if journal.read_text().count('"type":"ok"') > 50:
                return journal.parent.name.rpartition("-")[2]
        time.sleep(0.05)
    raise AssertionError(f"no run below {out} came under load")


def ended_by(out: Path, act: threading.Thread | None, *args: object) -> Done:
    if act is not None:
        act.start()
    done = splitbrain(*RUN, "--seed", "1", "--out", out, *args)
    if act is not None:
        act.join()
    return done


def test_the_demo_is_valid_and_every_fault_shows(tmp_path: Path) -> None:
    done = splitbrain(
        *RUN, "--faults", "partition,kill,pause", "--time", "9s", "--seed", "11", "--out", tmp_path
    )
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    assert done.code == 0
    assert set(results["faults"]) == {"partition", "kill", "pause"}
    for family in results["faults"].values():
        assert family["effective"] >= 1
        assert family["overlapping_ops"] >= 20
    run_dir = Path(results["run"])
    ledger = [json.loads(line) for line in (run_dir / "faults.jsonl").read_text().splitlines()]
    kinds = [line["kind"] for line in ledger if line.get("event") == "resource"]
    assert kinds == ["container", "container", "container", "network", "table", "work"]
    assert (run_dir / "logs/n1/etcd.log").stat().st_size > 0
    assert leftovers(run_dir.name.rpartition("-")[2]) == []


@pytest.mark.slow
def test_stale_reads_behind_a_partition_are_found(tmp_path: Path) -> None:
    control = ("--opt", "reads=serializable", "--faults", "partition", "--time", "6s", "--seed", "3")
    done = splitbrain(*RUN, *control, "--out", tmp_path)
    assert (done.code, done.results["verdict"]) == (1, "invalid")
    assert done.results["checks"]["linearizable"]["anomalies"]


@pytest.mark.slow  # tests/clusters/test_docker has what is said
def test_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "DOCKER_HOST", "unix:///no/such/docker.sock")
    from tests.runs import commands

    monkeypatch.setitem(commands.ENV, "DOCKER_HOST", "unix:///no/such/docker.sock")
    done = ended_by(tmp_path, None, "--faults", "none", "--time", "2s")
    assert done.code == 4
    assert done.results["error"].startswith(
        "the Docker daemon at unix:///no/such/docker.sock does not answer"
    )


@pytest.mark.slow
def test_a_container_that_somebody_kills(tmp_path: Path) -> None:
    def act() -> None:
        name = f"splitbrain-{in_mid_load(tmp_path)}-n2"
        subprocess.run(["docker", "kill", name], capture_output=True, check=True)

    done = ended_by(tmp_path, threading.Thread(target=act), "--faults", "none", "--time", "60s")
    assert done.code == 4
    assert done.results["verdict"] == "unknown"
    run = done.results["run"].rpartition("-")[2]
    assert done.results["error"].startswith(f"container splitbrain-{run}-n2 was ended from outside")
    assert leftovers(run) == []


@pytest.mark.slow  # tests/clusters has what a dying daemon means for a cluster, test_docker_killed what heals it
def test_a_daemon_that_dies_in_mid_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.runs import commands

    real = dockerd.usual_socket()
    assert real is not None
    with folder() as short:
        way = Way(short / "d", real)
        monkeypatch.setitem(commands.ENV, "DOCKER_HOST", f"unix://{way.path}")

        def act() -> None:
            in_mid_load(tmp_path)
            way.cut()

        done = ended_by(tmp_path, threading.Thread(target=act), "--faults", "none", "--time", "60s")
    assert done.code == 4
    assert "the Docker daemon at unix://" in done.results["error"]
    assert "does not answer" in done.results["error"]
    run = Path(done.results["run"])
    monkeypatch.undo()
    healed = splitbrain("heal", run, "--json")
    assert healed.code == 0, healed.err
    assert leftovers(run.name.rpartition("-")[2]) == []
