"""Faults of processes on real nodes: what they do as measured from outside, and that all is as before afterwards."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from clusters.means import cgroup, namespaces, procfs
from clusters.means.leftovers import leftovers
from clusters.means.limits import group_of
from clusters.providers.docker import Docker
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import Process, ProcessState
from harness.core.errors import UsageError
from harness.core.fault import Evidence, Fault, FaultContext, Plan
from harness.undo import work_off
from nemesis.cpu_pressure import CpuPressure
from nemesis.crash_loop import CrashLoop
from nemesis.fd_limit import FdLimit
from nemesis.kill import Kill
from nemesis.memory_pressure import MemoryPressure
from nemesis.pause import Pause
from nemesis.terminate import Terminate

PYTHON = str(Path(sys.executable).resolve())
BESIDE = {} if sys.base_prefix == "/usr" else {sys.base_prefix: sys.base_prefix}  # what is no part of /usr
PORT = 7000
# Says hello to whoever connects; takes as much memory as it reads; TERM ends it with code 3, INT with 4.
SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
signal.signal(signal.SIGINT, lambda *_: sys.exit(4))
server, kept = socket.create_server(("", 7000)), []
while True:
    try:
        one = server.accept()[0]
    except OSError:
        continue
    one.settimeout(5)
    kept.append(b"x" * (int(one.recv(9) or b"0") << 20))
    one.sendall(b"hello")
    one.close()
"""


def server(**more: Any) -> Process:
    return Process(name="server", argv=(PYTHON, "-c", SERVER), ports=(PORT,), **more)


def shell(text: str, name: str = "shell", **more: Any) -> Process:
    return Process(name=name, argv=("/bin/sh", "-c", text), **more)


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def answers(made: NetnsCluster, node: str, megabytes: int = 0, wait_s: float = 2.0) -> bool:
    """Whether the node's server says hello, having taken so much memory."""
    with namespaces.tcp_socket(made._net("c1")) as sock:
        sock.settimeout(wait_s)
        try:
            sock.connect((made._addresses[node], PORT))
            sock.sendall(b"%9d" % megabytes)
            # And has closed the connection, so that its descriptor is none of those that it has open.
            return sock.recv(5) == b"hello" and sock.recv(1) == b""
        except OSError:
            return False


def make(provider: str, run_dir: Path, run: str, nodes: int) -> NetnsCluster:
    if provider == "docker":
        return Docker().create(run=run, run_dir=run_dir, nodes=nodes, mounts=BESIDE)
    return Netns().create(run=run, run_dir=run_dir, nodes=nodes, mounts={})


def furnish(made: NetnsCluster) -> None:
    both = [server(), shell("sleep 1000", "second")]
    made.launch({"n1": [server()], "n2": [server(stop_signal="INT")], "n3": both})
    until(lambda: all(answers(made, node.name) for node in made.nodes))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("netns", marks=pytest.mark.netns),
        pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow]),
    ],
)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NetnsCluster]:
    """Three nodes with a server each, and on n3 a second process."""
    run = f"tproc{request.param[0]}"
    made = make(request.param, tmp_path_factory.mktemp("run"), run, 3)
    try:
        furnish(made)
        yield made
    finally:
        made.close()
    assert leftovers(run) == []


class Seen(NamedTuple):
    """One fault from plan to healing, and what was measured beside it while it was in force."""

    plan: Plan
    during: Evidence
    after: Evidence
    beside: Any


def live(
    fault: Fault,
    made: NetnsCluster,
    target: str,
    look: Callable[[Plan], Any] = lambda _: None,
    *,
    seed: int = 1,
) -> Seen:
    system = cast("Any", SimpleNamespace(ports={"client": PORT}))
    rng = random.Random(seed)
    ctx = FaultContext(cluster=made, system=system, roles={}, rng=rng, fault="f1", now=0)
    plan = fault.plan(ctx, target)
    ctx.before = fault.observe(ctx, plan, "before")
    try:
        fault.apply(ctx, plan)
        during = fault.observe(ctx, plan, "during")
        beside = look(plan)
    finally:
        work_off(made, plan.undo)
        work_off(made, plan.undo)  # idempotent
    after = fault.observe(ctx, plan, "after")
    assert after.effect is False, after.says
    until(lambda: all(answers(made, node.name) for node in made.nodes))
    return Seen(plan, during, after, beside)


def states(made: NetnsCluster, node: str) -> dict[str, ProcessState]:
    return {s.name: s for s in made.state(node)}


def test_after_the_death_of_all_one_is_started_later(cluster: NetnsCluster) -> None:
    seen = live(
        Kill({"stagger_s": 0.8}), cluster, "all", lambda _: [answers(cluster, n.name) for n in cluster.nodes]
    )
    assert seen.during.effect is True
    assert seen.beside == [False] * 3
    late = seen.plan.undo[-1].args
    assert 0.4 <= late["after_s"] <= 0.8
    starts = {node.name: states(cluster, node.name)["server"].start for node in cluster.nodes}
    others = [start for node, start in starts.items() if node != late["node"]]
    assert starts[late["node"]] - max(others) >= late["after_s"] * 100 - 1, "ticks of 10 ms"


def test_some_stay_dead_while_others_come_back(cluster: NetnsCluster) -> None:
    def look(plan: Plan) -> dict[str, bool]:
        soon = {step["node"] for step in plan.args["soon"]}
        until(lambda: all(answers(cluster, node) for node in soon))
        return {node.name: answers(cluster, node.name) for node in cluster.nodes}

    seen = live(Kill({"stagger_s": 0.2, "dead": 1}), cluster, "all", look)
    assert seen.during.effect is True, seen.during.says
    assert sorted(seen.beside.values()) == [False, True, True]
    assert "started again at once" in seen.plan.says


def test_each_ends_by_its_own_stop_signal(cluster: NetnsCluster) -> None:
    def codes(_: Plan) -> list[int | None]:
        return [states(cluster, node)["server"].exit for node in ("n1", "n2", "n3")]

    seen = live(Terminate({"grace_s": 5.0}), cluster, "all", codes)
    assert seen.beside == [3, 4, 3]
    assert seen.during.effect is True
    assert "server on n2 ended with code 4" in seen.during.says


def test_what_does_not_end_when_asked_is_no_effect_and_is_killed_at_healing(
    cluster: NetnsCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nemesis._node_fault.WAIT_S", 0.1)
    before = states(cluster, "n1")["server"]
    cluster.signal("n1", "STOP")  # a stopped process does not get to SIGTERM
    seen = live(Terminate({"grace_s": 0.1}), cluster, "all")
    assert seen.during.effect is False
    assert "still running: server" in seen.during.says
    now = states(cluster, "n1")["server"]
    assert now.alive
    assert now.pid != before.pid


def test_one_process_of_two_is_paused(cluster: NetnsCluster) -> None:
    def look(_: Plan) -> tuple[bool, list[str | None]]:
        return answers(cluster, "n3", wait_s=0.3), [
            states(cluster, "n3")[name].state for name in ("server", "second")
        ]

    seen = live(Pause({"process": "second"}), cluster, "all", look)
    assert seen.during.effect is True
    served, (server, second) = seen.beside
    assert (served, second) == (True, "T")
    assert server in ("R", "S")
    with pytest.raises(UsageError, match="process 'sevrer'"):
        live(Pause({"process": "sevrer"}), cluster, "all")


def test_a_crash_loop_lets_nobody_live(cluster: NetnsCluster) -> None:
    def look(plan: Plan) -> set[int]:
        pids = set()
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            pids |= {s.pid for s in cluster.state(plan.nodes[0]) if s.alive}
            time.sleep(0.01)
        return pids

    seen = live(CrashLoop({"up_s": 0.1, "down_s": 0.05}), cluster, "one", look)
    assert seen.during.effect is True, seen.during.says
    assert len(seen.beside) >= 3, "it came up again and again"
    calm = {s.pid for s in cluster.state(seen.plan.nodes[0])}
    time.sleep(0.3)
    assert {s.pid for s in cluster.state(seen.plan.nodes[0])} == calm, "and lives on when it is over"


def _spent(state: ProcessState, over_s: float) -> float:
    """The share of a processor that a process uses."""
    first, began = procfs.stat(state.pid), time.monotonic()
    time.sleep(over_s)
    second, took_s = procfs.stat(state.pid), time.monotonic() - began
    assert first is not None
    assert second is not None
    return (second.cpu_ticks - first.cpu_ticks) / 100 / took_s


def _texts(made: NetnsCluster) -> dict[str, str]:
    """The limits of all nodes, as the kernel words them."""
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max", "memory.limit_in_bytes", "memory.high")
    groups = {group_of(made.inits[n.name][0], c).path for n in made.nodes for c in cgroup.CONTROLLERS}
    return {str(g / name): (g / name).read_text() for g in groups for name in names if (g / name).exists()}


def test_a_node_gets_a_few_percent_of_a_processor(cluster: NetnsCluster) -> None:
    pristine = _texts(cluster)
    spin = shell("while :; do :; done", "spin")
    cluster.launch({"n1": [spin], "n2": [spin]})

    def runs_freely(node: str) -> bool:
        return _spent(states(cluster, node)["spin"], 0.3) > 0.04

    def met(node: str) -> int:
        return int(cluster.limits.usage(node, "cpu")["throttled"])

    def look(plan: Plan) -> tuple[float, int]:
        share, beside = _spent(states(cluster, plan.nodes[0])["spin"], 1.0), {"n1": "n2", "n2": "n1"}
        until(lambda: runs_freely(beside[plan.nodes[0]]))  # however much the machine has to do
        return share, met(beside[plan.nodes[0]])

    try:
        until(lambda: runs_freely("n1"))
        fault = CpuPressure({"cpu_percent": 1.0})
        seed = next(s for s in range(99) if random.Random(s).sample(["n1", "n2", "n3"], 1) != ["n3"])
        seen = live(fault, cluster, "one", look, seed=seed)
        counted = met(seen.plan.nodes[0])
        until(lambda: runs_freely(seen.plan.nodes[0]))
        assert met(seen.plan.nodes[0]) == counted
    finally:
        for node in ("n1", "n2"):
            one = states(cluster, node)["spin"]
            cluster.signal(node, "KILL", pid=one.pid, start=one.start)
    assert seen.during.effect is True, seen.during.says
    share, met_beside = seen.beside
    assert share == pytest.approx(0.01, abs=0.015)
    assert met_beside == 0
    assert _texts(cluster) == pristine


def test_a_node_is_kept_at_its_limit_of_memory(cluster: NetnsCluster) -> None:
    pristine = _texts(cluster)

    def look(plan: Plan) -> tuple[bool, bool, int, dict[str, Any]]:
        little = answers(cluster, "n1", megabytes=4, wait_s=5)
        use = dict(cluster.limits.usage("n1", "memory"))
        much = answers(cluster, "n1", megabytes=64, wait_s=5)
        until(lambda: not states(cluster, "n1")["server"].alive)
        return little, much, cast("int", states(cluster, "n1")["server"].exit), use

    before = cluster.limits.usage("n1", "memory")
    seen = live(MemoryPressure({"room_mb": 16.0}), cluster, "all", look)
    little, much, code, use = seen.beside
    assert seen.during.effect is True, seen.during.says
    assert little, "within the room memory is had, since it is taken back from somebody"
    assert use["limit"] == pytest.approx(before["used"] - before["cache"] + 16e6, rel=0.1)
    assert 0.9 * use["limit"] <= use["used"] <= use["limit"]
    assert not much, "beyond it is not"
    assert code == -9
    assert "killed by the kernel: " in seen.after.says
    assert _texts(cluster) == pristine
    assert answers(cluster, "n1", megabytes=64, wait_s=5), "and as before afterwards"


def test_a_process_without_descriptors_accepts_nobody(cluster: NetnsCluster) -> None:
    def limits(node: str) -> tuple[int, int]:
        return resource.prlimit(states(cluster, node)["server"].pid, resource.RLIMIT_NOFILE)

    def look(_: Plan) -> tuple[list[bool], tuple[int, int]]:
        # a call to accept that waits has had its descriptor set aside before, so the first is served still
        return [answers(cluster, "n2", wait_s=0.5) for _ in range(3)], limits("n2")

    pristine = [limits(node.name) for node in cluster.nodes]
    seen = live(FdLimit({"headroom": 0}), cluster, "all", look)
    assert seen.during.effect is True, seen.during.says
    served, (soft, hard) = seen.beside
    assert served[1:] == [False, False]
    assert soft < 20
    assert hard == pristine[1][1], "the hard limit is not touched"
    assert [limits(node.name) for node in cluster.nodes] == pristine
    assert live(FdLimit({"headroom": 1}), cluster, "all", look).beside[0] == [True] * 3


def test_of_two_limits_the_tighter_counts_and_the_last_restores(cluster: NetnsCluster) -> None:
    pristine = _texts(cluster)
    limits = cluster.limits
    limits.limit("f7", "n1", "cpu", 0.5)
    limits.limit("f8", "n1", "cpu", 0.2)
    assert limits.usage("n1", "cpu")["limit"] == pytest.approx(0.2)
    limits.limit("f9", "n1", "cpu", 0.9)
    limits.unlimit("f8")
    assert limits.usage("n1", "cpu")["limit"] == pytest.approx(0.5)
    limits.unlimit("f7")
    limits.unlimit("f9")
    limits.unlimit("f9")
    assert limits.usage("n1", "cpu")["limit"] is None
    assert _texts(cluster) == pristine


WITHOUT_ROOT = (
    test_after_the_death_of_all_one_is_started_later,
    test_some_stay_dead_while_others_come_back,
    test_each_ends_by_its_own_stop_signal,
    test_one_process_of_two_is_paused,
    test_a_crash_loop_lets_nobody_live,
    test_a_process_without_descriptors_accepts_nobody,
)
ROOTLESS = """
import sys
from pathlib import Path
from clusters.providers.netns import Netns
from tests.nemesis import test_processes as tests
Netns().enclose()
made = tests.make("netns", Path(sys.argv[1]), "tprocu", 3)
try:
    tests.furnish(made)
    assert made.capabilities["descriptor-limit"] is None
    assert "control groups need root" in made.capabilities["cpu-limit"]
    assert "control groups need root" in made.capabilities["memory-limit"]
    for test in tests.WITHOUT_ROOT:
        test(made)
        print(test.__name__, flush=True)
finally:
    made.close()
"""


@pytest.mark.rootless
def test_the_same_without_root_where_no_control_group_is_asked_for(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ROOTLESS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [test.__name__ for test in WITHOUT_ROOT]
    assert leftovers("tprocu") == []


@pytest.mark.rootless
def test_pressure_without_root_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    args = [
        "run",
        "--faults",
        "cpu-pressure,memory-pressure",
        "--time",
        "12s",
        "--json",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "splitbrain", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 4, done.stderr
    error = json.loads(done.stdout)["error"]
    for family, need in (("cpu-pressure", "cpu-limit"), ("memory-pressure", "memory-limit")):
        assert f"{family} needs {need}, which cannot be had here: /sys/fs/cgroup" in error
    assert "fault pause stalls a node without them" in error
