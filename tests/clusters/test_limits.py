"""Control groups of both versions, as files in a folder: what is written, read back and restored."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from typing import cast

import pytest

from clusters.means import cgroup, limits, procfs
from clusters.means.limits import Group, NodeLimits, Nodes
from harness.core.cluster import ProcessState
from harness.core.errors import MissingCapability, UsageError

ONE = {
    "cpu.cfs_quota_us": "-1\n",
    "cpu.cfs_period_us": "50000\n",
    "cpu.stat": "nr_periods 4\nnr_throttled 3\nthrottled_time 2500000\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.usage_in_bytes": "5000000\n",
    "memory.failcnt": "7\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "memory.stat": "cache 100\nactive_file 300000\ninactive_file 700000\n",
}
TWO = {
    "cpu.max": "max 50000\n",
    "cpu.stat": "usage_usec 9\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2500\n",
    "memory.high": "max\n",
    "memory.current": "5000000\n",
    "memory.events": "low 0\nhigh 5\nmax 2\noom 0\noom_kill 1\n",
    "memory.stat": "anon 100\nactive_file 300000\ninactive_file 700000\n",
}


class OneNode:
    """A node whose processes nobody asks for, and helpers that are not started."""

    def __init__(self) -> None:
        self.inits = {"n1": (4711, 1)}
        self.helpers: list[list[str]] = []

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return ()

    def spawn_helper(self, argv: list[str], name: str) -> int:
        self.helpers.append(argv)
        return 0


@pytest.fixture(params=[1, 2])
def group(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    for name, text in {1: ONE, 2: TWO}[request.param].items():
        (tmp_path / name).write_text(text)
    found = Group(tmp_path, request.param)
    monkeypatch.setattr(limits, "group_of", lambda _pid, _kind: found)
    return found


def texts(group: Group) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in group.path.iterdir()}


def test_both_versions_say_the_same(group: Group) -> None:
    made = NodeLimits(cast("Nodes", OneNode()))
    assert made.usage("n1", "cpu") == {"limit": None, "throttled": 3, "throttled_ms": 2.5}
    memory = {"limit": None, "used": 5_000_000, "cache": 1_000_000, "pressed": 7, "killed": 1}
    assert made.usage("n1", "memory") == memory
    assert made.refusal("n1", "cpu") is None
    with pytest.raises(UsageError, match="kind of limit 'cpus'"):
        made.usage("n1", "cpus")


def test_limits_are_set_and_the_former_text_comes_back(group: Group) -> None:
    node = OneNode()
    made, before = NodeLimits(cast("Nodes", node)), texts(group)
    made.limit("f1", "n1", "cpu", 0.05)
    made.limit("f1", "n1", "memory", 2_000_000)
    made.limit("f1", "n1", "memory", 3_000_000)  # under the same name once is enough
    now = texts(group)
    if group.version == 1:
        assert (now["cpu.cfs_quota_us"], now["cpu.cfs_period_us"]) == ("5000", "100000")
        assert now["memory.limit_in_bytes"] == "6000000"
    else:
        assert now["cpu.max"] == "5000 100000"
        assert now["memory.high"] == "6000000"
    assert made.usage("n1", "cpu")["limit"] == pytest.approx(0.05)
    for again in (0.02, 0.04):  # the same fault may ask for less, and gets no more
        made.limit("f1", "n1", "cpu", again)
        assert made.usage("n1", "cpu")["limit"] == pytest.approx(0.02)
    assert made.usage("n1", "memory")["limit"] == 6_000_000
    assert [argv[-2:] for argv in node.helpers] == [[str(group.path), "2000000"]]
    made.unlimit("f1")
    assert texts(group) == before


def test_a_tighter_limit_that_was_there_stays(group: Group) -> None:
    made = NodeLimits(cast("Nodes", OneNode()))
    name = {1: "cpu.cfs_quota_us", 2: "cpu.max"}[group.version]
    (group.path / name).write_text({1: "1000", 2: "1000 50000"}[group.version])
    before = texts(group)
    made.limit("f1", "n1", "cpu", 0.5)
    assert made.usage("n1", "cpu")["limit"] == pytest.approx(0.02)
    made.unlimit("f1")
    assert texts(group) == before


def test_a_group_that_is_ours_as_well_is_never_limited() -> None:
    for controller in cgroup.CONTROLLERS:
        with pytest.raises(MissingCapability, match="control group"):
            limits.group_of(os.getpid(), controller)


def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> Path:
    """A hierarchy of version 2 in a folder."""
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / f"cgroup.{name}").write_text(text)
    monkeypatch.setattr(cgroup, "_v2", (root, root / "unified"))
    return root


def test_where_limits_can_be_had_with_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(tmp_path, monkeypatch, controllers="cpuset cpu memory", subtree_control="memory pids")
    assert cgroup.controlling("memory") == (root, None)
    none, reason = cgroup.controlling("cpu")
    assert none is None
    assert reason is not None
    assert f"echo +cpu > {root}/cgroup.subtree_control" in reason
    made = cgroup.make(root, "abc", "n1")
    assert made == root / "splitbrain-abc" / "n1"
    assert (made.parent / "cgroup.subtree_control").read_text() == "+memory"


def test_a_kernel_without_the_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, monkeypatch, controllers="pids", subtree_control="pids")
    reason = cgroup.controlling("memory")[1]
    assert reason is not None
    assert reason.startswith("no control group of this kernel has the controller memory; fault pause")


def test_a_process_that_has_just_ended_has_no_descriptors_to_limit() -> None:
    class Late(OneNode):
        def state(self, node: str) -> tuple[ProcessState, ...]:
            return (ProcessState(name="gone", pid=2**22 - 1, start=1, state="S"),)

    made = NodeLimits(cast("Nodes", Late()))
    made.limit("f1", "n1", "descriptors", 0)
    assert made.usage("n1", "descriptors")["processes"] == []
    made.unlimit("f1")


def test_descriptors_of_a_process_are_limited_and_restored() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        time.sleep(0.3)  # its loader has closed what it opened
        stat = procfs.stat(child.pid)
        assert stat is not None

        class Real(OneNode):
            def state(self, node: str) -> tuple[ProcessState, ...]:
                return (ProcessState(name="sleep", pid=child.pid, start=stat.start, state="S"),)

        made = NodeLimits(cast("Nodes", Real()))
        before = resource.prlimit(child.pid, resource.RLIMIT_NOFILE)
        made.limit("f1", "n1", "descriptors", 5)
        made.limit("f2", "n1", "descriptors", 2)
        (one,) = made.usage("n1", "descriptors")["processes"]
        assert one["room"] == 2
        made.unlimit("f2")
        assert made.usage("n1", "descriptors")["room"] == 5
        made.unlimit("f1")
        assert resource.prlimit(child.pid, resource.RLIMIT_NOFILE) == before
    finally:
        child.kill()
        child.wait()
