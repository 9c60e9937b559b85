"""Nodes that are given another version, on a cluster in memory."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from harness import programs as module
from harness.core.cluster import Node, Process, ProcessState
from harness.core.errors import Indeterminate
from harness.core.system import Install
from harness.programs import Programs


class World:
    """Cluster, system and its interface in one: nodes serve at once, and each tells its version."""

    def __init__(self) -> None:
        self.nodes = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in (1, 2, 3))
        self.process = self
        self.runs = {n.name: "3.5" for n in self.nodes}
        self.alive = dict.fromkeys(self.runs, True)
        self.form = "3.5"  # of what is on the disks
        self.lowered: list[str] = []
        self.done: list[str] = []
        self.deaf: set[str] = set()  # who takes no write
        self.stubborn: set[str] = set()  # who does not end when asked to

    def enter(self, name: str) -> None:
        """Every thread is everywhere."""

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return (ProcessState(name="etcd", pid=7, start=9, state="S" if self.alive[node] else None),)

    def signal(self, node: str, signal: str, *, pid: int | None = None, start: int | None = None) -> None:
        self.done.append(f"{signal} {node}")
        self.alive[node] = signal != "KILL" and node in self.stubborn

    def launch(self, processes: dict[str, Any]) -> None:
        for node, (process,) in processes.items():
            assert not self.alive[node]
            self.alive[node], self.runs[node] = True, process.argv[0]
            self.done.append(f"launch {node} {process.argv[0]}")
        if set(self.runs.values()) == {"3.6"}:
            self.form = "3.6"

    def ready(self, node: Node, timeout_s: float) -> None:
        if node.name in self.deaf:
            raise Indeterminate("timeout")

    def version(self, node: Node, timeout_s: float) -> str:
        if not self.alive[node.name]:
            raise Indeterminate("refused")
        return self.runs[node.name]

    def ready_for(self, node: Node, version: str, timeout_s: float) -> bool:
        return version >= self.form

    def lower(self, through: Node, version: str, timeout_s: float) -> None:
        self.lowered.append(version)
        self.form = version


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_S", 0.001)
    monkeypatch.setattr(module, "_END_S", 0.01)
    monkeypatch.setattr(module, "_READY_S", 0.2)


def programs(world: World) -> Programs:
    return Programs(
        cluster=cast("Any", world),
        system=cast("Any", world),
        admin=cast("Any", world),
        installs={v: Install(version=v, program={}) for v in ("3.5", "3.6")},
        first="3.5",
        processes=lambda node, install: [Process(name="etcd", argv=(install.version,))],
    )


def test_nodes_follow_one_another_and_go_back(quick: None) -> None:
    world = World()
    made = programs(world)
    assert (made.first, made.others) == ("3.5", ("3.6",))
    made.run(["n1", "n2", "n3"], "3.6")
    assert world.done == [w for n in ("n1", "n2", "n3") for w in (f"TERM {n}", f"launch {n} 3.6")]
    assert made.versions() == dict.fromkeys(("n1", "n2", "n3"), "3.6")
    assert not world.lowered
    made.run(["n1", "n2", "n3"], "3.5")
    assert world.lowered == ["3.5"], "the cluster is asked to make ready, once"
    assert set(world.runs.values()) == {"3.5"}
    made.run(["n1", "n2", "n3"], "3.5")
    assert len(world.done) == 12, "again it does nothing"


def test_a_mixed_cluster_goes_back_without_being_asked() -> None:
    world = World()
    made = programs(world)
    made.run(["n2"], "3.6")
    assert list(world.runs.values()) == ["3.5", "3.6", "3.5"]
    made.run(["n2"], "3.5")
    assert not world.lowered


def test_it_stops_at_a_node_that_does_not_serve() -> None:
    world = World()
    world.deaf = {"n2"}
    made = programs(world)
    made.run(["n1", "n2", "n3"], "3.6", serve_s=0.05)
    assert list(world.runs.values()) == ["3.6", "3.6", "3.5"]
    assert made.refused() == "n2 took no write within 0.05 s of its start with 3.6"


def test_a_node_that_cannot_go_back_is_left_as_it_is() -> None:
    world = World()
    made = programs(world)
    made.run(["n1", "n2", "n3"], "3.6")
    world.lower = lambda *_: None  # type: ignore[method-assign]
    began = time.monotonic()
    made.run(["n1"], "3.5")
    assert "was not ready for 3.5" in made.refused()
    assert set(world.runs.values()) == {"3.6"}
    assert time.monotonic() - began < 5


def test_who_does_not_end_is_killed() -> None:
    world = World()
    world.stubborn = {"n1"}
    programs(world).run(["n1"], "3.6")
    assert world.done == ["TERM n1", "KILL n1", "launch n1 3.6"]
