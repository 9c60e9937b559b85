"""However a run ends, it says why, leaves a journal that can be judged, and nothing else behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusters.means.leftovers import leftovers
from tests.runs.commands import ENV, Done, beside, run_altered, splitbrain

pytestmark = pytest.mark.netns

QUICK = ("--faults", "none", "--time", "1s", "--seed", "1")
PHASES = ("setup", "start", "load", "heal", "recover", "final", "collect")
SIGNALLED = ("setup", "start", "load", "final")
OFTEN = {("a bug", p) for p in ("setup", "start", "load", "final")} | {
    ("SIGINT", "setup"),
    ("SIGTERM", "start"),
}

AT_PHASE = """
import os, signal
from harness.journal import Journal
real = Journal.phase
def phase(self, name, **more):
    real(self, name, **more)
    if name == {phase!r}:
        {action}
Journal.phase = phase
"""


def mounts(folder: Path) -> set[str]:
    """What is mounted where runs mount; the rest of the machine may be busy with other things."""
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {point for point in points if point.startswith(("/run/splitbrain/", f"{folder}/"))}


@contextmanager
def left_clean(folder: Path) -> Iterator[Path]:
    """Nothing that was made below `folder` is left afterwards."""
    yield folder
    assert mounts(folder) == set()
    for run_dir in (folder / "runs").glob("*/*-*"):
        assert leftovers(run_dir.name.rpartition("-")[2]) == []
        assert not (run_dir / "work").exists()


@pytest.fixture
def clean(tmp_path: Path) -> Iterator[Path]:
    with left_clean(tmp_path):
        yield tmp_path
    shutil.rmtree(tmp_path)


def only_run(folder: Path) -> Path:
    (run_dir,) = (folder / "runs" / "etcd-register").iterdir()
    return run_dir


# What happens in which phase. Each way out of a run belongs to every change, each phase of it to `make test-all`.
MOMENTS = [
    pytest.param(f"{what} in {phase}", marks=() if (what, phase) in OFTEN else pytest.mark.slow)
    for what in ("a bug", "SIGINT", "SIGTERM")
    for phase in PHASES
    if what == "a bug" or phase in SIGNALLED
]


@pytest.fixture(scope="module")
def ended(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[tuple[Path, Done]]"]]:
    top = tmp_path_factory.mktemp("ended")

    def one(moment: str) -> tuple[Path, Done]:
        what, _, phase = moment.partition(" in ")
        folder = top / moment.replace(" ", "-")
        folder.mkdir()
        raises = "raise RuntimeError('planted in ' + name)"
        action = raises if what == "a bug" else f"os.kill(os.getpid(), signal.{what})"
        return folder, run_altered(AT_PHASE.format(phase=phase, action=action), folder, *QUICK)

    with beside(request, "moment", one) as runs:
        yield runs
    shutil.rmtree(top)


@pytest.mark.parametrize("moment", MOMENTS)
def test_in_any_phase(ended: dict[str, "Future[tuple[Path, Done]]"], moment: str) -> None:
    folder, done = ended[moment].result()
    what, _, phase = moment.partition(" in ")
    with left_clean(folder):
        if what == "a bug":
            a_bug_of_ours(folder, done, phase)
        else:
            assert done.code == 130, done.err
            assert done.results["interrupted"] is True
            assert what in done.results["reason"]
            assert done.results["verdict"] == "unknown"


def a_bug_of_ours(clean: Path, done: Done, phase: str) -> None:
    assert done.code == 4
    assert done.results["error"] == f"a fault in splitbrain itself: RuntimeError: planted in {phase}"
    assert (only_run(clean) / "report.html").exists()
    again = splitbrain("check", only_run(clean), "--json")
    assert again.code == 4
    if phase in ("recover", "final", "collect"):
        assert again.results["checks"]["linearizable"]["verdict"] == "valid"


def start(folder: Path, *args: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-P",
        "-m",
        "splitbrain",
        "run",
        "--out",
        str(folder / "runs"),
        "--json",
        *args,
    ]
    return subprocess.Popen(
        command, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def await_text(folder: Path, name: str, text: str) -> Path:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for path in (folder / "runs" / "etcd-register").glob(f"*/{name}"):
            if text in path.read_text():
                return path.parent
        time.sleep(0.02)
    raise AssertionError(f"no {text} in {name} within 30 s")


def test_ctrl_c_with_a_fault_in_force_heals_judges_and_reports(clean: Path) -> None:
    process = start(clean, "--faults", "partition", "--time", "30s", "--seed", "1")
    run_dir = await_text(clean, "faults.jsonl", '"phase":"during"')
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = process.communicate(timeout=60)
    done = Done(process.returncode, out, err)
    assert done.code == 130
    assert done.results["checks"]["linearizable"]["verdict"] == "valid"
    assert '"event":"undone"' in (run_dir / "faults.jsonl").read_text()
    assert (run_dir / "report.html").exists()


def test_a_second_ctrl_c_stops_at_once(clean: Path) -> None:
    process = start(clean, "--faults", "pause", "--time", "30s", "--seed", "1")
    run_dir = await_text(clean, "faults.jsonl", '"phase":"during"')
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode in (4, 130)
    assert time.monotonic() - began < 20
    assert splitbrain("check", run_dir, "--json").results["checks"]["linearizable"]["verdict"] == "valid"


FAKE = """#!/bin/sh
case "$*" in *--version*) echo "etcd Version: 3.6.16"; exit 0;; esac
echo "this is what the fake has to say" >&2
{then}
"""


def fake_etcd(folder: Path, then: str) -> Path:
    path = folder / "etcd"
    path.write_text(FAKE.format(then=then))
    path.chmod(0o755)
    return path


def test_a_binary_that_exits_at_once(clean: Path) -> None:
    binary = fake_etcd(clean, "exit 7")
    done = splitbrain("run", *QUICK, "--opt", f"binary={binary}", "--out", clean / "runs", "--json")
    assert done.code == 4
    assert re.search(r"etcd on n\d ended by itself with exit code 7", done.results["error"])
    assert "this is what the fake has to say" in done.results["error"]


@pytest.mark.slow  # and see test_keep, which looks at it, too
def test_a_node_that_never_gets_ready(clean: Path) -> None:
    spec = clean / "spec.toml"
    spec.write_text('ready = "1s"\n')
    binary = fake_etcd(clean, "exec sleep 1000")
    done = splitbrain("run", spec, *QUICK, "--opt", f"binary={binary}", "--out", clean / "runs", "--json")
    assert done.code == 4
    assert "did not get ready within 1 s" in done.results["error"]
    assert "this is what the fake has to say" in done.results["error"]


def test_an_address_range_in_use(clean: Path) -> None:
    done = splitbrain("run", *QUICK, "--opt", "netns.subnet=127.0.0.0/24", "--out", clean / "runs", "--json")
    assert done.code == 4
    assert "127.0.0.0/24" in done.results["error"]
    assert "in use by lo" in done.results["error"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(small_disk: Path) -> None:
    done = splitbrain(
        "run", "--faults", "none", "--time", "20s", "--seed", "1", "--out", small_disk, "--json"
    )
    assert done.code == 4
    assert re.search("[Nn]o space|disk", done.results["error"])
    (run_dir,) = (small_disk / "etcd-register").iterdir()
    assert leftovers(run_dir.name.rpartition("-")[2]) == []
