"""A run's own namespaces: the controller inside, the launcher outside, and nothing left, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.means import cgroup
from clusters.means.leftovers import leftovers
from clusters.means.nft import BRIDGE_PREFIX

pytestmark = pytest.mark.netns

SCRIPT = """
import os, pathlib, signal, sys, time
from clusters.providers.netns import Netns
from harness.core.cluster import Process

run, where, how = sys.argv[1:]
provider = Netns()
provider.enclose()
print("controller", os.getpid(), os.getppid(), os.getpgrp(), flush=True)
got = []
if how == "signals":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: got.append(signal.Signals(n).name))
cluster = provider.create(run=run, run_dir=pathlib.Path(where), nodes=2, mounts={})
cluster.launch({"n1": [Process(name="sleep", argv=("/bin/sleep", "1000"))]})
cluster.spawn_helper(["/bin/sleep", "1000"], "helper")
print("ready", *[os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "mnt", "net")], flush=True)
if how == "raise":
    raise RuntimeError("as asked")
if how == "exit":
    sys.exit(7)
if how == "abort":
    os.kill(os.getpid(), signal.SIGABRT)
if how == "close":
    cluster.close()
    sys.exit(0)
try:
    while got[-1:] != ["SIGTERM"]:
        time.sleep(0.01)
    print("got", *got, flush=True)
finally:
    cluster.close()
"""


def network_and_mounts() -> list[str]:
    """Interfaces and mount points, without what a Docker daemon makes and removes at its own pace."""
    links = (p.name for p in Path("/sys/class/net").iterdir())
    mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [
        *sorted(name for name in links if not name.startswith(("veth", "br-", "docker", BRIDGE_PREFIX))),
        *sorted(point for point in mounts if "docker" not in point),
    ]


def here(kind: str) -> str:
    return str(Path(f"/proc/self/ns/{kind}").readlink())


def descendants(token: str) -> list[str]:
    """Every process of this machine that has our token in its environment."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            if directory.name.isdecimal() and token.encode() in (directory / "environ").read_bytes():
                found.append(directory.name)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def soon_nothing(run: str) -> None:
    deadline = time.monotonic() + 10
    while (left := [*leftovers(run), *descendants(f"ENCLOSED={run}")]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


class Enclosed:
    """The script, started in a session of its own as a terminal would start it in a group of its own."""

    def __init__(self, run: str, where: Path, how: str) -> None:
        self.run = run
        self.before = network_and_mounts()
        self.launcher = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, run, str(where), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ENCLOSED": run},
            start_new_session=True,
        )
        assert self.launcher.stdout is not None
        self.first = self.launcher.stdout.readline().split()
        self.ready = self.launcher.stdout.readline().split()

    def end(self) -> tuple[int, str, str]:
        out, err = self.launcher.communicate(timeout=30)
        return self.launcher.returncode, out, err


@pytest.fixture
def enclosed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Enclosed]:
    how = request.param
    run = f"te{how}"[:6]
    one = Enclosed(run, tmp_path, how)
    try:
        yield one
        assert network_and_mounts() == one.before
    finally:
        one.launcher.kill()
        one.launcher.communicate(timeout=30)
        cgroup.remove(run)


@pytest.mark.parametrize("enclosed", ["close"], indirect=True)
def test_the_controller_is_inside_and_the_launcher_outside(enclosed: Enclosed, tmp_path: Path) -> None:
    assert enclosed.first[:3] == ["controller", "2", "1"]
    assert enclosed.first[3] == "1", "a group of its own: a terminal's Ctrl-C does not reach it directly"
    assert enclosed.ready[1] != here("pid")
    assert enclosed.ready[2] != here("mnt")
    assert enclosed.ready[3] == here("net"), "artifacts are fetched from here"
    assert enclosed.end()[0] == 0
    soon_nothing(enclosed.run)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("enclosed", "code"), [("raise", 1), ("exit", 7), ("abort", 128 + signal.SIGABRT)], indirect=["enclosed"]
)
def test_a_controller_that_ends_without_closing(enclosed: Enclosed, code: int, tmp_path: Path) -> None:
    status, _out, err = enclosed.end()
    assert status == code
    assert ("RuntimeError: as asked" in err) == (code == 1)
    assert leftovers(enclosed.run) == [], "removed before the launcher ended"
    assert not (tmp_path / "work").exists()
    soon_nothing(enclosed.run)


@pytest.mark.parametrize("enclosed", ["signals"], indirect=True)
def test_each_signal_arrives_once(enclosed: Enclosed) -> None:
    os.killpg(enclosed.launcher.pid, signal.SIGINT)  # what a terminal does
    time.sleep(0.2)
    os.kill(enclosed.launcher.pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(enclosed.launcher.pid, signal.SIGTERM)
    status, out, _err = enclosed.end()
    assert (status, out.split()) == (0, ["got", "SIGINT", "SIGINT", "SIGTERM"])
    soon_nothing(enclosed.run)


@pytest.mark.parametrize("enclosed", ["plain"], indirect=True)
def test_ctrl_c_becomes_an_exception_in_the_controller(enclosed: Enclosed) -> None:
    os.killpg(enclosed.launcher.pid, signal.SIGINT)
    status, _out, err = enclosed.end()
    assert status == 128 + signal.SIGINT
    assert err.count("KeyboardInterrupt") == 1
    soon_nothing(enclosed.run)


@pytest.mark.parametrize("enclosed", ["plain"], indirect=True)
def test_sigterm_without_a_handler(enclosed: Enclosed) -> None:
    os.kill(enclosed.launcher.pid, signal.SIGTERM)
    assert enclosed.end()[0] == 128 + signal.SIGTERM
    assert leftovers(enclosed.run) == []
    soon_nothing(enclosed.run)


@pytest.mark.parametrize("enclosed", ["plain"], indirect=True)
def test_a_killed_launcher_takes_every_process_along(enclosed: Enclosed) -> None:
    os.kill(enclosed.launcher.pid, signal.SIGKILL)
    enclosed.end()
    deadline = time.monotonic() + 10
    while descendants(f"ENCLOSED={enclosed.run}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descendants(f"ENCLOSED={enclosed.run}") == []
    cgroup.remove(enclosed.run)
    soon_nothing(enclosed.run)


LACKING = """
import ctypes.util, os, pathlib, sys
from clusters.means import kernel
from clusters.means.nft import find_program
from clusters.providers.netns import Netns
from harness.core.cluster import Endpoint

where, *missing = sys.argv[1:]
Netns().enclose()  # private mounts: what is masked here is masked nowhere else
for name in missing:
    path = find_program(name)
    if name == "libnftables":
        maps = pathlib.Path("/proc/self/maps")
        ctypes.CDLL("libnftables.so.1")
        path = next(line.split()[-1] for line in maps.read_text().splitlines() if "libnftables" in line)
    kernel.mount("/dev/null", path, None, kernel.MS_BIND)
print(Netns().probe())
try:
    cluster = Netns().create(run="telack", run_dir=pathlib.Path(where), nodes=1, mounts={})
    try:
        print("block:", cluster.capabilities["block"])
        print(cluster.block("f1", [(Endpoint("n1"), Endpoint("c1"))]))
    finally:
        cluster.close()
except Exception as e:
    print(f"{type(e).__name__}: {e}")
"""


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (
            ["ip"],
            "MissingCapability: provider netns cannot work here: the command ip is missing; install iproute2",
        ),
        (
            ["nft", "libnftables"],
            "neither libnftables.so.1 nor the command nft is there; install nftables",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_what_this_host_lacks_is_named(missing: list[str], says: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", LACKING, str(tmp_path), *missing]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1].startswith("MissingCapability: ")
    assert says in done.stdout.splitlines()[-1]
    if "nft" in missing:
        assert done.stdout.count("install nftables") == 4, "probe (blocks and shapes), capability and refusal"
    soon_nothing("telack")


def test_a_process_with_threads_is_refused() -> None:
    code = """
import threading, time
from clusters.providers.netns import Netns
threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
Netns().enclose()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "has threads already" in done.stderr
