"""Syncs held back and deaths at a system call, seen from inside the process that they happen to."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.means import strace
from clusters.means.leftovers import leftovers
from clusters.providers.docker import Docker
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import DATA_DIR, Process
from harness.core.errors import InfrastructureError

PYTHON = str(Path(sys.executable).resolve())
BESIDE = {} if sys.base_prefix == "/usr" else {sys.base_prefix: sys.base_prefix}  # what is no part of /usr
CALLS = ("fsync", "fdatasync")
PROGRAM = f"""
import os, time
file = os.open("{DATA_DIR}/file", os.O_WRONLY | os.O_CREAT)
os.makedirs("{DATA_DIR}/more", exist_ok=True)
other = os.open("{DATA_DIR}/more/other", os.O_WRONLY | os.O_CREAT)
while True:
    os.fsync(other)
    os.write(file, b"x")
    begin = time.monotonic()
    os.fsync(file)
    print(int((time.monotonic() - begin) * 1000), flush=True)
    time.sleep(0.005)
"""


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def took_ms(made: NetnsCluster) -> list[int]:
    """What the process itself measured, sync by sync."""
    return [int(x) for x in (made.log_dir("n1") / "syncs.log").read_text().split()]


def next_ms(made: NetnsCluster, count: int) -> int:
    """The least that it measured in the next so many syncs, of which the first may have begun before."""
    there = len(took_ms(made))
    until(lambda: len(took_ms(made)) > there + count)
    return min(took_ms(made)[there + 1 :])


@pytest.fixture(
    params=[pytest.param(Netns, marks=pytest.mark.netns), pytest.param(Docker, marks=pytest.mark.docker)]
)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NetnsCluster]:
    run = f"ttrac{request.param.__name__[0].lower()}"
    mounts = BESIDE if request.param is Docker else {}
    made = request.param({}).create(
        run=run, run_dir=tmp_path, nodes=1, mounts=mounts, needs=frozenset({"trace"})
    )
    try:
        assert made.capabilities["trace"] is None
        made.launch({"n1": [Process(name="syncs", argv=(PYTHON, "-c", PROGRAM))]})
        until(lambda: len(took_ms(made)) > 3)
        yield made
    finally:
        made.close()
    assert leftovers(run) == []


def test_syncs_are_slow_and_quick_again(cluster: NetnsCluster) -> None:
    assert next_ms(cluster, 5) < 200
    cluster.tracer.trace("f1", "n1", CALLS, "delay_enter=300ms")
    cluster.tracer.trace("f1", "n1", CALLS, "delay_enter=300ms")
    assert next_ms(cluster, 2) >= 300
    assert cluster.tracer.longest_ms("n1", CALLS, 2.0, 240.0) >= 240
    with pytest.raises(InfrastructureError, match="is traced already, by process"):
        cluster.tracer.trace("f2", "n1", CALLS, "delay_enter=1ms")
    cluster.tracer.untrace("f1", "n1")
    cluster.tracer.untrace("f1", "n1")
    assert strace.tracer_of(cluster.state("n1")[0].pid) == 0
    assert next_ms(cluster, 5) < 200
    assert cluster.tracer.longest_ms("n1", CALLS, 0.2, 1000.0) < 240


def test_writes_to_one_file_are_slow_for_whoever_is_started_meanwhile(cluster: NetnsCluster) -> None:
    def trace(files: str) -> None:
        cluster.tracer.trace("f1", "n1", CALLS, "delay_enter=300ms", files=files, follow=True)

    with pytest.raises(InfrastructureError, match="no file of its data is called 'wal/"):
        trace("wal/*")
    cluster.tracer.untrace("f1", "n1")
    trace("fi*")
    assert next_ms(cluster, 2) >= 300
    assert cluster.tracer.longest_ms("n1", CALLS, 2.0, 240.0, files="fi*") >= 240
    cluster.signal("n1", "KILL")
    until(lambda: not cluster.state("n1")[0].alive)
    cluster.start("n1")
    assert next_ms(cluster, 2) >= 300
    cluster.tracer.untrace("f1", "n1")
    assert next_ms(cluster, 5) < 200
    cluster.signal("n1", "KILL")
    until(lambda: not cluster.state("n1")[0].alive)
    cluster.start("n1")
    assert next_ms(cluster, 2) < 200


def test_a_sync_that_hangs_ends_with_the_fault(cluster: NetnsCluster) -> None:
    cluster.tracer.trace("f1", "n1", CALLS, "delay_enter=1000000ms")
    assert cluster.tracer.longest_ms("n1", CALLS, 2.0, 500.0) >= 500
    there = len(took_ms(cluster))
    time.sleep(0.3)
    assert len(took_ms(cluster)) == there
    cluster.tracer.untrace("f1", "n1")
    until(lambda: len(took_ms(cluster)) > there + 5)
    assert took_ms(cluster)[-1] < 200
    assert cluster.state("n1")[0].alive


def test_a_process_dies_at_its_third_sync(cluster: NetnsCluster) -> None:
    cluster.tracer.trace("f1", "n1", CALLS, "signal=KILL:when=3")
    until(lambda: not cluster.state("n1")[0].alive)
    assert cluster.state("n1")[0].exit == -signal.SIGKILL
    log = (cluster.log_dir("n1") / "strace-f1.txt").read_text()
    assert log.count("fsync(") == 3
    cluster.tracer.untrace("f1", "n1")
    cluster.start("n1")
    assert next_ms(cluster, 1) < 200, "what is started again is held by nobody"


def test_calls_on_some_files_alone(cluster: NetnsCluster) -> None:
    cluster.tracer.trace("f1", "n1", CALLS, "delay_enter=300ms", files="more/*")
    assert cluster.tracer.longest_ms("n1", CALLS, 2.0, 240.0) >= 240
    assert next_ms(cluster, 2) < 200, "syncs of the other file"
    cluster.tracer.untrace("f1", "n1")
    cluster.tracer.trace("f2", "n1", ("write", "pwrite64"), "delay_enter=300ms", files="file")
    assert cluster.tracer.longest_ms("n1", ("write", "pwrite64"), 2.0, 240.0) >= 240
    cluster.tracer.untrace("f2", "n1")
    with pytest.raises(InfrastructureError, match=r"no file of its data is called 'wal/\*'"):
        cluster.tracer.trace("f3", "n1", CALLS, "delay_enter=1ms", files="wal/*")
    cluster.tracer.trace("f4", "n1", CALLS, "signal=KILL:when=3", files="file")
    until(lambda: not cluster.state("n1")[0].alive)
    log = (cluster.log_dir("n1") / "strace-f4.txt").read_text()
    assert log.count("fsync(") == 3, "those of the other file do not count"


def test_what_is_missing_is_named_with_an_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strace.platform, "machine", lambda: "pdp11")
    assert "system calls of pdp11 are not known here; use pause" in str(strace.refusal())
    monkeypatch.setattr(strace.shutil, "which", lambda _: None)
    assert "strace is missing; install strace, or use pause" in str(strace.probe())
