"""Clusters for tests written by hand, `LiveCluster` and the fixture `cluster`, on real nodes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.admission import VARIABLE
from harness.core.errors import Definite, Indeterminate, InfrastructureError, UsageError
from splitbrain import LiveCluster
from splitbrain.asking import flags
from tests.runs.commands import ENV, SLOTS, lines
from tests.runs.test_own import made

pytestmark = [pytest.mark.netns, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def apart() -> Iterator[None]:
    """Clusters of this process do not queue behind whatever else this machine runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, SLOTS.name)
        yield


@pytest.fixture(scope="module")
def cluster(out: Path) -> Iterator[LiveCluster]:
    with LiveCluster.start(
        out=out, system="etcd", workload="register", faults="partition,kill", seed=1
    ) as started:
        yield started


def test_what_is_written_is_read_elsewhere_and_recorded(cluster: LiveCluster) -> None:
    cluster.client("n1").write("a", 5)
    two = cluster.client("n2")
    assert two.read("a") == 5
    two.cas("a", 5, 6)
    with pytest.raises(Definite, match="mismatch"):
        two.cas("a", 5, 7)
    assert two.call("cas", "a", [5, 7]).error == "mismatch"
    told = [(e.f, e.type, e.value) for e in cluster.history().ops if e.key == "a"]
    assert ("write", "ok", 5) in told
    assert told[-1] == ("cas", "fail", [5, 7])
    found = cluster.check()
    assert (found.verdict, found.reason) == ("valid", "the one key has an order that fits all 5 operations")


def test_a_fault_is_in_force_within_its_block_and_no_longer(cluster: LiveCluster) -> None:
    three = cluster.client("n3")
    with cluster.fault("partition", "n3") as cut:
        assert (cut.nodes, cut.target, cut.effective) == (("n3",), "n3", True)
        assert three.call("write", "b", 1).type == "info"
    assert three.eventually("write", "b", 2) == 2
    with pytest.raises(Indeterminate, match=r"within 0 s; at last: mismatch"):
        three.eventually("cas", "b", [1, 3], within_s=0)
    with pytest.raises(Definite), cluster.fault("kill:n1"):
        cluster.client("n1").read("b")
    ledger = [
        e["event"] for e in lines(cluster.run_dir / "faults.jsonl") if e.get("event") in ("plan", "undone")
    ]
    assert ledger == ["plan", "undone", "plan", "undone"]


def test_two_faults_at_once_and_one_that_cannot_be(cluster: LiveCluster) -> None:
    with cluster.fault("kill", "n1"):
        with pytest.raises(UsageError, match="cannot be applied now"), cluster.fault("kill", "n1"):
            pass
        with cluster.fault("partition", "n2"):
            pass
    with pytest.raises(UsageError, match="unknown fault 'kil'; did you mean 'kill'"), cluster.fault("kil"):
        pass
    with pytest.raises(UsageError, match="faults= says which ones"), cluster.fault("pause"):
        pass


def test_slips(cluster: LiveCluster) -> None:
    with pytest.raises(UsageError, match="unknown node 'n4'"):
        cluster.client("n4")
    one = cluster.client("n1")
    with pytest.raises(AttributeError, match="they have cas, read, write"):
        one.wirte("k", 1)
    with pytest.raises(UsageError, match="did you mean 'write'"):
        one.call("wirte", "k", 1)
    with pytest.raises(UsageError, match="did you mean 'linearizable'"):
        cluster.check("linearisable")
    with pytest.raises(UsageError, match="4 clients already"):
        print([cluster.client("n1") for _ in range(5)])
    with pytest.raises(UsageError, match="no load but the test's own"):
        flags({"time_s": 5}, Path())


def test_in_the_end_it_is_a_run_like_others(cluster: LiveCluster) -> None:
    ended = cluster.close()
    assert ended is cluster.close()
    assert ended.checks["linearizable"]["verdict"] == "valid", ended.reason
    assert ended.report.is_file()
    final = [e for e in lines(ended.run / "history.jsonl") if (e.get("ext") or {}).get("final")]
    assert {e["node"] for e in final} == {"n1", "n2", "n3"}
    with pytest.raises(InfrastructureError, match="the cluster ended"):
        cluster.client("n2").read("a")


def test_one_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'etcd'"):
        LiveCluster.start(out=tmp_path, system="etdc")
    file = made(tmp_path, server="raise SystemExit(7)")
    with pytest.raises(InfrastructureError, match="ended by itself with exit code 7"):
        LiveCluster.start(out=tmp_path, system=str(file), opt={"register.cas": False}, seed=1)


TESTS = """
import pytest, time

@pytest.mark.consensus(system="etcd", faults="partition", options={"reads": "serializable"}, seed=1)
def test_stale(cluster):
    one, three = cluster.client("n1"), cluster.client("n3")
    one.write("k", 1)
    time.sleep(1)
    with cluster.fault("partition", "n3"):
        time.sleep(2)
        cluster.client("n2").call("write", "k", 2)
        cluster.client("n2").write("k", 3)
        assert three.read("k") == 1

@pytest.mark.consensus(system="etcd", faults="partition", seed=1)
def test_long(cluster):
    with cluster.fault("partition"):
        print("in force", flush=True)
        time.sleep(600)

@pytest.mark.consensus(system="etcd", faults="partition", seed=1, time_s=300)
def test_run(): pass
"""


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "splitbrain.pytest_plugin",
        "-s",
    ]
    env = {**ENV, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.Popen(
        [*command, *words], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_what_a_test_by_hand_did_not_look_for_fails_it_all_the_same(tmp_path: Path) -> None:
    with start(tmp_path, "-k", "stale") as pytest_:
        told, _ = pytest_.communicate(timeout=200)
    assert re.search(r"1 passed, \d+ deselected, 1 error", told)
    assert "splitbrain: INVALID: etcd" in told
    assert "finding etcd/linearizable/stale-read/read+write/partition" in told


def await_file(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_session_its_run_heals_and_is_judged(
    tmp_path: Path, number: signal.Signals
) -> None:
    with start(tmp_path, "-k", "test_run") as pytest_:
        folder = tmp_path / "runs" / "etcd-register"
        deadline = time.monotonic() + 60
        while not folder.exists() or not list(folder.glob("*/faults.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (run_dir,) = folder.iterdir()
        await_file(run_dir / "faults.jsonl", '"applied"')
        os.kill(pytest_.pid, number)
        told, _ = pytest_.communicate(timeout=120)
        assert number == signal.SIGKILL or "KeyboardInterrupt" in told
    await_file(run_dir / "results.json", "}")
    found = json.loads((run_dir / "results.json").read_text())
    assert (found["interrupted"], found["error"]) == (True, None)
    assert found["checks"]["linearizable"]["verdict"] == "valid"
    events = [e["event"] for e in lines(run_dir / "faults.jsonl") if "event" in e]
    assert events.count("plan") == events.count("undone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_session_the_cluster_is_healed(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "-k", "long") as pytest_:
        assert pytest_.stdout is not None
        while "in force" not in (line := pytest_.stdout.readline()):
            assert line, "it ended"
        os.kill(pytest_.pid, number)
        pytest_.stdout.read()
    (run_dir,) = (tmp_path / "runs" / "etcd-register").iterdir()
    await_file(run_dir / "results.json", "}")
    events = [e["event"] for e in lines(run_dir / "faults.jsonl") if "event" in e]
    assert events.count("plan") == events.count("undone") == 1
    assert json.loads((run_dir / "results.json").read_text())["error"] is None
