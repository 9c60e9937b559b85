"""Keys are checked while a real cluster is under load, and --fail-fast ends it at the first violation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs.commands import ENV, lines, load_s, splitbrain

pytestmark = [pytest.mark.netns, pytest.mark.rootless]


def test_load_ends_at_the_first_violation(out: Path) -> None:
    control = ("--opt", "reads=serializable", "--faults", "partition", "--time", "30s", "--seed", "3")
    done = splitbrain("run", *control, "--fail-fast", "--expect", "invalid", "--out", out, "--json")
    results, run_dir = done.results, Path(done.results["run"])
    assert (done.code, results["verdict"]) == (0, "invalid"), results["reason"]
    assert load_s(run_dir) < 20
    found = results["incremental"]
    assert found["violations"] >= 1
    assert found["ended"]
    bad = {line["key"] for line in lines(run_dir / "incremental.jsonl") if line.get("verdict") == "invalid"}
    assert bad <= {a["key"] for a in results["checks"]["linearizable"]["anomalies"]}
    assert any("load was ended at" in warning for warning in results["warnings"])
    phases = [line["phase"] for line in lines(run_dir / "journal.jsonl") if "phase" in line]
    assert phases[-3:] == ["recover", "final", "collect"], "healed, read and collected as ever"
    assert "--fail-fast" in results["command"]
    anomaly = results["checks"]["linearizable"]["anomalies"][0]
    assert f"on {anomaly['nodes'][0]} returned" in anomaly["explanation"]
    assert "it should have seen" in anomaly["explanation"]
    assert splitbrain("check", run_dir, "--json").results["verdict"] == "invalid"


def checkers_of(out: Path) -> list[int]:
    """The processes that check runs below `out` while they go on."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if b"splitbrain.incremental" in words and any(w.startswith(str(out).encode()) for w in words):
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_check_that_is_killed_costs_a_note_and_no_verdict(out: Path) -> None:
    command = [sys.executable, "-P", "-m", "splitbrain", "run", "--faults", "none", "--time", "3s", "--json"]
    with subprocess.Popen(
        [*command, "--out", str(out)], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 20
        while not (pids := checkers_of(out)) and time.monotonic() < deadline:
            time.sleep(0.05)
        (pid,) = pids
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        while niceness != 19 and time.monotonic() < deadline:  # it lowers itself first of all
            niceness = os.getpriority(os.PRIO_PROCESS, pid)
        os.kill(pid, signal.SIGKILL)
        stdout, _ = process.communicate(timeout=60)
    results = json.loads(stdout)
    assert niceness == 19
    assert (process.returncode, results["verdict"]) == (0, "valid"), results["reason"]
    if results["incremental"] is not None:  # else it was killed before it had begun
        assert not results["incremental"]["ended"]
        assert any("ended before the load did" in warning for warning in results["warnings"])
