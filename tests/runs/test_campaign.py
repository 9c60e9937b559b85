"""Campaigns over real clusters: killed and taken up again, with a control in them, and on Dask's workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from clusters.means.leftovers import leftovers
from splitbrain.campaign import home, ledger
from splitbrain.campaign.cell import Order, Outcome, Process, execute
from tests.runs.commands import ENV, splitbrain

pytestmark = pytest.mark.netns

CANARY = '[canary]\ntime = "8s"\n'
TWENTY = f"""
name = "twenty"
seed = 11
free = "10MB"
[defaults]
system = "etcd"
time = "1s"
faults = "none"
nodes = 1
[[matrix]]
workload = ["register", "noop", "set", "unique-ids"]
seeds = 5
{CANARY}
"""
CONTROL = f"""
name = "control"
seed = 4
free = "10MB"
[[matrix]]
system = "etcd"
workload = "register"
faults = "partition"
time = "8s"
[matrix.opt]
reads = ["linearizable", "serializable"]
{CANARY}
"""


def command(*args: object) -> list[str]:
    return [sys.executable, "-P", "-m", "splitbrain", "campaign", *map(str, args)]


def write(folder: Path, text: str) -> Path:
    path = folder / "campaign.toml"
    path.write_text(dedent(text))
    return path


def came_to(told: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Cells, seeds and verdicts of the attempts that came to an end of their own."""
    return sorted(
        (cell["id"], cell["seed"], attempt["verdict"])
        for cell in told["cells"]
        for attempt in cell["attempts"]
        if attempt["word"] != "cut off"
    )


def attempts(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [attempt for cell in told["cells"] for attempt in cell["attempts"]]


def nothing_is_left(night: Path) -> None:
    deadline = time.monotonic() + 60
    runs = list(ledger.read(night / ledger.NAME).attempts)
    while (left := [x for run in runs for x in leftovers(run)]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def kill_after_lines(process: subprocess.Popen[bytes], out: Path, lines: int) -> None:
    """SIGKILL to the campaign once the ledger of its latest night has so many lines."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        nights = [n for folder in out.glob("*") for n in home.nights(folder)]
        path = nights[-1] / ledger.NAME if nights else None
        if path and path.exists() and len(path.read_bytes().splitlines()) >= lines:
            break
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)


def order(night: Path, run: str, limit_s: float, **spec: Any) -> Order:
    for folder in ("attempts", "runs"):
        (night / folder).mkdir(parents=True, exist_ok=True)
    (night / "plan.json").write_text("{}")
    given = {
        "system": "etcd",
        "workload": "noop",
        "faults": "none",
        "nodes": 1,
        "time": "1s",
        "seed": 3,
        **spec,
    }
    return Order(run=run, night=str(night), spec=given, limit_s=limit_s)


@pytest.fixture(autouse=True)
def _own_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBRAIN_SLOTS", ENV["SPLITBRAIN_SLOTS"])


def finished(process: Process) -> Outcome:
    while (found := process.poll()) is None:
        time.sleep(0.05)
    return found


def test_at_its_limit_a_run_is_ended_and_that_is_no_verdict(tmp_path: Path) -> None:
    asked = order(tmp_path, "aaaaa2", 4.0, time="60s")
    found = finished(Process(asked))
    assert (found.how, found.results["verdict"], found.code) == ("limit", "unknown", 4)
    assert found.results["reason"] == "it did not end within its limit of 4 s and was stopped"
    assert leftovers("aaaaa2") == []
    assert execute(asked).run == "aaaaa2", "started twice, it is run once"
    assert len(list((tmp_path / "runs").glob("*/*-aaaaa2"))) == 1


@pytest.mark.slow
def test_killed_twice_and_taken_up_again_is_as_never_killed(tmp_path: Path) -> None:
    file = write(tmp_path, TWENTY)
    whole = splitbrain("campaign", "run", file, "--out", tmp_path / "whole", "--json", timeout_s=900)
    assert whole.code == 0, whole.err
    out = tmp_path / "killed"
    for lines in (9, 25):
        argv = command("run", file, "--out", out, "--resume")
        with subprocess.Popen(argv, env=ENV, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            kill_after_lines(process, out, lines)
    done = splitbrain("campaign", "run", file, "--out", out, "--json", "--resume", timeout_s=900)
    told = done.results
    assert done.code == 0, done.err
    assert came_to(told) == came_to(whole.results)
    assert len(came_to(told)) == 21
    assert told["sessions"] == 3
    cut = [a for a in attempts(told) if a["word"] == "cut off"]
    assert 1 <= len(cut) <= 4
    night = Path(told["path"])
    dirs = [a["run_dir"] for a in attempts(told) if a["run_dir"]]
    assert len(set(dirs)) == len(dirs) == len(list((night / "runs").glob("*/*-*")))
    assert all((night / a["run_dir"]).is_dir() for a in attempts(told) if a["word"] != "cut off")
    nothing_is_left(night)


@pytest.mark.slow
def test_a_control_is_the_only_finding_new_and_then_known(tmp_path: Path) -> None:
    file = write(tmp_path, CONTROL)
    for status in ("new", "known"):
        done = splitbrain("campaign", "run", file, "--out", tmp_path / "c", "--json", timeout_s=400)
        told = done.results
        assert done.code == 1, (told["reason"], done.err)
        (found,) = told["findings"]
        assert found["signature"] == "etcd/linearizable/stale-read/read+write/partition"
        assert (found["status"], found["hits"], found["eligible"]) == (status, 1, 1)
        assert (Path(told["path"]) / found["reports"][0]).is_file()
        assert f'href="{found["reports"][0]}"' in (Path(told["path"]) / "index.html").read_text()
    assert found["rate"] == "1 of 1 since the one that found it (21-100%)"


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """A Dask cluster of two worker processes that hold one cluster each: its address, and the workers' pids."""
    distributed = pytest.importorskip("distributed")
    before = dict(os.environ)
    os.environ.update(ENV)
    try:
        with distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            resources={"splitbrain": 1},
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster:
            pids = [worker.process.pid for worker in cluster.workers.values()]
            yield cluster.scheduler_address, pids
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_worker_of_dask_that_dies_is_no_pass_and_loses_nothing(
    tmp_path: Path, dask: tuple[str, list[int]]
) -> None:
    address, workers = dask
    file, out = write(tmp_path, TWENTY), tmp_path / "c"
    argv = command("run", file, "--out", out, "--json", "--dask", address)
    with subprocess.Popen(argv, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            nights = home.nights(out / "twenty")
            state = ledger.read(nights[-1] / ledger.NAME) if nights else ledger.State()
            running = [
                a for a in state.open() if list((nights[-1] / "runs").glob(f"*/*-{a.run}/journal.jsonl"))
            ]
            if len(state.done()) >= 4 and len(running) == 2:
                break
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        os.kill(workers[0], signal.SIGKILL)
        text, err = process.communicate(timeout=900)
    told = json.loads(text)
    assert process.returncode == 0, err.decode()
    assert len(came_to(told)) == 21
    assert [cell for cell, _, _ in came_to(told)] == sorted(c["id"] for c in told["cells"])
    assert {verdict for cell, _, verdict in came_to(told) if not cell.startswith("canary")} == {"valid"}
    cut = [a for a in attempts(told) if a["word"] == "cut off"]
    assert len(cut) == 1
    assert all(a["verdict"] == "unknown" for a in cut)
    nothing_is_left(Path(told["path"]))
