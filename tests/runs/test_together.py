"""Runs that are started together: the same verdicts as alone, nothing shared, and those wait that must."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from clusters.means.leftovers import leftovers
from harness import admission
from tests.results.answers import answers
from tests.runs.commands import ENV, Done

pytestmark = [pytest.mark.netns, pytest.mark.slow]  # four runs want a machine to themselves

FAMILIES = ("partition", "kill", "pause")
STALE = ("--faults", "partition", "--time", "8s", "--opt", "reads=serializable", "--expect", "invalid")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("together")
    yield folder
    shutil.rmtree(folder)


def together(out: Path, *commands: tuple[str, ...]) -> list[Done]:
    """Runs that begin at the same time, on a machine that has nobody else."""
    env = {**ENV, admission.VARIABLE: str(out / "slots")}
    started = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "splitbrain", "run", "--out", str(out), "--json", *more],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for more in commands
    ]
    ended = []
    for process in started:
        text, err = process.communicate(timeout=200)
        ended.append(Done(process.returncode, text, err))
    return ended


@pytest.fixture(scope="module")
def four(out: Path) -> list[Done]:
    each = [("--faults", family, "--time", "7s", "--seed", "21") for family in FAMILIES]
    return together(out, *each, (*STALE, "--seed", "3"))


def addresses(run_dir: Path) -> set[str]:
    """The addresses that the nodes' programs were told to listen at, by their logs."""
    log = (run_dir / "logs" / "n1" / "etcd.log").read_text()
    return {part.split(":")[0] for part in log.split("http://")[1:]}


def overlap(one: Path, other: Path) -> bool:
    """Whether two runs had their nodes at the same time."""
    spans = []
    for run_dir in (one, other):
        journal = lines(run_dir / "journal.jsonl")
        at = {x["phase"]: x["time"] + journal[0]["epoch_mono_ns"] for x in journal if "phase" in x}
        spans.append((at["start"], at["collect"]))
    return spans[0][0] < spans[1][1] and spans[1][0] < spans[0][1]


def test_verdicts_are_those_of_runs_alone_and_every_family_shows(four: list[Done]) -> None:
    for family, done in zip(FAMILIES, four[:3], strict=True):
        assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]
        assert done.results["faults"][family]["effective"] >= 1
        assert done.results["faults"][family]["overlapping_ops"] >= 20
    assert (four[3].code, four[3].results["verdict"]) == (0, "invalid"), four[3].results["reason"]


def test_no_name_is_shared_and_nothing_is_left(four: list[Done]) -> None:
    dirs = [Path(done.results["run"]) for done in four]
    ids = [run_dir.name.rpartition("-")[2] for run_dir in dirs]
    assert len(set(ids)) == 4
    groups = [x["name"] for d in dirs for x in lines(d / "faults.jsonl") if x.get("kind") == "cgroup"]
    assert len(set(groups)) == 4
    assert all(leftovers(run) == [] for run in ids)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_those_that_had_to_wait_said_so(four: list[Done]) -> None:
    cores = len(os.sched_getaffinity(0))
    waited = [done for done in four if done.results["waited_s"] > 0]
    assert len(waited) == max(0, 4 - int(cores / 0.9))
    for done in four:
        assert ("other run" in done.err and "the machine is full" in done.err) == (done in waited)
    assert list((Path(four[0].results["run"]).parents[1] / "slots").iterdir()) == []


def test_without_admission_nobody_waits_and_lateness_is_said(out: Path) -> None:
    more = ("--faults", "none", "--time", "2s", "--rate", "0", "--no-admission")
    ended = together(out, *(((*more, "--seed", str(n))) for n in range(5)))
    dirs = [Path(done.results["run"]) for done in ended]
    for one, other in combinations(dirs, 2):
        if overlap(one, other):
            assert not addresses(one) & addresses(other), "each has a range of its own"
    for done in ended:
        assert (done.code, done.results["waited_s"]) == (0, 0.0)
        assert "other run" not in done.err
        assert done.results["rate"]["asked"] is None
        assert done.results["lag_ms"]["p99"] > 0
    said = " ".join(text for done in ended for text in done.results["warnings"])
    if len(os.sched_getaffinity(0)) <= 4:  # where five runs without a limit are surely too many
        assert "this machine was too busy, with" in said


def test_the_report_of_a_violation_answers_what_by_whom_where_under_what_and_how_again(
    four: list[Done],
) -> None:
    results = four[3].results
    first = results["checks"]["linearizable"]["anomalies"][0]
    found = answers(Path(results["run"]) / "report.html")
    assert found["violated"] == f"linearizable of key {first['key']}"
    assert all(f"process {op['process']} on {op['node']}" in found["by"] for op in first["window"][-2:])
    assert found["on"].split(", ")[0] == first["nodes"][0]
    assert "cut off" in found["under"] or found["under"] == "no fault was in force"
    assert found["again"] == results["command"]
