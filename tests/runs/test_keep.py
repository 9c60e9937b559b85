"""A failed cluster is left standing when asked for: entered, read, and ended without a trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.means import cgroup, procfs
from clusters.means.leftovers import leftovers
from splitbrain import kept
from tests.runs.commands import ENV, Done, splitbrain
from tests.runs.test_endings import fake_etcd

FAILS = ("--faults", "none", "--time", "1s", "--seed", "1", "--expect", "invalid")  # a valid run is none


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("keep")
    yield folder
    for run_dir in folder.glob("*/*-*"):
        kept.release(run_dir)
        assert leftovers(run_dir.name.rpartition("-")[2]) == []
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def failed(out: Path) -> Done:
    more = ("--keep", "--repeat", "3", "--opt", "pcap=true")
    return splitbrain("run", *FAILS, *more, "--out", out, "--json")


@pytest.fixture(scope="module")
def run_dir(failed: Done) -> Path:
    return Path(failed.results["runs"][0]["run"])


@pytest.mark.netns
@pytest.mark.rootless
def test_the_command_ends_and_the_cluster_stands(failed: Done, run_dir: Path) -> None:
    assert failed.code == 1
    (results,) = failed.results["runs"]  # nothing after the one that is kept
    assert (results["verdict"], results["expect"]) == ("valid", "invalid")
    assert json.loads((run_dir / "results.json").read_text())["kept"] == results["kept"]
    assert results["kept"] == json.loads((run_dir / "kept.json").read_text())["until"]
    assert any(
        "process" in thing and "agent" in thing for thing in leftovers(run_dir.name.rpartition("-")[2])
    )
    shown = splitbrain("show", run_dir)
    assert f"splitbrain heal {run_dir}" in shown.out
    assert splitbrain("check", run_dir, "--json").results["kept"] == results["kept"]


@pytest.mark.netns
@pytest.mark.rootless
def test_commands_run_inside_a_node(run_dir: Path) -> None:
    script = "hostname; tr '\\0' ' ' < /proc/1/cmdline; echo; ls /run/splitbrain/data; exit 7"
    inside = splitbrain("exec", run_dir, "n2", "--", "sh", "-c", script)
    assert inside.code == 7
    name, init, *data = inside.out.splitlines()
    assert (name, data) == ("n2", ["member"])
    assert "agent/main.py" in init, "process 1 is the node's own"
    ask = "exec 3<>/dev/tcp/n1/2379; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    healthy = splitbrain("exec", run_dir, "n3", "--", "bash", "-c", ask)
    assert '"health":"true"' in healthy.out, "it stands, and its nodes reach each other"
    wrong = splitbrain("exec", run_dir, "n7", "--", "true")
    assert (wrong.code, "Known: n1, n2, n3" in wrong.err) == (2, True)
    assert splitbrain("exec", run_dir, "n1").code == 2


@pytest.mark.netns
@pytest.mark.rootless
def test_logs_are_printed_and_followed(run_dir: Path) -> None:
    one = splitbrain("logs", run_dir, "n1").out
    assert one == (run_dir / "logs" / "n1" / "etcd.log").read_text()
    every = splitbrain("logs", run_dir).out.splitlines()
    assert {line.partition(": ")[0] for line in every} == {"n1/etcd", "n2/etcd", "n3/etcd"}
    assert "valid" in splitbrain("logs", run_dir, "controller").out
    assert "did you mean 'n1'" in splitbrain("logs", run_dir, "n11").err
    argv = [sys.executable, "-P", "-m", "splitbrain", "logs", str(run_dir), "n1", "-f"]
    follower = subprocess.Popen(argv, env=ENV, text=True, stdout=subprocess.PIPE)
    assert follower.stdout is not None
    with (run_dir / "logs" / "n1" / "etcd.log").open("a") as log:
        log.write("a line of this test's\n")
    assert "a line of this test's\n" in iter(follower.stdout.readline, "")
    follower.send_signal(signal.SIGINT)
    assert follower.wait(10) == 130
    follower.stdout.close()


@pytest.mark.netns
@pytest.mark.rootless
def test_its_packets_were_captured(run_dir: Path) -> None:
    packets = b"".join(path.read_bytes() for path in (run_dir / "pcap").iterdir())
    assert packets.count(b"POST /v3/kv/") > 20


@pytest.mark.netns
@pytest.mark.rootless
def test_release_ends_it_and_leaves_nothing(run_dir: Path) -> None:
    argv = [sys.executable, "-P", "-m", "splitbrain", "logs", str(run_dir), "-f"]
    follower = subprocess.Popen(argv, env=ENV, stdout=subprocess.DEVNULL)
    assert kept.release(run_dir)
    assert leftovers(run_dir.name.rpartition("-")[2]) == []
    assert not (run_dir / "work").exists()
    assert not (run_dir / "kept.json").exists()
    assert follower.wait(10) == 0, "what it followed is over"
    assert not kept.release(run_dir)
    again = splitbrain("exec", run_dir, "n1", "--", "true")
    assert (again.code, "has no cluster that stands" in again.err) == (2, True)
    assert splitbrain("logs", run_dir, "n1").out, "logs are for finished runs as well"


@pytest.mark.netns
@pytest.mark.rootless
def test_a_cluster_that_never_got_ready_can_be_looked_at(out: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('ready = "1s"\nfaults = "none"\nkeep = true\n')
    binary = fake_etcd(tmp_path, "exec sleep 1000")
    done = splitbrain("run", spec, "--opt", f"binary={binary}", "--out", out, "--json")
    assert done.code == 4
    assert "did not get ready within 1 s" in done.results["error"]
    assert "this is what the fake has to say" in done.results["error"]
    run_dir = Path(done.results["run"])
    assert "this is what the fake has to say" in splitbrain("logs", run_dir, "n1").out
    assert "sleep 1000" in splitbrain("exec", run_dir, "n1", "--", "ps", "ax").out
    before = json.loads((run_dir / "kept.json").read_text())
    keeper = procfs.find(procfs.Identity(*before["keeper"]))
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)  # whatever ends it takes everything along
    run = run_dir.name.rpartition("-")[2]
    deadline = time.monotonic() + 20
    while leftovers(run) and time.monotonic() < deadline:
        time.sleep(0.05)
        cgroup.remove(run)
    assert leftovers(run) == []
    assert splitbrain("exec", run_dir, "n1", "--", "true").code == 2
    assert not kept.release(run_dir)


@pytest.mark.docker
@pytest.mark.slow
def test_containers_are_kept_as_well(out: Path) -> None:
    done = splitbrain("run", *FAILS, "--provider", "docker", "--keep", "--out", out, "--json")
    assert (done.code, done.results["verdict"]) == (1, "valid"), done.results["reason"]
    run_dir = Path(done.results["run"])
    inside = splitbrain("exec", run_dir, "n2", "--", "sh", "-c", "hostname; ls /run/splitbrain/data")
    assert inside.out.split() == ["n2", "member"]
    healed = splitbrain("heal", run_dir)
    assert (healed.code, "left standing" in healed.out) == (0, True)
    assert leftovers(run_dir.name.rpartition("-")[2]) == []


class Standing:
    """A cluster of which only the end is of interest."""

    closed = False

    def __init__(self) -> None:
        self.inits = {"n1": (os.getpid(), 0)}

    def close(self) -> None:
        self.closed = True


def test_its_time_is_limited(tmp_path: Path) -> None:
    cluster = Standing()
    before = signal.getsignal(signal.SIGUSR1)
    try:
        kept.stay(cluster, tmp_path, "2030-01-01T00:00:00Z", limit_s=0.01)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert cluster.closed
    assert list(tmp_path.iterdir()) == []


def test_an_attached_cluster_is_not_ours_to_keep() -> None:
    done = splitbrain("run", "--provider", "attach", "--nodes", "127.0.0.1:1", "--keep", "--dry-run")
    assert done.code == 2
    assert "has no cluster of its own to keep" in done.err
