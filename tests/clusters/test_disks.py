"""Disks that lose their power: what was synced stays, what was not goes, and no loop device is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.means import loopdisk
from clusters.means.leftovers import leftovers
from clusters.providers.docker import Docker
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import DATA_DIR, Process
from harness.core.errors import MissingCapability

NEEDS = frozenset({"loop-disk"})
# One file gets a line that is synced and one that is not; the second line's end says that both are written.
WRITER = (
    f"cd {DATA_DIR}; echo synced > file; sync file; sync .; echo tail >> file; echo new > new; mv new renamed;"
    f" echo written; (trap '' TERM; setsid sleep 1000) & sleep 1000"
)
READER = f"cd {DATA_DIR}; cat file; ls; echo read"


def until(done: Callable[[], object], told: Callable[[], object] = str) -> None:
    """Wait until it is so; `told` is what is shown where it never is."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline, f"it never came true: {told()}"
        time.sleep(0.01)


def shell(text: str) -> Process:
    return Process(name="shell", argv=("/bin/sh", "-c", text))


def said(made: NetnsCluster, node: str) -> list[str]:
    return (made.log_dir(node) / "shell.log").read_text().splitlines()


def read_back(made: NetnsCluster, node: str) -> list[str]:
    """What a process of the node's, in the stead of the writer, finds in its data directory."""
    made.launch({node: [shell(READER)]})
    until(lambda: "read" in said(made, node))
    return said(made, node)[1:]


@pytest.fixture(
    params=[pytest.param(Netns, marks=pytest.mark.netns), pytest.param(Docker, marks=pytest.mark.docker)]
)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NetnsCluster]:
    provider = request.param({"disk_mb": 16})
    run = f"tdisk{request.param.__name__[0].lower()}"
    made = provider.create(run=run, run_dir=tmp_path, nodes=2, mounts={}, needs=NEEDS)
    try:
        yield made
    finally:
        made.close()
    assert leftovers(run) == []
    assert not (tmp_path / "work").exists()


def test_a_power_loss_takes_what_was_not_synced(cluster: NetnsCluster) -> None:
    assert cluster.capabilities["loop-disk"] is None
    cluster.launch({n.name: [shell(WRITER)] for n in cluster.nodes})
    until(lambda: all("written" in said(cluster, n.name) for n in cluster.nodes))
    assert cluster.disk.plant("n1", "x") == {"synced": True, "unsynced": True}
    facts = cluster.disk.power_loss(["n1"])
    assert facts["processes"] >= 3, "the one in a session of its own is stopped and killed with the others"
    assert facts["still"]
    assert cluster.state("n1")[0].exit == -signal.SIGKILL
    assert cluster.state("n2")[0].alive
    assert cluster.disk.planted("n1", "x") == {"synced": True, "unsynced": False}
    cluster.disk.mount("n1")
    assert read_back(cluster, "n1") == ["synced", "file", "read"]
    cluster.signal("n2", "KILL")
    assert read_back(cluster, "n2") == ["synced", "tail", "file", "renamed", "read"], (
        "a kill loses none of it"
    )


@pytest.mark.parametrize(
    ("error", "words"), [("ENOSPC", "No space left"), ("EROFS", "Read-only"), ("EIO", "Input/output error")]
)
def test_writes_fail_and_succeed_again(cluster: NetnsCluster, error: str, words: str) -> None:
    text = (
        f"cd {DATA_DIR}; while :; do dd if=/dev/zero of=f bs=8k count=1 oflag=append conv=notrunc,fsync 2>&1;"
    )
    text += " sleep 0.02; done"
    cluster.launch({"n1": [shell(text)]})
    until(lambda: len(said(cluster, "n1")) > 3)
    assert cluster.disk.try_write("n1") is None
    cluster.disk.spoil("n1", error)
    assert cluster.disk.try_write("n1") == error
    assert cluster.disk.try_write("n2") is None
    until(
        lambda: any(words in line for line in said(cluster, "n1")[-4:]),
        lambda: (said(cluster, "n1")[-8:], cluster.state("n1")),
    )
    for _ in range(2):
        cluster.disk.mend("n1")
        cluster.start("n1")
    assert cluster.disk.try_write("n1") is None
    until(lambda: all(words not in line for line in said(cluster, "n1")[-3:]))


# A parent that waits for its vforked child, as a shell does for each command, and tells when it goes on.
WAITER = """
import ctypes, platform, signal, time
call = {"x86_64": 56, "aarch64": 220}[platform.machine()]
CLONE_VFORK = 0x4000
print("begins", flush=True)
if ctypes.CDLL(None).syscall(call, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    time.sleep(3)
    raise SystemExit
print("goes on", flush=True)
time.sleep(1000)
"""


@pytest.mark.netns
def test_who_waits_for_a_child_when_the_disk_goes_bad_goes_on(tmp_path: Path) -> None:
    made = Netns({"disk_mb": 16}).create(run="tvfork", run_dir=tmp_path, nodes=1, mounts={}, needs=NEEDS)
    try:
        made.launch({"n1": [Process(name="shell", argv=("/usr/bin/python3", "-c", WAITER))]})
        until(lambda: said(made, "n1")[-1:] == ["begins"])
        until(lambda: made.state("n1")[0].state == "D")
        made.disk.spoil("n1", "EIO")
        until(lambda: said(made, "n1")[-1] == "goes on", lambda: made.state("n1"))
    finally:
        made.close()


# Records into preallocated blocks, as a write-ahead log's, each told of once it is synced; first, what is there.
LOGGER = f"""
import os, time
file = os.open("{DATA_DIR}/log", os.O_RDWR | os.O_CREAT)
os.posix_fallocate(file, 0, 16 << 20)
log = os.pread(file, 16 << 20, 0)
last = max(int(log[at : at + 4096].strip(b"\\0 ") or 0) for at in range(0, len(log), 4096))
print("last", last, flush=True)
try:
    for n in range(last + 1, 16 << 20 >> 12):
        os.pwrite(file, b"%-4096d" % n, n << 12)
        os.fdatasync(file)
        print(n, flush=True)
except OSError as e:
    print(e, flush=True)
    time.sleep(1000)
"""


@pytest.mark.netns
@pytest.mark.parametrize("error", ["EROFS", "EIO"])
def test_a_disk_that_goes_bad_keeps_what_was_synced(tmp_path: Path, error: str) -> None:
    made = Netns({"disk_mb": 32}).create(run="tsynced", run_dir=tmp_path, nodes=1, mounts={}, needs=NEEDS)

    def log() -> list[str]:
        return said(made, "n1")

    try:
        made.launch({"n1": [Process(name="shell", argv=("/usr/bin/python3", "-c", LOGGER))]})
        for times in range(5):  # it is a race with a sync
            until(lambda: log() and log()[-1].isdecimal() and int(log()[-1]) % 40 > 30)
            made.disk.spoil("n1", error)
            until(lambda: "Errno" in log()[-1])
            synced = max(int(line) for line in log() if line.isdecimal())
            made.disk.mend("n1")
            made.start("n1")
            until(lambda times=times: sum("last" in line for line in log()) == times + 2)  # type: ignore[misc]
            assert max(int(line.split()[1]) for line in log() if "last" in line) >= synced
    finally:
        made.close()


@pytest.mark.netns
def test_what_was_flushed_survives_unsynced(tmp_path: Path) -> None:
    made = Netns({"disk_mb": 16}).create(run="tflush", run_dir=tmp_path, nodes=1, mounts={}, needs=NEEDS)
    try:
        made.launch({"n1": [shell(WRITER)]})
        until(lambda: "written" in said(made, "n1"))
        made.disk.flush(["n1"])
        made.disk.power_loss(["n1"])
        assert read_back(made, "n1") == ["synced", "tail", "file", "renamed", "read"]
    finally:
        made.close()
    assert leftovers("tflush") == []


@pytest.mark.netns
def test_no_disk_is_made_that_nobody_asked_for(tmp_path: Path) -> None:
    made = Netns().create(run="tnoask", run_dir=tmp_path, nodes=1, mounts={})
    try:
        assert loopdisk.devices(loopdisk.image_of("tnoask")) == []
        assert "none of its faults needs them" in str(made.capabilities["loop-disk"])
        with pytest.raises(MissingCapability, match="has no disk of its own"):
            made.disk.power_loss(["n1"])
    finally:
        made.close()


@pytest.mark.netns
def test_devices_go_when_the_agent_is_killed(tmp_path: Path) -> None:
    made = Netns({"disk_mb": 16}).create(run="tkilld", run_dir=tmp_path, nodes=2, mounts={}, needs=NEEDS)
    try:
        assert len(loopdisk.devices(loopdisk.image_of("tkilld"))) == 2
        assert len([x for x in leftovers("tkilld") if x.startswith("loop device")]) == 2
        assert made._agent is not None
        os.kill(made._agent.pid, signal.SIGKILL)
        until(lambda: not loopdisk.devices(loopdisk.image_of("tkilld")))
    finally:
        with pytest.raises(Exception, match="agent"):
            made.close()
    assert leftovers("tkilld") == []


@pytest.mark.netns
def test_a_device_that_stayed_is_detached_by_its_name(tmp_path: Path) -> None:
    from clusters.means.removal import LOOP

    disk = loopdisk.Disk(tmp_path / loopdisk.image_of("tstray"), 8)
    assert LOOP.there("tstray", tmp_path, "")
    os.close(disk._fd)  # whoever had it is gone, and somebody looked into it just then
    LOOP.remove("tstray", tmp_path, "")
    LOOP.remove("tstray", tmp_path, "")
    assert not LOOP.there("tstray", tmp_path, "")


def test_what_is_missing_is_named_with_an_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopdisk.userns, "lonely", lambda: None)
    monkeypatch.setattr(loopdisk.shutil, "which", lambda *_, **__: None)
    assert "mkfs.ext4 is missing; install e2fsprogs, or use kill" in str(loopdisk.refusal())
    monkeypatch.setattr(loopdisk.shutil, "which", lambda *_, **__: "/sbin/mkfs.ext4")
    monkeypatch.setattr(loopdisk.os, "open", _refuse)
    assert "no loop devices here (/dev/loop-control: No such file" in str(loopdisk.refusal())
    monkeypatch.setattr(loopdisk.userns, "lonely", lambda: "an ordinary user")
    assert "run as root (sudo), or use kill" in str(loopdisk.probe())


def _refuse(path: str, _flags: int) -> int:
    raise FileNotFoundError(2, "No such file or directory", path)
